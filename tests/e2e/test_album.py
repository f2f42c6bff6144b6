"""An album played from MIDI, by the real command: what it sums to, keeps, and loses by kills.

    each of three songs:  Drums%L Drums%R   a pair of mono files
                          Bass              mono
                          Piano             a broadcast wave: bext, iXML, cue points, INFO
                          Strings           silent in its first half
                          Guitar            silent in its second quarter
                          Lead              as it is played

All in 24 bits. Whatever is claimed is measured here, from the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
import wavinfo
from scipy import signal as filters

from plugin_host.stems.journal import JOURNAL
from tests.integration.test_render_files import broadcast_wave
from tests.support.album import RATE, Samples, needs_fluidsynth, played_album
from tests.support.cluster import two_nodes
from tests.support.daemon import daemon

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow, needs_fluidsynth]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

ROOT = Path(__file__).parents[2]
SONGS = [f"Song {number}" for number in (1, 2, 3)]
SECONDS = 3.0
STEP = 2.0**-23  # of 24 bits
DITHER = STEP**2 / 4  # variance of what rounding with TPDF dither adds to a sample
WAIT_SECONDS = 100.0


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What fluidsynth plays, in all the shapes that stems come in."""
    top = tmp_path_factory.mktemp("album") / "Album"
    shutil.copytree(played_album(len(SONGS), 6, SECONDS), top)
    for name in SONGS:
        song = top / name
        drums = read(song / "Drums.wav")
        (song / "Drums.wav").unlink()
        for side, one in zip("LR", drums, strict=True):
            write(song / f"Drums%{side}.wav", one[None])
        write(song / "Bass.wav", read(song / "Bass.wav")[:1])
        broadcast_wave(song / "Piano.wav", read(song / "Piano.wav"), RATE)
        half = round(SECONDS * RATE / 2)
        for stem, start, stop in (("Strings", 0, half), ("Guitar", half // 2, half)):
            x = read(song / f"{stem}.wav")
            x[:, start:stop] = 0
            write(song / f"{stem}.wav", x)
    return top


@pytest.fixture(scope="module")
def undisturbed(album: Path) -> Run:
    run = Run(album, album.parent / "undisturbed", "--jobs", "2")
    code, err = run.start().end()
    assert code == 0, err
    return run


class Run:
    """One command, which may be begun again and again; its outputs, its report, its cache."""

    def __init__(self, source: Path, folder: Path, *arguments: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.out, self.cache = self.folder / "out", self.folder / "cache"
        self._report = self.folder / "report.json"
        self._command = ["stems", str(source), "-o", str(self.out), "--recursive", "--resume",
                         "--report", str(self._report), *arguments]  # fmt: skip

    def start(self) -> Group:
        return Group(self.folder, self.cache, *self._command)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._report.read_text())
        return found

    def songs(self) -> dict[str, dict[str, Any]]:
        """By name: what the report says, but for times, places and what kills change."""
        changing = {"seconds", "cached_chunks", "state", "stems", "engine"}
        return {
            song["name"]: {key: value for key, value in song.items() if key not in changing}
            for song in self.report()["songs"]
        }

    def states(self) -> dict[str, str]:
        return {song["name"]: song["state"] for song in self.report()["songs"]}

    def done(self) -> set[str]:
        """The songs that its journal calls done."""
        return {line["song"] for line in self._journal() if line["state"] == "done"}

    def begun(self) -> list[str]:
        """The songs that were begun, as often as they were."""
        return [line["song"] for line in self._journal() if line["state"] == "begun"]

    def files(self) -> dict[str, bytes]:
        """Everything in its folder of outputs but its own two files."""
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes()
            for path in self.out.rglob("*")
            if path.is_file() and not path.name.startswith(".audiosr-bridge-stems")
        }

    def stamps(self, songs: set[str]) -> dict[Path, tuple[int, int]]:
        """Of the outputs of these songs: others if anybody wrote them again."""
        paths = (path for song in songs for path in (self.out / song).iterdir())
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}

    def _journal(self) -> Iterator[dict[str, Any]]:
        path = self.out / JOURNAL
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):  # torn by a kill
                yield json.loads(line)


