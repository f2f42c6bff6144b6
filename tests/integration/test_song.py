"""Songs of stems: the sum stays the mix, every stem stays itself, a kill costs one chunk."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audiosr_core.errors import AudioError, OutputExistsError, UsageError
from audiosr_core.evaluation.metrics import null_residual_db
from audiosr_core.extend_file import extend_file
from audiosr_core.settings import Settings
from plugin_host.stems.album import Song, Stem
from plugin_host.stems.song import SongReport, extend_song
from tests.support.album import (
    RATE,
    Samples,
    lowpassed,
    needs_fluidsynth,
    noise_stems,
    played_album,
    write_song,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def song_of(paths: list[Path], out: Path, name: str = "song") -> Song:
    out.mkdir(parents=True, exist_ok=True)
    return Song(name, tuple(Stem(path.stem, (path,), (out / path.name,)) for path in paths))


def extended(
    stems: list[Samples], tmp_path: Path, subtype: str = "FLOAT", **knobs: Any
) -> tuple[SongReport, list[Samples], Song]:
    song = song_of(write_song(tmp_path / "in", stems, subtype), tmp_path / "out")
    report = extend_song(song, Settings(**knobs), cache=tmp_path / "chunks")
    return report, [read(stem.targets[0]) for stem in song.stems], song


def read(path: Path) -> Samples:
    x, _ = soundfile.read(path, always_2d=True)
    return np.ascontiguousarray(x.T)


def db(x: Samples, reference: Samples) -> float:
    return float(10 * np.log10(max(np.sum(x**2), 1e-40) / np.sum(reference**2)))


@needs_fluidsynth
def test_stems_played_from_midi_sum_to_their_extended_mix(tmp_path: Path) -> None:
    paths = sorted((played_album(num_songs=1) / "Song 1").iterdir())
    song = song_of(paths, tmp_path)
    report = extend_song(song, Settings(), cache=tmp_path / "chunks")
    before = [read(path) for path in paths]
    after = [read(tmp_path / path.name) for path in paths]
    mix = tmp_path / "mix.wav"
    soundfile.write(mix, sum(before).T, RATE, "DOUBLE")
    extend_file(mix, tmp_path / "whole.wav", Settings())
    band = read(tmp_path / "whole.wav") - read(mix)

    assert report.extended
    assert report.sum_residual_db is not None
    assert report.sum_residual_db < -90
    assert report.sum_error_db is not None
    assert report.sum_error_db < -80
    # 24 bits, dithered in six files: −138 dB each, against a band at about −60 dB
    assert db(sum(after) - sum(before) - band, band) < -60
    for x, y in zip(before, after, strict=True):
        assert x.shape == y.shape
        assert null_residual_db(x, y, RATE, report.crossover_hz) < -90


def test_the_summed_band_is_that_of_the_mix_before_quantisation(tmp_path: Path) -> None:
    stems = [x.astype(np.float32).astype(np.float64) for x in noise_stems(2, 2.5)]
    report, made, _ = extended(stems, tmp_path, "DOUBLE")
    mix = tmp_path / "mix.wav"
    soundfile.write(mix, sum(stems).T, RATE, "DOUBLE")
    whole = extend_file(mix, tmp_path / "whole.wav", Settings())
    band = read(tmp_path / "whole.wav") - sum(stems)

    assert (report.cutoff_hz, report.gain_law_db) == (whole.cutoff_hz, whole.gain_law_db)
    assert db(sum(made) - sum(stems) - band, band) < -100
    assert abs(report.sum_high_db or 0) < 0.01
    assert all(abs(stem.solo_db or 99) < 3 for stem in report.stems)


def test_mono_stems_are_in_both_channels_of_a_stereo_mix(tmp_path: Path) -> None:
    stems = [*noise_stems(1, 2.0), *noise_stems(1, 2.0, channels=1, seed=5)]
    report, made, _ = extended(stems, tmp_path)

    assert [len(one) for one in made] == [2, 1]
    assert report.sum_error_db is not None
    assert report.sum_error_db < -80


def test_one_stem_is_extended_as_the_file_alone(tmp_path: Path) -> None:
    report, made, song = extended(noise_stems(1, 1.5), tmp_path)
    extend_file(song.stems[0].files[0], tmp_path / "alone.wav", Settings())

    assert np.array_equal(made[0], read(tmp_path / "alone.wav"))
    assert report.stems[0].extended


def test_a_pair_of_files_is_one_stereo_stem(tmp_path: Path) -> None:
    (x,) = noise_stems(1, 1.5)
    left, right = write_song(tmp_path / "in", [x[:1], x[1:]], "FLOAT")
    targets = (tmp_path / "L.wav", tmp_path / "R.wav")
    pair = Song("pair", (Stem("1", (left, right), targets),))
    extend_song(pair, Settings(), cache=tmp_path / "chunks")
    _, made, _ = extended([x], tmp_path / "stereo")

    assert np.array_equal(np.concatenate([read(path) for path in targets]), made[0])


def test_the_order_of_stems_changes_nothing_but_rounding(tmp_path: Path) -> None:
    paths = write_song(tmp_path / "in", noise_stems(2, 1.5), "FLOAT")
    made = []
    for name, order in (("forth", paths), ("back", paths[::-1])):
        song = song_of(order, tmp_path / name)
        extend_song(song, Settings(), cache=tmp_path / name / "chunks")
        made.append([read(tmp_path / name / path.name) for path in paths])

    for one, other in zip(*made, strict=True):
        assert db(one - other, one) < -100


def test_each_stem_keeps_its_own_length_and_what_is_silent_stays_so(tmp_path: Path) -> None:
    stems = noise_stems(4, 2.0)
    stems[1] = stems[1][:, : RATE + 77]
    stems[2] = np.zeros_like(stems[2])
    stems[3] = np.repeat(0.3 * np.sin(np.arange(2 * RATE) * 2 * np.pi * 60 / RATE)[None], 2, axis=0)
    report, made, song = extended(stems, tmp_path)

    assert [one.shape for one in made] == [one.shape for one in stems]
    assert [stem.extended for stem in report.stems] == [True, True, False, False]
    for stem in song.stems[2:]:
        assert stem.targets[0].read_bytes() == stem.files[0].read_bytes()
    # the shorter stem's band is faded out over some 6 ms, and its share is missing there
    assert report.sum_error_db is not None
    assert report.sum_error_db < -15
    assert null_residual_db(stems[1], made[1], RATE, report.crossover_hz) < -90


def test_a_song_that_needs_nothing_is_copied(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    report, _, song = extended([rng.normal(0, 0.1, (2, RATE)) for _ in range(2)], tmp_path)

    assert not report.extended
    assert report.note
    for stem in song.stems:
        assert stem.targets[0].read_bytes() == stem.files[0].read_bytes()


def test_stems_that_cancel_leave_the_song_as_it_is(tmp_path: Path) -> None:
    (x,) = noise_stems(1, 1.0)
    report, made, _ = extended([x, -x], tmp_path)

    assert not report.extended
    assert np.array_equal(made[0], -made[1])


def test_another_rate_is_made_for_every_stem(tmp_path: Path) -> None:
    report, made, _ = extended(noise_stems(2, 1.0), tmp_path, rate=48_000)

    assert report.sample_rate == 48_000
    assert [one.shape for one in made] == [(2, 48_000)] * 2
    assert report.sum_residual_db is not None
    assert report.sum_residual_db < -90


def test_a_report_travels_and_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    song = song_of(write_song(tmp_path / "in", noise_stems(2, 1.0)), tmp_path / "out")
    report = extend_song(song, Settings(), dry_run=True, cache=tmp_path / "chunks")

    assert report.extended
    assert list((tmp_path / "out").iterdir()) == []
    assert pickle.loads(pickle.dumps(report)) == report
    assert report.as_dict()["stems"][0]["name"] == "1"


def test_what_cannot_be_summed_is_refused(tmp_path: Path) -> None:
    (x,) = noise_stems(1, 0.5)
    paths = write_song(tmp_path / "in", [x, np.concatenate([x, x]), x])
    soundfile.write(paths[2], x.T, 48_000)
    for bad, text in ((paths[:2], "channels"), (paths[::2], "48000 Hz")):
        with pytest.raises(AudioError, match=text):
            extend_song(song_of(bad, tmp_path / "out"), Settings())
    with pytest.raises(UsageError, match="no stems"):
        extend_song(Song("empty", ()), Settings())
    with pytest.raises(UsageError, match="follow"):
        extend_song(song_of(paths[:1], tmp_path / "out"), Settings(cutoff="follow"))
    assert list((tmp_path / "out").iterdir()) == []


def test_one_target_in_the_way_stops_all_before_the_work(tmp_path: Path) -> None:
    song = song_of(write_song(tmp_path / "in", noise_stems(2, 0.5)), tmp_path / "out")
    song.stems[1].targets[0].touch()
    with pytest.raises(OutputExistsError):
        extend_song(song, Settings())
    assert not song.stems[0].targets[0].exists()


RUN = """
import sys, time
from pathlib import Path
from audiosr_core.settings import Settings
from tests.integration.test_song import song_of, extend_song

