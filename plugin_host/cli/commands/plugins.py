"""`audiosr-bridge plugins`: which plugins of others there are, and what can be turned on one."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from plugin_host.cli.flags import Json
from plugin_host.cli.terminal import emit, write

if TYPE_CHECKING:
    from plugin_host.parameter import Parameter

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # a drive has one letter

app = typer.Typer(
    no_args_is_help=True, help="Plugins of others, for chains; ours for DAWs is `plugin`."
)


@app.command("list")
def list_plugins(json: Json = False) -> None:
    """List the VST3 plugins that a chain finds by name; `lv2ls` lists those of LV2."""
    from plugin_host.plugins import installed

    for path in installed():
        if json:
            emit({"name": path.stem, "path": str(path)})
        else:
            write(f"{path.stem:24} {path}")


@app.command()
def show(
    plugin: Annotated[
        str, typer.Argument(metavar="NAME|FILE|URI", help="A VST3 plugin, or the URI of an LV2.")
    ],
    json: Json = False,
) -> None:
    """Show the parameters of one plugin, as chain files name them."""
    for one in _parameters(plugin):
        if json:
            emit(asdict(one))
        else:
            write(f"{one.name:28} {_range(one):32} {_text(one.value)}")


def _parameters(plugin: str) -> list[Parameter]:
    if _URI.match(plugin):
        from plugin_host.lv2 import Lv2Plugin

        return Lv2Plugin(plugin).all_parameters()
    from plugin_host.plugins import load_plugin, parameters_of

    return parameters_of(load_plugin(plugin))


def _range(one: Parameter) -> str:
    if one.words:
        return "|".join(one.words)
    if one.minimum is None or one.maximum is None:
        return "true|false" if isinstance(one.value, bool) else ""
    return f"{one.minimum:.6g} to {one.maximum:.6g} {one.unit}".rstrip()


def _text(value: float | bool | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
