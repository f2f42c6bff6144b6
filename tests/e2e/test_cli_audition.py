"""`audition`, `ab`, `extend --delta --html` and `compare --joins` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

import plugin_host.cli.app as app
from tests.support.audiosr import muffled
from tests.support.daemon import daemon

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def running():
    with daemon(engine=None) as one:
        yield one


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, muffled(2, 3 * 16_000, 4000, 16_000).T, 16_000, "PCM_16")
    return path


@pytest.fixture
def run(running, tmp_path, monkeypatch, capsys):
    """The command line in this process, beside a daemon in another."""
    monkeypatch.chdir(tmp_path)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)

    def run(*words: object) -> tuple[int, list[dict], str]:
        code = app.run([str(word) for word in words])
        told = capsys.readouterr()
        assert "bug" not in told.err
        lines = told.out.splitlines() if "--json" in words else []
        return code, [json.loads(line) for line in lines], told.err

    return run


def test_an_audition_is_the_same_here_and_in_the_daemon(run, source, tmp_path):
    words = ["audition", source, "--at", "0:02", "--seconds", 0.8, "--seeds", "1,2"]
    words += ["--rate", 48_000, "--cutoff", 4000, "--json"]
    code, [here], err = run(*words, "-o", "here", "--no-daemon", "--png", "here/p.png")
    assert code == 0, err
    code, [there], err = run(*words, "-o", "there", "--daemon", "-q")
    assert (code, err) == (0, "")
    assert [take["name"] for take in here["takes"]] == ["seed-1", "seed-2"]
    assert (tmp_path / "here" / "p.png").read_bytes().startswith(b"\x89PNG")
    for one in (tmp_path / "there").iterdir():
        assert one.read_bytes() == (tmp_path / "here" / one.name).read_bytes()
    assert len(list((tmp_path / "there").iterdir())) == 3
    assert soundfile.info(tmp_path / there["takes"][0]["output"]).frames == round(0.8 * 48_000)


def test_presets_side_by_side(run, source, tmp_path):
    words = ["--at", 1, "--seconds", 0.5, "--no-daemon", "--json", "--cutoff", 4000]
    code, [made], err = run("audition", source, "--presets", "music,speech", *words)
    assert code == 0, err
    assert [take["name"] for take in made["takes"]] == ["music", "speech"]


@pytest.mark.parametrize(
    "words",
    [
        ["--at", "x"],
        ["--at", "99"],
        ["--at", "1", "--seeds", "1,,2"],
        ["--at", "1", "--seeds", "-1"],
        ["--at", "1", "--presets", "nope"],
        ["--at", "1", "--presets", "a", "--preset", "b"],
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_2(run, source, tmp_path, words):
    code, _, err = run("audition", source, *words, "--no-daemon")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_a_blind_pair_and_its_key(run, source, tmp_path):
    code, [told], err = run("ab", source, "--blind", "--json", "-o", "out", "--cutoff", 4000)
    assert code == 0
    assert sorted(told) == ["files", "input", "key"]
    assert "LUFS" not in err
    code, [key], _ = run("ab", told["key"], "--open", "--json")
    assert code == 0
    assert {key["original"], key["extended"]} == {"a.X.wav", "a.Y.wav"}
    code, _, err = run("ab", source, "--open")
    assert code == 1
    assert "no key" in err


def test_a_batch_with_a_page_a_delta_and_its_joins(run, source, tmp_path):
    words = ["--no-daemon", "--cutoff", 4000, "--rate", "keep"]
    code, _, err = run("extend", source, "nope.wav", "-o", "out", "--html", "p.html", *words)
    assert code == 1, err
    page = (tmp_path / "p.html").read_text("ascii")
    assert page.count("data:image/png;base64,") == 2
    assert "1 of 2 files extended" in page
    code, [report], _ = run("extend", source, "--delta", "--json", *words)
    assert code == 0
    assert Path(report["output"]).name == "a.delta.wav"
    code, [found], _ = run("compare", source, "out/a.wav", "--joins", "j.png", "--json")
    assert code == 0
    assert found["joins"]["showing"] == []
    assert (tmp_path / "j.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run("compare", source, source, "--joins", "k.png")
    assert code == 2
    assert "--stride" in err
