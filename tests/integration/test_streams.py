"""Streams through a real daemon: begun anywhere, live, kept small on disk, outliving a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import numpy as np
import psutil
import pytest
import zmq

from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision
from audiosr_core.settings import Settings
from bridge.spool import SEGMENT_BYTES
from tests.support.bridge_engines import gain_of
from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(120)

RATE = 48_000
CHUNK = 4_800  # of the test engines
HOURS = 3600 * RATE


def noise(num_samples: int, channels: int = 2, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).standard_normal((channels, num_samples))
    return (0.1 * x).astype(np.float32)


def engine(name: str) -> str:
    return f"{ENGINES}:{name}"


@pytest.fixture(scope="module")
def echoing():
    with daemon(engine=engine("echo")) as running:
        yield running


@pytest.fixture(scope="module")
def real():
    with daemon(engine=None) as running:
        yield running


def spool_bytes(running: RunningDaemon) -> int:
    """What the spool takes, as the disk counts."""
    found = (running.folder / "cache" / "spool").iterdir()
    return sum(one.stat().st_blocks * 512 for one in found)


def worker_of(status: dict[str, Any], name: str = "worker") -> psutil.Process:
    return psutil.Process(status[name]["pid"])


def high_of(client: Any, x: Any, block: int, decision: Any = None, **how: Any) -> tuple[Any, int]:
    """All of the high band, and the output sample that it begins at."""
    from bridge.remote import RemoteEngine

    parts = RemoteEngine(client).open(RATE, len(x), Settings(), decision, **how)
    high = [
        h for i in range(0, x.shape[1], block) for _, h in parts.push_split(x[:, i : i + block])
    ]
    return np.concatenate([*high, *(h for _, h in parts.flush_split())], axis=1), parts.first_out


# ---- begun anywhere


@pytest.mark.parametrize(
    ("begun", "chunk"), [(0, 1), (HOURS, HOURS // CHUNK + 3), (HOURS + 7, None)]
)
def test_a_stream_that_begins_late_goes_on_to_the_bit(echoing, begun, chunk):
    with echoing.client() as client:
        x = noise(5 * CHUNK + 99)
        whole, first = high_of(client, x, 1_000, origin=begun)
        np.testing.assert_array_equal(
            whole[:, begun - first :], x * gain_of(0)
        )  # the grid may begin earlier, with silence
        assert not whole[:, : begun - first].any()
        start = (chunk or begun // CHUNK + 2) * CHUNK
        late, late_first = high_of(client, x[:, start - begun :], 777, origin=start, start=start)
        assert late_first == start
        np.testing.assert_array_equal(late, whole[:, start - first :])


@pytest.mark.parametrize("where", [0, HOURS])
def test_so_does_the_real_walk(real, where):
    decision = Decision(RATE, Cutoff(8_000.0, 1.0, False, ""), True, False, (False,) * 2, 0.0, "")
    with real.client() as client:
        from bridge.remote import RemoteEngine

        plan = RemoteEngine(client).open(RATE, 2, Settings(), decision).plan
        stride, past = plan["stride_in"], plan["past_in"]
        start = (where // stride + 2) * stride
        begun = start - past - 12_345 if where else 0
        x = noise(start - begun + 2 * stride + 100)
        whole, first = high_of(client, x, 30_000, decision, origin=begun)
        origin = max(0, start - past)
        late, late_first = high_of(
            client, x[:, origin - begun :], 7_000, decision, origin=origin, start=start
        )
        assert (late_first, late.any()) == (start, True)
        np.testing.assert_array_equal(late, whole[:, start - first :])


def test_the_wire_says_where_it_begins(echoing):
    with Wire(echoing.connection()) as wire:
        origin, x = HOURS + 1_000, noise(2 * CHUNK)
        accepted = wire.submit("a", source="stream", origin=origin, want="parts")
        assert (accepted["received"], accepted["complete"]) == (origin, False)
        wire.audio("a", x, origin)
        assert wire.until("decided")["plan"]["past_in"] == 0
        partial = wire.until("partial")
        assert partial["start"] == origin // CHUNK * CHUNK
        assert partial["chunk"] == origin // CHUNK
        wire.until("final")
        assert wire.submit("b", origin=5, num_samples=10)["code"] == "E_USAGE"
        assert wire.submit("c", live=True, num_samples=10)["code"] == "E_USAGE"
        assert wire.submit("d", source="stream", live=True, region=[0, 5])["code"] == "E_USAGE"
        wire.submit("e", source="stream", origin=7)
        assert wire.submit("e", source="stream", origin=8)["code"] == "E_JOB"


def test_a_stream_pushes_and_flushes_from_its_origin(echoing):
    with echoing.client() as client, client.open(RATE, 1, origin=HOURS, start=HOURS) as stream:
        x = noise(3 * CHUNK + 5, 1)
        got = [stream.push(x[:, i : i + 512], wait=None) for i in range(0, x.shape[1], 512)]
        got.append(stream.flush())
        made = np.concatenate(got, axis=1)
        np.testing.assert_array_equal(made, x + x * gain_of(0))


def test_chunks_before_the_start_are_not_computed(tmp_path):
    begun = tmp_path / "begun"
    with (
        daemon(engine=engine("counted"), BRIDGE_TEST_COUNT=begun, BRIDGE_TEST_STEPS=0) as running,
        Wire(running.connection()) as wire,
    ):
        first = HOURS // CHUNK
        x = noise(8 * CHUNK)
        wire.submit("s", source="stream", origin=HOURS, start=(first + 5) * CHUNK, want="parts")
        wire.audio("s", x, HOURS)
        made, _ = wire.result("s")
        np.testing.assert_array_equal(made, x[:, 5 * CHUNK :] * gain_of(0))
        assert begun.read_text().splitlines() == [f"0 {first + i}" for i in (5, 6, 7)]


def test_no_origin_is_too_late(echoing):
    origin = 2**53 - 3 * CHUNK
    with Wire(echoing.connection()) as wire:
        x = noise(2 * CHUNK)
        wire.submit("last", source="stream", origin=origin, start=origin, want="parts")
        wire.audio("last", x, origin)
        np.testing.assert_array_equal(wire.result("last")[0], x * gain_of(0))


def test_a_client_of_1_0_is_served_by_a_daemon_of_1_1(echoing):
    """All of `Wire` says 1.0 and none of the fields that came later."""
    with Wire(echoing.connection()) as wire:
        assert wire.welcome["protocol"] == [1, 1]
        x = noise(CHUNK + 5)
        wire.submit("old", source="stream")
        wire.audio("old", x)
        np.testing.assert_array_equal(wire.result("old")[0], x + x * gain_of(0))


# ---- small on disk


def test_what_no_chunk_needs_any_more_is_let_go_of(echoing):
    with echoing.client() as client, client.open(RATE, 2, origin=HOURS) as stream:
        x, most = noise(10 * RATE), 0
        for _ in range(6):  # a minute: 23 MB
            stream.push(x, wait=None)
            most = max(most, spool_bytes(echoing))
        assert most <= x.nbytes + 2 * SEGMENT_BYTES  # what had just come, at most
        deadline = time.monotonic() + 10
        while spool_bytes(echoing) > SEGMENT_BYTES:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stream.flush()
        while list((echoing.folder / "cache" / "spool").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_worker_killed_in_the_middle_costs_nothing():
    with daemon(engine=engine("slow"), BRIDGE_TEST_STEP_SECONDS=0.002) as running:
        x, block, origin = noise(16 * RATE, seed=1), RATE, HOURS
        with running.client() as client:
            stream = client.open(RATE, 2, origin=origin)
            got, kills = [], 0
            for i in range(0, x.shape[1], block):
                got.append(stream.push(x[:, i : i + block], wait=None))
                if i in (6 * block, 11 * block):  # the beginning is on no disk any more
                    worker_of(client.status()).kill()
                    kills += 1
            got.append(stream.flush())
        assert kills == 2
        made = np.concatenate(got, axis=1)
        np.testing.assert_array_equal(made, x + x * gain_of(0))


def test_a_client_that_comes_back_goes_on_where_it_was_or_sends_anew(echoing):
    x = noise(20 * RATE, seed=2)
    how: dict[str, Any] = {"source": "stream", "on_disconnect": "hold", "want": "parts"}
    half = x.shape[1] // 2
    with Wire(echoing.connection()) as first:
        first.submit("h", **how)
        for i in range(0, half, RATE):
            first.audio("h", np.ascontiguousarray(x[:, i : i + RATE]), i, last=False)
        while (made := first.until("partial"))["start"] + CHUNK < half:
            first.send("work", "credit", {"job": "h", "bytes": len(made.audio[0])})
        first.send("control", "goodbye")
    with Wire(echoing.connection()) as second:
        accepted = second.submit("h", **how, start=half)
        assert accepted["received"] == half
        rest = np.ascontiguousarray(x[:, half:])
        for i in range(half, x.shape[1], RATE):
            piece = np.ascontiguousarray(x[:, i : i + RATE])
            second.audio("h", piece, i, last=i + RATE >= x.shape[1])
        np.testing.assert_array_equal(second.result("h")[0], rest * gain_of(0))
    with Wire(echoing.connection()) as third:
        third.submit("i", **how)
        for i in range(0, half, RATE):
            third.audio("i", np.ascontiguousarray(x[:, i : i + RATE]), i, last=False)
        while third.until("partial")["start"] + CHUNK < half:
            pass
        assert third.submit("i", **how, start=0)["received"] == 0  # its beginning is gone
        third.upload("i", x, RATE)
        np.testing.assert_array_equal(third.result("i")[0], x * gain_of(0))


# ---- live


@pytest.mark.parametrize("origin", [0, HOURS + 77])
def test_a_live_stream_gives_what_its_blocks_settle(echoing, origin):
    with Wire(echoing.connection()) as wire:
        x, block, got, job = noise(40 * 512, seed=3), 512, 0, f"live-{origin}"
        wire.submit(job, source="stream", live=True, origin=origin, want="parts",
                    settings={"seed": 9})  # fmt: skip
        for i in range(0, x.shape[1], block):
            wire.audio(job, np.ascontiguousarray(x[:, i : i + block]), origin + i,
                       last=i + block >= x.shape[1])  # fmt: skip
            if not i:
                plan = wire.until("decided")["plan"]
            while got < i + block - plan["latency_samples"]:  # before the next block is sent
                partial = wire.until("partial")
                assert partial["start"] == origin + got
                assert not partial["cached"]
                size = partial["num_samples"]
                np.testing.assert_array_equal(
                    partial.samples(), x[:, got : got + size] * gain_of(9)
                )
                got += size
        rest, _ = wire.result(job)
        np.testing.assert_array_equal(rest, x[:, got:] * gain_of(9))


@pytest.mark.parametrize("cutoff", [3_000, "auto"])
def test_a_live_stream_is_the_one_of_the_engine(real, cutoff):
    from audiosr_core.engine import Engine

    x, settings = noise(2 * RATE, seed=8), Settings(cutoff=cutoff, seed=3)
    local = Engine().open_live(RATE, 2, settings, HOURS)
    high = np.concatenate([h for _, h in [*local.push_split(x), *local.flush_split()]], axis=1)
    with real.client() as client, client.open(RATE, 2, settings, live=True, origin=HOURS) as stream:
        assert stream.latency_samples == local.latency_samples
        got = [stream.push(x[:, i : i + 512], wait=None) for i in range(0, x.shape[1], 512)]
        made = np.concatenate([*got, stream.flush()], axis=1)
    assert high.any() or cutoff == "auto"
    np.testing.assert_array_equal(made, np.where(high == 0, x, x + high))


def test_what_cannot_be_live_is_said(real):
    with Wire(real.connection()) as wire:
        for i, settings in enumerate([{"rate": 96_000}, {"mode": "reference"}]):
            wire.submit(f"no-{i}", source="stream", live=True, settings=settings)
            wire.audio(f"no-{i}", noise(5_000))
            assert wire.until("error")["code"] == "E_USAGE", settings


def test_a_live_stream_waits_for_no_chunk_of_another(tmp_path):
    with (
        daemon(engine=engine("stuck"), BRIDGE_TEST_AT=0) as running,
        Wire(running.connection()) as wire,
    ):
        wire.submit("stuck", source="stream")
        wire.audio("stuck", noise(CHUNK), last=False)
        wire.until("decided")  # and now the chunk, for ever
        wire.submit("live", source="stream", live=True)
        x = noise(2_000)
        wire.audio("live", x)
        np.testing.assert_array_equal(wire.result("live")[0], x + x * gain_of(0))
        status = wire.ask("status")["status"]
        assert status["worker"]["pid"] != status["live_worker"]["pid"]


def test_a_live_stream_outlives_its_worker():
    with daemon(engine=engine("echo")) as running, running.client() as client:
        x = noise(100 * 512, seed=4)
        stream = client.open(RATE, 2, live=True, origin=HOURS)
        got = []
        for i in range(0, x.shape[1], 512):
            got.append(stream.push(x[:, i : i + 512], wait=None))
            if i == 50 * 512:
                os.kill(worker_of(client.status(), "live_worker").pid, signal.SIGKILL)
        got.append(stream.flush())
        np.testing.assert_array_equal(np.concatenate(got, axis=1), x + x * gain_of(0))


def test_a_live_stream_that_cannot_be_says_so(echoing):
    with Wire(echoing.connection()) as wire:
        wire.submit("no", source="stream", live=True, settings={"model": "missing"})
        wire.audio("no", noise(5_000))
        assert wire.until("error")["code"] == "E_MODEL"


# ---- long chunks


def test_who_waits_hears_that_the_worker_works():
    """In the midst of a chunk, too; and so does the one whose turn has not come."""
    slow = {"BRIDGE_TEST_STEPS": "60", "BRIDGE_TEST_STEP_SECONDS": "0.1"}
    with daemon(engine=engine("slow"), **slow) as running, contextlib.ExitStack() as stack:
        connection = running.connection()
        wires = {job: stack.enter_context(Wire(connection)) for job in ("runs", "waits")}
        for job, wire in wires.items():
            wire.submit(job, source="stream", sample_rate=RATE, num_channels=1, want="parts")
            wire.audio(job, noise(2 * CHUNK, 1))
        heard = dict.fromkeys(wires, 0)
        while min(heard.values()) < 4:  # a change of state or two are told as well
            for job, wire in wires.items():
                wire.ask("ping")
                assert wire.until("progress", "partial").type == "progress"
                heard[job] += 1


def test_who_waits_hears_that_a_model_loads():
    """The worker cannot say so; nor can it while it starts."""
    slow = daemon(engine=engine("echo"), BRIDGE_TEST_LOAD_SECONDS=600)
    with slow as running, Wire(running.connection()) as wire:
        jobs = [f"j{i}" for i in range(9)]
        for job in jobs:
            wire.submit(job, source="stream", sample_rate=RATE, num_channels=1, want="parts")
        heard = dict.fromkeys(jobs, 0)
        while min(heard.values()) < 4:  # a change of state or two are told as well
            wire.ask("ping")
            heard[wire.until("progress")["job"]] += 1


# ---- many streams


@pytest.mark.parametrize("seed", range(4))
def test_streams_that_wait_for_input_keep_none_that_has_it(echoing, seed):
    """Whatever becomes of the others of its session: starved, cancelled, without any input."""
    random = np.random.default_rng(seed)
    fates = random.permutation(["fed", "half", "none", "cancelled"] * 10)
    jobs = {f"many{seed}-{i}": str(fate) for i, fate in enumerate(fates)}
    x = noise(3 * CHUNK)
    with Wire(echoing.connection()) as wire:
        for job, fate in jobs.items():
            wire.submit(job, source="stream", want="parts", settings={"seed": seed})
            sent = {"fed": len(x[0]), "half": CHUNK // 2, "none": 0}.get(
                fate, int(random.integers(0, 2 * CHUNK))
            )
            if sent:
                wire.audio(job, np.ascontiguousarray(x[:, :sent]), last=False)
            if fate == "cancelled":
                wire.ask("cancel", job=job)
        due = {job: 3 * CHUNK for job, fate in jobs.items() if fate == "fed"}
        there = [one for one in wire.messages if one.type == "partial"]
        while any(due.values()):
            part = there.pop(0) if there else wire.until("partial")
            if part["job"] in due:
                assert part["start"] == 3 * CHUNK - due[part["job"]]
                due[part["job"]] -= part["num_samples"]
                high = x[:, part["start"] : part["start"] + part["num_samples"]] * gain_of(seed)
                np.testing.assert_array_equal(part.samples(), high)
        for job, fate in jobs.items():
            if fate != "cancelled":
                wire.ask("cancel", job=job)


@pytest.mark.parametrize("seed", range(3))
def test_what_waits_for_a_slow_reader_comes_when_it_reads(echoing, seed):
    """Whatever else is sent meanwhile: here that a job was cancelled, and another accepted."""
    x = noise(10 * CHUNK)
    with Wire(echoing.connection()) as wire:
        work, endpoint = wire.sockets["work"], echoing.connection().endpoints.work
        work.disconnect(endpoint)
        work.setsockopt(zmq.RCVHWM, 1)  # takes no more than it reads
        work.connect(endpoint)
        due = {f"slow{seed}-{i}": 10 * CHUNK for i in range(40)}
        for job in due:
            wire.submit(job, source="stream", want="parts", settings={"seed": seed})
        for job in due:
            wire.audio(job, x, last=False)
        for i in range(20):
            wire.submit(f"other{seed}-{i}", source="stream")
            wire.ask("cancel", job=f"other{seed}-{i}")
        for part in wire.messages:
            if part.type == "partial":
                due[part["job"]] -= part["num_samples"]
        while any(due.values()):
            part = wire.until("partial")
            due[part["job"]] -= part["num_samples"]
        for job in due:
            wire.ask("cancel", job=job)
