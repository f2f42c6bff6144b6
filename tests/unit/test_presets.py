"""Presets: what is saved is what is loaded, and what is not known is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core import presets
from audiosr_core.errors import AudioSRError, OutputExistsError, SettingsError
from audiosr_core.presets import Preset, load_preset, preset_text, save_preset
from audiosr_core.settings import KNOBS, Settings

FACTORY = {
    "music",
    "speech",
    "phone",
    "tape-78",
    "mp3-rescue",
    "subtle-air",
    "archive",
    "audiosr-fast",
    "audiosr-quality",
    "audiosr-reference",
}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setattr(presets, "user_folder", lambda: folder)


def test_the_factory_has_them_all():
    assert {p.name for p in presets.list_presets() if p.factory} >= FACTORY


@pytest.mark.parametrize("name", sorted(FACTORY))
def test_a_factory_preset_says_what_it_is_for_and_only_what_differs(name):
    preset = load_preset(name)
    assert preset.purpose
    assert preset.description
    assert not preset.notes
    data = tomllib.loads(preset.text)
    assert data["preset"]["name"] == name
    assert data["settings"].items() <= preset.settings().as_dict().items()


numbers = {
    name: st.floats(one.minimum, one.maximum)
    for name, one in KNOBS.items()
    if isinstance(one.default, float)
}


@given(st.fixed_dictionaries({}, optional=numbers))
def test_saved_and_read_again_is_the_same(tmp_path_factory, overrides):
    folder = tmp_path_factory.mktemp("saved")
    preset = Preset("mine", 'a "b"\n', "äöü", 3, overrides)
    again = load_preset(save_preset(preset, folder))
    assert again.overrides == preset.overrides
    assert (again.description, again.purpose, again.version) == ('a "b"\n', "äöü", 3)


def test_what_is_not_known_is_kept_and_noted(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(
        'schema = 1\nnew = 7\n[preset]\nauthor = "me" # a remark\n'
        "[settings]\nmix = 0.5\nfuture = 2\n[meta]\nx = [1, 2]\n"
    )
    preset = load_preset(path)
    assert preset.settings() == Settings(mix=0.5)
    assert len(preset.notes) == 4  # new, meta, author, future
    data = tomllib.loads(preset_text(dataclasses.replace(preset, overrides={"seed": 3})))
    assert data["new"] == 7
    assert data["meta"] == {"x": [1, 2]}
    assert data["preset"]["author"] == "me"
    assert data["settings"] == {"seed": 3, "future": 2}
    assert "# a remark" in preset_text(preset)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema = 2",
        "schema = true",
        "schema = 1\nsettings = 3",
        "schema = 1\n[settings]\nmix = 2",
        "schema = 1\n[settings]\nmix = nan",
        "schema = 1\n[preset]\nversion = 'x'",
        "schema = 1\n[preset]\nfor = 1",
        "not toml [",
    ],
)
def test_a_bad_preset_is_one_sentence_that_names_the_file(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"bad\.toml"):
        load_preset(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_preset_or_our_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "any.toml"
    path.write_bytes(data)
    with contextlib.suppress(AudioSRError):
        load_preset(path)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "-x", "x" * 101, "a\n"])
def test_a_name_is_no_path(name):
    with pytest.raises(SettingsError):
        Preset(name)


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(SettingsError, match="subtle-air"):
        load_preset("nope")


def test_nothing_is_hidden_or_replaced_unasked():
    with pytest.raises(OutputExistsError, match="factory"):
        save_preset(Preset("phone"))
    path = save_preset(Preset("phone", overrides={"mix": 0.25}), overwrite=True)
    assert load_preset("phone").settings() == Settings(mix=0.25)
    assert [p.factory for p in presets.list_presets() if p.name == "phone"] == [False]
    save_preset(Preset("mine"))
    before = path.parent / "mine.toml"
    text = before.read_bytes()
    with pytest.raises(OutputExistsError, match="exists"):
        save_preset(Preset("mine", overrides={"mix": 0.1}))
    assert before.read_bytes() == text
    assert {p.name for p in Path(path.parent).iterdir()} == {"phone.toml", "mine.toml"}
