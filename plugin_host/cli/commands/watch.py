"""`audiosr-bridge watch`: whatever is put into a folder comes out extended."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from audiosr_core.errors import EXIT_OK, AudioSRError, UsageError
from plugin_host.cli.commands.extend import Request, extend_all
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.outcome import tell_failure
from plugin_host.cli.terminal import interrupted, note, say
from plugin_host.place import Where


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to look after.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="The folder for the outputs.")
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Folders inside too; the structure is kept.")
    ] = False,
    existing: Annotated[
        bool,
        typer.Option(
            "--existing/--no-existing", help="Begin with what is there at the start, or leave it."
        ),
    ] = True,
    settle: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=3600.0,
            metavar="SECONDS",
            help="A file that has not changed for so long is whole.",
        ),
    ] = 2.0,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Start from this preset; flags win over it."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file on standard output.")
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
            help="Compute in the daemon, or in this process; without either, in the daemon if"
            " it runs.",
            show_default=False,
        ),
    ] = None,
    connection: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compute in the daemon of this connection file."),
    ] = None,
    **knobs: Any,
) -> None:
    """Extend every sound file that is put into a folder, until interrupted."""
    from plugin_host.watch import watch as watch_folder

    request = Request(
        settings=settings_of(preset, knobs),
        region=None,
        overwrite=True,
        in_place=False,
        dry_run=False,
        json=json,
        quiet=quiet,
        where=Where(device, precision, daemon, connection),
    )
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name the folder to look after")
    if os.path.realpath(folder) == os.path.realpath(output):
        raise UsageError(f"{output} is the folder itself; choose another one for the outputs")

    def hand_on(source: Path) -> None:
        _extend(source, output / source.parent.relative_to(folder.absolute()), request)

    def ready() -> None:
        if not quiet:
            say(f"watching {folder}; Ctrl-C ends it")

    stopped = threading.Event()

    def leave(number: int, frame: FrameType | None) -> None:
        stopped.set()
        interrupted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        watch_folder(
            folder,
            output,
            hand_on,
            recursive=recursive,
            existing=existing,
            settle_seconds=settle,
            on_ready=ready,
        )
    except KeyboardInterrupt:
        if not stopped.is_set():
            raise
        raise typer.Exit(EXIT_OK) from None  # a service that is stopped has done nothing wrong


def _extend(source: Path, folder: Path, request: Request) -> None:
    """One file; an output that is newer than it is left alone."""
    from audiosr_core.containers.temporary import translated
    from audiosr_core.extend_file import default_target

    try:
        target = default_target(source, folder)
        with translated(folder, "made"):
            folder.mkdir(parents=True, exist_ok=True)
        with translated(source, "read"):
            changed = source.stat().st_mtime_ns
        if target.exists() and target.stat().st_mtime_ns >= changed:
            if not request.quiet:
                note(f"{source} is older than {target}, which is left as it is")
            return
    except AudioSRError as error:
        tell_failure(source, error, request.json)
    else:
        extend_all([source], str(target), request)
