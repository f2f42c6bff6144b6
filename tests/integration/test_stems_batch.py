"""Batches of songs in processes of their own: failures, crashes, kills, resuming."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from audiosr_core.settings import Settings
from plugin_host.place import Where
from plugin_host.stems.album import read_album
from plugin_host.stems.batch import BatchReport, SongResult, run_batch
from plugin_host.stems.local import LocalCrew
from tests.support import stem_work
from tests.support.albums import album, sound

ROOT = Path(__file__).parents[2]
HERE = Where(daemon=False)
SONGS = "abcdefghijkl"

pytestmark = pytest.mark.timeout(60)


class Deaf:
    """An audience that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, float]] = []
        self.results: list[SongResult] = []

    def progress(self, name: str, fraction: float, whole: float) -> None:
        self.told.append((name, fraction, whole))

    def ended(self, song: SongResult) -> None:
        self.results.append(song)


def run(
    top: Path,
    out: Path,
    *,
    jobs: int = 1,
    audience: Deaf | None = None,
    seed: int = 0,
    **options: Any,
) -> BatchReport:
    found = read_album(top, out, recursive=True)
    crew = partial(LocalCrew, jobs, HERE, stem_work.opened)
    return run_batch(found, out, Settings(seed=seed), crew, audience or Deaf(), **options)


def states(report: BatchReport) -> dict[str, str]:
    return {song.name: song.state for song in report.songs}


def files(folder: Path) -> dict[str, bytes]:
    """What anybody sees."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".audiosr-bridge-stems")
    }


def sources(top: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(top).items() if name.endswith(".wav")}


def test_what_fails_or_dies_stops_nothing(tmp_path):
    names = ["a", "bug", "crash", "fail", "once", "z"]
    top = album(tmp_path / "album", *names)
    audience = Deaf()
    report = run(top, tmp_path / "out", jobs=2, audience=audience)

    assert states(report) == {
        "a": "done", "bug": "failed", "crash": "failed", "fail": "failed", "once": "done",
        "z": "done",
    }  # fmt: skip
    errors = {song.name: (song.error, song.exit_code) for song in report.of("failed")}
    assert "SIGKILL" in errors["crash"][0]
    assert "is damaged" in errors["fail"][0]
    assert "this is a bug" in errors["bug"][0]
    assert [errors[name][1] for name in ("crash", "fail", "bug")] == [5, 1, 1]
    assert sorted(stem_work.begun(top)).count("crash") == 2
    assert set(files(tmp_path / "out")) == {
        f"{name}/stem {i}.wav" for name in ("a", "once", "z") for i in range(2)
    }  # nothing half written is left
    assert {song.name for song in audience.results} == set(names)
    whole = [fraction for _, _, fraction in audience.told]
    assert whole[-1] == pytest.approx(1.0)
    told = report.as_dict()
    assert told["totals"] == {
        "songs": 6, "done": 3, "resumed": 0, "skipped": 0, "failed": 3,
        "seconds": told["totals"]["seconds"],
    }  # fmt: skip
    json.dumps(told)


def test_resuming_does_only_what_is_not_done(tmp_path):
    top, out = album(tmp_path / "album", "a", "b", "fail"), tmp_path / "out"
    first = run(top, out)
    again = run(top, out, resume=True)
    assert states(again) == {"a": "resumed", "b": "resumed", "fail": "failed"}
    assert stem_work.begun(top) == ["a", "b", "fail", "fail"]
    assert [song.report for song in again.songs[:2]] == [song.report for song in first.songs[:2]]

    (out / "a" / "stem 0.wav").unlink()
    os.utime(top / "b" / "stem 0.wav", ns=(1, 1))
    changed = run(top, out, resume=True, on_existing="overwrite")
    assert states(changed) == {"a": "done", "b": "done", "fail": "failed"}
    assert states(run(top, out, resume=True, seed=1))["a"] == "failed"  # other settings


def test_nothing_to_do_asks_nobody(tmp_path):
    top, out = album(tmp_path / "album", "a"), tmp_path / "out"
    run(top, out)
    found = read_album(top, out, recursive=True)
    report = run_batch(found, out, Settings(), pytest.fail, Deaf(), resume=True)  # type: ignore[arg-type]
    assert states(report) == {"a": "resumed"}


@pytest.mark.parametrize(
    ("policy", "state", "there"),
    [
        ("fail", "failed", {"stem 0.wav": b"mine"}),
        ("skip", "failed", {"stem 0.wav": b"mine"}),  # a part of a song is no song
        ("overwrite", "done", {}),
        ("rename", "done", {"stem 0.wav": b"mine"}),
    ],
)
def test_outputs_that_are_there(tmp_path, policy, state, there):
    top, out = album(tmp_path / "album", "a"), tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "stem 0.wav").write_bytes(b"mine")
    report = run(top, out, on_existing=policy)
    assert states(report) == {"a": state}
    found = {path.name: path.read_bytes() for path in (out / "a").iterdir()}
    made = sources(top / "a")
    if policy == "rename":
        made = {name.replace(".wav", ".2.wav"): data for name, data in made.items()}
    assert found == {**(made if state == "done" else {}), **there}


def test_skip_leaves_a_song_that_is_there(tmp_path):
    top, out = album(tmp_path / "album", "a", "b"), tmp_path / "out"
    shutil.copytree(top / "a", out / "a")
    assert states(run(top, out, on_existing="skip")) == {"a": "skipped", "b": "done"}


def test_a_broken_song_is_reported_with_the_others(tmp_path):
    top = album(tmp_path / "album", "a", "b")
    (top / "a" / "stem 0.wav").write_bytes(b"nothing")
    report = run(top, tmp_path / "out")
    assert states(report) == {"b": "done", "a": "failed"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path):
    top, out = album(tmp_path / "album", "a", "b"), tmp_path / "out"
    (out / "a").mkdir(parents=True, mode=0o500)
    assert states(run(top, out)) == {"a": "failed", "b": "done"}


def test_a_target_that_is_a_file_where_a_folder_should_be(tmp_path):
    top, out = album(tmp_path / "album", "a", "b"), tmp_path / "out"
    out.mkdir()
    (out / "a").touch()
    assert states(run(top, out)) == {"a": "failed", "b": "done"}


def test_an_interruption_leaves_nothing_half_written(tmp_path):
    top, out = album(tmp_path / "album", "a", "hang"), tmp_path / "out"

    class Impatient(Deaf):
        def progress(self, name: str, fraction: float, whole: float) -> None:
            if name == "hang":
                _until(top / "hangs.txt")
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(top, out, audience=Impatient())
    assert set(files(out)) == {"a/stem 0.wav", "a/stem 1.wav"}
    assert multiprocessing.active_children() == []
    (top / "hang").rename(top / "calm")
    assert states(run(top, out, resume=True)) == {"a": "resumed", "calm": "done"}


def _until(path: Path) -> None:
    """A file of another process appears."""
    wait = threading.Event()
    for _ in range(3000):
        if path.exists():
            return
        wait.wait(0.01)
    raise AssertionError(f"{path} never came")


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from audiosr_core.settings import Settings
from plugin_host.place import Where
from plugin_host.stems.album import read_album
from plugin_host.stems.batch import run_batch
from plugin_host.stems.local import LocalCrew
from tests.integration.test_stems_batch import Deaf
from tests.support import stem_work

if __name__ == "__main__":
    top, out = map(Path, sys.argv[1:])
    crew = partial(LocalCrew, 2, Where(daemon=False), stem_work.slow)
    run_batch(read_album(top, out, recursive=True), out, Settings(), crew, Deaf(), resume=True)
"""


