"""Presets: what is saved is what is loaded, and what is not known is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core import presets
from audiosr_core.errors import AudioSRError, OutputExistsError, SettingsError, UsageError
from audiosr_core.presets import (
    Preset,
    differences,
    load_preset,
    preset_text,
    remove_preset,
    save_preset,
)
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
    assert preset_text(preset) == preset.text


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


def test_a_file_that_changes_nothing_is_the_same_text_with_its_remarks(tmp_path):
    text = (
        "# my own\nschema = 1 # the first\n\n[preset]\nname = 'mine' # so\ndescription = \"\"\n"
        "for = ''\nversion = 2\n[meta] # kept\npath = '/etc/passwd'\n"
        "[settings]\nmix = 0.50 # half\ncutoff = 3_400\n"
    )
    path = tmp_path / "mine.toml"
    path.write_text(text)
    preset = load_preset(path)
    assert preset_text(preset) == text
    assert save_preset(preset).read_text() == text
    turned = preset_text(dataclasses.replace(preset, overrides={"mix": 0.25}))
    kept = [line for line in text.splitlines() if "mix" not in line and "cutoff" not in line]
    assert [one for one in turned.splitlines() if "mix" not in one] == kept
    assert "mix = 0.25 # half" in turned


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
likely = st.fixed_dictionaries(
    {"schema": st.just(1)},
    optional={
        "preset": st.dictionaries(st.sampled_from(["for", "version", "author"]), json_values),
        "settings": st.dictionaries(st.sampled_from(["mix", "model", "seed", "new"]), json_values),
        "meta": json_values,
    },
)


@given(json_values | likely)
def test_any_json_is_a_preset_that_can_be_saved_or_our_error(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("json")
    path = folder / "any.json"
    path.write_text(json.dumps(value), "utf-8")
    with contextlib.suppress(AudioSRError):
        preset = load_preset(path)
        again = load_preset(save_preset(preset, folder))
        assert again.overrides == preset.overrides


def test_json_says_the_same_as_toml(tmp_path):
    data = {
        "schema": 1,
        "preset": {"name": "odd", "for": "äöü", "author": "me"},
        "settings": {"mix": 0.5, "cutoff": "follow", "future": [1, {"a": 2}]},
        "meta": {"x": 1},
    }
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(data), "utf-8")
    preset = load_preset(path)
    assert preset.settings() == Settings(mix=0.5, cutoff="follow")
    saved = tomllib.loads(save_preset(preset).read_text("utf-8"))
    assert saved["settings"] == data["settings"]
    assert saved["meta"] == data["meta"]
    assert saved["preset"] == {**data["preset"], "description": "", "version": 1}


@pytest.mark.parametrize("text", ["[", "[]", "3", '{"schema": 2}', '{"schema": null}', "[" * 99999])
def test_bad_json_is_one_sentence_that_names_the_file(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"bad\.json"):
        load_preset(path)


def test_a_preset_larger_than_a_page_is_refused_unread(tmp_path):
    for suffix in (".toml", ".json"):
        path = tmp_path / f"big{suffix}"
        with path.open("wb") as file:
            file.truncate(1 << 40)  # sparse
        with pytest.raises(SettingsError, match="at most"):
            load_preset(path)


@pytest.mark.parametrize(
    "model", ["/etc/passwd", "../x", "a/b", "a\\b", "", "x.safetensors\n", "~"]
)
def test_a_model_is_a_name_and_no_path(model):
    with pytest.raises(SettingsError, match="names its model"):
        Preset("mine", overrides={"model": model})


def test_only_the_users_presets_go(tmp_path):
    save_preset(Preset("mine"))
    path = save_preset(Preset("phone"), overwrite=True)
    path.write_text("broken [")
    for name in ("mine", "phone"):
        remove_preset(name)
    assert load_preset("phone").factory
    with pytest.raises(UsageError, match="stays"):
        remove_preset("phone")
    outside = tmp_path / "x.toml"
    outside.write_text("schema = 1")
    for name in ("mine", "", "../x", str(outside.with_suffix(""))):
        with pytest.raises(SettingsError, match="to remove"):
            remove_preset(name)
    assert outside.exists()


@given(st.fixed_dictionaries({}, optional=numbers))
def test_what_differs_is_all_that_has_to_be_turned(overrides):
    settings, plain = Settings(**overrides), Settings()
    turned = {name: own for name, (own, _) in differences(settings, plain).items()}
    assert plain.replace(**turned) == settings
    assert differences(settings, settings) == {}
