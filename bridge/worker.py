"""The worker: the process that owns the engine; `python -m bridge.worker --fd N ...`.

    daemon ═ pipe ═ reader thread ── inbox ── main thread ── the walk, a chunk at a time
                          │                        │
                          └── cancel, end of pipe ─┴─ seen at every step

The walk is the one of `audiosr_core`, so the samples are those of an engine in-process: analyse
once, then push blocks and take what settles. Every command of a job but `close` has one answer:

    open       none, or error
    analyse    decided · error                    what the whole sound is like
    next       made · starved · ended · error     the next chunk that has settled; a large one
                                                  comes as several `made`, all but the last
                                                  of them with `more`
    cancel     cancelled                          and no answer to what was asked before
    close      none

After an `error` the job is forgotten, and what is still asked of it is ignored. While one job is
analysed, commands of other jobs have their turn between its blocks. The worker ends with its pipe,
or with `stop`, at once and in the middle of whatever it does.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import logging
import os
import signal
import socket
import stat
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from audiosr_core.audio import Audio, Samples, check_format
from audiosr_core.errors import AudioError, AudioSRError, FileError, RegionError, UsageError
from audiosr_core.resample import output_length
from audiosr_core.settings import keep_rate, settings_from
from bridge.cache import CachedCompute, ChunkCache, cached, sound_key
from bridge.errors import CancelledError, JobError, WorkerError, code_of
from bridge.jobs import ANALYSIS
from bridge.pipe import Buffer, Framer, PipeMessage, pack
from bridge.protocol import DTYPES
from bridge.spool import SpoolReader, StreamReader
from bridge.worker_engine import (
    ChunkEngine,
    ChunkStream,
    LiveStream,
    Pieces,
    RealEngine,
    Sound,
    as_dict,
    free_memory,
    is_broken_device,
    is_out_of_memory,
    patient,
)

if TYPE_CHECKING:
    from audiosr_core.files import Reader

BLOCK_SECONDS = 2  # of what is read at once; it changes no bit
PROGRESS_SECONDS = 0.1  # between two of them
WORKING_SECONDS = 0.5  # after so long in a chunk it says that it is at work
PUBLISHED_SECONDS = 10.24  # of the pieces in which a result of reference mode is handed over
PIECE_BYTES = 512 << 10  # of one `made`: the daemon signs one while the next is on its way
MAX_NESTED = 4  # analyses that may wait for one another
IDLE_SECONDS = 1.0  # then memory that was freed is given back
EXIT_BROKEN_DEVICE = 70

NO_FOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
VIRTUAL = ("/proc", "/sys")  # file systems of questions, not of sounds


# ---- where a sound comes from


class Source(Protocol):
    """A sound that is there, or arriving."""

    @property
    def num_samples(self) -> int: ...

    def read(self, start: int, stop: int) -> Samples: ...

    def close(self) -> None: ...


class FileSource:
    """A sound file, opened once: what becomes of its path afterwards does not matter.

    Raises:
        FileError: not an absolute path of a regular file of a sound like this
    """

    def __init__(self, path: str, sample_rate: int, num_channels: int) -> None:
        from audiosr_core.files import Reader

        descriptor = open_regular(path)
        self._reader: Reader = Reader(path, open(descriptor, "rb"))  # noqa: SIM115
        info = self._reader.info
        if (info.sample_rate, info.num_channels) != (sample_rate, num_channels):
            self.close()
            raise FileError(
                f"{path} must have {num_channels} channels at {sample_rate} Hz as was said, it has"
                f" {info.num_channels} at {info.sample_rate} Hz; send it again"
            )
        self.num_samples = info.num_samples
        self.read = self._reader.read

    def close(self) -> None:
        self._reader.close()


def open_regular(path: str) -> int:
    """A descriptor of a regular file that no link led to; FileError says why not."""
    parts = Path(path).parts
    if not path.startswith("/") or ".." in parts or "\0" in path:
        raise FileError(
            f"{path[:200]!r} must be an absolute path without '..'; give the whole path"
        )
    if any(path == one or path.startswith(f"{one}/") for one in VIRTUAL):
        raise FileError(f"{path} is no file on a disk; a sound file was wanted")
    try:
        _check_regular(path, os.lstat(path))  # a device is not even opened
        descriptor = os.open(path, NO_FOLLOW)
    except OSError as error:
        raise FileError(
            f"{path} cannot be read: {error.strerror or error}; check its name and rights"
        ) from error
    try:
        now = os.fstat(descriptor)
        _check_regular(path, now)
        if any(os.path.ismount(one) and os.stat(one).st_dev == now.st_dev for one in VIRTUAL):
            raise FileError(f"{path} is no file on a disk; a sound file was wanted")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(path: str, now: os.stat_result) -> None:
    if stat.S_ISLNK(now.st_mode):
        raise FileError(f"{path} is a symbolic link; give the path of the file itself")
    if not stat.S_ISREG(now.st_mode):
        raise FileError(f"{path} is not a regular file; a sound file was wanted")


# ---- one job


@dataclass(frozen=True)
class Made:
    """A piece of what has settled; empty where nobody wants it."""

    chunk: int
    start: int  # output sample
    parts: dict[str, Samples]
    cached: bool
    more: bool = False  # of the same chunk

    @property
    def num_samples(self) -> int:
        return int(next(iter(self.parts.values())).shape[1])


class Starved:
    """More input is needed."""


class Ended:
    """There is nothing more."""


class Job:
    """One sound on its way through the walk."""

    def __init__(self, command: PipeMessage, engine: ChunkEngine) -> None:
        """Raises AudioSRError where the command asks for what cannot be."""
        self.id: str = command["job"]
        self.sample_rate: int = command["sample_rate"]
        self.num_channels: int = command["num_channels"]
        self.settings = settings_from(command["settings"])
        self.sent_decision: Mapping[str, Any] | None = command.get("decision")
        self.want: str = command.get("want", "sound")
        self.start: int = command.get("start") or 0
        self.streams: bool = command.get("stream", False)
        self.origin: int = command.get("origin") or 0
        self.live: bool = command.get("live", False)
        region = command.get("region")
        self.region: tuple[int, int] | None = (region[0], region[1]) if region else None
        check_format(self.sample_rate, self.num_channels)
        if self.published:
            self._check_published()
        if self.region and not self.sent_decision:  # a decision has its rate
            self.settings = keep_rate(self.settings)
        self.expected: int | None = command["source"].get("num_samples")
        self.source: Source = self._open(command["source"])
        self.engine = engine.on_sound(
            Sound(
                command["source"].get("dtype", "f8"),
                None if self.streams else self.source.num_samples,
                self.region,
                self.start,
                command.get("priority", "interactive"),
            )
        )
        self.decision: Any = None
        self.stream: ChunkStream | LiveStream | None = None
        self.compute: CachedCompute | None = None
        self.total_out: int | None = None
        self.first_chunk = self.num_chunks = 0  # number of the first; that came out so far
        self.seconds = 0.0  # spent on it
        self.notes: list[str] = []
        self.cutoff_hz = 0.0
        self.told_at, self.told = time.monotonic(), 0.0  # the progress: fraction
        self.model_sha256 = ""
        self._pushed = self.origin
        self._done = 0  # where the next piece begins, in output samples
        self._flushed = False
        self.hits = 0
        self.is_held = False  # a whole result is kept: reference mode
        self._parts: Pieces | None = None
        self._pieces: deque[Made] = deque()

    @property
    def published(self) -> bool:
        return self.settings.mode == "reference"

    @property
    def num_samples(self) -> int | None:
        """Of the whole sound; None while a stream has no end."""
        return None if self.streams else self.source.num_samples

    def check_whole(self) -> int:
        """How many samples the sound has; AudioError where some have not arrived."""
        there = self.source.num_samples
        if self.expected is not None and there != self.expected:
            raise AudioError(
                f"the sound must have {self.expected} samples, {there} are there; send it again"
            )
        if self.region:
            start, stop = self.region
            if not 0 <= start < stop or start >= there:
                raise RegionError(
                    f"a region must lie inside the sound, samples 0 to {there}, and end after it"
                    f" starts; got {start} to {stop}"
                )
            self.region = start, min(stop, there)
        return there

    def begin(self, stream: ChunkStream | LiveStream, first_out: int, first_chunk: int) -> None:
        """From now on `next` has something to give, from there on."""
        self.stream, self._done, self.first_chunk = stream, first_out, first_chunk

    def plan(self) -> dict[str, Any]:
        """Where its results will come."""
        assert self.stream is not None
        plan, total = self.stream.plan, self.num_samples
        return {
            "rate_in": plan.rate_in,
            "rate_out": plan.rate_out,
            "stride_in": plan.at(plan.stride, plan.rate_in),
            "stride_out": plan.at(plan.stride, plan.rate_out),
            "first_end_in": plan.at(plan.slice(0)[1], plan.rate_in),
            "past_in": plan.at(plan.reach, plan.rate_in),
            "num_chunks": None if total is None else plan.num_chunks(total),
            "num_samples_out": self.total_out,
            "latency_samples": self.stream.latency_samples,
        }

    def next(self, received: int, complete: bool) -> Made | Starved | Ended:
        """The next piece; computes a chunk where none is left over."""
        assert self.stream is not None
        while not self._pieces:
            if self._parts is not None:
                assert self.compute is not None
                self.compute.last_cached = False
                part = next(self._parts, None)
                if part is not None:
                    self._take(*part)
                    break
                self._parts = None
                if self._flushed:
                    return Ended()
            block = self._block(received)
            if block.shape[1]:
                self._pushed += block.shape[1]
                self._parts = self.stream.push_split(block)
            elif complete:
                self._parts, self._flushed = self.stream.flush_split(), True
            else:
                return Starved()
        return self._pieces.popleft()

    def next_live(self, received: int, complete: bool) -> Made | Starved | Ended:
        """All that settles by what has come, at once."""
        assert self.stream is not None
        if received > self._pushed:
            parts = list(self.stream.push_split(self.source.read(self._pushed, received)))
            self._pushed = received
        elif not complete:
            return Starved()
        elif not self._flushed:
            parts, self._flushed = list(self.stream.flush_split()), True
        else:
            return Ended()
        if not parts:
            return Starved()
        original, high = (np.concatenate(one, axis=1) for one in zip(*parts, strict=True))
        self._take(original, high)
        return self._pieces.popleft()

    def hold(self, made: Samples, size: int) -> None:
        """Keep a whole result, to be handed over in pieces of `size`."""
        for at in range(0, made.shape[1], size):
            self._cut({"sound": made[:, at : at + size]})

    def pop(self) -> Made | Ended:
        """The next piece of what is kept."""
        return self._pieces.popleft() if self._pieces else Ended()

    def close(self) -> None:
        self.source.close()
        self.engine.close()

    def _block(self, received: int) -> Samples:
        stop = min(received, self._pushed + BLOCK_SECONDS * self.sample_rate)
        return self.source.read(self._pushed, max(stop, self._pushed))

    def _take(self, original: Samples, high: Samples) -> None:
        if self.want == "sound":
            parts = {"sound": _sum(original, high).astype(original.dtype, copy=False)}
        elif self.decision.rate_out == self.sample_rate:
            parts = {"high": high}
        else:
            parts = {"original": original, "high": high.astype(original.dtype)}
        self._cut(parts)

    def _cut(self, parts: dict[str, Samples]) -> None:
        """What nobody wants goes; the rest in pieces that a message can hold."""
        first = next(iter(parts.values()))
        size, chunk = first.shape[1], self.first_chunk + self.num_chunks
        hit = self.compute is not None and self.compute.last_cached
        lead = min(size, max(0, self.start - self._done))
        most = max(1, PIECE_BYTES // (first.shape[0] * first.dtype.itemsize))
        for at in range(lead, max(size, lead + 1), most):
            end = min(at + most, size)
            cut = {name: part[:, at:end] for name, part in parts.items()}
            self._pieces.append(Made(chunk, self._done + at, cut, hit, more=end < size))
        self._done += size
        self.num_chunks += 1

    def _open(self, source: Mapping[str, Any]) -> Source:
        if source["kind"] == "file":
            return FileSource(source["path"], self.sample_rate, self.num_channels)
        kind = StreamReader if source["kind"] == "stream" else SpoolReader
        return kind(Path(source["path"]), self.num_channels, source.get("dtype", "f4"))

    def _check_published(self) -> None:
        if self.region:
            raise RegionError("reference mode takes a whole file; leave the region out")
        if self.streams:
            raise UsageError(
                "reference mode takes a whole sound at once and cannot stream; extend a file or an"
                " array with it, or use the product mode"
            )


def _sum(original: Samples, high: Samples) -> Samples:
    """Both; where nothing is added, the original to the bit (−0.0 included)."""
    if not high.any():
        return original
    sound = original + high
    if not sound.all():  # only a zero may have lost its sign
        np.copyto(sound, original, where=high == 0)
    return sound


# ---- the process


class Inbox:
    """Commands as they arrive, and who was cancelled. Filled by one thread, emptied by another."""

    def __init__(self) -> None:
        self._commands: deque[PipeMessage] = deque()
        self._cancelled: set[str] = set()
        self._changed = threading.Condition()

    def put(self, command: PipeMessage) -> None:
        """At the end; a `cancel` at the front, in place of all that was asked of its job."""
        job = command.get("job")
        with self._changed:
            if command["do"] == "cancel":
                kept = [one for one in self._commands if one.get("job") != job]
                self._commands = deque([command, *kept])
                self._cancelled.add(job)
            else:
                self._commands.append(command)
            self._changed.notify()

    def take(self, seconds: float) -> PipeMessage | None:
        """The next command; None after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._commands, seconds)
            return self._commands.popleft() if self._commands else None

    def take_other(self, busy: Sequence[str]) -> PipeMessage | None:
        """The next command of a job that is not one of these, if it is there now."""
        with self._changed:
            for command in self._commands:
                if command.get("job") not in busy:
                    self._commands.remove(command)
                    return command
        return None

    def is_cancelled(self, job: str) -> bool:
        return job in self._cancelled

    def forget(self, job: str) -> None:
        """The cancel of this job was answered."""
        with self._changed:
            self._cancelled.discard(job)


