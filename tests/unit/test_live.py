"""Laws of the live stream: what every block size, rate, cutoff and beginning must give."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiosr_core.engine import Engine
from audiosr_core.errors import AudioError, NotFiniteError, UsageError
from audiosr_core.evaluation.metrics import null_residual_db
from audiosr_core.families import Condition
from audiosr_core.families.lite import LiteModel
from audiosr_core.families.lite_live import LOOK_AHEAD
from audiosr_core.live import BASE_RATES, MULTIPLES, LiveStream
from audiosr_core.live_voices import WIDTH_BINS
from audiosr_core.model.lite import Lite
from audiosr_core.resample import resample
from audiosr_core.settings import Settings
from audiosr_core.splice import filter_same, highpass
from audiosr_core.store import load_model

Samples = NDArray[np.float32]
RATES = [rate * multiple for multiple in MULTIPLES for rate in BASE_RATES]
GIVEN = Settings(cutoff=6_000.0, seed=3)
FOLLOW = Settings(cutoff="follow")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sound(
    num_samples: int, edge_hz: float = 6_000.0, rate: int = 48_000, channels: int = 2, seed: int = 0
) -> Samples:
    """Noise that falls by 3 dB an octave and ends at `edge_hz`."""
    x = np.random.default_rng(seed).normal(size=(channels, num_samples))
    f = np.fft.rfftfreq(num_samples, 1 / rate)
    spectrum = np.fft.rfft(x) * np.sqrt(200 / np.maximum(f, 200)) * (f < edge_hz)
    return (0.1 * np.fft.irfft(spectrum, num_samples)).astype(np.float32)


def played(stream: LiveStream, x: Samples, sizes: list[int]) -> tuple[Samples, Samples]:
    """Original and high band of the whole sound, pushed in blocks of these sizes in turn."""
    pieces, start, turn = [], 0, 0
    while start < x.shape[1]:
        size = sizes[turn % len(sizes)]
        pieces += stream.push_split(x[:, start : start + size])
        start, turn = start + size, turn + 1
    pieces += stream.flush_split()
    empty = x[:, :0]
    original = np.concatenate([empty, *(a for a, _ in pieces)], axis=1)
    return original, np.concatenate([empty, *(b for _, b in pieces)], axis=1)


def high_of(
    engine: Engine, x: Samples, settings: Settings = GIVEN, rate: int = 48_000, origin: int = 0
) -> Samples:
    return played(engine.open_live(rate, len(x), settings, origin), x, [x.shape[1] or 1])[1]


@given(
    sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=4),
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 2),
    origin=st.integers(0, 2**40),
)
@how(max_examples=8, deadline=None)
def test_the_size_of_blocks_changes_no_bit(
    sizes: list[int], rate: int, channels: int, origin: int
) -> None:
    x = sound(8_000, rate=rate, channels=channels)
    engine = Engine()
    whole = high_of(engine, x, rate=rate, origin=origin)
    original, high = played(engine.open_live(rate, channels, GIVEN, origin), x, sizes)
    np.testing.assert_array_equal(original, x)
    np.testing.assert_array_equal(high, whole)


def test_nor_does_it_where_the_cutoff_is_followed(engine: Engine) -> None:
    x = np.concatenate([sound(60_000, 6_000.0), sound(90_000, 11_000.0)], axis=1)
    whole = high_of(engine, x, FOLLOW)
    assert whole.any()
    _, high = played(engine.open_live(48_000, 2, FOLLOW), x, [511, 7, 4_096])
    np.testing.assert_array_equal(high, whole)


@pytest.mark.parametrize("num_samples", [0, 1, 255, 256, 257, 2_303, 2_304, 4_999])
@pytest.mark.parametrize("origin", [0, 1, 2_559, 10**9])
def test_what_comes_out_is_as_long_as_what_went_in(
    engine: Engine, num_samples: int, origin: int
) -> None:
    for kind in (np.float32, np.float64):
        x = np.random.default_rng(0).normal(size=(1, num_samples)).astype(kind)
        original, high = played(engine.open_live(48_000, 1, GIVEN, origin), x, [100])
        np.testing.assert_array_equal(original, x)
        assert original.dtype == kind
        assert high.shape == x.shape


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("origin", [0, 1_000])
def test_a_hop_is_settled_as_soon_as_the_plan_says(engine: Engine, rate: int, origin: int) -> None:
    stream = engine.open_live(rate, 1, GIVEN, origin)
    assert stream.latency_samples <= 0.0525 * rate  # of 100 ms; 512 samples are 12 ms more
    stride = stream.plan.stride
    x = sound(4 * stream.latency_samples, rate=rate, channels=1)
    for start in range(0, x.shape[1], 100):
        for _ in stream.push_split(x[:, start : start + 100]):
            pass
        whole = (stream.received - stream.latency_samples) // stride + 1
        assert stream.settled == max(origin, whole * stride)


def test_frame_by_frame_is_the_network_at_once(engine: Engine) -> None:
    """The same taps, laid on the present where the future is not waited for."""
    lite = load_model("lite")
    assert isinstance(lite, LiteModel)
    network = Lite(dataclasses.replace(lite.config, level_future=0))
    network.load_state_dict(lite.network.state_dict())
    with torch.no_grad():
        for block in list(network.blocks)[: lite.config.num_blocks - LOOK_AHEAD]:
            block.taps[-2] += block.taps[-1]
            block.taps[-1] = 0
    x, origin = sound(60_000), 12_345
    made = LiteModel(network).generate(x, origin, Condition(6_000.0, GIVEN))
    width = WIDTH_BINS * 48_000 / 1024
    made = filter_same(made, highpass(256, (6_000 - width / 2) / 24_000))
    inside = slice(24_000, 50_000)  # what the beginning and the end have no say in
    high = high_of(engine, x, origin=origin)
    # one float32 rounding in each of some forty layers
    np.testing.assert_allclose(high[:, inside], made[:, inside], atol=3e-5 * np.abs(made).max())


def test_a_place_is_the_same_wherever_the_stream_began(engine: Engine) -> None:
    x = sound(36_000)
    whole = high_of(engine, x)
    for origin in (256, 10_001):
        stream = engine.open_live(48_000, 2, GIVEN, origin)
        high = played(stream, x[:, origin:], [4_096])[1]
        known = origin + stream.plan.past + stream.plan.stride  # the first hop is not whole
        end = 35_000  # the last is faded out in both
        np.testing.assert_array_equal(high[:, known - origin : end - origin], whole[:, known:end])


def test_before_the_origin_there_was_silence(engine: Engine) -> None:
    x = sound(10_000)
    late = high_of(engine, x, origin=20_000)
    early = high_of(engine, np.pad(x, ((0, 0), (20_000, 0))))
    np.testing.assert_array_equal(late[:, 1_000:], early[:, 21_000:])  # after the fade-in


@given(rate=st.sampled_from(RATES), cutoff_hz=st.floats(1_500, 20_000))
@how(max_examples=10, deadline=None)
def test_the_low_band_is_the_original(rate: int, cutoff_hz: float) -> None:
    x = sound(rate // 3, cutoff_hz, rate, channels=1)
    high = high_of(Engine(), x, Settings(cutoff=cutoff_hz), rate)
    assert high.any()
    edge = cutoff_hz - WIDTH_BINS * 48_000 / 1024
    assert null_residual_db(x.astype(float), x.astype(float) + high, rate, edge) <= -90


def test_a_cutoff_too_low_for_its_crossover_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="from 1500 Hz on"):
        engine.open_live(48_000, 1, Settings(cutoff=1_499.0))


def test_so_it_is_while_the_cutoff_changes(engine: Engine) -> None:
    x = np.concatenate(
        [sound(60_000, 7_000.0, channels=1), sound(90_000, 12_000.0, channels=1)], axis=1
    )
    high = high_of(engine, x, FOLLOW)
    assert null_residual_db(x.astype(float), x.astype(float) + high, 48_000, 6_000.0) <= -90


@pytest.mark.parametrize("gain", [1 / 64, 0.3, 2.5])
def test_a_gain_at_the_input_is_the_same_gain_at_the_output(engine: Engine, gain: float) -> None:
    x = sound(40_000)
    y = high_of(engine, x)
    scaled = high_of(engine, x * np.float32(gain))
    np.testing.assert_allclose(scaled, y * gain, atol=2e-5 * gain * np.abs(y).max())


def test_silence_stays_silence(engine: Engine) -> None:
    assert not high_of(engine, np.zeros((2, 30_000), np.float32)).any()
    x = np.pad(sound(20_000), ((0, 0), (5_000, 20_000)))
    x[1] = 0
    high = high_of(engine, x)
    reach = 1_024 + 512  # a window, and the filter's own
    assert high[0].any()
    assert not high[0, : 5_000 - reach].any()
    assert not high[0, 25_000 + reach :].any()
    assert not high[1].any()


def test_mono_stays_mono_and_one_channel_is_as_good_as_two(engine: Engine) -> None:
    x = sound(20_000, channels=1)
    alone, pair = high_of(engine, x), high_of(engine, np.repeat(x, 2, axis=0))
    np.testing.assert_array_equal(pair[0], pair[1])
    np.testing.assert_array_equal(alone[0], pair[0])


@pytest.mark.parametrize("base", BASE_RATES)
def test_a_multiple_of_the_rate_gives_the_same_band(engine: Engine, base: int) -> None:
    x, below = sound(20_000, rate=base), GIVEN.replace(ceiling_hz=18_000.0)  # clear of Nyquist
    expected = high_of(engine, x, below, base)[:, 8_000:18_000]
    for multiple in MULTIPLES[1:]:
        y = high_of(engine, resample(x, base, base * multiple), below, base * multiple)
        got = y[:, ::multiple][:, 8_000:18_000]
        assert np.std(got - expected) < 1e-3 * np.std(expected)  # the resampler's own, at the end


def test_mix_gain_and_ceiling(engine: Engine) -> None:
    x = sound(40_000)
    y = high_of(engine, x)
    half = high_of(engine, x, GIVEN.replace(mix=0.5))
    np.testing.assert_array_equal(half, y * np.float32(0.5))
    assert not high_of(engine, x, GIVEN.replace(mix=0.0)).any()
    assert not high_of(engine, x, GIVEN.replace(ceiling_hz=5_000.0)).any()
    low = high_of(engine, x, GIVEN.replace(ceiling_hz=10_000.0))
    power = np.abs(np.fft.rfft(low[:, 10_000:30_000] * np.hanning(20_000))) ** 2
    f = np.fft.rfftfreq(20_000, 1 / 48_000)
    assert power[:, f > 11_000].sum() < 1e-6 * power.sum()


@pytest.mark.parametrize(("rate", "then_hz"), [(44_100, 12_000.0), (96_000, None)])
def test_the_cutoff_is_found_and_followed(engine: Engine, rate: int, then_hz: float | None) -> None:
    stream = engine.open_live(rate, 1, FOLLOW)
    for seconds, edge_hz in ((2, 7_000.0), (4, then_hz)):
        known = stream.cutoff_hz
        x = sound(seconds * rate, edge_hz or rate / 2, rate, channels=1)
        for start in range(0, x.shape[1], 4_096):
            for _, high in stream.push_split(x[:, start : start + 4_096]):
                known = known or stream.cutoff_hz
                assert known or not high.any()
        assert stream.cutoff_hz == (edge_hz and pytest.approx(edge_hz, rel=0.03))
    assert bool(then_hz) == bool(high.any())


def test_what_cannot_be_live_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="sample rates of 44100, 48000"):
        engine.open_live(32_000, 2, GIVEN)
    with pytest.raises(UsageError, match="keeps its rate"):
        engine.open_live(48_000, 2, GIVEN.replace(rate=96_000))
    with pytest.raises(UsageError, match="cannot stream"):
        engine.open_live(48_000, 2, GIVEN.replace(mode="reference"))
    stream = engine.open_live(48_000, 2, GIVEN)
    with pytest.raises(AudioError, match="block must be"):
        stream.push_split(np.zeros((1, 10), np.float32))
    with pytest.raises(NotFiniteError):
        stream.push_split(np.full((2, 10), np.nan, np.float32))
    list(stream.flush_split())
    with pytest.raises(AudioError, match="is over"):
        stream.push_split(np.zeros((2, 10), np.float32))
