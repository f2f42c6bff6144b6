"""The low-pass of AudioSR: what a network is shown of a sound has nothing above the cutoff.

    x ── filter ── there and back through the rate 2 · cutoff ── filter ── low band

Each filter runs forward and backward, so nothing is delayed. The trip through the low rate
removes what the filter's slope left above the cutoff; the second filter removes what the trip left.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError

FilterKind = Literal["butter", "cheby1", "ellip", "bessel"]
FILTER_KINDS: tuple[FilterKind, ...] = get_args(FilterKind)

ORDER = 8
RIPPLE_DB = 0.1  # in the pass band
STOP_DB = 60.0  # of the elliptic filter


def lowpass(x: Samples, cutoff_hz: float, kind: FilterKind, sample_rate: int = 48_000) -> Samples:
    """Remove what lies above the cutoff, with no delay, [..., samples] float32.

    Args:
        cutoff_hz: rounded down to a whole number, as published
        kind: "cheby1" is what AudioSR's paper says (Liu et al. 2023, §3); its code draws one

    Raises:
        AudioError: the cutoff is not inside the band of `sample_rate`
    """
    cutoff = int(cutoff_hz)
    if not 0 < cutoff < sample_rate / 2:
        raise AudioError(
            f"a low-pass needs a cutoff between 0 and {sample_rate / 2:g} Hz, got {cutoff_hz:g} Hz;"
            " a sound that reaches this far needs no extension"
        )
    share = cutoff / (sample_rate / 2)
    low_rate = int(share * sample_rate)  # 2 · cutoff, or one less: published in floating point
    sections = _design(kind, share)
    y = scipy.signal.sosfiltfilt(sections, x)
    y = scipy.signal.resample_poly(y, low_rate, sample_rate, axis=-1)
    y = scipy.signal.resample_poly(y, sample_rate, low_rate, axis=-1)
    y = y[..., : x.shape[-1]]  # never too short: both trips round up
    return np.asarray(scipy.signal.sosfiltfilt(sections, y), np.float32)


def _design(kind: FilterKind, cutoff: float) -> NDArray[np.float64]:
    """Second-order sections of one kind; the cutoff as a share of half the sample rate."""
    match kind:
        case "butter":
            sections = scipy.signal.butter(ORDER, cutoff, output="sos")
        case "cheby1":
            sections = scipy.signal.cheby1(ORDER, RIPPLE_DB, cutoff, output="sos")
        case "ellip":
            sections = scipy.signal.ellip(ORDER, RIPPLE_DB, STOP_DB, cutoff, output="sos")
        case "bessel":
            sections = scipy.signal.bessel(ORDER, cutoff, output="sos")
    return np.asarray(sections, np.float64)
