"""`stems` and `watch` as a user runs them, with the smallest model."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import soundfile

from plugin_host.stems.journal import JOURNAL
from tests.support.albums import sound

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.timeout(120)]
needs_song = pytest.mark.skipif(
    find_spec("plugin_host.stems.song") is None, reason="songs are not in this tree yet"
)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200",
           "AUDIOSR_BRIDGE_RUNTIME_DIR": str(folder / "run")}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "plugin_host.cli", *arguments],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="surrogateescape", preexec_fn=_hear_interrupts,
    )  # fmt: skip


def _hear_interrupts() -> None:
    """As from a terminal: a suite started in the background inherits SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stems(folder: Path, *arguments: str) -> tuple[int, list[dict], str]:
    out, err = (process := start(folder, "stems", *arguments)).communicate(timeout=100)
    assert "Traceback" not in err
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two songs; the second has a pair, and a text."""
    top = tmp_path / "Album"
    sound(top / "one" / "a.wav", 1.0)
    sound(top / "two" / "Kick%L.wav", 1.0)
    sound(top / "two" / "Kick%R.wav", 1.0)
    (top / "two" / "notes.txt").touch()
    return top


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(album, tmp_path):
    code, lines, err = stems(tmp_path, "Album", "-o", "out", "--recursive", "--dry-run", "--json")
    assert code == 0
    assert [(one["name"], len(one["stems"])) for one in lines] == [("one", 1), ("two", 1)]
    assert "1 files are no sounds" in err
    assert not (tmp_path / "out").exists()


@needs_song
def test_an_album_is_extended_reported_and_resumed(album, tmp_path):
    sound(album / "three" / "bad.wav").write_bytes(b"no sound")
    arguments = ["Album", "-o", "out", "--recursive", "--json", "--jobs", "2",
                 "--report", "report.json"]  # fmt: skip
    code, lines, err = stems(tmp_path, *arguments)
    assert code == 1, err
    assert {one["name"]: one["state"] for one in lines} == {
        "one": "done", "two": "done", "three": "failed",
    }  # fmt: skip
    assert "1 of 3 songs failed" in err
    for name in ("one/a.wav", "two/Kick%L.wav", "two/Kick%R.wav"):
        made, source = soundfile.info(tmp_path / "out" / name), soundfile.info(album / name)
        assert made.frames == source.frames * made.samplerate // source.samplerate
        assert (made.subtype, made.channels) == (source.subtype, source.channels)
    first = json.loads((tmp_path / "report.json").read_text())
    assert first["totals"]["done"] == 2

    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.wav")}
    code, lines, _ = stems(tmp_path, *arguments, "--resume")
    assert code == 1
    assert {one["state"] for one in lines} == {"resumed", "failed"}
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    again = json.loads((tmp_path / "report.json").read_text())
    without = [{**song, "state": ""} for song in first["songs"]]
    assert [{**song, "state": ""} for song in again["songs"]] == without

    code, _, err = stems(tmp_path, "Album", "-o", "out", "--recursive", "--exclude", "three")
    assert code == 2, err  # all failed alike: the outputs exist
    assert "--resume" in err


@needs_song
def test_an_interruption_ends_it_within_a_second_or_so(tmp_path):
    sound(tmp_path / "Album" / "long.wav", 300.0)
    process = start(tmp_path, "stems", "Album", "-o", "out")
    wait = threading.Event()
    while not (tmp_path / "out" / JOURNAL).exists():
        wait.wait(0.02)
        assert process.poll() is None
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert psutil.wait_procs(family, 5)[1] == []
    assert list((tmp_path / "out").glob("*.wav")) == []
    assert list((tmp_path / "out").glob(".*.part")) == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["missing", "-o", "out"], "is no folder"),
        (["Album", "-o", "Album"], "holds the originals"),
        (["Album", "-o", "out"], "holds no sounds"),
        (["Album", "-o", "out", "--recursive", "--address", "auto"], "--engine ray"),
        (["Album", "-o", "out", "--recursive", "--report", "no/such/report.json"], "report.json"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(album, tmp_path, arguments, what):
    code, _, err = stems(tmp_path, *arguments)
    assert code in (1, 2)
    assert what in err
    assert not (tmp_path / "out").exists()


class Watching:
    """The command `watch`, and what it says, line by line."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = start(folder, "watch", "In", "-o", "In/out", "--settle", "0.3", *arguments)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.until("watching")

    def until(self, text: str) -> str:
        """The next line that has this in it."""
        while text not in (line := self._lines.get(timeout=60)):
            pass
        return line

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    """With one file there at the start."""
    sound(tmp_path / "In" / "first.wav", 0.5)
    one = Watching(tmp_path, "--recursive")
    yield one
    one.process.kill()
    one.process.wait(10)


def test_what_is_put_into_a_folder_comes_out_extended(watching, tmp_path):
    watching.until("first.wav ->")
    whole = sound(tmp_path / "whole.wav", 0.5).read_bytes()
    (tmp_path / "In" / "deep").mkdir()
    growing = tmp_path / "In" / "deep" / "growing.wav"
    with open(growing, "wb") as file:
        for start in range(0, len(whole), 4000):
            file.write(whole[start : start + 4000])
            file.flush()
            threading.Event().wait(0.1)  # it grows for longer than it has to be still
    watching.until("growing.wav ->")
    made = soundfile.info(tmp_path / "In" / "out" / "deep" / "growing.wav")
    assert made.duration == pytest.approx(0.5)

    bad = tmp_path / "In" / "bad.wav"
    bad.write_bytes(b"no sound")
    watching.until("error:")
    sound(bad, 0.5)  # repaired
    watching.until("bad.wav ->")
    outputs = sorted(p.name for p in (tmp_path / "In" / "out").rglob("*") if p.is_file())
    assert outputs == ["bad.wav", "first.wav", "growing.wav"]
    assert watching.end(signal.SIGTERM) == 0


def test_what_was_there_can_be_left_alone_and_an_interruption_ends_it(tmp_path):
    sound(tmp_path / "In" / "first.wav", 0.5)
    watching = Watching(tmp_path, "--no-existing")
    sound(tmp_path / "second.wav", 0.5).rename(tmp_path / "In" / "second.wav")
    assert "second.wav" in watching.until(" -> ")
    assert [p.name for p in (tmp_path / "In" / "out").iterdir()] == ["second.wav"]
    assert watching.end(signal.SIGINT) == 130
