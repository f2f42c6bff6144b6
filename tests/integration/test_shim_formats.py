"""What the three formats owe to any host: most with an effect behind them that needs no daemon.

That effect (tests/native/stub_effect.cpp) adds the original once more where it would wait:

    dry   latency × silence, then the sound
    wet   latency × silence, then twice the sound
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from functools import cache

import numpy as np
import pytest

from audiosr_core.audio import Samples
from tests.support import shim
from tests.support.bridge_engines import echo_of
from tests.support.daemon import ENGINES, RunningDaemon
from tests.support.shim import MiniHost

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="the plugin is for Linux")
LATENCY_SECONDS = {"bridge": 5.12, "live": 0.1}
MIX, CUTOFF, SEED, RENDER_MODE, ON_FAILURE, BYPASS = 0, 3, 4, 6, 7, 8
WAIT, NEVER_WAIT = 1, 2


@cache
def host(kind: str) -> MiniHost:
    return MiniHost(kind, effect=shim.STUB)


def noise(num_channels: int, num_samples: int) -> Samples:
    random = np.random.default_rng(num_samples)
    return random.uniform(-0.5, 0.5, (num_channels, num_samples)).astype(np.float32)


def late(sound: Samples, latency: int) -> Samples:
    """The sound, as long as it was, after so much silence."""
    return np.pad(sound, ((0, 0), (latency, 0)))[:, : sound.shape[1]]


each_format = pytest.mark.parametrize("kind", shim.FORMATS)


@each_format
@pytest.mark.parametrize(
    ("profile", "num_channels", "rate", "blocks"),
    [
        ("live", 1, 44100, "512"),
        ("live", 2, 48000, "1,2,3,511,64"),
        ("live", 2, 192000, "65536"),
        ("live", 1, 96000, "1"),
        ("bridge", 2, 48000, "4096,333"),
        ("bridge", 1, 88200, "8192"),
    ],
)
def test_the_latency_is_exact_whatever_the_blocks(
    kind, profile, num_channels, rate, blocks, tmp_path
):
    latency = int(LATENCY_SECONDS[profile] * rate)
    sound = noise(num_channels, latency + 20_000)
    how = {"profile": profile, "rate": rate, "blocks": blocks}
    wet = host(kind).render(sound, tmp_path, offline=1, **how)
    assert (wet.seen["latency"], wet.seen["tail"]) == (latency, latency)
    np.testing.assert_array_equal(wet.samples, late(2 * sound, latency))
    dry = host(kind).render(sound, tmp_path, offline=0, **how)
    np.testing.assert_array_equal(dry.samples, late(sound, latency))


@each_format
@pytest.mark.parametrize(
    ("offline", "mode", "is_wet"),
    [(0, 0, False), (1, 0, True), (0, WAIT, True), (1, NEVER_WAIT, False)],
)
def test_the_effect_learns_of_offline_and_of_knobs(kind, offline, mode, is_wet, tmp_path):
    sound = noise(2, 12_000)
    done = host(kind).render(
        sound, tmp_path, f"set={RENDER_MODE}:{mode}", offline=offline, profile="live"
    )
    np.testing.assert_array_equal(done.samples, late(sound * (2 if is_wet else 1), 4800))
    assert done.seen["progress"] == offline  # an output: what the effect was told
    assert done.seen["status_state"] == (3 if is_wet else 5)


@each_format
def test_bypass_is_equally_late(kind, tmp_path):
    sound = noise(1, 12_000)
    done = host(kind).render(sound, tmp_path, f"set={BYPASS}:1", offline=1, profile="live")
    np.testing.assert_array_equal(done.samples, late(sound, 4800))
    assert done.seen["bypass"] == 1


@pytest.mark.parametrize("kind", ["vst3", "clap"])
@pytest.mark.parametrize("blocks", ["512", "4096", "100,1,7"])
def test_a_knob_turns_at_its_sample(kind, blocks, tmp_path):
    """Several in one block too, and of several parameters."""
    sound = noise(2, 14_000)
    lines = [f"at=6000:{MIX}:0.25", f"at=6001:{MIX}:0.5", f"at=6100:{SEED}:7",
             f"at=9000:{BYPASS}:1", f"at=9100:{BYPASS}:0", f"at=9100:{MIX}:0"]  # fmt: skip
    done = host(kind).render(sound, tmp_path, *lines, offline=1, profile="live", blocks=blocks)
    gain = np.ones(14_000, np.float32)
    gain[6000:], gain[6001:], gain[9000:] = 0.25, 0.5, 0
    dry = late(sound, 4800)
    np.testing.assert_array_equal(done.samples, dry + gain * dry)
    assert done.seen["seed"] == 7


def test_a_control_port_turns_at_its_block(tmp_path):
    sound = noise(1, 12_000)
    done = host("lv2").render(
        sound, tmp_path, f"at=6100:{MIX}:0.25", offline=1, profile="live", blocks="1000"
    )
    dry = late(sound, 4800)
    gain = np.where(np.arange(12_000) < 6000, np.float32(1), np.float32(0.25))
    np.testing.assert_array_equal(done.samples, dry + gain * dry)


@each_format
@pytest.mark.parametrize("rate", [44100, 48000, 96000])
@pytest.mark.parametrize("frame", [0, 1, 77_777, 900_001])
def test_the_song_is_where_the_host_says(kind, rate, frame, tmp_path):
    """To the sample, though CLAP says it in fractions of a second."""
    sound = noise(1, 3000)
    blocks = "500"
    done = host(kind).render(
        sound, tmp_path, f"song=1000:{frame}", rate=rate, blocks=blocks, profile="live"
    )
    assert done.seen["chunks_dry"] == frame + 1500  # at the block that begins with sample 2500
    stopped = host(kind).render(
        sound, tmp_path, f"song=0:{frame}", "song=2000", rate=rate, blocks=blocks,
        profile="live",
    )  # fmt: skip
    assert stopped.seen["chunks_dry"] == 0


@pytest.mark.parametrize("kind", ["vst3", "lv2"])
@pytest.mark.parametrize(
    ("name", "block", "off"),
    [("Ardour", 500, 4800), ("Ardour", 4096, 4800), ("Ardour", 8192, 0), ("Another", 500, 0),
     ("Another", 8192, 0)],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 4300, 4800, 77_777])
def test_in_ardour_the_place_is_that_of_the_input(kind, name, block, off, place, tmp_path):
    """Ardour, and nobody else, says the output's, but for a bounce; before zero LV2 says less."""
    sound = noise(1, 2 * block)
    done = host(kind).render(
        sound, tmp_path, f"song=0:{place - off}", host=name, blocks=block, profile="live"
    )
    assert done.seen["chunks_dry"] == place + block
    stands = host(kind).render(sound, tmp_path, host=name, blocks=block, profile="live")
    assert stands.seen["chunks_dry"] == 0


