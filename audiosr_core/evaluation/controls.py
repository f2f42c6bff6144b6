"""The two systems every model is shown between: nothing at all, and the naive trick.

    unprocessed   the low-passed input at 48 kHz               what a model must beat
    copy-up       its spectrum repeated above the cutoff,      what a model must be worth more than
                  falling on along the slope of the low band

        |\\
        | \\___     source      copies, each on the fitted line
        |     \\__[~~~~~~)__|~~~~~~|~~~~~~|~~~~~~|
        0              cutoff                 24 kHz

Both have the shape of a `System` (see run.py): (samples, sample_rate, cutoff_hz) → 48 kHz samples.
"""

from __future__ import annotations

import math

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples
from audiosr_core.errors import UsageError
from audiosr_core.evaluation.metrics import low_pass

Array = NDArray[np.float64]

OUTPUT_RATE = 48_000
WINDOW = 1024
HOP = 256
GRID = WINDOW // HOP  # a copy moved by a multiple of this many bins keeps its phase from hop to hop
SOURCE = (0.5, 0.9)  # of the cutoff: clear of a resampler's transition


def unprocessed(samples: Samples, sample_rate: int, cutoff_hz: float) -> Samples:
    """The input at 48 kHz by soxr VHQ, and nothing else ('sinc' in the papers)."""
    x = np.asarray(samples, np.float64)
    if sample_rate == OUTPUT_RATE:
        return x
    y: Array = soxr.resample(x.T, sample_rate, OUTPUT_RATE, quality="VHQ").T
    wanted = round(x.shape[-1] * OUTPUT_RATE / sample_rate)
    missing = max(0, wanted - y.shape[-1])
    return np.pad(y[..., :wanted], [(0, 0)] * (y.ndim - 1) + [(0, missing)])


def copy_up(samples: Samples, sample_rate: int, cutoff_hz: float) -> Samples:
    """The top of the low band copied up to 24 kHz, on the straight line of its log spectrum.

    One line per sound: dB over octaves, fitted from a tenth to nine tenths of the cutoff, never
    rising. (A line in dB over Hz extrapolates into nothing: LSD 2.6 where this one has 1.3.)
    Below 0.95 of the cutoff the input is untouched to −150 dB: what is added is high-passed.
    """
    x = np.atleast_2d(unprocessed(samples, sample_rate, cutoff_hz))
    edge = math.floor(cutoff_hz * WINDOW / OUTPUT_RATE)
    top = math.floor(SOURCE[1] * edge)
    width = (top - math.floor(SOURCE[0] * edge)) // GRID * GRID
    if width < GRID or edge >= WINDOW // 2:
        raise UsageError(
            f"copy-up needs a cutoff from 600 Hz to below {OUTPUT_RATE // 2} Hz,"
            f" got {cutoff_hz:g} Hz"
        )
    num_samples = x.shape[1]
    padded = np.pad(x, ((0, 0), (0, max(0, WINDOW - num_samples))))
    transform = signal.ShortTimeFFT(signal.get_window("hann", WINDOW), HOP, OUTPUT_RATE)
    spectrum = transform.stft(padded, axis=-1)  # [channels, bins, frames]
    slope = _log_slope(np.abs(spectrum), max(2, edge // 10), top)

    above = np.arange(edge, spectrum.shape[1])
    source = above - -(-(above - top + 1) // width) * width  # into [top − width, top)
    gain = (above / source) ** slope
    copied = np.zeros_like(spectrum)
    copied[:, above] = spectrum[:, source] * gain[:, None]
    high = np.real(transform.istft(copied, k1=padded.shape[1], f_axis=-2, t_axis=-1))
    y: Array = x + (high - low_pass(high, OUTPUT_RATE, cutoff_hz))[:, :num_samples]
    return y if np.ndim(samples) == 2 else y[0]


def _log_slope(magnitude: Array, first: int, last: int) -> float:
    """The exponent of frequency that fits the mean spectrum of bins first to last, at most 0."""
    power = np.mean(magnitude[:, first:last] ** 2, axis=(0, 2))
    if power.size < 2 or not power.any():
        return 0.0
    log_power = np.log(np.maximum(power, power.max() * 1e-15))
    return min(0.0, 0.5 * float(np.polyfit(np.log(np.arange(first, last)), log_power, 1)[0]))
