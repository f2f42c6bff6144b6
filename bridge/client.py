"""The client: what a program in need of a high band talks to. No torch, no model, no scipy.

    with connect(start=True) as client:
        extended = client.extend(audio, settings)              a sound, a sound
        job = client.submit(path, settings)                    .progress .eta .result() .chunks()
        stream = client.open(48_000, 2, settings)              push, push, …, flush

A client is a small thing that all threads may share. It finds the daemon, and after a restart of
the daemon it finds it again with the next call; what was waiting is told that the daemon is gone.
A job submitted again goes on where it was, for a job is known by its sound and its settings; one
that may outlive its client goes on for any client.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from audiosr_core.audio import Audio, Samples, check_finite, check_format
from audiosr_core.errors import AudioError, AudioSRError, FileError, UsageError
from audiosr_core.settings import Settings
from bridge.errors import (
    BridgeError,
    CancelledError,
    NoDaemonError,
    ProtocolError,
    error_from,
)
from bridge.jobs import ENDED, job_id
from bridge.protocol import DTYPES, Message, audio_frame
from bridge.session import Events, Outgoings, Session

if TYPE_CHECKING:
    from audiosr_core.decision import Decision
    from bridge.connection import Connection

CONNECTION_VARIABLE = "AUDIOSR_BRIDGE_CONNECTION"
PATH_BYTES = 4 << 20  # smaller files travel inline
PIECE_BYTES = 1 << 20  # of audio in one message: one is signed while another is on its way
CREDIT_BYTES = 16 << 20  # of results that may be on their way or wait to be taken
CREDIT_SHARE = 8  # credit is given back when there is this fraction of it
QUEUE_BYTES = 4 << 20  # of blocks that wait to be sent
TICK_SECONDS = 0.02  # how often somebody who waits looks whether to cancel
CANCEL_SECONDS = 1.0
LOAD_SECONDS = 300.0  # until a model is loaded, and a stream or a job is decided

Priority = Literal["audition", "interactive", "batch"]
Policy = Literal["cancel", "finish", "hold"]
Want = Literal["sound", "parts"]


def connect(
    connection: Connection | Path | None = None,
    *,
    start: bool = False,
    timeout_seconds: float = 10.0,
    name: str = "python",
) -> Client:
    """A client of the daemon that runs, or of another one.

    Args:
        connection: a connection or its file; None for the file that AUDIOSR_BRIDGE_CONNECTION
            names, else for the daemon of this user
        start: start the daemon of this user if it does not run
        timeout_seconds: for a daemon to start and to answer
        name: what the daemon's log shall call this client

    Raises:
        NoDaemonError: none runs, or it does not answer
        VersionError: it is of another major version
    """

    def find() -> Connection:
        return _find(connection, start, timeout_seconds)

    return Client(find, name=name, timeout_seconds=timeout_seconds)


def _find(connection: Connection | Path | None, start: bool, timeout_seconds: float) -> Connection:
    from bridge import lifecycle
    from bridge.connection import Connection

    if isinstance(connection, Connection):
        return connection
    named = connection or os.environ.get(CONNECTION_VARIABLE)
    if named:
        return Connection.read(Path(named))
    found = lifecycle.connect_or_start(timeout=timeout_seconds) if start else lifecycle.find()
    if found is None:
        raise NoDaemonError(
            "no daemon is running; start one with `audiosr-bridge daemon start`, or connect with"
            " start=True"
        )
    return found


class Client:
    """What talks to a daemon. Any thread may use it; `close` it, or use it in a `with`.

    Args:
        find: where the daemon is now; asked again after it went away
    """

    def __init__(
        self,
        find: Callable[[], Connection],
        *,
        name: str = "python",
        timeout_seconds: float = 10.0,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._find, self._name = find, name
        self._lock = threading.Lock()
        self._nobody_elses = secrets.token_hex(16)
        self._closed = False
        self._session: Session | None = self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye; jobs that still run are treated as their `on_disconnect` says."""
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()

    @property
    def session(self) -> Session:
        """The session of now; another one is begun if the daemon went away."""
        with self._lock:
            if self._closed:
                raise NoDaemonError("this client is closed; connect another")
            if self._session is None or not self._session.alive:
                if self._session is not None:
                    self._session.close()
                    self._session = None
                self._session = self._begin()
            return self._session

    def _begin(self) -> Session:
        """With the daemon that is there; one that has just died looks alive for a moment."""
        found = self._find()
        try:
            return Session(found, self._name, self.timeout_seconds)
        except NoDaemonError:
            again = self._find()
            if again == found:
                raise
            return Session(again, self._name, self.timeout_seconds)

    @property
    def connection(self) -> Connection:
        return self.session.connection

    @property
    def is_local(self) -> bool:
        """Whether daemon and client see the same files."""
        return self.connection.endpoints.is_local

    # ---- the daemon

    def ping(self) -> float:
        """Seconds to the daemon and back."""
        began = time.perf_counter()
        self._ask("ping")
        return time.perf_counter() - began

    def status(self) -> dict[str, Any]:
        """Version, device, models, jobs, memory: what the daemon says of itself."""
        return dict(self._ask("status")["status"])

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that the daemon knows, those of other clients included."""
        return list(self._ask("list_jobs")["jobs"])

    def cancel(self, job: str) -> str:
        """Cancel a job by its id; the state that it is in now. JobError if there is none."""
        return str(self._ask("cancel", {"job": job})["state"])

    def unload(self) -> None:
        """Let the daemon give the model's memory back; the next job loads it again."""
        self._ask("unload")

    def stop_daemon(self) -> int:
        """Ask the daemon to stop; its pid. It ends by itself within two seconds."""
        return int(self._ask("stop")["pid"])

    def events(self, topics: Sequence[str] = ("",)) -> Events:
        """What the daemon says to all, until it or this client goes away.

        Args:
            topics: beginnings of topics, "job." or "daemon" say; all by default
        """
        session = self.session
        return Events(session, topics, lambda: session.alive)

    def _ask(self, type: str, meta: Mapping[str, Any] | None = None) -> Message:
        return self.session.ask(type, meta, self.timeout_seconds)

    # ---- sounds

    def extend(
        self,
        audio: Audio | str | os.PathLike[str],
        settings: Settings | None = None,
        *,
        priority: Priority = "interactive",
        on_progress: Callable[[float], None] | None = None,
        timeout: float | None = None,
    ) -> Audio:
        """The sound with its missing high band, as `Engine.extend` gives it.

        For a file that shall stay a file, see `extend_file` and `RemoteEngine`.

        Args:
            audio: a sound, or the path of a file that holds one
            on_progress: told the fraction done, all along; raise from it to cancel
            timeout: in seconds; None waits as long as the daemon lives
        """
        with self.submit(audio, settings, priority=priority) as job:
            return job.result(timeout, on_progress)

    def submit(
        self,
        audio: Audio | str | os.PathLike[str],
        settings: Settings | None = None,
        *,
        priority: Priority = "interactive",
        on_disconnect: Policy = "cancel",
        region: tuple[int, int] | None = None,
        decision: Decision | None = None,
        want: Want = "sound",
        dry_run: bool = False,
        instance: str | None = None,
    ) -> Job:
        """Begin to extend a sound; the job says how far it is.

        Args:
            on_disconnect: what becomes of the job if this client goes away without a word
            region: input samples start, stop; nothing is added outside
            decision: as another job decided it; None to measure the sound
            want: the extended sound, or "parts": the original and the high band apart
            dry_run: stop once it is decided
            instance: whose job it is, for events
        """
        sound = audio if isinstance(audio, Audio) else self._sound(Path(audio))
        if isinstance(sound, Audio):
            sound = Sound.of(sound)
        return self.begin(
            sound, settings or Settings(), priority=priority, on_disconnect=on_disconnect,
            region=region, decision=decision, want=want, dry_run=dry_run, instance=instance,
        )  # fmt: skip

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings | None = None,
        decision: Decision | None = None,
        *,
        dtype: np.dtype[np.floating] | type[np.floating] = np.float32,
        priority: Priority = "interactive",
        on_disconnect: Policy = "cancel",
        instance: str | None = None,
    ) -> RemoteStream:
        """A stream for one sound whose end is not known yet; the twin of `Engine.open`.

        Args:
            decision: as `analyse` made it; None follows the cutoff all along
            dtype: of the blocks that will be pushed, float32 or float64
        """
        name = "f8" if np.dtype(dtype) == np.float64 else "f4"
        job = self.begin(
            Sound.stream(sample_rate, num_channels, name), settings or Settings(),
            priority=priority, on_disconnect=on_disconnect, decision=decision, instance=instance,
            hold=True,
        )  # fmt: skip
        return RemoteStream(job)

    def begin(
        self,
        sound: Sound,
        settings: Settings,
        *,
        priority: Priority = "interactive",
        on_disconnect: Policy = "cancel",
        region: tuple[int, int] | None = None,
        decision: Decision | None = None,
        want: Want = "sound",
        dry_run: bool = False,
        instance: str | None = None,
        hold: bool = False,
    ) -> Job:
        """As `submit`, for a sound that may still be on its way; with `hold` see `Job.chunks`."""
        session = self.session
        decided = None if decision is None else dataclasses.asdict(decision)
        spec: dict[str, Any] = {
            "source": sound.source,
            "sample_rate": sound.sample_rate,
            "num_channels": sound.num_channels,
            "num_samples": sound.num_samples,
            "dtype": sound.dtype,
            "settings": settings.as_dict(),
            "decision": decided,
            "region": None if region is None else list(region),
            "want": want,
            "start": 0,
            "dry_run": dry_run,
            "priority": priority,
            "on_disconnect": on_disconnect,
            "instance": instance,
        }
        if sound.path is not None:
            spec["path"] = os.fspath(sound.path)
        what = {**spec["settings"], "want": want, "dry_run": dry_run}
        if on_disconnect == "cancel":  # it ends with this client: no other one may take it over
            what["client"] = self._nobody_elses
        for again in range(1000):  # the same job twice in one session: its messages would mix
            id = job_id(
                sound.content if not again else f"{sound.content} {again}",
                sound.sample_rate, sound.num_channels, sound.num_samples or 0,
                what, region, decided,
            )  # fmt: skip
            job = Job(session, id, sound, hold)
            if session.open(job):
                break
        job._submit(spec, self.timeout_seconds)
        return job

    def _sound(self, path: Path) -> Audio | Sound:
        from audiosr_core.files import Reader

        with Reader(path) as reader:
            info = reader.info
            if self.is_local and path.stat().st_size > PATH_BYTES:
                return Sound.at(path, info.sample_rate, info.num_channels, info.num_samples)
            return Audio(reader.read(0, info.num_samples), info.sample_rate)


