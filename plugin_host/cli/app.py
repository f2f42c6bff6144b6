"""The command `audiosr-bridge`: sub-commands, and what becomes of errors.

Whatever goes wrong is one sentence on standard error and an exit code, never a traceback; an
error nobody foresaw is called a bug, with how to report it, and `--debug` shows where.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from audiosr_core import __version__
from audiosr_core.errors import (
    EXIT_DEVICE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    AudioSRError,
)
from plugin_host.cli.commands import daemon, daw, models, plugin, plugins, presets
from plugin_host.cli.commands.ab import ab
from plugin_host.cli.commands.audition import audition
from plugin_host.cli.commands.compare import compare
from plugin_host.cli.commands.compat import compat
from plugin_host.cli.commands.doctor import doctor
from plugin_host.cli.commands.edit import edit
from plugin_host.cli.commands.evaluate import evaluate
from plugin_host.cli.commands.extend import extend
from plugin_host.cli.commands.jobs import cancel, jobs
from plugin_host.cli.commands.paths import paths
from plugin_host.cli.commands.render import render
from plugin_host.cli.commands.stems import stems
from plugin_host.cli.commands.watch import watch
from plugin_host.cli.knobs import with_knobs
from plugin_host.cli.terminal import interrupted, say, write

app = typer.Typer(
    name="audiosr-bridge",
    help="Restore the missing high band of any sound.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("extend")(with_knobs(extend))
app.command("render")(render)
app.command("stems")(with_knobs(stems))
app.command("watch")(with_knobs(watch))
app.command("audition")(with_knobs(audition))
app.command("ab")(with_knobs(ab))
app.command("edit")(with_knobs(edit))
app.command("compare")(compare)
app.command("evaluate")(evaluate)
app.command("compat")(compat)
app.add_typer(presets.app, name="presets")
app.add_typer(plugins.app, name="plugins")
app.add_typer(plugin.app, name="plugin")
app.add_typer(daw.app, name="daw")
app.add_typer(models.app, name="models")
app.add_typer(daemon.app, name="daemon")
app.command("jobs")(jobs)
app.command("cancel")(cancel)
app.command("doctor")(doctor)
app.command("paths")(paths)

_UsageException: Any = typer.BadParameter.__mro__[2]  # of typer's own click, or of click


def _version(wanted: bool) -> None:
    if wanted:
        write(f"audiosr-bridge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.unraisablehook = _unraisable
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, _interrupt)
    code = run(sys.argv[1:])
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of these arguments; every error ends here."""
    debug = "--debug" in arguments
    if debug:
        arguments = [one for one in arguments if one != "--debug"]
    try:
        code = app(args=arguments, prog_name="audiosr-bridge", standalone_mode=False)
        if code == EXIT_INTERRUPTED and interrupted.is_set():  # typer catches it and says nothing
            raise KeyboardInterrupt
        return code if isinstance(code, int) else EXIT_OK
    except AudioSRError as error:
        if interrupted.is_set():  # it fell into a library's callback, which made it an error
            return _fail("interrupted", EXIT_INTERRUPTED, False)
        return _fail(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED, False)
    except MemoryError:
        return _fail("there is not enough memory for this", EXIT_DEVICE, debug)
    except _UsageException as error:
        text = error.format_message()
        if text.startswith("Usage:"):  # nothing was given, so the help is the answer
            say(text)
            return EXIT_USAGE
        return _fail(f"{text[:1].lower()}{text[1:].rstrip('.')}; see --help", EXIT_USAGE, debug)
    except Exception as error:
        return _fail(
            f"this is a bug: {type(error).__name__}: {error}; please report it with the command"
            f" you gave, the output of `audiosr-bridge doctor` and that of --debug",
            EXIT_FAILED,
            debug,
        )


def _fail(text: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"error: {text}", "red")
    return code


def _unraisable(problem: sys.UnraisableHookArgs) -> None:
    """An interruption inside a library's callback is told once, by `run`, and not by Python."""
    if not isinstance(problem.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(problem)


def _interrupt(number: int, frame: FrameType | None) -> None:
    interrupted.set()
    raise KeyboardInterrupt
