"""`audiosr-bridge render`: whole files through a chain of plugins and super-resolution."""

from __future__ import annotations

import contextlib
import functools
import json as json_text
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from audiosr_core.containers.temporary import write_whole
from audiosr_core.errors import (
    EXIT_INTERRUPTED,
    AudioSRError,
    DeviceError,
    FileError,
    UsageError,
)
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.outcome import exit_code, tell_failure
from plugin_host.cli.targets import check_distinct, plan_targets
from plugin_host.cli.terminal import counted, emit, finite, interrupted, note, printable, say
from plugin_host.errors import PluginError
from plugin_host.place import Place, Where

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike
    from plugin_host.chain import Chain
    from plugin_host.page import Item

STALL_SECONDS = 900.0  # a process that tells nothing for so long does nothing
LOOK_SECONDS = 0.2  # between two looks at its progress
STOP_SECONDS = 10.0

Tell = Callable[[float], None]
Report = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What all files of one call share."""

    chain: Path
    tail_seconds: float
    dither: bool
    overwrite: bool
    in_place: bool
    dry_run: bool
    json: bool
    quiet: bool
    report: Path | None
    html: Path | None
    where: Where


def render(
    chain: Annotated[Path, typer.Argument(metavar="CHAIN.toml", help="What to do, step by step.")],
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
    tail: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How much of what sounds on after the end is kept."),
    ] = 0.0,
    no_dither: Annotated[
        bool, typer.Option("--no-dither", help="Round to integers, without dither.")
    ] = False,
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
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All reports as one JSON file.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All reports as a page to look at.")
    ] = None,
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
) -> None:
    """Render files through a chain: their length, format and metadata are kept."""
    if in_place and output is not None:
        raise UsageError("--in-place writes over the input, so it takes no -o; leave one out")
    check_distinct(inputs)
    request = Request(
        chain=chain,
        tail_seconds=tail,
        dither=not no_dither,
        overwrite=overwrite,
        in_place=in_place,
        dry_run=dry_run,
        json=json,
        quiet=quiet,
        report=report,
        html=html,
        where=Where(device, precision, daemon, connection),
    )
    raise typer.Exit(render_all(inputs, output, request))


def render_all(sources: Sequence[Path], output: str | None, request: Request) -> int:
    """Render each file; one that fails stops no other. Returns the exit code."""
    from audiosr_core.extend_file import default_target
    from audiosr_core.files import check_folder

    if request.report is not None:
        check_folder(request.report)
    if request.html is not None:
        from plugin_host.cli.batch_page import check_page

        check_page(request.html)
    targets: list[Path | FileError]
    if request.in_place:
        targets = [*sources]
    else:
        name = functools.partial(default_target, word="rendered")
        targets = plan_targets(sources, output, name, make=not request.dry_run)
    failures: list[int] = []
    reports: list[Report] = []
    with _renderer(request) as renderer, bars(request.quiet) as progress:
        batch = progress.add_task(
            "all", total=len(sources), visible=len(sources) > 1, left=Left(0.0)
        )
        for done, (source, target) in enumerate(zip(sources, targets, strict=True)):
            task = progress.add_task(printable(source.name), total=1.0, left=Left(0.0))

            def tell(fraction: float, task: Any = task, done: int = done) -> None:
                progress.update(task, completed=fraction)
                progress.update(batch, completed=done + fraction)

            try:
                if isinstance(target, FileError):
                    raise target
                made = renderer.render(source, target, tell)
            except AudioSRError as error:
                if interrupted.is_set():
                    raise KeyboardInterrupt from error
                failures.append(error.exit_code)
                reports.append(
                    {"input": str(source), "error": str(error), "exit_code": error.exit_code}
                )
                tell_failure(source, error, request.json)
            else:
                reports.append(made)
                _tell_report(made, request)
            progress.remove_task(task)
            progress.update(batch, completed=done + 1)
    if len(sources) > 1 and failures:
        say(f"{len(failures)} of {len(sources)} files failed")
    _write_reports(reports, request)
    return exit_code(failures, len(sources))


# ---- where files are rendered


class Renderer(Protocol):
    """What renders the files of one call."""

    def render(self, source: Path, target: Path, tell: Tell) -> Report: ...


@contextlib.contextmanager
def _renderer(request: Request) -> Iterator[Renderer]:
    """This process; or, where plugins of others are in the chain, one that may die."""
    from plugin_host.chain_file import load_chain

    chain = load_chain(request.chain, note=note)
    with contextlib.ExitStack() as stack:
        if _holds_foreign(chain):
            stack.enter_context(child := _Child(request))
            yield child
        else:
            stack.enter_context(chain)
            yield _Here(chain, request, stack)


def _holds_foreign(chain: Chain) -> bool:
    """Whether there is code in the chain that neither we nor pedalboard answer for."""
    import pedalboard

    from plugin_host.super_resolution import SuperResolution

    def is_foreign(step: Any) -> bool:
        if isinstance(step, pedalboard.PluginContainer):
            return any(map(is_foreign, step))
        if isinstance(step, pedalboard.Plugin):
            return isinstance(step, pedalboard.ExternalPlugin)
        return not isinstance(step, SuperResolution)

    groups = chain.groups()
    return any(map(is_foreign, (s for g in groups for s in (g if isinstance(g, list) else [g]))))


class _Here:
    """Renders in this process."""

    def __init__(self, chain: Chain, request: Request, stack: contextlib.ExitStack) -> None:
        self._chain, self._request = chain, request
        self._place = _place(chain, request.where)
        if self._place is not None:
            stack.enter_context(self._place)

    def render(self, source: Path, target: Path, tell: Tell) -> Report:
        from plugin_host.render_file import render

        request = self._request

        def rendered(engine: EngineLike | None) -> Report:
            return render(
                self._chain,
                source,
                target,
                tail_seconds=request.tail_seconds,
                dither=request.dither,
                overwrite=request.overwrite,
                in_place=request.in_place,
                dry_run=request.dry_run,
                on_progress=tell,
                engine=engine,
            ).as_dict()

        try:
            return rendered(None) if self._place is None else self._place.attempt(rendered)
        except MemoryError as error:
            raise DeviceError(
                "there is not enough memory; close other programs and retry"
            ) from error
        except OSError as error:
            raise FileError(f"{error.filename or source}: {error.strerror or error}") from error


def _place(chain: Chain, where: Where) -> Place | None:
    """As the flags say; without any, as the chain says; where it says nothing, by default."""
    from plugin_host.super_resolution import SuperResolution

    said = [one.where for one in chain.groups() if isinstance(one, SuperResolution)]
    if not said or (where == Where() and any(one != Where() for one in said)):
        return None
    return Place(where, "audiosr-bridge render", note)


@dataclass(frozen=True)
class _Failure:
    """An error of the core, as it comes from another process."""

    text: str
    exit_code: int

    def raised(self) -> AudioSRError:
        error = AudioSRError(self.text)
        error.exit_code = self.exit_code
        return error


class _Child:
    """Renders in a process of its own, file after file; a new one takes over where it dies."""

    def __init__(self, request: Request) -> None:
        from pebble import ProcessPool

        self._request = request
        context = multiprocessing.get_context("spawn")
        self._told = context.RawArray("d", 2)  # the fraction, and how often it was told
        self._pool: Any = ProcessPool(
            max_workers=1, context=context, initializer=_begin, initargs=(self._told,)
        )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        with contextlib.suppress(TimeoutError):
            self._pool.join(STOP_SECONDS)

    def render(self, source: Path, target: Path, tell: Tell) -> Report:
        from pebble import ProcessExpired

        others = _parts(target)
        self._told[0] = 0.0
        future = self._pool.schedule(_render_there, args=[self._request, source, target])
        try:
            made = self._waited(future, tell)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                self._pool.stop()
                self._pool.join(STOP_SECONDS)
            for part in _parts(target) - others:  # it had no time to do it
                part.unlink(missing_ok=True)
            if isinstance(error, ProcessExpired):
                raise PluginError(
                    f"a plugin crashed while {source} was rendered ({_cause(error.exitcode)});"
                    " nothing was written; leave it out, or try another version of it"
                ) from error
            raise
        if isinstance(made, _Failure):
            raise made.raised()
        return made

    def _waited(self, future: Any, tell: Tell) -> Report | _Failure:
        told, since = -1.0, time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                made: Report | _Failure = future.result(LOOK_SECONDS)
                return made
            tell(self._told[0])
            if self._told[1] != told:
                told, since = self._told[1], time.monotonic()
            elif time.monotonic() > since + STALL_SECONDS:
                future.cancel()
                raise PluginError(
                    f"a plugin gave no sign for {STALL_SECONDS / 60:.0f} min and was ended;"
                    " leave it out"
                )


_told: Any = None  # of the process that `_begin` began


def _begin(told: Any) -> None:
    """In the child."""
    global _told
    _told = told


def _render_there(request: Request, source: Path, target: Path) -> Report | _Failure:
    """In the child."""

    def tell(fraction: float) -> None:
        _told[0] = fraction
        _told[1] += 1

    idle = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that `with`s are left
    try:
        return _renderer_there(request).render(source, target, tell)
    except AudioSRError as error:
        return _Failure(str(error), error.exit_code)
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, idle)


@functools.lru_cache(maxsize=1)
def _renderer_there(request: Request) -> _Here:
    from plugin_host.chain_file import load_chain

    return _Here(load_chain(request.chain), request, contextlib.ExitStack())


def _parts(target: Path) -> set[Path]:
    """Hidden files of outputs that are not whole yet."""
    real = Path(os.path.realpath(target))
    with contextlib.suppress(OSError):
        start, names = f".{real.name[:40]}.", os.listdir(real.parent)
        return {real.parent / n for n in names if n.startswith(start) and n.endswith(".part")}
    return set()


def _cause(code: int | None) -> str:
    with contextlib.suppress(ValueError, TypeError):
        return signal.Signals(-(code or 0)).name
    return f"exit code {code}"


# ---- what is told


def _tell_report(report: Report, request: Request) -> None:
    if not request.quiet:
        say(_sentence(report))
        for text in report["notes"]:
            say(f"  note: {text}")
        if report["overs"]:
            kept = "kept" if report["sample_format"] in ("FLOAT", "DOUBLE") else "clipped"
            count = counted(report["overs"], "sample")
            say(f"  note: {count} over full scale, {kept}; a limiter at the end avoids it")
    if request.json:
        emit(report)


def _sentence(report: Report) -> str:
    """What was done to one file, on one line."""
    arrow = "would become" if report["dry_run"] else "->"
    facts = _facts(report)
    wanted = ("loudness", "true peak", "cutoff", "null")
    told = [f"{name} {facts[name]}" for name in wanted if name in facts]
    kept = f"; the original is {Path(report['backup']).name}" if report["backup"] else ""
    said = f"{', '.join(told)}; {facts['took']}{kept}"
    return f"{report['input']} {arrow} {report['output']}: {said}"


def _facts(report: Report) -> dict[str, str]:
    """What people want to know, in words."""
    arrow = " -> "
    lufs = [report["loudness_before_lufs"], report["loudness_after_lufs"]]
    peaks = [report["true_peak_before_db"], report["true_peak_after_db"]]
    facts = {
        "loudness": arrow.join(f"{v:.1f} LUFS" for v in lufs if v is not None),
        "true peak": arrow.join(f"{v:.1f} dBTP" for v in peaks if v is not None),
    }
    if report["full_band"]:
        facts["cutoff"] = "none"
    elif report["cutoff_hz"] is not None:
        facts["cutoff"] = f"{report['cutoff_hz'] / 1000:.2f} kHz"
    if report["null_residual_db"] is not None and not report["full_band"]:
        below = f"below {report['crossover_hz'] / 1000:.2f} kHz"
        facts["null"] = f"{report['null_residual_db']:.1f} dB {below}"
    facts["format"] = f"{report['sample_rate']} Hz, {report['sample_format']}"
    facts["took"] = f"{report['seconds']:.1f} s ({report['real_time_factor']:.3g} of real time)"
    return facts


def _write_reports(reports: Sequence[Report], request: Request) -> None:
    if request.report is not None:
        text = json_text.dumps(finite({"chain": request.chain, "files": reports}), default=str)
        write_whole(request.report, text.encode() + b"\n", overwrite=True)
    if request.html is not None:
        from plugin_host.page import write_page

        items = [_item(report) for report in reports]
        write_page(request.html, f"Rendered through {request.chain.name}", items)


def _item(report: Report) -> Item:
    from plugin_host.page import Item

    if "error" in report:
        return Item(report["input"], {"result": "failed"}, notes=[report["error"]])
    pictures, notes = [], list(report["notes"])
    if not report["dry_run"] and report["num_samples"]:
        try:
            pictures.append(_picture(report))
        except AudioSRError as error:  # no library for pictures, or a file that has gone
            notes.append(str(error))
    result = "measured" if report["dry_run"] else "rendered"
    return Item(report["output"], {"result": result, **_facts(report)}, pictures, notes)


def _picture(report: Report) -> bytes:
    from audiosr_core.evaluation.compare import picture_of
    from audiosr_core.files import Reader
    from plugin_host.pictures import grid

    found = {}
    before = report["backup"] or report["input"]
    for name, path in {"before": before, "after": report["output"]}.items():
        with Reader(path) as reader:
            found[name] = picture_of(reader)
    return grid(found, report["cutoff_hz"])
