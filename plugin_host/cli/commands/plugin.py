"""`audiosr-bridge plugin`: our own plugin, in the folders where DAWs look."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plugin_host.cli.flags import Json
from plugin_host.cli.terminal import counted, emit, note, say, write

if TYPE_CHECKING:
    from plugin_host.plugin_files import Bundle, Status

app = typer.Typer(
    no_args_is_help=True,
    help="Our own plugin for DAWs (VST3, LV2, CLAP); those of others are `plugins`.",
)
MIB = 1 << 20


@app.command()
def install(
    no_start: Annotated[
        bool, typer.Option("--no-start", help="The plugin may not start the daemon by itself.")
    ] = False,
    json: Json = False,
) -> None:
    """Put the plugin and its presets into your folders (~/.vst3, ~/.lv2, ~/.clap)."""
    from plugin_host import plugin_files

    done = plugin_files.install(may_start=not no_start)
    if json:
        emit(asdict(done))
    for text in done.notes:
        note(text)
    _tell_paths("installed", done.paths)
    if no_start:
        say("the plugin needs the daemon, and you start it: audiosr-bridge daemon start")
    else:
        say("the plugin starts the daemon when it is needed; it may not after: install --no-start")
    say("let your DAW scan its plugins again")


@app.command()
def uninstall(json: Json = False) -> None:
    """Remove what `install` put there, and nothing else; the renders stay."""
    from plugin_host import plugin_files

    done = plugin_files.uninstall()
    if json:
        emit(asdict(done))
    for text in done.notes:
        note(text)
    _tell_paths("removed", done.removed)
    if not done.removed:
        say("nothing was installed")


@app.command()
def status(json: Json = False) -> None:
    """Show what is installed, whether the daemon runs, and what the plugin said last."""
    from plugin_host import plugin_files

    found = plugin_files.status()
    if json:
        emit(found.as_dict())
        return
    for name, text in _rows(found):
        write(f"{name:12} {text}")
    for text in found.log:
        write(f"  {text}")
    for text in found.notes:
        note(text)


def _tell_paths(what: str, paths: list[Path]) -> None:
    presets = [path for path in paths if path.suffix == ".vstpreset"]
    for path in paths:
        if path not in presets:
            say(f"{what} {path}")
    if presets:
        say(f"{what} {counted(len(presets), 'preset')} in {presets[0].parent}")


def _rows(found: Status) -> list[tuple[str, str]]:
    rows = [(bundle.path.suffix[1:].upper(), _shown(bundle)) for bundle in found.bundles]
    renders, bound = found.renders_bytes / MIB, found.renders_max_bytes / MIB
    return [
        *rows,
        ("version", found.version or "not installed"),
        ("presets", str(found.presets)),
        ("starts", " ".join(found.start) if found.start else "nothing: start the daemon yourself"),
        ("daemon", f"runs (pid {found.daemon_pid})" if found.daemon_pid else "does not run"),
        ("renders", f"{renders:.1f} MiB of at most {bound:.0f} MiB"),
        ("last words", "" if found.log else "none"),
    ]


def _shown(bundle: Bundle) -> str:
    if not bundle.installed:
        return "not installed; run: audiosr-bridge plugin install"
    if not bundle.ours:
        return f"{bundle.path} (not ours, or changed since)"
    texts = {True: "up to date", False: "another version; install it again", None: "installed"}
    return f"{bundle.path} ({texts[bundle.current]})"
