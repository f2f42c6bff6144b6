"""Ardour's sessions, made without its editor.

Lua makes tracks and plugins; but an import needs the editor, so the sound comes on the tracks by
the session's own file:

    Sources    one a channel of interchange/<name>/audiofiles/in.wav
    Regions    the whole file
    Playlists  the same again, at 0, on each track
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import soundfile

from plugin_host.daw import ardour
from tests.hosts.bench import RATE, Bench

HERE = Path(__file__).parent
REGIONS = Path(ardour.__file__).parent / "ardour" / "regions.lua"
TICKS = 282_240_000  # a second
SEED = 511  # its gain is a half, so that wet differs from dry by more than a pan law's rounding
TRIES = 4  # Ardour 7.3 loses a connection or crashes now and then, with any plugin or none

_NO = [
    "muted", "locked", "automatic", "import", "external", "sync-marked", "left-of-split",
    "right-of-split", "hidden", "position-locked", "valid-transients", "layering-index",
    "envelope-active", "default-fade-in", "default-fade-out", "fade-in-active", "fade-out-active",
]  # fmt: skip


@dataclass(frozen=True)
class Session:
    """A folder with a song of some tracks, all with the same sound and the plugin."""

    folder: Path
    latency: int
    said: str  # why there is none


def make(
    bench: Bench, plugin: str, kind: str, sound: Path, channels: int, tracks: int = 1
) -> Session:
    """A session; `said` tells why not."""
    folder = bench.folder / "song"
    said = ""
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        done = lua(
            bench, "ardour_make.lua", SESSION=folder, PLUGIN=plugin, FORMAT=kind,
            CHANNELS=channels, TRACKS=tracks, SEED=SEED, RATE=RATE,
        )  # fmt: skip
        said = done
        if "MADE" in done and _put(folder / "song.ardour", sound):
            return Session(folder, int(float(words(done, "LATENCY")[0])), "")
    return Session(folder, 0, said[-300:])


def lua(bench: Bench, script: str, **environment: object) -> str:
    """What a script in Ardour's interpreter said."""
    done = bench.run(
        ["ardour7-lua", HERE / script], timeout=120, REGIONS=str(REGIONS),
        **{name: str(value) for name, value in environment.items()},
    )  # fmt: skip
    return done.stdout + done.stderr


def words(said: str, word: str) -> list[str]:
    """What follows a word at the beginning of lines."""
    start = f"{word} "
    return [line.removeprefix(start) for line in said.splitlines() if line.startswith(start)]


def _put(session: Path, sound: Path) -> bool:
    """A sound at the beginning of each track; False where Ardour had not connected them yet."""
    document = ElementTree.parse(session)
    root = document.getroot()
    playlists = [one for one in _all(root, "Playlists") if one.get("name", "").startswith("track")]
    ports = [
        port for port in root.iter("Port") if port.get("name", "").startswith("Master/audio_in")
    ]
    if not all(port.findall("Connection") for port in ports):
        return False
    info = soundfile.info(sound)
    audio = next((session.parent / "interchange").iterdir()) / "audiofiles" / "in.wav"
    shutil.copy(sound, audio)
    end = info.frames * TICKS // info.samplerate
    sources = [_new(root) for _ in range(info.channels)]
    for channel, source in enumerate(sources):
        _add(root, "Sources", "Source", name=audio.name, take_id="", type="audio", flags="",
             id=source, natural_position="a0", have_natural_position="0", channel=channel,
             origin="")  # fmt: skip
    _region(root, root.find("Regions"), sources, end, whole=True)
    for playlist in playlists:
        _region(root, playlist, sources, end, whole=False)
    _add(root, "Locations", "Location", id=_new(root), name="session", start="a0", end=f"a{end}",
         flags="IsSessionRange", locked="0", timestamp="0", cue="0")  # fmt: skip
    document.write(session, encoding="UTF-8", xml_declaration=True)
    return True


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
