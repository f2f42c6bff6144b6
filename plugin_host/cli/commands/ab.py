"""`audiosr-bridge ab`: the original and the extended sound, as loud as each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

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
from plugin_host.cli.targets import made_folder
from plugin_host.cli.terminal import emit, note, printable, say
from plugin_host.place import Place, Where


def ab(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", readable=False, help="A sound file; with --open, a key."),
    ],
    output: OutputFolder = None,
    blind: Annotated[
        bool,
        typer.Option("--blind", help="Call them X and Y; only a key file knows which is which."),
    ] = False,
    open: Annotated[
        bool, typer.Option("--open", help="Say what the key file of a blind pair knows.")
    ] = False,
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
    """Write the original and the extended sound as a pair of equal loudness."""
    where = Where(device, precision, daemon, connection)
    settings = settings_of(preset, knobs)
    from plugin_host import audition

    if open:
        _tell_key(audition.open_key(source), json)
        return
    folder = made_folder(output)
    with (
        Place(where, "audiosr-bridge ab", note, priority="interactive") as place,
        bars(quiet) as progress,
    ):
        task = progress.add_task(printable(source.name), total=1.0, left=Left(ANALYSIS))
        pair = audition.ab(
            source,
            settings,
            folder=folder,
            blind=blind,
            overwrite=overwrite,
            on_progress=lambda fraction: progress.update(task, completed=fraction),
            place=place,
        )
    if blind:
        names = sorted([pair.original, pair.extended])
        if not quiet:
            say(f"{names[0]} and {names[1]}; which is which: audiosr-bridge ab --open {pair.key}")
        if json:
            emit({"input": pair.input, "files": names, "key": pair.key})
        return
    if not quiet:
        for what, lufs, gain_db in zip(
            (pair.original, pair.extended), pair.lufs, pair.gains_db, strict=True
        ):
            say(f"{what}: {lufs:.2f} LUFS {gain_db:+.2f} dB")
        if pair.note:
            note(pair.note)
    if json:
        emit(asdict(pair))


def _tell_key(said: dict[str, Any], json: bool) -> None:
    if json:
        emit(said)
    else:
        say(f"original: {said.get('original')}, extended: {said.get('extended')}")
