"""`audiosr-bridge presets`: settings with a name: which there are, what they turn, in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from audiosr_core.errors import AudioSRError, UsageError
from audiosr_core.presets import (
    Preset,
    differences,
    is_factory_name,
    list_presets,
    load_preset,
    read_preset,
    remove_preset,
    save_preset,
)
from audiosr_core.settings import KNOBS, Settings
from plugin_host.cli.knobs import tell_notes, turned, with_knobs
from plugin_host.cli.outcome import exit_code, tell_failure
from plugin_host.cli.targets import output_folder
from plugin_host.cli.terminal import emit, say, write

app = typer.Typer(
    help="List, show, save, import and export presets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace yours, or hide the factory's.")
]


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
    toml: Annotated[bool, typer.Option("--toml", help="The file as it is.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what one preset turns, beside the defaults."""
    if toml and json:
        raise UsageError("show either --toml or --json")
    preset = tell_notes(load_preset(name))
    if json:
        emit(preset.as_dict())
    elif toml:
        write(preset.text.rstrip("\n"))
    else:
        for text in filter(None, (preset.description, preset.purpose and f"for {preset.purpose}")):
            write(text)
        turns = differences(preset.settings(), Settings())
        rows = [(knob, _value(knob, own), _value(knob, old)) for knob, (own, old) in turns.items()]
        _tell_table(("", preset.name, "default"), rows)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A name or a file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="A name or a file.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the knobs on which two presets differ."""
    first, second = tell_notes(load_preset(a)), tell_notes(load_preset(b))
    found = differences(first.settings(), second.settings())
    if json:
        emit({knob: list(pair) for knob, pair in found.items()})
        return
    rows = [(knob, _value(knob, own), _value(knob, other)) for knob, (own, other) in found.items()]
    _tell_table(("", first.name, second.name), rows)


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="TOML or JSON; its name is the preset's."),
    ],
    overwrite: Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Keep the presets in files as yours."""
    failures: list[int] = []
    for file in files:
        try:
            preset = tell_notes(read_preset(file))
            path = save_preset(preset, overwrite=overwrite)
        except AudioSRError as error:
            failures.append(error.exit_code)
            tell_failure(file, error, json)
        else:
            _tell_saved(preset.name, path)
            if json:
                emit({"input": str(file), "name": preset.name, "output": str(path)})
    raise typer.Exit(exit_code(failures, len(files)))


@app.command()
def export(
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="FILE|DIR", help="A .toml file, or a folder for NAME.toml."
        ),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Write presets to files, comments and all."""
    folder = output_folder(output, len(names))
    file = Path(output)
    if folder is None and file.suffix != ".toml":
        raise UsageError(f"a preset's file must end in .toml, and a new folder in /, got {output}")
    for preset in [load_preset(name) for name in dict.fromkeys(names)]:  # all there, or none
        if folder is None:
            preset = dataclasses.replace(preset, name=file.stem)
        path = save_preset(preset, folder or file.parent, overwrite=overwrite)
        say(f"wrote {path}")
        if json:
            emit({"name": preset.name, "output": str(path)})


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Remove a preset of yours."""
    path = remove_preset(name)
    say(f"removed {path}")
    if is_factory_name(name):
        say(f"note: {name!r} is the factory preset of that name again")
    if json:
        emit({"removed": str(path)})


def save(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="NAME|FILE", help="Start from this preset.")
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT")] = None,
    purpose: Annotated[
        str | None, typer.Option("--for", metavar="TEXT", help="What it is for.")
    ] = None,
    overwrite: Overwrite = False,
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
    _tell_saved(name, save_preset(preset, overwrite=overwrite))


app.command("save")(with_knobs(save))


def _tell_saved(name: str, path: Path) -> None:
    if is_factory_name(name):
        say(f"note: your {name!r} now hides the factory preset of that name")
    say(f"saved {path}")


def _value(knob: str, value: Any) -> str:
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    unit = KNOBS[knob].unit
    return text if isinstance(value, str) or not unit else f"{text} {unit}"


def _tell_table(head: tuple[str, str, str], rows: Sequence[tuple[str, str, str]]) -> None:
    if not rows:
        write("no knob differs")
        return
    table = [head, *rows]
    first, second = (max(len(row[i]) for row in table) for i in (0, 1))
    for row in table:
        write(f"{row[0]:{first}}  {row[1]:{second}}  {row[2]}")
