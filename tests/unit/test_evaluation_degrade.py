"""What the degradations take away, and what the controls put back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.errors import UsageError
from audiosr_core.evaluation.controls import copy_up, unprocessed
from audiosr_core.evaluation.degrade import (
    DEGRADATIONS,
    degradation,
    degrade,
    polyphase_resample,
    to_rate,
)
from audiosr_core.evaluation.metrics import null_residual_db

RATE = 48_000


def noise(num_samples: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, num_samples))


def response_db(name: str, cutoff_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """|H(f)| from the response to one impulse."""
    x = np.zeros((1, 1 << 15))
    x[0, 1 << 14] = 1
    y = degrade(x, RATE, cutoff_hz, name)[0]
    hz = np.fft.rfftfreq(y.size, 1 / RATE)
    return hz, 20 * np.log10(np.abs(np.fft.rfft(y)) + 1e-15)


# (flat up to, within dB, gone from, below dB), frequencies as fractions of the cutoff
EDGES = {
    "brickwall": (0.999, 1e-6, 1.001, -250),
    "stft-brickwall": (0.98, 0.1, 1.03, -60),
    "soxr": (0.9, 1e-3, 1.1, -140),
    "polyphase": (0.5, 0.1, 1.5, -100),  # SciPy's short filter: a wide, soft edge
    **{f"cheby1-{n}": (0.95, 0.25, 2.0, -6 * n) for n in (4, 6, 8, 10)},  # ripple counts twice
    **{f"ellip-{n}": (0.95, 0.25, 2.0, -100) for n in (6, 8, 10)},  # stop band counts twice
    **{f"butter-{n}": (0.5, 0.1, 2.0, -12 * n + 1) for n in (4, 6, 8, 10)},  # 6 dB/octave·order·2
    **{f"bessel-{n}": (0.3, 1.0, 2.5, -20) for n in (4, 6, 8, 10)},
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("cutoff_hz", [4_000, 8_000])
def test_every_degradation_has_its_edge(name, cutoff_hz):
    flat, within_db, gone, below_db = EDGES[name]
    hz, db = response_db(name, cutoff_hz)
    assert np.abs(db[(hz > 50) & (hz < flat * cutoff_hz)]).max() < within_db
    assert db[hz > gone * cutoff_hz].max() < below_db


@given(
    name=st.sampled_from(sorted(DEGRADATIONS)),
    num_samples=st.integers(40, 3_000),
    channels=st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_rate_length_and_channels_stay(name, num_samples, channels):
    x = noise(num_samples, 1, channels)
    y = degrade(x, RATE, 8_000, name)
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    np.testing.assert_allclose(degrade(x[0], RATE, 8_000, name), y[0], atol=1e-12)


@pytest.mark.parametrize("name", ["polyphase", "soxr", "brickwall", "cheby1-6", "bessel-4"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000])
def test_a_low_rate_file_keeps_its_place(name, rate):
    """A tone in the flat band comes out as the same tone, sampled at the lower rate."""
    t = np.arange(RATE) / RATE
    x = np.sin(2 * np.pi * 400 * t)[None]
    y = to_rate(x, RATE, rate, name)
    assert y.shape == (1, rate)
    middle = slice(rate // 4, rate // 2)
    expected = np.sin(2 * np.pi * 400 * np.arange(rate) / rate)
    np.testing.assert_allclose(y[0, middle], expected[middle], atol=0.03)  # the filters' ripple


def test_what_is_asked_wrongly_is_named():
    with pytest.raises(UsageError, match="cheby1-6"):
        degradation("cheby9")
    with pytest.raises(UsageError, match="cutoff"):
        degrade(noise(100), RATE, 24_000, "soxr")


@pytest.mark.parametrize("cutoff_hz", [1_700, 4_000, 8_000, 16_000])
@pytest.mark.parametrize("kind", ["stored", "low-rate"])
def test_copy_up_touches_nothing_below_the_cutoff(cutoff_hz, kind):
    fade = np.sin(np.pi * (np.arange(RATE // 2) + 0.5) / (RATE // 2)) ** 4
    x = noise(RATE // 2, 1, 2) * fade  # a high band cut off by the file's end is a click
    rate = round(2 * cutoff_hz)
    given_rate = RATE if kind == "stored" else rate
    low = degrade(x, RATE, cutoff_hz, "polyphase")
    low = low if kind == "stored" else polyphase_resample(x, RATE, rate)
    y = copy_up(low, given_rate, cutoff_hz)
    assert y.shape == x.shape
    # what is added begins at 0.95 of the cutoff, and the filter rejects 150 dB below that
    before = unprocessed(low, given_rate, cutoff_hz)
    assert null_residual_db(before, y, RATE, 0.94 * cutoff_hz) < -120


def test_copy_up_follows_a_power_law():
    """Noise falling 6 dB per octave goes on falling so: within 3 dB in every third octave."""
    x = noise(4 * RATE, 2)
    spectrum = np.fft.rfft(x[0])
    hz = np.fft.rfftfreq(x.shape[1], 1 / RATE)
    x = np.fft.irfft(spectrum / np.maximum(hz, 50), x.shape[1])[None]
    y = copy_up(degrade(x, RATE, 8_000, "brickwall"), RATE, 8_000)
    for centre in (9_000, 11_300, 14_300, 18_000, 22_000):
        band = (hz > centre / 1.12) & (hz < centre * 1.08)
        energies = [np.sum(np.abs(np.fft.rfft(z[0])[band]) ** 2) for z in (x, y)]
        assert abs(10 * math.log10(energies[1] / energies[0])) < 3


@pytest.mark.parametrize("num_samples", [1, 100, 1023, 1024, 5_000])
def test_silence_stays_silence_at_any_length(num_samples):
    zero = np.zeros((2, num_samples))
    np.testing.assert_array_equal(copy_up(zero, RATE, 8_000), zero)
    assert unprocessed(zero, 16_000, 8_000).shape == (2, 3 * num_samples)


def test_copy_up_needs_room():
    with pytest.raises(UsageError, match="copy-up"):
        copy_up(noise(2_000), RATE, 24_000)
    with pytest.raises(UsageError, match="copy-up"):
        copy_up(noise(2_000), RATE, 100)