@dataclass
class Pipe:
    """The worker's end: messages out, from any thread."""

    socket: socket.socket
    sending: threading.Lock = field(default_factory=threading.Lock)

    def send(self, values: Mapping[str, Any], audio: Sequence[Buffer] = ()) -> None:
        buffers = pack(values, audio)
        with self.sending:
            for one in buffers:
                self.socket.sendall(one)

    def read_into(self, inbox: Inbox) -> None:
        """Until the other end closes or says `stop`: the body of the reader thread."""
        framer = Framer()
        while count := self.socket.recv_into(framer.space()):
            message = framer.filled(count)
            if message is not None and message["do"] == "stop":
                return
            if message is not None:
                inbox.put(message)


class Worker:
    """Commands in, answers out; see the module's text."""

    def __init__(self, pipe: Pipe, inbox: Inbox, engine: ChunkEngine, cache: ChunkCache) -> None:
        self._pipe, self._inbox, self._engine, self._cache = pipe, inbox, engine, cache
        self._jobs: dict[str, Job] = {}
        self._failed: set[str] = set()
        self._busy: list[str] = []  # the jobs whose commands are being done, outermost first

    def run(self) -> None:
        """For ever: the reader thread ends the process."""
        is_tidy = True
        while True:
            command = self._inbox.take(IDLE_SECONDS)
            if command is not None:
                self._do(command)
            elif not is_tidy:
                free_memory()
            is_tidy = command is None

    def _do(self, command: PipeMessage) -> None:
        do, id = command["do"], command["job"]
        if do == "cancel":
            self._close(id)
            self._inbox.forget(id)
            self._pipe.send({"is": "cancelled", "job": id})
            return
        if do == "close" or do == "open":
            self._close(id)
        if do == "close" or id in self._failed:
            return
        self._busy.append(id)
        began = time.monotonic()
        try:
            if do == "open":
                self._jobs[id] = Job(command, self._engine)
                return
            job = self._jobs.get(id)
            if job is None:
                raise JobError(f"there is no job {id!r} in the worker; open it first")
            if do == "analyse":
                self._analyse(job)
            elif do == "next":
                self._next(job, command.get("received", 0), command.get("complete", True))
            else:
                raise WorkerError(f"a command must be one of those above, got {do!r}")
            job.seconds += time.monotonic() - began
        except CancelledError:
            self._close(id)  # the cancel itself is at the front of the inbox, and is answered next
        except Exception as error:
            self._fail(id, error)
        finally:
            self._busy.pop()

    def _fail(self, id: str, error: Exception) -> None:
        code, text = code_of(error), str(error)
        if is_out_of_memory(error) and not isinstance(error, AudioSRError):
            code, text = "E_DEVICE", f"memory ran out ({_named(error)}); close other programs"
        elif not isinstance(error, AudioSRError):
            traceback.print_exc()
            code, text = "E_INTERNAL", _named(error)
            if is_broken_device(error):  # only a new process can use the device again
                sys.stderr.flush()
                os._exit(EXIT_BROKEN_DEVICE)
        self._close(id)
        self._failed.add(id)
        self._pipe.send({"is": "error", "job": id, "code": code, "text": text[:4096]})

    def _close(self, id: str) -> None:
        self._failed.discard(id)
        job = self._jobs.pop(id, None)
        if job is not None:
            job.close()

    # ---- commands

    def _analyse(self, job: Job) -> None:
        on_step = self._on_step(job)
        on_step()
        if not job.streams:
            job.check_whole()
        self._load(job)
        on_step()
        if job.published:
            self._tell_published(job)
            return
        self._decide(job, on_step)
        self._open(job, on_step)
        self._pipe.send({
            "is": "decided",
            "job": job.id,
            "decision": as_dict(job.decision),
            "plan": job.plan(),
            "model_sha256": job.model_sha256,
        })  # fmt: skip

    def _next(self, job: Job, received: int, complete: bool) -> None:
        on_step = self._on_step(job)
        on_step()
        if job.published:
            result: Made | Starved | Ended = self._next_published(job)
        else:
            if job.stream is None:  # opened again after a worker died, with its decision
                if job.sent_decision is None and not job.streams:
                    raise JobError(f"the job {job.id!r} must be analysed before it is computed")
                if not job.streams:
                    job.check_whole()
                self._load(job)
                self._decide(job, on_step)
                self._open(job, on_step)
            complete = complete or not job.streams
            if complete:
                received = job.source.num_samples
            take = job.next_live if job.live else job.next
            result = take(received, complete)
        if isinstance(result, Starved):
            self._pipe.send({"is": "starved", "job": job.id})
        elif isinstance(result, Ended):
            self._pipe.send({"is": "ended", "job": job.id, "report": self._report(job)})
        else:
            self._send(job, result)
            while result.more and isinstance(result := job.pop(), Made):
                on_step()
                self._send(job, result)
        self._cache.settle()  # a kill costs the chunk it falls into, and none before

    def _send(self, job: Job, made: Made) -> None:
        buffers = []
        name = "f4"
        for part in made.parts.values():
            name = "f8" if part.dtype == np.float64 else "f4"
            planar = np.ascontiguousarray(part, DTYPES[name])
            buffers.append(planar.data.cast("B") if planar.size else memoryview(b""))
        self._pipe.send(
            {
                "is": "made",
                "job": job.id,
                "chunk": made.chunk,
                "start": made.start,
                "num_samples": made.num_samples,
                "num_channels": next(iter(made.parts.values())).shape[0],
                "parts": list(made.parts),
                "dtype": name,
                "cached": made.cached,
                "more": made.more,
            },
            buffers,
        )
        if job.total_out:
            done = min(1.0, (made.start + made.num_samples) / job.total_out)
            self._progress(job, ANALYSIS + (1 - ANALYSIS) * done)

    # ---- their parts

    def _load(self, job: Job) -> None:
        settings = job.settings
        if not job.engine.is_loaded(settings):
            self._pipe.send({"is": "loading", "model": settings.model})
            device = job.engine.load(settings)
            self._pipe.send({"is": "loaded", "model": settings.model, "device": device})
        job.model_sha256 = job.engine.model_sha256(settings)

    def _decide(self, job: Job, on_step: Callable[[], None]) -> None:
        engine = job.engine
        rate, channels = job.sample_rate, job.num_channels
        if job.sent_decision is not None:
            job.decision = engine.decision(job.sent_decision, rate, channels)
            if job.decision.follow:  # as `follow` below had it
                job.settings = job.settings.replace(cutoff="follow")
        elif job.streams:
            job.settings, job.decision = engine.follow(rate, channels, job.settings)
        else:
            job.decision = engine.analyse(
                self._blocks(job, on_step), job.source.read, rate, channels, job.settings, on_step
            )
        job.cutoff_hz = job.decision.cutoff.hz
        if job.decision.note:
            job.notes = [job.decision.note]

    def _open(self, job: Job, on_step: Callable[[], None]) -> None:
        if job.live:
            self._open_live(job)
            return
        engine, settings = job.engine, job.settings
        compute = cached(
            self._cache,
            patient(engine, settings),
            job.model_sha256,
            lambda: engine.place(settings),
        )

        def wanted(
            model: Any, plan: Any, index: int, piece: Samples, decision: Any, *rest: Any
        ) -> Any:
            end = plan.at(plan.core(index)[1], plan.rate_out)
            if end > job.start:
                return compute(model, plan, index, piece, decision, *rest)
            start = plan.at(plan.core(index)[0], plan.rate_out)
            return np.zeros((piece.shape[0], end - start), np.float32)

        job.compute = compute
        stream = engine.open(
            job.sample_rate, job.num_channels, settings, job.decision, job.region, on_step,
            wanted, job.origin,
        )  # fmt: skip
        job.model_sha256 = engine.model_sha256(settings)
        if job.num_samples is not None:
            job.total_out = output_length(job.num_samples, job.sample_rate, job.decision.rate_out)
        first = stream.first_out
        stride = stream.plan.at(stream.plan.stride, stream.plan.rate_out)
        job.begin(stream, first, first // stride)

    def _open_live(self, job: Job) -> None:
        """A piece of a live stream is what a command makes settle; nothing of it is kept."""
        rate, engine = job.sample_rate, job.engine
        if job.decision.rate_out != rate:
            raise UsageError(f"a live stream keeps its rate, {rate} Hz; leave the rate at 'auto'")
        stream = engine.open_live(rate, job.num_channels, job.settings, job.origin)
        job.model_sha256 = engine.model_sha256(job.settings)
        job.begin(stream, job.origin, 0)

    def _blocks(self, job: Job, on_step: Callable[[], None]) -> Iterator[Samples]:
        """The whole sound; between its blocks other jobs have their turn."""
        total, size = job.source.num_samples, BLOCK_SECONDS * job.sample_rate
        for start in range(0, total, size):
            on_step()
            if len(self._busy) <= MAX_NESTED:
                other = self._inbox.take_other(self._busy)
                if other is not None:
                    self._do(other)
            yield job.source.read(start, min(start + size, total))
            self._progress(job, ANALYSIS * min(1.0, (start + size) / total))

    def _on_step(self, job: Job) -> Callable[[], None]:
        def on_step() -> None:
            if self._inbox.is_cancelled(job.id):
                raise CancelledError("the job was cancelled")
            if time.monotonic() > job.told_at + WORKING_SECONDS:
                self._say_progress(job)

        return on_step

    def _progress(self, job: Job, fraction: float) -> None:
        if fraction > job.told and time.monotonic() >= job.told_at + PROGRESS_SECONDS:
            job.told = fraction
            self._say_progress(job)

    def _say_progress(self, job: Job) -> None:
        job.told_at = time.monotonic()
        self._pipe.send({"is": "progress", "job": job.id, "fraction": job.told})

    def _report(self, job: Job) -> dict[str, Any]:
        return {
            "chunks": job.num_chunks,
            "cached": job.compute.hits if job.compute else job.hits,
            "seconds": round(job.seconds, 3),
            "model": job.settings.model,
            "model_sha256": job.model_sha256,
            "notes": job.notes,
            "cutoff_hz": round(job.cutoff_hz, 1),
        }

    # ---- reference mode

    def _tell_published(self, job: Job) -> None:
        rate = job.engine.sample_rate(job.settings)
        job.total_out = output_length(job.source.num_samples, job.sample_rate, rate)
        stride = round(PUBLISHED_SECONDS * rate)
        cutoff = {
            "hz": job.sample_rate / 2, "confidence": 0.0, "full_band": False,
            "note": "as published",
        }  # fmt: skip
        self._pipe.send({
            "is": "decided",
            "job": job.id,
            "decision": {
                "rate_out": rate, "cutoff": cutoff, "extends": True, "follow": False,
                "skipped": [False] * job.num_channels, "gain_db": 0.0, "note": "", "peak": 1.0,
            },
            "plan": {
                "rate_in": job.sample_rate,
                "rate_out": rate,
                "stride_in": round(PUBLISHED_SECONDS * job.sample_rate),
                "stride_out": stride,
                "first_end_in": job.source.num_samples,
                "past_in": job.source.num_samples,
                "num_chunks": -(-job.total_out // stride),
                "num_samples_out": job.total_out,
                "latency_samples": job.source.num_samples,
            },
            "model_sha256": job.model_sha256,
        })  # fmt: skip

    def _next_published(self, job: Job) -> Made | Ended:
        """The whole sound with the first piece; the others are there then."""
        if not job.is_held:
            total, on_step = job.check_whole(), self._on_step(job)
            self._load(job)
            samples = job.source.read(0, total).astype(np.float32, copy=False)
            place = job.engine.place(job.settings)
            key = sound_key(samples, job.sample_rate, job.settings, job.model_sha256, place)

            def on_stage(name: str, value: Any) -> None:
                on_step()
                if name == "cutoff_hz":
                    job.cutoff_hz = max(job.cutoff_hz, float(value))

            made = self._cache.get(key)
            job.hits = 0 if made is None else 1
            if made is None:
                audio = Audio(samples, job.sample_rate)
                made = job.engine.extend_as_published(audio, job.settings, on_stage).samples
                self._cache.put(key, made)
            job.total_out = made.shape[1]
            job.hold(made, round(PUBLISHED_SECONDS * job.engine.sample_rate(job.settings)))
            job.is_held = True
        return job.pop()


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The process: everything is ready within a moment, torch comes with the first job."""
    options = parser("bridge.worker").parse_args(arguments)
    torch = "" if options.engine else importlib.metadata.version("torch")  # without importing it
    run(options, lambda: _engine(options), torch)


def run(options: argparse.Namespace, make: Callable[[], ChunkEngine], torch: str = "") -> None:
    """Work for the daemon at the other end of the pipe, until it goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's affair
    logging.basicConfig(stream=sys.stderr, format="worker: %(message)s")
    pipe, inbox = Pipe(socket.socket(fileno=options.fd)), Inbox()
    pipe.socket.setblocking(True)

    def read() -> None:
        try:
            pipe.read_into(inbox)
        finally:
            os._exit(0)  # nobody is there to work for; a computation would go on for minutes

    threading.Thread(target=read, name="reader", daemon=True).start()
    pipe.send({"is": "started", "pid": os.getpid()})
    engine = make()
    cache = ChunkCache(options.cache, options.cache_bytes, logging.getLogger(__name__).warning)
    pipe.send({"is": "ready", "pid": os.getpid(), "torch": torch})
    with contextlib.suppress(BrokenPipeError):
        Worker(pipe, inbox, engine, cache).run()


def parser(name: str) -> argparse.ArgumentParser:
    """What every worker is told."""
    parser = argparse.ArgumentParser(name)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--cache-bytes", type=int, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--allow-cpu", action="store_true")
    parser.add_argument("--engine", default="", help="module:factory, for tests")
    return parser


def _engine(options: argparse.Namespace) -> ChunkEngine:
    make: Callable[..., ChunkEngine] = RealEngine
    if options.engine:
        module, _, name = options.engine.partition(":")
        make = getattr(importlib.import_module(module), name)
    return make(options.device, options.precision, options.allow_cpu)


if __name__ == "__main__":
    main()
