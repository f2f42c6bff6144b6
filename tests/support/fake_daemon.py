"""A daemon that speaks `bridge.protocol` and computes nothing hard: the high band is a fixed
function of the input, chunks are tiny, and the test may tell it to misbehave."""

from __future__ import annotations

import dataclasses
import queue
import secrets
import threading
import time
from pathlib import Path

import numpy as np
import zmq

from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision
from audiosr_core.files import Reader
from bridge.connection import Connection, Endpoints
from bridge.errors import ProtocolError
from bridge.protocol import (
    LIMITS,
    Incoming,
    Limits,
    Message,
    Outgoing,
    audio_frame,
    decode,
    encode,
    session_keys,
)

STRIDE, AHEAD = 256, 64  # input samples of a chunk, and how many must follow it
SHA = "ab" * 32


def high_of(x, start=0):
    """What this daemon adds: a function of the place as much as of the sample."""
    place = np.arange(start, start + x.shape[1])
    return (0.25 * x * (place % 7 - 3)).astype(np.float32)


def extended(x):
    """The sound that comes back for x."""
    high = high_of(x)
    return np.where(high == 0, x, x + high).astype(x.dtype)


def decision_of(rate, num_channels, **changes):
    made = Decision(
        rate_out=rate, cutoff=Cutoff(8_000.0, 1.0, False, "given"), extends=True, follow=False,
        skipped=(False,) * num_channels, gain_db=0.1, note="", peak=0.7,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


class FakeDaemon:
    """Two ROUTERs and a PUB in one thread, on ipc sockets in a folder."""

    def __init__(self, folder: Path, *, key: str | None = None, limits: Limits = LIMITS, **ways):
        self.folder, self.limits = folder, limits
        self.key = key or secrets.token_hex(32)
        self.ways = {  # how it behaves
            "grant": 64 << 10,  # credit of a job's input
            "silent": False,  # answers nothing
            "refuse": None,  # (code, text) for hello
            "wrong_key": False,
            "hold": None,  # Event: nothing is computed before it is set
            "error": None,  # (code, text) instead of a decision
            "decision": {},
            "received": {},  # job -> samples that are there already
            "forge": False,  # every partial comes with a second, forged one
            "skip_partial": False,
            "busy": None,  # (code, text) for submit
            "welcome": {},  # in place of what it would say
            **ways,
        }
        self.heard = []  # (socket, type, meta)
        self.cancelled = threading.Event()
        self.jobs = {}
        self.events = queue.SimpleQueue()
        self._stop = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._up.wait(5)
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        self._thread.join(5)

    @property
    def connection(self):
        return Connection(
            endpoints=Endpoints.local(self.folder), key=self.key, version="1.0", protocol=(1, 0)
        )

    def types(self, socket="work"):
        return [type for where, type, _ in list(self.heard) if where == socket]

    # ---- its thread

    def _run(self):
        context = zmq.Context()
        self.sockets = {"control": context.socket(zmq.ROUTER), "work": context.socket(zmq.ROUTER)}
        events = context.socket(zmq.PUB)
        for name, one in (*self.sockets.items(), ("events", events)):
            one.linger = 0
            (self.folder / f"{name}.sock").unlink(missing_ok=True)
            one.bind(getattr(self.connection.endpoints, name))
        self.sessions = {}
        self._up.set()
        poller = zmq.Poller()
        for one in self.sockets.values():
            poller.register(one, zmq.POLLIN)
        self.events_key, event = secrets.token_bytes(32), 0
        while not self._stop.is_set():
            ready = dict(poller.poll(2))
            for name, one in self.sockets.items():
                if one in ready:
                    peer, *frames = one.recv_multipart()
                    if not self.ways["silent"]:
                        self._hear(name, peer, frames)
            for job in list(self.jobs.values()):
                self._work(job)
            while not self.events.empty():
                topic, type, meta = self.events.get()
                event += 1
                events.send_multipart(
                    [topic.encode(), *encode(Message(type, meta, sequence=event), self.events_key)]
                )
        for one in (*self.sockets.values(), events):
            one.close()
        context.term()

    def _hear(self, name, peer, frames):
        key = bytes.fromhex(self.key)
        if name == "control":
            try:
                hello = decode(frames, lambda _, session: None if session else key)
            except ProtocolError:
                hello = None
            if hello is not None and hello.type == "hello":
                self._greet(peer, hello, key)
                return
        for session in self.sessions.values():
            try:
                message = session[name][0].open(frames)
            except ProtocolError:
                continue
            self.heard.append((name, message.type, dict(message.meta)))
            session[name][2] = peer
            getattr(self, f"_on_{message.type}")(session, message)
            return

    def _greet(self, peer, hello, key):
        self.heard.append(("control", "hello", dict(hello.meta)))
        if self.ways["wrong_key"]:
            key = b"\1" * 32
        nonce, name = secrets.token_hex(16), secrets.token_hex(8)
        if self.ways["refuse"]:
            code, text = self.ways["refuse"]
            meta = {"code": code, "text": text, "client_nonce": hello["nonce"]}
            answer = Message("refused", meta)
        else:
            meta = {
                "protocol": [1, 0], "version": "1.0", "nonce": nonce,
                "client_nonce": hello["nonce"], "session": name, "pid": 1,
                "events_key": self.events_key.hex(), "limits": dataclasses.asdict(self.limits),
            }  # fmt: skip
            answer = Message("welcome", {**meta, **self.ways["welcome"]})
        self.sockets["control"].send_multipart([peer, *encode(answer, key)])
        keys = session_keys(key, name, hello["nonce"], nonce)
        self.sessions[name] = {
            "control": [Incoming(keys.control_up, name), Outgoing(keys.control_down, name), peer],
            "work": [Incoming(keys.work_up, name), Outgoing(keys.work_down, name), None],
        }

    def _say(self, session, name, type, meta, audio=(), answers=None):
        _, outgoing, peer = session[name]
        frames = outgoing.frames(type, meta, audio, answers)
        outgoing.sent()
        self.sockets[name].send_multipart([peer, *frames])

    def _on_ping(self, session, message):
        self._say(session, "control", "pong", {"uptime_seconds": 1.0}, (), message.sequence)

    def _on_goodbye(self, session, message):
        pass

    def _on_status(self, session, message):
        meta = {"status": {"version": "1.0"}}
        self._say(session, "control", "status_is", meta, (), message.sequence)

    def _on_list_jobs(self, session, message):
        meta = {"jobs": [{"job": id, "state": "running"} for id in self.jobs]}
        self._say(session, "control", "jobs_are", meta, (), message.sequence)

    def _on_unload(self, session, message):
        self._say(session, "control", "unloading", {}, (), message.sequence)

    def _on_stop(self, session, message):
        self._say(session, "control", "stopping", {"pid": 1}, (), message.sequence)

    def _on_cancel(self, session, message):
        job = self.jobs.pop(message["job"], None)
        if job is None:
            meta = {"code": "E_JOB", "text": "there is no such job", "retryable": False}
            self._say(session, "control", "error", meta, (), message.sequence)
            return
        meta = {"job": message["job"], "state": "cancelled"}
        self._say(session, "control", "cancelling", meta, (), message.sequence)
        self._error(job, "E_CANCELLED", "the job was cancelled")
        self.cancelled.set()

    def _error(self, job, code, text, answers=None):
        meta = {"code": code, "text": text, "retryable": False, "job": job["job"]}
        self._say(job["session"], "work", "error", meta, (), answers)

    def _on_submit(self, session, message):
        job = dict(message.meta)
        job.update(session=session, spec=message.meta, sound=None, over=False, k=0, decided=False)
        if self.ways["busy"]:
            self._error(job, *self.ways["busy"], message.sequence)
            return
        self.jobs[message["job"]] = job
        job["credit"] = message["credit_bytes"]
        job["dtype_np"] = np.float64 if message["dtype"] == "f8" else np.float32
        job["sound"] = np.zeros((message["num_channels"], 0), job["dtype_np"])
        if message["source"] == "path":
            with Reader(message["path"]) as reader:
                job["sound"] = reader.read(0, reader.info.num_samples)
            job["over"] = True
        kept = self.ways["received"].get(message["job"])
        if kept is not None:
            job["sound"] = kept
            job["over"] = kept.shape[1] == message["num_samples"]
        job["room"] = self.ways["grant"]
        meta = {
            "job": message["job"], "state": "receiving", "received": job["sound"].shape[1],
            "complete": job["over"], "credit_bytes": self.ways["grant"],
        }  # fmt: skip
        self._say(session, "work", "accepted", meta, (), message.sequence)

    def _on_audio(self, session, message):
        job = self.jobs.get(message["job"])
        if job is None:
            return
        x = message.samples()
        assert message["start"] == job["sound"].shape[1]
        size = sum(len(frame) for frame in message.audio)
        job["room"] -= size
        assert job["room"] >= 0, "audio without credit"
        job["sound"] = np.concatenate([job["sound"], x], axis=1)
        job["over"] = message["last"]
        if size:
            job["room"] += size
            self._say(session, "work", "granted", {"job": job["job"], "bytes": size})

    def _on_credit(self, session, message):
        if message["job"] in self.jobs:
            self.jobs[message["job"]]["credit"] += message["bytes"]

    def _on_close(self, session, message):
        self.jobs.pop(message["job"], None)

    def _work(self, job):
        hold = self.ways["hold"]
        session, x = job["session"], job["sound"]
        if hold is not None and not hold.is_set():
            return
        if not job["decided"]:
            if not job["over"] and job["source"] != "stream":
                return
            if self.ways["error"]:
                self._error(job, *self.ways["error"])
                del self.jobs[job["job"]]
                return
            job["decided"] = True
            rate = job["sample_rate"]
            made = decision_of(rate, job["num_channels"], **self.ways["decision"])
            total = x.shape[1] if job["over"] else None
            plan = {
                "rate_in": rate, "rate_out": made.rate_out, "stride_in": STRIDE,
                "stride_out": STRIDE, "first_end_in": STRIDE + AHEAD, "num_chunks": None,
                "num_samples_out": total, "latency_samples": STRIDE + AHEAD,
            }  # fmt: skip
            decided = {"decision": dataclasses.asdict(made), "plan": plan, "model_sha256": SHA}
            self._say(session, "work", "decided", {"job": job["job"], **decided})
            if job.get("dry_run"):
                job["finished"] = True
                return
        while not job.get("finished"):
            start = job["k"] * STRIDE
            size = min(STRIDE, x.shape[1] - start) if job["over"] else STRIDE
            if size <= 0:
                job["finished"] = True
                report = {"chunks": job["k"], "cached": 0, "seconds": 0.1, "model": "lite",
                          "model_sha256": SHA, "notes": []}  # fmt: skip
                self._say(session, "work", "final", {"job": job["job"], "report": report})
                return
            if not job["over"] and x.shape[1] < start + STRIDE + AHEAD:
                return
            piece = x[:, start : start + size]
            high = high_of(piece, start)
            if job["want"] == "parts":
                parts, names = [high], ["high"]
            else:
                parts = [np.where(high == 0, piece, piece + high).astype(x.dtype)]
                names = ["sound"]
            frames = [audio_frame(one)[0] for one in parts]
            cost = sum(len(frame) for frame in frames)
            if cost > job["credit"]:
                return
            job["credit"] -= cost
            meta = {
                "job": job["job"], "start": start, "num_channels": parts[0].shape[0],
                "num_samples": size, "dtype": audio_frame(parts[0])[1], "parts": names,
                "chunk": job["k"], "cached": False,
            }  # fmt: skip
            job["k"] += 1
            if self.ways["forge"]:
                forged = Outgoing(b"\2" * 32, session["work"][1].session)
                forged.sequence = session["work"][1].sequence
                wrong = [audio_frame(np.ones_like(parts[0]))[0]]
                self.sockets["work"].send_multipart(
                    [session["work"][2], *forged.frames("partial", meta, wrong)]
                )
            if self.ways["skip_partial"] and job["k"] == 3:
                session["work"][1].sent()
                continue
            self._say(session, "work", "partial", meta, frames)
            fraction = min(1.0, (start + size) / max(1, x.shape[1]))
            told = {"job": job["job"], "state": "running", "fraction": fraction,
                    "eta_seconds": 1.0}  # fmt: skip
            self._say(session, "work", "progress", told)


def wait_until(so, seconds=5.0):
    """An event that nobody announces."""
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)
