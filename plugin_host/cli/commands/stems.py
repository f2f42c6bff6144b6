"""`audiosr-bridge stems`: whole albums of stems, overnight."""

from __future__ import annotations

import enum
import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID

from audiosr_core.errors import ModelError, UsageError
from audiosr_core.settings import Settings
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.outcome import exit_code
from plugin_host.cli.terminal import emit, note, printable, say
from plugin_host.place import Where

if TYPE_CHECKING:
    from plugin_host.stems.album import Album
    from plugin_host.stems.batch import BatchReport, SongResult
    from plugin_host.stems.seat import Crew


class Existing(enum.StrEnum):
    SKIP = "skip"
    OVERWRITE = "overwrite"
    RENAME = "rename"
    FAIL = "fail"


class EngineName(enum.StrEnum):
    LOCAL = "local"
    RAY = "ray"


def stems(
    album: Annotated[
        Path, typer.Argument(metavar="ALBUM", help="The folder of a song, or of many.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="The folder for the outputs.")
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Every folder with sounds in it is a song.")
    ] = False,
    each: Annotated[
        bool, typer.Option("--each", help="Every file is a song by itself: a folder of mixes.")
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave out files or folders of this name; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do only what an earlier run has not finished.")
    ] = False,
    on_existing: Annotated[
        Existing, typer.Option(help="What to do about outputs that are there already.")
    ] = Existing.FAIL,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write what was done, as JSON.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write what was done, as a page.")
    ] = None,
    num_jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=1024, help="How many songs at once.")
    ] = 1,
    engine: Annotated[
        EngineName, typer.Option(help="On this machine, or on a Ray cluster.")
    ] = EngineName.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT|auto", help="Of a Ray cluster that runs."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Start from this preset; flags win over it."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a song on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only errors.")] = False,
    device: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where a large model runs."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="auto|fp32|bf16|fp16", help="In which numbers it computes."),
    ] = None,
    daemon: Annotated[
        bool | None,
        typer.Option(
            "--daemon/--no-daemon",
            help="Compute in the daemon, or in processes of this command (the default).",
            show_default=False,
        ),
    ] = None,
    connection: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compute in the daemon of this connection file."),
    ] = None,
    **knobs: Any,
) -> None:
    """Restore the missing high band of stems, so that they still sum to the mix."""
    from plugin_host.stems.album import read_album
    from plugin_host.stems.batch import run_batch

    settings = settings_of(preset, knobs)
    if address is not None and engine is not EngineName.RAY:
        raise UsageError("--address names a Ray cluster; say --engine ray, or leave it out")
    own = daemon is None and connection is None
    where = Where(device, precision, False if own else daemon, connection)
    open_crew = _crew(engine, num_jobs, where, address)
    found = read_album(album, output, recursive=recursive, each=each, exclude=exclude or ())
    if not quiet:
        for text in found.notes:
            note(text)
    if not found.songs and not found.unusable:
        raise UsageError(f"{album} holds no sounds; name another folder, or say --recursive")
    if dry_run:
        raise typer.Exit(_tell_plan(found, json))
    for path in (report, html):
        if path is not None:
            _check_folder(path)
    with bars(quiet) as progress:
        done = run_batch(
            found,
            output,
            settings,
            open_crew,
            _Audience(progress, json, quiet),
            model_sha256=_sha256(settings, own),
            on_existing=on_existing.value,
            resume=resume,
        )
    if report is not None:
        from audiosr_core.containers.temporary import write_whole

        page = jsonlib.dumps(done.as_dict(), indent=2, default=str).encode()
        write_whole(report, page, overwrite=True)
    if html is not None:
        _write_page(html, done)
    raise typer.Exit(_tell_end(done, quiet))


def _crew(engine: EngineName, jobs: int, where: Where, address: str | None) -> Callable[[], Crew]:
    """How to get the seats; UsageError at once where they cannot be had."""
    if engine is EngineName.LOCAL:
        from plugin_host.stems.local import LocalCrew

        return lambda: LocalCrew(jobs, where)
    from plugin_host.stems.ray_crew import RayCrew, check_installed

    check_installed(address)
    return lambda: RayCrew(jobs, where, address)


def _sha256(settings: Settings, own: bool) -> str:
    """Of the model; a daemon may have models that are not installed here."""
    from audiosr_core.store import model_info

    try:
        return model_info(settings.model).sha256
    except ModelError:
        if own:
            raise
        return ""


class _Audience:
    """The terminal: a bar for every song under way, and one for all."""

    def __init__(self, progress: Progress, json: bool, quiet: bool) -> None:
        self._progress, self._json, self._quiet = progress, json, quiet
        self._all = progress.add_task("all", total=1.0, left=Left(0.0))
        self._rows: dict[str, TaskID] = {}

    def progress(self, name: str, fraction: float, whole: float) -> None:
        if name not in self._rows:
            self._rows[name] = self._progress.add_task(printable(name), total=1.0, left=Left(0.0))
        self._progress.update(self._rows[name], completed=fraction)
        self._progress.update(self._all, completed=whole)

    def ended(self, song: SongResult) -> None:
        row = self._rows.pop(song.name, None)
        if row is not None:
            self._progress.remove_task(row)
        if song.state == "failed":
            say(f"error: {song.name}: {song.error}", "red")
        elif not self._quiet:
            say(f"{song.name}: {_WORDS[song.state]}")
            for text in song.as_dict()["notes"]:
                say(f"  note: {text}")
        if self._json:
            emit(song.as_dict())


_WORDS = {
    "done": "done",
    "resumed": "done by an earlier run",
    "skipped": "skipped, its outputs are there already",
}


def _tell_plan(album: Album, json: bool) -> int:
    for song in album.songs:
        say(f"{song.name}: {len(song.stems)} stems")
        for text in song.notes:
            say(f"  note: {text}")
        for file, target in zip(song.files, song.targets, strict=True):
            say(f"  {file} would become {target}")
        if json:
            stems = [{"name": one.name, "files": [*map(str, one.files)],
                      "targets": [*map(str, one.targets)]} for one in song.stems]  # fmt: skip
            emit({"name": song.name, "dry_run": True, "stems": stems, "notes": [*song.notes]})
    for one in album.unusable:
        say(f"error: {one.name}: {one.error}", "red")
        if json:
            emit({"name": one.name, "error": str(one.error), "exit_code": one.error.exit_code})
    total = len(album.songs) + len(album.unusable)
    return exit_code([one.error.exit_code for one in album.unusable], total)


def _tell_end(done: BatchReport, quiet: bool) -> int:
    """What failed, once more at the end of a long night; the exit code."""
    failed = done.of("failed")
    if failed and len(done.songs) > 1:
        say(f"{len(failed)} of {len(done.songs)} songs failed:", "red")
        for song in failed:
            say(f"  {song.name}")
    elif not quiet and not failed:
        say(f"{len(done.songs)} songs, {done.seconds:.1f} s")
    return exit_code([song.exit_code for song in failed], len(done.songs))


def _check_folder(path: Path) -> None:
    """Before the night, not after it."""
    from audiosr_core.files import check_folder

    check_folder(path)


def _write_page(path: Path, done: BatchReport) -> None:
    from plugin_host.page import Item, write_page

    items = [Item(song.name, _facts(song), (), [*song.as_dict()["notes"]]) for song in done.songs]
    write_page(path, f"Stems of {done.folder.resolve().name}", items)


def _facts(song: SongResult) -> dict[str, str]:
    """What fits on a line."""
    plain = (str, int, float, bool)
    facts = {k: str(v) for k, v in song.as_dict().items() if isinstance(v, plain)}
    return {"state": song.state, **facts}