def test_kills_at_any_moment_lose_nothing_but_the_songs_under_way(tmp_path):
    top, out = album(tmp_path / "album", *SONGS, seconds=0.8), tmp_path / "out"
    script = tmp_path / "batch.py"
    script.write_text(SCRIPT)
    random.seed(7)
    kills = 0
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, str(script), str(top), str(out)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        before = len(stem_work.begun(top))
        wait = threading.Event()
        while len(stem_work.begun(top)) == before and process.poll() is None:
            wait.wait(0.01)
        try:
            process.wait(random.uniform(0.0, 0.2) if kills < 5 else 60)  # the random moment
        except subprocess.TimeoutExpired:
            family = [process.pid, *(c.pid for c in psutil.Process(process.pid).children(True))]
            alone = random.random() < 0.5
            for pid in family[:1] if alone else family:
                os.kill(pid, signal.SIGKILL)
            process.wait(10)
            psutil.wait_procs([psutil.Process(p) for p in family if psutil.pid_exists(p)], 10)
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills == 5
    assert files(out) == sources(top)
    begun = stem_work.begun(top)
    assert set(begun) == set(SONGS)
    assert len(begun) <= len(SONGS) + 2 * kills  # two were under way at a kill, at most


def test_a_pair_is_two_outputs_of_one_stem(tmp_path):
    top, out = album(tmp_path / "album"), tmp_path / "out"
    for side in "LR":
        sound(top / "song" / f"Kick%{side}.wav")
    report = run(top, out)
    assert report.songs[0].report["stems"] == 1
    assert files(out) == sources(top)
