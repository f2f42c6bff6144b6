"""Audacity 3.2 with the LV2: an effect applied to a selection of a longer track.

It never says that it renders offline, and keeps the values of an effect in a file of its own.
Where a selection is shorter than the latency, it overwrites what follows with silence, up to one
latency from where the selection begins: with any effect, whatever that does.

    track  |··|  selection  |··············|          selected for at least 5.12 s: only that
           |··|  extended   |···silence····|··|       changes; shorter: this comes
              |◀────── 5.12 s ────────────▶|
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

from audiosr_core.audio import Samples
from plugin_host.daw.audacity.batch import extend
from plugin_host.daw.audacity.pipe import AudacityError, Pipe, line
from tests.hosts import bench as at
from tests.hosts.audacity_app import MODULE, Audacity, audacity
from tests.hosts.bench import LV2, RATE, WAIT, Bench, Check

NAME = "Audacity 3.2"
TRACK_SECONDS = 8.0
LONG = (0.75, 6.5)  # seconds, a selection
SHORT = (0.75, 2.5)


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
            yield from _cuts_short(bench, pipe, effects[2])
            yield from _fails_loudly(bench, pipe, effects[2])
            yield from _batch(bench, pipe)
        stored = _store(app, WAIT)
        yield _check("state", stored, "the effect's values are kept, and can be set")
        with app.running() as pipe:
            for channels in LV2:
                yield from _extends(bench, pipe, effects[channels], channels, "Wait")


def _extends(bench: Bench, pipe: Pipe, effect: str, channels: int, mode: str) -> Iterator[Check]:
    before, jobs = bench.chunks(), bench.jobs()
    y, _, wanted = _applied(bench, pipe, effect, channels, LONG)
    column = "mono" if channels == 1 else "stereo"
    wet = at.same(y, wanted) and bench.chunks() > before
    for what in (column, "wet bounce"):
        detail = f"{mode}, {column}, and nothing outside changes: {at.how(y, wanted)}"
        yield _check(what, wet, detail)
    yield _check("latency", wet, f"{mode}, {column}: nothing moves", "compensated")
    num_jobs = bench.jobs() - jobs
    yield _check("wet bounce", num_jobs <= 2, f"{mode}, {column}: in one piece: {num_jobs} jobs")


def _cuts_short(bench: Bench, pipe: Pipe, effect: str) -> Iterator[Check]:
    y, x, wanted = _applied(bench, pipe, effect, 2, SHORT)
    end = round(SHORT[1] * RATE)
    inside = y.shape == x.shape and at.same(y[:, :end], wanted[:, :end])
    detail = "a selection shorter than 5.12 s: extended, and silence behind it, up to 5.12 s"
    yield _check("latency", inside, detail, "compensated, from 5.12 s on")


def _fails_loudly(bench: Bench, pipe: Pipe, effect: str) -> Iterator[Check]:
    begin, end = (round(seconds * RATE) for seconds in LONG)
    with bench.killed_in_the_middle():
        y, x, _ = _applied(bench, pipe, effect, 2, LONG)
    shares = at.shares(y[:, begin:end], x[:, begin:end])
    loud = bool(shares["wet"] and shares["silent"] and not shares["other"])
    yield _check("daemon killed", loud, f"in the middle: {shares}")
    with bench.without_daemon():
        y, x, _ = _applied(bench, pipe, effect, 2, LONG)
    silent = y.shape == x.shape and not y[:, begin:end].any()
    detail = f"absent: {at.shares(y[:, begin:end], x[:, begin:end])}"
    yield _check("daemon killed", silent, detail)


def _applied(
    bench: Bench, pipe: Pipe, effect: str, channels: int, selected: tuple[float, float]
) -> tuple[Samples, Samples, Samples]:
    """The track afterwards, before, and as it should be."""
    source, x = bench.sound(channels, TRACK_SECONDS)
    out = bench.out()
    pipe.do(line("Import2", Filename=source))
    pipe.do(line("SelectTracks", Track=0, TrackCount=1, Mode="Set"))
    pipe.do(line("SelectTime", Start=selected[0], End=selected[1], RelativeTo="ProjectStart"))
    pipe.do(f"{effect}:", 120)
    pipe.do("SelectAll:")
    pipe.do(line("Export2", Filename=out, NumChannels=channels))
    pipe.do("SelectAll:")
    pipe.do("RemoveTracks:")
    begin, end = (round(seconds * RATE) for seconds in selected)
    wanted = x.copy()
    wanted[:, begin:end] = at.expected(x[:, begin:end])
    return at.read(out), x, wanted


def _batch(bench: Bench, pipe: Pipe) -> Iterator[Check]:
    """Whole files, one after the other; where there is a hole, nothing is written."""
    for channels in (1, 2):
        source, x = bench.sound(channels, 1.5)
        out = bench.out()
        extend(pipe, source, out)
        y = at.read(out)
        yield _check(
            "wet bounce", at.same(y, at.expected(x)), f"batch: {at.how(y, at.expected(x))}"
        )
    source, x = bench.sound(2)
    out = bench.out()
    with bench.without_daemon():
        try:
            extend(pipe, source, out)
            said = ""
        except AudacityError as error:
            said = str(error)
    loud = "could not be extended" in said and not out.exists()
    yield _check("daemon killed", loud, f"batch, absent: {said}")


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


def _check(what: str, ok: bool, detail: str, cell: str = "yes") -> Check:
    return Check(NAME, "LV2", what, ok, detail, cell)
