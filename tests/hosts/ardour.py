"""Ardour 7 without its window: a session with the plugin is exported, bounced and played.

Export says that it is offline, bounce never does. Both, and playback, find one another's renders,
so that whatever has to be rendered anew has a seed of its own. Freeze cannot be reached by Lua; it
goes the way of bounce. What is shorter than the latency Ardour's bounce shifts and lengthens, so
that only our own action is tried with that. Ardour's export frees a broken buffer, with any plugin
or none: it crashes in about one run of six, nearly always when the file is whole, and now and then
the first sample of each 2048 is rubbish. So the file is judged, and a bad one gets another try.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from audiosr_core.audio import Samples
from plugin_host.daw.ardour import command_lua
from tests.hosts import bench as at
from tests.hosts.ardour_session import TRIES, Interpreter, Session, Track, make, words
from tests.hosts.bench import LATENCY, LV2, Bench, Check
from tests.support.shim import bundles

NAME = "Ardour 7.3"
LIBRARY = Path("/usr/lib/ardour7")
AUTO, WAIT = 0, 1
KINDS = ("LV2", "VST3")
SECONDS, SHORT_SECONDS = 6.0, 2.0  # longer than the latency, and shorter
PLAYED_SECONDS = 3.0
CHUNK_SECONDS = 0.1  # of the bench's daemon
PAN_LAW = 2e-3  # of the centre, which in Ardour is not quite the square root of a half
FADES = ("FadeLinear", "FadeFast", "FadeSlow", "FadeConstantPower", "FadeSymmetric")
ROOT = Path(__file__).parents[2]


def missing() -> str:
    return (
        "" if shutil.which("ardour7-lua") and shutil.which("ardour7-export") else "install ardour"
    )


def run(bench: Bench) -> Iterator[Check]:
    yield _scanned(bench)
    song = _Song(bench)
    for number, track in enumerate(song.tracks):
        loaded = not song.session.said
        yield Check(NAME, track.kind, "loads", loaded, f"{track.name}: {song.session.said}")
        if loaded:
            told = song.session.latencies[number]
            yield Check(NAME, track.kind, "latency", told == LATENCY, f"{told}", "compensated")
    if song.session.said:
        return
    yield from _exports(song)
    with Interpreter(bench, song.session) as ardour:
        song.ardour = ardour
        yield from _bounces(song)
        yield from _finds_what_was_bounced(song)
        yield from _finds_what_was_played(song)
        yield from _fails_loudly(song)
        yield from _extends_in_place(song)


def _scanned(bench: Bench) -> Check:
    done = bench.run(
        [LIBRARY / "ardour-vst3-scanner", "-f", bench.vst3], LD_LIBRARY_PATH=str(LIBRARY),
        ARDOUR_DATA_PATH="/usr/share/ardour7", ARDOUR_CONFIG_PATH="/etc/ardour7",
        ARDOUR_DLL_PATH=str(LIBRARY),
    )  # fmt: skip
    found = "".join(path.read_text() for path in bench.home.rglob("*.v3i"))
    said = (done.stdout + done.stderr).strip()[-200:]
    return Check(NAME, "VST3", "loads", _plugin("VST3", 2) in found, f"its scanner: {said}")


class _Song:
    """A session with all that is tried.

    Of each format there is a mono track and a stereo one; and two with the same sound and seed,
    that are exported together.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ardour: Interpreter
        self._seeds = itertools.count(511, 1000)  # with all of them the gain is a half
        self.sounds = {n: bench.sound(n, SECONDS) for n in (1, 2)}
        self.tracks = [self._track(kind, n, f"{kind}_{n}") for kind in KINDS for n in (1, 2)]
        for kind in KINDS:
            seed = self.seed()
            self.tracks += [self._track(kind, 2, f"{kind}_{name}", seed) for name in "ab"]
        exports = {one.name: [one.name] for one in self.tracks}
        exports |= {f"{kind}_both": [f"{kind}_a", f"{kind}_b"] for kind in KINDS}
        self.session: Session = make(bench, self.tracks, exports)

    def seed(self) -> int:
        """One that nothing was rendered with."""
        return next(self._seeds)

    def track(self, name: str) -> Track:
        return next(one for one in self.tracks if one.name == name)

    def sound(self, track: Track) -> Samples:
        return self.sounds[track.channels][1]

    def bounced(self, track: Track, how: object, seed: int, x: Samples) -> tuple[Samples, float]:
        """What a bounce of the track made, and how many chunks failed."""
        said = self.ardour.do("bounce", track.name, how, seed, x.shape[1])
        files = [at.read(Path(path)) for path in words(said, "FILE")]
        if not files or not words(said, "FAILED"):
            print(said, file=sys.stderr)
            return np.zeros((0, 0), np.float32), -1
        length = int(words(said, "LENGTH")[0])
        return np.concatenate(files)[:, :length], float(words(said, "FAILED")[0])

    def played(self, seconds: float, seeds: Mapping[str, int]) -> list[tuple[float, float]]:
        """Of each track the chunks that were wet and dry; the song plays from its beginning."""
        said = self.ardour.do("play", seconds, *(f"{name}:{seed}" for name, seed in seeds.items()))
        counts = [(words(said, name) or ["-1 -1"])[0].split() for name in seeds]
        return [(float(wet), float(dry)) for wet, dry in counts]

    def _track(self, kind: str, channels: int, name: str, seed: int = 0) -> Track:
        sound = self.sounds[channels][0]
        return Track(name, kind, _plugin(kind, channels), sound, channels, seed or self.seed())


