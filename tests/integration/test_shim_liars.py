"""Daemons with the right key that lie to the plugin: what is heard is wet to the bit, or what the
policy says, and counted; and nobody waits for ever."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.bridge_engines import echo_of
from tests.support.lying_daemon import CREDIT, STRIDE, Lie, LyingDaemon, truth
from tests.support.shim import MiniHost, Rendered

pytestmark = pytest.mark.timeout(90)
RATE, LATENCY = 48_000, 245_760
SILENT_SECONDS = 1  # of the daemon, after which it is given up
LONGEST = 45  # that a bounce of 3 s may take
WET = (3, 4)  # of the states


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="asb") as name:
        yield Path(name)


def bounce(folder: Path, lie: Lie = truth, profile: str = "bridge", **ways):
    """Through a plugin whose daemon lies; the sound that came, and the one that is wet."""
    latency = LATENCY if profile == "bridge" else RATE // 10
    sound = np.random.default_rng(5).uniform(-0.5, 0.5, (2, 3 * RATE)).astype(np.float32)
    folders = {f"AUDIOSR_BRIDGE_{name}_DIR": str(folder / name.lower())
               for name in ("CACHE", "STATE", "CONFIG")}  # fmt: skip
    environment = {**os.environ, **folders, "HOME": str(folder),
                   "AUDIOSR_BRIDGE_RUNTIME_DIR": str(folder),
                   "AUDIOSR_BRIDGE_PLUGIN_TIMEOUT": str(SILENT_SECONDS)}  # fmt: skip
    host = MiniHost("clap", environment=environment)
    with LyingDaemon(folder, lie, **ways) as one:
        one.connection.write_atomic(folder / "daemon.json")
        done = host.render(
            np.pad(sound, ((0, 0), (0, latency))), folder, offline=1, blocks="4096",
            profile=profile, timeout_seconds=LONGEST,
        )  # fmt: skip
    return done, echo_of(sound), latency


def check(done: Rendered, wet: np.ndarray, latency: int) -> bool:
    """Whether all of it is wet; what is not is silent, and said."""
    out = done.samples[:, latency:]
    is_wet = np.all(out == wet, axis=0)
    assert np.all(is_wet | np.all(out == 0, axis=0))
    if not is_wet.all():
        assert done.seen["chunks_failed"] > 0
        assert done.seen["status_state"] not in WET
    return bool(is_wet.all())


def of(wanted: str, change: Lie) -> Lie:
    """A lie about messages of one type."""
    return lambda daemon, type, meta, audio: (
        change(daemon, type, meta, audio) if type == wanted else [(type, meta, audio)]
    )


def plan(**changes: int) -> Lie:
    return of("decided", lambda d, type, meta, audio: [
        (type, {**meta, "plan": {**meta["plan"], **changes}}, audio)])  # fmt: skip


def samples(value: float) -> Lie:
    def change(daemon, type, meta, audio):
        x = np.frombuffer(audio[0], np.float32).copy()
        x[len(x) // 3] = value
        return [(type, meta, (x.tobytes(),))]

    return of("partial", change)


def another_plan_each_time(daemon, type, meta, audio):
    meta["plan"]["past_in"] += daemon.num_jobs
    return [(type, meta, audio)]


def another_model_each_time(daemon, type, meta, audio):
    return [(type, {**meta, "model_sha256": f"{daemon.num_jobs:064x}"}, audio)]


def decided_twice(daemon, type, meta, audio):
    other = {**meta, "plan": {**meta["plan"], "past_in": 2_000}}
    return [(type, meta, audio), (type, other, audio)] * 50


def again(daemon, meta):
    """The chunk comes again, and again with a lie in its place."""
    job = daemon.jobs[meta["job"]]
    job["k"], job["credit"] = job["k"] - 1, CREDIT


def progress_for_ever(daemon, type, meta, audio):
    again(daemon, meta)
    told = {"job": meta["job"], "state": "running", "fraction": 0.5, "eta_seconds": 1.0}
    return [("progress", told, ())] * 20


def decided_for_ever(daemon, type, meta, audio):
    daemon.jobs[meta["job"]]["is_decided"] = False
    return [(type, meta, audio)] * 20


def strange_for_ever(daemon, type, meta, audio):
    again(daemon, meta)
    return [("partial", {"job": meta["job"]}, ()), ("new_in_1_9", {}, ())] * 20


def empty_partials(daemon, type, meta, audio):
    again(daemon, meta)
    return [(type, {**meta, "num_samples": 0}, (b"",))] * 20


def too_much(daemon, type, meta, audio):
    return [(type, {**meta, "start": meta["start"] + i * STRIDE}, audio) for i in range(200)]


def started_at(start: int) -> Lie:
    return of("partial", lambda d, type, meta, audio: [(type, {**meta, "start": start}, audio)])


def twice(daemon, type, meta, audio):
    return [(type, meta, audio)] * 2


def of_another_job(daemon, type, meta, audio):
    return [(type, {**meta, "job": "f" * 32}, audio)]


def errors(daemon, type, meta, audio):
    flood = {"code": "E_\n%s%n", "text": "%n\x07é" * 9000, "retryable": True, "job": meta["job"]}
    return [("error", flood, ())] * 100


def final_at_once(daemon, type, meta, audio):
    report = {"chunks": 0, "cached": 0, "seconds": 0.1, "model": "lite", "notes": [],
              "model_sha256": "ab" * 32}  # fmt: skip
    return [("final", {"job": meta["job"], "report": report}, ())]


def nothing(*_):
    return []


LIES = {
    **{f"{name} {value}": plan(**{name: value})
       for name, value in (("stride_in", 0), ("stride_in", 1), ("stride_in", 2**53),
                           ("first_end_in", 0), ("first_end_in", 2**53), ("past_in", -1),
                           ("past_in", 2**53))},
    "one sample a chunk": plan(stride_in=1, first_end_in=1),
    "one huge chunk": plan(stride_in=2**53, first_end_in=2**53),
    "a chunk that needs less than it is": plan(stride_in=10_000_000, first_end_in=1),
    "another plan each time": of("decided", another_plan_each_time),
    "another model each time": of("decided", another_model_each_time),
    "decided twice": of("decided", decided_twice),
    "decided for ever": lambda d, type, meta, audio: (
        decided_for_ever(d, type, meta, audio) if type == "decided" else []),
    "strange for ever": of("partial", strange_for_ever),
    "never decided": of("decided", nothing),
    "nan": samples(np.nan),
    "infinite": samples(-np.inf),
    "loud": samples(1e30),
    "progress for ever": of("partial", progress_for_ever),
    "empty partials": of("partial", empty_partials),
    "from the beginning": started_at(0),
    "from far ahead": started_at(2**53),
    "twice": of("partial", twice),
    "of another job": of("partial", of_another_job),
    "never a partial": of("partial", nothing),
    "errors": of("partial", errors),
    "final at once": of("partial", final_at_once),
    "never accepted": of("accepted", nothing),
    "room for ever": of("accepted", lambda d, type, meta, audio: [
        (type, {**meta, "credit_bytes": 2**53}, audio)]),
    "another sound": of("accepted", lambda d, type, meta, audio: [
        (type, {**meta, "received": 2**53}, audio)]),
    "it is complete": of("accepted", lambda d, type, meta, audio: [
        (type, {**meta, "complete": True}, audio)]),
}  # fmt: skip


def test_the_truth_is_wet(folder):
    assert check(*bounce(folder))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_never_heard(lie, folder):
    check(*bounce(folder, LIES[lie]))


def test_results_without_end_end(folder):
    bounce(folder, of("partial", too_much))  # wrong ones, of the right form: who could tell


@pytest.mark.parametrize("lie", ["nan", "infinite", "loud", "never a partial", "never decided"])
def test_a_lie_is_never_heard_live(lie, folder):
    check(*bounce(folder, LIES[lie], profile="live"))


@pytest.mark.parametrize(
    "welcome",
    [
        {"protocol": [1, 0]},
        {"protocol": [1, 2**53]},
        {"protocol": [2, 0]},
        {"protocol": ["1", "1"]},
        {"limits": {"frame_bytes": 1, "meta_bytes": 2**53}},
        {"limits": {"frame_bytes": 2**53, "meta_bytes": 10}},
        {"session": "s" * 200},
    ],
)
def test_any_welcome(welcome, folder):
    check(*bounce(folder, welcome={"protocol": [1, 1], **welcome}))
