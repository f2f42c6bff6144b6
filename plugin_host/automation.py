"""A knob over time: breakpoints in, one factor a sample out, smooth enough to keep the low band.

    value      .-----●                 linear between breakpoints, held outside them;
              /       \\                two at the same time are a step
        ●----●         ●------

A step in the level of the high band would be a click, and a click has a low band. So the factors
are smoothed by the window whose integral is `splice.end_fade`. They are laid out on an absolute
grid, so that one is a function of its place alone, however the sound is cut into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiosr_core.errors import SettingsError
from audiosr_core.settings import KNOBS
from audiosr_core.splice import end_fade

Breakpoints = tuple[tuple[float, float], ...]
"""(seconds, value), in order of time."""

GRID = 8192  # samples


def breakpoints(knob: str, points: Sequence[Any]) -> Breakpoints:
    """Breakpoints of a knob of `Settings`; plain lists of two will do.

    Raises:
        SettingsError: there are none, their times fall, or the knob cannot have a value
    """
    try:
        pairs = tuple((float(seconds), value) for seconds, value in points)
    except (TypeError, ValueError, OverflowError):
        pairs = ()
    times = [seconds for seconds, _ in pairs]
    if not times or times != sorted(times) or not all(map(math.isfinite, times)):
        raise SettingsError(
            f"the automation of {knob} must be [[seconds, value], ...] in order of time,"
            f" got {points!r:.80}"
        )
    return tuple((seconds, KNOBS[knob].check(value)) for seconds, value in pairs)


class Curve:
    """What the high band is multiplied with, all along a sound.

    Args:
        sample_rate: of the factors, Hz
        width_hz: of the crossover; the spectrum of the curve stays inside it
    """

    def __init__(
        self, mix: Breakpoints, gain_hf_db: Breakpoints, sample_rate: int, width_hz: float
    ) -> None:
        self._mix, self._gain_hf_db = np.array(mix).T, np.array(gain_hf_db).T
        self._rate = sample_rate
        fade = end_fade(width_hz, sample_rate).astype(np.float64)
        self._window = np.diff(fade, prepend=0.0, append=1.0)

    def at(self, start: int, length: int) -> NDArray[np.float32]:
        """The factors of `length` samples from `start` on."""
        first, last = start // GRID, (start + length) // GRID
        factors = np.concatenate([self._cell(i) for i in range(first, last + 1)])
        return factors[start - first * GRID :][:length]

    def _cell(self, index: int) -> NDArray[np.float32]:
        """One cell of the grid."""
        reach = len(self._window) - 1
        place = np.arange(GRID + reach) + index * GRID - reach // 2
        seconds = place / self._rate
        raw = np.interp(seconds, *self._mix) * 10 ** (np.interp(seconds, *self._gain_hf_db) / 20)
        if raw.min() == raw.max():
            return np.full(GRID, raw[0], np.float32)
        return np.convolve(raw, self._window, "valid").astype(np.float32)
