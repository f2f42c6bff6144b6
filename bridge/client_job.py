"""A job from its client's side: how far it is, and its result as it comes.

The session's thread tells it what it heard; whoever waits is woken.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from audiosr_core.audio import Audio, Samples
from audiosr_core.errors import AudioSRError, UsageError
from bridge.errors import (
    BridgeError,
    CancelledError,
    NoDaemonError,
    ProtocolError,
    error_from,
)
from bridge.jobs import ENDED
from bridge.protocol import DTYPES, Message, audio_frame
from bridge.session import Outgoings, Session
from bridge.sound import Sound, Upload

if TYPE_CHECKING:
    from audiosr_core.decision import Decision


CREDIT_BYTES = 16 << 20  # of results that may be on their way or wait to be taken
CREDIT_SHARE = 8  # credit is given back when there is this fraction of it
TICK_SECONDS = 0.02  # how often somebody who waits looks whether to cancel
CANCEL_SECONDS = 1.0
LOAD_SECONDS = 300.0  # until a model is loaded, and a stream or a job is decided


class Job:
    """One sound at the daemon. Ends by itself; leaving its `with` before that cancels it.

    Attributes:
        id: the same sound with the same settings has the same one
        state: of `bridge.jobs.State`
        progress: fraction done
        eta: seconds that it will still take, or None
        plan: how its chunks lie, once it is decided
        report: of the daemon, once it is done
    """

    def __init__(self, session: Session, id: str, sound: Sound, hold: bool = False) -> None:
        self.id = self.job = id
        self.sound = sound
        self.state = "receiving"
        self.progress = 0.0
        self.eta: float | None = None
        self.plan: Mapping[str, Any] = {}
        self.model_sha256 = ""
        self.report: Mapping[str, Any] = {}
        self.settings: Mapping[str, Any] = {}
        self._session = session
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._upload = Upload(sound)
        self._decision: Mapping[str, Any] | None = None
        self._results: deque[tuple[int, tuple[Samples, ...], int]] = deque()  # start, parts, bytes
        self._next_start = 0  # of the next result
        self._collects = not hold  # results may come though nobody has taken the last ones
        self._error: AudioSRError | None = None
        self._made: Audio | None = None
        self._accepted = False
        self._credit = CREDIT_BYTES
        self._owed = 0  # bytes of results that were taken and not given back yet
        self._dry_run = self._wants_parts = False
        self.first_out = 0  # output sample that the result begins at, once it is decided
        self._start = 0  # output sample from which on results are wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel it unless it has ended."""
        if not self.done():
            self.cancel()

    def done(self) -> bool:
        """Whether it has ended, well or not; what is left to take is here."""
        return self._error is not None or self.state in ENDED

    @property
    def decision(self) -> Decision | None:
        """What was decided for the sound, once that is known."""
        return None if self._decision is None else decision_from(self._decision)

    def decided(
        self, timeout: float | None = LOAD_SECONDS, on_step: Callable[[], None] | None = None
    ) -> Decision:
        """The decision, waited for.

        Args:
            on_step: called all along; raise from it to cancel
        """
        self.wait(lambda: self._decision is not None, timeout, on_step)
        assert self._decision is not None
        return decision_from(self._decision)

    def result(
        self, timeout: float | None = None, on_progress: Callable[[float], None] | None = None
    ) -> Audio:
        """The extended sound, waited for. After `chunks` has begun to give it away there is none.

        Args:
            timeout: in seconds; the job is cancelled when they are over
            on_progress: told the fraction done, all along; raise from it to cancel
        """
        if self._wants_parts:
            raise UsageError(
                "a job whose parts were wanted gives them by `pieces`, not by `result`"
            )
        self.collect()
        self.wait(self.done, timeout, on_progress and (lambda: on_progress(self.progress)))
        with self._changed:
            self._raise()
            if self._made is None:
                self._made = self._join()
        if on_progress is not None:
            on_progress(1.0)
        return self._made

    def chunks(
        self, timeout: float | None = None, on_step: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Samples]]:
        """Start and samples of each settled piece of the result, in order, as they come.

        From the first call on, the daemon waits for the pieces to be taken, so that a result of
        any length needs little memory.
        """
        return ((start, parts[0]) for start, parts in self.pieces(timeout, on_step))

    def pieces(
        self, timeout: float | None = None, on_step: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, tuple[Samples, ...]]]:
        """As `chunks`, with all parts that were wanted."""
        self.hold()
        while True:
            self.wait(lambda: self.has_piece or self.done(), timeout, on_step)
            piece = self.take()
            if piece is None:
                with self._changed:
                    self._raise()
                return
            yield piece

    def hold(self) -> None:
        """From now on the daemon waits for results to be taken."""
        with self._changed:
            self._collects = False

    def collect(self) -> None:
        """From now on results come whether or not they are taken: how a job begins."""
        with self._changed:
            self._collects = True
            owed = sum(size for _, _, size in self._results)
            self._results = deque((start, parts, 0) for start, parts, _ in self._results)
        self._give_back(owed)

    @property
    def has_piece(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._results)

    def take(self) -> tuple[int, tuple[Samples, ...]] | None:
        """The next piece, if it is here."""
        with self._changed:
            if not self._results:
                return None
            start, parts, owed = self._results.popleft()
        self._give_back(owed)
        return start, parts

    def send(
        self,
        block: Samples,
        timeout: float | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        """The next samples of a sound that comes in blocks; waits while too much is on its way."""
        size = self._upload.piece_samples
        for at in range(0, block.shape[1], size):
            self.wait(lambda: self._upload.has_room or self.done(), timeout, on_step)
            piece = block[:, at : at + size].copy()  # the caller may use its block again
            with self._changed:
                self._raise()
                self._upload.put(piece)
            self._session.wake(self)

    def end(self) -> None:
        """All samples have been sent."""
        with self._changed:
            self._upload.end()
        self._session.wake(self)

    def cancel(self) -> None:
        """The daemon stops at once; `result` raises CancelledError. Harmless if it has ended."""
        if self.done():
            return
        with contextlib.suppress(AudioSRError):  # it has just ended, or the daemon is gone
            self._session.ask("cancel", {"job": self.id}, CANCEL_SECONDS)
            with self._changed:  # until the device is free, so that the job may come again
                self._changed.wait_for(self.done, CANCEL_SECONDS)
        self._fail(CancelledError("the job was cancelled"))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have this called whenever something came, in a thread of the client: be quick."""
        self._listeners.append(listener)

    @property
    def received_samples(self) -> int:
        """How much of the result has come."""
        return self._next_start

    def check(self) -> None:
        """Raise the job's error, if it failed."""
        with self._changed:
            self._raise()

    def wait_a_while(self, ready: Callable[[], bool], seconds: float) -> None:
        """Until this is so or the time is over, whatever comes first."""
        with self._changed:
            self._changed.wait_for(ready, seconds)

    def wait(
        self,
        ready: Callable[[], bool],
        timeout: float | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        """Until this is so, or the job's error; whatever is raised meanwhile cancels the job."""
        deadline = None if timeout is None else time.monotonic() + timeout
        tick = 1.0 if on_step is None else TICK_SECONDS
        try:
            while True:
                with self._changed:
                    if ready():
                        return
                    self._raise()
                    if self.done():
                        raise ProtocolError("the daemon ended the job before it was complete")
                    left = tick if deadline is None else deadline - time.monotonic()
                    if left <= 0:
                        raise NoDaemonError(
                            f"the daemon did not get so far within {timeout:.3g} s, so the job was"
                            " cancelled; allow more time"
                        )
                    self._changed.wait(min(left, tick))
                if on_step is not None:
                    on_step()
        except BaseException:
            self.cancel()
            raise

    # ---- in the session's thread

    def heard(self, message: Message) -> None:
        """A message about this job."""
        with self._changed:
            if self._accepted or message.type == "accepted":  # else of an earlier life of the job
                getattr(self, f"_on_{message.type}", lambda _: None)(message)
            self._changed.notify_all()
        self._tell()

    def lost(self, error: BridgeError) -> None:
        """The daemon went away."""
        self._fail(error)

    def next(self) -> Outgoings | None:
        """The next audio to send."""
        with self._changed:
            if self.done():
                return None
            piece = self._upload.next(self._session.limits.frame_bytes)
            self._changed.notify_all()
        if piece is None:
            return None
        start, samples, last = piece
        frame, dtype = audio_frame(samples)
        meta = {
            "job": self.id,
            "start": start,
            "num_channels": samples.shape[0],
            "num_samples": samples.shape[1],
            "dtype": dtype,
            "last": last,
        }
        return "audio", meta, (frame,)

    def _on_accepted(self, message: Message) -> None:
        self._accepted = True
        self.state = message["state"]
        self._upload.begin(message["received"], message["complete"], message["credit_bytes"])
        self._session.wake(self)

    def _on_granted(self, message: Message) -> None:
        self._upload.credit += message["bytes"]
        self._session.wake(self)

    def _on_progress(self, message: Message) -> None:
        self.state, self.progress = message["state"], message["fraction"]
        self.eta = message["eta_seconds"]

    def _on_decided(self, message: Message) -> None:
        self.plan, self.model_sha256 = message["plan"], message["model_sha256"]
        self._decision = message["decision"]
        if not self._next_start:
            self.first_out = max(self._start, first_out(self.plan, self.sound))
            self._next_start = self.first_out
        if self._dry_run:
            self._finish({})

    def _on_partial(self, message: Message) -> None:
        if message["start"] != self._next_start:
            self._stop(f"a result at sample {message['start']} came, {self._next_start} was due")
            return
        self._next_start += message["num_samples"]
        parts = tuple(message.samples(i) for i in range(len(message.audio)))
        size = sum(len(frame) for frame in message.audio)
        if self._collects:
            self._give_back(size)
        if message["num_samples"]:
            self._results.append((message["start"], parts, 0 if self._collects else size))

    def _on_final(self, message: Message) -> None:
        self._finish(message["report"])

    def _on_error(self, message: Message) -> None:
        self._end(error_from(message["code"], message["text"]))

    def _finish(self, report: Mapping[str, Any]) -> None:
        self.state, self.progress, self.eta = "done", 1.0, 0.0
        self.report = report
        self._session.drop(self)
        self._session.tell("close", {"job": self.id})

    def _stop(self, why: str) -> None:
        self._end(ProtocolError(f"{why}; try again"))
        with contextlib.suppress(BridgeError):
            self._session.ask_later("cancel", {"job": self.id})

    # ---- in any thread

    def _submit(self, spec: Mapping[str, Any], timeout: float) -> None:
        credit = self._credit = min(CREDIT_BYTES, self._session.limits.credit_bytes)
        self.settings = spec["settings"]
        self._dry_run, self._wants_parts = spec["dry_run"], spec["want"] == "parts"
        self._start = spec["start"]
        try:
            asked = self._session.ask_later(
                "submit", {**spec, "job": self.id, "credit_bytes": credit}, on="work"
            )
            self._session.answer(asked, timeout)
        except BaseException as error:
            if not isinstance(error, AudioSRError):
                self.cancel()
            self._session.drop(self)
            raise

    def _give_back(self, size: int) -> None:
        """Credit for what was taken; not for every block, but long before there is none."""
        with self._changed:
            self._owed += size
            if self._owed < self._credit // CREDIT_SHARE:
                return
            owed, self._owed = self._owed, 0
        self._session.tell("credit", {"job": self.id, "bytes": owed})

    def _fail(self, error: AudioSRError) -> None:
        with self._changed:
            self._end(error)
            self._changed.notify_all()
        self._tell()

    def _end(self, error: AudioSRError) -> None:
        if not self.done():
            self._error = error
            self.state = "cancelled" if isinstance(error, CancelledError) else "failed"
            self.eta = None
            self._session.drop(self)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _join(self) -> Audio:
        """All pieces as one sound; each is let go of as soon as it is copied."""
        if self._results and self._results[0][0]:
            raise UsageError("the beginning of this result was taken by `chunks` already")
        rate = decision_from(self._decision or {}).rate_out
        if not self._results:
            shape = (self.sound.num_channels, 0)
            return Audio(np.zeros(shape, DTYPES[self.sound.dtype]), rate)
        first = self._results[0][1][0]
        made = np.empty((first.shape[0], self._next_start), first.dtype)
        while self._results:
            start, parts, _ = self._results.popleft()
            made[:, start : start + parts[0].shape[1]] = parts[0]
        return Audio(made, rate)


def first_out(plan: Mapping[str, Any], sound: Sound) -> int:
    """Output sample that the result begins at: of the grid, at or before the origin."""
    if not sound.origin or sound.live:  # which has no chunks, and begins where its sound does
        return sound.origin
    return int(sound.origin // plan["stride_in"] * plan["stride_out"])


def decision_from(values: Mapping[str, Any]) -> Decision:
    """A decision as it travels; ProtocolError if it is none."""
    from audiosr_core.cutoff import Cutoff
    from audiosr_core.decision import Decision

    try:
        known = {name: values[name] for name in Decision.__dataclass_fields__ if name in values}
        cutoff = {name: known["cutoff"][name] for name in Cutoff.__dataclass_fields__}
        return Decision(**{**known, "cutoff": Cutoff(**cutoff), "skipped": tuple(known["skipped"])})
    except (KeyError, TypeError) as error:
        raise ProtocolError(f"the daemon's decision makes no sense: {error}") from error
