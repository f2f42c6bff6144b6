"""The two systems every model is shown between: nothing at all, and the naive trick.

    unprocessed   the low-passed input at 48 kHz               what a model must beat
    copy-up       its spectrum repeated above the cutoff,      what a model must be worth more than
                  falling on along the slope of the low band

        |\\
        | \\___          source         copies, each on the fitted line
        |     \\‿‿‿‿[‿‿‿‿‿‿)|·‿‿‿‿‿‿·|·‿‿‿‿‿‿·|
        0                 cutoff                  24 kHz

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
FIT_FROM_HZ = 1_000.0


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
    """The low band's upper half copied up to 24 kHz, on the straight line of its log spectrum.

    One line per sound, in dB over Hz from 1 kHz (or a quarter of the cutoff) to 0.9 of the cutoff,
    never rising. Below 0.95 of the cutoff the input is untouched to −150 dB: what is added is
    high-passed.
    """
    x = np.atleast_2d(unprocessed(samples, sample_rate, cutoff_hz))
    edge = math.floor(cutoff_hz * WINDOW / OUTPUT_RATE)
    width = edge // 2 // GRID * GRID
    if width < GRID or edge >= WINDOW // 2:
        raise UsageError(
            f"copy-up needs a cutoff from 400 Hz to below {OUTPUT_RATE // 2} Hz,"
            f" got {cutoff_hz:g} Hz"
        )
    num_samples = x.shape[1]
    padded = np.pad(x, ((0, 0), (0, max(0, WINDOW - num_samples))))
    transform = signal.ShortTimeFFT(signal.get_window("hann", WINDOW), HOP, OUTPUT_RATE)
    spectrum = transform.stft(padded, axis=-1)  # [channels, bins, frames]
    slope = _slope_per_bin(np.abs(spectrum), edge)

    above = np.arange(edge, spectrum.shape[1])
    shift = ((above - edge) // width + 1) * width
    copied = np.zeros_like(spectrum)
    copied[:, above] = spectrum[:, above - shift] * np.exp(slope * shift)[:, None]
    high = np.real(transform.istft(copied, k1=padded.shape[1], f_axis=-2, t_axis=-1))
    y: Array = x + (high - low_pass(high, OUTPUT_RATE, cutoff_hz))[:, :num_samples]
    return y if np.ndim(samples) == 2 else y[0]


def _slope_per_bin(magnitude: Array, edge: int) -> float:
    """Natural-log magnitude per bin of the low band's mean spectrum, at most 0."""
    first = min(round(FIT_FROM_HZ * WINDOW / OUTPUT_RATE), edge // 4)
    bins = np.arange(max(1, first), max(first + 4, math.floor(0.9 * edge)))
    power = np.mean(magnitude[:, bins] ** 2, axis=(0, 2))
    if not power.any():
        return 0.0
    line = np.polyfit(bins, 0.5 * np.log(np.maximum(power, power.max() * 1e-12)), 1)
    return min(0.0, float(line[0]))
