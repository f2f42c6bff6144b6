"""Take the high band away, in every way the tests need: pure functions with a table of names.

    DEGRADATIONS[name](samples, sample_rate, cutoff_hz) → samples   same rate, same length
    to_rate(samples, sample_rate, rate, name)           → samples   a true low-rate file

The rate of a resampler is twice its cutoff. IIR filters run forward and back (no phase shift, twice
the order's slope), as in ssr_eval's `sosfiltfilt`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples
from audiosr_core.errors import UsageError

Array = NDArray[np.float64]
Degradation = Callable[[Samples, int, float], Samples]

POLYPHASE_WINDOW = ("kaiser", 14.0)
IIR_ORDERS = range(2, 11)


def polyphase_resample(samples: Samples, sample_rate: int, rate: int) -> Array:
    """To another rate by `scipy.signal.resample_poly` with a Kaiser-14 window.

    SciPy's filter spans ten samples of the lower rate each side, so with β = 14 its transition is
    wide: −6 dB at the new Nyquist frequency, flat up to about 0.55 of it. Real files look like it.
    """
    up, down = Fraction(rate, sample_rate).as_integer_ratio()
    x = np.asarray(samples, np.float64)
    y: Array = signal.resample_poly(x, up, down, axis=-1, window=POLYPHASE_WINDOW)
    return y


def soxr_resample(samples: Samples, sample_rate: int, rate: int) -> Array:
    """To another rate by soxr VHQ: flat to 0.91 of the new Nyquist frequency."""
    x = np.asarray(samples, np.float64)
    y: Array = soxr.resample(x.T, sample_rate, rate, quality="VHQ").T
    return y


def polyphase(samples: Samples, sample_rate: int, cutoff_hz: float) -> Array:
    """To twice the cutoff and back, by `polyphase_resample`."""
    return _there_and_back(polyphase_resample, samples, sample_rate, cutoff_hz)


def soxr_vhq(samples: Samples, sample_rate: int, cutoff_hz: float) -> Array:
    """To twice the cutoff and back, by `soxr_resample`."""
    return _there_and_back(soxr_resample, samples, sample_rate, cutoff_hz)


def brickwall(samples: Samples, sample_rate: int, cutoff_hz: float) -> Array:
    """Every bin of one Fourier transform of the whole sound above the cutoff set to zero."""
    x = np.asarray(samples, np.float64)
    spectrum = np.fft.rfft(x, axis=-1)
    hz = np.fft.rfftfreq(x.shape[-1], 1 / sample_rate)
    spectrum[..., hz > cutoff_hz] = 0
    y: Array = np.fft.irfft(spectrum, x.shape[-1], axis=-1)
    return y


def stft_brickwall(samples: Samples, sample_rate: int, cutoff_hz: float) -> Array:
    """Every bin of a 2048/512 Hann STFT above the cutoff set to zero (ssr_eval's default)."""
    x = np.asarray(samples, np.float64)
    transform = signal.ShortTimeFFT(
        signal.get_window("hann", 2048), 512, sample_rate, scale_to="magnitude"
    )
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(0, 2048 - x.shape[-1]))])
    spectrum = transform.stft(padded, axis=-1)
    spectrum[..., transform.f > cutoff_hz, :] = 0
    y: Array = np.real(transform.istft(spectrum, k1=padded.shape[-1], f_axis=-2, t_axis=-1))
    return y[..., : x.shape[-1]]


