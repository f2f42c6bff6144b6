"""`audiosr-bridge render`: whole files through a chain of plugins and super-resolution."""

from __future__ import annotations

import contextlib
import functools
import json as json_text
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from audiosr_core.containers.temporary import discard_orphans, write_whole
from audiosr_core.errors import AudioSRError, FileError, UsageError
from plugin_host.child import Child, Died, Outcome, Tell, Work
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
    Quiet,
    Sources,
)
from plugin_host.cli.targets import check_distinct, check_report, plan_targets
from plugin_host.cli.terminal import counted, emit, finite, note, say
from plugin_host.errors import PluginError
from plugin_host.place import Place, Where

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike
    from plugin_host.chain import Chain

STALL_SECONDS = 900.0  # a process that tells nothing for so long does nothing


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
    inputs: Sources,
    output: Output = None,
    tail: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How much of what sounds on after the end is kept."),
    ] = 0.0,
    no_dither: Annotated[
        bool, typer.Option("--no-dither", help="Round to integers, without dither.")
    ] = False,
    overwrite: Overwrite = False,
    in_place: InPlace = False,
    dry_run: DryRun = False,
    json: JsonLines = False,
    quiet: Quiet = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All reports as one JSON file.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All reports as a page to look at.")
    ] = None,
    device: Device = None,
    precision: Precision = None,
    daemon: Daemon = None,
    connection: Connection = None,
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

    targets: list[Path | FileError] = [*sources]
    if not request.in_place:
        name = functools.partial(default_target, word="rendered")
        targets = plan_targets(sources, output, name, make=not request.dry_run)
    for path in (request.report, request.html):
        check_report(path, [request.chain, *sources])
    with _renderer(request) as renderer:
        reports, code = for_each(
            sources,
            targets,
            renderer.render,
            functools.partial(_tell_report, request=request),
            json=request.json,
            quiet=request.quiet,
        )
    _write_reports(reports, request)
    return code


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
            yield stack.enter_context(_There(request))
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

        return rendered(None) if self._place is None else self._place.attempt(rendered)


def _place(chain: Chain, where: Where) -> Place | None:
    """As the flags say; without any, as the chain says; where it says nothing, by default."""
    from plugin_host.super_resolution import SuperResolution

    said = [one.where for one in chain.groups() if isinstance(one, SuperResolution)]
    if not said or (where == Where() and any(one != Where() for one in said)):
        return None
    return Place(where, "audiosr-bridge render", note)


class _There:
    """Renders in a process of its own, file after file; a new one takes over where it dies."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._child: Child | None = None

    def __enter__(self) -> _There:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave(at_once=kind is not None)

    def render(self, source: Path, target: Path, tell: Tell) -> Report:
        child = self._child = self._child or Child(_rendering, self._request)
        child.give((source, target))
        try:
            while not isinstance(news := _next(child), Outcome):
                tell(news)
        except BaseException as error:
            self._leave(at_once=True)
            discard_orphans(target)  # it may have had no time to do it
            if isinstance(error, Died):
                raise PluginError(
                    f"a plugin crashed while {source} was rendered ({error}); nothing was written;"
                    " leave it out, or try another version of it"
                ) from error
            raise
        if news.error:
            failure = AudioSRError(news.error)
            failure.exit_code = news.exit_code
            raise failure
        return dict(news.report)

    def _leave(self, *, at_once: bool) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.leave(at_once=at_once)
            child.join()


def _next(child: Child) -> float | Outcome:
    if not child.pipe.poll(STALL_SECONDS):
        raise PluginError(
            f"a plugin gave no sign for {STALL_SECONDS / 60:.0f} min and was ended; leave it out"
        )
    return child.hear()


@contextlib.contextmanager
def _rendering(request: Request) -> Iterator[Work]:
    """In the child; the chain is loaded with the first file."""
    from plugin_host.chain_file import load_chain

    with contextlib.ExitStack() as stack:

        @functools.cache
        def here() -> _Here:
            return _Here(stack.enter_context(load_chain(request.chain)), request, stack)

        def work(files: tuple[Path, Path], tell: Tell) -> Report:
            return here().render(*files, tell)

        yield work


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


def _facts(report: Mapping[str, Any]) -> dict[str, str]:
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
        from plugin_host.cli import pages
        from plugin_host.page import write_page

        items = [pages.rendered(report, _facts) for report in reports]
        write_page(request.html, f"Rendered through {request.chain.name}", items)
