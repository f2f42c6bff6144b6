"""Laws of the long-term spectrum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.errors import AudioError
from audiosr_core.spectrum import LongTermSpectrum, SpectrumMeter, rolloff_hz


def measure(x: np.ndarray, rate: int, block: int | None = None) -> LongTermSpectrum:
    meter = SpectrumMeter(rate, x.shape[0])
    for i in range(0, x.shape[1], block or max(x.shape[1], 1)):
        meter.push(x[:, i : i + (block or x.shape[1])])
    return meter.spectrum()


def noise(num_channels: int, num_samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((num_channels, num_samples))


@settings(max_examples=40, deadline=None)
@given(
    num_samples=st.integers(0, 20_000),
    block=st.integers(1, 9_000),
    num_channels=st.integers(1, 3),
    rate=st.sampled_from([4_000, 8_000, 11_025]),
)
def test_the_size_of_the_blocks_changes_no_bit(num_samples, block, num_channels, rate):
    x = noise(num_channels, num_samples)
    whole, cut = measure(x, rate), measure(x, rate, max(block, num_samples // 200))

    for name in ("power", "histogram", "loudness", "low_only"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name))
    assert whole.num_samples == cut.num_samples == num_samples


def test_looking_at_the_spectrum_does_not_change_it():
    x = noise(2, 100_000)
    meter = SpectrumMeter(8_000, 2)
    for i in range(0, x.shape[1], 7_001):
        meter.push(x[:, i : i + 7_001])
        meter.spectrum()

    np.testing.assert_array_equal(meter.spectrum().power, measure(x, 8_000).power)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_power_sums_to_the_mean_square(rate):
    x = noise(2, 4 * rate)

    # frames weigh their middle more than their ends: 3 % is 4 standard deviations over 4 s
    np.testing.assert_allclose(measure(x, rate).power.sum(axis=1), np.square(x).mean(axis=1), 0.03)


def test_the_floor_below_a_full_scale_sine_is_seen():
    t = np.arange(48_000 * 2) / 48_000
    x = np.sin(2 * np.pi * 1_000.3 * t)[None]
    spectrum = measure(x, 48_000)
    away = np.abs(spectrum.frequencies - 1_000.3) > 6 * 48_000 / 8_192

    # the window's side lobes are at -120 dB and float32 adds noise at about -170 dB per bin
    assert 10 * np.log10(spectrum.power[0, away].max()) < -115


def test_pauses_do_not_change_the_active_frames():
    x = noise(1, 48_000 * 4)
    quiet = np.concatenate([x, 1e-4 * noise(1, 48_000 * 20, 1), np.zeros((1, 48_000))], axis=1)
    loud, diluted = measure(x, 48_000), measure(quiet, 48_000)

    assert abs(diluted.num_active - loud.num_active) <= 2  # the frames across the join
    difference = diluted.level_db(0.15) - loud.level_db(0.15)
    assert np.abs(np.median(difference)) < 0.5  # one rank more or less


@pytest.mark.parametrize("num_samples", [0, 1, 63, 64, 1_000, 8_191, 8_192, 8_193])
def test_short_sounds_are_measured_or_silent(num_samples):
    spectrum = measure(noise(2, num_samples), 48_000)

    assert spectrum.silent == (num_samples < 64)
    assert np.isfinite(spectrum.power).all()


def test_silence_is_silent_and_dc_is_low():
    assert measure(np.zeros((2, 48_000)), 48_000).silent
    spectrum = measure(np.full((1, 48_000), 0.5), 48_000)
    assert not spectrum.silent
    assert spectrum.low_only.all()


def test_an_lfe_channel_is_told_from_the_others():
    t = np.arange(48_000 * 3) / 48_000
    rng = np.random.default_rng(0)
    dither = (rng.random((4, len(t))) - rng.random((4, len(t)))) / 2**15
    x = np.stack([noise(1, len(t))[0], 0.5 * np.sin(2 * np.pi * 60 * t), 0 * t,
                  0.3 * np.sin(2 * np.pi * 440 * t)])  # fmt: skip

    assert measure(x + dither, 48_000).low_only.tolist() == [False, True, True, False]


@settings(max_examples=20, deadline=None)
@given(edge=st.floats(500, 3_500), fraction=st.floats(0.1, 0.99))
def test_rolloff_of_flat_noise_is_its_fraction(edge, fraction):
    x = np.fft.rfft(noise(1, 40_000, 3))
    x[:, np.fft.rfftfreq(40_000, 1 / 8_000) > edge] = 0
    found = rolloff_hz(measure(np.fft.irfft(x), 8_000), fraction)

    # 5 s of noise: the energy up to a fraction of 500 Hz of bandwidth is known to about 3 %
    assert found == pytest.approx(fraction * edge, rel=0.05, abs=2 * 8_000 / 1_024)


def test_rolloff_of_silence_is_zero():
    assert rolloff_hz(measure(np.zeros((1, 9_000)), 8_000), 0.985) == 0.0


def test_memory_does_not_grow():
    meter = SpectrumMeter(48_000, 2)
    sizes = set()
    for _ in range(5):
        meter.push(noise(2, 50_000))
        sizes.add(meter.nbytes)
    assert len(sizes) == 1


@pytest.mark.parametrize("shape", [(1, 10), (3, 10), (10,), (2, 10, 1)])
def test_a_block_of_another_shape_is_refused(shape):
    with pytest.raises(AudioError, match=r"\[2, samples\]"):
        SpectrumMeter(48_000, 2).push(np.zeros(shape))


def test_half_the_level_is_the_same_cutoff():
    x = noise(1, 96_000).astype(np.float32)
    whole = measure(x, 48_000)
    for halvings in (1, 3, 9):
        less = measure(x * np.float32(0.5**halvings), 48_000)
        shift = 7 * halvings  # steps of the histogram
        # a power on the edge of two steps may fall to either side in the logarithm's last bit
        moved = np.abs(whole.histogram[:, shift:] - less.histogram[:, :-shift]).sum()
        assert moved <= 1e-4 * whole.histogram.sum()