@pytest.mark.parametrize("to", shim.FORMATS)
@pytest.mark.parametrize("kind", shim.FORMATS)
def test_a_state_is_the_same_in_every_format(kind, to, tmp_path):
    saved, again = tmp_path / "saved", tmp_path / "again"
    sound = noise(1, 1000)
    lines = [f"set={MIX}:0.5", f"set={SEED}:42", f"set={CUTOFF}:6000"]
    host(kind).render(sound, tmp_path, *lines, state_out=saved, profile="live")
    state = json.loads(saved.read_text())
    assert state["audiosr_bridge_plugin"] == 1
    assert (state["parameters"]["mix"], state["parameters"]["seed"]) == (0.5, 42)
    assert host(to).run("load", state_in=saved, state_out=again).returncode == 0
    assert again.read_text() == saved.read_text()


@each_format
@pytest.mark.parametrize("started", [0, 1])
@pytest.mark.parametrize(
    "text",
    [b"", b"garbage", b"\0" * 100, b"{}", b'{"audiosr_bridge_plugin": 2}', b"[" * 100_000,
     b'{"audiosr_bridge_plugin": 1, "later": "' + b"x" * (64 << 10) + b'"}'],
    ids=["nothing", "garbage", "zeros", "empty", "later", "deep", "long"],
)  # fmt: skip
def test_what_is_no_state_is_refused_and_changes_nothing(kind, started, text, tmp_path):
    there = tmp_path / "state"
    there.write_bytes(text)
    done = host(kind).run("load", state_in=there, started=started, profile="live")
    assert done.returncode == 3, done.stderr


