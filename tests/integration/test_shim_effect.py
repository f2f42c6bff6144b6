"""The plugin in a host, with a real daemon: wet to the bit, or loud."""

from __future__ import annotations

import os
import platform
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audiosr_core.audio import Samples
from tests.support import shim
from tests.support.album import lowpassed
from tests.support.bridge_engines import echo_of
from tests.support.daemon import ENGINES, ROOT, RunningDaemon, daemon
from tests.support.shim import MiniHost, Rendered

pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif(platform.system() != "Linux", reason="the plugin is for Linux"),
]
ECHO, COUNTED = f"{ENGINES}:echo", f"{ENGINES}:counted"
SEED, FAILURE = 4, 7
each_format = pytest.mark.parametrize("kind", shim.FORMATS)


@pytest.fixture
def echo() -> Iterator[RunningDaemon]:
    with daemon(engine=ECHO, BRIDGE_TEST_CHUNK_SECONDS=0.5) as running:
        yield running


def noise(num_channels: int, num_samples: int) -> Samples:
    random = np.random.default_rng(num_samples)
    return random.uniform(-0.5, 0.5, (num_channels, num_samples)).astype(np.float32)


def bounce(
    running: RunningDaemon, kind: str, sound: Samples, folder: Path, *lines: str, **options: object
) -> tuple[Samples, Rendered]:
    """The sound through the plugin, its latency taken off."""
    rate, profile = options.get("rate", 48_000), options.get("profile", "bridge")
    latency = int((0.1 if profile == "live" else 5.12) * int(str(rate)))
    environment = {**running.environment, "HOME": str(running.folder)}
    host = MiniHost(kind, environment=environment)
    done = host.render(np.pad(sound, ((0, 0), (0, latency))), folder, *lines,
                       **{"rate": 48_000, "blocks": "4096,1000", **options})  # fmt: skip
    assert done.seen["latency"] == latency
    return done.samples[:, latency:], done


@each_format
@pytest.mark.parametrize(("channels", "rate"), [(1, 44_100), (2, 48_000)])
def test_an_offline_bounce_is_wet_to_the_bit(echo, kind, channels, rate, tmp_path):
    sound = noise(channels, 3 * rate + 17)
    for seed in (0, 700):
        out, done = bounce(echo, kind, sound, tmp_path, f"set={SEED}:{seed}", offline=1, rate=rate)
        np.testing.assert_array_equal(out, echo_of(sound, seed))
        assert done.seen["chunks_failed"] == done.seen["chunks_dry"] == 0
        assert done.seen["chunks_wet"] >= 6


def test_a_host_that_does_not_say_so_is_seen_to_render(echo, tmp_path):
    sound = noise(2, 4 * 48_000)
    out, done = bounce(echo, "clap", sound, tmp_path, offline=0, blocks="8192")
    np.testing.assert_array_equal(out, echo_of(sound))
    assert done.seen["chunks_wet"] == 8


def test_the_place_in_the_song_is_the_place_in_the_stream(echo, tmp_path):
    sound = noise(2, 2 * 48_000)
    out, _ = bounce(echo, "clap", sound, tmp_path, "song=0:100001", "song=48000:7", offline=1)
    np.testing.assert_array_equal(out, echo_of(sound))


@pytest.mark.parametrize(("loop_seconds", "seconds"), [(3, 60), (0.3, 60), (0.05, 15)])
def test_a_loop_is_wet_to_the_bit(echo, loop_seconds, seconds, tmp_path):
    sound = noise(2, seconds * 48_000)
    song = loops(loop_seconds, seconds)
    out, done = bounce(echo, "clap", sound, tmp_path, *song, offline=1, blocks="480")
    np.testing.assert_array_equal(out, echo_of(sound))
    assert done.seen["chunks_failed"] == done.seen["chunks_dry"] == 0


