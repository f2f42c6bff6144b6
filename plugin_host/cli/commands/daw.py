"""`audiosr-bridge daw`: our actions and scripts in DAWs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from audiosr_core.errors import EXIT_FAILED, EXIT_OK, AudioSRError, UsageError
from plugin_host.cli.flags import Json
from plugin_host.cli.terminal import emit, note, say, write
from plugin_host.daw import DAWS

app = typer.Typer(no_args_is_help=True, help="Actions in DAWs that extend what is selected there.")


def _known(name: str) -> str:
    if name not in DAWS:
        raise UsageError(f"there is nothing for a DAW {name!r}; choose from: {', '.join(DAWS)}")
    return name


Name = Annotated[
    str, typer.Argument(metavar="DAW", callback=_known, help=f"One of: {', '.join(DAWS)}.")
]


@app.command()
def install(name: Name, json: Json = False) -> None:
    """Put our actions where this DAW looks for them. What is not ours is never replaced."""
    from plugin_host.daw import files

    done = files.install(name)
    if json:
        emit({"daw": name, **asdict(done)})
    _tell("installed", done.written)
    _tell("removed", done.removed)
    say(files.daw(name).then)


@app.command()
def uninstall(name: Name, json: Json = False) -> None:
    """Remove what `install` put there, and nothing else."""
    from plugin_host.daw import files

    done = files.uninstall(name)
    if json:
        emit({"daw": name, **asdict(done)})
    for text in done.notes:
        note(text)
    _tell("removed", done.removed)
    if not done.removed:
        say("nothing was installed")


@app.command()
def status(name: Name, json: Json = False) -> None:
    """Show which of our files are there; exit code 1 if they are not all there and up to date."""
    from plugin_host.daw import files

    found = files.status(name)
    for one in found:
        if json:
            emit({"daw": name, **asdict(one)})
        else:
            write(f"{_word(one.there, one.ours, one.current):12} {one.path}")
    raise typer.Exit(EXIT_OK if all(one.current for one in found) else EXIT_FAILED)


@app.command("run", hidden=True)
def run(request: Path) -> None:
    """Do what a script in a DAW asks for."""
    from plugin_host.daw.requests import run_request

    run_request(request)


@app.command("audacity")
def audacity(
    sources: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Mono or stereo.")],
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="For the outputs: WAV.")],
    replace: Annotated[bool, typer.Option("--replace", help="Outputs that are there.")] = False,
    json: Json = False,
) -> None:
    """Files through our effect in the Audacity that runs, one after the other."""
    from plugin_host.daw.audacity.batch import extend
    from plugin_host.daw.audacity.pipe import Pipe

    failed = 0
    into.mkdir(parents=True, exist_ok=True)
    with Pipe() as pipe:
        for source in sources:
            target = into / f"{source.stem}.wav"
            error = ""
            try:
                extend(pipe, source, target, replace=replace)
                say(f"written {target}")
            except AudioSRError as problem:
                failed, error = failed + 1, str(problem)
                say(f"failed {error}")
            if json:
                emit({"source": str(source), "target": str(target), "error": error or None})
    raise typer.Exit(EXIT_FAILED if failed else EXIT_OK)


def _word(there: bool, ours: bool, current: bool) -> str:
    if not there:
        return "missing"
    return "current" if current else "older" if ours else "not ours"


def _tell(what: str, paths: list[Path]) -> None:
    for path in paths:
        say(f"{what} {path}")