def iir(kind: str, order: int) -> Degradation:
    """A low pass of the family cheby1, butter, ellip or bessel, run forward and back.

    Ripple 0.1 dB and stop band 60 dB as in ssr_eval; Bessel has its −3 dB point at the cutoff
    (ssr_eval normalises its phase instead, which puts the edge lower).
    """
    design: dict[str, Callable[[float, int], Array]] = {
        "cheby1": lambda f, sr: signal.cheby1(order, 0.1, f, output="sos", fs=sr),
        "butter": lambda f, sr: signal.butter(order, f, output="sos", fs=sr),
        "ellip": lambda f, sr: signal.ellip(order, 0.1, 60, f, output="sos", fs=sr),
        "bessel": lambda f, sr: signal.bessel(order, f, output="sos", norm="mag", fs=sr),
    }
    if kind not in design:
        raise UsageError(f"a filter family must be one of {', '.join(design)}, got {kind!r}")

    def degrade(samples: Samples, sample_rate: int, cutoff_hz: float) -> Array:
        x = np.asarray(samples, np.float64)
        sos = design[kind](cutoff_hz, sample_rate)
        pad = min(3 * (2 * len(sos) + 1), x.shape[-1] - 1)
        y: Array = signal.sosfiltfilt(sos, x, axis=-1, padlen=max(0, pad))
        return y

    return degrade


IIR_FAMILIES = ("cheby1", "butter", "ellip", "bessel")

DEGRADATIONS: Mapping[str, Degradation] = MappingProxyType(
    {
        "polyphase": polyphase,
        "soxr": soxr_vhq,
        "brickwall": brickwall,
        "stft-brickwall": stft_brickwall,
        **{f"{k}-{n}": iir(k, n) for k in IIR_FAMILIES for n in IIR_ORDERS},
    }
)


def degradation(name: str) -> Degradation:
    """The degradation of this name; UsageError lists what there is."""
    if name not in DEGRADATIONS:
        raise UsageError(
            f"unknown degradation {name!r}; there are: polyphase, soxr, brickwall, stft-brickwall"
            f" and {', '.join(IIR_FAMILIES)} with an order, as in cheby1-6"
        )
    return DEGRADATIONS[name]


def degrade(samples: Samples, sample_rate: int, cutoff_hz: float, name: str) -> Samples:
    """The sound without its band above the cutoff, at its own rate and length."""
    if not 0 < cutoff_hz < sample_rate / 2:
        raise UsageError(
            f"a cutoff must lie between 0 and {sample_rate / 2:g} Hz at {sample_rate} Hz,"
            f" got {cutoff_hz:g} Hz"
        )
    return degradation(name)(samples, sample_rate, cutoff_hz)


def to_rate(samples: Samples, sample_rate: int, rate: int, name: str = "polyphase") -> Samples:
    """The sound as a true file of a lower rate, ceil(n · rate / sample_rate) samples.

    A filter takes the band away first; then every k-th sample is kept where the rates divide,
    and soxr VHQ takes the rest where they do not.
    """
    if name == "polyphase":
        return polyphase_resample(samples, sample_rate, rate)
    if name == "soxr":
        return _fit(
            soxr_resample(samples, sample_rate, rate), _low_length(samples, sample_rate, rate)
        )
    filtered = degrade(samples, sample_rate, rate / 2, name)
    if sample_rate % rate == 0:
        return filtered[..., :: sample_rate // rate]
    low = soxr_resample(filtered, sample_rate, rate)
    return _fit(low, _low_length(samples, sample_rate, rate))


def _there_and_back(
    resample: Callable[[Samples, int, int], Array],
    samples: Samples,
    sample_rate: int,
    cutoff_hz: float,
) -> Array:
    rate = round(2 * cutoff_hz)
    low = resample(samples, sample_rate, rate)
    return _fit(resample(low, rate, sample_rate), np.asarray(samples).shape[-1])


def _low_length(samples: Samples, sample_rate: int, rate: int) -> int:
    return -(-int(np.asarray(samples).shape[-1]) * rate // sample_rate)


def _fit(x: Array, num_samples: int) -> Array:
    """Cut or zero-padded at the end to this length."""
    missing = max(0, num_samples - x.shape[-1])
    return np.pad(x[..., :num_samples], [(0, 0)] * (x.ndim - 1) + [(0, missing)])