def _bounces(song: _Song) -> Iterator[Check]:
    """As Ardour does, and as our action does, which also works with a short one."""
    for track in song.tracks[:4]:
        for how, seconds in ((AUTO, SECONDS), (WAIT, SECONDS), ("action", SHORT_SECONDS)):
            x = song.sound(track)[:, : round(seconds * at.RATE)]
            seed = song.seed()
            y, failed = song.bounced(track, how, seed, x)
            wanted = _of_track(track.kind, at.expected(x, seed))
            wet = at.same(y, wanted) and failed == 0
            said = f"{track.name}, {how}: {at.how(y, wanted)}, {failed} failed"
            yield Check(NAME, track.kind, "wet bounce", wet, said)


def _finds_what_was_bounced(song: _Song) -> Iterator[Check]:
    """In a second bounce, and without a daemon in playback and export."""
    bench = song.bench
    tracks = [song.track(f"{kind}_2") for kind in KINDS]
    x = song.sound(tracks[0])
    for track in tracks:
        wanted = at.expected(x, track.seed)
        before = bench.chunks()
        y, _ = song.bounced(track, AUTO, track.seed, x)
        first = bench.chunks()
        again, _ = song.bounced(track, AUTO, track.seed, x)
        ok = at.same(y, wanted) and at.same(again, wanted) and bench.chunks() == first > before
        said = f"{first - before} chunks rendered, and {bench.chunks() - first} in a second one"
        yield Check(NAME, track.kind, "wet bounce", ok, said)
    with bench.without_daemon():
        counts = song.played(PLAYED_SECONDS, {track.name: track.seed for track in tracks})
        for track, (wet, dry) in zip(tracks, counts, strict=True):
            # The first chunk differs, for Ardour fades in where it starts.
            ok = wet >= PLAYED_SECONDS / CHUNK_SECONDS - 2 and dry <= 1
            said = f"then played, without a daemon: {wet:g} chunks wet, {dry:g} dry"
            yield Check(NAME, track.kind, "wet bounce", ok, said)
            ok, said = _exported(song, track.name, at.expected(x, track.seed))
            said = f"then exported, without a daemon: {said}"
            yield Check(NAME, track.kind, "wet bounce", ok, said)


def _finds_what_was_played(song: _Song) -> Iterator[Check]:
    """In a bounce without a daemon: all but what came too late, and the beginning."""
    tracks = [song.track(f"{kind}_2") for kind in KINDS]
    seeds = {track.name: song.seed() for track in tracks}
    x = song.sound(tracks[0])
    counts = song.played(SECONDS + 1, seeds)
    with song.bench.without_daemon():
        for track, (wet, dry) in zip(tracks, counts, strict=True):
            y, _ = song.bounced(track, AUTO, seeds[track.name], x)
            shares = at.shares(y, x, seeds[track.name])
            enough = shares["wet"] >= (wet - 1) * CHUNK_SECONDS * at.RATE
            ok = wet > 1 and enough and shares["other"] == 0
            said = f"played: {wet:g} chunks wet, {dry:g} dry; then without a daemon: {shares}"
            yield Check(NAME, track.kind, "wet bounce", ok, said)


