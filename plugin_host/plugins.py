"""VST3 plugins: found by name or path, tried in a child process, then loaded here.

find_plugin ─▶ probe.prove ─▶ pedalboard.VST3Plugin ─▶ state ─▶ preset ─▶ parameters
               the same, in a process that may die
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from plugin_host import probe
from plugin_host.errors import PluginError
from plugin_host.parameter import Parameter

if TYPE_CHECKING:
    from pedalboard import VST3Plugin

FOLDERS_VARIABLE = "AUDIOSR_BRIDGE_VST3_PATH"
SUFFIX = ".vst3"
MAX_STATE_BYTES = 64 << 20
_STATE_STARTS = b"VC2!"  # of what `VST3Plugin.raw_state` gives

Value = float | bool | str


def load_plugin(
    plugin: str | os.PathLike[str],
    *,
    plugin_name: str | None = None,
    parameters: Mapping[str, Value] | None = None,
    preset: str | os.PathLike[str] | None = None,
    state: str | os.PathLike[str] | None = None,
    timeout_seconds: float = probe.SECONDS,
) -> VST3Plugin:
    """A VST3 effect, ready for a `Chain`.

    Args:
        plugin: a file or bundle, or the name of one in the folders for plugins
        plugin_name: which of them, where a file holds several
        parameters: as `VST3Plugin.parameters` names them; they come last
        preset: a .vstpreset file
        state: a file with what `VST3Plugin.raw_state` gave

    Raises:
        PluginError: it is missing, unknown, crashes, hangs, or does not take what it is given
    """
    path = find_plugin(plugin)
    given = {"preset": preset, "state": state}
    files = {kind: _existing(Path(file), kind) for kind, file in given.items() if file is not None}
    request = {"plugin_name": plugin_name, **{kind: str(file) for kind, file in files.items()}}
    probe.prove(
        "plugin_host.plugins", {"path": str(path), **request}, str(path),
        library="pedalboard", files=[path, *files.values()], timeout_seconds=timeout_seconds,
    )  # fmt: skip
    with _same_arithmetic():
        loaded = _load(str(path), **request)
    for name, value in (parameters or {}).items():
        _turn(loaded, name, value)
    return loaded


def find_plugin(plugin: str | os.PathLike[str]) -> Path:
    """The file or bundle that a path or a name means; PluginError if there is none."""
    text = os.fspath(plugin)
    path = Path(text)
    if is_path(text):
        if path.suffix.lower() != SUFFIX:
            raise PluginError(f"a VST3 plugin ends in {SUFFIX}, got {path}")
        if not os.path.exists(path):
            raise PluginError(f"there is no plugin {path}")
        return path.absolute()
    there = {one.stem: one for one in reversed(installed())}
    if text in there:
        return there[text]
    close = difflib.get_close_matches(text, there, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(there))}"
    raise PluginError(
        f"no VST3 plugin {text!r} in the usual folders and ${FOLDERS_VARIABLE};"
        f" {hint if there else 'they are empty'}"
    )


def parameters_of(plugin: VST3Plugin) -> list[Parameter]:
    """What `parameters` of `load_plugin` may hold, in the order of the plugin."""
    found = []
    for name, one in plugin.parameters.items():  # type: ignore[attr-defined]
        minimum, maximum, _ = one.range
        words = () if one.type is float else tuple(map(str, one.valid_values))
        unit = (one.units or "").strip()
        value = one.type(getattr(plugin, name))  # pedalboard wraps it
        found.append(Parameter(name, value, minimum, maximum, unit, words))
    return found


def is_path(plugin: str) -> bool:
    """Whether it is a path, and not the name of an installed plugin."""
    return Path(plugin).suffix.lower() == SUFFIX or Path(plugin).name != plugin


def installed() -> list[Path]:
    """VST3 plugins in the folders of `$AUDIOSR_BRIDGE_VST3_PATH` and in the system's, in order."""
    from pedalboard import VST3Plugin

    ours = [Path(one) for one in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if one]
    own = [path.absolute() for folder in ours for path in sorted(folder.rglob(f"*{SUFFIX}"))]
    whole = [path for path in own if not any(one.suffix == SUFFIX for one in path.parents)]
    there = VST3Plugin.installed_plugins  # type: ignore[attr-defined]
    return whole + [Path(path) for path in sorted(there)]


def _load(
    path: str, plugin_name: str | None = None, preset: str | None = None, state: str | None = None
) -> VST3Plugin:
    from pedalboard import VST3Plugin

    try:
        names = VST3Plugin.get_plugin_names_for_file(path)
        if plugin_name is None and len(names) > 1:
            raise PluginError(f"{path} holds {', '.join(names)}; say which with plugin_name")
        if plugin_name is not None and plugin_name not in names:
            raise PluginError(f"{path} holds no {plugin_name!r}, but {', '.join(names)}")
        plugin = VST3Plugin(path, plugin_name=plugin_name)
    except (ImportError, RuntimeError, ValueError) as error:
        raise PluginError(
            f"{path} must be a VST3 plugin for this system: {_line(error)}"
        ) from error
    if plugin.is_instrument:
        raise PluginError(f"{path} must be an effect, but it is an instrument; it takes no sound")
    if state is not None:
        plugin.raw_state = _read_state(Path(state))
    if preset is not None:
        try:
            plugin.load_preset(preset)
        except RuntimeError as error:
            raise PluginError(
                f"{preset} must be a .vstpreset of {plugin.name}: {_line(error)}"
            ) from error
    return plugin


@contextlib.contextmanager
def _same_arithmetic() -> Iterator[None]:
    """Code built with -ffast-math makes tiny numbers zero, for all that its thread computes.

    That mode belongs to fenv_t of the C library, which Windows keeps elsewhere.
    """
    library = None if os.name == "nt" else ctypes.CDLL(None)
    mode = ctypes.create_string_buffer(256)  # more than any fenv_t
    if library is None or library.fegetenv(mode) != 0:
        yield
        return
    try:
        yield
    finally:
        library.fesetenv(mode)


def _turn(plugin: VST3Plugin, name: str, value: Value) -> None:
    there = plugin.parameters  # type: ignore[attr-defined]
    if name not in there:
        raise PluginError(f"{plugin.name} has no parameter {name!r}; there are: {', '.join(there)}")
    try:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"it must be finite, got {value}")
        setattr(plugin, name, value)
    except (ValueError, TypeError) as error:
        raise PluginError(f"{plugin.name} does not take {name} = {value!r}: {error}") from error


def _existing(path: Path, kind: str) -> Path:
    """`path`, if it is a file that can be read whole."""
    try:
        found = path.stat()
    except OSError as error:
        raise PluginError(f"cannot read the {kind} {path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):  # a FIFO would wait for ever
        raise PluginError(f"a {kind} must be a file, got {path}")
    if found.st_size > MAX_STATE_BYTES:
        raise PluginError(f"a {kind} has at most {MAX_STATE_BYTES} bytes, {path} has more")
    return path.absolute()


def _read_state(path: Path) -> bytes:
    try:
        state = path.read_bytes()
    except OSError as error:
        raise PluginError(f"cannot read the state {path}: {error.strerror}") from error
    if not state.startswith(_STATE_STARTS):  # a plugin takes anything, and stays as it was
        raise PluginError(f"{path} must hold the raw_state of a VST3 plugin in pedalboard")
    return state


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    probe.answer(_load)
