"""`audiosr-bridge models`: which models can be used."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from plugin_host.cli.terminal import emit, write

app = typer.Typer(help="Show the models.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """A group even with one command."""


@app.command("list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a model.")] = False,
) -> None:
    """List the models that can be used."""
    from audiosr_core.store import list_models

    for model in list_models():
        if json:
            emit(_as_dict(model))
        else:
            size = f"{model.num_parameters / 1e6:.1f} M, {model.size_bytes / 1e6:.1f} MB"
            write(f"{model.id:10} {model.family:8} {size:18} {model.licence:8} {model.description}")


def _as_dict(model: Any) -> dict[str, Any]:
    keys = (
        "id", "family", "description", "licence", "sha256", "size_bytes", "num_parameters",
        "embedded", "path",
    )  # fmt: skip
    return {key: getattr(model, key) for key in keys}
