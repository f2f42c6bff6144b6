"""Flags that several commands have: `device: Device = None`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[
    list[Path], typer.Argument(metavar="IN...", readable=False, help="Sound files.")
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT|DIR",
        help="A file; or a folder: an existing one, a name ending in /, or many inputs."
        " Without it, a new file beside each input.",
    ),
]
OutputFolder = Annotated[
    str | None, typer.Option("-o", "--output", metavar="DIR", help="Without it, beside the input.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs.")]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Replace the input; a backup is kept beside it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Measure and decide, write nothing.")]
Preset = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Start from this preset; flags win over it."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
JsonLines = Annotated[
    bool, typer.Option("--json", help="One JSON object a file on standard output.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only errors.")]

# where to compute: together they are a `Where`

Device = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda[:N]|mps",
        help="Where a large model runs, in this process (default: auto).",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="auto|fp32|bf16|fp16",
        help="In which numbers it computes, in this process (default: auto).",
    ),
]
Daemon = Annotated[
    bool | None,
    typer.Option(
        "--daemon/--no-daemon",
        help="Compute in the daemon, which is started if need be, or in this process."
        " Without either, in the daemon if it runs; the samples are the same.",
        show_default=False,
    ),
]
Connection = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Compute in the daemon of this connection file, anywhere."),
]
