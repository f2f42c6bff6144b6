"""Laws of what is decided once for a sound: its rate, whether it is extended, its gain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.audio import Audio
from audiosr_core.cutoff import Cutoff, cutoff_of, second_look
from audiosr_core.decision import UNSURE, decide, output_rate
from audiosr_core.engine import Engine
from audiosr_core.gain_law import ABOVE, BELOW, step_db
from audiosr_core.settings import Settings


@pytest.mark.parametrize(
    ("rate_in", "cutoff_hz", "full_band", "wanted"),
    [
        (8_000, 4_000, True, 48_000),  # a telephone file
        (16_000, 7_700, True, 48_000),
        (22_050, 10_900, True, 48_000),
        (32_000, 15_500, True, 48_000),
        (44_100, 7_000, False, 44_100),
        (44_100, 21_000, True, 44_100),
        (48_000, 16_000, False, 48_000),
        (96_000, 21_500, True, 96_000),
        (16_000, 3_400, False, 16_000),  # room for a new band at its own rate
    ],
)
def test_the_rate_changes_only_where_there_is_no_room(
    rate_in: int, cutoff_hz: float, full_band: bool, wanted: int
) -> None:
    cutoff = Cutoff(cutoff_hz, 0.9, full_band, "")
    assert output_rate(rate_in, cutoff, Settings()) == wanted
    assert output_rate(rate_in, cutoff, Settings(rate="keep")) == rate_in
    assert output_rate(rate_in, cutoff, Settings(rate=96_000)) == 96_000


@given(
    rate_in=st.sampled_from([8_000, 16_000, 44_100, 48_000, 96_000]),
    cutoff_hz=st.floats(500, 48_000),
    full_band=st.booleans(),
    rate=st.sampled_from(["auto", "keep", 24_000, 48_000]),
)
def test_a_decision_to_extend_has_room_and_one_not_to_has_a_reason(
    rate_in: int, cutoff_hz: float, full_band: bool, rate: str | int
) -> None:
    cutoff = Cutoff(min(cutoff_hz, rate_in / 2), 0.9, full_band, "")
    made = decide(rate_in, cutoff, False, (False,), Settings(rate=rate))  # type: ignore[arg-type]
    assert made.extends == (not made.note)
    if made.extends:
        assert made.cutoff.hz < made.rate_out / 2
    if full_band and rate_in >= 44_100:
        assert not made.extends


@given(confidence=st.floats(0, 1), given_by_user=st.booleans())
def test_an_unsure_cutoff_is_told_and_one_that_was_given_is_not(
    confidence: float, given_by_user: bool
) -> None:
    cutoff = Cutoff(5_000.0, 1.0 if given_by_user else confidence, False, "")
    settings = Settings(cutoff=5_000.0 if given_by_user else "auto")
    made = decide(48_000, cutoff, False, (False,), settings)
    assert made.extends
    assert not made.note
    assert ("unsure" in made.remark) == (not given_by_user and confidence < UNSURE)


def test_full_band_sounds_come_back_bit_equal() -> None:
    x = (0.1 * np.random.default_rng(0).normal(size=(2, 100_000))).astype(np.float32)
    y = Engine().extend(Audio(x, 44_100), Settings())
    assert y.sample_rate == 44_100
    assert y.samples.tobytes() == x.tobytes()


def test_a_given_cutoff_is_obeyed() -> None:
    x = (0.1 * np.random.default_rng(0).normal(size=(1, 60_000))).astype(np.float32)
    made = Engine().analyse([x], lambda a, b: x[:, a:b], 48_000, 1, Settings(cutoff=9_000))
    assert made.cutoff.hz == 9_000
    assert made.extends


@pytest.mark.parametrize("edge_hz", [5_000.0, 8_000.0, 13_000.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_floor_of_a_dull_sound_tells_where_it_was_cut(edge_hz: float, seed: int) -> None:
    """Bass and a 16-bit floor, cut off in floating point: no content near the edge at all."""
    rng = np.random.default_rng(seed)
    n, rate = 48_000 * 6, 48_000
    t = np.arange(n) / rate
    bass = sum(np.sin(2 * np.pi * 55 * k * t + k) / k**2 for k in range(1, 9))
    x = 0.2 * np.asarray(bass) * (1 + 0.3 * np.sin(2 * np.pi * 0.7 * t))
    x = np.round(x * 32768 + rng.uniform(-1, 1, n)) / 32768
    spectrum = np.fft.rfft(x)
    spectrum[np.fft.rfftfreq(n, 1 / rate) > edge_hz] = 0
    cut = np.fft.irfft(spectrum, n)[None]
    whole = x[None]
    pieces = [slice(i * rate, (i + 2) * rate) for i in (0, 2, 4)]
    found = second_look(cutoff_of(cut, rate), [cut[:, p] for p in pieces], rate)
    assert found.hz == pytest.approx(edge_hz, rel=0.03)
    assert not found.full_band
    untouched = second_look(cutoff_of(whole, rate), [whole[:, p] for p in pieces], rate)
    assert untouched.full_band


@given(step=st.floats(-30, 30))
def test_the_gain_law_measures_the_step_that_was_made(step: float) -> None:
    f = np.maximum(np.arange(1025) * 48_000 / 2048, 20)
    original = np.repeat(-9 * np.log2(f / 1000)[:, None], 5, axis=1)  # -9 dB per octave
    original[:, 3] = -200.0  # a silent frame says nothing
    natural = 9 * np.log2(np.mean(ABOVE) / np.mean(BELOW))
    found = step_db(original, original - step, 48_000, 8_000.0)
    assert found == pytest.approx(step + natural, abs=0.2)


def test_the_gain_law_of_silence_is_none() -> None:
    silence = np.full((1025, 4), -200.0)
    assert step_db(silence, silence, 48_000, 8_000.0) == 0.0


def test_follow_extends_where_the_band_is_narrow_and_nothing_else() -> None:
    """A telephone call inside a broadcast: narrow from 12 to 24 s."""
    rate = 48_000
    rng = np.random.default_rng(3)
    spectrum = np.fft.rfft(0.1 * rng.normal(size=36 * rate))
    frequency = np.fft.rfftfreq(36 * rate, 1 / rate)
    wide = np.fft.irfft(spectrum / np.sqrt(1 + frequency / 500))
    narrow = np.fft.irfft(spectrum / np.sqrt(1 + frequency / 500) * (frequency < 4_000))
    x = wide.copy()
    x[12 * rate : 24 * rate] = narrow[12 * rate : 24 * rate]
    y = Engine().extend(Audio(x[None], rate), Settings(cutoff="follow"))
    added = y.samples[0] - x
    assert not added[: 8 * rate].any()
    assert not added[28 * rate :].any()
    middle = np.abs(np.fft.rfft(added[15 * rate : 21 * rate])) ** 2
    f = np.fft.rfftfreq(6 * rate, 1 / rate)
    assert middle[f > 4_100].sum() > 1000 * middle[f < 3_600].sum()
    assert 10 * np.log10(middle[f > 4_100].sum() / (np.abs(spectrum) ** 2).sum()) > -60
