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

import dataclasses
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from audiosr_core.audio import Audio
from audiosr_core.errors import UsageError
from audiosr_core.settings import Settings
from bridge.client_job import Job
from bridge.errors import (
    NoDaemonError,
)
from bridge.jobs import Priority as Priority
from bridge.jobs import job_id
from bridge.protocol import Message
from bridge.remote_stream import RemoteStream
from bridge.session import Events, Session
from bridge.sound import Sound, travels_as_path

if TYPE_CHECKING:
    from audiosr_core.decision import Decision
    from bridge.connection import Connection

CONNECTION_VARIABLE = "AUDIOSR_BRIDGE_CONNECTION"

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
        if not isinstance(audio, Audio | str | os.PathLike):
            raise UsageError(
                f"a sound is an Audio or the path of a file, got {type(audio).__name__}; for an"
                " array: Audio.of(samples, sample_rate)"
            )
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
        origin: int = 0,
        start: int = 0,
        live: bool = False,
    ) -> RemoteStream:
        """A stream for one sound whose end is not known yet; the twin of `Engine.open`.

        Args:
            decision: as `analyse` made it; None follows the cutoff all along
            dtype: of the blocks that will be pushed, float32 or float64
            origin: place of the first sample that will be pushed; see `Stream`
            start: results are wanted from this output sample on
            live: with little latency, by a model that can; see `Engine.open_live`
        """
        name = "f8" if np.dtype(dtype) == np.float64 else "f4"
        job = self.begin(
            Sound.stream(sample_rate, num_channels, name, origin, live), settings or Settings(),
            priority=priority, on_disconnect=on_disconnect, decision=decision, instance=instance,
            hold=True, start=start,
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
        start: int = 0,
    ) -> Job:
        """As `submit`, for a sound that may still be on its way; with `hold` see `Job.chunks`."""
        if not isinstance(settings, Settings):
            raise UsageError(
                f"settings are a Settings, got {type(settings).__name__}; from a dict:"
                " Settings(**values)"
            )
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
            "start": start,
            "dry_run": dry_run,
            "priority": priority,
            "on_disconnect": on_disconnect,
            "instance": instance,
        }
        if sound.path is not None:
            spec["path"] = os.fspath(sound.path)
        if sound.origin or sound.live:
            session.check_minor(1, "streams that begin anywhere or are live")
            spec |= {"origin": sound.origin, "live": sound.live}
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
            if self.is_local and travels_as_path(path):
                return Sound.at(path, info.sample_rate, info.num_channels, info.num_samples)
            return Audio(reader.read(0, info.num_samples), info.sample_rate)
