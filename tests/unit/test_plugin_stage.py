"""Laws of plugins in a stage: cut a sound as you like, it comes out as from one call, in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pedalboard
import pytest
from numpy.typing import NDArray

from plugin_host import plugin_stage
from plugin_host.errors import PluginError
from plugin_host.plugin_stage import EachChannel, PluginStage, forgets, run_plugins
from plugin_host.plugins import load_plugin

RATE = 44_100
IMPULSE = np.array([1.0, *[0.0] * 400, 0.5], np.float32)
VST3 = Path("/usr/lib/vst3")

PLUGINS: dict[str, Callable[[], pedalboard.Plugin]] = {
    "Bitcrush": lambda: pedalboard.Bitcrush(8),
    "BrickwallLimiter": lambda: pedalboard.BrickwallLimiter(-12),
    "Chorus": pedalboard.Chorus,
    "Clipping": pedalboard.Clipping,
    "Compressor": lambda: pedalboard.Compressor(-30, 4),
    "Convolution": lambda: pedalboard.Convolution(IMPULSE, 0.5, RATE),
    "Delay": lambda: pedalboard.Delay(0.05),
    "Distortion": pedalboard.Distortion,
    "GSMFullRateCompressor": pedalboard.GSMFullRateCompressor,
    "Gain": lambda: pedalboard.Gain(-3),
    "HighShelfFilter": pedalboard.HighShelfFilter,
    "HighpassFilter": pedalboard.HighpassFilter,
    "Invert": pedalboard.Invert,
    "LadderFilter": pedalboard.LadderFilter,
    "Limiter": pedalboard.Limiter,
    "LowShelfFilter": pedalboard.LowShelfFilter,
    "LowpassFilter": pedalboard.LowpassFilter,
    "MP3Compressor": pedalboard.MP3Compressor,
    "NoiseGate": pedalboard.NoiseGate,
    "PeakFilter": pedalboard.PeakFilter,
    "Phaser": pedalboard.Phaser,
    "PitchShift": lambda: pedalboard.PitchShift(3),
    "Resample": lambda: pedalboard.Resample(22_050),
    "Resample up": lambda: pedalboard.Resample(96_000),
    "Reverb": pedalboard.Reverb,
    "Mix": lambda: pedalboard.Mix([pedalboard.Gain(-6), pedalboard.Delay(0.01)]),
    "Mix with latency": lambda: pedalboard.Mix([pedalboard.Gain(), pedalboard.Resample(22_050)]),
    "Chain": lambda: pedalboard.Chain([pedalboard.Resample(8_000), pedalboard.Reverb()]),
    "Pedalboard": lambda: pedalboard.Pedalboard([pedalboard.PitchShift(-2), pedalboard.Gain(3)]),
}
IN_PLACE = ("BrickwallLimiter", "GSMFullRateCompressor", "MP3Compressor", "Resample", "Resample up")


def sound(num_samples: int = 20_011, channels: int = 2) -> NDArray[np.float32]:
    x = np.random.default_rng(num_samples).standard_normal((channels, num_samples))
    return (0.2 * x).astype(np.float32)


def staged(
    plugins: list[pedalboard.Plugin], x: NDArray[np.float32], block: int, tail: int = 0
) -> NDArray[np.float32]:
    stage = PluginStage(plugins, RATE, len(x))
    out = [stage.push(x[:, i : i + block]) for i in range(0, x.shape[1], block)]
    return np.concatenate([*out, stage.flush(tail)], axis=1)


@pytest.mark.parametrize("block", [333, 8_192, 20_011])
@pytest.mark.parametrize("name", PLUGINS)
def test_blocks_give_what_one_call_gives(name: str, block: int) -> None:
    x = sound()
    whole = pedalboard.Pedalboard([PLUGINS[name]()])(x, RATE)
    assert np.array_equal(staged([PLUGINS[name]()], x, block), whole)


@pytest.mark.parametrize("name", PLUGINS)
def test_the_tail_is_what_silence_brings(name: str) -> None:
    x, tail = sound(9_001), 5_000
    silence = np.zeros((2, tail), np.float32)
    longer = pedalboard.Pedalboard([PLUGINS[name]()])(np.concatenate([x, silence], 1), RATE)
    assert np.array_equal(staged([PLUGINS[name]()], x, 1_000, tail), longer)


@pytest.mark.parametrize("name", IN_PLACE)
def test_an_impulse_stays_on_its_sample(name: str) -> None:
    x = np.zeros((1, 30_000), np.float32)
    x[0, 12_345] = 0.5
    y = staged([PLUGINS[name]()], x, 1_000)
    assert y.shape == x.shape
    assert np.abs(y[0]).argmax() == 12_345


@pytest.mark.parametrize("num_samples", [0, 1, 2, 3, 65, 8_191, 8_192, 8_193])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_length_stays_that_length(num_samples: int, channels: int) -> None:
    x = sound(num_samples, channels)
    plugins = [pedalboard.Gain(-6), pedalboard.BrickwallLimiter(0)]
    assert staged(plugins, x, 1_000).shape == x.shape
    assert run_plugins(plugins, x, RATE, 8_192).shape == x.shape


def test_latencies_add_up() -> None:
    def made() -> list[pedalboard.Plugin]:
        return [pedalboard.Resample(22_050), pedalboard.BrickwallLimiter(), pedalboard.Reverb()]

    x = sound(30_000)
    assert np.array_equal(staged(made(), x, 777), pedalboard.Pedalboard(made())(x, RATE))


def test_a_plugin_begins_anew_with_every_sound() -> None:
    reverb, x = pedalboard.Reverb(), sound()
    first = staged([reverb], x, 1_000)
    assert np.array_equal(staged([reverb], x, 1_000), first)


@pytest.mark.parametrize("block", [1_000, 20_000])
def test_a_vst3_with_latency(block: int) -> None:
    path = VST3 / "ZaMaximX2.vst3"
    if not path.exists():
        pytest.skip("needs the package zam-plugins")
    plugin = load_plugin(path)
    assert plugin.reported_latency_samples > 0
    x = sound()
    assert np.array_equal(staged([plugin], x, block), plugin(x, RATE))


def test_a_plugin_that_cannot_take_the_sound_says_why() -> None:
    with pytest.raises(PluginError, match=r"MP3Compressor cannot take 3 channels at 44100 Hz: "):
        staged([pedalboard.MP3Compressor()], sound(channels=3), 1_000)


def test_of_many_the_one_is_named_that_cannot_take_the_sound() -> None:
    chain = [pedalboard.Gain(), pedalboard.MP3Compressor()]
    with pytest.raises(PluginError, match=r"each_channel = true for MP3Compressor in"):
        staged(chain, sound(channels=3), 1_000)


def test_a_plugin_that_keeps_everything_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_stage, "run_plugins", lambda plugins, x, *_, **__: x[:, :0])
    with pytest.raises(PluginError, match="Gain should give 20011 more samples"):
        staged([pedalboard.Gain()], sound(), 1_000)


def test_only_what_forgets_is_kept_whole() -> None:
    forgetful = {name for name, make in PLUGINS.items() if forgets(make())}
    assert forgetful == {"GSMFullRateCompressor", "PitchShift", "Mix with latency", "Pedalboard"}
    stage = PluginStage([pedalboard.Reverb()], RATE, 2)
    assert stage.push(sound(20_000)).shape == (2, 16_384)
    whole = PluginStage([pedalboard.PitchShift(1)], RATE, 2)
    assert whole.push(sound(20_000)).shape == (2, 0)


@pytest.mark.parametrize("name", ["Compressor", "Delay", "MP3Compressor", "PitchShift"])
@pytest.mark.parametrize(("channels", "block"), [(1, 999), (3, 20_000), (6, 8_192)])
def test_each_channel_goes_its_own_way(name: str, channels: int, block: int) -> None:
    x = sound(channels=channels)
    stage = EachChannel(PLUGINS[name]).open(RATE, channels)
    made = [stage.push(x[:, i : i + block]) for i in range(0, x.shape[1], block)]
    y = np.concatenate([*made, stage.flush()], axis=1)
    alone = [run_plugins([PLUGINS[name]()], row[None], RATE, plugin_stage.BLOCK)[0] for row in x]
    assert np.array_equal(y, np.stack(alone))


@pytest.mark.parametrize("name", ["ZamComp", "ZamCompX2"])  # only mono, only stereo
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_any_plugin_takes_any_sound_by_its_channels(name: str, channels: int) -> None:
    path = VST3 / f"{name}.vst3"
    if not path.exists():
        pytest.skip("needs the package zam-plugins")
    x = sound(channels=channels)
    stage = EachChannel(lambda: load_plugin(path, parameters={"makeup_db": 6.0})).open(
        RATE, channels
    )
    y = np.concatenate([stage.push(x), stage.flush()], axis=1)
    assert y.shape == x.shape
    gain = np.sqrt(np.mean(y**2, axis=1) / np.mean(x**2, axis=1))
    assert gain == pytest.approx(10 ** (6 / 20), rel=0.02)  # below the threshold it only gains
