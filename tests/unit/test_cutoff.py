"""Laws of the cutoff detector, over made-up music, speech and noise."""

import shutil
import subprocess
from functools import cache

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.cutoff import Cutoff, cutoff_of

RATE = 48_000
SECONDS = 5.0


def shaped_noise(rng, n, db_per_octave, rate=RATE):
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / rate), 30.0) ** (-db_per_octave / 6.02)
    x = np.fft.irfft(spectrum, n)
    return x / np.abs(x).max()


def music(rng, n):
    """Plucked notes with partials up to 20 kHz, and a hi-hat."""
    x = np.zeros(n)
    for start in range(0, n - RATE // 4, RATE // 4):
        t = np.arange(min(RATE, n - start)) / RATE
        f0 = 110.0 * 2 ** (rng.integers(0, 24) / 12)
        for k in range(1, int(20_000 / f0)):
            amplitude = k**-1.3 * np.exp(-t * (3 + 0.3 * k))
            x[start : start + len(t)] += amplitude * np.sin(2 * np.pi * k * f0 * t + k * k)
        hat = shaped_noise(rng, len(t), -1.0) * np.exp(-t * 30.0)
        x[start : start + len(t)] += 0.3 * hat
    return x / np.abs(x).max()


def speech(rng, n):
    """Voiced vowels, fricatives and pauses in turn, over the faint noise of a room."""
    x = 2e-4 * shaped_noise(rng, n, 3.0)
    for i, start in enumerate(range(0, n - RATE // 3, RATE // 5)):
        m = RATE // 5
        if i % 4 < 2:
            f0 = rng.uniform(100, 200)
            pulses = np.diff(np.floor(np.arange(m + 1) * f0 / RATE)) + 0.01 * rng.standard_normal(m)
            part = scipy.signal.lfilter([1.0], [1.0, -0.9], pulses)
            for hz, width in ((600, 90), (1_300, 120), (2_700, 200)):
                r = np.exp(-np.pi * width / RATE)
                a = [1.0, -2 * r * np.cos(2 * np.pi * hz / RATE), r * r]
                part = part + 0.3 * scipy.signal.lfilter([1 - r], a, part)
        elif i % 4 == 2:
            part = 0.3 * scipy.signal.lfilter([1, -0.9], [1.0], rng.standard_normal(m))
        else:
            continue
        x[start : start + m] += 0.2 * part * np.hanning(m)
    return x / np.abs(x).max()


@cache
def signal(name: str) -> np.ndarray:
    """Full-band material, peak 0.5, [samples]."""
    rng, n = np.random.default_rng(11), int(SECONDS * RATE)
    x = {
        "pink": lambda: shaped_noise(rng, n, 3.01),
        "white": lambda: shaped_noise(rng, n, 0.0),
        "music": lambda: music(rng, n),
        "speech": lambda: speech(rng, n),
    }[name]()
    x.flags.writeable = False
    return 0.5 * x


MATERIAL = ("pink", "white", "music", "speech")


def brick_wall(x, hz, rate=RATE):
    spectrum = np.fft.rfft(x)
    spectrum[np.fft.rfftfreq(len(x), 1 / rate) > hz] = 0.0
    return np.fft.irfft(spectrum, len(x))


def dithered(x, bits=16, seed=0):
    rng, step = np.random.default_rng(seed), 2.0 ** (1 - bits)
    return np.round(x / step + rng.random(x.shape) - rng.random(x.shape)) * step


def find(x, rate=RATE) -> Cutoff:
    return cutoff_of(np.atleast_2d(x), rate)


def assert_edge(found: Cutoff, hz: float, over: float = 0.03, under: float = 0.05):
    assert not found.full_band, found
    assert hz * (1 - under) <= found.hz <= hz * (1 + over), found


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(MATERIAL),
    hz=st.floats(np.log(1_500), np.log(19_000)).map(np.exp),
    bits=st.sampled_from([16, 24]),
)
def test_a_brick_wall_is_found(name, hz, bits):
    # 1.5 kHz: ±30 Hz of main lobe is 2 %; 5 % under costs a little original, over leaves a hole
    found = find(dithered(brick_wall(signal(name), hz), bits))

    # what sounds below the wall ends at its last partial, up to 155 Hz before it in this music
    assert_edge(found, hz, under=0.05 if name != "music" else max(0.05, 160 / hz))
    assert found.confidence > 0.5


@pytest.mark.parametrize("name", MATERIAL)
@pytest.mark.parametrize("family", ["cheby1", "ellip"])
@pytest.mark.parametrize("order", [6, 8, 10])
@pytest.mark.parametrize("hz", [2_000, 14_000])
def test_steep_filters_are_found(name, family, order, hz):
    design = {
        "cheby1": lambda: scipy.signal.cheby1(order, 0.1, hz, fs=RATE, output="sos"),
        "ellip": lambda: scipy.signal.ellip(order, 0.1, 60, hz, fs=RATE, output="sos"),
    }[family]
    found = find(dithered(scipy.signal.sosfilt(design(), signal(name))))
    f, h = scipy.signal.sosfreqz(design(), 1 << 16, fs=RATE)
    half = f[np.flatnonzero(np.abs(h) > 0.5)[-1]]

    # between the end of the ripple (8 % under it at most) and half the amplitude, where the
    # skirt of order 6 is still 13 % above the ripple's end, that of order 10 only 5 %
    assert not found.full_band
    assert 0.92 * hz < found.hz < half


@pytest.mark.parametrize("name", ["pink", "white"])
@pytest.mark.parametrize("family", ["butter", "bessel"])
@pytest.mark.parametrize("order", [4, 6, 8, 10])
@pytest.mark.parametrize("hz", [3_000, 8_000])
def test_gentle_filters_end_on_their_skirt(name, family, order, hz):
    sos = getattr(scipy.signal, family)(order, hz, fs=RATE, output="sos")
    found = find(dithered(scipy.signal.sosfilt(sos, signal(name))))
    if found.full_band:  # docs/cutoff.md: the gentlest are taken for the sound's own slope
        assert order <= 4 or family == "bessel"
        return
    f, h = scipy.signal.sosfreqz(sos, 1 << 14, fs=RATE)
    down_db = -20 * np.log10(np.abs(h[np.searchsorted(f, found.hz)]) + 1e-12)

    assert 0.5 < down_db < 40


@pytest.mark.parametrize("name", MATERIAL)
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
def test_nothing_missing_is_full_band(name, bits, rate):
    x = signal(name) if rate == RATE else soxr.resample(signal(name), RATE, rate, "VHQ")
    found = find(dithered(x, bits), rate)

    assert found.full_band, found
    assert found.hz >= min(0.9 * rate / 2, 19_800)
    assert found.hz <= rate / 2


@pytest.mark.parametrize("low", [8_000, 16_000, 32_000])
@pytest.mark.parametrize("quality", ["HQ", "VHQ"])
@pytest.mark.parametrize("name", ["pink", "music", "speech"])
def test_the_edge_of_a_resampler_is_found(name, low, quality):
    there = soxr.resample(signal(name), RATE, low, quality)
    found = find(dithered(soxr.resample(there, low, RATE, quality)))

    # the pass band ends at 0.91 (HQ) to 0.95 (VHQ) of the lower Nyquist frequency
    assert not found.full_band
    assert 0.88 * low / 2 < found.hz < low / 2


@pytest.mark.parametrize("name", MATERIAL)
def test_a_44_kilohertz_sound_stored_at_96_ends_near_20_kilohertz(name):
    x = soxr.resample(soxr.resample(signal(name), RATE, 44_100), 44_100, 96_000)
    found = find(dithered(x, 24), 96_000)

    assert found.full_band  # nothing audible is missing
    assert 19_500 < found.hz < 22_100


@pytest.mark.parametrize("name", ["pink", "music", "speech"])
@pytest.mark.parametrize("hz", [4_000, 15_000])
class TestTheEdgeStays:
    """Whatever is done to the level, the edge is where it was."""

    def cut(self, name, hz):
        return brick_wall(signal(name), hz)

    def test_under_fades(self, name, hz):
        x = self.cut(name, hz)
        fade = np.minimum(1.0, np.minimum(np.arange(len(x)), np.arange(len(x))[::-1]) / (2 * RATE))
        assert_edge(find(dithered(x * fade**2)), hz)

    def test_in_long_silence(self, name, hz):
        x = self.cut(name, hz)[: 2 * RATE]
        assert_edge(find(dithered(np.concatenate([np.zeros(9 * RATE), x]))), hz)

    def test_under_a_few_loud_clicks(self, name, hz):
        x = self.cut(name, hz)
        x[[RATE, 3 * RATE]] += 0.9
        assert_edge(find(dithered(x)), hz)

    @pytest.mark.parametrize("pilot", [15_625, 19_000])
    def test_under_a_pilot_tone(self, name, hz, pilot):
        tone = 0.02 * np.sin(2 * np.pi * pilot * np.arange(len(signal(name))) / RATE)
        assert_edge(find(dithered(self.cut(name, hz) + tone)), hz)

    def test_with_dc(self, name, hz):
        assert_edge(find(dithered(0.4 * self.cut(name, hz) + 0.3)), hz)

    def test_at_a_lower_level(self, name, hz):
        assert_edge(find(dithered(0.1 * self.cut(name, hz), 24)), hz)

    def test_under_hiss_added_later(self, name, hz):
        hiss = 10 ** (-75 / 20) * np.random.default_rng(3).standard_normal(len(signal(name)))
        assert_edge(find(self.cut(name, hz) + hiss), hz, under=0.08)

    def test_in_a_chunk_of_four_seconds(self, name, hz):
        assert_edge(find(dithered(self.cut(name, hz)[: 4 * RATE])), hz)

    def test_in_stereo_with_a_silent_or_narrower_side(self, name, hz):
        x = self.cut(name, hz)
        assert_edge(find(dithered(np.stack([0 * x, x]))), hz)
        assert_edge(find(dithered(np.stack([brick_wall(x, 2_000), x]))), hz)


@pytest.mark.parametrize("hz", [6_000, 15_000])
def test_converter_noise_above_20_kilohertz_is_not_content(hz):
    x = soxr.resample(brick_wall(signal("music"), hz), RATE, 96_000, "VHQ")
    spectrum = np.fft.rfft(np.random.default_rng(5).standard_normal(len(x)))
    f = np.fft.rfftfreq(len(x), 1 / 96_000)
    rising = np.fft.irfft(spectrum * 10 ** (-100 / 20) * np.maximum(f / 20_000, 1.0) ** 6, len(x))

    assert_edge(find(x + rising, 96_000), hz)


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
def test_dither_alone_is_never_extended(bits, rate):
    found = find(dithered(np.zeros((2, 3 * rate)), bits), rate)

    assert found.full_band
    assert found.note == "nothing above the floor"
    assert found.confidence == 0.0


@pytest.mark.parametrize("x", [np.zeros((2, RATE)), np.zeros((1, 0)), np.ones((1, 10))])
def test_silence_is_never_extended(x):
    assert find(x) == Cutoff(RATE / 2, 0.0, True, "silence")


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("hz", [60, 1_000, 5_000, 14_000])
def test_a_lone_sine_has_no_edge(hz, bits):
    assert find(dithered(0.5 * np.sin(2 * np.pi * hz * np.arange(3 * RATE) / RATE), bits)).full_band


@pytest.mark.parametrize("slope", [6, 9, 12])
@pytest.mark.parametrize("bits", [16, 24])
def test_bass_heavy_sounds_fade_by_themselves(slope, bits):
    x = 0.5 * shaped_noise(np.random.default_rng(4), 5 * RATE, slope)
    assert find(dithered(x, bits)).full_band


def test_full_band_hiss_is_content():
    hiss = 10 ** (-50 / 20) * np.random.default_rng(3).standard_normal(5 * RATE)
    assert find(
        dithered(0.3 * shaped_noise(np.random.default_rng(4), 5 * RATE, 9) + hiss)
    ).full_band


@pytest.mark.parametrize("name", ["pink", "music", "speech"])
@pytest.mark.parametrize("kbps", [96, 160])
def test_the_shelf_of_an_mp3_is_found(name, kbps, tmp_path):
    if not shutil.which("lame"):
        pytest.skip("lame is not installed")
    soundfile.write(tmp_path / "a.wav", soxr.resample(signal(name), RATE, 44_100), 44_100)
    run = ["lame", "--quiet", "--lowpass", "16", "--lowpass-width", "0.5", "-b", str(kbps)]
    subprocess.run([*run, tmp_path / "a.wav", tmp_path / "a.mp3"], check=True)
    run = ["lame", "--quiet", "--decode", tmp_path / "a.mp3", tmp_path / "b.wav"]
    subprocess.run(run, check=True)
    x, rate = soundfile.read(tmp_path / "b.wav")

    # a band of a codec is 0.5 to 1 kHz wide here, and what it spares comes and goes
    assert 13_500 < find(x, rate).hz < 17_200


@pytest.mark.parametrize("name", ["music", "speech"])
@pytest.mark.parametrize("hz", [4_000, 12_000])
def test_the_bandwidth_of_opus_in_ogg_is_found(name, hz, tmp_path):
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    soundfile.write(tmp_path / "a.wav", signal(name), RATE)
    quiet = ["ffmpeg", "-v", "error", "-i"]
    code = ["-c:a", "libopus", "-b:a", "64k", "-cutoff", str(hz), tmp_path / "a.ogg"]
    subprocess.run([*quiet, tmp_path / "a.wav", *code], check=True)
    subprocess.run([*quiet, tmp_path / "a.ogg", tmp_path / "b.wav"], check=True)
    x, rate = soundfile.read(tmp_path / "b.wav")

    assert_edge(find(x, rate), hz, under=0.1)


@pytest.mark.parametrize("rate", [4_000, 8_000, 192_000, 768_000])
@pytest.mark.parametrize("num_samples", [64, 200, 5_000, 100_000])
def test_any_rate_and_length_has_an_answer(rate, num_samples):
    x = 0.1 * np.random.default_rng(num_samples).standard_normal((1, num_samples))
    found = find(x, rate)

    assert 0.0 < found.hz <= rate / 2
    assert 0.0 <= found.confidence <= 1.0
