"""`audiosr-bridge extend`: files in, the same files with their missing high band out."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from audiosr_core.errors import (
    EXIT_FAILED,
    EXIT_OK,
    AudioSRError,
    DeviceError,
    FileError,
    UsageError,
)
from audiosr_core.settings import Settings
from bridge.errors import NoDaemonError
from bridge.jobs import ANALYSIS, Eta
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.region import parse_region
from plugin_host.cli.targets import check_distinct, plan_targets
from plugin_host.cli.terminal import console, emit, interrupted, printable, say

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike

_KEEPS_OVERS = ("FLOAT", "DOUBLE")
START_SECONDS = 20.0  # for a daemon that was asked for
ANSWER_SECONDS = 3.0  # for one that happens to run


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
    device: str | None = None
    precision: str | None = None
    daemon: bool | None = None  # None: if one runs
    connection: Path | None = None  # of another daemon


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
        json=json,
        quiet=quiet,
        device=device,
        precision=precision,
        daemon=daemon,
        connection=connection,
    )
    _check_place(request)
    if in_place and output is not None:
        raise UsageError("--in-place writes over the input, so it takes no -o; leave one out")
    check_distinct(inputs)
    raise typer.Exit(extend_all(inputs, output, request))


def extend_all(sources: Sequence[Path], output: str | None, request: Request) -> int:
    """Extend each file; one that fails stops no other. Returns the exit code."""
    from audiosr_core.extend_file import default_target

    targets: list[Path | FileError | None]
    if request.in_place:
        targets = [None] * len(sources)
    else:
        targets = [*plan_targets(sources, output, default_target, make=not request.dry_run)]
    failures: list[int] = []
    with _Place(request) as place, _progress(request) as progress:
        batch = progress.add_task(
            "all", total=len(sources), visible=len(sources) > 1, left=_Left(0.0)
        )
        for done, (source, target) in enumerate(zip(sources, targets, strict=True)):
            task = progress.add_task(printable(source.name), total=1.0, left=_Left(ANALYSIS))

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
                _tell_failure(source, error, request)
            else:
                _tell_report(report, request)
            progress.remove_task(task)
            progress.update(batch, completed=done + 1)
    if len(sources) > 1 and failures:
        say(f"{len(failures)} of {len(sources)} files failed")
    return _exit_code(failures, len(sources))


def _check_place(request: Request) -> None:
    """Raise UsageError where the flags contradict each other on where to compute."""
    if request.connection is not None and request.daemon is False:
        raise UsageError("--connection names a daemon and --no-daemon wants none; leave one out")
    chosen = request.device is not None or request.precision is not None
    if chosen and (request.daemon or request.connection is not None):
        raise UsageError(
            "the device is the daemon's; leave out --device and --precision, or say --no-daemon"
        )


class _Place(contextlib.ExitStack):
    """Where to compute: the daemon that was asked for, or one that runs, or this process."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        insists = bool(request.daemon) or request.connection is not None
        chosen = request.device is not None or request.precision is not None
        here = request.daemon is False or (chosen and not insists)
        found = None if here else _daemon_engine(request, insists, self.callback)
        self.engine: EngineLike = self._here() if found is None else found

    def without_daemon(self, error: NoDaemonError) -> bool:
        """The daemon went away; whether `engine` is now one with which to try again."""
        if self._request.connection is not None:
            return False
        if self._request.daemon:  # the client starts another
            say(f"note: {error.args[0]}; trying once more")
        else:
            say(f"note: {error.args[0]}; computing in this process")
            self.engine = self._here()
        return True

    def _here(self) -> EngineLike:
        from audiosr_core.engine import Engine

        return Engine(self._request.device or "auto", self._request.precision or "auto")


def _daemon_engine(
    request: Request, wanted: bool, at_end: Callable[[Callable[[], None]], Any]
) -> EngineLike | None:
    """The daemon's engine; None if none runs, or it does not answer and nobody insists on it."""
    from bridge import lifecycle

    try:
        named = request.connection or os.environ.get("AUDIOSR_BRIDGE_CONNECTION")
        if not wanted and not named and lifecycle.find() is None:
            return None
        from bridge.client import connect
        from bridge.remote import RemoteEngine

        client = connect(
            request.connection,
            start=bool(request.daemon),
            timeout_seconds=START_SECONDS if wanted else ANSWER_SECONDS,
            name="audiosr-bridge extend",
        )
    except AudioSRError as error:
        if wanted:
            raise
        say(f"note: {error}; computing in this process")
        return None
    at_end(client.close)
    return RemoteEngine(client)


def _extend_one(
    source: Path, target: Path | None, request: Request, tell: Any, place: _Place
) -> dict[str, Any]:
    from audiosr_core.extend_file import extend_file

    def extended() -> dict[str, Any]:
        return extend_file(
            source,
            target,
            request.settings,
            region=request.region,
            overwrite=request.overwrite,
            in_place=request.in_place,
            dry_run=request.dry_run,
            on_progress=tell,
            engine=place.engine,
        ).as_dict()

    try:
        try:
            return extended()
        except NoDaemonError as error:
            if not place.without_daemon(error):
                raise
            return extended()
    except MemoryError as error:
        raise DeviceError("there is not enough memory; close other programs and retry") from error
    except OSError as error:
        raise FileError(f"{error.filename or source}: {error.strerror or error}") from error


def _exit_code(failures: Sequence[int], num_files: int) -> int:
    """All failed alike: that code (a model is missing for every file); else 1."""
    if not failures:
        return EXIT_OK
    alike = len(failures) == num_files and len(set(failures)) == 1
    return failures[0] if alike else EXIT_FAILED


def _tell_failure(source: Path, error: AudioSRError, request: Request) -> None:
    text = str(error)
    named = str(source) in text
    say(f"error: {text}" if named else f"error: {source}: {text}", "red")
    if request.json:
        emit({"input": str(source), "error": text, "exit_code": error.exit_code})


def _tell_report(report: dict[str, Any], request: Request) -> None:
    if not request.quiet:
        say(_sentence(report))
        for note in dict.fromkeys([report.get("note"), *(report.get("notes") or ())]):
            if not note:
                continue
            say(f"  note: {note}")
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


def _progress(request: Request) -> Progress:
    terminal = console()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        _LeftColumn(),
        console=terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=request.quiet or not terminal.is_terminal,
    )


class _Left:
    """How long one row will still take; counted down where nothing new is known.

    Args:
        since: the fraction from which on the speed is that of the rest
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self._eta = Eta()
        self._told = -1.0  # the fraction that was known last, and when
        self._told_at = 0.0

    def seconds(self, fraction: float, now: float) -> float | None:
        """Args: fraction: done; now: monotonic seconds."""
        if fraction < self._since:
            return None
        if fraction != self._told:
            self._told, self._told_at = fraction, now
        then = self._eta.seconds(fraction, self._told_at)
        return None if then is None else max(0.0, then - (now - self._told_at))


class _LeftColumn(ProgressColumn):
    """What is left of the time, as 0:01:23."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        total = task.total or 1.0
        left = task.fields["left"].seconds(task.completed / total, time.monotonic())
        text = "-:--:--" if left is None else str(timedelta(seconds=round(left)))
        return Text(text, style="progress.remaining")
