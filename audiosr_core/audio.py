"""A sound as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiosr_core.errors import AudioError, NotFiniteError

Samples = NDArray[np.floating]
"""Planar samples, [channels, samples]; float32, or float64 where a file holds more than 24 bits."""

MIN_SAMPLE_RATE = 4_000
MAX_SAMPLE_RATE = 768_000
MAX_CHANNELS = 64


@dataclass(frozen=True, eq=False)
class Audio:
    """A sound. Checked here, once; everything downstream may trust it."""

    samples: Samples  # float32 or float64, full scale is ±1, [channels, samples]
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        x = self.samples
        if x.ndim != 2 or x.dtype not in (np.float32, np.float64):
            raise AudioError(
                "samples must be float32 or float64 [channels, samples],"
                f" got {x.dtype} {list(x.shape)}"
            )
        check_format(self.sample_rate, x.shape[0])
        check_finite(x, 0, self.sample_rate)

    @property
    def num_channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def num_samples(self) -> int:
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def check_format(sample_rate: int, num_channels: int) -> None:
    """Raise AudioError unless the walk can carry this rate (Hz) and channel count."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"the sample rate must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz,"
            f" got {sample_rate} Hz"
        )
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise AudioError(f"a sound has 1 to {MAX_CHANNELS} channels, got {num_channels}")


def check_finite(samples: Samples, start: int, sample_rate: int) -> None:
    """Raise NotFiniteError at the first NaN or Inf; `start` is the place of samples[:, 0]."""
    if np.isfinite(samples.sum(dtype=np.float64)):  # one pass, no mask, in the usual case
        return
    bad = ~np.isfinite(samples)
    if bad.any():
        sample = int(bad.any(axis=0).argmax())
        channel = int(bad[:, sample].argmax())
        raise NotFiniteError(channel, start + sample, sample_rate)
