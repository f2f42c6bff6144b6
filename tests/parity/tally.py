"""How far our numbers are from the recorded ones, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT32_ROUNDING = 2.0**-22
"""Two units in the last place, relative: no array is held to more than its type can say."""


@dataclass(frozen=True)
class Tolerance:
    """What one array may differ by; everything given must hold."""

    largest: float = 0.0  # absolute
    relative: float = FLOAT32_ROUNDING  # added to `largest`, of each recorded value
    rms: float | None = None
    correlation: float | None = None  # at least


EXACT = Tolerance(0.0, 0.0)


@dataclass(frozen=True)
class Finding:
    """One array's distance; above 1 of its tolerance it is out."""

    name: str
    error: float
    tolerance: float
    kind: str = ""  # of error, if not the largest absolute one

    @property
    def share(self) -> float:
        if np.isnan(self.error):
            return float("inf")
        if self.tolerance == 0:
            return float("inf") if self.error else 0.0
        return self.error / self.tolerance


class Tally:
    """The findings of one stage."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.worst: Finding | None = None
        self.out: list[Finding] = []

    def compare(
        self,
        name: str,
        ours: Any,
        recorded: Any,
        tolerance: Tolerance,
        rounding: Any = 0.0,
    ) -> None:
        """Count one array or number; shapes must agree.

        Args:
            rounding: what each value may differ by besides, because its arithmetic cannot say it
                more exactly; a number, or an array like `ours`
        """
        self.names.add(name)
        ours, recorded = np.asarray(ours), np.asarray(recorded)
        if ours.shape != recorded.shape:
            kind = f"shape {list(ours.shape)}, recorded {list(recorded.shape)}"
            self._add(Finding(name, float("inf"), tolerance.largest, kind))
            return
        a, b = ours.astype(np.float64), recorded.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            distance = np.where(same, 0.0, np.abs(a - b))
        self._add(_largest(name, distance, b, tolerance, rounding))
        if tolerance.rms is not None and distance.size:
            rms = float(np.sqrt(np.mean(np.maximum(distance - rounding, 0) ** 2)))
            self._add(Finding(name, rms, tolerance.rms, "rms"))
        if tolerance.correlation is not None and a.size > 1 and not same.all():
            lack = 1 - float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
            self._add(Finding(name, lack, 1 - tolerance.correlation, "1 - correlation"))

    def agree(self, name: str, ours: object, recorded: object) -> None:
        """Count two words or decisions that must be the same."""
        self.names.add(name)
        same = ours == recorded
        said = "" if same else f"got {ours!r}, recorded {recorded!r}"
        self._add(Finding(name, 0.0 if same else float("inf"), 0.0, said))

    def _add(self, finding: Finding) -> None:
        if self.worst is None or finding.share > self.worst.share:
            self.worst = finding
        if finding.share > 1:
            self.out.append(finding)


def _largest(
    name: str, distance: Any, recorded: Any, tolerance: Tolerance, rounding: Any
) -> Finding:
    """The value that is farthest out for its tolerance."""
    if not distance.size:
        return Finding(name, 0.0, tolerance.largest)
    scale = np.where(np.isfinite(recorded), np.abs(recorded), 0.0)
    allowed = tolerance.largest + tolerance.relative * scale + rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(distance == 0, 0.0, distance / allowed)
    share = np.where(np.isnan(share), np.inf, share)
    at = int(np.argmax(share))
    return Finding(name, float(distance.flat[at]), float(allowed.flat[at]))
