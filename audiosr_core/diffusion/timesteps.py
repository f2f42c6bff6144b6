"""Which training steps a sampler visits, and how far each of its steps goes.

t     999    899    ...    99   (nothing)
ᾱ      0 ────► ... ────────►  ────► 1          trailing, 10 steps: from no SNR to no noise

t     901    801    ...     1    0
ᾱ   0.02 ────► ... ────────►  ────► 0.99996    published, 10 steps: neither
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from audiosr_core.diffusion.schedule import Schedule
from audiosr_core.errors import SettingsError


class Step(NamedTuple):
    """One evaluation of the network and where the sampler goes from there."""

    t: int  # what the network is told
    alpha: float  # ᾱ at t
    alpha_next: float  # ᾱ that the step arrives at

    @property
    def log_snr(self) -> float:
        """λ = ln(√ᾱ / √(1 − ᾱ)) at t (Lu et al. 2022, §2); −inf where nothing is left."""
        return _log_snr(self.alpha)

    @property
    def log_snr_next(self) -> float:
        """λ where the step arrives; +inf where no noise is left."""
        return _log_snr(self.alpha_next)


def _log_snr(alpha: float) -> float:
    if alpha <= 0:
        return -math.inf
    return math.inf if alpha >= 1 else 0.5 * math.log(alpha / (1 - alpha))


def steps_reference(schedule: Schedule, count: int) -> tuple[Step, ...]:
    """The published choice for DDIM: every (1000 // count)-th t from 1 on, walked downwards.

    It starts short of zero SNR, ends at ᾱ_0 and not at 1, and has ⌈1000 / (1000 // count)⌉
    steps, which is not always `count`. ᾱ is rounded to float32, as in the published tables.

    Raises:
        SettingsError: a count outside 1 .. 1000, or one that steps past the last t
    """
    _check(schedule, count)
    if not _reference_works(schedule, count):
        raise SettingsError(
            f"the published timesteps cannot make {count} steps: they run past t ="
            f" {len(schedule) - 1}; ask for {_nearest_reference(schedule, count)},"
            " or use another sampler"
        )
    bar = schedule.alphas_cumprod.astype(np.float32).astype(np.float64)
    t = np.arange(0, len(schedule), len(schedule) // count) + 1
    # a schedule of one stride has only t = 1
    bar_next = np.append(bar[0], bar[t[:-1]])
    return tuple(
        Step(int(a), float(b), float(c))
        for a, b, c in zip(t[::-1], bar[t[::-1]], bar_next[::-1], strict=True)
    )


def steps_trailing(schedule: Schedule, count: int) -> tuple[Step, ...]:
    """Exactly `count` evenly spaced steps from the last t, ᾱ = 0, to ᾱ = 1 (Lin et al. 2023, §3.3).

    Raises:
        SettingsError: a count outside 1 .. 1000
    """
    _check(schedule, count)
    n = len(schedule)
    # half up in integers: strictly falling for every count, on every machine
    t = [n - 1 - (2 * i * n + count) // (2 * count) for i in range(count)]
    bar = [float(schedule.alphas_cumprod[one]) for one in t]
    return tuple(Step(*step) for step in zip(t, bar, [*bar[1:], 1.0], strict=True))


def _check(schedule: Schedule, count: int) -> None:
    if not 1 <= count <= len(schedule):
        raise SettingsError(f"steps must be 1 to {len(schedule)}, got {count}")


def _reference_works(schedule: Schedule, count: int) -> bool:
    n = len(schedule)
    stride = n // count
    return (n - 1) // stride * stride + 1 < n


def _nearest_reference(schedule: Schedule, count: int) -> str:
    """The count or counts next to one that does not work, in words."""
    for distance in range(1, len(schedule)):
        near = [c for c in (count - distance, count + distance) if 1 <= c <= len(schedule)]
        works = [str(c) for c in near if _reference_works(schedule, c)]
        if works:
            return " or ".join(works)
    raise SettingsError(f"a schedule of {len(schedule)} steps has no published timesteps")
