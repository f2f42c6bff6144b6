"""Settings with a name, in a TOML file.

    schema = 1

    [preset]
    name = "phone"          the file's stem
    description = "..."
    for = "..."             what it is for
    version = 1

    [settings]              only the knobs that differ from the defaults
    cutoff = 3400

JSON with the same tables is read, too. A preset is data: it names a model, never a file, and
nothing in it is run.

Factory presets come with the package; the user's own lie in the configuration directory and are
looked up first. What this version does not know is ignored with a note and kept when saved again.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import platformdirs
import tomlkit

from audiosr_core.errors import FileError, OutputExistsError, SettingsError, UsageError
from audiosr_core.settings import KNOBS, Settings, settings_from

SCHEMA = 1
MAX_BYTES = 1 << 20  # a preset is a page of text; more is some other file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIXES = (".toml", ".json")
_KNOWN = {"schema", "preset", "settings"}
_KNOWN_ABOUT = {"name", "description", "for", "version"}


@dataclass(frozen=True)
class Preset:
    """A named set of knobs. Checked where it is made."""

    name: str
    description: str = ""
    purpose: str = ""  # `for` in the file: what it is for
    version: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)  # only the knobs that differ
    path: Path | None = None  # where it was read
    factory: bool = False
    notes: tuple[str, ...] = ()  # what was ignored
    text: str = field(default="", repr=False)  # the file as read, so that saving keeps the rest

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                "a preset's name must begin with a letter or digit and hold only letters, digits,"
                f" spaces, '.', '_' and '-', at most 100, got {self.name!r}"
            )
        checked = settings_from(self.overrides).as_dict()
        overrides = {name: checked[name] for name in self.overrides}
        if not _MODEL.fullmatch(model := overrides.get("model", "lite")):
            raise SettingsError(
                f"a preset names its model as 'audiosr-bridge models list' does, got {model!r}"
            )
        object.__setattr__(self, "overrides", MappingProxyType(overrides))

    def settings(self, **changes: Any) -> Settings:
        """The defaults, then this preset, then `changes`."""
        return settings_from({**self.overrides, **changes})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "for": self.purpose,
            "version": self.version,
            "settings": dict(self.overrides),
            "factory": self.factory,
            "path": None if self.path is None else str(self.path),
            "notes": list(self.notes),
        }


def factory_folder() -> Path:
    """Beside this module in an installed package, at the top of the tree in a checkout."""
    here = Path(__file__).parent
    inside = here / "factory_presets"
    return inside if inside.is_dir() else here.parent / "presets"


def user_folder() -> Path:
    """Where the user's own presets lie; it need not exist."""
    return platformdirs.user_config_path("audiosr-bridge", appauthor=False) / "presets"


def list_presets() -> list[Preset]:
    """The user's and the factory's, by name; a user's preset hides the factory's of that name.

    A file of the user's that cannot be read is left out, so that one bad file hides no other.
    """
    found: dict[str, Preset] = {}
    for folder in (factory_folder(), user_folder()):
        for path in sorted(folder.glob("*.toml")):
            try:
                found[path.stem] = read_preset(path)
            except (SettingsError, FileError):
                if folder == factory_folder():
                    raise
    return [found[name] for name in sorted(found)]


def is_factory_name(name: str) -> bool:
    """Whether a preset of this name comes with the package."""
    return (factory_folder() / f"{name}.toml").is_file()


def load_preset(name_or_path: str | os.PathLike[str]) -> Preset:
    """A preset by name, or from a file if it has a folder or ends in .toml or .json."""
    text = os.fspath(name_or_path)
    if text.lower().endswith(_SUFFIXES) or "/" in text or os.sep in text:
        return read_preset(Path(text))
    if _NAME.fullmatch(text):
        for folder in (user_folder(), factory_folder()):
            path = folder / f"{text}.toml"
            if path.is_file():
                return read_preset(path)
    names = ", ".join(preset.name for preset in list_presets())
    raise SettingsError(f"there is no preset {text!r}; there are: {names}")