def test_a_loop_that_plays_is_wet_or_counted(echo, tmp_path):
    sound = noise(2, 4 * 48_000)
    out, done = bounce(echo, "clap", sound, tmp_path, *loops(0.3, 4), pace=1, blocks="512")
    is_wet = np.all(out == echo_of(sound), axis=0)
    assert np.all(is_wet | np.all(out == sound, axis=0))
    assert np.all(is_wet) or done.seen["chunks_dry"] > 0
    assert done.seen["chunks_failed"] == 0


def loops(loop_seconds: float, seconds: float) -> list[str]:
    """The song, from its beginning to the end of the loop, again and again."""
    end, step = int((seconds + 5.12) * 48_000), round(loop_seconds * 48_000)
    return [f"song={at}:1000" for at in range(0, end, step)]


def test_what_was_rendered_needs_no_daemon_any_more(echo, tmp_path):
    sound = noise(2, 3 * 48_000)
    first, _ = bounce(echo, "clap", sound, tmp_path, offline=1)
    echo.stop()
    again, done = bounce(echo, "vst3", sound, tmp_path, offline=1, blocks="333")
    np.testing.assert_array_equal(again, first)
    assert done.seen["state"] == "Wet, from earlier renders"


@pytest.mark.parametrize("failure", [0, 1])
def test_without_a_daemon_a_bounce_is_what_was_asked_for(failure, tmp_path):
    with daemon(engine=ECHO) as running:
        running.stop()
        sound = noise(2, 48_000)
        out, done = bounce(running, "clap", sound, tmp_path, f"set={FAILURE}:{failure}", offline=1)
    np.testing.assert_array_equal(out, sound if failure else np.zeros_like(sound))
    assert done.seen["chunks_failed"] >= 1
    assert "no daemon is running" in done.seen["state"]


def test_a_daemon_killed_in_the_middle_leaves_what_is_wet_and_silence(tmp_path):
    count = tmp_path / "count"
    with daemon(
        engine=COUNTED, BRIDGE_TEST_CHUNK_SECONDS=0.25, BRIDGE_TEST_COUNT=count,
        BRIDGE_TEST_STEP_SECONDS=0.01,
    ) as running:  # fmt: skip
        killer = threading.Thread(target=kill_at, args=(running, count, 8))
        killer.start()
        sound = noise(2, 10 * 48_000)
        out, done = bounce(running, "clap", sound, tmp_path, offline=1)
        killer.join(30)
    wet = echo_of(sound)
    is_wet, is_silent = np.all(out == wet, axis=0), np.all(out == 0, axis=0)
    assert np.all(is_wet | is_silent)
    assert is_wet.any()
    assert is_silent.any()
    assert done.seen["chunks_failed"] > 0
    assert done.seen["chunks_wet"] > 0


