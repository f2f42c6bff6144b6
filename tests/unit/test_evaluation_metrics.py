"""The measures against slow definitions, known facts and planted errors."""

from __future__ import annotations

import cmath
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from audiosr_core.errors import AudioError, SettingsError, UsageError
from audiosr_core.evaluation import metrics
from audiosr_core.evaluation.metrics import (
    NullMeter,
    level_error_db,
    level_match,
    low_pass,
    lsd_apbwe,
    lsd_apbwe_bands,
    lsd_ssr,
    lsd_ssr_bands,
    null_residual_db,
    si_sdr_db,
    visqol_audio,
)

RATE = 48_000


def noise(num_samples: int, seed: int = 0, channels: int | None = None) -> np.ndarray:
    shape = (num_samples,) if channels is None else (channels, num_samples)
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def slow_magnitudes(x: np.ndarray, window: int, hop: int, reflect: bool) -> list[list[float]]:
    """|STFT| by the defining sums, one frame per row."""
    half = window // 2
    left = [x[half - i] if reflect else 0.0 for i in range(half)]
    right = [x[len(x) - 2 - i] if reflect else 0.0 for i in range(half)]
    padded = [*left, *x, *right]
    rows = []
    for start in range(0, len(padded) - window + 1, hop):
        frame = [
            padded[start + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / window))
            for n in range(window)
        ]
        rows.append(
            [
                abs(sum(v * cmath.exp(-2j * math.pi * k * n / window) for n, v in enumerate(frame)))
                for k in range(window // 2 + 1)
            ]
        )
    return rows


def slow_lsd(ref: list[list[float]], est: list[list[float]], term) -> float:
    return sum(
        math.sqrt(sum(term(t, e) ** 2 for t, e in zip(tr, er, strict=True)) / len(tr))
        for tr, er in zip(ref, est, strict=True)
    ) / len(ref)


@pytest.mark.parametrize("rate", [1_000, 1_500, 2_000])  # tiny rates make tiny windows: 46 to 92
@pytest.mark.parametrize("gain", [1e-3, 1.0])
def test_ssr_is_its_definition_summed_by_hand(rate, gain):
    x, y = (np.float64(np.float32(noise(190, s))) for s in (1, 2))
    window, hop = int(2048 / (44_100 / rate)), rate // 100
    expected = slow_lsd(
        slow_magnitudes(x, window, hop, reflect=False),
        slow_magnitudes(np.float64(np.float32(gain * y)), window, hop, reflect=False),
        lambda t, e: math.log10(t**2 / (e + 1e-12) ** 2 + 1e-12),
    )
    assert lsd_ssr(x, gain * y, rate) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gain", [1e-6, 1.0])  # the first falls below the floor
def test_apbwe_is_its_definition_summed_by_hand(gain):
    x, y = (np.float64(np.float32(noise(1_100, s))) for s in (1, 2))
    y = np.float64(np.float32(gain * y))
    k = np.arange(1025)[:, None] * np.arange(2048)[None, :] % 2048  # the DFT as one matrix
    dft = np.exp(-2j * np.pi * k / 2048)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    logs = []
    for z in (x, y):
        padded = np.concatenate([z[1:1025][::-1], z, z[-1025:-1][::-1]])
        frames = [padded[s : s + 2048] * hann for s in range(0, len(padded) - 2047, 512)]
        logs.append([np.log10(np.maximum(np.abs(dft @ f) ** 2, 1e-8)) for f in frames])
    d = np.array(logs[0]) - np.array(logs[1])
    expected = np.mean([math.sqrt(np.mean(row**2)) for row in d])
    assert lsd_apbwe(x, y) == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 1000), rate=st.sampled_from([16_000, 44_100, 48_000]))
@settings(max_examples=10, deadline=None)
def test_a_sound_is_at_no_distance_from_itself(seed, rate):
    x = noise(6_000, seed)
    assert lsd_ssr(x, x, rate) == pytest.approx(0, abs=1e-6)  # EPS is 1e-12 against ~1
    assert lsd_apbwe(x, x) == 0


