"""The work thread: sounds come in, chunks go to the worker, results go out.

    submit, audio ──► spool ──► queue ──► worker ──► outputs ──► partial, final
                                  ▲          │          │
                             whose turn    dies?     credit

One thread owns the jobs, so that nothing about them needs a lock except reading them from outside.
What is on disk (spool, chunk cache, journal) is enough to go on after a `kill -9`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq

from audiosr_core.errors import AudioSRError, SettingsError, UsageError
from audiosr_core.settings import settings_from
from bridge import runtime_dir
from bridge.errors import CODES, BridgeError, CodedError, JobError, ProtocolError, code_of
from bridge.jobs import State, Waiting
from bridge.journal import Entry, Journal
from bridge.protocol import TYPES, Message, SequenceError, peek
from bridge.server.dispatch import Dispatch
from bridge.server.job import Job, Output
from bridge.server.sessions import Route, Session
from bridge.server.shared import Shared, log
from bridge.server.sockets import Sockets, receive_all
from bridge.server.spools import Spools
from bridge.spool import spool_path
from bridge.worker_engine import free_memory

TICK_SECONDS = 0.1
BURST = 16
KEPT_SECONDS = 24 * 3600.0  # results nobody fetched, and sounds of interrupted jobs
KEPT_JOBS = 1000  # that have ended, in the list
GRANT_BYTES = 512 << 10  # of input that is granted anew at once …
GRANT_SECONDS = 0.02  # … or what there is, after this long: not a message for every block
COPIED_BYTES = 64 << 10  # a smaller frame is sooner copied than kept alive
OUTBOX_MESSAGES = 256  # for a client that does not read; then it is gone
DRAIN_SECONDS = 0.002  # between two tries to hand over what a slow reader did not take
LOOK_SECONDS = 0.5  # between two looks at what lasts long: old jobs, the sockets' files
FORGET_SECONDS = 600.0  # between two prunings of the journal
SETTINGS_BYTES, DECISION_BYTES = 4 << 10, 16 << 10  # of a submit's, as JSON
REMOTE_SHARE = 4  # one remote key has at most this part of all jobs: 1 / 4


class Work(threading.Thread):
    """Owns the work sockets, the jobs, the spool and the worker."""

    def __init__(self, shared: Shared, routers: Sockets) -> None:
        super().__init__(name="work", daemon=True)
        self.shared = shared
        self._routers, self._rebinds = routers, shared.rebinds
        options = shared.options
        self._lock = threading.RLock()  # jobs are read from outside under it
        self.jobs: dict[str, Job] = {}
        self._spools = Spools(options.cache / "spool")
        self._journal = Journal(options.state / runtime_dir.JOURNAL)
        self._asked: deque[Callable[[], None]] = deque()  # by other threads
        self._remote_rebinds = shared.remote_rebinds
        self._slow: dict[str, Session] = {}  # those with something in their outbox
        self._notes: deque[Entry] = deque()  # that wait for a quiet moment to be written
        self._owed: dict[str, Job] = {}  # jobs that have input to be granted anew
        self._granted_at = self._ticked_at = 0.0  # monotonic seconds
        self._was_active = False
        self._next_look, self._next_prune = 0.0, time.monotonic() + FORGET_SECONDS
        self._chunks = Dispatch(self, options, "worker")
        self._live = Dispatch(self, options, "live_worker")
        self._recover()

    # ---- for other threads

    def views(self, owner: str | None = None) -> list[dict[str, Any]]:
        with self._lock:
            return [j.view() for j in self.jobs.values() if owner is None or j.owner == owner]

    def active(self) -> int:
        with self._lock:
            return sum(1 for job in self.jobs.values() if not job.ended)

    def cancel(self, id: str, owner: str | None = None) -> State:
        """Take the device from a job at once; the rest is done on the work thread."""
        with self._lock:
            job = self.jobs.get(id)
            if job is None or (owner is not None and job.owner != owner):
                raise JobError(f"there is no job {id}; see 'audiosr-bridge jobs'")
            if not job.ended and job.cancelling is None:
                job.cancelling = time.monotonic()
                self._worker_of(job).cancel_now(job)
                self._later(lambda: self._cancel(job))
            return job.state

    def gone(self, session: str) -> None:
        self._later(lambda: self._detach_all(session))

    def unload(self) -> None:
        for one in self._workers:
            self._later(one.unload)

    def status(self) -> dict[str, Any]:
        with self._lock:
            states: dict[str, int] = {}
            for job in self.jobs.values():
                states[str(job.state)] = states.get(str(job.state), 0) + 1
        return {
            "jobs": states,
            "worker": self._chunks.status(),
            "live_worker": self._live.status(),
            "spool_bytes": self._spools.used,
        }

    @property
    def _workers(self) -> tuple[Dispatch, Dispatch]:
        return self._live, self._chunks

    def _worker_of(self, job: Job) -> Dispatch:
        return self._live if job.is_live else self._chunks

    def jobs_of(self, worker: Dispatch) -> list[Job]:
        """What it still has to do."""
        return [
            job for job in self.jobs.values() if not job.ended and self._worker_of(job) is worker
        ]

    def _later(self, what: Callable[[], None]) -> None:
        self._asked.append(what)
        self.shared.wake_work()

    # ---- the loop

    def run(self) -> None:
        try:
            while not self.shared.stopping.is_set():
                self._step()
        except Exception:
            log.exception("work failed")
            raise
        finally:
            self.shared.stopping.set()
            self._stop()

    def _step(self) -> None:
        ready = dict(self._poller().poll(0 if self._notes else self._patience()))
        if not ready:
            self._write_notes()
        if self.shared.wake_work.receiver in ready:
            self.shared.wake_work.clear()
        while self._asked:
            with self._net("what another thread asked for"):
                self._asked.popleft()()
        for worker in self._workers:
            if any(one in ready for one in worker.filenos()):
                worker.receive()
        for one in list(self._routers):
            if one in ready:
                receive_all(one, BURST, lambda frames, one=one: self._take(one, frames))  # type: ignore[misc]
        self._drop_peers()
        for worker in self._workers:
            worker.feed()
        for session in list(self._slow.values()):
            self._try_again(session)
        now = time.monotonic()
        if self._owed and now - self._granted_at >= GRANT_SECONDS:
            self._grant(*list(self._owed.values()))
        if now - self._ticked_at >= TICK_SECONDS:
            self._ticked_at = now
            self._tick(now)

    def _drop_peers(self) -> None:
        """As control does, at once."""
        if self._rebinds != self.shared.rebinds:
            self._rebinds = self.shared.rebinds
            self._routers.rebind()
            self._shed()
        if self._remote_rebinds != self.shared.remote_rebinds:
            self._remote_rebinds = self.shared.remote_rebinds
            self._routers.rebind(only_remote=True)

    def _poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        poller.register(self.shared.wake_work.receiver, zmq.POLLIN)
        for one in self._routers:
            poller.register(one, zmq.POLLIN)
        for worker in self._workers:
            for fileno in worker.filenos():
                poller.register(fileno, zmq.POLLIN)
        return poller

    def _patience(self) -> int:
        """Milliseconds until something must be looked at again."""
        seconds = DRAIN_SECONDS if self._slow else GRANT_SECONDS if self._owed else TICK_SECONDS
        return round(1000 * seconds)

    def _try_again(self, session: Session) -> None:
        """A slow reader may have room by now."""
        if self.shared.sessions.get(session.id) is not session:
            self._slow.pop(session.id, None)
            return
        self._drain(session)
        if not session.outbox:
            self._slow.pop(session.id, None)
            for job in self._jobs_of(session.id):
                self.deliver(job)

    def _tick(self, now: float) -> None:
        self._write_notes()
        for worker in self._workers:
            worker.tick(now)
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look(now)

    def _look(self, now: float) -> None:
        """At what need not be looked at with every message."""
        if self._routers.stolen:
            log.error("another process has taken our sockets' place; bound anew")
            self._routers.rebind()
        with self._lock:
            jobs = list(self.jobs.values())
        for job in jobs:
            if job.held_until is not None and now >= job.held_until:
                job.held_until = None
                self.cancel(job.id)
        self._forget()
        active = self.active()
        if self._was_active and not active:
            free_memory()
        self._was_active = active > 0
        if now >= self._next_prune:
            self._next_prune = now + FORGET_SECONDS
            self._journal.prune(KEPT_SECONDS, KEPT_JOBS)

    def _shed(self) -> None:
        """Memory is full: clients that do not take their results have had their time."""
        for session in self.shared.sessions.everyone():
            waits = any(job.outputs for job in self._jobs_of(session.id))
            if (session.outbox or waits) and self.shared.sessions.close(session.id):
                log.warning("does not read", extra={"client": session.name})
                self._detach_all(session.id)

    def _jobs_of(self, session: str) -> list[Job]:
        with self._lock:
            return [job for job in self.jobs.values() if job.session == session]

    @contextlib.contextmanager
    def _net(self, what: str) -> Iterator[None]:
        """One thing that goes wrong ends nobody else's work."""
        try:
            yield
        except Exception:
            log.exception("%s failed", what)

    def _stop(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(Exception):
                worker.stop()
        for job in list(self.jobs.values()):
            session = self.shared.sessions.get(job.session or "")
            if not job.ended and job.state is not State.INTERRUPTED:
                job.move(State.INTERRUPTED)
                if session is not None:
                    text = "the daemon stopped; submit the job again"
                    self.send_error(session, job.id, CodedError("E_STOPPING", text))
                self.note(job)
        self._write_notes()
        self._spools.close()
        self._journal.close()
        for session in self.shared.sessions.everyone():
            self._drain(session)
        self._routers.close()

    # ---- what comes

    def _take(self, socket: zmq.Socket[bytes], frames: list[zmq.Frame]) -> None:
        body = [one.buffer for one in frames[1:]]
        try:
            _, id = peek(body)
        except ProtocolError as error:
            return self.shared.refuse(str(error))
        session = self.shared.sessions.get(id)
        if session is None or session.remote != self._routers.is_remote(socket):
            return self.shared.refuse("a session that is not known")
        try:
            message = session.work_in.open(body)
        except SequenceError as error:
            self.shared.refuse(str(error))
            if error.lost:  # nothing of this session can be trusted to be whole
                self.send_error(session, None, error)
                self._detach_all(session.id)
            return None
        except ProtocolError as error:
            if error.answers is None:  # not authentic: no answer
                return self.shared.refuse(str(error))
            session.work = Route(socket, frames[0].bytes)  # authentic, if malformed
            return self.send_error(session, None, error, error.answers)
        session.work = Route(socket, frames[0].bytes)
        if session.outbox:  # its connection was gone meanwhile
            self._slow[session.id] = session
        session.heard, session.proven = time.monotonic(), True
        try:
            kind = TYPES[message.type]
            if kind.socket != "work" or kind.sender != "client":
                raise ProtocolError(f"{message.type} is not for the work socket")
            self._handle(session, message)
        except (AudioSRError, OSError) as error:
            self.send_error(session, message.get("job"), error, message.sequence)
        except Exception:
            log.exception("a message failed")
            bug = BridgeError("this is a bug in the daemon; see 'audiosr-bridge daemon logs'")
            self.send_error(session, message.get("job"), bug, message.sequence)
        return None

    def _handle(self, session: Session, message: Message) -> None:
        if message.type == "submit":
            return self._submit(session, message)
        job = self.jobs.get(message["job"])
        if job is None or job.session != session.id:
            raise JobError(f"the job {message['job']} is not attached here; submit it")
        match message.type:
            case "audio":
                self._audio(job, message)
            case "credit":
                job.credit = min(
                    job.credit + message["bytes"], self.shared.options.limits.credit_bytes
                )
                self.deliver(job)
            case "close":
                self._close(job)
        return None

    def _submit(self, session: Session, message: Message) -> None:
        spec = {name: message.meta[name] for name in TYPES["submit"].fields if name in message.meta}
        spool_path(self._spools.folder, spec["job"])  # JobError for a name that is none
        for name, most in (("settings", SETTINGS_BYTES), ("decision", DECISION_BYTES)):
            if (size := len(json.dumps(spec.get(name)))) > most:
                raise SettingsError(f"{name} may have {most} bytes as JSON, got {size}")
        settings_from(spec["settings"])  # SettingsError here, and not an hour later
        if spec["source"] == "path" and session.remote:
            raise UsageError("a path means nothing on another machine; send the sound")
        if spec["source"] == "path" and not Path(spec.get("path") or "").is_absolute():
            raise UsageError(f"a path must be absolute, got {spec.get('path')!r}")
        if spec["source"] == "inline" and spec.get("num_samples") is None:
            raise ProtocolError("a whole sound must say how many samples it has")
        if spec["source"] != "stream" and (spec.get("origin") or spec.get("live")):
            raise UsageError("only a stream has an origin or is live; leave both out")
        if spec.get("live") and (spec.get("decision") or spec.get("region")):
            raise UsageError("a live stream takes no decision and no region; leave both out")
        instance = self.shared.instances.get(spec.get("instance") or "")
        if instance is not None and instance.owner != session.id:
            raise JobError(f"the instance {instance.name!r} belongs to another client")
        job = self.jobs.get(spec["job"])
        if job is not None and job.owner != session.key_name:
            raise JobError("this job is another client's; choose another name")
        if job is not None and _identity(job.spec) != _identity(spec):
            raise JobError("another sound or other settings were submitted under this name")
        if job is None:
            job = self._admit(session, spec)
        else:
            self._again(session, job, spec)
        job.session, job.held_until = session.id, None
        job.credit = min(spec["credit_bytes"], self.shared.options.limits.credit_bytes)
        job.upload_credit, job.owed = self.shared.options.limits.credit_bytes, 0
        self.note(job)
        if job.policy == "finish":  # what is accepted now is finished, whatever happens
            self._write_notes()
        self.send(
            session,
            "accepted",
            {
                "job": job.id,
                "state": str(job.state),
                "received": job.received,
                "complete": job.complete,
                "credit_bytes": job.upload_credit,
            },
            answers=message.sequence,
        )
        if job.plan_values is not None and not job.ended:
            self.send(session, "decided", decided(job))
        self.deliver(job)

    def _admit(self, session: Session, spec: dict[str, Any]) -> Job:
        limits = self.shared.options.limits
        mine = sum(1 for j in self.jobs.values() if j.session == session.id and not j.ended)
        if mine >= limits.jobs_per_session:
            raise CodedError("E_BUSY", f"{mine} jobs of yours are waiting; wait for one to end")
        if self.active() >= limits.jobs:
            raise CodedError("E_BUSY", f"{limits.jobs} jobs are waiting; try again later")
        if session.remote:
            theirs = sum(
                1 for j in self.jobs.values() if j.owner == session.key_name and not j.ended
            )
            if theirs >= max(1, limits.jobs // REMOTE_SHARE):
                raise CodedError("E_BUSY", f"{theirs} jobs of yours are waiting; try again later")
        job = Job(
            spec["job"], spec, session=session.id, owner=session.key_name,
            position=spec.get("start") or 0,
        )  # fmt: skip
        with self._lock:
            self.jobs[job.id] = job
        try:
            self._open_input(job)
        except BaseException:
            with self._lock:
                del self.jobs[job.id]
            raise
        self._start(job)
        return job

    def _open_input(self, job: Job) -> None:
        """What is already here of the sound: all of a file, some of what came before a restart."""
        if job.spec["source"] == "path":
            job.complete, job.received = True, job.spec.get("num_samples") or 0
            return
        expected = (job.spec.get("num_samples") or 0) * job.frame_bytes
        if self._spools.used + expected > self.shared.options.limits.spool_bytes:
            raise CodedError(
                "E_BUSY", f"the spool holds {self._spools.used >> 20} MiB already; try again later"
            )
        form = (job.id, job.spec["num_channels"], job.spec["dtype"])
        if job.is_stream:
            spool = self._spools.begin(*form, job.origin)
            job.received, job.complete = spool.received, spool.complete
            return
        spool = self._spools.open(*form)
        announced = job.spec.get("num_samples")
        unfit = announced is not None and (
            spool.received > announced or (spool.complete and spool.received < announced)
        )
        if unfit:  # of an earlier run: it begins anew
            self._spools.remove(job.id)
            spool = self._spools.open(*form)
        job.received, job.complete = spool.received, spool.complete

    def _start(self, job: Job) -> None:
        """Into the queue, if it can be worked on."""
        if job.is_stream or job.complete:
            job.move(State.QUEUED)
            self._worker_of(job).queue.add(Waiting(job.id, job.session or job.owner, job.priority))
        elif job.state is not State.RECEIVING:
            job.move(State.RECEIVING)

    def _again(self, session: Session, job: Job, spec: dict[str, Any]) -> None:
        """The same job submitted once more: re-attach, or go on, from `start`."""
        if job.cancelling is not None and not job.ended:
            raise CodedError(
                "E_STOPPING", "this job is being cancelled; submit it again in a moment"
            )
        other = self.shared.sessions.get(job.session or "")
        if other is not None and other is not session:
            taken = JobError("another client has taken this job over")
            self.send_error(other, job.id, taken)
        start = spec.get("start") or 0
        for name in ("priority", "on_disconnect", "want", "start", "dry_run", "instance"):
            job.spec[name] = spec.get(name)
        if job.state is State.HELD:
            whole = job.complete or job.is_stream
            begun = bool(job.opened) and job.plan is not None
            job.move(State.RUNNING if begun else State.QUEUED if whole else State.RECEIVING)
        same_place = bool(job.opened) and job.position == start and not job.outputs
        if job.state in (State.QUEUED, State.ANALYSING, State.RUNNING) and same_place:
            return
        if job.state is State.RECEIVING:
            job.position = start
            return
        self._leave_worker(job)
        self._rewind(job, start)
        if job.is_stream and not self._spools.keeps(job.id, job.input_from(start)):
            self._drop_spool(job)
        if job.id not in self._spools:
            self._open_input(job)
        if job.state in (State.ANALYSING, State.RUNNING):
            job.move(State.QUEUED)
        self._start(job)

    def _rewind(self, job: Job, start: int) -> None:
        job.outputs.clear()
        job.position = start
        job.chunks_done = job.chunks_cached = job.deaths = 0
        job.died_at = -1
        job.ended_at_worker, job.report, job.error, job.cancelling = False, None, None, None
        job.parked = False
        job.fraction = 0.0

    def _audio(self, job: Job, message: Message) -> None:
        if job.complete:
            raise CodedError("E_JOB", "this sound is complete; nothing more can be added")
        size = len(message.audio[0])
        job.upload_credit -= size
        if job.upload_credit < 0:
            text = "more audio came than was granted"
            self.fail(job, "E_CREDIT", text)
            return
        if job.id not in self._spools:
            raise JobError(f"the job {job.id} takes no more audio; it is {job.state}")
        spool = self._spools[job.id]
        spec = job.spec
        if message["num_channels"] != spec["num_channels"] or message["dtype"] != spec["dtype"]:
            raise ProtocolError(
                f"audio of this job has {spec['num_channels']} channels of {spec['dtype']}"
            )
        announced = spec.get("num_samples")
        if announced is not None and job.received + message["num_samples"] > announced:
            raise ProtocolError(f"{announced} samples were announced, more came")
        try:
            if self._spools.used + size > self.shared.options.limits.spool_bytes:
                raise CodedError("E_BUSY", "the spool is full; try again later")
            spool.append(message.samples(), message["start"])
            self._spools.added(size)
        except (OSError, BridgeError) as error:
            self.fail(job, code_of(error), str(error))
            return
        job.received = spool.received
        if message["last"] and announced is not None and job.received != announced:
            raise ProtocolError(f"{announced} samples were announced, {job.received} came")
        self._owe(job, size)
        if message["last"]:
            spool.finish()
            job.complete = True
        if job.complete and job.state is State.RECEIVING:
            self._start(job)
            self.note(job)
        job.parked = job.parked and job.received <= job.parked_at and not job.complete

    def _owe(self, job: Job, size: int) -> None:
        if not self._owed:
            self._granted_at = time.monotonic()
        job.owed += size
        if job.owed:
            self._owed[job.id] = job
        if job.owed >= GRANT_BYTES:
            self._grant(job)

    def _grant(self, *jobs: Job) -> None:
        """What was taken of their input may be sent again, by clients that read."""
        for job in jobs:
            session = self.shared.sessions.get(job.session or "")
            if session is not None and session.outbox and not job.ended:
                continue
            self._owed.pop(job.id, None)
            size, job.owed = job.owed, 0
            if session is not None and not job.complete:
                job.upload_credit += size
                self.send(session, "granted", {"job": job.id, "bytes": size})

    def _close(self, job: Job) -> None:
        """The client has what it wanted; an unfinished job is cancelled."""
        if not job.ended:
            self.cancel(job.id)
            return
        job.session = None
        job.outputs.clear()
        self._worker_of(job).close(job)
        self._drop_spool(job)

    # ---- clients that go away

    def _detach_all(self, session: str) -> None:
        for job in list(self.jobs.values()):
            if job.session == session:
                self._detach(job)

    def _detach(self, job: Job) -> None:
        job.session = None
        if job.ended:
            job.outputs.clear()  # submitted again, it comes from the cache
            return
        policy = job.policy
        if policy == "finish" and (job.complete or job.is_stream):
            job.outputs.clear()  # they lie in the cache
            if job.is_stream and not job.complete:
                policy = "cancel"
        elif policy == "finish":
            policy = "hold"  # half a sound: somebody may bring the rest
        if policy == "hold":
            job.move(State.HELD)
            job.held_until = time.monotonic() + self.shared.options.hold_seconds
            self.note(job)
        elif policy == "cancel":
            self.cancel(job.id)

    def _cancel(self, job: Job) -> None:
        """Nothing of it is at the worker: it ends here; else when the worker has let go."""
        if not job.ended and job.asked == 0:
            self.cancelled(job)

    def cancelled(self, job: Job) -> None:
        self._end(job, State.CANCELLED, ("E_CANCELLED", "the job was cancelled"))

    def fail(self, job: Job, code: str, text: str) -> None:
        if not job.ended:
            self._end(job, State.FAILED, (code, text))

    def _end(self, job: Job, state: State, error: tuple[str, str]) -> None:
        job.move(state)
        job.error, job.cancelling = error, None
        job.outputs.clear()
        self._leave_worker(job)
        self._drop_spool(job)
        session = self.shared.sessions.get(job.session or "")
        if session is not None:
            self.send_error(session, job.id, CodedError(*error))
        job.session = None
        self.note(job)

    def done(self, job: Job, report: dict[str, Any]) -> None:
        """All is computed; the end goes out behind the last part."""
        job.report = report
        if job.state in (State.HELD, State.QUEUED):  # its client has just left, or come back
            job.move(State.RUNNING)
        job.move(State.DONE)
        job.held_until = None
        job.fraction, job.eta_seconds = 1.0, 0.0
        self._leave_worker(job)
        job.outputs.append(Output("final", {"job": job.id, "report": report}))
        self.deliver(job)
        self.note(job)
        if job.is_stream:
            self._drop_spool(job)

    def _leave_worker(self, job: Job) -> None:
        worker = self._worker_of(job)
        worker.queue.remove(job.id)
        worker.close(job)

    def _drop_spool(self, job: Job) -> None:
        self._spools.remove(job.id)

    def _forget(self) -> None:
        """Jobs that ended long ago, and what they left."""
        ended = [j for j in self.jobs.values() if j.ended and j.session is None]
        old = [j for j in ended if time.time() - j.updated > KEPT_SECONDS]
        old += sorted(ended, key=lambda j: j.updated)[: max(0, len(ended) - KEPT_JOBS)]
        for job in {id(j): j for j in old}.values():
            self._drop_spool(job)
            with self._lock:
                self.jobs.pop(job.id, None)

    # ---- what goes

    def deliver(self, job: Job) -> None:
        """As much of the result as the client's credit allows."""
        session = self.shared.sessions.get(job.session or "")
        if session is None:
            if job.session is None and job.policy == "finish":
                job.outputs.clear()
            return
        while (
            job.outputs
            and (job.credit > 0 or not job.outputs[0].num_bytes)
            and not session.outbox  # what a slow reader has not taken does not pile up
        ):
            output = job.outputs[0]
            if not self.send(session, output.type, output.meta, output.audio):
                return
            job.credit -= output.num_bytes
            job.outputs.popleft()
        if job.is_stream:
            self._spools.trim(job.id, job.input_from(job.undelivered))

    def send(
        self,
        session: Session,
        type: str,
        meta: Any,
        audio: tuple[Any, ...] = (),
        answers: int | None = None,
    ) -> bool:
        """One message; what a slow reader does not take now waits, up to a bound."""
        if len(session.outbox) >= OUTBOX_MESSAGES:
            if self.shared.sessions.close(session.id):
                log.warning("does not read", extra={"client": session.name})
                self._later(lambda: self._detach_all(session.id))
            return False
        frames = session.work_out.frames(type, meta, audio, answers)
        session.work_out.sent()
        session.outbox.append(frames)
        self._drain(session)
        return True

    def send_error(
        self,
        session: Session,
        job: str | None,
        error: Exception,
        answers: int | None = None,
    ) -> None:
        code = code_of(error)
        meta = {
            "code": code,
            "text": str(error)[:4000],
            "retryable": CODES[code].retryable,
            "job": job,
        }
        self.send(session, "error", meta, answers=answers)

    def _drain(self, session: Session) -> None:
        """As far as its reader goes; one that was slow stays so until its jobs have delivered."""
        while session.outbox and session.work is not None:
            frames = session.outbox[0]
            try:
                session.work.socket.send_multipart(
                    [session.work.peer, *frames], zmq.NOBLOCK, copy=len(frames[-1]) < COPIED_BYTES
                )
            except zmq.Again:
                self._slow[session.id] = session
                return
            except zmq.ZMQError:  # its connection is gone; it comes again, or falls silent
                session.work = None
                self._slow.pop(session.id, None)
                return
            session.outbox.popleft()

    def tell_progress(self, job: Job, now: float, force: bool = False) -> None:
        """To its client and to all who listen, ten times a second at most."""
        if not force and now - job.told < 0.1:
            return
        job.told = now
        if job.state is not State.DONE:  # the analysis says nothing of how long the rest takes
            running = job.state is State.RUNNING
            remaining = job.eta.seconds(job.fraction, now) if running else None
            job.eta_seconds = None if remaining is None else round(remaining, 2)
        meta = {
            "job": job.id,
            "state": str(job.state),
            "fraction": round(min(1.0, job.fraction), 4),
            "eta_seconds": job.eta_seconds,
        }
        session = self.shared.sessions.get(job.session or "")
        if session is not None and not session.outbox:
            self.send(session, "progress", meta)
        name = job.spec.get("instance")
        self.shared.publish(
            f"job.{job.id}", "job_state", {**meta, "instance": name}, job.owner == "local"
        )
        if name:
            self.shared.instances.job_state(name, meta)

    def tell_decided(self, job: Job) -> None:
        session = self.shared.sessions.get(job.session or "")
        if session is not None:
            self.send(session, "decided", decided(job))

    def spool_path(self, job: Job) -> Path:
        return self._spools[job.id].path

    def note(self, job: Job) -> None:
        """Its state, to all who listen, and on disk as soon as nothing else is waiting."""
        self._notes.append(
            Entry(
                job.id, job.owner, job.spec, job.state, job.priority,
                job.spec["source"], job.spec.get("path"), job.chunks_done,
                job.plan.num_chunks if job.plan else None, *(job.error or (None, None)),
            )
        )  # fmt: skip
        self.tell_progress(job, time.monotonic(), force=True)

    def _write_notes(self) -> None:
        latest: dict[str, Entry] = {}
        while self._notes:
            entry = self._notes.popleft()
            latest[entry.job] = entry
            extra = {"job": entry.job, "state": str(entry.state), "error": entry.error_code}
            log.info("job", extra=extra)
        for entry in latest.values():
            self._journal.put(entry)

    # ---- after a restart

    def _recover(self) -> None:
        """Jobs whose client wanted them finished go on; others wait to be submitted again."""
        self._journal.interrupt_running()
        known = set()
        self._journal.prune(KEPT_SECONDS, KEPT_JOBS)
        for row in self._journal.list([State.INTERRUPTED]):
            job = Job(row.job, dict(row.spec), State.INTERRUPTED, owner=row.client)
            if job.is_stream:
                continue
            known.add(job.id)
            with contextlib.suppress(AudioSRError, OSError, KeyError, ValueError):
                self.jobs[job.id] = job
                self._open_input(job)
                if job.policy == "finish" and job.complete:
                    self._start(job)
        self._spools.sweep(known)


def decided(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "decision": job.decision,
        "plan": job.plan_values,
        "model_sha256": job.model_sha256,
    }


def _identity(spec: dict[str, Any]) -> list[Any]:
    """What makes two submissions the same job."""
    names = ("source", "path", "sample_rate", "num_channels", "num_samples", "dtype", "settings",
             "decision", "region")  # fmt: skip
    return [*map(spec.get, names), spec.get("origin") or 0, bool(spec.get("live"))]