class Group:
    """The command and all its processes."""

    def __init__(self, folder: Path, cache: Path, *arguments: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
               "AUDIOSR_BRIDGE_CACHE_DIR": str(cache)}  # fmt: skip
        with (folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "plugin_host.cli", *arguments],
                cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        self._stderr = folder / "stderr"

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said."""
        return self.process.wait(WAIT_SECONDS), self._stderr.read_text()

    def kill(self) -> None:
        """All at once, so that nobody can put anything in order."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        psutil.wait_procs(family, 10)


def read(path: Path) -> Samples:
    x, _ = soundfile.read(path, always_2d=True)
    return np.ascontiguousarray(x.T)


def write(path: Path, x: Samples) -> None:
    soundfile.write(path, x.T, RATE, "PCM_24")


def summed(song: Path) -> Samples:
    """The stems of a song, as a mixer sums them: mono in the middle, sides to their sides."""
    mix = np.zeros((2, round(SECONDS * RATE)))
    for path in song.glob("*.wav"):
        channels = [("%L", "%R").index(path.stem[-2:])] if "%" in path.stem else [0, 1]
        mix[channels] += read(path)
    return mix


def below(x: Samples, edge_hz: float) -> Samples:
    """What lies below this frequency; the filter's slope ends there, 120 dB deep."""
    taps = filters.firwin(2047, edge_hz - 120, fs=RATE, window=("kaiser", 12.0))
    low: Samples = filters.oaconvolve(x, taps[None], mode="same", axes=1)
    return low


def power(x: Samples) -> float:
    return float(np.mean(x**2))


def db(ratio: float) -> float:
    return float(10 * np.log10(max(ratio, 1e-40)))


def until(condition: Callable[[], object], group: Group) -> None:
    """It holds, or the command has ended."""
    deadline, wait = time.monotonic() + WAIT_SECONDS, threading.Event()
    while not condition() and group.process.poll() is None:
        assert time.monotonic() < deadline
        wait.wait(0.005)


def at_random(group: Group, most_seconds: float, kill: Callable[[], None]) -> bool:
    """Kill at a random moment from now on; False if the command was faster."""
    try:
        group.process.wait(random.uniform(0, most_seconds))
    except subprocess.TimeoutExpired:
        kill()
        return True
    return False


@pytest.fixture(scope="module")
def extended_mixes(album: Path, undisturbed: Run) -> dict[str, tuple[Samples, dict[str, Any]]]:
    """By song: its stems summed, then extended by `extend`; with what that reported."""
    folder = album.parent / "mixes"
    folder.mkdir()
    files = [folder / f"{name}.wav" for name in SONGS]
    for file in files:
        soundfile.write(file, summed(album / file.stem).T, RATE, "DOUBLE")
    done = subprocess.run(
        [sys.executable, "-m", "plugin_host.cli", "extend", *map(str, files), "-o",
         str(folder / "extended"), "--json", "--no-daemon"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True, capture_output=True, timeout=WAIT_SECONDS,
    )  # fmt: skip
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        file.stem: (read(folder / "extended" / file.name), report)
        for file, report in zip(files, reports, strict=True)
    }


@pytest.mark.parametrize("name", SONGS)
def test_the_stems_sum_to_their_extended_mix(album, undisturbed, extended_mixes, name):
    told = undisturbed.songs()[name]
    whole, of_mix = extended_mixes[name]
    before, after = summed(album / name), summed(undisturbed.out / name)
    added = after - before
    assert (told["cutoff_hz"], told["gain_law_db"]) == (of_mix["cutoff_hz"], of_mix["gain_law_db"])

    edge_hz = told["crossover_hz"]
    residual_db = db(power(below(added, edge_hz)) / power(before))
    assert residual_db < -90  # the promise
    assert residual_db == pytest.approx(told["sum_residual_db"], abs=6)  # told by another filter

    band = whole - before
    assert db(power(band) / power(before)) > -80  # there is one
    # what else was added is the dither of seven files, of which six are in each channel
    assert power(added - band) < 1.1 * 6 * DITHER
    assert told["sum_error_db"] < -100  # before rounding