@given(gain_db=st.floats(-20, 20), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_a_decibel_is_a_tenth(gain_db, seed):
    x = noise(6_000, seed)
    y = x * 10 ** (gain_db / 20)
    # float32 rounding of samples moves single bins by about 1e-5
    assert lsd_ssr(x, y, RATE) == pytest.approx(abs(gain_db) / 10, abs=1e-4)
    assert lsd_apbwe(x, y) == pytest.approx(abs(gain_db) / 10, abs=1e-4)


def test_independent_noise_of_the_same_envelope_scores_0788():
    """Two χ²₂ log powers differ by √(π²/3) nepers = 0.788 in log10 (survey D.2, fact 2)."""
    x, y = noise(6 * RATE, 1), noise(6 * RATE, 2)
    assert lsd_ssr(x, y, RATE) == pytest.approx(math.sqrt(math.pi**2 / 3) / math.log(10), abs=0.01)
    assert lsd_apbwe(x, y) == pytest.approx(0.788, abs=0.01)


@pytest.mark.parametrize("error_db", [(1, 0.795), (3, 0.843), (6, 0.990)])
def test_gain_error_on_independent_noise(error_db):
    """Survey D.2, fact 3."""
    gain_db, expected = error_db
    x, y = noise(6 * RATE, 1), noise(6 * RATE, 2) * 10 ** (gain_db / 20)
    assert lsd_ssr(x, y, RATE) == pytest.approx(expected, abs=0.012)


@given(a=st.integers(0, 100), b=st.integers(101, 200))
@settings(max_examples=8, deadline=None)
def test_loud_sounds_may_change_places(a, b):
    x, y = noise(5_000, a), noise(5_000, b)
    # antisymmetric logs, symmetric squares; EPS on one side only costs 1e-9
    assert lsd_ssr(x, y, RATE) == pytest.approx(lsd_ssr(y, x, RATE), abs=1e-6)
    assert lsd_apbwe(x, y) == lsd_apbwe(y, x)


def test_the_ssr_floor_is_not_symmetric():
    """A silent reference is 12 from anything; a silent estimate is further from anything loud."""
    x, zero = noise(6_000), np.zeros(6_000)
    assert lsd_ssr(zero, zero, RATE) == pytest.approx(12)
    assert lsd_ssr(zero, x, RATE) == pytest.approx(12)
    assert lsd_ssr(x, zero, RATE) > 20
    assert lsd_apbwe(zero, zero) == 0


def test_silent_frames_can_be_left_out():
    x = np.concatenate([noise(RATE, 1), np.zeros(RATE)])
    y = np.concatenate([noise(RATE, 2), np.zeros(RATE)])
    alone = lsd_ssr(x[:RATE], y[:RATE], RATE)
    assert lsd_ssr(x, y, RATE) > 5  # half of the frames count 12
    # the frames that straddle the end of the sound are counted once more: 3 of 103
    assert lsd_ssr(x, y, RATE, skip_silent=True) == pytest.approx(alone, abs=0.05)
    assert math.isnan(lsd_ssr(0 * x, y, RATE, skip_silent=True))


@pytest.mark.parametrize("cutoff_hz", [1_000, 4_000, 8_000, 16_000])
def test_bands_see_only_their_own_error(cutoff_hz):
    x = noise(RATE, 1)
    high = x - low_pass(x[None], RATE, cutoff_hz)[0]
    y = x + high  # the high band 6 dB up; the filter's transition lies below the cutoff
    for scores in (lsd_ssr_bands(x, y, RATE, cutoff_hz), lsd_apbwe_bands(x, y, RATE, cutoff_hz)):
        assert scores.high == pytest.approx(0.602, abs=0.02)
        assert scores.low < 0.17  # the transition is 5 % of the low band: 0.602·√0.05 = 0.13
    whole = lsd_ssr_bands(x, y, RATE, cutoff_hz)
    assert min(whole.low, whole.high) <= whole.full <= max(whole.low, whole.high)
    assert whole.full == lsd_ssr(x, y, RATE)


def test_channels_are_averaged():
    x, y = noise(RATE // 4, 1, 2), noise(RATE // 4, 2, 2)
    y[1] = 2 * x[1]
    single = [lsd_ssr(x[c], y[c], RATE) for c in (0, 1)]
    assert lsd_ssr(x, y, RATE) == pytest.approx(np.mean(single), abs=1e-12)


@given(gain_db=st.floats(-60, 60), cutoff_hz=st.floats(500, 20_000), channels=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_level_match_undoes_any_gain(gain_db, cutoff_hz, channels):
    x = noise(RATE // 4, 3, channels)
    y = x * 10 ** (gain_db / 20)
    assert level_error_db(x, y, RATE, cutoff_hz) == pytest.approx(gain_db, abs=1e-9)
    np.testing.assert_allclose(level_match(x, y, RATE, cutoff_hz), x, rtol=1e-9, atol=1e-15)


def test_level_match_does_not_listen_to_the_high_band():
    x = noise(RATE, 3)
    y = x + 3 * (x - low_pass(x[None], RATE, 8_000)[0])
    assert level_error_db(x, y, RATE, 8_000) == pytest.approx(0, abs=0.01)
    assert math.isnan(level_error_db(0 * x, y, RATE, 8_000))
    np.testing.assert_array_equal(level_match(0 * x, y, RATE, 8_000), y)


@pytest.mark.parametrize("planted_db", [-60, -90, -120])
@pytest.mark.parametrize("below_hz", [1_500, 8_000, 15_000])
def test_a_planted_residual_is_found_under_a_loud_high_band(planted_db, below_hz):
    """0.5 dB: `low` is filtered twice in its transition, and the tone ends abruptly."""
    n = RATE
    x = noise(n, 1)
    low = low_pass(x[None], RATE, below_hz)[0]
    tone = np.sin(2 * np.pi * 0.5 * below_hz * np.arange(n) / RATE)
    tone *= math.sqrt(np.sum(low**2) / np.sum(tone**2)) * 10 ** (planted_db / 20)
    sos = signal.cheby2(12, 140, 1.1 * below_hz, "high", output="sos", fs=RATE)
    high = signal.sosfiltfilt(sos, np.random.default_rng(5).standard_normal(n))
    high *= np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 4  # an abrupt end would be broadband
    assert null_residual_db(x, x + tone + high, RATE, below_hz) == pytest.approx(
        planted_db, abs=0.5
    )


def test_the_null_is_isolated_by_more_than_120_db():
    n = 2 * RATE
    t = np.arange(n) / RATE
    x = 0.1 * np.sin(2 * np.pi * 1_000 * t)
    fade = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 4  # a burst without an edge of its own
    loud = np.sin(2 * np.pi * 8_100 * t) * fade  # 20 dB above the original, 100 Hz above the edge
    assert null_residual_db(x, x + loud, RATE, 8_000) < -125


def test_nothing_added_is_a_perfect_null():
    x = noise(5_000, 1, 2)
    assert null_residual_db(x, x, RATE, 8_000) == -math.inf
    assert null_residual_db(0 * x, x, RATE, 8_000) == math.inf


@given(
    cuts=st.lists(st.integers(0, 7_000), max_size=6),
    below_hz=st.sampled_from([2_000, 8_000, 24_000]),
    ends=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_the_size_of_the_blocks_does_not_matter(cuts, below_hz, ends):
    x, y = noise(7_000, 1, 2), noise(7_000, 2, 2)
    meter = NullMeter(RATE, below_hz, 2, ends=ends)
    edges = [0, *sorted(cuts), 7_000]
    for a, b in pairwise(edges):
        meter.push(x[:, a:b], y[:, a:b])
    whole = null_residual_db(x, y, RATE, below_hz, ends=ends)
    assert meter.finish() == pytest.approx(whole, abs=1e-9)


def test_a_high_band_cut_off_by_the_end_does_not_count_without_the_ends():
    x = noise(RATE, 1)
    y = x + np.sin(2 * np.pi * 12_000.7 * np.arange(RATE) / RATE + 1)
    assert null_residual_db(x, y, RATE, 8_000) > -60
    assert null_residual_db(x, y, RATE, 8_000, ends=False) < -125


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 96_000])
def test_an_original_at_another_rate_nulls_against_itself(rate):
    """soxr there, an independent band-limited sum here: what is left is soxr's own error."""
    seconds = 1.0
    tones = [f * min(rate, RATE) / RATE for f in (200, 1_111, 4_000, 9_000)]
    x, y = (
        np.sum([np.sin(2 * np.pi * f * np.arange(int(seconds * r)) / r) for f in tones], axis=0)
        * np.sin(np.pi * (np.arange(int(seconds * r)) / r)) ** 4
        for r in (rate, RATE)
    )
    found = null_residual_db(x, y, RATE, 0.45 * min(rate, RATE), original_rate=rate)
    assert found < -130


def test_si_sdr_knows_its_closed_form():
    x = np.tile([1.0, 0, -1, 0], 100)
    error = np.tile([0, 0.1, 0, -0.1], 100)  # orthogonal, −20 dB
    assert si_sdr_db(x, 3 * (x + error)) == pytest.approx(20, abs=1e-9)
    assert si_sdr_db(x, 2 * x) == math.inf


@pytest.mark.parametrize("shapes", [((5,), (6,)), ((2, 9), (9,)), ((0,), (0,))])
def test_sounds_that_do_not_match_are_refused(shapes):
    a, b = (np.zeros(s) for s in shapes)
    with pytest.raises(AudioError, match="same shape"):
        lsd_ssr(a, b, RATE)
    with pytest.raises(AudioError, match="same shape"):
        null_residual_db(a, b, RATE, 8_000)


def test_what_cannot_be_measured_says_so():
    with pytest.raises(AudioError, match="1024 samples"):
        lsd_apbwe(np.zeros(1_000), np.zeros(1_000))
    with pytest.raises(UsageError, match="null test"):
        null_residual_db(np.zeros(9), np.zeros(9), RATE, 30_000)


def test_visqol_prefers_the_sound_itself():
    pytest.importorskip("visqol", reason="visqol-python is not installed (extra 'evaluate')")
    t = np.arange(int(1.2 * RATE)) / RATE
    x = noise(t.size, 1) * np.exp(-3 * (t % 0.3) / 0.3)
    worse = low_pass(x[None], RATE, 4_000)[0]
    same = visqol_audio(x, x, RATE)
    assert same > 4.5
    assert visqol_audio(x, worse, RATE) < same - 0.5
    assert math.isnan(visqol_audio(x[:20_000], x[:20_000], RATE))


def test_a_missing_visqol_says_what_to_install(monkeypatch):
    metrics._visqol.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "visqol", None)
    with pytest.raises(SettingsError, match=r"audiosr-bridge\[evaluate\]"):
        visqol_audio(noise(RATE), noise(RATE), RATE)
