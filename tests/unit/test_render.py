"""What a chain does to a file: every law on tiny sounds, most without a model."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pedalboard
import pytest
import soundfile

from audiosr_core.containers.temporary import Temporary, translated
from audiosr_core.errors import (
    AudioSRError,
    FileError,
    NotFiniteError,
    OutputExistsError,
    UsageError,
)
from audiosr_core.extend_file import extend_file
from audiosr_core.files import provenance_of
from audiosr_core.settings import Settings
from plugin_host.chain import Chain
from plugin_host.errors import ChainError
from plugin_host.loudness import LoudnessMeter
from plugin_host.render_file import render
from plugin_host.super_resolution import SuperResolution

pytestmark = pytest.mark.timeout(120)
PRIME = 17_749


class Count:
    """A step that gives what it gets, times a factor, and counts."""

    name = "Count"

    def __init__(self, factor=1.0, extra=0):
        self.factor, self.extra = factor, extra
        self.sample_rate_out = self.num_channels = self.received = self.opened = 0

    def open(self, sample_rate, num_channels):
        self.sample_rate_out, self.num_channels = sample_rate, num_channels
        self.opened += 1
        return self

    def push(self, samples):
        self.received += samples.shape[1]
        return samples * self.factor

    def flush(self, tail_samples=0):
        return np.zeros((self.num_channels, tail_samples + self.extra))


def noise(num_samples, num_channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((num_channels, num_samples))


def dull(num_samples, rate, edge_hz, num_channels=1):
    """Noise that ends at `edge_hz`."""
    spectrum = np.fft.rfft(noise(num_samples, num_channels))
    return np.fft.irfft(spectrum * (np.fft.rfftfreq(num_samples, 1 / rate) < edge_hz), num_samples)


@pytest.fixture
def sound(tmp_path):
    def make(samples, rate=48_000, subtype="PCM_24", name="in.wav"):
        path = tmp_path / name
        soundfile.write(path, samples.T, rate, subtype)
        return path

    return make


def read(path):
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


def alone(path):
    """No hidden file is beside it."""
    return not [name for name in os.listdir(path.parent) if name.startswith(".")]


@pytest.mark.parametrize(
    ("rate", "edge_hz", "subtype"),
    [(44_100, 7_000, "PCM_16"), (16_000, 8_000, "FLOAT"), (44_100, 22_050, "PCM_24")],
    ids=["dull", "to 48 kHz", "full band"],
)
def test_a_chain_that_only_extends_writes_the_file_of_extend(
    sound, tmp_path, rate, edge_hz, subtype
):
    source = sound(dull(rate, rate, edge_hz, 2), rate, subtype)
    told = []
    report = render(Chain([SuperResolution()]), source, tmp_path / "a.wav", on_progress=told.append)
    extended = extend_file(source, tmp_path / "b.wav", Settings())
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert report.cutoff_hz == extended.cutoff_hz
    assert report.null_residual_db < -90
    assert told == sorted(told)
    assert told[-1] == 1.0
    if extended.full_band:
        assert (tmp_path / "a.wav").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("num_samples", [0, 1, PRIME])
@pytest.mark.parametrize(("rate", "num_channels"), [(8_000, 1), (96_000, 2), (44_100, 6)])
def test_plugins_give_what_pedalboard_gives(sound, tmp_path, num_samples, rate, num_channels):
    x = noise(num_samples, num_channels).astype(np.float32)
    source = sound(x, rate, "FLOAT")
    plugins = [pedalboard.HighpassFilter(100), pedalboard.Gain(-3)]
    report = render(Chain(plugins), source, tmp_path / "out.wav")
    y = read(tmp_path / "out.wav")
    assert y.shape == x.shape
    assert report.num_samples == num_samples
    if num_samples > num_channels:
        np.testing.assert_array_equal(y, pedalboard.Pedalboard(plugins)(x, rate))


@pytest.mark.parametrize("after", [[], [pedalboard.Gain(-6)]])
def test_what_comes_first_runs_once_and_the_decision_hears_it(sound, tmp_path, after):
    source = sound(dull(44_100, 44_100, 12_000, 2), 44_100)
    step = Count()
    low_pass = [pedalboard.LowpassFilter(3_000) for _ in range(12)]
    sr = SuperResolution(rate="keep")
    report = render(Chain([step, *low_pass, sr, *after]), source, tmp_path / "out.wav")
    assert (step.opened, step.received) == (1, 44_100)
    assert report.cutoff_hz < 11_000
    assert report.null_residual_db < -90
    assert report.num_samples == soundfile.info(tmp_path / "out.wav").frames == 44_100
    assert report.steps == ("Count", *["LowpassFilter"] * 12, "SuperResolution", *(
        ["Gain"] if after else []))  # fmt: skip
    assert alone(source)


def test_plugins_after_another_rate_run_at_it(sound, tmp_path):
    source = sound(dull(PRIME, 16_000, 8_000), 16_000)
    step = Count()
    report = render(Chain([SuperResolution(rate=48_000), step]), source, tmp_path / "out.wav")
    info = soundfile.info(tmp_path / "out.wav")
    assert step.sample_rate_out == info.samplerate == report.sample_rate == 48_000
    assert info.frames == step.received == report.num_samples == 3 * PRIME


def test_dither_is_where_something_changed_and_nowhere_in_silence(sound, tmp_path):
    x = np.concatenate([noise(9_000), np.zeros((1, 9_000))], axis=1)
    source = sound(x, subtype="PCM_16")
    wanted = read(source) * np.float32(0.3) * 2**15
    for dither in (True, False):
        render(Chain([Count(np.float32(0.3))]), source, tmp_path / f"{dither}.wav", dither=dither)
    rounded, dithered = (read(tmp_path / f"{d}.wav") * 2**15 for d in (False, True))
    np.testing.assert_array_equal(rounded, np.round(wanted))
    error = np.std((dithered - wanted)[:, :9_000])
    assert error == pytest.approx(0.5, abs=0.02)  # triangular dither; rounding alone has 0.29
    assert not dithered[:, 9_000:].any()


def test_the_tail_is_what_the_plugins_give_for_silence(sound, tmp_path):
    x = noise(PRIME, 2).astype(np.float32)
    source = sound(x, subtype="FLOAT")
    report = render(Chain([pedalboard.Delay(0.5)]), source, tmp_path / "out.wav", tail_seconds=1)
    padded = np.pad(x, ((0, 0), (0, 48_000)))
    wanted = pedalboard.Pedalboard([pedalboard.Delay(0.5)])(padded, 48_000)
    np.testing.assert_array_equal(read(tmp_path / "out.wav"), wanted)
    assert (report.tail_samples, report.num_samples) == (48_000, PRIME + 48_000)
    render(Chain([SuperResolution()]), source, tmp_path / "still.wav", tail_seconds=0.1)
    still = read(tmp_path / "still.wav")
    assert still.shape == (2, PRIME + 4_800)
    assert not still[:, PRIME:].any()


@pytest.mark.parametrize("latent", [pedalboard.PitchShift(0.01), pedalboard.MP3Compressor(1)])
def test_length_and_rate_are_kept_by_plugins_with_latency(sound, tmp_path, latent):
    source = sound(noise(PRIME, 2))
    render(Chain([latent, pedalboard.Gain(1)]), source, tmp_path / "out.wav")
    assert read(tmp_path / "out.wav").shape == (2, PRIME)


def test_the_report_measures_both_sides(sound, tmp_path):
    x = noise(96_000, 2)
    source = sound(x, subtype="FLOAT")
    report = render(Chain([Count(2.0)]), source, tmp_path / "out.wav")
    meter = LoudnessMeter(48_000, 2)
    meter.push(read(source))
    assert report.loudness_before_lufs == round(meter.integrated_lufs, 2)
    gained = report.loudness_after_lufs - report.loudness_before_lufs
    assert gained == pytest.approx(6.02, abs=0.011)
    gained = report.true_peak_after_db - report.true_peak_before_db
    assert gained == pytest.approx(6.02, abs=0.011)
    assert report.as_dict()["steps"] == ("Count",)
    assert report.null_residual_db is None
    assert render(Chain([Count(20.0)]), source, tmp_path / "loud.wav").overs > 0


def test_the_file_says_what_was_done_to_it(sound, tmp_path):
    source = sound(dull(20_000, 44_100, 7_000), 44_100)
    render(Chain([pedalboard.Gain(1), SuperResolution(seed=7)]), source, tmp_path / "out.wav")
    record = provenance_of(tmp_path / "out.wav")
    assert record["chain"] == ["Gain", "SuperResolution"]
    assert record["seed"] == 7
    assert record["model_sha256"]
    render(Chain([pedalboard.Gain(1)]), source, tmp_path / "gain.wav")
    assert provenance_of(tmp_path / "gain.wav")["chain"] == ["Gain"]


def test_the_same_in_gives_the_same_out(sound, tmp_path):
    source = sound(dull(30_000, 44_100, 7_000, 2), 44_100)
    chain = Chain([pedalboard.HighpassFilter(30), SuperResolution(), pedalboard.Gain(-1)])
    for name in ("a.wav", "b.wav"):
        render(chain, source, tmp_path / name)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_nothing_to_do_is_a_copy_and_an_empty_chain_is_nothing(sound, tmp_path):
    source = sound(noise(PRIME))
    report = render(Chain([]), source, tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == source.read_bytes()
    assert report.loudness_after_lufs == report.loudness_before_lufs
    render(Chain([]), source, tmp_path / "out16.wav", subtype="PCM_16")
    assert soundfile.info(tmp_path / "out16.wav").subtype == "PCM_16"


class Cancelled(Exception):
    pass


def test_whatever_goes_wrong_leaves_nothing_behind(sound, tmp_path):
    source = sound(dull(3 * 44_100, 44_100, 7_000), 44_100)

    def stop_at(limit):
        def tell(fraction):
            if fraction > limit:
                raise Cancelled

        return tell

    chain = Chain([pedalboard.Gain(1), SuperResolution(), pedalboard.Gain(-1)])
    for limit in (0.0, 0.1, 0.2, 0.5):
        with pytest.raises(Cancelled):
            render(chain, source, tmp_path / "out.wav", on_progress=stop_at(limit))
    with pytest.raises(ChainError, match="132300 samples"):
        render(Chain([Count(extra=5)]), source, tmp_path / "out.wav")
    with pytest.raises(NotFiniteError):
        render(Chain([Count(np.nan)]), source, tmp_path / "out.wav")
    with pytest.raises(UsageError, match="tail"):
        render(Chain([]), source, tmp_path / "out.wav", tail_seconds=-1)
    with pytest.raises(AudioSRError, match="no such file"):
        render(Chain([]), tmp_path / "missing.wav", tmp_path / "out.wav")
    assert os.listdir(tmp_path) == ["in.wav"]


def test_originals_are_kept(sound, tmp_path):
    source = sound(noise(PRIME))
    original = source.read_bytes()
    with pytest.raises(OutputExistsError):
        render(Chain([Count(0.5)]), source, source)
    report = render(Chain([Count(0.5)]), source, in_place=True)
    assert Path(report.backup).read_bytes() == original
    assert source.read_bytes() != original
    with pytest.raises(OutputExistsError):
        render(Chain([]), source, report.backup)
    render(Chain([]), source, report.backup, overwrite=True)
    assert Path(report.backup).read_bytes() == source.read_bytes()


def test_a_dry_run_decides_and_writes_nothing(sound, tmp_path):
    source = sound(dull(44_100, 44_100, 7_000), 44_100)
    chain = Chain([pedalboard.Gain(-1), SuperResolution(), pedalboard.Gain(1)])
    report = render(chain, source, tmp_path / "no" / "out.wav", dry_run=True)
    assert report.cutoff_hz == pytest.approx(7_000, rel=0.05)
    assert report.loudness_after_lufs is None
    assert report.loudness_before_lufs < 0
    assert os.listdir(tmp_path) == ["in.wav"]


def test_the_spool_takes_any_name_and_a_full_disk_is_a_sentence(sound, tmp_path, monkeypatch):
    chain = Chain([pedalboard.Gain(1), SuperResolution(cutoff=7_000, daemon=False)])
    made = render(chain, sound(noise(8_000), 16_000), tmp_path / "\udcff\udcfe\n.wav")
    assert made.num_samples == soundfile.info(os.fsencode(made.output)).frames

    real, left = Temporary.write, 20_000

    def write(self, data):
        nonlocal left
        left -= len(data)
        if left < 0:
            with translated(self.target, "written"):
                raise OSError(errno.ENOSPC, "No space left on device")
        real(self, data)

    monkeypatch.setattr(Temporary, "write", write)
    with pytest.raises(FileError, match="disk is full"):
        render(chain, tmp_path / "in.wav", tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()
    assert alone(tmp_path / "out.wav")
