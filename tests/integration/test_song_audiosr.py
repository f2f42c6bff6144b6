"""A song whose mix a diffusion model extends: the same laws, with networks a test can afford."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import soundfile

from audiosr_core.extend_file import FIRST_PASS, extend_file
from audiosr_core.settings import Settings
from plugin_host.stems.song import extend_song
from tests.integration.test_song import db, read, song_of
from tests.support.album import RATE, noise_stems, write_song
from tests.support.audiosr import install

pytestmark = pytest.mark.timeout(120)

SETTINGS = Settings(model="audiosr-basic", steps=2)


class Cancelled(Exception):
    pass


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two stems as long as three windows of the model, which is installed."""
    monkeypatch.setenv("AUDIOSR_BRIDGE_MODELS", str(tmp_path / "models"))
    install()
    return write_song(tmp_path / "in", noise_stems(2, 16.0, channels=1), "FLOAT")


def test_the_stems_sum_to_the_mix_that_the_model_extended(paths, tmp_path):
    told: list[float] = []
    song = song_of(paths, tmp_path / "out")
    report = extend_song(song, SETTINGS, cache=tmp_path / "chunks", on_progress=told.append)
    before, after = (sum(map(read, some)) for some in (paths, song.targets))
    mix = tmp_path / "mix.wav"
    soundfile.write(mix, before.T, RATE, "DOUBLE")
    whole = extend_file(mix, tmp_path / "whole.wav", SETTINGS)
    band = read(tmp_path / "whole.wav") - before

    assert (report.model, report.cutoff_hz) == ("audiosr-basic", whole.cutoff_hz)
    assert db(after - before - band, band) < -80  # float32 in the files
    assert report.sum_residual_db is not None
    assert report.sum_residual_db < -90
    assert report.sum_error_db is not None
    assert report.sum_error_db < -100
    assert all(one <= other for one, other in itertools.pairwise(told))
    assert len({round(one, 3) for one in told if FIRST_PASS < one < 0.9}) >= 2  # as windows end


def test_a_cancel_is_heard_inside_a_window_and_leaves_nothing(paths, tmp_path):
    song, told = song_of(paths, tmp_path / "out"), []

    def cancel(fraction: float) -> None:
        """While the model is at work, which tells the same fraction again and again."""
        told.append(fraction)
        if fraction > FIRST_PASS and told.count(fraction) > 20:
            raise Cancelled

    with pytest.raises(Cancelled):
        extend_song(song, SETTINGS, cache=tmp_path / "chunks", on_progress=cancel)
    assert told[-1] < 0.9
    assert list((tmp_path / "out").iterdir()) == []
