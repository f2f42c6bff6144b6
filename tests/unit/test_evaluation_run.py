"""Sets, the runner, two files side by side, the picture."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.errors import AudioError, FileError, SettingsError, UsageError
from audiosr_core.evaluation import compare, plots
from audiosr_core.evaluation.compare import compare_files
from audiosr_core.evaluation.metrics import low_pass, lsd_ssr, null_residual_db
from audiosr_core.evaluation.plots import spectrogram, spectrogram_comparison
from audiosr_core.evaluation.run import METRICS, Table, evaluate
from audiosr_core.evaluation.sets import KINDS, manifest, open_set

RATE = 48_000
PNG = b"\x89PNG\r\n\x1a\n"


def noise(num_samples: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, num_samples))


def save(path, x, rate=RATE, subtype="DOUBLE"):
    soundfile.write(path, x.T, rate, subtype=subtype)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sounds")
    save(path / "b.wav", noise(RATE, 1, 2))
    save(path / "a.flac", noise(RATE, 2), subtype="PCM_24")
    save(path / "c.wav", np.pad(noise(RATE, 3), ((0, 0), (500, RATE))))
    save(path / "short.wav", noise(RATE // 4, 4))
    save(path / "rate.wav", noise(44_100, 5), 44_100)
    (path / "notes.txt").write_text("not a sound")
    return path


def test_a_folder_is_a_set_under_the_protocol(folder):
    chosen = open_set("folder", folder)
    items = list(chosen)
    assert [i.name for i in items] == ["a", "b", "c", "rate"]
    assert len(chosen) == 4
    for item in items:
        assert item.sample_rate == RATE
        assert item.samples.shape == (1, RATE)  # mono, silence cut off, 44.1 kHz resampled
    both = soundfile.read(folder / "b.wav", always_2d=True)[0]
    np.testing.assert_array_equal(items[1].samples[0], both.mean(axis=1))
    assert json.loads(manifest(chosen))["files"] == ["a.flac", "b.wav", "c.wav", "rate.wav"]


def test_sonic_pi_is_played_as_48_khz(folder):
    (item,) = [i for i in open_set("sonic-pi", folder) if i.name == "rate"]
    raw = soundfile.read(folder / "rate.wav")[0]
    np.testing.assert_array_equal(item.samples[0], raw)
    assert item.sample_rate == RATE


@given(count=st.integers(1, 6))
@settings(max_examples=6, deadline=None)
def test_a_part_of_a_set_is_spread_over_it(folder, count):
    names = [p.name for p in open_set("folder", folder).files]
    some = [p.name for p in open_set("folder", folder, max_files=count).files]
    assert len(some) == min(count, len(names))
    assert some == sorted(set(some))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_missing_set_says_what_to_do(name, tmp_path):
    with pytest.raises(FileError, match=r"--set-dir|apt install"):
        open_set(name, tmp_path / "nowhere")
    with pytest.raises(FileError, match="found none"):
        open_set(name, tmp_path)


def test_an_unknown_set_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(UsageError, match="sonic-pi"):
        open_set("imaginary")
    (tmp_path / "broken.wav").write_bytes(b"RIFF\0\0\0\0WAVEnothing")
    with pytest.raises(FileError, match=r"broken\.wav"):
        open_set("folder", tmp_path)


@pytest.fixture(scope="module")
def table(folder) -> Table:
    chosen = open_set("folder", folder, max_files=2)
    truth = {round(float(np.sum(i.samples**2)), 6): i.samples for i in chosen}
    seen = []

    def oracle(samples, sample_rate, cutoff_hz):
        """Knows the answer, and gives it 6 dB too loud: the level match takes that back."""
        low = {k: low_pass(v, RATE, 0.5 * cutoff_hz) for k, v in truth.items()}
        mine = low_pass(samples, RATE, 0.5 * cutoff_hz)
        best = min(low, key=lambda k: float(np.sum((low[k] - mine) ** 2)))
        return 2 * truth[best]

    result = evaluate(
        chosen,
        {"oracle": oracle},
        (16_000, 32_000),
        degradation_name="brickwall",
        on_progress=lambda done, total, name: seen.append((done, total)),
    )
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    return result


def test_every_system_stands_between_the_controls(table):
    assert [r.system for r in table.rows] == ["unprocessed", "naive copy-up", "oracle"] * 2
    for rate in (16_000, 32_000):
        nothing, naive, oracle = [r for r in table.rows if r.input_rate == rate]
        assert oracle.lsd_ssr < 1e-3  # float32 rounding of samples of level 0.1
        assert oracle.level_error_db == pytest.approx(6.02, abs=0.01)
        assert nothing.lsd_hf > 3 > naive.lsd_hf > 0.7  # noise for noise: 0.788 at best
        assert nothing.lsd_lf < 0.5
        assert nothing.num_files == 2
        assert math.isnan(nothing.visqol)


def test_the_table_can_be_read_by_people_and_programs(table):
    text = table.as_markdown()
    assert text.count("\n") == 8
    assert "| oracle | 16 → 48 kHz | 0.000 |" in text
    again = json.loads(json.dumps(table.as_dict(), allow_nan=False))
    assert again["rows"][0]["visqol"] is None
    assert again["degradation"] == "brickwall"


def test_a_low_rate_file_is_given_as_such(folder):
    came = []

    def system(samples, sample_rate, cutoff_hz):
        came.append((samples.shape, sample_rate, cutoff_hz))
        return np.repeat(samples, RATE // sample_rate, axis=1)

    chosen = open_set("folder", folder, max_files=1)
    one = {"held": system}
    evaluate(chosen, one, (16_000,), input_kind="low-rate", controls=False)
    evaluate(chosen, one, (16_000,), input_kind="stored", controls=False)
    assert came == [((1, 16_000), 16_000, 8_000), ((1, RATE), RATE, 8_000)]


@pytest.mark.parametrize(
    "wrong", [{"metrics": ["pesq"]}, {"input_rates": [48_000]}, {"degradation_name": "x"}]
)
def test_a_request_is_checked_before_any_work(folder, wrong):
    with pytest.raises(UsageError):
        evaluate(open_set("folder", folder), {}, **{"input_rates": [16_000], **wrong})


def test_a_system_that_loses_sound_is_an_error(folder):
    with pytest.raises(AudioError, match="loses length"):
        evaluate(
            open_set("folder", folder, max_files=1),
            {"lossy": lambda x, sr, c: x[:, :-4_800]},
            (16_000,),
            controls=False,
        )


def test_visqol_may_listen_to_some_only(folder):
    pytest.importorskip("visqol", reason="visqol-python is not installed (extra 'evaluate')")
    chosen = open_set("folder", folder, max_files=2)
    (row,) = evaluate(
        chosen, {"same": lambda x, sr, c: x}, (32_000,), metrics=METRICS, controls=False,
        visqol_files=1,
    ).rows  # fmt: skip
    assert (row.num_files, row.num_visqol) == (2, 1)
    assert 1 <= row.visqol <= 5


def test_two_files_are_measured_as_their_arrays(tmp_path):
    x = noise(2 * RATE, 1, 2)
    y = x + 1e-4 * noise(2 * RATE, 2, 2)
    found = compare_files(save(tmp_path / "a.wav", x), save(tmp_path / "b.wav", y), cutoff_hz=8_000)
    below_hz = 0.92 * 8_000
    assert found.null_below_hz == pytest.approx(below_hz)
    expected = null_residual_db(x, y, RATE, below_hz, ends=False)
    assert found.null_residual_db == pytest.approx(expected, abs=1e-9)
    assert found.lsd_ssr == pytest.approx(lsd_ssr(x, y, RATE), abs=1e-12)
    assert found.offset_samples == 0
    assert found.same_length
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["a"]["num_samples"] == 2 * RATE


@pytest.mark.parametrize("piece_seconds", [0.3, 0.71, 10.0])
def test_the_null_does_not_know_the_pieces(tmp_path, monkeypatch, piece_seconds):
    monkeypatch.setattr(compare, "PIECE_SECONDS", piece_seconds)
    x, y = noise(RATE, 1), noise(RATE, 2)
    found = compare_files(save(tmp_path / "a.wav", x), save(tmp_path / "b.wav", y))
    assert found.null_residual_db == pytest.approx(
        10 * math.log10(np.sum((y - x) ** 2) / np.sum(x**2)), abs=1e-9
    )
    # a piece's edge frames see zeros: here at most 3 frames in 30
    assert found.lsd_ssr == pytest.approx(lsd_ssr(x, y, RATE), abs=0.02)


@pytest.mark.parametrize("shift", [-700, -1, 0, 1, 999])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_moved_file_is_found_out(tmp_path, shift, rate):
    b = low_pass(noise(RATE, 1), RATE, 6_000)
    a = np.roll(b, -shift, axis=1)[:, :: RATE // rate]
    found = compare_files(
        save(tmp_path / "a.wav", a, rate), save(tmp_path / "b.wav", b), cutoff_hz=8_000
    )
    assert found.offset_samples == shift
    assert found.same_length
    # at 16 kHz what is left is the resampler's own error
    assert (found.null_residual_db < -90) == (shift == 0)


@given(gain_db=st.floats(-12, 30))
@settings(max_examples=6, deadline=None)
def test_level_peak_and_overs_are_told(tmp_path_factory, gain_db):
    path = tmp_path_factory.mktemp("level")
    x = noise(RATE // 2, 1)
    y = x * 10 ** (gain_db / 20)
    found = compare_files(save(path / "a.wav", x), save(path / "b.wav", y), cutoff_hz=8_000)
    assert found.level_difference_db == pytest.approx(gain_db, abs=1e-6)
    assert found.b.peak_db == pytest.approx(20 * math.log10(np.abs(y).max()), abs=1e-9)
    assert found.b.overs == np.count_nonzero(np.abs(y) > 1)


def test_silence_and_different_lengths_can_be_compared(tmp_path):
    a = save(tmp_path / "a.wav", np.zeros((1, 5_000)))
    found = compare_files(a, save(tmp_path / "b.wav", np.zeros((1, 3_000))), cutoff_hz=8_000)
    assert found.null_residual_db == -math.inf
    assert not found.same_length
    assert found.as_dict()["null_residual_db"] == "-inf"


def test_files_that_cannot_be_compared_say_why(tmp_path):
    one = save(tmp_path / "one.wav", noise(5_000))
    with pytest.raises(AudioError, match="channels"):
        compare_files(one, save(tmp_path / "two.wav", noise(5_000, channels=2)))
    with pytest.raises(AudioError, match="no samples"):
        compare_files(one, save(tmp_path / "empty.wav", np.zeros((1, 0))))
    with pytest.raises(FileError, match=r"nowhere\.wav"):
        compare_files(one, tmp_path / "nowhere.wav")
    bad = noise(5_000)
    bad[0, 4_321] = np.nan
    with pytest.raises(AudioError, match="4321"):
        compare_files(one, save(tmp_path / "bad.wav", bad))


@given(rate=st.sampled_from([8_000, 22_050, 48_000]), bin_number=st.integers(40, 300))
@settings(max_examples=8, deadline=None)
def test_a_full_scale_sine_is_zero_db(rate, bin_number):
    f = 12.5 * bin_number
    x = np.sin(2 * np.pi * f * np.arange(rate) / rate)[None]
    picture = spectrogram(lambda start, count: x[:, start : start + count], x.shape[1], rate)
    middle = picture.db[:, picture.db.shape[1] // 2]
    assert middle.max() == pytest.approx(0, abs=0.01)
    assert picture.hz[middle.argmax()] == pytest.approx(f)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_the_same_sound_at_two_rates_shows_no_difference(rate):
    """Both pictures look at the same moments, whatever the rates."""
    pictures = []
    for r in (rate, RATE):
        t = np.arange(r) / r
        chirp = np.sin(2 * np.pi * (300 * t + 1_500 * t**2))
        x = (chirp * np.exp(-8 * np.sin(9 * np.pi * t) ** 2) * np.sin(np.pi * t) ** 4)[None]
        pictures.append(spectrogram(lambda a, n, x=x: x[:, a : a + n], x.shape[1], r))
    change, shown = plots._change_db(*pictures, -80.0)
    assert shown.sample_rate == RATE
    # a column's middle is rounded to a sample of either rate: up to 1/32000 s apart, where the
    # chirp's slopes are some 10 dB per ms
    assert np.abs(change[shown.hz < 0.45 * rate]).max() < 1.0


def test_a_long_sound_is_looked_at_in_so_many_places():
    reads = []

    def read(start, count):
        reads.append(count)
        return np.zeros((1, count))

    picture = spectrogram(read, 3_600 * RATE, RATE)
    assert picture.power.shape == (1921, plots.COLUMNS)
    assert len(reads) == plots.COLUMNS * plots.FRAMES_PER_COLUMN
    assert max(reads) == 3_840


@pytest.mark.parametrize("cutoff_hz", [None, 8_000])
def test_the_picture_is_drawn(tmp_path, cutoff_hz):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra 'plots')")
    out = tmp_path / "picture.png"
    spectrogram_comparison(noise(8_000), noise(24_000), (16_000, RATE), cutoff_hz, out)
    assert out.read_bytes().startswith(PNG)
    x = save(tmp_path / "a.wav", noise(24_000))
    found = compare_files(x, x, cutoff_hz=cutoff_hz, png=tmp_path / "again.png")
    assert found.png is not None
    assert (tmp_path / "again.png").read_bytes().startswith(PNG)


def test_a_missing_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(SettingsError, match=r"audiosr-bridge\[plots\]"):
        spectrogram_comparison(noise(9_000), noise(9_000), (RATE, RATE), None, tmp_path / "x.png")
