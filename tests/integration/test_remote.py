"""Through the daemon and in this process: the same samples, the same files (promise P12), and the
same errors. The daemon is a real one with the real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiosr_core.audio import Audio
from audiosr_core.engine import Engine
from audiosr_core.errors import FileError, ModelError, NotFiniteError, RegionError
from audiosr_core.extend_file import extend_file
from audiosr_core.settings import Settings
from bridge import client as client_module
from bridge import sound
from bridge.errors import CancelledError, NoDaemonError
from bridge.jobs import ENDED
from bridge.remote import RemoteEngine
from tests.support.daemon import ENGINES, ROOT, daemon
from tests.support.fake_daemon import wait_until

pytestmark = pytest.mark.timeout(180)
RATE = 48_000


def music(seconds, rate=RATE, cutoff=8_000, num_channels=2, seed=0):
    """Noise that ends at a cutoff, the channels not alike."""
    x = np.random.default_rng(seed).standard_normal((num_channels, round(seconds * rate)))
    spectrum = np.fft.rfft(x, axis=1)
    spectrum[:, np.fft.rfftfreq(x.shape[1], 1 / rate) > cutoff] = 0
    y = np.fft.irfft(spectrum, x.shape[1], axis=1)
    return 0.1 * y / y.std()


@pytest.fixture(scope="module")
def running():
    with daemon(engine=None) as one:
        yield one


@pytest.fixture
def client(running):
    with running.client() as client:
        yield client


@pytest.fixture(params=["path", "inline"])
def travels(request, monkeypatch):
    """Whether the daemon reads files by itself."""
    least = 0 if request.param == "path" else 1 << 40
    monkeypatch.setattr(sound, "PATH_BYTES", least)
    return request.param


CASES = {
    "the same rate": ({}, {}, "PCM_24", None),
    "another rate": ({"rate": 22_050}, {}, "PCM_16", None),
    "floats": ({"num_channels": 1, "seconds": 6.3}, {"seed": 3, "mix": 0.7}, "FLOAT", None),
    "an odd rate": ({"rate": 11_025, "cutoff": 4_000}, {"rate": 44_100}, "PCM_24", None),
    "a region": ({"seconds": 16}, {}, "PCM_24", (7.0, 9.5)),
    "nothing to do": ({"cutoff": 24_000}, {}, "PCM_24", None),
    "very short": ({"seconds": 0.01}, {"cutoff": 8_000}, "PCM_24", None),
    "doubles": ({"seconds": 3}, {}, "DOUBLE", None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_through_the_daemon_is_the_same_file(client, tmp_path, travels, case):
    sound, knobs, subtype, region = CASES[case]
    sound = {"seconds": 12, **sound}
    source = tmp_path / "in.wav"
    soundfile.write(source, music(**sound).T, sound.get("rate", RATE), subtype)
    here, there = tmp_path / "here.wav", tmp_path / "there.wav"
    settings, seen = Settings(**knobs), []
    local = extend_file(source, here, settings, region=region)
    remote = extend_file(
        source, there, settings, region=region, on_progress=seen.append,
        engine=RemoteEngine(client),
    )  # fmt: skip
    assert here.read_bytes() == there.read_bytes()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    timed = {"seconds", "real_time_factor", "output", "engine"}
    assert {k: v for k, v in local.as_dict().items() if k not in timed} == {
        k: v for k, v in remote.as_dict().items() if k not in timed
    }
    assert (local.engine, remote.engine) == ("in-process", "daemon")
    wait_until(lambda: all(job["state"] in ENDED for job in client.jobs()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [RATE, 16_000])
def test_a_sound_through_the_daemon_is_the_same_sound(client, dtype, rate):
    audio = Audio(music(12, rate, 6_000).astype(dtype), rate)
    here = Engine().extend(audio, Settings())
    there = client.extend(audio, Settings())
    assert there.sample_rate == here.sample_rate
    assert there.samples.dtype == here.samples.dtype
    np.testing.assert_array_equal(there.samples, here.samples)


@pytest.mark.parametrize("block", [512, 5000, 300_000])
def test_a_stream_through_the_daemon_is_the_same_stream(client, block):
    x = music(13, seed=5).astype(np.float32)
    engine, settings = Engine(), Settings()
    decision = engine.analyse([x], lambda a, b: x[:, a:b], RATE, 2, settings)
    local = engine.open(RATE, 2, settings, decision)
    with client.open(RATE, 2, settings, decision) as stream:
        assert stream.latency_samples == local.latency_samples
        for i in range(0, x.shape[1], block):
            here, there = local.push(x[:, i : i + block]), stream.push(x[:, i : i + block], None)
            np.testing.assert_array_equal(there, here)  # piece by piece, not only in the end
        np.testing.assert_array_equal(stream.flush(), local.flush())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("settings", "region"), [(Settings(rate=44_100), None), (Settings(rate="keep"), (999, 150_000))]
)
def test_an_engine_without_a_file_is_an_engine_too(client, settings, region, dtype):
    x = music(12, 16_000, 6_000).astype(dtype)
    local, made = Engine(), []
    known = RemoteEngine(client).on_file(None, region, num_samples=x.shape[1])
    for engine in (local, RemoteEngine(client), known):
        decision = engine.analyse([x], lambda a, b: x[:, a:b], 16_000, 2, settings)
        stream = engine.open(16_000, 2, settings, decision, region)
        parts = [*stream.push_split(x[:, :70_000]), *stream.push_split(x[:, 70_000:])]
        parts += stream.flush_split()
        made.append([decision, *(np.concatenate(p, axis=1) for p in zip(*parts, strict=True))])
    for other in made[1:]:
        assert made[0][0] == other[0]
        for here, there in zip(made[0][1:], other[1:], strict=True):
            np.testing.assert_array_equal(here, there)


def test_a_dry_run_only_decides(client, tmp_path, travels):
    source = tmp_path / "in.wav"
    soundfile.write(source, music(12).T, RATE, "PCM_24")
    local = extend_file(source, None, Settings(), dry_run=True)
    remote = extend_file(source, None, Settings(), dry_run=True, engine=RemoteEngine(client))
    assert remote.model_sha256 == local.model_sha256
    assert remote.cutoff_hz == local.cutoff_hz
    assert remote.extended
    assert list(tmp_path.iterdir()) == [source]


# ---- errors are the same


@pytest.mark.parametrize(
    ("kind", "knobs", "how"),
    [
        (ModelError, {"model": "nobody-has-this"}, {}),
        (RegionError, {}, {"region": (50.0, 60.0)}),
        (RegionError, {"rate": 44_100}, {"region": (0.0, 1.0)}),
    ],
)
def test_errors_are_the_same(client, tmp_path, travels, kind, knobs, how):
    source = tmp_path / "in.wav"
    soundfile.write(source, music(3).T, RATE, "PCM_24")
    said = []
    for engine in (None, RemoteEngine(client)):
        with pytest.raises(kind) as caught:
            extend_file(source, tmp_path / "out.wav", Settings(**knobs), engine=engine, **how)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert list(tmp_path.iterdir()) == [source]


def test_a_bad_sample_is_found_in_its_place(client, tmp_path, travels):
    x = music(5)
    x[1, 100_000] = np.nan
    source = tmp_path / "in.wav"
    soundfile.write(source, x.T, RATE, "DOUBLE")
    with pytest.raises(NotFiniteError, match=r"channel 2 .* sample 100000 "):
        extend_file(source, tmp_path / "out.wav", Settings(), engine=RemoteEngine(client))


def test_a_file_that_changes_meanwhile_is_refused(client, tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "PATH_BYTES", 0)
    source = tmp_path / "in.wav"
    soundfile.write(source, music(12).T, RATE, "PCM_24")

    def touch(fraction):
        if fraction > 0.1:
            os.utime(source, ns=(1, 1))

    with pytest.raises(FileError, match="changed"):
        extend_file(
            source, tmp_path / "out.wav", Settings(), on_progress=touch,
            engine=RemoteEngine(client),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == [source]


# ---- a slow daemon, to be interrupted


@pytest.fixture
def slow():
    with daemon(engine=f"{ENGINES}:slow") as one:
        yield one


def test_who_raises_from_progress_frees_the_device(slow, tmp_path, travels):
    source = tmp_path / "in.wav"
    soundfile.write(source, music(20).T, RATE, "PCM_24")
    raised = []

    def stop(fraction):
        if fraction > 0.12:
            raised.append(time.monotonic())
            raise KeyboardInterrupt

    with slow.client() as client:
        with pytest.raises(KeyboardInterrupt):
            extend_file(
                source, tmp_path / "out.wav", Settings(), on_progress=stop,
                engine=RemoteEngine(client),
            )  # fmt: skip
        assert time.monotonic() - raised[0] < 0.5  # 0.1 s to acknowledge, one step, the writer
        assert [job["state"] for job in client.jobs()] == ["cancelled"]
    assert list(tmp_path.iterdir()) == [source]


def test_a_killed_daemon_costs_nothing_but_time(slow, tmp_path, travels):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, music(4).T, RATE, "PCM_24")
    undisturbed = tmp_path / "undisturbed.wav"
    reached = threading.Event()

    def tell(fraction):
        if fraction > 0.4:
            reached.set()

    def kill():
        reached.wait(60)
        slow.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with slow.client() as client:
        with pytest.raises(NoDaemonError, match="daemon"):
            extend_file(source, target, Settings(), on_progress=tell, engine=RemoteEngine(client))
        killer.join()
    assert not target.exists()
    slow.start()
    with slow.client() as client:
        done = extend_file(source, target, Settings(), engine=RemoteEngine(client))
        assert done.engine == "daemon"
        assert client.jobs()[-1]["cached"] > 0
    with (
        daemon(engine=f"{ENGINES}:slow", BRIDGE_TEST_STEP_SECONDS=0) as quick,
        quick.client() as client,
    ):
        extend_file(source, undisturbed, Settings(), engine=RemoteEngine(client))
    assert target.read_bytes() == undisturbed.read_bytes()


def test_two_clients_with_one_sound_do_not_disturb_each_other(slow):
    audio = Audio(music(2).astype(np.float32), RATE)
    with slow.client() as one, slow.client() as two:
        jobs = [one.submit(audio), two.submit(audio), one.submit(audio)]
        made = [job.result(60).samples for job in jobs]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_a_job_that_outlives_its_client_is_anybodys(slow):
    audio = Audio(music(3).astype(np.float32), RATE)
    with slow.client() as client:
        job = client.submit(audio, on_disconnect="finish")
        job.wait(lambda: job.progress > 0.2, 60)
    with slow.client() as client:
        again = client.submit(audio, on_disconnect="finish")
        assert again.id == job.id
        assert again.result(60).samples.shape == audio.samples.shape
        assert len(client.jobs()) == 1


def test_a_cancelled_stream_says_so(slow):
    with slow.client() as client, client.open(RATE, 2) as stream:
        stream.push(music(1).astype(np.float32))
        stream.job.cancel()
        with pytest.raises(CancelledError):
            stream.flush()


# ---- another machine


def test_a_laptop_with_a_key_uses_this_daemon_until_it_is_revoked(tmp_path):
    audio = Audio(music(2).astype(np.float32), RATE)
    with daemon("--listen", "tcp://127.0.0.1:0", engine=f"{ENGINES}:echo") as one:
        path = tmp_path / "laptop.json"
        code, _, err = run(
            one, "daemon", "keys", "create", "laptop", "--host", "127.0.0.1", "-o", str(path)
        )
        assert code == 0, err
        with client_module.connect(path) as remote, one.client() as local:
            assert not remote.is_local  # so no paths: everything travels
            made = [client.extend(audio).samples for client in (remote, local)]
            np.testing.assert_array_equal(made[0], made[1])
            assert next(remote.events()).type == "heartbeat"
            code, _, err = run(one, "daemon", "keys", "revoke", "laptop")
            assert code == 0, err
            with pytest.raises(NoDaemonError):
                wait_until(lambda: remote.ping() < 0)  # never so: it ends with the key
            with pytest.raises(NoDaemonError, match="laptop"):
                client_module.connect(path, timeout_seconds=5)


# ---- the command line


def command(running, *words, environment=None):
    return subprocess.Popen(
        [sys.executable, "-m", "plugin_host.cli", *words],
        env={**running.environment, **(environment or {})}, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def run(running, *words, environment=None):
    process = command(running, *words, environment=environment)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.wav"
    soundfile.write(path, music(8).T, RATE, "PCM_24")
    return path


def test_the_command_uses_a_daemon_that_runs(running, source):
    made = {}
    for name, flags in {
        "default": [], "daemon": ["--daemon"], "here": ["--no-daemon"],
        "device": ["--device", "cpu"], "file": ["--connection", str(running.connection_file)],
    }.items():  # fmt: skip
        target = source.with_name(f"{name}.wav")
        code, reports, err = run(
            running, "extend", str(source), "-o", str(target), "--json", *flags
        )
        assert code == 0, err
        made[name] = (reports[0]["engine"], target.read_bytes())
    assert {name: engine for name, (engine, _) in made.items()} == {
        "default": "daemon", "daemon": "daemon", "here": "in-process", "device": "in-process",
        "file": "daemon",
    }  # fmt: skip
    assert len({samples for _, samples in made.values()}) == 1


def test_flags_that_contradict_each_other(running, source):
    for flags in (
        ["--daemon", "--device", "cpu"],
        ["--connection", "x.json", "--precision", "fp32"],
        ["--connection", "x.json", "--no-daemon"],
    ):
        code, _, err = run(running, "extend", str(source), *flags)
        assert code == 2, err
        assert "leave" in err


def test_without_a_daemon_the_command_works_and_insisting_is_an_error(running, source):
    none = {"AUDIOSR_BRIDGE_RUNTIME_DIR": str(source.parent / "none")}
    code, reports, err = run(
        running, "extend", str(source), "--dry-run", "--json", environment=none
    )
    assert (code, reports[0]["engine"]) == (0, "in-process"), err
    lost = str(source.parent / "lost.json")
    code, _, err = run(running, "extend", str(source), "--connection", lost)
    assert code == 3
    assert "lost.json" in err
    named = {**none, "AUDIOSR_BRIDGE_CONNECTION": lost}
    code, reports, err = run(
        running, "extend", str(source), "--dry-run", "--json", environment=named
    )
    assert (code, reports[0]["engine"]) == (0, "in-process")
    assert "note: " in err


def test_an_interrupted_command_cancels_at_the_daemon(slow, source):
    process = command(slow, "extend", str(source))
    with slow.client() as client:
        deadline = time.monotonic() + 60
        while not any(job["state"] == "running" for job in client.jobs()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert [job["state"] for job in client.jobs()] == ["cancelled"]
    process.communicate()
    assert list(source.parent.iterdir()) == [source]


def test_a_command_with_a_daemon_loads_no_torch_and_no_scipy(running, source):
    code = f"""
import sys
from plugin_host.cli.app import run
code = run(["extend", {str(source)!r}, "--daemon", "-o", {str(source) + ".wav"!r}])
heavy = [m for m in ("torch", "scipy.signal", "scipy.stats") if m in sys.modules]
sys.exit(repr((code, heavy)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(ROOT), env=running.environment,
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "(0, [])"
