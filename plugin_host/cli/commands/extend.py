"""`audiosr-bridge extend`: files in, the same files with their missing high band out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiosr_core.errors import AudioSRError, DeviceError, FileError, UsageError
from audiosr_core.settings import Settings
from bridge.jobs import ANALYSIS
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.outcome import exit_code, tell_failure
from plugin_host.cli.region import parse_region
from plugin_host.cli.targets import Namer, check_distinct, plan_targets
from plugin_host.cli.terminal import emit, interrupted, note, printable, say
from plugin_host.place import Place, Where

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike

_KEEPS_OVERS = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Request:
    """What all files of one call share."""

    settings: Settings
    region: tuple[float, float] | None  # seconds
    overwrite: bool
    in_place: bool
    dry_run: bool
    json: bool
    quiet: bool
    where: Where
    delta: bool = False
    html: Path | None = None


def extend(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN...", readable=False, help="Sound files.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT|DIR",
            help="A file; or a folder: an existing one, a name ending in /, or many inputs."
            " Without it, a new file beside each input.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Start from this preset; flags win over it."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="START:END",
            help="Extend only this region, in seconds or mm:ss.s; all else stays as it is.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs.")] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Replace the input; a backup is kept beside it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure and decide, write nothing.")
    ] = False,
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
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only errors.")] = False,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|cuda[:N]|mps",
            help="Where a large model runs, in this process (default: auto).",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="auto|fp32|bf16|fp16",
            help="In which numbers it computes, in this process (default: auto).",
        ),
    ] = None,
    daemon: Annotated[
        bool | None,
        typer.Option(
            "--daemon/--no-daemon",
            help="Compute in the daemon, which is started if need be, or in this process."
            " Without either, in the daemon if it runs; the samples are the same.",
            show_default=False,
        ),
    ] = None,
    connection: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Compute in the daemon of this connection file, anywhere."
        ),
    ] = None,
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

    targets: list[Path | FileError | None]
    if request.in_place:
        targets = [None] * len(sources)
    else:
        namer = name or partial(default_target, word="delta" if request.delta else "extended")
        targets = [*plan_targets(sources, output, namer, make=not request.dry_run)]
    failures: list[int] = []
    reports: list[dict[str, Any]] = []
    with (
        Place(request.where, "audiosr-bridge extend", note) as place,
        bars(request.quiet) as progress,
    ):
        batch = progress.add_task(
            "all", total=len(sources), visible=len(sources) > 1, left=Left(0.0)
        )
        for done, (source, target) in enumerate(zip(sources, targets, strict=True)):
            task = progress.add_task(printable(source.name), total=1.0, left=Left(ANALYSIS))

            def tell(fraction: float, task: Any = task, done: int = done) -> None:
                progress.update(task, completed=fraction)
                progress.update(batch, completed=done + fraction)

            try:
                if isinstance(target, FileError):
                    raise target
                report = _extend_one(source, target, request, tell, place)
            except AudioSRError as error:
                if interrupted.is_set():
                    raise KeyboardInterrupt from error
                failures.append(error.exit_code)
                reports.append({"input": str(source), "error": str(error)})
                tell_failure(source, error, request.json)
            else:
                reports.append(report)
                _tell_report(report, request)
            progress.remove_task(task)
            progress.update(batch, completed=done + 1)
    if len(sources) > 1 and failures:
        say(f"{len(failures)} of {len(sources)} files failed")
    if request.html is not None:
        from plugin_host.cli.batch_page import write_batch_page

        write_batch_page(request.html, reports)
    return exit_code(failures, len(sources))


def _extend_one(
    source: Path, target: Path | None, request: Request, tell: Any, place: Place
) -> dict[str, Any]:
    from audiosr_core.extend_file import extend_file

    def extended(engine: EngineLike) -> dict[str, Any]:
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

    try:
        return place.attempt(extended)
    except MemoryError as error:
        raise DeviceError("there is not enough memory; close other programs and retry") from error
    except OSError as error:
        raise FileError(f"{error.filename or source}: {error.strerror or error}") from error


def _tell_report(report: dict[str, Any], request: Request) -> None:
    if not request.quiet:
        say(_sentence(report))
        for text in filter(None, dict.fromkeys([report.get("note"), *(report.get("notes") or ())])):
            say(f"  note: {text}")
        if report.get("overs"):
            say(f"  note: {_overs(report)}")
    if request.json:
        emit(report)


def _sentence(report: dict[str, Any]) -> str:
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


def _overs(report: dict[str, Any]) -> str:
    """What became of samples over full scale, and what to do about it."""
    count = f"{report['overs']} samples are over full scale"
    if report["sample_format"] in _KEEPS_OVERS:
        return f"{count} and kept as they are"
    return f"{count} and were clipped; a lower --mix or --gain-hf-db, or a float file, avoids it"
