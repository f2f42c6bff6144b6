"""`audiosr-bridge presets`: what people see, and what goes in and out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audiosr_core import presets
from plugin_host.cli.app import run

FACTORY = presets.factory_folder()


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "user"
    monkeypatch.setattr(presets, "user_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def call(capsys):
    """Exit code, lines of standard output, standard error."""

    def run_it(*words: object) -> tuple[int, list[str], str]:
        code = run(["presets", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run_it


def test_show_says_what_differs_from_the_defaults(call):
    code, lines, err = call("show", "phone")
    assert (code, err) == (0, "")
    table = [line.split("  ") for line in lines[2:]]
    assert [[cell.strip() for cell in row if cell] for row in table] == [
        ["phone", "default"],
        ["rate", "48000 Hz", "auto"],
        ["cutoff", "3400 Hz", "auto"],
        ["transition", "0.12", "0.08"],
        ["ceiling_hz", "12000 Hz", "24000 Hz"],
        ["gain_hf_db", "-4 dB", "0 dB"],
    ]
    assert call("show", "music")[1][-1] == "no knob differs"
    assert call("show", "phone", "--toml")[1] == (FACTORY / "phone.toml").read_text().splitlines()
    assert json.loads(call("show", "phone", "--json")[1][0])["settings"]["cutoff"] == 3400
    assert call("show", "phone", "--json", "--toml")[0] == 2


def test_diff_names_the_knobs_that_differ(call):
    found = json.loads(call("diff", "phone", "tape-78", "--json")[1][0])
    assert found["cutoff"] == [3400, "follow"]
    assert set(found) == {"cutoff", "transition", "ceiling_hz", "mix", "gain_hf_db"}
    assert call("diff", "phone", FACTORY / "phone.toml")[1] == ["no knob differs"]


def test_what_is_exported_and_imported_is_the_same_file(call, user, tmp_path):
    user.mkdir()
    text = "schema = 1 # one\n[preset]\nname = 'mine'\ndescription = ''\nfor = ''\nversion = 1\n"
    text += "author = 'me'\n[settings]\nmix = 0.5 # half\nfuture = 1\n"
    (user / "mine.toml").write_text(text)
    assert call("export", "mine", "speech", "-o", "out/")[0] == 0
    assert (tmp_path / "out/mine.toml").read_text() == text
    assert (tmp_path / "out/speech.toml").read_bytes() == (FACTORY / "speech.toml").read_bytes()
    assert call("remove", "mine")[0] == 0
    code, _, err = call("import", "out/mine.toml")
    assert code == 0
    assert "'future' ignored" in err
    assert (user / "mine.toml").read_text() == text


def test_one_exported_file_has_the_name_that_was_given(call, tmp_path):
    assert call("export", "phone", "-o", "my phone.toml")[0] == 0
    assert presets.load_preset(tmp_path / "my phone.toml").notes == ()
    assert call("export", "phone", "-o", "my phone.toml")[0] == 2  # it is there
    assert call("export", "phone", "-o", "my phone.toml", "--overwrite")[0] == 0
    assert call("export", "phone", "-o", "phone.txt")[0] == 2
    assert call("export", "phone", "nope", "-o", "new/")[0] == 2
    assert not (tmp_path / "new").exists()


def test_one_file_that_cannot_be_imported_stops_no_other(call, user, tmp_path):
    (tmp_path / "bad.toml").write_text("schema = 99")
    (tmp_path / "good.json").write_text('{"schema": 1, "settings": {"mix": 0.5}}')
    (tmp_path / "phone.toml").write_text("schema = 1")
    code, lines, err = call(
        "import", "bad.toml", "good.json", "phone.toml", "missing.toml", "--json"
    )
    assert code == 1
    results = [json.loads(line) for line in lines]
    assert [one.get("exit_code", 0) for one in results] == [2, 0, 2, 1]
    assert [one.name for one in user.iterdir()] == ["good.toml"]
    assert "update audiosr-bridge" in err
    assert call("import", "phone.toml")[0] == 2
    assert call("import", "phone.toml", "--overwrite")[0] == 0
    assert "hides" in call("import", "phone.toml", "--overwrite")[2]
    assert "factory preset of that name again" in call("remove", "phone")[2]
    assert call("remove", "phone")[0] == 2