@each_format
@pytest.mark.parametrize("num_channels", [1, 2])
def test_it_survives_what_a_host_should_not_do(kind, num_channels):
    done = host(kind).run("misuse", channels=num_channels, profile="live")
    assert done.returncode == 0, done.stderr


@each_format
def test_every_text_is_read_back(kind):
    done = host(kind).run("texts")
    assert done.returncode == 0, done.stderr


@each_format
def test_the_state_is_shown_as_a_sentence(kind, tmp_path):
    done = host(kind).render(noise(1, 1000), tmp_path, profile="live", offline=1)
    own = "A sentence of the effect's own."  # LV2 has the sentences of its description only
    assert done.seen["state"] == (own if kind != "lv2" else "Wet")


@each_format
@pytest.mark.parametrize("effect", [None, shim.STUB], ids=["product", "stub"])
def test_a_scanner_opens_nothing_and_starts_nothing(kind, effect):
    """100 times instantiated and destroyed, and one more that is left there to be looked at."""
    done = MiniHost(kind, effect=effect).run("cycle", times=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"files": 0, "threads": 1}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), engine=f"{ENGINES}:echo").start()
    yield running
    running.stop()


@each_format
@pytest.mark.parametrize("num_channels", [1, 2])
def test_a_bounce_is_wet_to_the_bit(kind, num_channels, daemon, tmp_path):
    """Through the product and a daemon; then once more, from what the first one kept."""
    latency = int(LATENCY_SECONDS["bridge"] * 48_000)
    seed = 10 * num_channels + shim.FORMATS.index(kind)  # else the formats share their renders
    sound = np.pad(noise(num_channels, 100_000), ((0, 0), (0, latency)))
    product = MiniHost(kind, environment=daemon.environment)
    for blocks in ("512", "1000,1,64"):
        done = product.render(sound, tmp_path, f"set={SEED}:{seed}", offline=1, blocks=blocks)
        np.testing.assert_array_equal(done.samples, late(echo_of(sound, seed), latency))
        assert done.seen["chunks_wet"] > 0
        assert done.seen["chunks_dry"] == done.seen["chunks_failed"] == 0


@each_format
def test_without_a_daemon_a_bounce_is_silent_and_says_so(kind, tmp_path):
    folders = {f"AUDIOSR_BRIDGE_{name}_DIR": str(tmp_path / name)
               for name in ("RUNTIME", "CACHE", "STATE", "CONFIG")}  # fmt: skip
    product = MiniHost(kind, environment={**os.environ, **folders})
    sound = noise(1, 300_000)
    done = product.render(sound, tmp_path, offline=1)
    assert not done.samples.any()
    assert done.seen["chunks_failed"] > 0
    assert "no daemon" in done.seen["state"].lower()
    dry = product.render(sound, tmp_path, f"set={ON_FAILURE}:1", offline=1)
    latency = int(LATENCY_SECONDS["bridge"] * 48_000)
    np.testing.assert_array_equal(dry.samples, late(sound, latency))
    assert dry.seen["chunks_failed"] > 0


@each_format
def test_memory_is_in_order(kind, tmp_path):
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind is not installed (apt install valgrind)")
    wrapper = (valgrind, "-q", "--error-exitcode=9", "--leak-check=full",
               "--errors-for-leak-kinds=definite")  # fmt: skip
    watched = MiniHost(kind, effect=shim.STUB, wrapper=wrapper)
    done = watched.run("misuse", profile="live", unload=0)
    assert done.returncode == 0, done.stderr
    watched.render(noise(2, 6000), tmp_path, profile="live", offline=1, blocks="512,1", unload=0)
