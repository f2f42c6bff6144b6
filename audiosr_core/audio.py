"""A sound as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    @classmethod
    def of(cls, array: ArrayLike, sample_rate: int) -> Audio:
        """A sound from the array or tensor that another program hands over.

        Torch tensors are taken from any device, with or without a gradient; torch is not imported.

        Args:
            array: [samples], [channels, samples], or a batch of one: [1, channels, samples].
                Floating point has full scale ±1; int16 and int32 have theirs
            sample_rate: Hz

        Raises:
            AudioError: another shape or type, or a rate or channel count that cannot be carried
            NotFiniteError: a sample is NaN or infinite
        """
        try:
            x = _planar(np.asarray(_on_the_cpu(array)))
        except (TypeError, ValueError) as error:  # rows of unequal length, say
            raise AudioError(f"samples must be an array of numbers: {error}") from error
        size = x.dtype.itemsize
        if x.dtype.kind == "f":
            return cls(x.astype(np.float32 if size <= 4 else np.float64), sample_rate)
        if x.dtype.kind == "i" and size in (2, 4):  # 16 bits fit float32, 32 do not
            wide = x.astype(np.float32 if size == 2 else np.float64)
            return cls(np.ldexp(wide, 1 - 8 * size), sample_rate)
        raise AudioError(
            f"samples must be floating point, int16 or int32, got {x.dtype};"
            " divide them by their full scale"
        )

    @property
    def num_channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def num_samples(self) -> int:
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def _on_the_cpu(array: Any) -> Any:
    """A torch tensor as numpy can read it; anything else as it is."""
    if not hasattr(array, "detach"):
        return array
    tensor = array.detach().cpu()
    half = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.float() if half else tensor  # numpy does not know bfloat16


def _planar(x: NDArray[Any]) -> NDArray[Any]:
    """[channels, samples], whatever of the shapes of `Audio.of` it was."""
    shape = list(x.shape)
    if x.ndim == 3 and len(x) != 1:
        raise AudioError(f"a batch must hold one sound, got {shape}; give its sounds one by one")
    x = x[0] if x.ndim == 3 else np.atleast_2d(x)
    if x.ndim != 2 or not shape:
        raise AudioError(f"samples must be [samples] or [channels, samples], got {shape}")
    if x.shape[1] <= MAX_CHANNELS < x.shape[0]:
        raise AudioError(f"samples must be [channels, samples], got {shape}; transpose them")
    return x


def check_format(sample_rate: int, num_channels: int) -> None:
    """Raise AudioError unless the walk can carry this rate (Hz) and channel count."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"the sample rate must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz,"
            f" got {sample_rate} Hz"
        )
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise AudioError(f"a sound has 1 to {MAX_CHANNELS} channels, got {num_channels}")


def check_block(samples: Samples, num_channels: int) -> None:
    """Raise AudioError unless these are [num_channels, samples]."""
    if samples.ndim != 2 or samples.shape[0] != num_channels:
        raise AudioError(f"a block must be [{num_channels}, samples], got {list(samples.shape)}")


def check_finite(samples: Samples, start: int, sample_rate: int) -> None:
    """Raise NotFiniteError at the first NaN or Inf; `start` is the place of samples[:, 0]."""
    if np.isfinite(samples.sum(dtype=np.float64)):  # one pass, no mask, in the usual case
        return
    bad = ~np.isfinite(samples)
    if bad.any():
        sample = int(bad.any(axis=0).argmax())
        channel = int(bad[:, sample].argmax())
        raise NotFiniteError(channel, start + sample, sample_rate)
