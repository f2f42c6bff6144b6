"""The published pipeline as it behaves, faults included; its numbers are in tests/parity."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.errors import AudioError, SettingsError
from audiosr_core.lowpass import FILTER_KINDS, lowpass
from audiosr_core.mel import LogMel
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.model.config import MelConfig
from audiosr_core.reference import Draws, front, run_reference, run_reference_long
from audiosr_core.reference.back import final_level, replace_low_mel, replace_low_wave
from tests.support.audiosr import SMALL

RATE = 48_000


@pytest.fixture(scope="module")
def networks():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return AudioSR(SMALL).eval().requires_grad_(False)


def sound(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    noise = np.random.default_rng(5).standard_normal((channels, round(seconds * rate)))
    return (0.1 * noise).astype(np.float32)


def run(networks, wave, rate=RATE, seed=3, **knobs):
    return run_reference(networks, wave, rate, draws=Draws(seed), steps=2, **knobs)


def test_length_level_and_type_are_the_published(networks):
    out = run(networks, sound(0.7, 16_000), 16_000)
    assert out.shape == (512 * 480 + 16,)
    assert out.dtype == np.float32
    assert abs(out.mean()) < 1e-6  # removed last
    assert 0.49 < np.abs(out).max() < 0.51


def test_only_the_first_channel_is_heard_and_a_seed_decides(networks):
    wave = sound(0.5, channels=2)
    first = run(networks, wave)
    np.testing.assert_array_equal(first, run(networks, wave[:1]))
    assert not np.array_equal(first, run(networks, wave, seed=4))


@pytest.mark.parametrize(
    ("wave", "word"),
    [
        (np.zeros((1, 24_000), np.float32), "cutoff"),  # silence
        (np.sin(np.arange(48_000) / 48_000 * 440 * 6.2832)[None].astype(np.float32), "cutoff"),
        (sound(48_056 / RATE), "frames"),  # floating point makes 511 of it
        (sound(100 / RATE), "100 samples"),
    ],
)
def test_what_the_published_code_crashes_on_is_refused_in_one_sentence(networks, wave, word):
    with pytest.raises(AudioError, match=word) as raised:
        run(networks, wave)
    assert "\n" not in str(raised.value)


def test_step_counts_without_timesteps_are_refused(networks):
    with pytest.raises(SettingsError, match="27"):
        run_reference(networks, sound(0.5), RATE, draws=Draws(0), steps=27)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_noise_is_drawn_in_the_published_order_whatever_eta(networks, eta):
    draws, seen = Draws(9), []
    run_reference(
        networks,
        sound(0.5),
        RATE,
        draws=draws,
        steps=2,
        eta=eta,
        on_stage=lambda name, value: seen.append((name, value)),
    )
    drawn = [value for name, value in seen if "noise" in name or name == "x_T"]
    generator = torch.Generator().manual_seed(9)
    for array in drawn:  # discarded, condition, x_T, one a step
        np.testing.assert_array_equal(array, torch.randn(array.shape, generator=generator))
    assert len(drawn) == 5
    after = torch.randn((3,), generator=generator)
    np.testing.assert_array_equal(draws.normal((3,)), after)  # the next run goes on from there
    kinds = np.random.RandomState(9)
    assert seen[0] == ("filter_kind", FILTER_KINDS[kinds.randint(4)])
    assert draws.filter_kind() == FILTER_KINDS[kinds.randint(4)]


def test_no_generator_of_the_process_is_touched(networks):
    numpy_before, torch_before = np.random.get_state(), torch.get_rng_state()
    run(networks, sound(0.5))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before[1])
    assert torch.equal(torch.get_rng_state(), torch_before)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_numpy_has_not(seed):
    with pytest.raises(SettingsError, match="seed"):
        Draws(seed)


def long(networks, seconds, chunk=3, overlap=1, channels=1):
    wave = sound(seconds, channels=channels)
    return run_reference_long(
        networks,
        wave,
        RATE,
        draws=Draws(2),
        chunk_seconds=chunk,
        overlap_seconds=overlap,
        steps=1,
    )


def test_long_sounds_keep_their_length(networks):
    out = long(networks, 3.5, channels=2)
    assert out.shape == (round(3.5 * RATE),)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1


def test_a_long_sound_of_one_chunk_is_a_run_at_the_peak_of_the_sound(networks):
    wave = sound(1.0)
    draws = Draws(2)
    draws.unused()
    padded = front.fit(wave[0], 2 * RATE)[None]
    single = run_reference(networks, padded, RATE, draws=draws, steps=1)[: wave.shape[1]]
    out = run_reference_long(
        networks, wave, RATE, draws=Draws(2), chunk_seconds=2, overlap_seconds=1, steps=1
    )
    np.testing.assert_allclose(out, single * np.abs(wave).max() / np.abs(single).max(), atol=1e-6)


@pytest.mark.parametrize(
    ("seconds", "chunk", "overlap"),
    [(2.4, 2, 1), (3.0, 2, 0), (3.0, 2, 2)],
)
def test_long_sounds_that_the_published_code_crashes_on(networks, seconds, chunk, overlap):
    with pytest.raises(AudioError, match="overlap"):
        long(networks, seconds, chunk, overlap)


@given(st.integers(101, 10**7), st.sampled_from([8000, 11_025, 16_000, 44_100, 48_000, 96_000]))
def test_padded_durations_hold_the_sound_and_waste_little(num_samples, rate):
    seconds = front.padded_seconds(num_samples, rate)
    assert num_samples / rate <= seconds + 1e-9
    # 25.6 s is not a multiple of 5.12 s in floating point, so a whole one more may come
    assert seconds < num_samples / rate + 5.12 + 1e-9


def test_each_chunk_goes_on_with_the_draws_of_the_one_before(networks):
    seen, wave = [], sound(3.0)
    run_reference_long(
        networks,
        wave,
        RATE,
        draws=Draws(7),
        chunk_seconds=2,
        overlap_seconds=1,
        steps=1,
        on_stage=lambda name, value: seen.append(value) if name == "x_T" else None,
    )
    generator = torch.Generator().manual_seed(7)
    assert len(seen) == 3
    for x_T in seen:
        torch.rand(1, generator=generator)  # a number of which nothing is made
        drawn = [torch.randn(x_T.shape, generator=generator) for _ in range(4)]
        np.testing.assert_array_equal(x_T, drawn[2])


@given(st.integers(1, 400), st.integers(0, 400))
def test_frames_are_cut_or_filled_with_zero_which_is_loud(have, want):
    frames = torch.full((have, 3), -5.0)
    fitted = front.fit_frames(frames, want)
    assert fitted.shape == (want, 3)
    assert (fitted[:have] == -5).all()
    assert (fitted[have:] == 0).all()


def test_rolloff_of_a_flat_spectrum_lies_at_its_share():
    assert front.rolloff_bin(np.ones((4, 1000), np.float32)) == 983  # 984 of 1000 are below .985
    assert front.rolloff_bin(np.zeros((4, 1000), np.float32)) == 0
    assert front.cutoff_of(983, 1000, RATE) == 983 * 24
    assert front.cutoff_of(41, 1000, RATE) == 24_000  # 984 Hz: "almost empty"


def test_low_bands_are_put_back_below_their_rolloff():
    rng = np.random.default_rng(0)
    low = np.log(np.exp(-np.arange(256) / 8)[None] * rng.uniform(0.5, 1, (20, 256)))
    low = low.astype(np.float32)
    generated = rng.standard_normal((20, 256)).astype(np.float32)
    made = replace_low_mel(generated, low)
    assert 20 < made.cutoff_bin < 60
    np.testing.assert_array_equal(made.mel[:, : made.cutoff_bin], low[:, : made.cutoff_bin])
    np.testing.assert_array_equal(made.mel[:, made.cutoff_bin :], generated[:, made.cutoff_bin :])


def test_a_wave_whose_low_band_is_its_own_stays_as_it_is():
    wave = sound(1.0)[0]
    made = replace_low_wave(wave, wave)
    assert made.ratio == pytest.approx(1)
    np.testing.assert_allclose(made.wave, wave, atol=1e-6)  # one STFT and back in float32
    with pytest.raises(AudioError, match="length"):
        replace_low_wave(wave, wave[:-1000])


def test_the_mean_is_removed_after_the_peak_is_set():
    out = final_level(np.asarray([1.0, 0.0, 0.0, 0.0], np.float32))
    np.testing.assert_allclose(out, [0.375, -0.125, -0.125, -0.125])


@pytest.mark.parametrize("kind", FILTER_KINDS)
def test_lowpass_keeps_what_is_low_where_it_is(kind):
    t = np.arange(RATE) / RATE
    low = (0.3 * np.sin(2 * np.pi * 500 * t)).astype(np.float32)
    high = (0.3 * np.sin(2 * np.pi * 14_000 * t)).astype(np.float32)
    out = lowpass(np.stack([low, low + high, high]), 6000, kind)
    inside = slice(2000, -2000)
    # the pass band ripples by 0.1 dB, twice forward and twice backward
    np.testing.assert_allclose(out[0][inside], low[inside], atol=0.3 * 0.047)
    np.testing.assert_allclose(out[1][inside], out[0][inside], atol=1e-4)
    assert np.abs(out[2][inside]).max() < 1e-4
    assert out.dtype == np.float32


def test_lowpass_goes_down_to_the_published_rate(monkeypatch):
    """2 · cutoff in floating point, rounded down: 6935 Hz for 3468 Hz, not 6936."""
    rates, resample = [], scipy.signal.resample_poly

    def heard(x, up, down, **knobs):
        rates.append((up, down))
        return resample(x, up, down, **knobs)

    monkeypatch.setattr(scipy.signal, "resample_poly", heard)
    lowpass(sound(0.1), 3468.75, "bessel")
    lowpass(sound(0.1), 3515.625, "bessel")
    assert rates == [(6935, RATE), (RATE, 6935), (7030, RATE), (RATE, 7030)]


@pytest.mark.parametrize("cutoff_hz", [0.5, 24_000, 30_000])
def test_lowpass_outside_the_band_is_refused(cutoff_hz):
    with pytest.raises(AudioError, match="cutoff"):
        lowpass(sound(0.1), cutoff_hz, "cheby1")


@given(st.integers(1, 9), st.integers(0, 479))
def test_every_hop_of_samples_is_a_frame(frames, rest):
    mel = LogMel(MelConfig())
    wave = torch.zeros(2, 3, 480 * (frames + 1) + rest)
    if wave.shape[-1] > 784:
        assert mel(wave).shape == (2, 3, frames + 1, 256)
        assert (mel(wave) == torch.tensor(1e-5).log()).all()
    else:
        with pytest.raises(AudioError, match="784"):
            mel(wave)
