"""Laws of the walk, with models that know the answer: place, length, blocks, joins, silence."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Audio, Samples
from audiosr_core.chunking import plan_chunks
from audiosr_core.crossfade import correlation, join, weights
from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision, decide
from audiosr_core.errors import AudioError, NotFiniteError
from audiosr_core.families import Condition
from audiosr_core.noise import BLOCK, white_noise
from audiosr_core.resample import output_length, resample
from audiosr_core.settings import Settings
from audiosr_core.splice import bandpass, crossover_hz, end_fade, filter_same
from audiosr_core.stream import Stream

RATES = (
    8_000,
    11_025,
    16_000,
    22_050,
    24_000,
    32_000,
    44_100,
    48_000,
    88_200,
    96_000,
    176_400,
    192_000,
)


class NoiseModel:
    """Gives white noise by absolute time, at the level of nothing in particular."""

    id = "noise"
    sample_rate = 48_000
    past_samples = 480
    future_samples = 480
    overlap_seconds = 0.02
    grid_samples = 1
    anchored = False

    def stride_seconds(self, settings: Settings) -> float:
        return 0.4

    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        noise = white_noise(condition.settings.seed, start, low.shape[1])
        return np.tile(0.05 * noise, (len(low), 1))


class ForgetfulModel(NoiseModel):
    """Other noise in every chunk: what a diffusion model without shared noise would give."""

    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        noise = np.random.default_rng(start % 2**32).normal(size=low.shape)
        return (0.05 * noise).astype(np.float32)


class LowCopyModel(NoiseModel):
    """Gives back what it sees: an identity at the model's rate."""

    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        return low


def noise(channels: int, n: int, seed: int = 0, level: float = 0.1) -> NDArray[np.float32]:
    return (level * np.random.default_rng(seed).normal(size=(channels, n))).astype(np.float32)


def decided(rate_out: int, channels: int = 1, cutoff_hz: float = 3_000.0) -> Decision:
    cutoff = Cutoff(cutoff_hz, 1.0, False, "given")
    return Decision(rate_out, cutoff, True, False, (False,) * channels, 0.0, "")


def walk(
    x: NDArray[np.floating],
    rate_in: int,
    rate_out: int | None = None,
    block: int | None = None,
    model: NoiseModel | None = None,
    region: tuple[int, int] | None = None,
    decision: Decision | None = None,
    **knobs: float,
) -> NDArray[np.floating]:
    decision = decision or decided(rate_out or rate_in, x.shape[0])
    stream = Stream(model or NoiseModel(), rate_in, x.shape[0], Settings(**knobs), decision, region)  # type: ignore[arg-type]
    block = block or max(1, x.shape[1])
    out = [stream.push(x[:, i : i + block]) for i in range(0, x.shape[1], block)]
    return np.concatenate([*out, stream.flush()], axis=1)


# ---- place and length (P2)


