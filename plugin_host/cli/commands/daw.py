"""temporary"""

from pathlib import Path

import typer

app = typer.Typer()


@app.command("x")
def x() -> None: ...
@app.command("run", hidden=True)
def run(request: Path) -> None:
    """Do what a script in a DAW asks for."""
    from plugin_host.daw.requests import run_request

    run_request(request)
