"""`audiosr-bridge extend`: files in, the same files with their missing high band out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiosr_core.errors import FileError, UsageError
from audiosr_core.settings import Settings
from bridge.jobs import ANALYSIS
from plugin_host.child import Tell
from plugin_host.cli.batch import Report, for_each
from plugin_host.cli.flags import (
    Connection,
    Daemon,
    Device,
    DryRun,
    InPlace,
    JsonLines,
    Output,
    Overwrite,
    Precision,
    Preset,
    Quiet,
    Sources,
)
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.region import parse_region
from plugin_host.cli.targets import Namer, check_distinct, check_report, plan_targets
from plugin_host.cli.terminal import counted, emit, note, say
from plugin_host.place import Place, Where

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike

_KEEPS_OVERS = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Request:
    """What all files of one call share."""

    settings: Settings
    where: Where
    region: tuple[float, float] | None = None  # seconds
    overwrite: bool = False
    in_place: bool = False
    dry_run: bool = False
    delta: bool = False
    html: Path | None = None
    json: bool = False
    quiet: bool = False


def extend(
    inputs: Sources,
    output: Output = None,
    preset: Preset = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="START:END",
            help="Extend only this region, in seconds or mm:ss.s; all else stays as it is.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    in_place: InPlace = False,
    dry_run: DryRun = False,
    delta: Annotated[
        bool,
        typer.Option(
            "--delta", help="Write only what is added: with the original it makes the extended."
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with facts and pictures of every file."),
    ] = None,
    json: JsonLines = False,
    quiet: Quiet = False,
    device: Device = None,
    precision: Precision = None,
    daemon: Daemon = None,
    connection: Connection = None,
    **knobs: Any,
) -> None:
    """Restore the missing high band of sound files."""
    request = Request(
        settings=settings_of(preset, knobs),
        region=None if region is None else parse_region(region),
        overwrite=overwrite,
        in_place=in_place,
        dry_run=dry_run,
        delta=delta,
        html=html,
        json=json,
        quiet=quiet,
        where=Where(device, precision, daemon, connection),
    )
    if in_place and output is not None:
        raise UsageError("--in-place writes over the input, so it takes no -o; leave one out")
    check_distinct(inputs)
    raise typer.Exit(extend_all(inputs, output, request))


def extend_all(
    sources: Sequence[Path], output: str | None, request: Request, name: Namer | None = None
) -> int:
    """Extend each file; one that fails stops no other. Returns the exit code.

    Args:
        name: what becomes of a source's name; None for the usual
    """
    from audiosr_core.extend_file import default_target

    targets: list[Path | FileError] = [*sources]
    if not request.in_place:
        namer = name or partial(default_target, word="delta" if request.delta else "extended")
        targets = plan_targets(sources, output, namer, make=not request.dry_run)
    check_report(request.html, sources)
    with Place(request.where, "audiosr-bridge extend", note) as place:
        reports, code = for_each(
            sources,
            targets,
            partial(_extend_one, request=request, place=place),
            partial(_tell_report, request=request),
            json=request.json,
            quiet=request.quiet,
            since=ANALYSIS,
        )
    if request.html is not None:
        from plugin_host.cli import pages
        from plugin_host.page import write_page

        done = sum("error" not in report for report in reports)
        whole = len(reports) if done == len(reports) else f"{done} of {len(reports)}"
        write_page(request.html, f"{whole} files extended", [*map(pages.extended, reports)])
    return code


def _extend_one(source: Path, target: Path, tell: Tell, request: Request, place: Place) -> Report:
    from audiosr_core.extend_file import extend_file

    def extended(engine: EngineLike) -> Report:
        return extend_file(
            source,
            target,
            request.settings,
            region=request.region,
            overwrite=request.overwrite,
            in_place=request.in_place,
            dry_run=request.dry_run,
            delta=request.delta,
            on_progress=tell,
            engine=engine,
        ).as_dict()

    return place.attempt(extended)


def _tell_report(report: Report, request: Request) -> None:
    if not request.quiet:
        say(_sentence(report))
        for text in filter(None, dict.fromkeys([report.get("note"), *(report.get("notes") or ())])):
            say(f"  note: {text}")
        if report.get("overs"):
            say(f"  note: {_overs(report)}")
    if request.json:
        emit(report)


def _sentence(report: Report) -> str:
    """What was done to one file, on one line."""
    if not report["extended"]:
        what = "nothing to add"
    elif report.get("cutoff_hz") is not None:
        what = f"cutoff {report['cutoff_hz'] / 1000:.2f} kHz, {report['model']}"
    else:
        what = str(report["model"])
    speed = report.get("real_time_factor")
    took = f", {report['seconds']:.1f} s" if report.get("seconds") is not None else ""
    took += f" ({speed:.3g} of real time)" if speed else ""
    arrow = "would become" if report.get("dry_run") else "->"
    rate = report["sample_rate"]
    return f"{report['input']} {arrow} {report['output']}: {what}, {rate} Hz{took}"


def _overs(report: Report) -> str:
    """What became of samples over full scale, and what to do about it."""
    count = f"{counted(report['overs'], 'sample')} over full scale"
    if report["sample_format"] in _KEEPS_OVERS:
        return f"{count}, kept as they are"
    return f"{count}, clipped; a lower --mix or --gain-hf-db, or a float file, avoids it"
