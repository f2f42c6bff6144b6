"""Time ways to one result against each other: one after the other, again and again.

round 1   A ── B ── C     the machine's bad moments fall on all alike,
round 2   A ── B ── C     and the minimum of each is what it takes when left alone
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Timed:
    seconds: float  # the least of all rounds
    result: Any  # of the last one


def race(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timed]:
    """Run every way once a round."""
    timed: dict[str, Timed] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds, result = clocked(way)
            if name in timed:
                seconds = min(seconds, timed[name].seconds)
            timed[name] = Timed(seconds, result)
    return timed


def clocked(way: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the result is there, and the result."""
    _wait()
    began = time.perf_counter()
    result = way()
    _wait()
    return time.perf_counter() - began, result


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Difference:
    """Of a result from the one it should be."""

    largest: float
    rms: float
    snr_db: float  # of the wanted to the difference

    @classmethod
    def between(cls, got: Any, wanted: Any) -> Difference:
        got, wanted = _plain(got), _plain(wanted)
        error = got - wanted
        power = float(np.square(error).mean())
        snr = 10 * np.log10(float(np.square(wanted).mean()) / power) if power else float("inf")
        return cls(float(np.abs(error).max()), power**0.5, float(snr))


def _plain(x: Any) -> np.ndarray:
    return (x.detach().float().cpu().numpy() if torch.is_tensor(x) else np.asarray(x)).astype(float)
