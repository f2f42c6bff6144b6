"""`audiosr-bridge daemon keys`: which other machines may use the daemon of this one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from audiosr_core.errors import OutputExistsError, UsageError
from plugin_host.cli.terminal import emit, say, write

app = typer.Typer(
    help="Let clients on other machines in, and out again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The client's, as laptop or studio-2.")]


@app.command()
def create(
    name: Name,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="How the client reaches this machine: name or address."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Of --listen, if no daemon runs now.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Else standard output.")
    ] = None,
) -> None:
    """Make a connection file for a client. It holds a secret and is given out only once."""
    from bridge import keys, lifecycle
    from bridge.connection import Endpoints
    from bridge.runtime_dir import config_folder, write_private

    running = lifecycle.find()
    if port is not None:
        endpoints = Endpoints.listening(f"tcp://0.0.0.0:{port}")  # wherever that is
    elif running is not None and running.tcp is not None:
        endpoints = running.tcp
    else:
        raise UsageError(
            "no daemon listens for other machines; start one with `audiosr-bridge daemon start"
            " --listen tcp://HOST:PORT`, or give --host and --port"
        )
    if host is not None:
        endpoints = endpoints.at(host)
    if output is not None and os.path.lexists(output):
        raise OutputExistsError(f"{output} exists already; choose another name")
    text = keys.create(config_folder(), name, endpoints)
    if output is None:
        write(text.rstrip("\n"))
        return
    try:
        write_private(output, text.encode(), replace=False)
    except BaseException as error:
        keys.revoke(config_folder(), name)  # nobody has it
        if isinstance(error, FileExistsError):
            raise OutputExistsError(f"{output} exists already; choose another name") from error
        raise
    say(f"{output} lets {name} in at {endpoints.control}; bring it there by a safe way")
    if running is not None and any(one.endswith(":0") for one in lifecycle.arguments_of(running)):
        say("note: this port is another one after the next start; choose one with --listen")


@app.command("list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a client.")] = False,
) -> None:
    """List the clients that may come in."""
    from bridge import keys
    from bridge.runtime_dir import config_folder

    for client in keys.clients(config_folder()):
        if json:
            emit({"name": client.name, "created": client.created, "public": client.public})
        else:
            write(f"{client.name:32} {client.created}")


@app.command()
def revoke(name: Name) -> None:
    """Let a client in no more; a daemon that runs knows at once."""
    from bridge import keys
    from bridge.runtime_dir import config_folder

    keys.revoke(config_folder(), name)
    say(f"{name} is let in no more")
