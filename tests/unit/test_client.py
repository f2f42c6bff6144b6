"""The client against a daemon of the test's own: real sockets, real signatures, and every way in
which a daemon can misbehave."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiosr_core import errors
from audiosr_core.audio import Audio
from audiosr_core.settings import Settings
from bridge import client as client_module
from bridge import client_job, sound
from bridge import session as session_module
from bridge.aio import AsyncClient
from bridge.client import Client, connect
from bridge.errors import (
    BridgeError,
    BusyError,
    CancelledError,
    JobError,
    NoDaemonError,
    VersionError,
)
from bridge.protocol import LIMITS, VERSION
from bridge.remote_stream import settled
from tests.support.fake_daemon import (
    AHEAD,
    SHA,
    STRIDE,
    FakeDaemon,
    decision_of,
    extended,
    wait_until,
)

ROOT = Path(__file__).parents[2]
RATE = 48_000
pytestmark = pytest.mark.timeout(60)
many = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_seeds = itertools.count()


def noise(num_channels, num_samples, dtype=np.float32):
    x = np.random.default_rng(next(_seeds)).uniform(-0.5, 0.5, (num_channels, num_samples))
    return x.astype(dtype)


def client_of(daemon, **how):
    return Client(lambda: daemon.connection, **how)


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("d")  # short: a socket's path has 107 bytes


@pytest.fixture
def daemon(folder):
    with FakeDaemon(folder) as daemon:
        yield daemon


@pytest.fixture
def client(daemon):
    with client_of(daemon) as client:
        yield client


# ---- the same samples, whatever the sound and however it travels


@many
@given(
    num_channels=st.integers(1, 3),
    num_samples=st.integers(0, 3000),
    dtype=st.sampled_from([np.float32, np.float64]),
    grant=st.sampled_from([24, 1000, 64 << 10]),
    layout=st.sampled_from("CF"),
)
def test_a_sound_comes_back_whole(daemon, client, num_channels, num_samples, dtype, grant, layout):
    daemon.ways["grant"] = grant
    x = np.asarray(noise(num_channels, num_samples, dtype), order=layout)
    y = client.extend(Audio(x, RATE))
    assert y.sample_rate == RATE
    assert y.samples.dtype == dtype
    np.testing.assert_array_equal(y.samples, extended(x))


@many
@given(
    num_samples=st.integers(0, 2000),
    block=st.integers(1, 700),
    dtype=st.sampled_from([np.float32, np.float64]),
    wait=st.sampled_from([0.0, 0.01, None]),
)
def test_any_blocks_give_the_whole(client, num_samples, block, dtype, wait):
    x = noise(2, num_samples, dtype)
    with client.open(RATE, 2, decision=decision_of(RATE, 2), dtype=dtype) as stream:
        out = []
        for i in range(0, num_samples, block):
            out.append(stream.push(x[:, i : i + block], wait))
            if wait is None:  # then it is what a stream in this process would give
                given = sum(one.shape[1] for one in out)
                assert given == settled(stream.job.plan, min(i + block, num_samples))
        y = np.concatenate([*out, stream.flush()], axis=1)
    np.testing.assert_array_equal(y, extended(x))


def test_a_stream_says_what_a_host_must_know(client):
    with client.open(44_100, 1, Settings(seed=7)) as stream:
        assert stream.rate_out == 44_100
        assert stream.latency_samples == STRIDE + AHEAD
        assert stream.decision == decision_of(44_100, 1)


def test_a_stream_may_use_its_block_again(client):
    x, block = noise(1, 5000), np.zeros((1, 100), np.float32)
    out = []
    with client.open(RATE, 1) as stream:
        for i in range(0, 5000, 100):
            block[:] = x[:, i : i + 100]
            out.append(stream.push(block))
            block[:] = 9
        out.append(stream.flush())
    np.testing.assert_array_equal(np.concatenate(out, axis=1), extended(x))


def test_a_stream_refuses_what_a_stream_refuses(client):
    with client.open(RATE, 2) as stream:
        with pytest.raises(errors.AudioError, match=r"a block must be \[2, samples\]"):
            stream.push(noise(1, 10))
        with pytest.raises(errors.AudioError, match="float32, got float64"):
            stream.push(noise(2, 10, np.float64))
        with pytest.raises(errors.NotFiniteError):
            stream.push(np.full((2, 1), np.nan, np.float32))
        stream.flush()
        with pytest.raises(errors.AudioError, match="over"):
            stream.push(noise(2, 10))


def test_a_file_is_a_sound(daemon, client, tmp_path):
    x = noise(2, 5000)
    path = tmp_path / "in.wav"
    soundfile.write(path, x.T, RATE, "FLOAT")
    np.testing.assert_array_equal(client.extend(path).samples, extended(x.astype(np.float64)))
    assert "audio" in daemon.types()


def test_a_big_file_is_read_by_the_daemon_itself(daemon, client, tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "PATH_BYTES", 1000)
    x = noise(2, 5000)
    path, link = tmp_path / "in.wav", tmp_path / "link.wav"
    soundfile.write(path, x.T, RATE, "FLOAT")
    link.symlink_to(path)
    np.testing.assert_array_equal(client.extend(link).samples, extended(x.astype(np.float64)))
    assert "audio" not in daemon.types()
    spec = next(meta for _, type, meta in daemon.heard if type == "submit")
    assert spec["path"] == str(path.resolve())  # not the link: the daemon follows none


def test_many_threads_share_a_client(client):
    sounds = [noise(1 + i % 2, 500 + 37 * i) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda x: client.extend(Audio(x, RATE), timeout=30), sounds))
    for x, y in zip(sounds, made, strict=True):
        np.testing.assert_array_equal(y.samples, extended(x))


def test_one_sound_twice_at_once_is_two_jobs(daemon, client):
    daemon.ways["hold"] = threading.Event()
    x = Audio(noise(1, 2000), RATE)
    jobs = [client.submit(x) for _ in range(3)]
    assert len({job.id for job in jobs}) == 3
    daemon.ways["hold"].set()
    for job in jobs:
        np.testing.assert_array_equal(job.result(10).samples, extended(x.samples))


# ---- a job, its name, its course


def test_the_same_sound_with_the_same_settings_is_the_same_job(client):
    x = noise(1, 300)
    ids = [client.submit(Audio(x.copy(), RATE), s) for s in (Settings(), Settings(), None)]
    for job in ids:
        job.result(10)
    others = [
        client.submit(Audio(x, RATE), Settings(seed=1)),
        client.submit(Audio(x, 44_100)),
        client.submit(Audio(x.astype(np.float64), RATE)),
        client.submit(Audio(x, RATE), region=(0, 100)),
        client.submit(Audio(x, RATE), decision=decision_of(RATE, 1)),
        client.submit(Audio(x, RATE), want="parts"),
    ]
    one = client.submit(Audio(x, RATE))
    assert len({one.id, *(job.id for job in others)}) == 7


@pytest.mark.parametrize("received", [0, 1, 999, 1000])
def test_what_the_daemon_has_is_not_sent_again(daemon, client, received):
    x = noise(2, 1000)
    first = client.submit(Audio(x, RATE))
    first.result(10)
    daemon.ways["received"] = {first.id: x[:, :received]}
    daemon.heard.clear()
    y = client.extend(Audio(x, RATE))
    np.testing.assert_array_equal(y.samples, extended(x))
    sent = [meta for _, type, meta in daemon.heard if type == "audio"]
    assert sum(meta["num_samples"] for meta in sent) == 1000 - received
    assert not sent or sent[0]["start"] == received


def test_a_job_tells_how_far_it_is(client):
    seen = []
    job = client.submit(Audio(noise(1, 10_000), RATE))
    job.result(10, seen.append)
    assert seen[-1] == job.progress == 1.0
    assert seen == sorted(seen)
    assert job.state == "done"
    assert job.done()
    assert job.eta == 0.0
    assert job.decision == decision_of(RATE, 1)
    assert job.model_sha256 == SHA
    assert job.report["chunks"] == -(-10_000 // STRIDE)
    assert job.result(0) is job.result(0)


def test_results_wait_until_they_are_taken(daemon, client, monkeypatch):
    monkeypatch.setattr(client_job, "CREDIT_BYTES", 10 * STRIDE * 4)
    x = noise(1, 200 * STRIDE)
    job = client.submit(Audio(x, RATE))
    chunks = job.chunks()
    taken = [next(chunks)]
    time.sleep(0.3)  # nothing tells that nothing more will come
    before = daemon.jobs[job.id]["k"]
    assert before < 200
    time.sleep(0.1)
    assert daemon.jobs[job.id]["k"] == before
    taken += chunks
    assert [start for start, _ in taken] == list(range(0, 200 * STRIDE, STRIDE))
    np.testing.assert_array_equal(np.concatenate([y for _, y in taken], axis=1), extended(x))


def test_parts_come_apart(client):
    x = noise(2, 1000)
    job = client.submit(Audio(x, RATE), want="parts")
    high = np.concatenate([parts[0] for _, parts in job.pieces()], axis=1)
    np.testing.assert_array_equal(np.where(high == 0, x, x + high), extended(x))
    with pytest.raises(errors.UsageError, match="pieces"):
        job.result()


def test_a_dry_run_ends_with_the_decision(daemon, client):
    job = client.submit(Audio(noise(1, 5000), RATE), dry_run=True)
    assert job.decided(10) == decision_of(RATE, 1)
    wait_until(lambda: "close" in daemon.types())
    assert job.done()


# ---- cancel


def test_who_raises_from_progress_cancels(daemon, client):
    daemon.ways["hold"] = threading.Event()

    def stop(fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.extend(Audio(noise(1, 1000), RATE), on_progress=stop)
    assert daemon.cancelled.wait(10)  # how soon is measured by tests/bench/bridge.py


def test_cancel_is_told_to_who_waits(daemon, client):
    daemon.ways["hold"] = threading.Event()
    job = client.submit(Audio(noise(1, 1000), RATE))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(job.result, 10)
        job.cancel()
        with pytest.raises(CancelledError):
            waiting.result(5)
    assert job.state == "cancelled"
    assert daemon.cancelled.is_set()


def test_somebody_else_may_cancel_by_name(daemon, client):
    daemon.ways["hold"] = threading.Event()
    job = client.submit(Audio(noise(1, 1000), RATE))
    with client_of(daemon) as other:
        assert [one["job"] for one in other.jobs()] == [job.id]
        assert other.cancel(job.id) == "cancelled"
        with pytest.raises(JobError, match="no such job"):
            other.cancel(job.id)
    with pytest.raises(CancelledError):
        job.result(5)


def test_a_cancelled_job_can_be_submitted_again(daemon, client):
    x = Audio(noise(1, 1000), RATE)
    daemon.ways["hold"] = threading.Event()
    job = client.submit(x)
    job.cancel()
    daemon.ways["hold"] = None
    again = client.submit(x)
    assert again.id == job.id
    np.testing.assert_array_equal(again.result(10).samples, extended(x.samples))


def test_time_over_cancels(daemon, client):
    daemon.ways["hold"] = threading.Event()
    with pytest.raises(NoDaemonError, match=r"0\.1 s"):
        client.extend(Audio(noise(1, 100), RATE), timeout=0.1)
    assert daemon.cancelled.wait(2)


def test_leaving_cancels(daemon, client):
    daemon.ways["hold"] = threading.Event()
    with client.submit(Audio(noise(1, 100), RATE)):
        pass
    assert daemon.cancelled.wait(2)


# ---- errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("E_SETTINGS", errors.SettingsError),
        ("E_NOT_FINITE", errors.NotFiniteError),
        ("E_MODEL", errors.ModelError),
        ("E_DEVICE", errors.DeviceError),
        ("E_INTERNAL", BridgeError),
        ("E_OF_TOMORROW", BridgeError),
    ],
)
def test_an_error_is_the_same_here_as_there(daemon, client, code, kind):
    daemon.ways["error"] = (code, "this and that")
    with pytest.raises(kind, match="this and that"):
        client.extend(Audio(noise(1, 100), RATE))
    daemon.ways["error"] = None
    client.extend(Audio(noise(1, 100), RATE))  # and the client goes on


def test_a_busy_daemon_says_so(daemon, client):
    daemon.ways["busy"] = ("E_BUSY", "there are 64 jobs already; wait for one")
    with pytest.raises(BusyError, match="64 jobs"):
        client.submit(Audio(noise(1, 100), RATE))


def test_a_refusal_is_the_daemons_own_sentence(folder):
    text = "this daemon speaks 2.0, the client 1.0; update it"
    with (
        FakeDaemon(folder, refuse=("E_VERSION", text)) as daemon,
        pytest.raises(VersionError, match=text),
    ):
        client_of(daemon)


def test_a_squatter_is_nobody(folder):
    began = time.monotonic()
    with (
        FakeDaemon(folder, wrong_key=True) as daemon,
        pytest.raises(NoDaemonError, match="does not know the key"),
    ):
        client_of(daemon, timeout_seconds=0.5)
    assert time.monotonic() - began < 3


def test_who_does_not_know_the_key_hears_nothing(daemon):
    wrong = dataclasses.replace(daemon.connection, key="0" * 64)
    with pytest.raises(NoDaemonError, match="nobody answers"):
        Client(lambda: wrong, timeout_seconds=0.3)


def test_nobody_there_is_said_in_time(folder):
    lonely = FakeDaemon(folder).connection
    began = time.monotonic()
    with pytest.raises(NoDaemonError, match=r"nobody answers.*daemon start"):
        Client(lambda: lonely, timeout_seconds=0.3)
    assert time.monotonic() - began < 2


def test_forged_results_are_not_heard(daemon, client):
    daemon.ways["forge"] = True
    x = noise(1, 5000)
    np.testing.assert_array_equal(client.extend(Audio(x, RATE)).samples, extended(x))


def test_a_lost_message_is_never_a_shorter_sound(daemon, client):
    daemon.ways["skip_partial"] = True
    with pytest.raises(NoDaemonError, match="lost"):
        client.extend(Audio(noise(1, 5000), RATE))
    daemon.ways["skip_partial"] = False
    client.ping()  # another session


# ---- the daemon goes away


def test_a_dead_daemon_is_told_at_once_and_found_again(folder):
    now = {}
    x = noise(2, 3000)
    with FakeDaemon(folder, hold=threading.Event()) as daemon:
        now["daemon"] = daemon
        client = Client(lambda: now["daemon"].connection)
        job, stream = client.submit(Audio(x, RATE)), client.open(RATE, 2)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(job.result), pool.submit(stream.flush)]
            began = time.monotonic()
            daemon.stop()
            for one in waiting:
                with pytest.raises(NoDaemonError, match="went away"):
                    one.result(5)
            assert time.monotonic() - began < 1
    with FakeDaemon(folder) as again:  # another key, other nonces
        now["daemon"] = again
        np.testing.assert_array_equal(client.extend(Audio(x, RATE)).samples, extended(x))
        assert client.submit(Audio(x, RATE)).id == job.id
        client.close()


def test_a_silent_daemon_is_dead(daemon, monkeypatch):
    monkeypatch.setattr(session_module, "DEAD_SECONDS", 0.6)
    monkeypatch.setattr(session_module, "PING_SECONDS", 0.1)
    daemon.ways["hold"] = threading.Event()
    with client_of(daemon) as client:
        job = client.submit(Audio(noise(1, 100), RATE))
        time.sleep(1.0)  # longer than that: pings and pongs keep it alive
        assert not job.done()
        daemon.ways["silent"] = True
        with pytest.raises(NoDaemonError, match="said nothing"):
            job.result(10)


def test_a_closed_client_says_so(daemon):
    client = client_of(daemon)
    daemon.ways["hold"] = threading.Event()
    job = client.submit(Audio(noise(1, 100), RATE))
    client.close()
    client.close()
    with pytest.raises(NoDaemonError, match="closed"):
        client.ping()
    with pytest.raises(NoDaemonError, match="closed"):
        job.result(5)
    wait_until(lambda: "goodbye" in daemon.types("control"))


def test_no_thread_and_no_socket_is_left(daemon):
    before = threading.active_count()
    for _ in range(20):
        with client_of(daemon) as client:
            client.ping()
    assert threading.active_count() == before


# ---- what the daemon says to all


def test_events_are_checked(daemon, client):
    meta = {"job": "1" * 32, "state": "running", "fraction": 0.5, "eta_seconds": 3.0,
            "instance": None}  # fmt: skip
    events, heard = client.events(["job."]), []
    listening = threading.Thread(target=lambda: heard.extend(itertools.islice(events, 2)))
    listening.start()

    def tell():
        daemon.events.put(("heartbeat", "heartbeat", {"uptime_seconds": 1.0}))
        daemon.events.put(("job.1", "job_state", meta))
        time.sleep(0.01)
        return not listening.is_alive()

    wait_until(tell)
    assert [dict(message.meta) for message in heard] == [meta, meta]


@pytest.mark.parametrize(
    ("sound", "knobs", "hint"),
    [
        (np.zeros((2, 99), np.float32), Settings(), r"got ndarray.*Audio\.of"),
        ([0.0], Settings(), r"got list.*Audio\.of"),
        (Audio(np.zeros((1, 9), np.float32), 48_000), {"seed": 1}, r"got dict.*Settings\(\*\*"),
    ],
)
def test_what_is_no_sound_or_no_settings_says_what_to_write(client, sound, knobs, hint):
    with pytest.raises(errors.UsageError, match=hint):
        client.extend(sound, knobs)


def test_the_daemon_answers_for_itself(daemon, client):
    assert client.status() == {"version": "1.0"}
    assert client.jobs() == []
    assert 0 < client.ping() < 1
    client.unload()
    assert client.stop_daemon() == 1
    told = daemon.heard[0][2]
    assert told["key"] == "local"
    assert told["protocol"] == list(VERSION)


@pytest.mark.parametrize("how", [{"origin": 1}, {"live": True}])
def test_what_a_daemon_of_1_0_would_ignore_is_not_asked_of_it(client, how):
    with pytest.raises(VersionError, match=r"need protocol 1\.1, the daemon speaks 1\.0"):
        client.open(48_000, 1, **how)
    client.open(48_000, 1).close()


def test_limits_are_the_daemons(folder):
    limits = dataclasses.replace(LIMITS, frame_bytes=2000)
    with FakeDaemon(folder, limits=limits) as daemon, client_of(daemon) as client:
        x = noise(1, 5000)
        np.testing.assert_array_equal(client.extend(Audio(x, RATE)).samples, extended(x))
        sizes = [4 * meta["num_samples"] for _, type, meta in daemon.heard if type == "audio"]
    assert max(sizes) <= 2000


# ---- connect


def test_a_connection_file_names_a_daemon(daemon, tmp_path, monkeypatch):
    path = tmp_path / "connection.json"
    daemon.connection.write_atomic(path)
    with connect(path) as client:
        client.ping()
    monkeypatch.setenv(client_module.CONNECTION_VARIABLE, str(path))
    with connect() as client:
        client.ping()
    path.chmod(0o644)
    with pytest.raises(BridgeError, match="chmod"):
        connect(path)
    with pytest.raises(NoDaemonError, match=r"nothing\.json"):
        connect(tmp_path / "nothing.json")


def test_no_daemon_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOSR_BRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    with pytest.raises(NoDaemonError, match="daemon start"):
        connect()


def test_a_client_needs_no_torch_and_no_scipy():
    code = """