def save_preset(preset: Preset, folder: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write `preset` to `folder` (the user's) as NAME.toml, whole or not at all; return its path.

    Keys that this version does not know, and comments, are kept from the file it was read from.
    A name that exists there needs `overwrite`; so does one of the factory's, among the user's own.
    """
    folder = user_folder() if folder is None else folder
    path = folder / f"{preset.name}.toml"
    if not overwrite and path.exists():
        raise OutputExistsError(
            f"preset {preset.name!r} exists already; choose another name or say --overwrite"
        )
    if not overwrite and folder == user_folder() and is_factory_name(preset.name):
        raise OutputExistsError(
            f"{preset.name!r} is a factory preset and yours would hide it; choose another name"
            " or say --overwrite"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(path, preset_text(preset))
    except OSError as error:
        raise FileError(f"cannot save the preset to {path}: {error.strerror}") from error
    return path


def remove_preset(name: str) -> Path:
    """Remove a preset of the user's, readable or not; its path. The factory's stay."""
    path = user_folder() / f"{name}.toml"
    if not _NAME.fullmatch(name) or not path.is_file():
        if _NAME.fullmatch(name) and is_factory_name(name):
            raise UsageError(f"the preset {name!r} is part of audiosr-bridge and stays")
        raise SettingsError(
            f"there is no preset {name!r} of yours to remove; see 'audiosr-bridge presets list'"
        )
    try:
        path.unlink()
    except OSError as error:
        raise FileError(f"cannot remove {path}: {error.strerror}") from error
    return path


def differences(a: Settings, b: Settings) -> dict[str, tuple[Any, Any]]:
    """The knobs that differ, each with its value in a and in b."""
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in KNOBS}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def preset_text(preset: Preset) -> str:
    """The preset as TOML; knobs that were dropped go; unknown keys and what is unchanged stay."""
    document = tomlkit.parse(preset.text) if preset.text else tomlkit.document()
    _set(document, "schema", SCHEMA)
    about = document.setdefault("preset", tomlkit.table())
    _set(about, "name", preset.name)
    _set(about, "description", preset.description)
    _set(about, "for", preset.purpose)
    _set(about, "version", preset.version)
    knobs = document.setdefault("settings", tomlkit.table())
    for name in KNOBS:
        if name in preset.overrides:
            _set(knobs, name, preset.overrides[name])
        elif name in knobs:
            del knobs[name]
    return tomlkit.dumps(document)


def _set(table: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Written as it was where it says the same already."""
    if key not in table or table[key] != value:
        table[key] = value


def read_preset(path: Path) -> Preset:
    """The preset in this TOML or JSON file, under the name of the file."""
    text = _read_text(path)
    if path.suffix.lower() == ".json":
        text = _toml_of(text, path)
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise SettingsError(f"preset {path} must be TOML: {error}") from error
    schema = data.get("schema")
    if type(schema) is not int or schema < 1:
        raise SettingsError(f"preset {path} must say 'schema = {SCHEMA}', got {schema!r}")
    if schema > SCHEMA:
        raise SettingsError(
            f"preset {path} has schema {schema}, this version reads {SCHEMA}; update audiosr-bridge"
        )
    about, knobs = _table(data, "preset", path), _table(data, "settings", path)
    notes = [f"unknown key {key!r} ignored" for key in data if key not in _KNOWN]
    notes += [f"unknown key 'preset.{key}' ignored" for key in about if key not in _KNOWN_ABOUT]
    notes += [f"unknown setting {key!r} ignored" for key in knobs if key not in KNOBS]
    if about.get("name", path.stem) != path.stem:
        notes.append(f"calls itself {about['name']!r}; its name is its file's, {path.stem!r}")
    version = about.get("version", 1)
    if type(version) is not int:
        raise SettingsError(f"preset {path}: version must be a whole number, got {version!r}")
    try:
        return Preset(
            name=path.stem,
            description=_line(about, "description", path),
            purpose=_line(about, "for", path),
            version=version,
            overrides={key: value for key, value in knobs.items() if key in KNOBS},
            path=path,
            factory=path.parent == factory_folder(),
            notes=tuple(notes),
            text=text,
        )
    except SettingsError as error:
        raise SettingsError(f"preset {path}: {error}") from error


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a FIFO would wait for ever
            raise FileError(f"a preset must be a file, got {path}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileError(f"cannot read the preset {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"a preset has at most {MAX_BYTES} bytes, {path} has more")
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise SettingsError(f"preset {path} must be UTF-8 text: {error.reason}") from error


def _toml_of(text: str, path: Path) -> str:
    """The TOML of a JSON object; SettingsError for what TOML cannot say, such as null."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("it holds no object")
        toml = tomlkit.dumps(data)
        toml.encode()  # JSON can spell halves of characters
    except (ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"preset {path} must be JSON that TOML can say: {error}") from error
    return toml


def _table(data: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict):
        raise SettingsError(f"preset {path}: [{key}] must be a table, got {table!r}")
    return table


def _line(about: Mapping[str, Any], key: str, path: Path) -> str:
    value = about.get(key, "")
    if not isinstance(value, str):
        raise SettingsError(f"preset {path}: {key} must be text, got {value!r}")
    return value


def _write_whole(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
