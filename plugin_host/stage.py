"""A part of a chain at work on one sound: blocks of any size in, what has settled out.

push(block) ──▶ what has settled, at the rate of the output; often less than came, or nothing
flush()     ──▶ the rest, so that all of it together has `output_length` samples, and place 0
                of what came out is place 0 of what went in: latency is the stage's own affair
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from audiosr_core.audio import Samples


class Stage(Protocol):
    """One sound on its way through one part of a chain."""

    @property
    def sample_rate_out(self) -> int:
        """Hz."""

    def push(self, samples: Samples) -> Samples:
        """Take a block, [channels, samples]; give what has settled."""

    def flush(self, tail_samples: int = 0) -> Samples:
        """Give the rest, and this much of what sounds on after the end; the stage is over."""


@runtime_checkable
class Step(Protocol):
    """What a chain can hold beside pedalboard's plugins and `SuperResolution`."""

    @property
    def name(self) -> str: ...

    def open(self, sample_rate: int, num_channels: int) -> Stage:
        """A stage for one sound."""
