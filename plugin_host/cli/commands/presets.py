"""`audiosr-bridge presets`: list, show and save settings with a name."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from audiosr_core.presets import (
    Preset,
    is_factory_name,
    list_presets,
    load_preset,
    preset_text,
    save_preset,
)
from plugin_host.cli.knobs import tell_notes, turned, with_knobs
from plugin_host.cli.terminal import emit, say, write

app = typer.Typer(help="List, show and save presets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a preset.")] = False,
) -> None:
    """List the factory's presets and yours."""
    for preset in list_presets():
        if json:
            emit(preset.as_dict())
        else:
            whose = "" if preset.factory else "  (yours)"
            write(f"{preset.name:18} {preset.purpose or preset.description}{whose}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE")],
    json: Annotated[bool, typer.Option("--json", help="JSON instead of TOML.")] = False,
) -> None:
    """Show one preset."""
    preset = tell_notes(load_preset(name))
    if json:
        emit(preset.as_dict())
    else:
        write(preset.text.rstrip("\n"))


def save(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="NAME|FILE", help="Start from this preset.")
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT")] = None,
    purpose: Annotated[
        str | None, typer.Option("--for", metavar="TEXT", help="What it is for.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace yours, or hide the factory's.")
    ] = False,
    **knobs: Any,
) -> None:
    """Save knobs as a preset of yours."""
    changes = turned(knobs)
    base = tell_notes(load_preset(source)) if source else Preset(name)
    preset = dataclasses.replace(
        base,
        name=name,
        description=base.description if description is None else description,
        purpose=base.purpose if purpose is None else purpose,
        overrides={**base.overrides, **changes},
        factory=False,
    )
    preset_text(preset)
    path = save_preset(preset, overwrite=overwrite)
    if is_factory_name(name):
        say(f"note: your {name!r} now hides the factory preset of that name")
    say(f"saved {path}")


app.command("save")(with_knobs(save))
