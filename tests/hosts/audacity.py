"""Audacity 3.2 with the LV2: an effect applied to a selection of a longer track.

It never says that it renders offline, and keeps the values of an effect in a file of its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import numpy as np

from audiosr_core.audio import Samples
from plugin_host.daw.audacity.pipe import Pipe, line
from tests.hosts import bench as at
from tests.hosts.audacity_app import MODULE, Audacity, audacity
from tests.hosts.bench import LV2, RATE, WAIT, Bench, Check

NAME = "Audacity 3.2"
FROM, TO = 0.75, 2.5  # seconds, the selection
TRACK_SECONDS = 3.5


def missing() -> str:
    if not shutil.which("audacity") or not MODULE.exists():
        return "install audacity"
    return "" if shutil.which("Xvfb") else "install xvfb"


def run(bench: Bench) -> Iterator[Check]:
    with audacity(bench) as app:
        found = app.scan()
        yield _check("loads", found, "its scan finds the LV2")
        if not found:
            return
        with app.running() as pipe:
            effects = _effects(pipe)
            yield _check("loads", set(effects) == set(LV2), f"its effects are {effects}")
            yield _check("offline flag", True, "never said", "no")
            for channels in LV2:
                yield from _extends(bench, pipe, effects[channels], channels, "Auto")
            yield from _fails_loudly(bench, pipe, effects[2])
        stored = _store(app, WAIT)
        yield _check("state", stored, "the effect's values are kept, and can be set")
        with app.running() as pipe:
            for channels in LV2:
                yield from _extends(bench, pipe, effects[channels], channels, "Wait")


def _extends(bench: Bench, pipe: Pipe, effect: str, channels: int, mode: str) -> Iterator[Check]:
    before = bench.chunks()
    y, x, wanted = _applied(bench, pipe, effect, channels)
    column = "mono" if channels == 1 else "stereo"
    outside = y.shape == x.shape and at.same(_outside(y), _outside(x))
    wet = at.same(y, wanted) and bench.chunks() > before
    yield _check("loads", outside, f"{mode}, {column}: nothing outside the selection changes")
    for what in (column, "wet bounce"):
        yield _check(what, wet, f"{mode}, {column}: {at.how(y, wanted)}")
    yield _check("latency", wet, f"{mode}, {column}: nothing moves", "compensated")


def _fails_loudly(bench: Bench, pipe: Pipe, effect: str) -> Iterator[Check]:
    with bench.killed_in_the_middle():
        y, x, _ = _applied(bench, pipe, effect, 2)
    shares = at.shares(_inside(y), _inside(x))
    loud = bool(shares["wet"] and shares["silent"] and not shares["other"])
    yield _check("daemon killed", loud, f"in the middle: {shares}")
    with bench.without_daemon():
        y, x, _ = _applied(bench, pipe, effect, 2)
    silent = y.shape == x.shape and not _inside(y).any()
    yield _check("daemon killed", silent, f"absent: {at.shares(_inside(y), _inside(x))}")


def _applied(
    bench: Bench, pipe: Pipe, effect: str, channels: int
) -> tuple[Samples, Samples, Samples]:
    """The track afterwards, before, and as it should be."""
    source, x = bench.sound(channels, TRACK_SECONDS)
    out = bench.out()
    pipe.do(line("Import2", Filename=source))
    pipe.do(line("SelectTracks", Track=0, TrackCount=1, Mode="Set"))
    pipe.do(line("SelectTime", Start=FROM, End=TO, RelativeTo="ProjectStart"))
    pipe.do(f"{effect}:", 120)
    pipe.do("SelectAll:")
    pipe.do(line("Export2", Filename=out, NumChannels=channels))
    pipe.do("SelectAll:")
    pipe.do("RemoveTracks:")
    wanted = x.copy()
    begin, end = _bounds()
    wanted[:, begin:end] = at.expected(x[:, begin:end])
    return at.read(out), x, wanted


def _effects(pipe: Pipe) -> dict[int, str]:
    """The commands by which our effects are called, by channels."""
    found = json.loads(pipe.do("GetInfo: Type=Commands Format=JSON"))
    wanted = {channels: _letters(name) for channels, name in at.LV2_NAMES.items()}
    return {
        channels: one["id"]
        for channels, name in wanted.items()
        for one in found
        if _letters(one["id"]) == name
    }


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _store(app: Audacity, render_mode: int) -> bool:
    """Another render mode for all effects that were used; whether there was one to change.

    Not by the pipe: Audacity 3.2 ignores values that are sent with an LV2's command.
    """
    path = app.plugin_settings
    name = at.RENDER_MODE_NAME.replace(" ", "[ _]")
    text = path.read_text() if path.exists() else ""
    changed, count = re.subn(rf'(\b{name})="[^"]*"', rf'\1="{render_mode}"', text)
    path.write_text(changed)
    return count > 0


def _bounds() -> tuple[int, int]:
    return round(FROM * RATE), round(TO * RATE)


def _inside(x: Samples) -> Samples:
    begin, end = _bounds()
    return x[:, begin:end]


def _outside(x: Samples) -> Samples:
    begin, end = _bounds()
    return np.concatenate([x[:, :begin], x[:, end:]], axis=1)


def _check(what: str, ok: bool, detail: str, cell: str = "yes") -> Check:
    return Check(NAME, "LV2", what, ok, detail, cell)
