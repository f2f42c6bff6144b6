"""`audiosr-bridge edit`: what a DAW calls as its external editor."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer
from rich.progress import TaskID

from audiosr_core.errors import AudioSRError, UsageError
from audiosr_core.settings import KNOBS, Settings
from bridge.errors import CancelledError
from bridge.jobs import ANALYSIS
from bridge.log import logging_to
from bridge.runtime_dir import state_folder
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.knobs import settings_of
from plugin_host.cli.outcome import exit_code, tell_failure
from plugin_host.cli.targets import check_distinct
from plugin_host.cli.terminal import emit, interrupted, note, printable, say
from plugin_host.errors import ChangedError, WindowError
from plugin_host.place import Place, Where

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike
    from plugin_host.window import Window

LOG = "edit.log"
KEEP, AGAIN, UNDO = "Keep", "Another seed", "Undo"
AS_IT_IS, FROM_ORIGINAL, NOT_AT_ALL = "Edit it as it is", "Start from the original", "Cancel"

Made = TypeVar("Made")
log = logging.getLogger(__name__)


class Screen(Protocol):
    """Where progress is shown and questions are asked: `Window`, or the terminal."""

    def run(self, work: Callable[[], Made]) -> Made: ...
    def begin(self, name: str, detail: str, left: Left) -> None:
        """What is worked on now."""

    def tell(self, fraction: float) -> None:
        """How much of it is done."""

    def ask(self, text: str, choices: Sequence[str]) -> str | None:
        """One of the choices; None for no answer."""


@dataclass(frozen=True)
class Request:
    """What all files of one call share."""

    settings: Settings
    overwrite: bool
    ask: bool
    json: bool
    quiet: bool
    where: Where


def edit(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", readable=False, help="Sound files.")
    ],
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Start from this preset; flags win over it."),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put the original back, bit for bit.")
    ] = False,
    confirm: Annotated[
        bool,
        typer.Option("--confirm", "--keep", help="Keep the file as it is; remove its original."),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Go back to the original, though the file was changed since."
        ),
    ] = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="Afterwards: keep, undo, or another seed?")
    ] = False,
    no_window: Annotated[
        bool, typer.Option("--no-window", help="Only the terminal, though there is a display.")
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
    """Extend sound files in their place, as the external editor of a DAW.

    Each keeps its name, format, rate and length; the original stays beside it until --confirm.
    """
    with contextlib.ExitStack() as stack:
        settles = undo or confirm
        screen = _screen(window=not (no_window or settles), quiet=quiet)
        stack.enter_context(screen)
        stack.enter_context(_shown_and_logged(screen))
        if undo and confirm:
            raise UsageError("--undo and --confirm are opposites; choose one")
        if settles and (preset or ask or any(knobs[name] is not None for name in KNOBS)):
            raise UsageError("--undo and --confirm compute nothing, so they take no settings")
        check_distinct(files)
        if settles:
            raise typer.Exit(_settle_all(files, undo, overwrite, json, quiet))
        if ask and isinstance(screen, _Terminal) and not sys.stdin.isatty():
            raise UsageError("--ask needs a window or a terminal to ask on; leave it out")
        where = Where(device, precision, daemon, connection)
        request = Request(settings_of(preset, knobs), overwrite, ask, json, quiet, where)
        raise typer.Exit(edit_all(files, request, screen))


def edit_all(files: Sequence[Path], request: Request, screen: Screen) -> int:
    """Edit each file; one that fails stops no other. Returns the exit code."""
    failures: list[AudioSRError] = []
    with screen.run(lambda: Place(request.where, "audiosr-bridge edit", note)) as place:
        for file in files:
            try:
                _edit_one(file, request, screen, place)
            except CancelledError:
                raise
            except AudioSRError as error:
                if interrupted.is_set():
                    raise KeyboardInterrupt from error
                failures.append(error)
                tell_failure(file, error, request.json)
                log.error("edit failed", extra={"file": file, "why": error})
    if failures:
        _show(screen, "\n\n".join(map(str, failures)))
    return exit_code([one.exit_code for one in failures], len(files))


def _edit_one(file: Path, request: Request, screen: Screen, place: Place) -> None:
    """Edit one file, with other seeds for as long as somebody asks for them."""
    from plugin_host.edit import confirm, undo

    choice: str | None = AGAIN
    while choice == AGAIN:
        report = _extend(file, request, screen, place)
        _tell_report(report, file, request)
        if not report["extended"]:
            _show(screen, f"{file.name}: {report['note']}")
        if not request.ask or not report["extended"]:
            return
        seed = request.settings.seed
        choice = screen.ask(
            f"{printable(file.name)} has its high band now, with seed {seed}.", (KEEP, AGAIN, UNDO)
        )
        settings = request.settings.replace(seed=(seed + 1) % 2**32)
        request = dataclasses.replace(request, settings=settings)
    if choice == KEEP:
        confirm(file)
    elif choice == UNDO:
        undo(file)


def _extend(file: Path, request: Request, screen: Screen, place: Place) -> dict[str, Any]:
    from plugin_host.edit import edit_file

    settings = request.settings
    screen.begin(printable(file.name), f"{settings.model}, seed {settings.seed}", Left(ANALYSIS))

    def extended(engine: EngineLike) -> dict[str, Any]:
        return edit_file(
            file, settings, overwrite=request.overwrite, on_progress=screen.tell, engine=engine
        ).as_dict()

    try:
        return screen.run(lambda: place.attempt(extended))
    except ChangedError as error:
        if not _asks(screen):
            raise
        overwrite = _start_from_original(file, error, screen)
        return _extend(file, dataclasses.replace(request, overwrite=overwrite), screen, place)


def _start_from_original(file: Path, error: ChangedError, screen: Screen) -> bool:
    """What to do with a file that somebody changed after an edit."""
    from plugin_host.edit import confirm

    text = f"{printable(file.name)} was changed by another program after it was edited here."
    choice = screen.ask(text, (AS_IT_IS, FROM_ORIGINAL, NOT_AT_ALL))
    if choice == AS_IT_IS:
        confirm(file)
    elif choice != FROM_ORIGINAL:
        raise CancelledError(f"{file} was left as it is") from error
    return choice == FROM_ORIGINAL


def _settle_all(files: Sequence[Path], back: bool, overwrite: bool, json: bool, quiet: bool) -> int:
    """Undo or confirm the edit of each file."""
    from plugin_host.edit import confirm, undo

    failures: list[int] = []
    for file in files:
        try:
            if back:
                undo(file, overwrite=overwrite)
            else:
                confirm(file)
        except AudioSRError as error:
            failures.append(error.exit_code)
            tell_failure(file, error, json)
            continue
        if not quiet:
            say(f"{file}: {'the original is back' if back else 'kept; its original is removed'}")
        if json:
            emit({"input": str(file), "undone": back, "confirmed": not back})
    return exit_code(failures, len(files))


def _tell_report(report: dict[str, Any], file: Path, request: Request) -> None:
    log.info("edited", extra={"file": file, "extended": report["extended"]})
    if not request.quiet:
        if report["extended"]:
            say(
                f"{file}: extended above {report['cutoff_hz'] / 1000:.2f} kHz, {report['model']},"
                f" seed {report['seed']}; the original is {Path(report['backup']).name}"
            )
        for text in filter(None, dict.fromkeys([report["note"], *report["notes"]])):
            say(f"  note: {text}" if report["extended"] else f"{file}: {text}")
        if report["overs"]:
            say(f"  note: {report['overs']} samples are over full scale")
    if request.json:
        emit(report)


def _show(screen: Screen, text: str) -> None:
    if _asks(screen):
        screen.ask(printable(text), ["Close"])


def _asks(screen: Screen) -> bool:
    """Trouble is told in the window: there is one, and nobody sees standard error."""
    seen = sys.stderr is not None and sys.stderr.isatty()
    return not isinstance(screen, _Terminal) and not seen


@contextlib.contextmanager
def _shown_and_logged(screen: Screen) -> Iterator[None]:
    """An error that ends the command is in the log and in the window, too."""
    with logging_to(state_folder(), name=LOG):
        try:
            yield
        except (CancelledError, typer.Exit):
            raise
        except Exception as error:
            log.exception("edit failed")
            _show(screen, str(error))
            raise


def _screen(window: bool, quiet: bool) -> Window | _Terminal:
    """A window where there can be one, else the terminal."""
    if window:
        from plugin_host.window import Window

        try:
            return Window()
        except WindowError as error:
            if os.environ.get("DISPLAY"):
                note(f"{error}; progress is shown here")
    return _Terminal(quiet)


class _Terminal(contextlib.ExitStack):
    """A `Screen` on the terminal."""

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self._quiet = quiet
        self._progress = bars(quiet)
        self._task = TaskID(0)

    def run(self, work: Callable[[], Made]) -> Made:
        with self._progress:
            return work()

    def begin(self, name: str, detail: str, left: Left) -> None:
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._task = self._progress.add_task(f"{name} ({detail})", total=1.0, left=left)

    def tell(self, fraction: float) -> None:
        self._progress.update(self._task, completed=fraction)

    def ask(self, text: str, choices: Sequence[str]) -> str | None:
        letters = {choice[0].lower(): choice for choice in choices}
        wanted = typer.prompt(f"{text} {', '.join(choices)}? [{'/'.join(letters)}]", err=True)
        return letters.get(wanted[:1].lower()) or self.ask(text, choices)
