"""Laws of super-resolution as a plugin: the engine's samples by every door, knobs, automation."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pedalboard
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiosr_core.audio import Audio
from audiosr_core.engine import Engine
from audiosr_core.errors import NotFiniteError, SettingsError, UsageError
from audiosr_core.families import Condition
from audiosr_core.noise import white_noise
from audiosr_core.resample import output_length
from audiosr_core.settings import KNOBS, Settings
from audiosr_core.splice import crossover_hz, width_hz
from plugin_host import Chain, SuperResolution
from plugin_host.automation import Curve
from plugin_host.errors import ChainError
from tests.support.daemon import RunningDaemon, daemon

RATE = 44_100


class NoiseModel:
    """White noise by absolute time, in small chunks."""

    id = "noise"
    sample_rate = 48_000
    past_samples = future_samples = 480
    overlap_seconds = 0.02
    grid_samples = 1
    anchored = True

    def stride_seconds(self, settings: Settings) -> float:
        return 0.4

    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        noise = white_noise(condition.settings.seed, start, low.shape[1])
        return np.tile(0.05 * noise, (len(low), 1))


class NoiseEngine(Engine):
    """`Engine` with that model for all."""

    def model(self, settings: Settings) -> Any:
        return NoiseModel()


def muffled(num_samples: int = RATE, channels: int = 2, edge_hz: float = 6_000) -> Any:
    """Noise whose band ends like a wall, float32."""
    spectrum = np.fft.rfft(np.random.default_rng(2).standard_normal((channels, num_samples)))
    spectrum[:, np.fft.rfftfreq(num_samples, 1 / RATE) > edge_hz] = 0
    return (0.1 * np.fft.irfft(spectrum, num_samples)).astype(np.float32)


def here(**knobs: Any) -> SuperResolution:
    """With the little model, and nothing measured where the cutoff is given."""
    return SuperResolution(engine=NoiseEngine(), **{"cutoff": 6_000, **knobs})


def streamed(
    plugin: SuperResolution | Chain, x: NDArray[np.floating], block: int
) -> NDArray[np.floating]:
    cuts = range(0, x.shape[1], block)
    out = [plugin.process(x[:, i : i + block], RATE, reset=False) for i in cuts]
    return np.concatenate([*out, plugin.flush()], axis=1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two beside other work take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---- the same samples by every door


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_whole_sound_is_what_the_engine_makes_of_it(dtype: type) -> None:
    x = muffled(11_025).astype(dtype)
    made = SuperResolution(daemon=False, seed=3)(x, RATE)
    wanted = Engine().extend(Audio(x.astype(np.float64), RATE), Settings(seed=3, rate="keep"))
    assert made.dtype == dtype
    assert made.shape == x.shape
    assert np.array_equal(made, wanted.samples.astype(dtype))
    assert not np.array_equal(made, x)


@settings(max_examples=8, deadline=None)
@given(block=st.integers(100, 50_000), rate=st.sampled_from(["auto", 48_000, 96_000]))
def test_the_size_of_blocks_changes_no_bit(block: int, rate: int | str) -> None:
    x = muffled(30_011)
    sr = here(rate=rate, mix=[(0.1, 0.0), (0.3, 1.0)])
    whole = sr(x, RATE)
    sr.decision = sr.decision  # what was measured once holds for the stream
    assert np.array_equal(streamed(sr, x, block), whole)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000, 96_000])
@pytest.mark.parametrize("num_samples", [0, 1, 7_919])
def test_length_and_rate_are_exact(rate: int, num_samples: int) -> None:
    x = muffled(max(num_samples, 2))[:, :num_samples]
    sr = here(rate=rate, cutoff=3_000)
    made = sr.process(x, RATE, layout="channels_first")
    assert made.shape == (2, output_length(num_samples, RATE, rate))
    assert sr.sample_rate_out == rate
    assert here().process(x, RATE, layout="channels_first").shape == x.shape


@pytest.fixture(scope="module")
def running() -> Iterator[RunningDaemon]:
    with daemon(engine=None) as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["auto", 48_000])
def test_daemon_and_process_cannot_be_told_apart(running: RunningDaemon, rate: str | int) -> None:
    x = muffled(11_025)
    local = SuperResolution(daemon=False, rate=rate)
    with SuperResolution(connection=running.connection_file, rate=rate) as remote:
        assert (remote.engine.name, local.engine.name) == ("daemon", "in-process")
        assert np.array_equal(remote(x, RATE), local(x, RATE))
        assert remote.decision == local.decision
        remote.decision = local.decision = local.decision
        for mix in (1.0, [[0.1, 0.0], [0.2, 1.0]]):  # a new sound, though it is measured alike
            remote.mix = local.mix = mix
            assert np.array_equal(streamed(remote, x, 5_000), streamed(local, x, 3_000))


# ---- a plugin among others


def test_in_a_chain_it_takes_its_turn() -> None:
    x = muffled()
    sr = here()
    before, after = pedalboard.Gain(-6), pedalboard.Limiter()
    made = Chain([before, sr, after])(x, RATE)
    assert np.array_equal(made, after(sr(before(x, RATE), RATE), RATE))
    assert Chain([sr])(x.astype(np.float64), RATE).dtype == np.float64


def test_a_rate_is_changed_once_where_it_stands() -> None:
    x = muffled(4_410)
    chain = Chain([pedalboard.Gain(0), here(rate=96_000), pedalboard.Gain(0)])
    assert chain(x, RATE).shape == (2, 9_600)
    assert chain.sample_rate_out == 96_000


def test_a_stream_that_knows_nothing_follows() -> None:
    x, sr = muffled(), SuperResolution(engine=NoiseEngine())
    made = streamed(sr, x, 4_000)
    assert made.shape == x.shape
    assert sr.decision is not None
    assert sr.decision.follow
    assert sr.decision.gain_db == 0.0
    spectrum = np.abs(np.fft.rfft(made - x)[0])
    frequency = np.fft.rfftfreq(x.shape[1], 1 / RATE)
    assert spectrum[frequency > 7_000].mean() > 1e4 * spectrum[frequency < 5_000].mean()


def test_a_decision_is_for_its_channels() -> None:
    sr = here()
    sr(muffled(), RATE)
    sr.decision = sr.decision
    with pytest.raises(ChainError, match="one for 2 channels, and the sound has 1"):
        sr.process(muffled(channels=1), RATE, reset=False)


def test_without_room_it_says_so() -> None:
    x = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 32_000)).astype(np.float32)
    sr = SuperResolution(engine=NoiseEngine())
    with pytest.warns(UserWarning, match="say rate=48000"):
        assert np.array_equal(sr(x, 16_000), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sr(np.zeros_like(x), 16_000)  # silence
        sr(muffled(), RATE)
        sr.rate = 48_000
        assert sr(x, 16_000).shape == (1, 96_000)


def test_nan_is_named() -> None:
    x = muffled()
    x[1, 17] = np.nan
    with pytest.raises(NotFiniteError, match="channel 2 is not at sample 17"):
        here()(x, RATE)


# ---- knobs


def test_knobs_are_properties() -> None:
    sr = SuperResolution("subtle-air", seed=9)
    assert repr(sr).startswith("<SuperResolution ")
    assert "seed=9" in repr(sr)
    assert SuperResolution("subtle-air", mix=0.25).mix == 0.25  # wins over the preset
    sr.mix = 0.5
    assert (sr.mix, sr.settings.mix) == (0.5, 0.5)
    assert set(KNOBS) <= set(dir(sr))
    assert repr(SuperResolution()) == "<SuperResolution>"
    with pytest.raises(SettingsError, match="mix must be 0 to 1"):
        sr.mix = 2
    with pytest.raises(SettingsError, match="unknown setting 'mxi'"):
        SuperResolution(mxi=0.5)
    with pytest.raises(AttributeError, match="no 'mxi'"):
        sr.mxi = 0.5
    with pytest.raises(AttributeError, match="no 'mxi'"):
        _ = sr.mxi
    with pytest.raises(SettingsError, match="reference mode"):
        sr.mode = "reference"
    with pytest.raises(UsageError):
        SuperResolution(engine=NoiseEngine(), device="cpu")
    assert sr.mix == 0.5


def test_a_client_is_let_go_of() -> None:
    sr = SuperResolution(daemon=False)
    assert sr.engine is sr.engine
    closed: list[int] = []
    sr._place.callback(closed.append, 1)
    sr.close()
    assert closed == [1]
    assert sr.engine.name == "in-process"  # and opened again
    sr._place.callback(closed.append, 2)
    del sr
    gc.collect()
    assert closed == [1, 2]


# ---- automation


@pytest.mark.parametrize(("knob", "value"), [("mix", 0.37), ("gain_hf_db", -7.3)])
def test_a_constant_curve_is_the_knob(knob: str, value: float) -> None:
    x = muffled().astype(np.float64)
    moved = here(**{knob: [(0.0, value), (1.0, value)]})(x, RATE) - x
    still = here(**{knob: value})(x, RATE) - x
    # the factor is rounded to float32, and the product once more
    assert np.abs(moved - still).max() <= 2.0**-22 * np.abs(still).max()


@pytest.mark.parametrize("cutoff", [3_000, 6_000])
@pytest.mark.parametrize(
    "knobs",
    [
        {"mix": [(0.5, 0.0), (0.5, 1.0)]},
        {"mix": [(0.2, 1.0), (0.4, 0.0), (0.6, 1.0)]},
        {"gain_hf_db": [(0.5, -24.0), (0.5, 12.0)], "mix": [(0.3, 0.2), (0.8, 1.0)]},
    ],
)
def test_no_curve_puts_anything_below_the_crossover(cutoff: int, knobs: dict[str, Any]) -> None:
    x = muffled().astype(np.float64)
    added = (here(cutoff=cutoff, **knobs)(x, RATE) - x)[0]
    power = np.abs(np.fft.rfft(added, 2 * len(added))) ** 2  # ends and all
    below = np.fft.rfftfreq(2 * len(added), 1 / RATE) < crossover_hz(cutoff, 0.08)
    assert 10 * np.log10(power[below].sum() / power.sum()) < -90


def test_where_the_mix_is_nothing_the_sound_is_itself() -> None:
    x = muffled()
    y = here(mix=[(0.5, 0.0), (0.5, 1.0)])(x, RATE)
    half = RATE // 2 - round(4 / width_hz(6_000, 0.08) * RATE)
    assert np.array_equal(y[:, :half], x[:, :half])
    full = here()(x, RATE)
    after = RATE - half
    assert np.array_equal(y[:, after:], full[:, after:])


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 60_000), length=st.integers(0, 20_000))
def test_a_factor_is_a_function_of_its_place(start: int, length: int) -> None:
    curve = Curve(((0.2, 0.0), (0.7, 1.0)), ((0.5, -6.0), (0.5, 0.0)), 48_000, 480.0)
    whole = curve.at(0, 100_000)
    assert np.array_equal(curve.at(start, length), whole[start : start + length])
    assert np.diff(whole).min() >= -1e-7  # both rise
    assert (whole[0], whole[-1]) == (0.0, 1.0)


def test_breakpoints_go_where_plain_lists_go() -> None:
    sr = SuperResolution(mix=[[0, 0.5], [2, 1]], gain_hf_db=-3)
    assert sr.mix == ((0.0, 0.5), (2.0, 1.0))
    assert sr.differences() == {"mix": [[0.0, 0.5], [2.0, 1.0]], "gain_hf_db": -3.0}
    assert SuperResolution(**sr.differences()).differences() == sr.differences()
    assert sr.settings.mix == 1.0
    sr.mix = 0.5
    assert sr.differences() == {"mix": 0.5, "gain_hf_db": -3.0}


@pytest.mark.parametrize(
    "points",
    [[], [1, 2], [(0, 2.0)], [(1, 0.5), (0, 0.5)], [(float("nan"), 1)], [("a", 1)], [(0, 1, 2)]],
)
def test_breakpoints_that_cannot_be(points: list[Any]) -> None:
    with pytest.raises(SettingsError, match="mix"):
        SuperResolution(mix=points)


def test_only_what_turns_the_high_band_moves() -> None:
    with pytest.raises(SettingsError, match="seed must be"):
        SuperResolution(seed=[(0, 1), (1, 2)])
