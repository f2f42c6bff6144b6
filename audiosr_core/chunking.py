"""Cut a sound into overlapping chunks on an absolute grid.

Chunk k is computed from a slice of the input with context on both sides, and gives the high band
of its core and of the overlap with its successor. A chunk is a function of its slice and its
index alone, so it may be computed in any order, in any batch, on any machine, twice.

    input     |<-past->|<------- stride ------->|<-overlap->|<-future->|
    chunk k            |========================|===========|
    chunk k+1                                   |===========|==============...

All lengths are ticks of 1/g s, where g is the greatest common divisor of the three rates (input,
model, output): every tick is a whole number of samples in all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ChunkPlan:
    """Where the chunks of one sound lie. Lengths in ticks."""

    rate_in: int
    rate_model: int
    rate_out: int
    stride: int
    overlap: int
    past: int
    future: int

    @property
    def ticks_per_second(self) -> int:
        return math.gcd(self.rate_in, self.rate_model, self.rate_out)

    def at(self, ticks: int, rate: int) -> int:
        """A place in ticks as a sample of this rate, exactly."""
        return ticks * (rate // self.ticks_per_second)

    def core(self, index: int) -> tuple[int, int]:
        """Start and end of chunk `index` in ticks: its stride and its overlap."""
        return index * self.stride, (index + 1) * self.stride + self.overlap

    def slice(self, index: int) -> tuple[int, int]:
        """Start and end in ticks of the input that chunk `index` is computed from."""
        start, end = self.core(index)
        return start - self.past, end + self.future

    @property
    def reach(self) -> int:
        """Ticks before its core that the settled result of a chunk depends on.

        Where chunks overlap it is joined with its predecessor, whose slice begins a stride earlier.
        """
        return self.past + (self.stride if self.overlap else 0)

    def num_chunks(self, num_samples: int) -> int:
        """Chunks that a sound of this many input samples needs."""
        return -(-num_samples // self.at(self.stride, self.rate_in))

    def chunks_of(self, start: int, end: int) -> range:
        """Chunks whose core or overlap meets input samples start .. end."""
        if end <= start:
            return range(0)
        stride = self.at(self.stride, self.rate_in)
        overlap = self.at(self.overlap, self.rate_in)
        return range(max(0, (start - overlap) // stride), -(-end // stride))


def plan_chunks(
    rate_in: int,
    rate_model: int,
    rate_out: int,
    *,
    stride_seconds: float,
    overlap_seconds: float,
    past_seconds: float,
    future_seconds: float,
) -> ChunkPlan:
    """The plan with at least these lengths, rounded up to ticks."""
    ticks = math.gcd(rate_in, rate_model, rate_out)
    lengths = [
        math.ceil(seconds * ticks - 1e-9)
        for seconds in (stride_seconds, overlap_seconds, past_seconds, future_seconds)
    ]
    stride, overlap, past, future = lengths
    return ChunkPlan(rate_in, rate_model, rate_out, max(stride, overlap, 1), overlap, past, future)
