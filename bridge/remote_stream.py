"""A stream whose walk is the daemon's: blocks of any size in, what has settled out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from audiosr_core.audio import Samples, check_block, check_finite
from audiosr_core.errors import AudioError
from bridge.client_job import Job
from bridge.protocol import DTYPES

if TYPE_CHECKING:
    from audiosr_core.decision import Decision


class RemoteStream:
    """One sound whose end is not known yet: blocks in, settled samples out, as `Stream` has it.

    All pushes and the flush joined are what the stream of an engine gives for the same decision.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._pushed = job.sound.origin
        self._taken = 0
        self._flushed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what has not come."""
        self.job.close()

    @property
    def decision(self) -> Decision:
        """Waited for, as is all that follows from it: a model may have to be loaded first."""
        return self.job.decided()

    @property
    def rate_out(self) -> int:
        return self.decision.rate_out

    @property
    def latency_samples(self) -> int:
        """Input samples that must follow a sample before it can settle, at most."""
        self.job.decided()
        return int(self.job.plan["latency_samples"])

    def push(self, samples: Samples, wait: float | None = 0.0) -> Samples:
        """Take a block of any size, [channels, samples]; give what has settled and come back.

        Args:
            wait: seconds to wait for what settles by this block; None until it is there
        """
        sound = self.job.sound
        if self._flushed:
            raise AudioError("this stream is over; open another")
        check_block(samples, sound.num_channels)
        if samples.dtype != DTYPES[sound.dtype]:
            raise AudioError(
                f"the blocks of this stream are {DTYPES[sound.dtype].name}, got {samples.dtype};"
                " say another dtype to `open`"
            )
        check_finite(samples, self._pushed, sound.sample_rate)
        if samples.shape[1]:
            self.job.send(samples)
        self._pushed += samples.shape[1]
        if wait is None:
            self.job.wait(lambda: self._has_settled() or self.job.done())
        elif wait > 0:
            self.job.wait_a_while(lambda: self._has_settled() or self.job.done(), wait)
        return self._take()

    def flush(self, timeout: float | None = None) -> Samples:
        """The rest, waited for; the stream is over."""
        if self._flushed:
            raise AudioError("this stream is over; open another")
        self._flushed = True
        self.job.end()
        pieces = [parts[0] for _, parts in self.job.pieces(timeout)]
        return self._joined(pieces)

    def _has_settled(self) -> bool:
        """All that settles by the samples pushed so far is here."""
        plan = self.job.plan
        if not plan:
            return False
        return self.job.received_samples >= settled(plan, self._pushed)

    def _take(self) -> Samples:
        pieces = []
        while (piece := self.job.take()) is not None:
            pieces.append(piece[1][0])
        self.job.check()
        return self._joined(pieces)

    def _joined(self, pieces: list[Samples]) -> Samples:
        sound = self.job.sound
        if not pieces:
            return np.zeros((sound.num_channels, 0), DTYPES[sound.dtype])
        return np.concatenate(pieces, axis=1)


def settled(plan: Mapping[str, Any], num_samples: int) -> int:
    """Output samples that a stream has given after this many of the input."""
    stride_in, first_end = plan["stride_in"], plan["first_end_in"]
    chunks = max(0, (num_samples - first_end) // stride_in + 1)
    return int(chunks * plan["stride_out"])
