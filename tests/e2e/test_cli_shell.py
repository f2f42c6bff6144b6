"""The command line as a subprocess: usage, presets, and what needs no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiosr_core.errors import RegionError, UsageError
from audiosr_core.settings import KNOBS
from plugin_host.cli.region import parse_region
from plugin_host.cli.targets import check_distinct, plan_targets

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cli(tmp_path):
    """Run the command in an empty home; text in, CompletedProcess out."""

    def run(*arguments, **options):
        env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        env |= {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        options = {"capture_output": True, "cwd": tmp_path, "timeout": 120, **options}
        done = subprocess.run(
            [sys.executable, "-m", "plugin_host.cli", *arguments], env=env, **options
        )
        assert b"Traceback" not in (done.stderr or b"")
        return done

    return run


def sentence(done) -> str:
    """The one sentence on standard error."""
    lines = done.stderr.decode().splitlines()
    assert done.stdout == b""
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_shows_every_knob(cli):
    text = cli("extend", "--help").stdout.decode()
    for name in KNOBS:
        assert "--" + name.replace("_", "-") in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["extend"],
        ["nope"],
        ["extend", "--nope", "a.wav"],
        ["extend", "a.wav", "--mix", "2"],
        ["extend", "a.wav", "--cutoff", "high"],
        ["extend", "a.wav", "--preset", "nope"],
        ["extend", "a.wav", "--preset", "x.toml"],
        ["extend", "a.wav", "--region", "3:2"],
        ["extend", "a.wav", "./a.wav"],
        ["extend", "a.wav", "--in-place", "-o", "b.wav"],
        ["presets", "show", "nope"],
        ["presets", "save", "../evil"],
        ["presets", "save", "phone"],
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_2(cli, arguments):
    done = cli(*arguments)
    expected = 1 if arguments[-1] == "x.toml" else 2  # a file that cannot be read is FileError
    assert done.returncode == expected
    sentence(done)


def test_a_preset_is_saved_shown_and_listed(cli):
    assert cli("presets", "save", "mine", "--from", "phone", "--mix", "0.5").returncode == 0
    shown = json.loads(cli("presets", "show", "mine", "--json").stdout)
    assert shown["settings"]["mix"] == 0.5
    assert shown["settings"]["cutoff"] == 3400
    listed = [json.loads(line) for line in cli("presets", "list", "--json").stdout.splitlines()]
    assert "mine" in {preset["name"] for preset in listed}


def test_paths_are_under_home(cli, tmp_path):
    found = json.loads(cli("paths", "--json").stdout)
    assert found["config"] == str(tmp_path / "config" / "audiosr-bridge")
    daemon = {f"daemon_{one}" for one in ("runtime", "cache", "state", "config")}
    assert set(found) == {"config", "data", "cache", "models"} | daemon


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_an_error(cli):
    with open("/dev/full", "wb") as full:
        done = cli("presets", "list", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 1
    assert b"standard output" in done.stderr


def test_a_reader_that_leaves_is_no_error(cli):
    reader, writer = os.pipe()
    os.close(reader)
    done = cli("presets", "list", stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.5:20", (12.5, 20)),
        ("1:30:2:05.5", (90, 125.5)),
        ("1:30-2:05.5", (90, 125.5)),
        ("0:59:30-1:2:0", (3570, 3720)),
        ("0:59:30:1:2:0", (3570, 3720)),
        (".5-1", (0.5, 1)),
    ],
)
def test_a_region_reads_as_written(text, expected):
    assert parse_region(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ":", "1", "1:2:3", "2:1", "1:1", "a:b", "-1:2", "1-2-3", "nan:inf", "1:2:3:4:5:6:7:8"],
)
def test_any_other_region_is_an_error(text):
    with pytest.raises(RegionError):
        parse_region(text)


def _name(source: Path, folder: Path | None) -> Path:
    return (folder or source.parent) / source.name if folder else source.with_suffix(".out.wav")


def test_outputs_are_planned_before_any_work(tmp_path):
    a, b = tmp_path / "1" / "x.wav", tmp_path / "2" / "x.wav"
    with pytest.raises(UsageError, match="both become"):
        plan_targets([a, b], str(tmp_path / "out"), _name)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="originals"):
        plan_targets([a], str(a), _name)
    assert plan_targets([a], str(tmp_path / "y.wav"), _name) == [tmp_path / "y.wav"]
    assert plan_targets([a], f"{tmp_path}/new/", _name) == [tmp_path / "new" / "x.wav"]
    assert (tmp_path / "new").is_dir()
    assert plan_targets([a], str(tmp_path), _name) == [tmp_path / "x.wav"]
    with pytest.raises(UsageError, match="same file"):
        check_distinct([a, a.parent / ".." / "1" / "x.wav"])
