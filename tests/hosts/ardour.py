"""Ardour 7 without its window: sessions with the plugin are exported and bounced.

Export says that it is offline, bounce never does. Freeze cannot be reached by Lua; it goes the way
of bounce. What is shorter than the latency Ardour's bounce shifts and lengthens, so that only our
own action is tried with that. Ardour's export frees a broken buffer, with any plugin or none: it
crashes in about one run of six, nearly always when the file is whole, and now and then the first
sample of each 2048 is rubbish. So the file is judged, and a bad one gets another try.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiosr_core.audio import Samples
from plugin_host.daw.ardour import command_lua
from tests.hosts import bench as at
from tests.hosts.ardour_session import SEED, TRIES, Session, lua, make, words
from tests.hosts.bench import LATENCY, LV2, Bench, Check
from tests.support.shim import bundles

NAME = "Ardour 7.3"
LIBRARY = Path("/usr/lib/ardour7")
MODES = {"Auto": "0", "Wait": "1"}
SECONDS, SHORT_SECONDS = 6.0, 2.0  # longer than the latency, and shorter
PAN_LAW = 2e-3  # of the centre, which in Ardour is not quite the square root of a half
FADES = ("FadeLinear", "FadeFast", "FadeSlow", "FadeConstantPower", "FadeSymmetric")
ROOT = Path(__file__).parents[2]


def missing() -> str:
    return (
        "" if shutil.which("ardour7-lua") and shutil.which("ardour7-export") else "install ardour"
    )


def run(bench: Bench) -> Iterator[Check]:
    yield _scanned(bench)
    for kind in ("LV2", "VST3"):
        for channels in (1, 2):
            yield from _tried(bench, kind, channels)
    yield from _fails_loudly(bench)
    yield from _two_tracks(bench)
    yield from _extended_in_place(bench)


def _scanned(bench: Bench) -> Check:
    done = bench.run(
        [LIBRARY / "ardour-vst3-scanner", "-f", bench.vst3], LD_LIBRARY_PATH=str(LIBRARY),
        ARDOUR_DATA_PATH="/usr/share/ardour7", ARDOUR_CONFIG_PATH="/etc/ardour7",
        ARDOUR_DLL_PATH=str(LIBRARY),
    )  # fmt: skip
    found = "".join(path.read_text() for path in bench.home.rglob("*.v3i"))
    said = (done.stdout + done.stderr).strip()[-200:]
    return Check(NAME, "VST3", "loads", _plugin("VST3", 2) in found, f"its scanner: {said}")


def _tried(bench: Bench, kind: str, channels: int) -> Iterator[Check]:
    column = "mono" if channels == 1 else "stereo"
    sound, x = bench.sound(channels)
    session = make(bench, _plugin(kind, channels), kind, sound, channels)
    yield Check(NAME, kind, "loads", not session.said, f"{column}: {session.said}")
    if session.said:
        return
    told = session.latency == LATENCY
    yield Check(NAME, kind, "latency", told, f"{session.latency} samples", "compensated")

    before = bench.chunks()
    wanted = _mixed(kind, at.expected(x, SEED))
    wet, said = _exported(bench, session, wanted, panned=kind == "LV2" and channels == 1)
    yield Check(NAME, kind, "offline flag", wet and bench.chunks() > before, said, "export")
    yield Check(NAME, kind, column, wet, said)

    for mode, value in MODES.items():
        sound, x = bench.sound(channels, SECONDS)
        session = make(bench, _plugin(kind, channels), kind, sound, channels)
        y, failed = _bounced(bench, session, x, value)
        wanted = _of_track(kind, at.expected(x, SEED))
        wet = at.same(y, wanted) and failed == 0
        said = f"bounce, {mode}, {column}: {at.how(y, wanted)}, {failed} failed"
        yield Check(NAME, kind, "wet bounce", wet, said)
    sound, x = bench.sound(channels, SHORT_SECONDS)
    session = make(bench, _plugin(kind, channels), kind, sound, channels)
    y, failed = _bounced(bench, session, x, "action")
    wanted = _of_track(kind, at.expected(x, SEED))
    wet = at.same(y, wanted) and failed == 0
    said = f"our action, {column}, short: {at.how(y, wanted)}, {failed} failed"
    yield Check(NAME, kind, "wet bounce", wet, said)


def _fails_loudly(bench: Bench) -> Iterator[Check]:
    for kind in ("LV2", "VST3"):
        sound, x = bench.sound(2, SECONDS)
        session = make(bench, _plugin(kind, 2), kind, sound, 2)
        with bench.killed_in_the_middle():
            y, failed = _bounced(bench, session, x, "action")
        shares = at.shares(y, x, SEED)
        whole = shares["wet"] + shares["silent"] == x.shape[1]
        ok = whole and shares["wet"] > 0 and (shares["silent"] == 0) == (failed == 0)
        said = f"in the middle of a bounce: {shares}, {failed} failed"
        yield Check(NAME, kind, "daemon killed", ok, said)

        sound, x = bench.sound(2, SECONDS)
        session = make(bench, _plugin(kind, 2), kind, sound, 2)
        with bench.without_daemon():
            y, failed = _bounced(bench, session, x, "action")
            silent = y.shape == x.shape and not y.any() and failed > 0
            said = f"absent, bounce: {at.shares(y, x, SEED)}, {failed} failed"
            yield Check(NAME, kind, "daemon killed", silent, said)


def _two_tracks(bench: Bench) -> Iterator[Check]:
    for kind in ("LV2", "VST3"):
        sound, x = bench.sound(2)
        session = make(bench, _plugin(kind, 2), kind, sound, 2, tracks=2)
        wet, said = _exported(bench, session, 2 * at.expected(x, SEED))
        yield Check(NAME, kind, "stereo", wet, f"two tracks at once: {session.said or said}")


def _extended_in_place(bench: Bench) -> Iterator[Check]:
    """Our action but for the import, which needs the editor."""
    command = bench.folder / "command.lua"
    command.write_bytes(command_lua([sys.executable, str(ROOT / "tests/hosts/ardour_double.py")]))
    for number, fade in enumerate(FADES):
        channels = 1 + number % 2
        sound, x = bench.sound(channels)
        session = make(bench, _plugin("LV2", channels), "LV2", sound, channels)
        out = bench.folder / f"extended{number}"
        said = lua(bench, "ardour_extend.lua", SESSION=session.folder, COMMAND=command, OUT=out,
                   FADE=fade)  # fmt: skip
        made = words(said, "EXTENDED")
        y = at.read(Path(made[0])) if made else at.read(out)
        ok = at.same(y, 2 * x) and words(said, "NAMED") == ["in (double, seed 7)"]
        yield Check(NAME, "LV2", "loads", ok, f"region to file and back: {at.how(y, 2 * x)}")
        ok = _kept(session.folder)
        yield Check(NAME, "LV2", "loads", ok, f"the new region has gain, envelope and {fade}")


def _kept(folder: Path) -> bool:
    """Whether the new region has all of the old one's, and its place."""
    old, new = (_region(folder / f"{name}.ardour") for name in ("before", "after"))
    shapes = ("FadeIn", "FadeOut", "InverseFadeIn", "InverseFadeOut", "Envelope")
    same = ("length", "scale-amplitude", "envelope-active", "fade-in-active", "fade-out-active",
            "muted", "opaque", "position-locked", "locked")  # fmt: skip
    return (
        new.get("name") == "replaced"
        and all(old.get(name) == new.get(name) for name in same)
        and all(_points(old, name) == _points(new, name) for name in shapes)
    )


