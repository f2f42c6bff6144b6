"""Laws of chains: a list like another, a plugin like another, and a Pedalboard to the bit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pedalboard import BrickwallLimiter, Gain, Pedalboard, Resample, Reverb

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError
from plugin_host import Chain, SuperResolution
from plugin_host.errors import ChainError, PluginError

PAGE = Path(__file__).parents[2] / "docs" / "chains.md"
RATE = 44_100
MAKERS = (
    lambda: Gain(-6),
    lambda: Reverb(),
    lambda: BrickwallLimiter(-12),
    lambda: Resample(22_050),
    lambda: pedalboard.Delay(0.01),
    lambda: pedalboard.MP3Compressor(),
    lambda: pedalboard.HighpassFilter(200),
)


def sound(num_samples: int = 20_011, channels: int = 2) -> NDArray[np.float32]:
    x = np.random.default_rng(num_samples).standard_normal((channels, num_samples))
    return (0.2 * x).astype(np.float32)


@dataclass
class Held:
    """A step of another make: gives everything at the end, at a rate that may be another."""

    name: str = "held"
    factor: int = 1
    opened: list[tuple[int, int]] = field(default_factory=list)

    def open(self, sample_rate: int, num_channels: int) -> HeldStage:
        self.opened.append((sample_rate, num_channels))
        return HeldStage(sample_rate * self.factor, self.factor)


@dataclass
class HeldStage:
    sample_rate_out: int
    factor: int
    kept: list[Samples] = field(default_factory=list)

    def push(self, samples: Samples) -> Samples:
        self.kept.append(samples.copy())
        return samples[:, :0]

    def flush(self, tail_samples: int = 0) -> Samples:
        whole = np.repeat(np.concatenate(self.kept, axis=1), self.factor, axis=1)
        return np.pad(whole, ((0, 0), (0, tail_samples)))


def streamed(chain: Chain, x: NDArray[np.floating], block: int) -> NDArray[np.floating]:
    cuts = range(0, x.shape[1], block)
    out = [chain.process(x[:, i : i + block], RATE, reset=False) for i in cuts]
    return np.concatenate([*out, chain.flush()], axis=1)


# ---- a list


def test_a_chain_is_a_list() -> None:
    gain, reverb, sr = Gain(), Reverb(), SuperResolution()
    chain = Chain([gain, reverb])
    chain.append(sr)
    chain.insert(1, limiter := BrickwallLimiter())
    assert list(chain) == [gain, limiter, reverb, sr]
    assert len(chain) == 4
    assert chain[0] is gain
    assert chain[-1] is sr
    assert limiter in chain
    assert chain.index(reverb) == 2
    part = chain[1:3]
    assert isinstance(part, Chain)
    assert list(part) == [limiter, reverb]
    chain.remove(limiter)
    del chain[0]
    chain[0] = gain
    chain += [limiter]
    assert list(chain) == [gain, sr, limiter]
    chain[:] = [sr]
    assert repr(chain) == "<Chain with 1 step: [<SuperResolution>]>"
    with pytest.raises(IndexError):
        chain[7]


@pytest.mark.parametrize("wrong", [3, "Gain", Gain, None, SuperResolution])
def test_what_is_no_step_is_refused(wrong: object) -> None:
    with pytest.raises(ChainError, match="a chain holds pedalboard plugins"):
        Chain([wrong])  # type: ignore[list-item]
    chain = Chain([Gain()])
    for put in (chain.append, lambda x: chain.__setitem__(0, x), lambda x: chain.insert(0, x)):
        with pytest.raises(ChainError):
            put(wrong)  # type: ignore[no-untyped-call]
    assert len(chain) == 1


def test_groups_are_what_runs_as_one() -> None:
    a, b, c, sr, held = Gain(), Reverb(), Gain(), SuperResolution(), Held()
    assert Chain([a, b, sr, held, c]).groups() == [[a, b], sr, held, [c]]
    assert Chain([a, Chain([b, sr]), c]).groups() == [[a, b], sr, [c]]
    assert Chain().groups() == []
    with pytest.raises(ChainError, match="twice"):
        Chain([a, sr, a]).groups()


# ---- a Pedalboard


@settings(max_examples=25, deadline=None)
@given(
    which=st.lists(st.integers(0, len(MAKERS) - 1), max_size=4),
    num_samples=st.integers(3, 30_000),
    buffer_size=st.sampled_from([512, 8192]),
)
def test_only_plugins_are_a_pedalboard_to_the_bit(
    which: list[int], num_samples: int, buffer_size: int
) -> None:
    x = sound(num_samples)
    chain, board = Chain(MAKERS[i]() for i in which), Pedalboard([MAKERS[i]() for i in which])
    wanted = board.process(x, RATE, buffer_size)
    assert np.array_equal(chain.process(x, RATE, buffer_size), wanted)
    assert np.array_equal(chain.process(x, RATE, buffer_size), wanted)  # and once more


@pytest.mark.parametrize("shape", [(0,), (1,), (500,), (1, 500), (500, 1), (2, 500), (500, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_lie_as_pedalboard_has_them(shape: tuple[int, ...], dtype: type) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, shape).astype(dtype)
    made, wanted = Chain([Gain(-6)])(x, RATE), Pedalboard([Gain(-6)])(x, RATE)
    assert (made.shape, made.dtype) == (wanted.shape, wanted.dtype)
    assert np.array_equal(made, wanted)


def test_a_shape_that_can_be_read_both_ways_needs_a_word() -> None:
    x = sound(2)
    chain = Chain([pedalboard.HighpassFilter(9_000)])  # one sample changes the next of its channel
    with pytest.raises(AudioError, match=r"\[2, 2\] can be read both ways"):
        chain(x, RATE)
    first = chain.process(x, RATE, layout="channels_first")
    assert np.array_equal(chain.process(x.T, RATE, layout="channels_last").T, first)
    assert not np.array_equal(chain.process(x, RATE, layout="channels_last"), first)


@pytest.mark.parametrize(
    ("array", "rate", "options", "error"),
    [
        (np.zeros((2, 9), np.int16), RATE, {}, AudioError),
        (np.zeros((1, 2, 9), np.float32), RATE, {}, AudioError),
        (np.zeros((2, 9), np.float32), 44_100.5, {}, ChainError),
        (np.zeros((2, 9), np.float32), 0, {}, AudioError),
        (np.zeros((2, 9), np.float32), RATE, {"buffer_size": 0}, ChainError),
        (np.zeros((2, 9), np.float32), RATE, {"layout": "planar"}, ChainError),
        (np.zeros((3, 9), np.float32), RATE, {}, PluginError),  # MP3 has two channels
    ],
)
def test_what_cannot_be_is_said_and_never_reaches_a_plugin(
    array: object, rate: float, options: dict[str, object], error: type
) -> None:
    with pytest.raises(error):
        Chain([pedalboard.MP3Compressor()]).process(array, rate, **options)  # type: ignore[arg-type]


# ---- a stream


@settings(max_examples=15, deadline=None)
@given(
    which=st.lists(st.integers(0, len(MAKERS) - 1), max_size=3),
    num_samples=st.integers(10, 25_000),
    block=st.integers(200, 9_000),
)
def test_a_stream_is_the_whole(which: list[int], num_samples: int, block: int) -> None:
    x = sound(num_samples)
    chain = Chain(MAKERS[i]() for i in which)
    assert np.array_equal(streamed(chain, x, block), chain(x, RATE))


def test_blocks_of_a_stream_lie_as_the_first_one() -> None:
    x, chain = sound(1_001), Chain([Reverb()])
    whole = chain(x, RATE)
    out = [chain.process(x[:, :999].T, RATE, reset=False)]
    out += [chain.process(x[:, i : i + 1].T, RATE, reset=False) for i in (999, 1_000)]
    made = np.concatenate([*out, chain.flush()])
    assert np.array_equal(made.T, whole)
    mono = [chain.process(x[0, i : i + 500], RATE, reset=False) for i in (0, 500, 1_000)]
    assert np.concatenate([*mono, chain.flush()]).shape == (1_001,)


def test_a_stream_holds_one_sound() -> None:
    x, chain = sound(1_000), Chain([Reverb()])
    with pytest.raises(ChainError, match="no sound to flush"):
        chain.flush()
    chain.process(x, RATE, reset=False)
    with pytest.raises(ChainError, match="2 channels at 44100 Hz, got 2 at 48000 Hz"):
        chain.process(x, 48_000, reset=False)
    with pytest.raises(AudioError, match="2 dimensions"):
        chain.process(x[0], RATE, reset=False)
    chain.reset()
    chain.process(x[0], 48_000, reset=False)
    assert chain(x, RATE).shape == x.shape  # a whole sound ends the other
    with pytest.raises(ChainError):
        chain.flush()


def test_the_tail_rings_through_what_follows() -> None:
    x = sound(9_000)
    chain = Chain([Gain(-6), Held(), Reverb()])
    longer = np.concatenate([x, np.zeros((2, 4_410), np.float32)], axis=1)
    chain.process(x, RATE, reset=False)
    made = chain.flush(tail_seconds=0.1)
    assert np.array_equal(made, Pedalboard([Gain(-6), Reverb()])(longer, RATE))
    assert made[:, -1].any()


# ---- other steps


def test_each_step_gets_the_rate_of_the_one_before() -> None:
    double, after = Held(factor=2), Held()
    chain = Chain([Gain(0), double, Gain(0), after])
    x = sound(1_000)
    y = chain(x, 24_000)
    assert y.shape == (2, 2_000)
    assert chain.sample_rate_out == 48_000
    assert (double.opened, after.opened) == ([(24_000, 2)], [(48_000, 2)])
    chain.process(x, 24_000, reset=False)
    assert np.array_equal(chain.flush(), y)
    assert chain.sample_rate_out == 48_000


def test_a_chain_is_a_step() -> None:
    x = sound()
    inner = Chain([Resample(22_050), Held()])
    assert np.array_equal(
        Chain([inner, Gain(-6)])(x, RATE), Chain([Resample(22_050), Gain(-6)])(x, RATE)
    )


def test_a_chain_that_holds_itself_is_told():
    mine = Chain([Gain(1)])
    mine.append(Chain([mine]))
    for use in (mine.groups, mine.close, mine.reset, lambda: mine(np.zeros(9, np.float32), 16_000)):
        with pytest.raises(ChainError, match="hold itself"):
            use()


@pytest.mark.parametrize("inside", [Chain, pedalboard.Chain, pedalboard.Mix])
def test_one_plugin_is_never_in_two_places_however_deep(inside):
    plugin = Reverb()
    with pytest.raises((ChainError, PluginError), match=r"twice|multiple times"):
        Chain([plugin, inside([plugin])])(np.zeros(9, np.float32), 16_000)


# ---- the page


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spectrum = np.fft.rfft(sound(RATE // 2))
    spectrum[:, 4_000:] = 0  # 8 kHz
    soundfile.write(tmp_path / "in.wav", np.fft.irfft(spectrum).T, RATE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIOSR_BRIDGE_RUNTIME_DIR", str(tmp_path / "run"))  # no daemon
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S):
        exec(block, names)
    length = RATE // 2 + round(0.5 * RATE)
    assert sum(block.shape[1] for block in names["made"]) == length
