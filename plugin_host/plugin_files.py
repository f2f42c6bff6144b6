"""Our plugin in the folders where hosts look: put there, taken away, looked at.

    ~/.vst3/AudioSRBridge.vst3/          ~/.vst3/presets/audiosr-bridge/AudioSR Bridge/*.vstpreset
    ~/.lv2/audiosr-bridge.lv2/           ~/.lv2/audiosr-bridge-presets.lv2/
    ~/.clap/AudioSRBridge.clap
    <config>/plugin.json                 what is ours, by digest, and what the plugin may start

Everything is copied beside its place before anything takes its name, and what was there before
comes back if one thing fails. Ours is what the record in `plugin.json` says, unchanged: anything
else of such a name is somebody's own, and is neither replaced nor removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from audiosr_core import __version__
from audiosr_core.errors import FileError, OutputExistsError, SettingsError
from audiosr_core.presets import list_presets
from bridge.errors import BridgeError, NoDaemonError
from bridge.runtime_dir import (
    cache_folder,
    config_folder,
    private_folder,
    read_private,
    state_folder,
    write_private,
)
from plugin_host.errors import PluginError, in_our_words
from plugin_host.host_presets import HostPreset, host_preset, lv2_presets, vst3_preset
from plugin_host.own_command import own_command
from plugin_host.shim import CLAP, LV2, VST3, bundles

CONFIG, LOG, RENDERS = "plugin.json", "plugin.log", "plugin"
LV2_PRESETS = "audiosr-bridge-presets.lv2"
VST3_PRESETS = Path("presets", "audiosr-bridge", "AudioSR Bridge")  # vendor, plugin
FOLDERS = {VST3: ".vst3", LV2: ".lv2", CLAP: ".clap"}
CACHE_BYTES = 4 << 30  # of renders, where the user has not said otherwise
STAGE = ".audiosr-bridge"  # beside what is replaced
MAX_CONFIG_BYTES, MAX_LOG_BYTES = 1 << 20, 2 << 20
LOG_LINES = 5
LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Config:
    """What lies in `plugin.json`; the plugin reads the first two."""

    start: list[str] | None = None  # the command that starts the daemon; none is allowed
    cache_bytes: int = CACHE_BYTES
    version: str = ""
    files: Mapping[str, str] = field(default_factory=dict)  # path → digest, of what is ours


@dataclass(frozen=True)
class Installed:
    """What an installation did."""

    paths: list[Path]
    removed: list[Path]
    notes: list[str]  # what was left out, and why


@dataclass(frozen=True)
class Bundle:
    """One format, where its hosts look."""

    path: Path
    installed: bool
    sha256: str | None
    ours: bool  # as it was put there
    current: bool | None  # as this installation has it; None if it has no plugin


@dataclass(frozen=True)
class Status:
    """How things stand with the plugin."""

    bundles: list[Bundle]
    presets: int
    version: str  # that was installed
    start: list[str] | None
    daemon_pid: int | None
    renders_bytes: int
    renders_max_bytes: int
    log: list[str]  # its last lines
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def install(*, may_start: bool = True) -> Installed:
    """Put the plugin and its presets where the user's hosts look.

    Args:
        may_start: the plugin may start the daemon when it is needed

    Raises:
        PluginError: this installation has no plugin
        OutputExistsError: something that is not ours has its name
    """
    with _locked() as old, tempfile.TemporaryDirectory(prefix="audiosr-bridge-") as made:
        presets, notes = _presets()
        wanted = {**_bundle_targets(bundles()), **_made(presets, Path(made))}
        digests = {target: digest(source) for target, source in wanted.items()}
        for target in list(wanted):
            if _may_replace(target, digests[target], old.files):
                continue
            text = f"{target} is there and not ours"
            if target.suffix != ".vstpreset":
                raise OutputExistsError(f"{text}; move it elsewhere and try again")
            notes.append(f"{text}; it stays")
            del wanted[target]
        stale = [path for path in _ours(old) if path not in wanted]
        new = Config(
            start=start_command() if may_start else None,
            cache_bytes=old.cache_bytes,
            version=__version__,
            files={str(target): digests[target] for target in wanted},
        )
        with _exchanged(wanted):
            _write(new)
        for path in stale:
            _remove(path)
        return Installed(list(wanted), stale, notes)


def uninstall() -> Installed:
    """Take away what `install` put there; what somebody changed since stays, with a note."""
    with _locked() as old:
        ours = _ours(old)
        notes = [
            f"{path} was changed since and stays"
            for path in map(Path, old.files)
            if os.path.lexists(path) and path not in ours
        ]
        for path in ours:
            _remove(path)
        for folder in (_presets_folder(), _presets_folder().parent):
            with contextlib.suppress(OSError):  # not empty, or not there
                folder.rmdir()
        (config_folder() / CONFIG).unlink(missing_ok=True)
        return Installed([], ours, notes)


def status() -> Status:
    """What is where, and what the plugin says."""
    from bridge import lifecycle

    notes = []
    config, daemon = Config(), None
    try:
        config = _read()
        daemon = lifecycle.find()
    except BridgeError as error:
        notes.append(str(error))
    with in_our_words():
        looked = [_look(name, config) for name in FOLDERS]
    return Status(
        bundles=looked,
        presets=sum(path.endswith(".vstpreset") for path in config.files),
        version=config.version,
        start=config.start,
        daemon_pid=daemon.pid if daemon else None,
        renders_bytes=_size(cache_folder() / RENDERS),
        renders_max_bytes=config.cache_bytes,
        log=_log(),
        notes=notes,
    )


def start_command() -> list[str]:
    """What starts the daemon of this very installation."""
    return [*own_command(), "daemon", "start"]


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents below a folder; a link is its target."""
    found = hashlib.sha256()
    parts = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
    for part in parts:
        kind, data = b"file", b""
        if part.is_symlink():
            kind, data = b"link", os.fsencode(os.readlink(part))
        elif part.is_dir():
            kind = b"folder"
        elif part.is_file():
            data = part.read_bytes()
        else:
            kind = b"neither"
        name = b"" if part == path else os.fsencode(part.relative_to(path))
        for piece in (kind, name, data):
            found.update(len(piece).to_bytes(8, "little") + piece)
    return found.hexdigest()


# ---- what there is to install


def _bundle_targets(source: Path) -> dict[Path, Path]:
    return {Path.home() / folder / name: source / name for name, folder in FOLDERS.items()}


def _presets() -> tuple[list[HostPreset], list[str]]:
    """Those that a plugin can have, and why it cannot have the others."""
    found, notes = [], []
    for preset in list_presets():
        try:
            found.append(host_preset(preset))
        except SettingsError as error:
            notes.append(f"{error}; it is left out")
    return found, notes


def _made(presets: list[HostPreset], folder: Path) -> dict[Path, Path]:
    """The presets' files, written to a folder, by where they belong."""
    wanted = {Path.home() / FOLDERS[LV2] / LV2_PRESETS: folder / LV2_PRESETS}
    (folder / LV2_PRESETS).mkdir()
    for name, text in lv2_presets(presets).items():
        (folder / LV2_PRESETS / name).write_text(text, "utf-8")
    for preset in presets:
        name = f"{preset.name}.vstpreset"
        (folder / name).write_bytes(vst3_preset(preset))
        wanted[_presets_folder() / name] = folder / name
    return wanted


def _presets_folder() -> Path:
    return Path.home() / FOLDERS[VST3] / VST3_PRESETS


# ---- putting it there


def _may_replace(target: Path, new: str, files: Mapping[str, str]) -> bool:
    return not os.path.lexists(target) or digest(target) in (new, files.get(str(target)))


def _is_ours(path: Path, config: Config) -> bool:
    return os.path.lexists(path) and digest(path) == config.files.get(str(path))


def _ours(config: Config) -> list[Path]:
    """What is there as it was installed."""
    return [path for path in map(Path, config.files) if _is_ours(path, config)]


@contextlib.contextmanager
def _exchanged(wanted: Mapping[Path, Path]) -> Iterator[None]:
    """All of it in its place, or, if anything fails here or in the body, all as it was."""
    stages = {target.parent / STAGE for target in wanted}
    for stage in stages:  # what a kill left
        shutil.rmtree(stage, ignore_errors=True)
    try:
        with contextlib.ExitStack() as undo:
            fresh = {target: _copy(source, target) for target, source in wanted.items()}
            for target, copy in fresh.items():
                if os.path.lexists(target):
                    old = _hidden(target)
                    os.rename(target, old)
                    undo.callback(os.rename, old, target)
                os.rename(copy, target)
                undo.callback(_remove, target)
            yield
            undo.pop_all()
    finally:
        for stage in stages:
            shutil.rmtree(stage, ignore_errors=True)


def _copy(source: Path, target: Path) -> Path:
    copy = _hidden(target)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy(source, copy)
    return copy


def _hidden(target: Path) -> Path:
    """A name that no host takes for a plugin, where a rename reaches the target."""
    return target.parent / STAGE / secrets.token_hex(8)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ---- the record


@contextlib.contextmanager
def _locked() -> Iterator[Config]:
    """The record, while nobody else installs."""
    folder = private_folder(config_folder())
    try:
        with FileLock(folder / "plugin.lock", timeout=LOCK_SECONDS), in_our_words():
            yield _read()
    except Timeout as error:
        raise FileError(
            f"another installation holds {folder / 'plugin.lock'}; wait for it and try again"
        ) from error


def _read() -> Config:
    path = config_folder() / CONFIG
    try:
        fields = json.loads(read_private(path, MAX_CONFIG_BYTES))
        if not isinstance(fields, dict):
            raise ValueError("it must hold an object")
        known = {name: fields[name] for name in Config.__dataclass_fields__ if name in fields}
        return _checked(Config(**known))
    except NoDaemonError:  # there is no such file
        return Config()
    except (ValueError, TypeError, RecursionError) as error:
        raise BridgeError(f"{path} cannot be read: {error}; remove it and install anew") from error


def _checked(config: Config) -> Config:
    if not isinstance(config.files, dict) or not all(map(_is_text, config.files.items())):
        raise ValueError("files must be paths with their digests")
    if config.start is not None and not (
        isinstance(config.start, list) and _is_text(tuple(config.start))
    ):
        raise ValueError("start must be a list of words, or null")
    if type(config.cache_bytes) is not int or config.cache_bytes < 0:
        raise ValueError("cache_bytes must be a whole number of bytes")
    return config


def _is_text(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, str) for value in values)


def _write(config: Config) -> None:
    text = json.dumps(asdict(config), indent=2)
    write_private(config_folder() / CONFIG, f"{text}\n".encode())


# ---- looking


def _look(name: str, config: Config) -> Bundle:
    path = Path.home() / FOLDERS[name] / name
    there = os.path.lexists(path)
    found = digest(path) if there else None
    current = None
    with contextlib.suppress(PluginError):
        current = found == digest(bundles() / name)
    return Bundle(path, there, found, there and _is_ours(path, config), current)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it went meanwhile
            total += path.lstat().st_size if path.is_file() else 0
    return total


def _log() -> list[str]:
    with contextlib.suppress(BridgeError):
        text = read_private(state_folder() / LOG, MAX_LOG_BYTES).decode("utf-8", "replace")
        return text.splitlines()[-LOG_LINES:]
    return []
