"""`audiosr-bridge doctor`: is everything there that the work needs?"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from audiosr_core import __version__
from audiosr_core.errors import EXIT_FAILED, AudioSRError
from audiosr_core.presets import list_presets
from plugin_host.cli.commands.paths import folders
from plugin_host.cli.flags import Json
from plugin_host.cli.terminal import emit, say, write

PACKAGES = (
    "numpy", "scipy", "torch", "soundfile", "soxr", "safetensors", "zmq", "pedalboard", "typer",
    "rich",
)  # fmt: skip
OPTIONAL = {  # and what they are for
    "matplotlib": "pictures; pip install 'audiosr-bridge[plots]'",
    "minihost": "LV2 plugins; pip install 'audiosr-bridge[lv2]'",
    "ray": "clusters; pip install 'audiosr-bridge[ray]'",
    "huggingface_hub": "models install; pip install 'audiosr-bridge[hub]'",
    "_tkinter": "the window of edit; it comes with Python, or as python3-tk",
}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def doctor(
    json: Json = False,
) -> None:
    """Check the installation; exit 1 if something is broken."""
    found = list(checks())
    broken = [check.name for check in found if not check.ok]
    if json:
        emit({"ok": not broken, "version": __version__, "checks": [asdict(c) for c in found]})
    else:
        for check in found:
            write(f"{'ok' if check.ok else 'BROKEN':7} {check.name:18} {check.detail}")
    if broken:
        say(f"error: broken: {', '.join(broken)}; see the lines above", "red")
        raise typer.Exit(EXIT_FAILED)


def checks() -> Iterator[Check]:
    """Look at each thing in turn; a look that fails is a broken thing, not an end."""
    yield Check("audiosr-bridge", True, __version__)
    yield Check("python", True, f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        yield _look(name, lambda name=name: _package(name))  # type: ignore[misc]
    for name, purpose in OPTIONAL.items():
        yield Check(name.lstrip("_"), True, _optional(name, purpose))
    yield _look("device", _device)
    yield _look("models", _models)
    yield _look("presets", lambda: f"{len(list_presets())} found")
    yield _look("plugin", _plugin)
    for name, path in [*folders().items(), ("temporary", Path(tempfile.gettempdir()))]:
        yield _look(f"{name} folder", lambda path=path: _writable(path))  # type: ignore[misc]


def _look(name: str, what: Callable[[], str]) -> Check:
    try:
        return Check(name, True, what())
    except Exception as error:  # a broken library may raise anything on import
        text = str(error) if isinstance(error, AudioSRError) else f"{type(error).__name__}: {error}"
        return Check(name, False, text)


def _package(name: str) -> str:
    importlib.import_module(name)
    return importlib.metadata.version({"zmq": "pyzmq"}.get(name, name))


def _optional(name: str, purpose: str) -> str:
    if importlib.util.find_spec(name) is None:
        return f"not installed; wanted for {purpose}"
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # of the standard library
        return "there"


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads"
    return f"CUDA: {torch.cuda.get_device_name()}"


def _models() -> str:
    """Every model's weights against their SHA-256."""
    from audiosr_core.errors import ModelError
    from audiosr_core.store import broken_models, list_models

    models = list_models()
    if not models:
        raise ModelError("there is no model; reinstall audiosr-bridge")
    for broken in broken_models():
        raise ModelError(broken.reason)
    for model in models:
        model.verify()
    return ", ".join(f"{model.id} (verified)" for model in models)


def _plugin() -> str:
    """Ours, in the folders where hosts look."""
    from plugin_host import plugin_files, shim
    from plugin_host.errors import PluginError

    try:
        shim.bundles()
    except PluginError:
        return "not built; wanted for DAWs; install g++, and then audiosr-bridge anew"
    there = plugin_files.status().bundles
    if not any(bundle.installed for bundle in there):
        return "not installed; wanted for DAWs; audiosr-bridge plugin install"
    if not all(bundle.current for bundle in there):
        return "not of this version; audiosr-bridge plugin status"
    return f"{', '.join(bundle.path.suffix[1:].upper() for bundle in there)} (up to date)"


def _writable(path: Path) -> str:
    """The folder, or the nearest one above it where it would be made, can be written."""
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise AudioSRError(f"cannot write in {there}")
    return str(path)
