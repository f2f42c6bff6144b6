"""`audiosr-bridge audition`: a few seconds of a sound in several ways, before committing to one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audiosr_core.errors import UsageError
from audiosr_core.settings import KNOBS, Settings
from bridge.jobs import ANALYSIS
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.flags import (
    Connection,
    Daemon,
    Device,
    Json,
    OutputFolder,
    Overwrite,
    Precision,
    Preset,
    Quiet,
)
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.region import parse_moment
from plugin_host.cli.targets import made_folder
from plugin_host.cli.terminal import emit, note, printable, say
from plugin_host.place import Place, Where


def audition(
    source: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="A sound file.")],
    at: Annotated[
        str, typer.Option(metavar="TIME", help="The point to listen around: 83 or 1:23.5.")
    ],
    seconds: Annotated[float, typer.Option(metavar="NUMBER", help="How much of it.")] = 6.0,
    seeds: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="A file for each of these seeds.")
    ] = None,
    presets: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="A file for each of these presets.")
    ] = None,
    output: OutputFolder = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw all spectrograms side by side here."),
    ] = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = None,
    precision: Precision = None,
    daemon: Daemon = None,
    connection: Connection = None,
    **knobs: Any,
) -> None:
    """Extend a few seconds in several ways, to listen before committing."""
    where = Where(device, precision, daemon, connection)
    moment = parse_moment(at)
    chosen = _presets(preset, presets, knobs)
    numbers = _seeds(seeds)
    folder = made_folder(output)
    from plugin_host import audition as rendered

    with (
        Place(where, "audiosr-bridge audition", note, priority="audition") as place,
        bars(quiet) as progress,
    ):
        task = progress.add_task(printable(source.name), total=1.0, left=Left(ANALYSIS))
        made = rendered.audition(
            source,
            rendered.ways(chosen, numbers),
            at_seconds=moment,
            seconds=seconds,
            folder=folder,
            png=png,
            overwrite=overwrite,
            on_progress=lambda fraction: progress.update(task, completed=fraction),
            place=place,
        )
    if not quiet:
        say(f"{made.original}: {made.start:.2f} to {made.stop:.2f} s as they are")
        for take in made.takes:
            what = take.note or f"cutoff {take.cutoff_hz / 1000:.2f} kHz"
            say(f"{take.output}: {what}, {take.seconds:.1f} s")
        if made.png:
            say(f"picture: {made.png}")
    if json:
        emit(asdict(made))


def _presets(preset: str | None, presets: str | None, knobs: dict[str, Any]) -> dict[str, Settings]:
    """Settings by the name of their preset; nameless where no list was given."""
    if presets is None:
        return {"": settings_of(preset, knobs)}
    if preset is not None:
        raise UsageError("--preset is one and --presets are several; leave one out")
    return {Path(name).stem: settings_of(name, knobs) for name in _list(presets, "--presets")}


def _seeds(text: str | None) -> list[int]:
    if text is None:
        return []
    return [KNOBS["seed"].check(number) for number in _list(text, "--seeds")]


def _list(text: str, flag: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"{flag} takes names with commas between them, each once, got {text!r}")
    return names
