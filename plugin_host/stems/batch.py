"""Many songs, overnight: what is done is not done again, and what fails stops nothing.

Album ── journal: done already? ─────────────────────────────┐
      └─ targets there already? ── skip, fail, rename ───────┤
         └─ Order ──▶ seat ──▶ Outcome ──▶ journal ──────────┴▶ BatchReport
              ▲          └ died: once more, then a failure
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from audiosr_core import __version__
from audiosr_core.containers.temporary import discard_orphans, translated
from audiosr_core.errors import (
    EXIT_DEVICE,
    EXIT_OK,
    AudioSRError,
    OutputExistsError,
)
from audiosr_core.settings import Settings
from plugin_host.stems.album import Album, Song
from plugin_host.stems.journal import Journal, key_of
from plugin_host.stems.seat import Crew, Lost, Order, Outcome

SCHEMA = 1  # of the report
TRIES = 2
HEAR_SECONDS = 0.5

OnExisting = Literal["skip", "overwrite", "rename", "fail"]
State = Literal["done", "resumed", "skipped", "failed"]


@dataclass(frozen=True)
class SongResult:
    """What became of one song."""

    name: str
    state: State
    notes: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = EXIT_OK
    report: Mapping[str, Any] = field(default_factory=dict)  # of done and resumed ones

    def as_dict(self) -> dict[str, Any]:
        head: dict[str, Any] = {"name": self.name, "state": self.state, "notes": [*self.notes]}
        if self.state == "failed":
            head.update(error=self.error, exit_code=self.exit_code)
        return {**self.report, **head, "notes": [*self.report.get("notes", ()), *self.notes]}


@dataclass(frozen=True)
class BatchReport:
    """What became of an album."""

    folder: Path
    out: Path
    settings: Settings
    model_sha256: str
    songs: tuple[SongResult, ...]  # in the order of the album; last those that were unusable
    notes: tuple[str, ...]
    seconds: float

    def of(self, state: State) -> list[SongResult]:
        return [song for song in self.songs if song.state == state]

    def as_dict(self) -> dict[str, Any]:
        states: tuple[State, ...] = ("done", "resumed", "skipped", "failed")
        return {
            "schema": SCHEMA,
            "version": __version__,
            "album": str(self.folder),
            "out": str(self.out),
            "settings": self.settings.as_dict(),
            "model_sha256": self.model_sha256,
            "songs": [song.as_dict() for song in self.songs if song.state != "failed"],
            "failures": [song.as_dict() for song in self.of("failed")],
            "notes": [*self.notes],
            "totals": {
                "songs": len(self.songs),
                **{state: len(self.of(state)) for state in states},
                "seconds": round(self.seconds, 3),
            },
        }


class Audience(Protocol):
    """Who is told while a batch runs."""

    def progress(self, name: str, fraction: float, whole: float) -> None:
        """How far a song is, and all of them together."""

    def ended(self, song: SongResult) -> None: ...


def run_batch(
    album: Album,
    out: Path,
    settings: Settings,
    open_crew: Callable[[], Crew],
    audience: Audience,
    *,
    model_sha256: str = "",
    on_existing: OnExisting = "fail",
    resume: bool = False,
) -> BatchReport:
    """Extend every song of an album into `out`.

    Args:
        open_crew: who does it; not asked where nothing is to be done
        model_sha256: of the weights, on which the outputs depend
        on_existing: outputs that are there already; a song is done as a whole or not at all
        resume: songs that an earlier run has finished are taken from its journal, and those it
            was killed in are done again
    """
    began = time.monotonic()
    ended: dict[int, SongResult] = {}
    unusable = tuple(
        SongResult(one.name, "failed", error=str(one.error), exit_code=one.error.exit_code)
        for one in album.unusable
    )
    for one in unusable:
        audience.ended(one)
    with Journal(out) as journal:
        orders = []
        for index, song in enumerate(album.songs):
            found = _plan(index, song, album.folder, settings, model_sha256, journal, on_existing,
                          resume)  # fmt: skip
            if isinstance(found, Order):
                orders.append(found)
            else:
                ended[index] = found
                audience.ended(found)
        if orders:
            for index, result in _carry_out(orders, open_crew, journal, audience):
                ended[index] = result
    songs = tuple(ended[index] for index in sorted(ended))
    return BatchReport(
        album.folder,
        out,
        settings,
        model_sha256,
        (*songs, *unusable),
        album.notes,
        time.monotonic() - began,
    )


def _plan(
    index: int,
    song: Song,
    folder: Path,
    settings: Settings,
    model_sha256: str,
    journal: Journal,
    on_existing: OnExisting,
    resume: bool,
) -> Order | SongResult:
    """What is to be done about a song, before any work."""
    try:
        stamps = [_stamp(file, folder) for file in song.files]
        key = key_of(
            {
                "settings": settings.as_dict(),
                "model": model_sha256,
                "version": __version__,
                "stems": [len(stem.files) for stem in song.stems],
                "sources": stamps,
            }
        )
        order = Order(index, key, song, settings, False, sum(size for _, size, _ in stamps))
        known = journal.find(key) if resume else None
        if known is not None and known.done:
            return SongResult(song.name, "resumed", song.notes, report=known.report)
        if known is not None:  # a kill fell into it: what there is of its targets is ours
            for target in known.targets:
                discard_orphans(target)
            return replace(order, song=_with_targets(song, known.targets), overwrite=True)
        if not _is_fresh(song, on_existing):
            return SongResult(song.name, "skipped", song.notes)
    except AudioSRError as error:
        return SongResult(song.name, "failed", song.notes, str(error), error.exit_code)
    if on_existing == "rename":
        return replace(order, song=_free(song))
    return replace(order, overwrite=on_existing == "overwrite")


def _carry_out(
    orders: Sequence[Order],
    open_crew: Callable[[], Crew],
    journal: Journal,
    audience: Audience,
) -> list[tuple[int, SongResult]]:
    """Every order, with a second try for those whose process died."""
    waiting = deque(orders)
    tries: dict[int, int] = dict.fromkeys((one.index for one in orders), 0)
    fractions = dict.fromkeys(tries, 0.0)
    total = sum(one.size for one in orders) or 1
    sizes = {one.index: one.size for one in orders}
    results: dict[int, SongResult] = {}

    def told(order: Order, fraction: float) -> None:
        fractions[order.index] = fraction
        whole = sum(sizes[index] * done for index, done in fractions.items()) / total
        audience.progress(order.song.name, fraction, whole)

    try:
        with open_crew() as crew:
            while len(results) < len(orders):
                while waiting and crew.num_free:
                    order = waiting.popleft()
                    journal.begin(order.key, order.song.name, order.song.targets)
                    tries[order.index] += 1
                    crew.give(order)
                    told(order, 0.0)
                for order, news in crew.hear(HEAR_SECONDS):
                    if isinstance(news, float):
                        told(order, news)
                        continue
                    if isinstance(news, Lost):
                        if tries[order.index] < TRIES:
                            waiting.appendleft(replace(order, overwrite=True))
                            continue
                        news = Outcome(error=_lost(order, news), exit_code=EXIT_DEVICE)
                    results[order.index] = _ended(order, news, journal)
                    told(order, 1.0)
                    audience.ended(results[order.index])
    finally:  # nobody is at work any more
        for order in orders:
            if (tries[order.index] and order.index not in results) or tries[order.index] > 1:
                for target in order.song.targets:
                    discard_orphans(target)
    return [*results.items()]


def _ended(order: Order, outcome: Outcome, journal: Journal) -> SongResult:
    song = order.song
    if outcome.error:
        return SongResult(song.name, "failed", song.notes, outcome.error, outcome.exit_code)
    journal.finish(order.key, song.name, song.targets, outcome.report)
    return SongResult(song.name, "done", song.notes, report=outcome.report)


def _lost(order: Order, lost: Lost) -> str:
    return (
        f"{order.song.name} was given up after {TRIES} tries: {lost.how};"
        " close other programs or take fewer --jobs, and run it again with --resume"
    )


def _is_fresh(song: Song, on_existing: OnExisting) -> bool:
    """Whether there is anything to do; OutputExistsError where nobody said what to do."""
    there = [target for target in song.targets if os.path.lexists(target)]
    if not there or on_existing in ("overwrite", "rename"):
        return True
    if on_existing == "skip" and len(there) == len(song.targets):
        return False
    how_many = "all" if len(there) == len(song.targets) else f"{len(there)} of {len(song.targets)}"
    raise OutputExistsError(
        f"{how_many} outputs of {song.name} exist already ({there[0]}); a song is done as a whole:"
        " finish an earlier run with --resume, or say --on-existing overwrite or rename"
    )


def _free(song: Song) -> Song:
    """With the first number under which none of its outputs exists."""
    numbers = (song.numbered(number) for number in itertools.count(2))
    for one in itertools.chain([song], numbers):
        if not any(os.path.lexists(target) for target in one.targets):
            return one
    raise AssertionError


def _with_targets(song: Song, targets: Sequence[Path]) -> Song:
    rest = iter(targets)
    stems = (replace(one, targets=tuple(itertools.islice(rest, len(one.targets))))
             for one in song.stems)  # fmt: skip
    return replace(song, stems=tuple(stems))


def _stamp(file: Path, folder: Path) -> tuple[str, int, int]:
    """Name, size, time of the last change."""
    with translated(file, "read"):
        status = file.stat()
    return file.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns
