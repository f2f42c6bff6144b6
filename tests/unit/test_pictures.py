"""Pictures are pictures, and the join inspector finds the joins that are bad, and only those."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from audiosr_core.errors import AudioError, UsageError
from audiosr_core.evaluation.compare import picture_of
from audiosr_core.files import Reader
from plugin_host.pictures import draw_joins, grid, inspect_joins, joins_of, spectra

RATE = 16_000
SECONDS = 12
PLACES = [(k * 2.0, k * 2.0 + 0.04) for k in range(1, 6)]
PNG = b"\x89PNG\r\n\x1a\n"


def tone(num_samples):
    return 0.1 * np.sin(2 * np.pi * 440 * np.arange(num_samples) / RATE)


def fricatives(num_samples, seed):
    """Noise of slowly changing level: what is added to speech, more or less."""
    x = np.random.default_rng(seed).normal(0, 0.02, num_samples)
    return x * (1 + 0.3 * np.sin(np.arange(num_samples) / RATE * 5))


@pytest.fixture
def inspected(tmp_path):
    def inspect(added, places=PLACES, original=None):
        x = tone(len(added)) if original is None else original
        for name, samples in (("a", x), ("b", x + added)):
            soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
        with Reader(tmp_path / "a.wav") as a, Reader(tmp_path / "b.wav") as b:
            return inspect_joins(a, b, places)

    return inspect


def damaged(kind, added, at=4.0):
    place, added = round(at * RATE), added.copy()
    if kind == "step":
        added[place:] *= 10 ** (4 / 20)
    elif kind == "hole":
        added[place : place + round(0.05 * RATE)] *= 0.2
    elif kind == "click":
        added[place + 100] += 0.5
    return added


@pytest.mark.parametrize("seed", range(6))
def test_a_clean_sound_has_no_join_that_shows(inspected, seed):
    assert inspected(fricatives(SECONDS * RATE, seed)).showing == []


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("kind", "name"), [("step", "step"), ("hole", "bulge"), ("click", "spike")]
)
def test_what_is_wrong_at_a_join_is_found_there_alone(inspected, kind, name, seed):
    found = inspected(damaged(kind, fricatives(SECONDS * RATE, seed)))
    assert [join.start for join in found.showing] == [4.0]
    assert name in found.showing[0].found


@pytest.mark.parametrize("kind", ["step", "hole", "click"])
def test_the_same_elsewhere_is_no_join(inspected, kind):
    assert inspected(damaged(kind, fricatives(SECONDS * RATE, 0), at=5.0)).showing == []


@pytest.mark.parametrize("places", [PLACES, []])
def test_joins_are_drawn(inspected, tmp_path, places):
    found = inspected(damaged("click", fricatives(SECONDS * RATE, 0)), places)
    with Reader(tmp_path / "a.wav") as a, Reader(tmp_path / "b.wav") as b:
        assert draw_joins(found, a, b, 1000.0).startswith(PNG)


def test_silence_short_sounds_and_none_at_all(inspected):
    assert inspected(np.zeros(SECONDS * RATE)).showing == []
    assert inspected(fricatives(RATE // 10, 0), []).joins == ()
    assert inspected(fricatives(3 * RATE, 0)).showing == []
    with pytest.raises(AudioError, match="10 ms"):
        inspected(fricatives(100, 0))


def test_borders_from_a_stride_or_a_sentence(tmp_path):
    path = tmp_path / "b.wav"
    soundfile.write(path, tone(5 * RATE), RATE)
    assert joins_of(path, RATE, 2.0) == [(2.0, 2.0), (4.0, 4.0)]
    with pytest.raises(UsageError, match="--stride"):
        joins_of(path, RATE, None)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_grids_and_spectra_of_any_number(tmp_path, count):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(RATE // 2), RATE)
    with Reader(path) as reader:
        pictures = {str(k): picture_of(reader) for k in range(count)}
    assert grid(pictures, 4000.0, "x").startswith(PNG)
    assert spectra(pictures, None).startswith(PNG)


@pytest.mark.parametrize("title", ["a$\\frac{x$ $_", "\udcff\udcfe", "new\nline\x00", "x" * 255])
@pytest.mark.parametrize("level", [0.0, 1e-40, 1.0])
def test_any_name_and_any_level_has_a_picture(tmp_path, title, level):
    soundfile.write(tmp_path / "a.wav", level * tone(RATE), RATE, subtype="FLOAT")
    with Reader(tmp_path / "a.wav") as a:
        picture = picture_of(a)
    assert grid({title: picture, "b": picture}, 4_000.0, title).startswith(PNG)
