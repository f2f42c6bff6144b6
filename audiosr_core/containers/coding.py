"""Samples as bytes: rounding, dither and byte order.

A sample x in [-1, 1) becomes round(x · 2^(bits-1)). A sample that came from such a file comes back
bit for bit, for the product is a whole number and exact in float64. Only where something was added
is dither needed: two uniform variables make a triangle of ±1 LSB, which frees the mean and the
variance of the error from the signal (Lipshitz, Wannamaker & Vanderkooy 1992, §4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""The integer subtypes that can be written, by libsndfile's names."""

FLOATS = {"FLOAT": 32, "DOUBLE": 64}

_DITHER_KEY = 0x61737262_00000000  # "asrb"; the channel stands in the low half


@dataclass(frozen=True)
class Coding:
    """How one sample lies in a file."""

    subtype: str  # libsndfile's name: a key of BITS or FLOATS
    big_endian: bool = False

    @property
    def bits(self) -> int:
        return BITS.get(self.subtype) or FLOATS[self.subtype]

    @property
    def width(self) -> int:
        """Bytes per sample."""
        return self.bits // 8

    @property
    def is_float(self) -> bool:
        return self.subtype in FLOATS

    def encode(self, values: NDArray[np.floating] | NDArray[np.int32]) -> bytes:
        """Interleaved bytes of [channels, n]: whole numbers of `quantise`, or floats."""
        order = ">" if self.big_endian else "<"
        interleaved = np.ascontiguousarray(values.T)
        if self.is_float:
            return interleaved.astype(f"{order}f{self.width}").tobytes()
        if self.subtype == "PCM_U8":
            return (interleaved + 128).astype(np.uint8).tobytes()
        if self.subtype == "PCM_24":
            quads = interleaved.astype(f"{order}i4").view(np.uint8).reshape(-1, 4)
            return (quads[:, 1:] if self.big_endian else quads[:, :3]).tobytes()
        return interleaved.astype(f"{order}i{self.width}").tobytes()


def quantise(
    samples: NDArray[np.float64],
    added: NDArray[np.bool_],
    bits: int,
    seed: int,
    start: int,
) -> tuple[NDArray[np.int32], int]:
    """Whole numbers of `bits`, dithered where `added`, and how many did not fit and were clipped.

    Args:
        samples: full scale is ±1, [channels, n]
        added: True where new content was added, [channels, n]
        seed: of the dither
        start: the place of samples[:, 0] in the file; the dither is keyed by it
    """
    scaled = samples * 2.0 ** (bits - 1)
    for channel in np.flatnonzero(added.any(axis=1)):
        here = added[channel]
        scaled[channel, here] += tpdf(seed, int(channel), start, samples.shape[1])[here]
    whole = np.rint(scaled)
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    overs = int(np.count_nonzero((whole < low) | (whole > high)))
    return np.clip(whole, low, high).astype(np.int32), overs


def tpdf(seed: int, channel: int, start: int, n: int) -> NDArray[np.float64]:
    """Triangular dither in (-1, 1) LSB, variance 1/6: a function of (seed, channel, place) alone.

    Philox (Salmon et al. 2011) counts instead of remembering: block c of four 64-bit words belongs
    to samples 4c to 4c + 3, and the two halves of a word are the two uniform variables.
    """
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF, _DITHER_KEY + channel], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=start // 4).random_raw(start % 4 + n)[start % 4 :]
    halves = np.asarray(words, dtype=np.uint64)
    high = (halves >> np.uint64(32)).astype(np.float64)
    low = (halves & np.uint64(0xFFFFFFFF)).astype(np.float64)
    return (high - low) / 2.0**32