def kill_at(running: RunningDaemon, count: Path, chunks: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if count.exists() and len(count.read_text().splitlines()) >= chunks:
            running.kill()
            return
        time.sleep(0.005)


def test_a_daemon_that_comes_back_loses_nothing(tmp_path):
    count = tmp_path / "count"
    with daemon(
        engine=COUNTED, BRIDGE_TEST_CHUNK_SECONDS=0.25, BRIDGE_TEST_COUNT=count,
        BRIDGE_TEST_STEP_SECONDS=0.01,
    ) as running:  # fmt: skip
        allow_start(running, tmp_path)
        killer = threading.Thread(target=kill_at, args=(running, count, 8))
        killer.start()
        sound = noise(2, 10 * 48_000)
        try:
            out, done = bounce(running, "clap", sound, tmp_path, offline=1)
        finally:
            killer.join(60)
            stop_started(running)
    np.testing.assert_array_equal(out, echo_of(sound))
    assert done.seen["chunks_failed"] == 0


@pytest.mark.parametrize("name", ["AudioSR Bridge", "AudioSR Bridge Live"])
def test_to_be_loaded_starts_nothing(name, tmp_path):
    """pedalboard plays silence and noise to what it loads, and says that it is offline."""
    pytest.importorskip("pedalboard")
    bundle = next(shim.bundles().glob("*.vst3"))
    script, started = tmp_path / "start", tmp_path / "started"
    script.write_text(f"#!/bin/sh\ntouch '{started}'\n")
    script.chmod(stat.S_IRWXU)
    allow(script, tmp_path / "config")
    folders = ("config", "runtime", "cache", "state")
    variables = {f"AUDIOSR_BRIDGE_{one.upper()}_DIR": str(tmp_path / one) for one in folders}
    load = (
        "import pedalboard\n"
        f"for _ in range(20): pedalboard.VST3Plugin({str(bundle)!r}, plugin_name={name!r})\n"
    )
    subprocess.run(
        [sys.executable, "-c", load],
        env={**os.environ, **variables, "HOME": str(tmp_path)}, check=True, timeout=60,
    )  # fmt: skip
    assert not started.exists()
    assert not (tmp_path / "state").exists()  # where it would say that it ended a start


def allow_start(running: RunningDaemon, folder: Path) -> None:
    """As `plugin install` does, but for the daemon of the test."""
    script = folder / "start"
    names = [name for name in running.environment if name.startswith(("BRIDGE_", "AUDIOSR_"))]
    exports = "".join(f"export {name}='{running.environment[name]}'\n" for name in names)
    flags = " ".join(running.flags)
    script.write_text(
        f"#!/bin/sh\n{exports}export PYTHONPATH='{ROOT}' OMP_NUM_THREADS=1\ncd '{ROOT}'\n"
        f"'{sys.executable}' -m bridge.daemon {flags} 2>/dev/null &\n"
        f"while ! '{sys.executable}' -c 'from bridge.connection import running; from pathlib "
        f'import Path; exit(not running(Path("{running.runtime}")))\'; do sleep 0.1; done\n'
    )
    script.chmod(stat.S_IRWXU)
    allow(script, running.folder / "config")


def allow(script: Path, config: Path) -> None:
    """Write the plugin's configuration: this starts a daemon."""
    config.mkdir(mode=0o700, exist_ok=True)
    file = config / "plugin.json"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as opened:
        opened.write(f'{{"start": ["{script}"], "cache_bytes": 1000000000}}')


def stop_started(running: RunningDaemon) -> None:
    """The daemon that the plugin started is nobody's child here."""
    pid = running.connection().pid
    os.kill(pid, signal.SIGTERM)


def test_live_in_real_time(echo, tmp_path):
    """Underruns depend on the machine, so: wet where it is not dry, and mostly wet."""
    sound = noise(2, 4 * 48_000)
    out, done = bounce(
        echo, "clap", sound, tmp_path, offline=0, pace=1, blocks="512", profile="live"
    )
    wet = echo_of(sound)
    added, most = np.abs(out - sound), np.abs(wet - sound)
    assert np.all(added <= most + 1e-6)
    assert done.seen["chunks_wet"] + done.seen["chunks_dry"] >= 4


@each_format
def test_live_bounced_is_wet_to_the_bit(echo, kind, tmp_path):
    sound = noise(2, 2 * 48_000)
    out, done = bounce(echo, kind, sound, tmp_path, offline=1, blocks="512", profile="live")
    np.testing.assert_array_equal(out, echo_of(sound))
    assert done.seen["chunks_failed"] == done.seen["chunks_dry"] == 0


def test_a_cutoff_that_is_given_fits_the_latency_and_spoils_no_later_bounce(tmp_path):
    """With the weights of the package."""
    sound = lowpassed(noise(1, 3 * 48_000))
    with daemon(engine=None) as running:
        for knobs in (["set=3:6000"], []):
            out, done = bounce(running, "clap", sound, tmp_path, *knobs, offline=1)
            assert done.seen["chunks_failed"] == done.seen["chunks_dry"] == 0, done.seen["state"]
            assert (out != sound).reshape(-1, 4800).any(axis=1).all()
