"""The official functions: their shapes are kept, and their sounds are the product's."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import wavinfo

from audiosr_core import store
from audiosr_core.audio import Audio
from audiosr_core.engine import Engine
from audiosr_core.errors import (
    AudioError,
    FileError,
    ModelError,
    OutputExistsError,
    SettingsError,
    UsageError,
)
from audiosr_core.resample import output_length, resample
from audiosr_core.settings import Settings
from audiosr_core.splice import crossover_hz
from plugin_host import compat
from tests.support.audiosr import install, muffled
from tests.support.checkpoints import TINY, write_official

pytestmark = pytest.mark.timeout(120)

OFFICIAL = {
    "build_model": {"ckpt_path": None, "config": None, "device": None, "model_name": "basic"},
    "super_resolution": {
        "latent_diffusion": inspect.Parameter.empty,
        "input_file": inspect.Parameter.empty,
        "seed": 42,
        "ddim_steps": 200,
        "guidance_scale": 3.5,
        "latent_t_per_second": 12.8,
        "config": None,
    },
    "super_resolution_long_audio": {
        "latent_diffusion": inspect.Parameter.empty,
        "input_file": inspect.Parameter.empty,
        "seed": 42,
        "ddim_steps": 200,
        "guidance_scale": 3.5,
        "chunk_duration_s": 15,
        "overlap_duration_s": 2,
    },
    "save_wave": {
        "waveform": inspect.Parameter.empty,
        "inputpath": inspect.Parameter.empty,
        "savepath": inspect.Parameter.empty,
        "name": "outwav",
        "samplerate": 16_000,
    },
}


@pytest.fixture(scope="module", autouse=True)
def _small_networks(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.FOLDER_VARIABLE, str(tmp_path_factory.mktemp("models")))
        install()
        yield
    torch.set_num_threads(threads)


def file(folder: Path, channels=2, samples=20_000, rate=44_100, subtype="PCM_16", name="in.wav"):
    path = folder / name
    soundfile.write(path, muffled(channels, samples, 7_000.0, rate).T, rate, subtype)
    return path


@pytest.mark.parametrize("name", OFFICIAL)
def test_names_order_and_defaults_are_the_official_ones(name):
    found = inspect.signature(getattr(compat, name)).parameters.values()
    official = {p.name: p.default for p in found if p.kind is not p.KEYWORD_ONLY}
    assert list(official.items()) == list(OFFICIAL[name].items())


@pytest.mark.parametrize(
    ("channels", "samples", "rate"), [(1, 9_001, 22_050), (2, 20_000, 44_100), (3, 4_801, 48_000)]
)
def test_every_channel_at_48_khz_and_the_samples_are_the_engines(tmp_path, channels, samples, rate):
    path = file(tmp_path, channels, samples, rate)
    model = compat.build_model(device="cpu")
    wave = compat.super_resolution(model, path, seed=5, ddim_steps=2, guidance_scale=2.0)
    long = compat.super_resolution_long_audio(model, path, 5, 2, 2.0, 10, 3)
    sound, _ = soundfile.read(path, dtype="float32", always_2d=True)
    knobs = Settings(model="audiosr-basic", rate=48_000, seed=5, steps=2, guidance_scale=2.0)
    engine = Engine("cpu")
    audio = Audio(np.ascontiguousarray(sound.T), rate)
    expected = engine.extend(audio, knobs).samples

    assert wave.dtype == np.float32
    assert wave.shape == (1, channels, output_length(samples, rate, 48_000))
    np.testing.assert_array_equal(wave[0], expected)
    np.testing.assert_array_equal(long, wave)  # the product takes any length in one way

    x = audio.samples
    decision = engine.analyse([x], lambda a, b: x[:, a:b], rate, channels, knobs)
    assert decision.extends
    added = wave[0].astype(np.float64) - resample(x.astype(np.float64), rate, 48_000)
    spectrum = np.abs(np.fft.rfft(added * np.hanning(added.shape[1]), axis=1))
    low = (
        np.fft.rfftfreq(added.shape[1], 1 / 48_000)
        < crossover_hz(decision.cutoff.hz, knobs.transition) - 50  # the window's own width
    )
    reference = np.abs(np.fft.rfft(wave[0], axis=1))
    assert spectrum[:, low].max() < 10 ** (-90 / 20) * reference.max()


def test_exact_is_the_published_shape_level_and_channel(tmp_path):
    stereo, mono = file(tmp_path), tmp_path / "mono.wav"
    soundfile.write(mono, soundfile.read(stereo)[0][:, 0], 44_100, "PCM_16")
    model = compat.build_model(exact=True, device="cpu")
    told: list[float] = []
    wave = compat.super_resolution(model, stereo, ddim_steps=2, on_progress=told.append)
    assert wave.shape == (1, 1, 512 * 480 + 16)
    assert wave.dtype == np.float32
    assert 0.49 < np.abs(wave).max() < 0.51
    np.testing.assert_array_equal(wave, compat.super_resolution(model, mono, ddim_steps=2))
    knobs = compat.settings("audiosr-basic", 42, 2, 3.5, exact=True)
    samples = np.ascontiguousarray(soundfile.read(stereo, dtype="float32")[0].T)
    direct = Engine("cpu").extend_as_published(Audio(samples, 44_100), knobs).samples
    np.testing.assert_array_equal(wave[0, :, : direct.shape[1]], direct)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_exact_works_in_the_chunks_that_were_asked_for(tmp_path):
    path = file(tmp_path, samples=3 * 16_000, rate=16_000)
    model = compat.build_model(exact=True, device="cpu")
    wave = compat.super_resolution_long_audio(
        model, path, ddim_steps=1, chunk_duration_s=2, overlap_duration_s=1
    )
    assert wave.shape == (1, 1, 3 * 48_000)
    sound, _ = soundfile.read(path)
    first = np.abs(sound.mean(axis=1)[: 2 * 16_000]).max()  # every chunk at the peak of its own
    assert np.abs(wave[0, 0, :48_000]).max() <= first * 1.05
    with pytest.raises(AudioError, match="cannot join"):  # the last chunk is below the overlap
        compat.super_resolution_long_audio(
            model, path, ddim_steps=1, chunk_duration_s=1.75, overlap_duration_s=1
        )


@pytest.mark.parametrize(("chunk", "overlap"), [(2, 2), (1, 2), (5, -1), (float("nan"), 1)])
def test_an_overlap_that_is_no_part_of_a_chunk_is_refused(tmp_path, chunk, overlap):
    with pytest.raises(UsageError, match="longer than the overlap"):
        compat.super_resolution_long_audio(
            compat.build_model(), file(tmp_path), 42, 1, 3.5, chunk, overlap
        )


def test_a_knob_out_of_range_is_named(tmp_path):
    for knobs in ({"ddim_steps": 0}, {"seed": -1}, {"guidance_scale": 0.5}):
        with pytest.raises(SettingsError):
            compat.super_resolution(compat.build_model(), file(tmp_path), **knobs)


# ---- models


def test_a_model_that_is_missing_says_how_to_get_it():
    with pytest.raises(ModelError, match="models install audiosr-speech"):
        compat.build_model(model_name="speech")
    with pytest.raises(UsageError, match="basic or speech"):
        compat.build_model(model_name="music")


def test_a_checkpoint_is_imported_once_and_found_again(tmp_path):
    path = write_official(tmp_path / "pytorch_model.bin")
    model = compat.build_model(path, config=TINY.as_dict())
    assert model.id.startswith("checkpoint-")
    before = store.model_info(model.id).path.stat()
    moved = path.rename(tmp_path / "other.ckpt")
    assert compat.build_model(str(moved)).id == model.id
    assert store.model_info(model.id).path.stat().st_mtime_ns == before.st_mtime_ns
    store.remove_model(model.id)


def test_a_checkpoint_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "text.bin").write_text("no checkpoint")
    for path in (tmp_path / "missing.bin", tmp_path, tmp_path / "text.bin"):
        with pytest.raises(ModelError) as raised:
            compat.build_model(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match="mapping"):
        compat.build_model(tmp_path / "text.bin", config="audiosr.yaml")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="both, or neither"):
        compat.build_model(config=TINY.as_dict())


# ---- writing


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_saved_wave_keeps_depth_and_length_and_exact_does_not(tmp_path, subtype):
    path = file(tmp_path, 2, 4_410, subtype=subtype)
    wave = 0.5 * muffled(2, 6_000, 9_000.0, 48_000)[None]
    compat.save_wave(wave, path, tmp_path, name="a.b.wav", samplerate=48_000)
    compat.save_wave(torch.from_numpy(wave), path, tmp_path, "exact", 48_000, exact=True)
    kept, exact = soundfile.info(tmp_path / "a.b.wav"), soundfile.info(tmp_path / "exact.wav")
    assert (kept.subtype, kept.channels, kept.frames, kept.samplerate) == (
        subtype, 2, 4_800, 48_000,
    )  # fmt: skip
    assert (exact.subtype, exact.frames, exact.samplerate) == ("PCM_16", 4_800, 48_000)
    samples, _ = soundfile.read(tmp_path / "exact.wav")
    np.testing.assert_allclose(samples.T, wave[0, :, :4_800], atol=2**-15)  # one step of 16 bits


def test_metadata_is_carried_over(tmp_path):
    path = file(tmp_path, 1, 4_410)
    data = path.read_bytes()
    bext = b"take one".ljust(602, b"\0")
    chunk = b"bext" + len(bext).to_bytes(4, "little") + bext
    whole = data[:12] + chunk + data[12:]
    path.write_bytes(whole[:4] + (len(whole) - 8).to_bytes(4, "little") + whole[8:])
    wave = muffled(1, 4_800, 9_000.0, 48_000)[None]
    compat.save_wave(wave, path, tmp_path, "kept", 48_000)
    compat.save_wave(wave, path, tmp_path, "exact", 48_000, exact=True)
    assert wavinfo.WavInfoReader(str(tmp_path / "kept.wav")).bext.description == "take one"
    assert wavinfo.WavInfoReader(str(tmp_path / "exact.wav")).bext is None


def test_a_batch_has_a_name_each_and_an_original_is_never_replaced(tmp_path):
    path = file(tmp_path, 1, 4_410)
    before = path.read_bytes()
    wave = np.zeros((2, 1, 100), np.float32)
    compat.save_wave(wave, path, tmp_path, "x")
    compat.save_wave(wave, path, tmp_path, ["../y", "z"])
    compat.save_wave(wave, path, tmp_path, "x")  # as the official one: replaced
    made = {"x_0.wav", "x_1.wav", "y_0.wav", "z_1.wav"}
    assert {one.name for one in tmp_path.iterdir()} == {"in.wav"} | made
    for exact in (False, True):
        with pytest.raises(OutputExistsError, match="source itself"):
            compat.save_wave(wave[:1], path, tmp_path, "in", exact=exact)
    with pytest.raises(UsageError, match="2 sounds"):
        compat.save_wave(wave, path, tmp_path, ["a"])
    for odd in (wave[0], np.zeros((0, 1, 5), np.float32)):
        with pytest.raises(AudioError, match="batch"):
            compat.save_wave(odd, path, tmp_path)
    with pytest.raises(FileError):
        compat.save_wave(wave, path, tmp_path / "nowhere", exact=True)
    with pytest.raises(AudioError, match="finite"):
        compat.save_wave(np.full((1, 1, 9), np.nan, np.float32), path, tmp_path, exact=True)
    assert path.read_bytes() == before
    assert {one.name for one in tmp_path.iterdir()} == {"in.wav"} | made