@pytest.mark.parametrize("name", SONGS)
def test_stems_keep_what_they_are(album, undisturbed, name):
    sources = sorted((album / name).iterdir())
    assert [path.name for path in sources] == [
        path.name for path in sorted((undisturbed.out / name).iterdir())
    ]
    for source in sources:
        target = undisturbed.out / name / source.name
        before, after = (soundfile.info(path) for path in (source, target))
        for fact in ("frames", "samplerate", "channels", "subtype", "format"):
            assert getattr(after, fact) == getattr(before, fact), (source.name, fact)
        x, y = read(source), read(target)
        assert not np.any(y[:, long_silent(x)]), source.name

    old, new = (
        wavinfo.WavInfoReader(str(top / name / "Piano.wav")) for top in (album, undisturbed.out)
    )
    for fact in ("description", "originator", "originator_ref", "originator_date",
                 "originator_time", "time_reference"):  # fmt: skip
        assert getattr(new.bext, fact) == getattr(old.bext, fact), fact
    history = new.bext.coding_history.splitlines()
    assert history[: len(old.bext.coding_history.splitlines())] == (
        old.bext.coding_history.splitlines()
    )
    assert "its share of the mix's high band" in history[-1]
    assert (new.ixml.project, new.ixml.tape) == (old.ixml.project, old.ixml.tape)
    assert [(c.name, c.position) for c in new.cues.cues] == [
        (c.name, c.position) for c in old.cues.cues
    ]
    assert new.info.artist == old.info.artist


def long_silent(x: Samples, seconds: float = 0.1) -> Any:
    """Samples with nothing but zeros for so long before and after."""
    window = np.ones(2 * round(seconds * RATE) + 1)
    return filters.oaconvolve(np.any(x, axis=0).astype(float), window, mode="same") < 0.5


def same(run: Run, undisturbed: Run) -> None:
    """The two left the same, byte for byte, and say the same of it."""
    assert run.songs() == undisturbed.songs()
    made, expected = run.files(), undisturbed.files()
    assert sorted(made) == sorted(expected)
    assert [name for name in made if made[name] != expected[name]] == []


def resumed(
    run: Run,
    moments: Sequence[Callable[[], object]],
    meanwhile: Callable[[Group], None] = lambda group: None,
) -> None:
    """Kill the whole group a little after each of these moments, then let it go on to its end."""
    kept: dict[Path, tuple[int, int]] = {}
    for moment in moments:
        group = run.start()
        until(moment, group)
        at_random(group, 0.5, group.kill)
        assert run.stamps(run.done()).items() >= kept.items()
        kept = run.stamps(run.done())
    begun, done = len(run.begun()), run.done()
    assert done
    group = run.start()
    meanwhile(group)
    code, err = group.end()
    assert code == 0, err
    assert run.stamps(set(SONGS)).items() >= kept.items()
    assert {name for name, state in run.states().items() if state == "resumed"} == done
    assert set(run.begun()[begun:]) == set(SONGS) - done


def test_a_song_through_the_daemon_is_the_same_song(album, undisturbed):
    with daemon(engine=None) as running:
        song = Run(
            album / SONGS[0], album.parent / "daemon",
            "--connection", str(running.connection_file),
        )  # fmt: skip
        code, err = song.start().end()
    assert code == 0, err
    assert [one["engine"] for one in song.report()["songs"]] == ["daemon"]
    expected = undisturbed.files()
    made = song.files()
    assert len(made) == 7
    assert [name for name in made if made[name] != expected[f"{SONGS[0]}/{name}"]] == []


def test_a_killed_album_is_resumed_to_the_same_bytes(album, undisturbed):
    run = Run(album, album.parent / "killed", "--jobs", "2")
    resumed(run, [run.begun, run.done])
    same(run, undisturbed)


@pytest.fixture(scope="module")
def address(album: Path) -> Iterator[str]:
    """Of a cluster whose actors have a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIOSR_BRIDGE_CACHE_DIR", str(album.parent / "ray-cache"))
        with two_nodes() as found:
            yield found


def actors() -> set[psutil.Process]:
    """Those of our cluster that extend a song just now."""
    found = set()
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "_Actor.extend" in " ".join(one.cmdline()):
                found.add(one)
    return found


@needs_ray
def test_a_cluster_that_loses_its_command_and_then_a_worker_does_the_same(
    album, undisturbed, address
):
    run = Run(album, album.parent / "ray", "--engine", "ray", "--jobs", "2", "--address", address)
    lost: list[psutil.Process] = []

    def lose_a_worker(group: Group) -> None:
        """Not one of the killed command, which may be there a little longer."""
        before = actors()

        def one_came() -> bool:
            lost.extend(actors() - before)
            return bool(lost)

        until(one_came, group)
        assert at_random(group, 0.5, lost[0].kill)

    resumed(run, [run.done], lose_a_worker)
    assert lost
    same(run, undisturbed)
