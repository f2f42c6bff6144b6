"""Put the generated high band on top of the original: out = original + bandpass(generated).

The original is never filtered. What is added passes a linear-phase FIR that is silent below the
crossover, so below it the output is the input, sample for sample up to rounding (promise P1).

    gain of what is added

      0 dB             .--------------------.
                      /                      \\
    < -120 dB  ______/                        \\_____
                crossover  cutoff         ceiling
                |<-width->|
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

STOP_DB = 125.0
MIN_WIDTH_HZ = 60.0
CEILING_WIDTH_HZ = 400.0


def width_hz(cutoff_hz: float, transition: float) -> float:
    """Width of the crossover in Hz; `transition` is a fraction of the cutoff."""
    return min(max(MIN_WIDTH_HZ, transition * cutoff_hz), 0.9 * cutoff_hz)


def crossover_hz(cutoff_hz: float, transition: float) -> float:
    """Below this nothing is added."""
    return cutoff_hz - width_hz(cutoff_hz, transition)


def half_length(width: float, sample_rate: int) -> int:
    """Samples on each side of the middle tap, for a transition of this width in Hz."""
    taps, _ = scipy.signal.kaiserord(STOP_DB, width / (0.5 * sample_rate))
    return int(taps) // 2 + 1


def max_half_length(sample_rate: int) -> int:
    """The longest that `bandpass` ever gets."""
    return half_length(MIN_WIDTH_HZ, sample_rate)


@lru_cache(maxsize=32)
def bandpass(
    sample_rate: int, cutoff_hz: float, transition: float, ceiling_hz: float
) -> NDArray[np.float64]:
    """Taps: stop below the crossover, pass from the cutoff to the ceiling. Odd, symmetric."""
    nyquist = sample_rate / 2
    width = width_hz(cutoff_hz, transition)
    taps = highpass(half_length(width, sample_rate), (cutoff_hz - width / 2) / nyquist)
    if ceiling_hz + CEILING_WIDTH_HZ / 2 >= nyquist:
        return taps
    half = half_length(CEILING_WIDTH_HZ, sample_rate)
    edge = max(ceiling_hz - CEILING_WIDTH_HZ / 2, cutoff_hz)
    lowpass = -highpass(half, edge / nyquist)
    lowpass[half] += 1.0
    return np.asarray(scipy.signal.fftconvolve(taps, lowpass))


def highpass(half: int, edge: float) -> NDArray[np.float64]:
    """Windowed sinc of 2·half + 1 taps; `edge` (−6 dB) as a fraction of Nyquist."""
    n = np.arange(-half, half + 1)
    lowpass = edge * np.sinc(edge * n) * np.kaiser(2 * half + 1, scipy.signal.kaiser_beta(STOP_DB))
    lowpass /= lowpass.sum()
    taps: NDArray[np.float64] = -lowpass
    taps[half] += 1.0
    return taps


def end_fade(width: float, sample_rate: int) -> NDArray[np.float32]:
    """Fade-in for what is added at the very beginning of a sound; reversed, for its end.

    Cut off hard, the added band would be a click, and a click has a low band. The integral of a
    Kaiser window is the shortest fade whose own spectrum stays inside a crossover of this width
    in Hz: two seconds of noise keep a low band of −105 dB.
    """
    length = round(4.0 / width * sample_rate)
    shape = np.cumsum(np.kaiser(length + 1, 4.0))
    return np.asarray(shape[:-1] / shape[-1], dtype=np.float32)


def filter_same(samples: NDArray[np.float32], taps: NDArray[np.float64]) -> NDArray[np.float32]:
    """Linear-phase filtering without delay, [channels, samples] → the same shape."""
    if not samples.any():
        return samples
    out = scipy.signal.oaconvolve(samples, taps[None].astype(np.float32), mode="same", axes=1)
    return np.asarray(out, dtype=np.float32)
