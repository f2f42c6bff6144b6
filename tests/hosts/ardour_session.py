"""Ardour's sessions, made and used without its editor.

Lua makes tracks and plugins; but an import needs the editor, so the sound comes on the tracks by
the session's own file:

    Sources    one a channel of interchange/<name>/audiofiles/<sound>.wav
    Regions    the whole file
    Playlists  the same again, at 0, on its track

An Ardour takes seconds to start, so that one session has all the tracks, and one interpreter does
one thing after another with it. Beside `song.ardour`, which has all of them, is a file for each
set of tracks that are exported together: there the others are not active.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from plugin_host.daw import ardour
from tests.hosts.bench import RATE, Bench

HERE = Path(__file__).parent
REGIONS = Path(ardour.__file__).parent / "ardour" / "regions.lua"
TICKS = 282_240_000  # a second
TRIES = 4  # Ardour 7.3 loses a connection or crashes now and then, with any plugin or none

_NO = [
    "muted", "locked", "automatic", "import", "external", "sync-marked", "left-of-split",
    "right-of-split", "hidden", "position-locked", "valid-transients", "layering-index",
    "envelope-active", "default-fade-in", "default-fade-out", "fade-in-active", "fade-out-active",
]  # fmt: skip


@dataclass(frozen=True)
class Track:
    """One track with the plugin and a sound at its beginning."""

    name: str
    kind: str  # LV2, VST3
    plugin: str  # its id, as Ardour wants it
    sound: Path
    channels: int
    seed: int


@dataclass(frozen=True)
class Session:
    """A folder with a song of some tracks."""

    folder: Path
    latencies: Sequence[int]  # of the tracks
    said: str  # why there is none


def make(bench: Bench, tracks: Sequence[Track], exports: Mapping[str, Sequence[str]]) -> Session:
    """A session; `said` tells why not.

    Args:
        exports: file → names of the tracks that are active in it
    """
    folder = bench.folder / "song"
    lines = [f"{one.name} {one.kind} {one.plugin} {one.channels} {one.seed}" for one in tracks]
    said = ""
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        said = _lua(bench, "ardour_make.lua", SESSION=folder, TRACKS="\n".join(lines), RATE=RATE)
        if "MADE" in said and _put(folder / "song.ardour", tracks):
            _save_exports(folder, exports)
            return Session(folder, [int(float(one)) for one in words(said, "LATENCY")], "")
    return Session(folder, [], said[-300:])


class Interpreter:
    """Ardour's, with a session: it does one thing after another."""

    def __init__(self, bench: Bench, session: Session) -> None:
        self._bench, self._session = bench, session
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def do(self, *command: object, limit: float = 60) -> str:
        """What it said of a command; it is tried again where Ardour died of it."""
        said = ""
        for _ in range(TRIES):
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            said = self._answer(self._process, " ".join(map(str, command)), limit)
            if said.endswith("END\n"):
                break
        return said

    def _start(self) -> subprocess.Popen[str]:
        ours = {"REGIONS": str(REGIONS), "SESSION": str(self._session.folder)}
        return subprocess.Popen(
            ["ardour7-lua", HERE / "ardour_do.lua"], env={**self._bench.environment, **ours},
            cwd=self._bench.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip

    @staticmethod
    def _answer(process: subprocess.Popen[str], command: str, limit: float) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        killer = threading.Timer(limit, process.kill)
        killer.start()
        said = ""
        try:
            print(command, file=process.stdin, flush=True)
            for line in process.stdout:
                said += line
                if line == "END\n":
                    return said
        except BrokenPipeError:
            said += "Ardour died"
        finally:
            killer.cancel()
        process.wait(limit)
        return said


def _lua(bench: Bench, script: str, **environment: object) -> str:
    done = bench.run(
        ["ardour7-lua", HERE / script], timeout=120, REGIONS=str(REGIONS),
        **{name: str(value) for name, value in environment.items()},
    )  # fmt: skip
    return done.stdout + done.stderr


def words(said: str, word: str) -> list[str]:
    """What follows a word at the beginning of lines."""
    start = f"{word} "
    return [line.removeprefix(start) for line in said.splitlines() if line.startswith(start)]


def _put(session: Path, tracks: Sequence[Track]) -> bool:
    """Each sound on its track; False where Ardour had not connected them yet."""
    document = ElementTree.parse(session)
    root = document.getroot()
    ports = [
        port for port in root.iter("Port") if port.get("name", "").startswith("Master/audio_in")
    ]
    if not all(len(port.findall("Connection")) >= len(tracks) for port in ports):
        return False
    playlists = {one.get("name"): one for one in _all(root, "Playlists")}
    audio = next((session.parent / "interchange").iterdir()) / "audiofiles"
    end = 0
    for sound in {track.sound: None for track in tracks}:
        shutil.copy(sound, audio)
        info = soundfile.info(sound)
        length = info.frames * TICKS // info.samplerate
        end = max(end, length)
        sources = [_new(root) for _ in range(info.channels)]
        for channel, source in enumerate(sources):
            _add(root, "Sources", "Source", name=sound.name, take_id="", type="audio", flags="",
                 id=source, natural_position="a0", have_natural_position="0", channel=channel,
                 origin="")  # fmt: skip
        _region(root, root.find("Regions"), sources, length, whole=True)
        for track in tracks:
            if track.sound == sound:
                _region(root, playlists[track.name], sources, length, whole=False)
    _add(root, "Locations", "Location", id=_new(root), name="session", start="a0",
         end=f"a{end}", flags="IsSessionRange", locked="0", timestamp="0", cue="0")  # fmt: skip
    document.write(session, encoding="UTF-8", xml_declaration=True)
    return True


def _save_exports(folder: Path, exports: Mapping[str, Sequence[str]]) -> None:
    root = ElementTree.parse(folder / "song.ardour").getroot()
    for name, active in exports.items():
        mine = copy.deepcopy(root)
        for route in _all(mine, "Routes"):
            if route.get("name") not in (*active, "Master"):
                route.set("active", "0")
        ElementTree.ElementTree(mine).write(
            folder / f"{name}.ardour", encoding="UTF-8", xml_declaration=True
        )


def _region(
    root: ElementTree.Element,
    into: ElementTree.Element | None,
    sources: list[str],
    end: int,
    whole: bool,
) -> None:
    assert into is not None
    of_sources = {f"{kind}-{channel}": source for channel, source in enumerate(sources)
                  for kind in ("source", "master-source")}  # fmt: skip
    ElementTree.SubElement(into, "Region", {
        **dict.fromkeys(_NO, "0"), **of_sources, "name": "in", "opaque": "1",
        "whole-file": str(int(whole)), "start": "a0", "length": f"a{end}@a0",
        "sync-position": "a0", "ancestral-start": "a0", "ancestral-length": "a0@a0",
        "stretch": "1", "shift": "1", "tags": "", "scale-amplitude": "1", "id": _new(root),
        "type": "audio", "first-edit": "nothing", "channels": str(len(sources)),
    })  # fmt: skip


def _all(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return list(root.find(name) or [])


def _add(root: ElementTree.Element, parent: str, name: str, /, **values: object) -> None:
    into = root.find(parent)
    assert into is not None
    ElementTree.SubElement(into, name, {k.replace("_", "-"): str(v) for k, v in values.items()})


def _new(root: ElementTree.Element) -> str:
    """An id that is still free."""
    number = root.get("id-counter", "")
    root.set("id-counter", str(int(number) + 1))
    return number