folder = Path(sys.argv[1])

def tell(fraction):
    if fraction > 0.5:
        print("half", flush=True)
        time.sleep(60)  # until killed

paths = sorted((folder / "in").iterdir())
extend_song(song_of(paths, folder / "out"), Settings(), cache=folder / "chunks", on_progress=tell)
"""


def test_a_killed_song_goes_on_where_it_was(tmp_path: Path) -> None:
    stems = [lowpassed(np.random.default_rng(i).normal(0, 0.05, (1, 10 * RATE))) for i in range(2)]
    paths = write_song(tmp_path / "in", stems, "FLOAT")
    child = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"half\n"
        child.kill()
        child.wait(10)
    song = song_of(paths, tmp_path / "out")
    assert not any(stem.targets[0].exists() for stem in song.stems)

    resumed = extend_song(song, Settings(), cache=tmp_path / "chunks")
    afresh = song_of(paths, tmp_path / "afresh")
    whole = extend_song(afresh, Settings(), cache=tmp_path / "other")

    assert whole.cached_chunks == 0
    assert resumed.cached_chunks >= 2  # of six: the first of each stream, but for the last write
    same = {"seconds", "cached_chunks", "stems"}
    one, other = (dataclasses.asdict(report) for report in (resumed, whole))
    assert {k: v for k, v in one.items() if k not in same} == {
        k: v for k, v in other.items() if k not in same
    }
    for one_stem, other_stem in zip(song.stems, afresh.stems, strict=True):
        assert np.array_equal(read(one_stem.targets[0]), read(other_stem.targets[0]))