@dataclass(eq=False)
class Sound:
    """What a job is about, and how its samples get to the daemon."""

    source: Literal["inline", "path", "stream"]
    sample_rate: int
    num_channels: int
    num_samples: int | None  # None while nobody knows
    dtype: str
    content: str  # what identifies the samples
    path: Path | None = None
    samples: Samples | None = None  # all of them, if they are there already

    @classmethod
    def of(cls, audio: Audio) -> Sound:
        """A sound in memory."""
        x = audio.samples
        _, dtype = audio_frame(x[:, :0])
        digest = hashlib.sha256(dtype.encode())
        for channel in np.asarray(x, DTYPES[dtype]):
            digest.update(np.ascontiguousarray(channel).data)
        return cls(
            "inline", audio.sample_rate, audio.num_channels, audio.num_samples, dtype,
            digest.hexdigest(), samples=x,
        )  # fmt: skip

    @classmethod
    def stream(cls, sample_rate: int, num_channels: int, dtype: str) -> Sound:
        """A sound that will come in blocks, nobody knows how many."""
        check_format(sample_rate, num_channels)
        return cls("stream", sample_rate, num_channels, None, dtype, secrets.token_hex(16))

    @classmethod
    def at(cls, path: Path, sample_rate: int, num_channels: int, num_samples: int) -> Sound:
        """A file that the daemon reads by itself."""
        real = Path(os.path.realpath(path))
        return cls("path", sample_rate, num_channels, num_samples, "f8", identity(real), real)


