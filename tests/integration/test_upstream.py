"""A daemon that lets another one compute: to the bit what that one gives, and its errors told."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from audiosr_core.audio import Audio
from audiosr_core.errors import ModelError
from audiosr_core.settings import Settings
from bridge import keys
from bridge.errors import CancelledError, NoDaemonError
from bridge.remote import RemoteEngine
from tests.support.bridge_engines import MODEL_SHA256, echo_of, gain_of
from tests.support.command import start
from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.fake_daemon import wait_until
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(120)

RATE, CHUNK, HOURS = 48_000, 4_800, 3600 * 48_000


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> Any:
    x = np.random.default_rng(seed).standard_normal((2, round(seconds * rate)))
    return (0.1 * x).astype(np.float32)


def key_of(there: RunningDaemon, name: str = "here") -> Path:
    """A connection file for another machine."""
    tcp = there.connection().tcp
    assert tcp is not None
    path = there.folder / f"{name}.json"
    path.write_text(keys.create(there.folder / "config", name, tcp))
    path.chmod(0o600)
    return path


def listening() -> tuple[str, str]:
    """Three ports that nobody has now: the same ones after a restart."""
    for port in range(20_000 + os.getpid() % 9_000, 64_000, 3):
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for i in range(3):
                one = taken.enter_context(socket.socket())
                one.bind(("127.0.0.1", port + i))
            return "--listen", f"tcp://127.0.0.1:{port}"
    raise AssertionError("no three ports are free")


@contextlib.contextmanager
def both(engine: str | None = "echo", **environment: object) -> Iterator[Any]:
    """The daemon that computes, and the one of this machine."""
    name = f"{ENGINES}:{engine}" if engine else None
    with (
        daemon(*listening(), engine=name, **environment) as there,
        daemon("--upstream", str(key_of(there)), engine=None) as here,
    ):
        yield there, here


@pytest.fixture(scope="module")
def echoing():
    with both() as pair:
        yield pair


@pytest.fixture(scope="module")
def real():
    with both(None) as pair:
        yield pair


@pytest.mark.parametrize(("dtype", "rate"), [(np.float32, RATE), (np.float64, 16_000)])
def test_a_sound_is_the_one_of_the_daemon_there(real, dtype, rate):
    there, here = real
    audio = Audio(noise(4, rate=rate).astype(dtype), rate)
    with there.client() as direct, here.client() as client:
        expected, made = direct.extend(audio), client.extend(audio)
    assert made.sample_rate == expected.sample_rate
    assert made.samples.dtype == expected.samples.dtype
    np.testing.assert_array_equal(made.samples, expected.samples)


@pytest.mark.parametrize("region", [None, (30_000, 90_000)])
def test_so_are_parts_and_regions_and_reports(real, region):
    x, made, reports = noise(5, 3), [], []
    for one in real:
        with one.client() as client, RemoteEngine(client).on_file(None, region) as engine:
            decision = engine.analyse([x], lambda a, b: x[:, a:b], RATE, 2, Settings())
            parts = engine.open(RATE, 2, Settings(), decision, region)
            high = [h for _, h in [*parts.push_split(x), *parts.flush_split()]]
            made.append((decision, np.concatenate(high, axis=1)))
            reports.append((parts.model_sha256, dict(parts.plan)))
    assert made[0][0] == made[1][0]
    assert reports[0] == reports[1]
    np.testing.assert_array_equal(made[0][1], made[1][1])


@pytest.mark.parametrize("settings", [Settings(), Settings(cutoff=7_000, seed=5)])
def test_a_stream_is_the_one_of_the_daemon_there(real, settings):
    x, made = noise(6, 4), []
    for one in real:
        with one.client() as client, client.open(RATE, 2, settings, origin=HOURS) as stream:
            got = [stream.push(x[:, i : i + 9_999], wait=None) for i in range(0, x.shape[1], 9_999)]
            made.append(np.concatenate([*got, stream.flush()], axis=1))
    np.testing.assert_array_equal(made[0], made[1])


def test_a_plugin_knows_the_daemon_here_alone(echoing):
    """What it asks for: the high band alone, from the middle, after a loss."""
    there, here = echoing
    x, origin, start = noise(1), HOURS + 17, HOURS + 2 * CHUNK
    with Wire(here.connection()) as wire:
        wire.submit("p", source="stream", want="parts", origin=origin, start=start)
        wire.audio("p", x, origin)
        decided = wire.until("decided")
        assert decided["model_sha256"] == MODEL_SHA256
        partial = wire.until("partial")
        assert (partial["start"], partial["chunk"]) == (start, start // CHUNK)
        rest, _ = wire.result("p")
        made = np.concatenate([partial.samples(), rest], axis=1)
        np.testing.assert_array_equal(made, x[:, start - origin :] * gain_of(0))
        status = wire.ask("status")["status"]["worker"]
        tcp = there.connection().tcp
        assert tcp.control in status["device"]


def test_a_live_stream_goes_through(echoing):
    x = noise(0.2, 5)
    with echoing[1].client() as client, client.open(RATE, 2, live=True, origin=HOURS) as stream:
        got = [stream.push(x[:, i : i + 512], wait=None) for i in range(0, x.shape[1], 512)]
        made = np.concatenate([*got, stream.flush()], axis=1)
    np.testing.assert_array_equal(made, echo_of(x))


def test_torch_is_loaded_there_alone(echoing):
    with echoing[1].client() as client:
        client.extend(Audio(noise(0.2), RATE))
        worker = psutil.Process(client.status()["worker"]["pid"])
        assert "bridge.upstream" in worker.cmdline()
        mapped = {Path(one.path).name for one in worker.memory_maps()}
        assert not any(name.startswith("libtorch") for name in mapped)


def test_a_cancel_is_passed_on():
    with both("slow", BRIDGE_TEST_STEP_SECONDS=0.1) as (there, here), here.client() as client:
        job = client.submit(Audio(noise(4), RATE))
        with there.client() as direct:
            wait_until(lambda: any(one["state"] == "running" for one in direct.jobs()))
            job.cancel()
            with pytest.raises(CancelledError):
                job.result(10)
            wait_until(lambda: [one["state"] for one in direct.jobs()] == ["cancelled"])


def test_an_error_there_is_the_error_here(echoing):
    with echoing[1].client() as client:
        with pytest.raises(ModelError, match="there is no model 'missing'"):
            client.extend(Audio(noise(0.2), RATE), Settings(model="missing"))
        made = client.extend(Audio(noise(0.2), RATE))
        np.testing.assert_array_equal(made.samples, echo_of(noise(0.2)))


def test_a_daemon_that_is_gone_is_an_error_and_is_found_again_when_it_is_back():
    x = noise(1.5, 6)
    with both("slow", BRIDGE_TEST_STEP_SECONDS=0.02) as (there, here), here.client() as client:
        tcp = there.connection().tcp
        job = client.submit(Audio(x, RATE))
        wait_until(lambda: job.progress > 0.2)
        there.kill()
        with pytest.raises(NoDaemonError, match=f"that computes, {tcp.control}, cannot be reached"):
            job.result(30)
        with pytest.raises(NoDaemonError, match="cannot be reached"):
            client.extend(Audio(x, RATE), timeout=30)
        there.start()
        made = client.extend(Audio(x, RATE), timeout=30)
        np.testing.assert_array_equal(made.samples, echo_of(x))


def test_a_worker_that_dies_in_the_middle_costs_nothing():
    x = noise(12, 7)
    with both() as (_, here), here.client() as client, client.open(RATE, 2, origin=HOURS) as stream:
        got = []
        for i in range(0, x.shape[1], RATE):
            got.append(stream.push(x[:, i : i + RATE], wait=None))
            if i == 5 * RATE:
                psutil.Process(client.status()["worker"]["pid"]).kill()
        got.append(stream.flush())
        np.testing.assert_array_equal(np.concatenate(got, axis=1), echo_of(x))


def test_a_file_of_this_machine_is_refused_at_the_start(tmp_path):
    with daemon() as one:
        here = RunningDaemon(tmp_path, "--upstream", str(one.connection_file), engine=None)
        with pytest.raises(AssertionError, match="must be a file of `audiosr-bridge daemon keys"):
            here.start()
        missing = RunningDaemon(tmp_path, "--upstream", str(tmp_path / "no.json"), engine=None)
        with pytest.raises(AssertionError, match=r"no\.json"):
            missing.start()


def test_the_command_line_hands_the_file_over(echoing, tmp_path):
    there, here = echoing
    key = key_of(there, "command")
    for path, code in [(key, 0), (here.connection_file, 3), (tmp_path / "none.json", 3)]:
        words = ("daemon", "unit", "--upstream", os.path.relpath(path, tmp_path))
        process = start(tmp_path, *words)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code, err.decode()
        assert (f"--upstream={path}".encode() in out) == (code == 0)
        assert (b"error: " in err) == (code != 0)
