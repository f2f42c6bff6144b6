"""`audiosr-bridge ab`: the original and the extended sound, as loud as each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.jobs import ANALYSIS
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.targets import make_folder, output_folder
from plugin_host.cli.terminal import emit, note, printable, say
from plugin_host.place import Place, Where

MANY = 2  # inputs, as `output_folder` sees it: always a folder


def ab(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", readable=False, help="A sound file; with --open, a key."),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="DIR", help="Without it, beside the input."),
    ] = None,
    blind: Annotated[
        bool,
        typer.Option("--blind", help="Call them X and Y; only a key file knows which is which."),
    ] = False,
    open: Annotated[
        bool, typer.Option("--open", help="Say what the key file of a blind pair knows.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Start from this preset; flags win over it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only errors.")] = False,
    device: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where a large model runs, here."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="auto|fp32|bf16|fp16", help="In which numbers it computes, here."),
    ] = None,
    daemon: Annotated[
        bool | None,
        typer.Option(
            "--daemon/--no-daemon",
            help="Compute in the daemon or in this process; without either, in one that runs.",
            show_default=False,
        ),
    ] = None,
    connection: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The daemon of this connection file.")
    ] = None,
    **knobs: Any,
) -> None:
    """Write the original and the extended sound as a pair of equal loudness."""
    where = Where(device, precision, daemon, connection)
    settings = settings_of(preset, knobs)
    folder = output_folder(output, MANY)
    from plugin_host import audition

    if open:
        _tell_key(audition.open_key(source), json)
        return
    if folder is not None:
        make_folder(folder)
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