def identity(path: Path) -> str:
    """Changes when the file does: place, size, time of its last change, inode."""
    try:
        real = os.path.realpath(path)
        now = os.stat(real)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    text = "\0".join((real, str(now.st_size), str(now.st_mtime_ns), str(now.st_ino)))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


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
        self._upload = _Upload(sound)
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


class _Upload:
    """Samples on their way to the daemon, no more at a time than it grants."""

    def __init__(self, sound: Sound) -> None:
        self.credit = 0  # bytes
        self._sound = sound
        self._begun = False
        self._ended = sound.samples is not None
        self._over = sound.source == "path"
        self._blocks: deque[Samples] = deque()
        self._place = 0  # sample at which the first of them starts
        self._queued = 0  # end of the last of them
        self._start = 0  # next sample to send
        if sound.samples is not None:
            self.put(sound.samples)

    @property
    def _frame_bytes(self) -> int:
        return self._sound.num_channels * DTYPES[self._sound.dtype].itemsize

    @property
    def piece_samples(self) -> int:
        """Of a block that makes one message."""
        return max(1, PIECE_BYTES // self._frame_bytes)

    @property
    def has_room(self) -> bool:
        return (self._queued - self._start) * self._frame_bytes < QUEUE_BYTES

    def put(self, block: Samples) -> None:
        self._blocks.append(np.asarray(block, DTYPES[self._sound.dtype]))
        self._queued += block.shape[1]

    def end(self) -> None:
        self._ended = True

    def begin(self, received: int, complete: bool, credit: int) -> None:
        """The daemon has these already."""
        self._begun = True
        self._start, self.credit = received, credit
        self._over = self._over or complete

    def next(self, most_bytes: int) -> tuple[int, Samples, bool] | None:
        """Start, samples and whether they are the last, as many as may go."""
        if not self._begun or self._over:
            return None
        while self._blocks and self._place + self._blocks[0].shape[1] <= self._start:
            self._place += self._blocks.popleft().shape[1]
        if not self._blocks:
            self._over = self._ended
            nothing = np.zeros((self._sound.num_channels, 0), DTYPES[self._sound.dtype])
            return (self._start, nothing, True) if self._over else None
        room = min(self.credit, PIECE_BYTES, most_bytes) // self._frame_bytes
        if room < 1:
            return None
        skip = self._start - self._place
        samples = self._blocks[0][:, skip : skip + room]
        start, self._start = self._start, self._start + samples.shape[1]
        self.credit -= samples.shape[1] * self._frame_bytes
        self._over = self._ended and self._start >= self._queued
        return start, samples, self._over


class RemoteStream:
    """One sound whose end is not known yet: blocks in, settled samples out, as `Stream` has it.

    All pushes and the flush joined are what the stream of an engine gives for the same decision.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._pushed = 0
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
        if samples.ndim != 2 or samples.shape[0] != sound.num_channels:
            raise AudioError(
                f"a block must be [{sound.num_channels}, samples], got {list(samples.shape)}"
            )
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
