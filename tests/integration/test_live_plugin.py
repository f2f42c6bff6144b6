"""The plugin for listening: what is heard is dry and high band, in time or not at all."""

from __future__ import annotations

import importlib.util
import platform
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from audiosr_core.audio import Samples
from tests.support import shim
from tests.support.bridge_engines import gain_of
from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.live_host import (
    CUTOFF,
    FADE_SECONDS,
    FIRST_SECONDS,
    play,
    share_of,
    steepest,
    warm,
)
from tests.support.shim import MiniHost

pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif(platform.system() != "Linux", reason="the plugin is for Linux"),
]
NAME = "AudioSR Bridge Live"
RATE = 48_000
SEED = 511  # the gain of its echo is a half
SECONDS = 9


@pytest.fixture(scope="module")
def lite() -> Iterator[RunningDaemon]:
    with daemon(engine=None) as running:
        warm(running)
        yield running


def sound(num_channels: int, sample_rate: int, seconds: float) -> Samples:
    """Noise that ends at 6 kHz."""
    size = int(seconds * sample_rate)
    spectrum = np.fft.rfft(np.random.default_rng(size).normal(size=(num_channels, size)))
    spectrum *= np.fft.rfftfreq(size, 1 / sample_rate) < 6_000
    return np.asarray(0.2 * np.fft.irfft(spectrum, size), np.float32)


def streamed(x: Samples, sample_rate: int, cutoff: float | str) -> Samples:
    """By the engine in this process, with silence behind it."""
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    origin = FIRST_SECONDS * sample_rate
    stream = Engine().open_live(sample_rate, len(x), Settings(cutoff=cutoff), origin)
    padded = np.pad(x, ((0, 0), (0, sample_rate // 10)))
    high = np.concatenate([made for _, made in stream.push_split(padded)], axis=1)
    return x + high[:, : x.shape[1]]


@pytest.mark.parametrize(
    ("kind", "channels", "rate", "cutoff", "blocks"),
    [
        ("clap", 2, 48_000, 6_000, "512"),
        ("vst3", 1, 44_100, 5_000, "64,1000,3"),
        ("lv2", 2, 96_000, 0, "8192"),
    ],
)
def test_a_bounce_has_the_bits_of_the_engine(lite, tmp_path, kind, channels, rate, cutoff, blocks):
    x = sound(channels, rate, 1.5)
    latency = rate // 10
    host = MiniHost(kind, environment={**lite.environment, "HOME": str(lite.folder)})
    made = [
        host.render(
            np.pad(x, ((0, 0), (0, latency))), tmp_path, f"set={CUTOFF}:{cutoff}",
            profile="live", rate=rate, offline=1, blocks=blocks,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert made[0].seen["latency"] == latency <= 0.1 * rate
    assert made[0].seen["chunks_failed"] == made[0].seen["chunks_dry"] == 0
    wanted = streamed(x, rate, cutoff or "follow")
    assert np.any(wanted != x)
    for one in made:
        np.testing.assert_array_equal(one.samples[:, latency:], wanted)


@pytest.mark.skipif(not importlib.util.find_spec("pedalboard"), reason="pedalboard is not here")
def test_pedalboard_has_the_bits_of_the_engine(lite, monkeypatch):
    from pedalboard import load_plugin

    for name, value in lite.environment.items():
        monkeypatch.setenv(name, value)
    plugin = load_plugin(str(shim.bundles() / "AudioSRBridge.vst3"), plugin_name=NAME)
    plugin.cutoff = "6000 Hz"
    x = sound(2, RATE, 1.0)
    wanted = streamed(x, RATE, 6_000)
    for block in (8192, 512):
        np.testing.assert_array_equal(plugin.process(x, RATE, buffer_size=block), wanted)


def test_an_export_of_ardour_is_wet():
    from tests.hosts import ardour
    from tests.hosts.ardour_session import Track, make
    from tests.hosts.bench import Bench, expected

    if ardour.missing():
        pytest.skip(ardour.missing())
    with Bench(quick=True) as bench:
        path, x = bench.sound(2)
        track = Track("live", "LV2", "urn:audiosr-bridge:live#stereo", path, 2, SEED)
        session = make(bench, [track], {"live": ["live"]})
        assert session.latencies == [RATE // 10], session.said
        is_wet, said = ardour.exported(bench, session, "live", expected(x, SEED))
        assert is_wet, said


def frozen(running: RunningDaemon) -> None:
    workers = running.family()[1:]
    for one in workers:
        one.suspend()
    threading.Event().wait(0.3)
    for one in workers:
        one.resume()


def restarted(running: RunningDaemon) -> None:
    running.kill()
    running.start()


@pytest.mark.parametrize("trouble", [frozen, restarted])
def test_what_comes_too_late_is_dry_without_a_click_and_wet_again(
    tmp_path: Path, trouble: Callable[[RunningDaemon], None]
) -> None:
    with daemon(engine=f"{ENGINES}:echo") as running:
        warm(running)
        timer = threading.Timer(3, trouble, [running])
        played = play(running, sound(2, RATE, 3), tmp_path, seconds=SECONDS, meanwhile=timer.start)
        timer.join()
    assert played.latency <= 0.1 * RATE
    share = share_of(played.added, played.dry * gain_of(0))
    assert np.nanmin(share) > -1e-3
    assert np.nanmax(share) < 1 + 1e-3
    assert steepest(share) < 1.1 / (FADE_SECONDS * RATE)
    assert np.nanmax(share[: 3 * RATE]) > 0.99
    assert np.nanmax(share[-3 * RATE :]) > 0.99
    late = played.late_after(0)
    assert (played.seen["dry"] > 0) == (late > 0)