import sys
import bridge, bridge.client, bridge.aio, bridge.remote
bridge.Client, bridge.AsyncClient, bridge.RemoteEngine, bridge.connect
heavy = [m for m in ("torch", "scipy", "soundfile", "soxr", "pedalboard") if m in sys.modules]
sys.stdout.write(repr(heavy))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]", "")


# ---- asyncio


def test_awaited_calls_give_the_same(daemon, tmp_path):
    path = tmp_path / "connection.json"
    daemon.connection.write_atomic(path)
    sounds = [noise(1, 1000 + 100 * i) for i in range(8)]

    async def run():
        async with await AsyncClient.connect(path) as client:
            assert await client.status() == {"version": "1.0"}
            assert await client.ping() < 1
            seen = []
            made = await asyncio.gather(
                *(client.extend(Audio(x, RATE), on_progress=seen.append) for x in sounds)
            )
            job = await client.submit(Audio(sounds[0], RATE))
            pieces = [piece async for _, piece in job.chunks()]
            assert job.done()
            async with await client.open(RATE, 1) as stream:
                streamed = [await stream.push(sounds[1]), await stream.flush()]
            return made, np.concatenate(pieces, axis=1), np.concatenate(streamed, axis=1), seen

    made, pieces, streamed, seen = asyncio.run(run())
    for x, y in zip(sounds, made, strict=True):
        np.testing.assert_array_equal(y.samples, extended(x))
    np.testing.assert_array_equal(pieces, extended(sounds[0]))
    np.testing.assert_array_equal(streamed, extended(sounds[1]))
    assert 1.0 in seen


