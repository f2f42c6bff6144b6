"""`audiosr-bridge compare`: what changed between two files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plugin_host.cli.terminal import emit, say


def compare(
    original: Annotated[Path, typer.Argument(metavar="A", help="The original.")],
    extended: Annotated[Path, typer.Argument(metavar="B", help="What became of it.")],
    cutoff: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            min=1.0,
            help="Where the original ends; without it the whole band is compared.",
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw both spectrograms here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Compare two files: residual below the crossover, distance, level, length."""
    from audiosr_core.evaluation.compare import compare_files

    found = compare_files(original, extended, cutoff_hz=cutoff, png=png).as_dict()
    if json:
        emit(found)
        return
    for key, value in found.items():
        say(f"{key.replace('_', ' ')}: {value:.6g}" if isinstance(value, float)
            else f"{key.replace('_', ' ')}: {value}")  # fmt: skip