def _region(session: Path) -> ElementTree.Element:
    playlists = ElementTree.parse(session).getroot().find("Playlists")
    assert playlists is not None
    return next(playlists.iter("Region"))


def _points(region: ElementTree.Element, name: str) -> str | None:
    return region.findtext(f"{name}/AutomationList/events")


def _exported(
    bench: Bench, session: Session, wanted: Samples, panned: bool = False
) -> tuple[bool, str]:
    """Whether a freewheeling export of the song wrote this, and how it did.

    Args:
        panned: from mono, by Ardour's pan law
    """
    said = ""
    for number in range(1, TRIES + 1):
        out = bench.out()
        try:
            bench.run(["ardour7-export", "-b", "float", "-o", out, session.folder, "song"])
        except subprocess.TimeoutExpired:
            said = "export: no end"
            continue
        y = at.read(out)
        said = f"export, try {number}: {at.how(y, wanted)}"
        if at.same(y, wanted):
            return True, said
        if panned and y.shape == wanted.shape and _differs(y, wanted) <= PAN_LAW:
            return True, f"{said}: as the pan law has it"
    return False, said


def _differs(y: Samples, wanted: Samples) -> float:
    return float(np.abs(y - wanted).max() / np.abs(wanted).max())


def _bounced(bench: Bench, session: Session, x: Samples, mode: str) -> tuple[Samples, float]:
    """What a bounce of the track made, and how many chunks failed."""
    said = lua(bench, "ardour_bounce.lua", SESSION=session.folder, FRAMES=x.shape[1], MODE=mode)
    files = [at.read(Path(path)) for path in words(said, "FILE")]
    if not files or not words(said, "FAILED"):
        print(said, file=sys.stderr)
        return np.zeros((0, 0), np.float32), -1
    length = int(words(said, "LENGTH")[0])
    return np.concatenate(files)[:, :length], float(words(said, "FAILED")[0])


def _of_track(kind: str, x: Samples) -> Samples:
    """What comes out of a track: a mono track's VST3 has two channels."""
    return np.repeat(x, 2, axis=0) if len(x) == 1 and kind == "VST3" else x


def _mixed(kind: str, x: Samples) -> Samples:
    """What comes out of the stereo master."""
    x = _of_track(kind, x)
    return x if len(x) == 2 else np.repeat(x * np.float32(0.5**0.5), 2, axis=0)


def _plugin(kind: str, channels: int) -> str:
    """Its id, as Ardour wants it."""
    if kind == "LV2":
        return LV2[channels]
    described = json.loads((bundles() / "parameters.json").read_text())
    return str(next(one["class_id"] for one in described["vst3"] if one["name"] == at.NAME)).upper()
