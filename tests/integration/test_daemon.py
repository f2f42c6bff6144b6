"""The life of jobs in a real daemon, spoken to by a bare client."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from audiosr_core.audio import Audio
from tests.support.bridge_engines import echo_of
from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.wire import Wire

RATE = 48_000
CHUNK = 4_800  # of the engines here


def noise(seconds: float, seed: int = 0, channels: int = 2) -> Any:
    x = np.random.default_rng(seed).standard_normal((channels, round(seconds * RATE)))
    return (0.1 * x).astype(np.float32)


def name() -> str:
    return secrets.token_hex(16)


@contextlib.contextmanager
def spoken(*flags: str, engine: str = "echo", **environment: object) -> Iterator[Any]:
    """A daemon, and one client of it."""
    with (
        daemon(*flags, engine=f"{ENGINES}:{engine}", **environment) as running,
        Wire(running.connection()) as wire,
    ):
        yield running, wire


def begin(wire: Wire, sound: Any, job: str | None = None, **changes: Any) -> str:
    """Submit a whole sound and send it."""
    job = job or name()
    accepted = wire.submit(job, num_samples=sound.shape[1], num_channels=len(sound), **changes)
    assert accepted.type == "accepted", accepted.meta
    if not accepted["complete"]:
        wire.upload(job, sound[:, accepted["received"] :])
    return job


def state(wire: Wire, job: str) -> str:
    found = [one for one in wire.ask("list_jobs")["jobs"] if one["job"] == job]
    return found[0]["state"] if found else "unknown"


def wait_for(condition: Any, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_a_sound_comes_back_whole_whatever_its_length_and_format():
    with spoken() as (_, wire):
        for seconds, channels, dtype in [
            (0, 2, np.float32), (1 / RATE, 1, np.float32), (0.1, 2, np.float64),
            (1.2345, 3, np.float32), (2.0, 1, np.float64),
        ]:  # fmt: skip
            sound = noise(seconds, channels=channels).astype(dtype)
            job = begin(wire, sound, dtype="f8" if dtype is np.float64 else "f4")
            made, final = wire.result(job)
            wire.send("work", "close", {"job": job})
            assert final["report"]["chunks"] == -(-sound.shape[1] // CHUNK)
            if sound.size:
                assert made.dtype == sound.dtype
                np.testing.assert_array_equal(made, echo_of(sound))


def test_the_parts_of_a_sound_add_up_to_it():
    with spoken() as (_, wire):
        sound = noise(1.0)
        job = begin(wire, sound, want="parts")
        high, _ = wire.result(job)
        np.testing.assert_array_equal(sound + high, echo_of(sound))


def test_a_stream_gives_what_has_settled_and_the_rest_at_the_end():
    with spoken() as (_, wire):
        sound, job = noise(0.5), name()
        assert wire.submit(job, source="stream").type == "accepted"
        parts = []
        for start in range(0, sound.shape[1], 512):
            piece = np.ascontiguousarray(sound[:, start : start + 512])
            wire.audio(job, piece, start, last=start + 512 >= sound.shape[1])
        parts, _ = wire.result(job)
        np.testing.assert_array_equal(parts, echo_of(sound))


def test_the_same_job_again_is_played_from_the_cache_from_any_place():
    with spoken() as (_, wire):
        sound = noise(2.0)
        job = begin(wire, sound)
        whole, first = wire.result(job)
        assert first["report"]["cached"] == 0
        for start in (0, 1, CHUNK, 12_345, sound.shape[1] - 1):
            accepted = wire.submit(job, num_samples=sound.shape[1], start=start)
            assert accepted["complete"]  # nothing needs to be sent again
            made, _ = wire.result(job)
            np.testing.assert_array_equal(made, whole[:, start:])
        wire.send("work", "close", {"job": job})
        begin(wire, sound, job)
        again, last = wire.result(job)
        np.testing.assert_array_equal(again, whole)
        assert last["report"]["cached"] == last["report"]["chunks"] == 20


def test_another_sound_under_the_same_name_is_refused():
    with spoken() as (_, wire):
        job = begin(wire, noise(0.2))
        wire.result(job)
        refused = wire.submit(job, num_samples=123)
        assert (refused.type, refused["code"]) == ("error", "E_JOB")


def test_a_cancelled_job_ends_and_the_next_one_runs():
    with spoken(engine="slow", BRIDGE_TEST_STEP_SECONDS=0.05) as (_, wire):
        job = begin(wire, noise(5.0))
        wire.until("partial")
        assert wire.ask("cancel", job=job)["state"] == "running"
        ended = wire.until("error")
        assert (ended["code"], ended["job"]) == ("E_CANCELLED", job)
        assert state(wire, job) == "cancelled"
        assert wire.ask("cancel", job=job)["state"] == "cancelled"  # twice is no harm
        sound = noise(0.1, seed=1)
        np.testing.assert_array_equal(wire.result(begin(wire, sound))[0], echo_of(sound))


def test_a_worker_that_does_not_let_go_is_killed():
    with spoken(engine="stuck") as (_, wire):
        job = begin(wire, noise(1.0))
        wire.until("partial")
        worker = wire.ask("status")["status"]["worker"]["pid"]
        wire.ask("cancel", job=job)
        assert wire.until("error")["code"] == "E_CANCELLED"
        wait_for(lambda: not psutil.pid_exists(worker))


def test_a_worker_that_dies_once_costs_nothing(tmp_path):
    with spoken(engine="crashing", BRIDGE_TEST_FLAG=tmp_path / "flag", BRIDGE_TEST_AT=7) as (_, w):
        sound = noise(1.0)
        made, final = w.result(begin(w, sound))
        np.testing.assert_array_equal(made, echo_of(sound))
        assert (tmp_path / "flag").exists()
        assert final["report"]["chunks"] == 10


def test_a_job_that_kills_every_worker_fails_alone():
    with spoken(engine="crashing", BRIDGE_TEST_AT=3) as (_, wire):
        bad, sound = begin(wire, noise(1.0)), noise(0.2, seed=1)
        assert wire.until("error")["code"] == "E_WORKER"
        assert state(wire, bad) == "failed"
        np.testing.assert_array_equal(wire.result(begin(wire, sound))[0], echo_of(sound))


@pytest.mark.parametrize(("engine", "code"), [("nan", "E_MODEL"), ("buggy", "E_INTERNAL")])
def test_what_goes_wrong_at_a_chunk_is_told_and_ends_only_that_job(engine, code):
    with spoken(engine=engine) as (_, wire):
        begin(wire, noise(1.0))
        assert wire.until("error")["code"] == code
        sound = noise(0.1)
        np.testing.assert_array_equal(wire.result(begin(wire, sound))[0], echo_of(sound))


def test_a_bug_leaves_its_traceback_in_the_log():
    with spoken(engine="buggy") as (running, wire):
        begin(wire, noise(1.0))
        assert "ZeroDivisionError" in wire.until("error")["text"]
        wait_for(lambda: "bridge_engines.py" in running.log())


def test_memory_that_runs_out_is_tried_again_with_less(tmp_path):
    with spoken(engine="oom", BRIDGE_TEST_FLAG=tmp_path / "flag") as (_, wire):
        sound = noise(1.0)
        np.testing.assert_array_equal(wire.result(begin(wire, sound))[0], echo_of(sound))
    with spoken(engine="oom") as (_, wire):
        begin(wire, noise(1.0))
        error = wire.until("error")
        assert error["code"] == "E_DEVICE"
        assert "GiB" in error["text"]


def test_an_audition_passes_a_batch():
    """It waits for the chunks the worker has already, and for no other."""
    with spoken(engine="slow") as (running, wire):
        begin(wire, noise(6.0), priority="batch")
        wire.until("partial")
        with Wire(running.connection()) as other:
            begin(other, noise(0.3, seed=1), priority="audition")
            other.until("final")
            batch = [one for one in other.ask("list_jobs")["jobs"] if one["priority"] == "batch"]
            assert batch[0]["state"] == "running"
            assert batch[0]["chunks"] < 30


def test_many_jobs_of_one_client_do_not_hold_up_another():
    with spoken(engine="slow") as (running, wire):
        for i in range(10):
            begin(wire, noise(1.0, seed=i))
        with Wire(running.connection()) as other:
            begin(other, noise(1.0, seed=99))
            other.until("final")
            done = [j for j in other.ask("list_jobs")["jobs"] if j["state"] == "done"]
            assert len(done) <= 4


@pytest.mark.parametrize(
    ("policy", "then"), [("cancel", "cancelled"), ("finish", "done"), ("hold", "held")]
)
def test_what_becomes_of_a_job_whose_client_leaves(policy, then):
    with spoken(engine="slow", BRIDGE_TEST_STEPS=2) as (running, wire):
        sound = noise(2.0)
        with Wire(running.connection()) as other:
            job = begin(other, sound, on_disconnect=policy)
            other.until("partial")
            other.send("control", "goodbye")
            wait_for(lambda: state(wire, job) == then)
        wire.submit(job, num_samples=sound.shape[1], on_disconnect=policy)
        if policy == "cancel":
            wire.upload(job, sound)
        made, _ = wire.result(job)
        np.testing.assert_array_equal(made, echo_of(sound))


def test_a_held_job_is_cancelled_when_nobody_comes_back():
    with spoken("--hold", "0.2", engine="slow") as (running, wire):
        with Wire(running.connection()) as other:
            job = begin(other, noise(3.0), on_disconnect="hold")
            other.send("control", "goodbye")
        wait_for(lambda: state(wire, job) == "cancelled")


def test_a_client_that_falls_silent_has_left():
    with spoken(engine="slow") as (running, wire):
        other = Wire(running.connection())
        job = begin(other, noise(20.0))
        other.close()  # no goodbye, and no more pings
        for _ in range(80):
            wire.ask("ping")
            if state(wire, job) == "cancelled":
                break
            time.sleep(0.1)
        else:
            pytest.fail("the job went on without its client")


def test_a_job_is_taken_over_by_who_submits_it_again():
    with spoken(engine="slow") as (running, wire):
        sound = noise(2.0)
        job = begin(wire, sound)
        wire.until("partial")
        with Wire(running.connection()) as other:
            assert other.submit(job, num_samples=sound.shape[1]).type == "accepted"
            np.testing.assert_array_equal(other.result(job)[0], echo_of(sound))
        assert wire.until("error")["code"] == "E_JOB"


def test_a_client_that_does_not_take_its_result_holds_up_nobody():
    with spoken() as (running, wire):
        begin(wire, noise(10.0), credit_bytes=50_000)
        with Wire(running.connection()) as other:
            sound = noise(3.0, seed=1)
            np.testing.assert_array_equal(other.result(begin(other, sound))[0], echo_of(sound))
        held = [one for one in wire.ask("list_jobs")["jobs"] if one["state"] == "running"]
        assert len(held) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"settings": {"seed": -1}}, "E_SETTINGS"),
        ({"settings": {"nonsense": 1}}, "E_SETTINGS"),
        ({"num_samples": None}, "E_PROTOCOL"),
        ({"source": "path"}, "E_USAGE"),
        ({"source": "path", "path": "relative.wav"}, "E_USAGE"),
        ({"source": "path", "path": "/nowhere/at/all.wav"}, "E_FILE"),
        ({"job": "../../etc/passwd"}, "E_PROTOCOL"),
        ({"job": ""}, "E_PROTOCOL"),
        ({"settings": {"model": "missing"}}, "E_MODEL"),
        ({"region": [5, 5]}, "E_REGION"),
    ],
)
def test_a_request_that_makes_no_sense_gets_its_code(changes, code):
    with spoken() as (_, wire):
        values = {"job": name(), "num_samples": 4800} | changes
        answer = wire.submit(**values)
        if answer.type == "accepted":
            if not answer["complete"]:
                wire.audio(values["job"], noise(0.1))
            answer = wire.until("error")
        assert answer["code"] == code
        assert answer["text"]
        sound = noise(0.1)
        np.testing.assert_array_equal(wire.result(begin(wire, sound))[0], echo_of(sound))


def test_a_sound_that_is_not_finite_is_refused_with_its_place():
    with spoken() as (_, wire):
        sound = noise(0.1)
        sound[1, 1234] = np.nan
        begin(wire, sound)
        error = wire.until("error")
        assert error["code"] == "E_NOT_FINITE"
        assert "channel 2" in error["text"]
        assert "1234" in error["text"]


def running_again(one: RunningDaemon) -> Wire:
    one.start()
    return Wire(one.connection())


def test_after_a_kill_only_what_is_missing_is_computed():
    with spoken(engine="slow", BRIDGE_TEST_STEPS=2) as (running, wire):
        sound = noise(3.0)
        job = begin(wire, sound)
        for _ in range(10):
            wire.until("partial")
        running.kill()
        with running_again(running) as again:
            accepted = again.submit(job, num_samples=sound.shape[1])
            assert accepted["complete"]  # the sound outlived the daemon
            made, final = again.result(job)
            np.testing.assert_array_equal(made, echo_of(sound))
            assert final["report"]["cached"] >= 10


def test_half_a_sound_outlives_a_kill():
    with spoken() as (running, wire):
        sound, job = noise(2.0), name()
        wire.submit(job, num_samples=sound.shape[1])
        wire.audio(job, np.ascontiguousarray(sound[:, :50_000]), 0, last=False)
        wire.until("granted")
        running.kill()
        with running_again(running) as again:
            accepted = again.submit(job, num_samples=sound.shape[1])
            assert accepted["received"] == 50_000
            rest = np.ascontiguousarray(sound[:, 50_000:])
            again.audio(job, rest, 50_000)
            np.testing.assert_array_equal(again.result(job)[0], echo_of(sound))


def test_a_job_that_was_to_be_finished_goes_on_after_a_kill_by_itself():
    with spoken(engine="slow", BRIDGE_TEST_STEPS=2) as (running, wire):
        job = begin(wire, noise(2.0), on_disconnect="finish")
        wire.until("partial")
        running.kill()
        with running_again(running) as again:
            wait_for(lambda: again.ask("ping") and state(again, job) == "done")


def test_a_signal_stops_it_and_the_worker_and_the_job_is_remembered():
    with spoken(engine="slow") as (running, wire):
        job = begin(wire, noise(5.0))
        wire.until("partial")
        family = running.family()
        assert len(family) == 2
        assert running.stop() == 0
        assert not [one for one in family if one.is_running()]
        assert not running.connection_file.exists()
        with running_again(running) as again:
            accepted = again.submit(job, num_samples=5 * RATE)
            assert accepted["complete"]


def test_the_worker_ends_with_the_daemon():
    with spoken(engine="slow") as (running, wire):
        begin(wire, noise(5.0))
        wire.until("partial")
        worker = running.family()[1]
        running.kill()
        assert psutil.wait_procs([worker], timeout=3)[1] == []


def test_an_idle_model_is_unloaded_and_comes_back():
    with spoken("--keep-alive", "0") as (_, wire):
        sound = noise(0.2)
        for seed in range(2):
            job = begin(wire, sound, settings={"seed": seed})
            np.testing.assert_array_equal(wire.result(job)[0], echo_of(sound, seed))
            wait_for(lambda: wire.ask("status")["status"]["worker"]["state"] == "none")


def test_unload_gives_the_memory_back_at_once_and_costs_no_job():
    with spoken(engine="slow") as (_, wire):
        sound = noise(1.0)
        job = begin(wire, sound)
        wire.until("partial")
        first = wire.messages[-1:]
        worker = wire.ask("status")["status"]["worker"]["pid"]
        wire.ask("unload")
        rest, _ = wire.result(job)
        assert rest.shape[1] == sound.shape[1] - CHUNK or first
        assert not psutil.pid_exists(worker)


def test_who_listens_hears_of_jobs_and_of_the_worker():
    with daemon(engine=f"{ENGINES}:echo") as running, running.client() as client:
        events = client.events(("job.", "daemon"))
        assert next(client.events(("heartbeat",))).type == "heartbeat"
        client.extend(Audio(noise(0.3), RATE))
        client.unload()
        jobs, workers = [], []
        while not workers or workers[-1] != "none":
            event = next(events)
            if event.type == "job_state":
                jobs.append(event["state"])
            else:
                workers.append(event["status"]["worker"]["state"])
        assert jobs[-1] == "done"
        assert workers[0] == "starting"
        assert {"loading", "ready"} <= set(workers)


def test_a_daemon_that_nobody_needs_leaves():
    with daemon("--idle-exit", "0.3") as running:
        assert running.process is not None
        assert running.process.wait(10) == 0
        assert not running.connection_file.exists()


def test_stop_by_message():
    with spoken() as (running, wire):
        assert wire.ask("stop")["pid"] == running.pid()
        assert running.process.wait(5) == 0


def test_a_dry_run_decides_and_computes_nothing():
    with spoken() as (_, wire):
        begin(wire, noise(1.0), dry_run=True)
        assert wire.until("decided")["decision"]["cutoff"]["hz"] == RATE / 4
        assert wire.until("final", "partial")["report"]["chunks"] == 0