def _fails_loudly(song: _Song) -> Iterator[Check]:
    bench = song.bench
    for kind in KINDS:
        track, seed = song.track(f"{kind}_2"), song.seed()
        x = song.sound(track)
        with bench.killed_in_the_middle():
            y, failed = song.bounced(track, "action", seed, x)
        shares = at.shares(y, x, seed)
        whole = shares["wet"] + shares["silent"] == x.shape[1]
        ok = whole and shares["wet"] > 0 and (shares["silent"] == 0) == (failed == 0)
        said = f"in the middle of a bounce: {shares}, {failed} failed"
        yield Check(NAME, kind, "daemon killed", ok, said)

        seed = song.seed()
        with bench.without_daemon():
            y, failed = song.bounced(track, "action", seed, x)
        silent = y.shape == x.shape and not y.any() and failed > 0
        said = f"absent, bounce: {at.shares(y, x, seed)}, {failed} failed"
        yield Check(NAME, kind, "daemon killed", silent, said)


def _extends_in_place(song: _Song) -> Iterator[Check]:
    """Our action but for the import, which needs the editor."""
    bench = song.bench
    command = bench.folder / "command.lua"
    command.write_bytes(command_lua([sys.executable, str(ROOT / "tests/hosts/ardour_double.py")]))
    for track, fade in zip(song.tracks, FADES, strict=False):
        x = song.sound(track)
        out = bench.folder / f"extended_{track.name}"
        said = song.ardour.do("extend", track.name, fade, command, out)
        made = words(said, "EXTENDED")
        y = at.read(Path(made[0])) if made else at.read(out)
        named = words(said, "NAMED") == [f"old {track.name} (double, seed 7)"]
        said = f"region to file and back: {at.how(y, 2 * x)}"
        yield Check(NAME, "LV2", "loads", at.same(y, 2 * x) and named, said)
        ok = _kept(song.session.folder, track.name)
        yield Check(NAME, "LV2", "loads", ok, f"the new region has gain, envelope and {fade}")


def _exports(song: _Song) -> Iterator[Check]:
    for kind in KINDS:
        for column, name in (("mono", "1"), ("stereo", "both")):
            track = song.track(f"{kind}_{'1' if name == '1' else 'a'}")
            wanted = _mixed(kind, at.expected(song.sound(track), track.seed))
            before = song.bench.chunks()
            wet, said = _exported(song, f"{kind}_{name}", wanted if name == "1" else 2 * wanted)
            new = song.bench.chunks() > before
            yield Check(NAME, kind, "offline flag", wet and new, f"{name}: {said}", "export")
            yield Check(NAME, kind, column, wet, f"{name}: {said}")


def _kept(folder: Path, track: str) -> bool:
    """Whether the new region has all of the old one's, and its place."""
    old = _region(folder / "before.ardour", f"old {track}")
    new = _region(folder / "after.ardour", f"new {track}")
    shapes = ("FadeIn", "FadeOut", "InverseFadeIn", "InverseFadeOut", "Envelope")
    same = ("length", "scale-amplitude", "envelope-active", "fade-in-active", "fade-out-active",
            "muted", "opaque", "position-locked", "locked")  # fmt: skip
    return all(old.get(name) == new.get(name) for name in same) and all(
        _points(old, name) == _points(new, name) for name in shapes
    )


def _region(session: Path, name: str) -> ElementTree.Element:
    """Of this name, on a track."""
    playlists = ElementTree.parse(session).getroot().find("Playlists")
    assert playlists is not None
    [found] = [one for one in playlists.iter("Region") if one.get("name") == name]
    return found


def _points(region: ElementTree.Element, name: str) -> str | None:
    return region.findtext(f"{name}/AutomationList/events")


def _exported(song: _Song, name: str, wanted: Samples) -> tuple[bool, str]:
    return exported(song.bench, song.session, name, wanted, panned=name == "LV2_1")


def exported(
    bench: Bench, session: Session, name: str, wanted: Samples, panned: bool = False
) -> tuple[bool, str]:
    """Whether a freewheeling export of these tracks wrote this, and how it did."""
    said = ""
    for number in range(1, TRIES + 1):
        out = bench.out()
        try:
            bench.run(["ardour7-export", "-b", "float", "-o", out, session.folder, name])
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