@pytest.mark.parametrize("rate_in", RATES)
@pytest.mark.parametrize("rate_out", [0, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("num_samples", [0, 1, 2, 7_919])
def test_length_is_exact_at_every_rate(rate_in: int, rate_out: int, num_samples: int) -> None:
    rate_out = rate_out or rate_in
    y = walk(noise(1, num_samples), rate_in, rate_out)
    assert y.shape == (1, round(num_samples * rate_out / rate_in + 1e-9))


@pytest.mark.parametrize("rate_in", RATES)
@pytest.mark.parametrize("rate_out", [0, 48_000, 96_000, 44_100])
def test_an_impulse_stays_on_its_sample(rate_in: int, rate_out: int) -> None:
    rate_out = rate_out or rate_in
    step = rate_in // math.gcd(rate_in, rate_out)  # whole samples in both rates
    place = rate_in // 2 // step * step
    x = np.zeros((1, rate_in), np.float32)
    x[0, place] = 1.0
    y = walk(x, rate_in, rate_out, mix=0.0)
    assert int(np.abs(y[0]).argmax()) == place * rate_out // rate_in


@given(n=st.integers(0, 10**7), rate_in=st.sampled_from(RATES), rate_out=st.sampled_from(RATES))
def test_output_length_is_rounding_in_integers(n: int, rate_in: int, rate_out: int) -> None:
    assert abs(output_length(n, rate_in, rate_out) - n * rate_out / rate_in) <= 0.5


@pytest.mark.parametrize("rate_in", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("rate_out", [44_100, 48_000, 96_000])
def test_resampling_by_pieces_is_resampling_the_whole(rate_in: int, rate_out: int) -> None:
    x = noise(1, rate_in * 2).astype(np.float64)
    silence = np.zeros((1, rate_in))  # soxr's first samples differ when nothing comes before
    whole = resample(np.concatenate([silence, x], axis=1), rate_in, rate_out)[:, rate_out:]
    decision = dataclasses.replace(decided(rate_out), extends=False)
    pieces = walk(x, rate_in, rate_out, decision=decision)
    # -140 dB: half the filter lies in the context of every piece
    assert np.abs(pieces - whole).max() < 1e-7 * np.abs(whole).max()


# ---- blocks, regions, order (P5, P12)


@settings(max_examples=25, deadline=None)
@given(
    num_samples=st.integers(0, 60_000),
    block=st.integers(1, 65_536),
    rate_in=st.sampled_from([16_000, 44_100, 48_000]),
)
def test_the_size_of_blocks_changes_no_bit(num_samples: int, block: int, rate_in: int) -> None:
    x = noise(2, num_samples)
    block = max(block, num_samples // 200 + 1)  # one-sample blocks have their own test
    whole = walk(x, rate_in, 48_000)
    assert np.array_equal(walk(x, rate_in, 48_000, block=block), whole)


def test_blocks_of_one_sample() -> None:
    x = noise(1, 12_000)
    assert np.array_equal(walk(x, 16_000, block=1), walk(x, 16_000))


@cache
def _long_walk() -> tuple[Samples, Samples]:
    x = noise(2, 100_000)
    return x, walk(x, 44_100)


@settings(max_examples=20, deadline=None)
@given(edges=st.tuples(st.integers(0, 99_999), st.integers(1, 100_000)).map(sorted))
def test_a_region_equals_that_place_in_the_whole(edges: list[int]) -> None:
    a, b = edges[0], max(edges[1], edges[0] + 1)
    x, whole = _long_walk()
    part = walk(x, 44_100, region=(a, b))
    assert np.array_equal(part[:, a:b], whole[:, a:b])
    assert np.array_equal(part[:, :a], x[:, :a])
    assert np.array_equal(part[:, b:], x[:, b:])


@given(start=st.integers(-3 * BLOCK, 5 * BLOCK), length=st.integers(0, 2 * BLOCK))
@settings(max_examples=40)
def test_noise_is_a_function_of_time(start: int, length: int) -> None:
    whole = white_noise(7, -4 * BLOCK, 12 * BLOCK)
    offset = start + 4 * BLOCK
    assert np.array_equal(white_noise(7, start, length), whole[offset : offset + length])


def test_noise_is_white_and_seeded() -> None:
    x = white_noise(1, 0, 200_000)
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert abs(np.vdot(x[1:], x[:-1])) / len(x) < 0.01
    assert abs(np.vdot(x, white_noise(2, 0, 200_000))) / len(x) < 0.01


# ---- the low band (P1)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("cutoff_hz", [1_500.0, 4_000.0, 11_025.0, 16_000.0])
@pytest.mark.parametrize("transition", [0.05, 0.2])
def test_nothing_is_added_below_the_crossover(
    rate: int, cutoff_hz: float, transition: float
) -> None:
    x = noise(1, rate * 2).astype(np.float64)
    y = walk(x, rate, decision=decided(rate, 1, cutoff_hz), transition=transition)
    added = y - x
    assert 20 * np.log10(added.std() / x.std()) > -20  # there is something to be silent about
    below = crossover_hz(cutoff_hz, transition)
    assert _energy_below(added[0], rate, below) < _energy_below(x[0], rate, below) - 90


def _energy_below(x: NDArray[np.floating], rate: int, below_hz: float) -> float:
    """dB, of the whole sound at once, ends and all: no window could leak into the band."""
    spectrum = np.fft.rfft(np.pad(x, rate))
    frequency = np.fft.rfftfreq(len(x) + 2 * rate, 1 / rate)
    return float(10 * np.log10((np.abs(spectrum[frequency < below_hz]) ** 2).sum()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_extended_is_bit_equal(dtype: type) -> None:
    x = noise(2, 50_000).astype(dtype)
    x[0, ::7] = -0.0
    decision = dataclasses.replace(decided(44_100, 2), extends=False)
    y = walk(x, 44_100, decision=decision)
    assert y.dtype == dtype
    assert y.tobytes() == x.tobytes()
    assert walk(x, 44_100, mix=0.0).tobytes() == x.tobytes()


def test_dc_and_polarity_are_not_touched() -> None:
    x = noise(1, 48_000) + np.float32(0.25)
    added = walk(x, 48_000) - x
    assert abs(added.mean()) < 1e-7
    minus = walk(-x, 48_000, model=LowCopyModel())
    assert np.array_equal(minus, -walk(x, 48_000, model=LowCopyModel()))


@pytest.mark.parametrize("cutoff_hz", [500.0, 1_500.0, 4_000.0, 16_000.0, 22_000.0])
@pytest.mark.parametrize("transition", [0.02, 0.08, 0.5])
@pytest.mark.parametrize("ceiling_hz", [24_000.0, 23_000.0])
def test_the_splice_is_silent_flat_and_symmetric(
    cutoff_hz: float, transition: float, ceiling_hz: float
) -> None:
    taps = bandpass(48_000, cutoff_hz, transition, ceiling_hz)
    assert len(taps) % 2 == 1
    np.testing.assert_allclose(taps, taps[::-1], atol=1e-12)  # rounding of the design
    frequency, gain = signal.freqz(taps, worN=1 << 17, fs=48_000)
    level = 20 * np.log10(np.abs(gain) + 1e-12)
    assert level[frequency <= crossover_hz(cutoff_hz, transition)].max() < -118
    passed = (frequency >= cutoff_hz) & (frequency <= ceiling_hz - 450)
    assert np.abs(level[passed]).max() < 0.01


def test_the_filter_has_no_delay() -> None:
    x = np.zeros((1, 20_001), np.float32)
    x[0, 10_000] = 1
    y = filter_same(x, bandpass(48_000, 4_000.0, 0.1, 24_000.0))
    np.testing.assert_allclose(y, y[:, ::-1], atol=1e-6)
    assert np.abs(y[0]).argmax() == 10_000


def test_an_end_fade_only_rises() -> None:
    fade = end_fade(640.0, 48_000)
    assert np.all(np.diff(fade) > 0)
    assert fade[0] < 1e-3
    assert fade[-1] > 0.998


# ---- joins (P4, P6)


@given(rho=st.floats(0, 1), n=st.integers(1, 500))
def test_a_crossfade_keeps_energy_for_its_correlation(rho: float, n: int) -> None:
    down, up = (w.astype(np.float64) for w in weights(n, rho))
    np.testing.assert_allclose(down**2 + up**2 + 2 * rho * up * down, 1, atol=1e-5)


def test_equal_neighbours_join_to_themselves() -> None:
    x = noise(2, 960)
    assert np.array_equal(join(x, x.copy()), x)
    assert correlation(x, np.zeros_like(x)) == 1.0


@pytest.mark.parametrize("model", [NoiseModel(), ForgetfulModel()], ids=["shared", "independent"])
def test_joins_have_no_step_and_no_spike(model: NoiseModel) -> None:
    rate = 48_000
    x = np.zeros((1, 30 * rate), np.float32)
    x[0] = noise(1, x.shape[1], 3)[0]
    added = (walk(x, rate, model=model) - x)[0].astype(np.float64)
    stride = round(model.stride_seconds(Settings()) * rate)
    folded = added[: len(added) // stride * stride].reshape(-1, stride)[2:-2]
    level = 10 * np.log10(np.convolve((folded**2).mean(0), np.ones(960) / 960, "same")[960:-960])
    # 960 samples of 70 chunks: the level of noise itself spreads by 0.03 dB
    assert level.max() - level.min() < 0.25
    at_joins = (folded[:, :960] ** 2).mean()
    assert abs(10 * np.log10(at_joins / (folded**2).mean())) < 0.1
    bend = np.abs(np.diff(added, 2))
    joins = bend.reshape(-1)[: len(bend) // stride * stride].reshape(-1, stride)[:, :960]
    assert joins.max() < 1.3 * np.quantile(bend, 0.99999)


def test_independent_chunks_are_seen_as_independent() -> None:
    x, y = noise(1, 5000, 1), noise(1, 5000, 2)
    assert correlation(x, y) < 0.05
    assert correlation(x, x) == pytest.approx(1.0)
    assert correlation(x, 0.5 * x + 0.5 * y) == pytest.approx(0.5**0.5, abs=0.05)


# ---- silence, channels, bad sounds


def test_silence_stays_silence() -> None:
    x = np.zeros((2, 100_000), np.float32)
    assert not walk(x, 48_000).any()
    decision = decide(48_000, Cutoff(24_000.0, 0.0, True, ""), True, (True, True), Settings())
    assert not decision.extends
    assert "silent" in decision.note


def test_channels_with_only_bass_pass_and_the_others_share_their_noise() -> None:
    x = noise(3, 60_000)
    x[2] = x[1]
    decision = dataclasses.replace(decided(48_000, 3), skipped=(True, False, False))
    y = walk(x, 48_000, decision=decision)
    assert np.array_equal(y[0], x[0])
    assert np.array_equal(y[1], y[2])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_named(bad: float) -> None:
    x = noise(2, 50_000)
    x[1, 31_415] = bad
    with pytest.raises(NotFiniteError, match=r"channel 2 .* sample 31415"):
        Audio(x, 48_000)
    with pytest.raises(NotFiniteError, match="31415"):
        walk(x, 48_000, block=10_000)


def test_a_stream_ends_once() -> None:
    stream = Stream(NoiseModel(), 48_000, 1, Settings(), decided(48_000))
    stream.flush()
    with pytest.raises(AudioError, match="over"):
        stream.push(noise(1, 10))
    with pytest.raises(AudioError, match=r"\[1, samples\]"):
        Stream(NoiseModel(), 48_000, 1, Settings(), decided(48_000)).push(noise(2, 10))


# ---- the plan


@given(
    rate_in=st.integers(4_000, 200_000), rate_out=st.sampled_from(RATES), n=st.integers(0, 10**7)
)
def test_chunks_lie_on_whole_samples_and_cover_everything(
    rate_in: int, rate_out: int, n: int
) -> None:
    plan = plan_chunks(
        rate_in, 48_000, rate_out,
        stride_seconds=4, overlap_seconds=0.04, past_seconds=0.5, future_seconds=0.3,
    )  # fmt: skip
    for rate in (rate_in, 48_000, rate_out):
        assert rate % plan.ticks_per_second == 0
    count = plan.num_chunks(n)
    assert plan.at(count * plan.stride, rate_in) >= n
    assert count == 0 or plan.at((count - 1) * plan.stride, rate_in) < n
    assert plan.at(plan.overlap, rate_in) >= 0.04 * rate_in - 1e-6


@given(start=st.integers(0, 10**6), length=st.integers(1, 10**6))
def test_chunks_of_a_region_are_those_that_touch_it(start: int, length: int) -> None:
    plan = plan_chunks(
        44_100, 48_000, 44_100,
        stride_seconds=1, overlap_seconds=0.04, past_seconds=0.5, future_seconds=0.3,
    )  # fmt: skip
    wanted = plan.chunks_of(start, start + length)
    for k in range(max(0, wanted.start - 3), wanted.stop + 3):
        first, last = (plan.at(t, plan.rate_in) for t in plan.core(k))
        assert (k in wanted) == (first < start + length and last > start)