def test_a_cancelled_task_cancels_its_job(daemon):
    daemon.ways["hold"] = threading.Event()

    async def run():
        with client_of(daemon) as client:
            task = asyncio.create_task(AsyncClient(client).extend(Audio(noise(1, 100), RATE)))
            while "submit" not in daemon.types():
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert daemon.cancelled.wait(2)


def test_awaited_errors_are_the_same(daemon):
    daemon.ways["error"] = ("E_MODEL", "it is missing")

    async def run():
        with client_of(daemon) as client:
            await AsyncClient(client).extend(Audio(noise(1, 100), RATE))

    with pytest.raises(errors.ModelError, match="missing"):
        asyncio.run(run())


# ---- the commands


def test_jobs_are_listed_and_cancelled(daemon, client, tmp_path):
    daemon.ways["hold"] = threading.Event()
    path = tmp_path / "connection.json"
    daemon.connection.write_atomic(path)
    submitted = [client.submit(Audio(noise(1, 100), RATE)) for _ in range(3)]

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "plugin_host.cli", *words, "--connection", str(path)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    listed = run("jobs", "--json")
    ids = [json.loads(line)["job"] for line in listed.stdout.splitlines()]
    assert ids == [job.id for job in submitted]
    assert run("jobs").stdout.count("running") == 3
    assert run("cancel", "x").returncode == 2
    assert run("cancel", ids[0][:10]).returncode == 0
    with pytest.raises(CancelledError):
        submitted[0].result(5)
    assert run("cancel", "all").returncode == 0
    for job in submitted[1:]:
        with pytest.raises(CancelledError):
            job.result(5)
    daemon.stop()
    assert run("jobs").returncode == 3
