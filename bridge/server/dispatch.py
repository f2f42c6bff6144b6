"""What the daemon says to the worker and hears from it: commands out, chunks in.

A worker that dies takes along nothing but the chunk it was at: its jobs are opened again in a new
one and play what was done from the chunk cache. A job that kills two workers in a row has failed.

Live jobs have a worker of their own, and so never wait for a chunk of another job.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError, WorkerError, code_of
from bridge.jobs import ANALYSIS, FairQueue, State
from bridge.pipe import PipeMessage
from bridge.server.job import Job, Output, Plan
from bridge.server.shared import Options, log
from bridge.worker_link import WorkerArguments, WorkerLink

if TYPE_CHECKING:
    from bridge.server.work import Work

GRACE_SECONDS = 1.0  # for a cancelled job to let go of the device; then the worker is killed
LOADING_GRACE_SECONDS = 30.0  # while a model loads, which cannot be stopped half-way
DEATHS = 2
_OF_A_PARTIAL = ("start", "num_channels", "num_samples", "dtype", "parts", "chunk", "cached")
LIVE_SECONDS = 0.2  # of the input of a live job, for one command: others wait, and a cancel does
WAITING = 3  # commands the worker may have in all
AT_WORK_SECONDS = 1.0  # who waits for a worker hears so often that it works


class Dispatch:
    """One worker, the jobs that are for it, and what it has been asked."""

    def __init__(self, work: Work, options: Options, name: str) -> None:
        self._work, self._options, self._name = work, options, name
        self.queue = FairQueue()
        self._link: WorkerLink | None = None
        self._asked: deque[str] = deque()  # names of the unanswered commands' jobs, oldest first
        self._opened: dict[str, Job] = {}  # by the name that the worker knows a job under
        self._openings = 0
        self._at_work_told = 0.0  # monotonic seconds
        self._state = "none"
        self._about: dict[str, Any] = {}
        self._idle_since = time.monotonic()

    # ---- for any thread

    def cancel_now(self, job: Job) -> None:
        link, name = self._link, job.opened
        if link is not None and name:
            with contextlib.suppress(WorkerError):
                link.cancel(name)

    def status(self) -> dict[str, Any]:
        return {"state": self._state, **self._about}

    # ---- the worker's life

    def filenos(self) -> list[int]:
        return [self._link.fileno()] if self._link else []

    def _start(self) -> WorkerLink:
        if self._link is None:
            self._link = WorkerLink(
                WorkerArguments(
                    cache=self._options.cache / "chunks",
                    cache_bytes=self._options.cache_bytes,
                    device=self._options.device,
                    precision=self._options.precision,
                    allow_cpu=self._options.allow_cpu,
                    engine=self._options.engine or "",
                    upstream=self._options.upstream,
                )
            )
            self._link.start()
            self._is_now("starting")
            log.info("worker started", extra={"worker": self._link.pid})
        return self._link

    def stop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.kill()
        self._is_now("none")
        self._asked.clear()

    def _is_now(self, state: str, **about: Any) -> None:
        """The worker's state, for `status` and for all who listen."""
        self._state, self._about = state, about
        worker = {self._name: self.status()}
        self._work.shared.publish("daemon", "daemon_state", {"status": worker})

    def unload(self) -> None:
        """Give the memory back; jobs that are under way begin a new worker by themselves."""
        if self._link is not None:
            log.info("unload", extra=self._about)
            self._lost(blame=None)

    def tick(self, now: float) -> None:
        if self._link is None:
            return
        loads = self._state in ("starting", "loading")
        grace = LOADING_GRACE_SECONDS if loads else GRACE_SECONDS
        for job in self._jobs_here():
            if job.cancelling is not None and job.asked and now - job.cancelling > grace:
                log.warning("worker does not let go", extra={"job": job.id})
                self._lost(blame=None)
                return
        if self._prepares():
            self._tell_at_work()
        if self._asked or self.queue:
            self._idle_since = now
            return
        limit = self._options.keep_alive_seconds
        if 0 <= limit <= now - self._idle_since:
            self.unload()

    def _jobs_here(self) -> list[Job]:
        return list(self._opened.values())

    # ---- commands

    def feed(self) -> None:
        """Give the worker so much that it never waits, and no more, so that turns stay short."""
        while len(self._asked) < WAITING:
            waiting = self.queue.turn(lambda id: self._work.jobs[id].wants_worker())
            if waiting is None:
                return
            self._ask(self._work.jobs[waiting.job])

    def _ask(self, job: Job) -> None:
        self._start()
        if not job.opened:
            self._openings += 1
            job.opened = (
                f"{job.id}.{self._openings}"  # answers to an earlier opening are not mixed up
            )
            self._opened[job.opened] = job
            job.parked, job.asked_at = False, job.input_from(job.position)
            job.chunks_done = self._first_chunk(job)
            self._send(self._opening(job))
        if job.state is State.QUEUED:
            job.move(State.ANALYSING)
            self._send({"do": "analyse", "job": job.opened})
            self._work.note(job)
        else:
            received = job.received
            if job.is_live:
                most = int(LIVE_SECONDS * job.spec["sample_rate"])
                received = job.asked_at = min(received, job.asked_at + most)
            self._send(
                {
                    "do": "next",
                    "job": job.opened,
                    "received": received,
                    "complete": job.complete and received == job.received,
                }
            )
        job.asked += 1
        self._asked.append(job.opened)

    def _send(self, command: dict[str, Any]) -> None:
        """A worker that cannot be told anything is found dead by `receive`."""
        if self._link is not None:
            with contextlib.suppress(WorkerError):
                self._link.send(command)

    def _opening(self, job: Job) -> dict[str, Any]:
        spec = job.spec
        source: dict[str, Any] = {"kind": "file", "path": spec.get("path")}
        if spec["source"] != "path":
            source = {
                "kind": "stream" if job.is_stream else "spool",
                "path": str(self._work.spool_path(job)),
                "dtype": spec["dtype"],
                "num_samples": job.received if job.complete else None,
            }
        return {
            "do": "open",
            "job": job.opened,
            "source": source,
            "sample_rate": spec["sample_rate"],
            "num_channels": spec["num_channels"],
            "settings": spec["settings"],
            "decision": job.decision or spec.get("decision"),
            "region": spec.get("region"),
            "want": spec["want"],
            "start": job.position,
            "stream": job.is_stream,
            "origin": job.input_from(job.position),
            "live": job.is_live,
            "priority": job.priority,
        }

    def _first_chunk(self, job: Job) -> int:
        """Of those that come when it is opened now."""
        if job.plan is None or not job.plan.stride_in:
            return 0
        return job.input_from(job.position) // job.plan.stride_in

    def close(self, job: Job) -> None:
        """Nothing more is wanted of it; answers that still come are not for it any more."""
        name, job.opened = job.opened, ""
        self._opened.pop(name, None)
        if name and self._link is not None:
            if job.asked:
                self._send({"do": "cancel", "job": name})
            self._send({"do": "close", "job": name})
        job.asked = 0

    # ---- answers

    def receive(self) -> None:
        link = self._link
        if link is None:
            return
        try:
            while (event := link.receive()) is not None:
                self._take(event)
                if self._link is not link:
                    return
        except WorkerError as error:
            self._lost(blame=self._asked[0] if self._asked else None, why=str(error))

    def _lost(self, blame: str | None, why: str = "") -> None:
        """The worker is gone: what it had goes back into the queue."""
        if self._link is not None:
            self._link.kill()
        self._link = None
        self._is_now("none")
        if blame is not None:
            log.error("worker died", extra={"at": blame, "why": why})
        self._asked.clear()
        lost, self._opened = self._jobs_here(), {}
        for job in lost:
            name, job.opened, job.asked = job.opened, "", 0
            if job.cancelling is not None:
                self._work.cancelled(job)
                continue
            if job.ended:
                continue
            if name == blame:
                job.deaths = job.deaths + 1 if job.chunks_done <= job.died_at else 1
                job.died_at = job.chunks_done
            if job.deaths >= DEATHS:
                text = (
                    "the process that held the model died at this job, twice; see"
                    " 'audiosr-bridge daemon logs'"
                )
                self._work.fail(job, "E_WORKER", text)
            elif job.state in (State.ANALYSING, State.RUNNING):
                job.ended_at_worker = False
                job.move(State.QUEUED)

    def _take(self, event: PipeMessage) -> None:
        self._tell_at_work()
        kind = event["is"]
        if kind in ("started", "ready", "loading", "loaded"):
            told = {k: v for k, v in event.values.items() if k not in ("is", "job")}
            state = "loading" if kind == "loading" else "ready"
            self._is_now(state, **{**self._about, **told})
            log.info("worker", extra={"said": dict(event.values)})
            return
        job = self._opened.get(event.get("job") or "")
        if kind == "progress":
            if job is not None and job.state is State.ANALYSING:
                job.fraction = max(job.fraction, float(event["fraction"]))  # its share applied
                self._work.tell_progress(job, time.monotonic())
            return
        name = event["job"]
        if kind in ("cancelled", "error"):  # the rest of what was asked of it gets no answer
            self._asked = deque(one for one in self._asked if one != name)
            left = 0
        elif event.get("more"):  # of this answer
            left = job.asked if job else 0
        else:
            with contextlib.suppress(ValueError):
                self._asked.remove(name)
            left = max(0, job.asked - 1) if job else 0
        if job is None:  # it was closed meanwhile
            return
        job.asked = left
        if kind == "cancelled" or (job.cancelling is not None and not left):
            self._work.cancelled(job)
        elif job.cancelling is None:
            try:
                _HANDLERS[kind](self, job, event)
            except (BridgeError, LookupError, TypeError, ValueError) as error:
                log.exception("an answer of the worker cannot be used")
                self._work.fail(job, code_of(error), str(error))

    def _prepares(self) -> bool:
        """Whether it starts, loads or analyses, in which it may be silent for long."""
        job = self._opened.get(self._asked[0]) if self._asked else None
        return job is not None and job.state is State.ANALYSING

    def _tell_at_work(self) -> None:
        """Whoever waits for this worker does not wait in vain, however long it takes."""
        now = time.monotonic()
        if now < self._at_work_told + AT_WORK_SECONDS:
            return
        self._at_work_told = now
        for job in self._work.jobs_of(self):
            if now >= job.told + AT_WORK_SECONDS:
                self._work.tell_progress(job, now)

    def _decided(self, job: Job, event: PipeMessage) -> None:
        job.decision, job.plan_values = event["decision"], event["plan"]
        job.plan, job.model_sha256 = Plan.of(event["plan"]), event["model_sha256"]
        job.chunks_done = self._first_chunk(job)
        job.fraction = max(job.fraction, ANALYSIS)
        self._work.tell_decided(job)
        if job.spec.get("dry_run"):
            job.ended_at_worker = True
            self._work.done(job, {"chunks": 0, "cached": 0, "seconds": 0.0, "notes": []})
            return
        job.move(State.RUNNING)
        self._work.note(job)

    def _made(self, job: Job, event: PipeMessage) -> None:
        if not event["more"]:
            job.chunks_cached += bool(event["cached"])
            job.chunks_done = event["chunk"] + 1
        if event["num_samples"]:
            job.position = event["start"] + event["num_samples"]
            meta = {name: event[name] for name in _OF_A_PARTIAL}
            job.outputs.append(Output("partial", {"job": job.id, **meta}, tuple(event.audio)))
        self._work.deliver(job)
        if job.plan is not None and job.plan.num_chunks:  # of a stream nobody knows how far it is
            share = min(1.0, job.chunks_done / job.plan.num_chunks)
            job.fraction = ANALYSIS + (1 - ANALYSIS) * share
            self._work.tell_progress(job, time.monotonic())

    def _starved(self, job: Job, _: PipeMessage) -> None:
        job.parked, job.parked_at = True, job.received

    def _ended(self, job: Job, event: PipeMessage) -> None:
        if job.ended_at_worker:
            return
        job.ended_at_worker = True
        self._work.done(job, event["report"])

    def _error(self, job: Job, event: PipeMessage) -> None:
        log.warning("job failed", extra={"job": job.id, "code": event["code"]})
        self._work.fail(job, event["code"], event["text"])


_HANDLERS = {
    "decided": Dispatch._decided,
    "made": Dispatch._made,
    "starved": Dispatch._starved,
    "ended": Dispatch._ended,
    "error": Dispatch._error,
}
