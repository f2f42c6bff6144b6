"""A daemon with the right key that lies: what it would say goes through a function of the test.

It speaks 1.1 and computes what the engine `echo` does, in chunks on a grid of places:

    chunk k  [ k·STRIDE, (k+1)·STRIDE )   when the input up to k·STRIDE + FIRST_END is there
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bridge.protocol import audio_frame
from tests.support.bridge_engines import gain_of
from tests.support.fake_daemon import SHA, FakeDaemon, decision_of

STRIDE, FIRST_END, PAST = 24_000, 28_800, 1_000
CREDIT = 16 << 20

Meta = dict[str, Any]
Said = tuple[str, Meta, tuple[bytes, ...]]
Lie = Callable[["LyingDaemon", str, Meta, tuple[bytes, ...]], Iterable[Said]]


def truth(daemon: LyingDaemon, type: str, meta: Meta, audio: tuple[bytes, ...]) -> list[Said]:
    return [(type, meta, audio)]


class LyingDaemon(FakeDaemon):
    """`lie` gives what is said on the work socket in place of one message."""

    def __init__(self, folder: Path, lie: Lie = truth, **ways: Any) -> None:
        super().__init__(folder, **{"welcome": {"protocol": [1, 1]}, **ways})
        self.lie = lie
        self.num_jobs = 0  # submitted so far

    def tell(self, session, type, meta, audio=(), answers=None):
        for one in self.lie(self, type, meta, tuple(audio)):
            self._say(session, "work", *one, answers)
            answers = None

    def _on_submit(self, session, message):
        self.num_jobs += 1
        origin, start = message.meta.get("origin", 0), message.meta.get("start", 0)
        self.jobs[message["job"]] = {
            "job": message["job"], "session": session, "rate": message["sample_rate"],
            "origin": origin, "k": max(origin, start) // STRIDE, "is_decided": False,
            "gain": gain_of(message["settings"].get("seed", 0)), "credit": CREDIT,
            "sound": np.zeros((message["num_channels"], 0), np.float32),
        }  # fmt: skip
        meta = {"job": message["job"], "state": "receiving", "received": origin,
                "complete": False, "credit_bytes": CREDIT}  # fmt: skip
        self.tell(session, "accepted", meta, (), message.sequence)

    def _on_audio(self, session, message):
        job = self.jobs.get(message["job"])
        if job is None:
            return
        job["sound"] = np.concatenate([job["sound"], message.samples()], axis=1)
        size = sum(len(frame) for frame in message.audio)
        if size:
            self.tell(session, "granted", {"job": job["job"], "bytes": size})

    def _on_cancel(self, session, message):
        self.jobs.pop(message["job"], None)
        meta = {"job": message["job"], "state": "cancelled"}
        self._say(session, "control", "cancelling", meta, (), message.sequence)

    def _work(self, job):
        if not job["is_decided"]:
            job["is_decided"] = True
            self._decide(job)
        place = job["k"] * STRIDE
        if job["credit"] > 0 and job["origin"] + job["sound"].shape[1] >= place + FIRST_END:
            job["k"] += 1
            self._render(job, place)

    def _decide(self, job):
        num_channels = job["sound"].shape[0]
        plan = {
            "rate_in": job["rate"], "rate_out": job["rate"], "stride_in": STRIDE,
            "stride_out": STRIDE, "first_end_in": FIRST_END, "past_in": PAST, "num_chunks": None,
            "num_samples_out": None, "latency_samples": FIRST_END,
        }  # fmt: skip
        decision = dataclasses.asdict(decision_of(job["rate"], num_channels))
        meta = {"job": job["job"], "decision": decision, "plan": plan, "model_sha256": SHA}
        self.tell(job["session"], "decided", meta)

    def _render(self, job, place):
        first = place - job["origin"]
        part = job["sound"][:, max(0, first) : first + STRIDE]
        high = np.pad(part, ((0, 0), (STRIDE - part.shape[1], 0))) * np.float32(job["gain"])
        frame, dtype = audio_frame(high)
        job["credit"] -= len(frame)
        meta = {
            "job": job["job"], "start": place, "num_channels": high.shape[0],
            "num_samples": STRIDE, "dtype": dtype, "parts": ["high"], "chunk": job["k"],
            "cached": False,
        }  # fmt: skip
        self.tell(job["session"], "partial", meta, (frame,))
