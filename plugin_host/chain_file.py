"""A chain as a text file, in TOML, that can be kept beside the project it belongs to.

    schema = 1
    [chain]                              name and description, for people
    [[step]]                             one after the other; each is one of
    plugin = "HighpassFilter"                an effect of pedalboard, its arguments beside it
    super_resolution = "music"               a preset or true, knobs beside it
    vst3 = "ZamComp"                         a name or path, with [step.parameters]
    lv2 = "urn:zamaudio:ZamComp"             a URI, with [step.parameters]

Paths are relative to the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard
from numpy.typing import NDArray

from audiosr_core.errors import AudioSRError, FileError, UsageError
from audiosr_core.files import Reader
from audiosr_core.settings import KNOBS
from audiosr_core.text_file import parse_toml, read_text
from plugin_host.chain import Chain, Element
from plugin_host.errors import ChainError, PluginError
from plugin_host.lv2 import Lv2Plugin
from plugin_host.plugin_stage import EachChannel
from plugin_host.plugins import is_path, load_plugin
from plugin_host.super_resolution import SuperResolution

SCHEMA = 1
MAX_IMPULSE_SECONDS = 60

_KNOWN = ("schema", "chain", "step")
_KNOWN_ABOUT = ("name", "description")
_NO_EFFECTS = (pedalboard.PluginContainer, pedalboard.ExternalPlugin)

Table = Mapping[str, Any]


def load_chain(
    path: str | os.PathLike[str], *, note: Callable[[str], None] = lambda text: None
) -> Chain:
    """The chain that a file describes, its plugins loaded.

    Args:
        note: told in one sentence what was ignored

    Raises:
        ChainError: the file makes no sense
        PluginError: a plugin, or a file that a step needs, is missing or broken
    """
    path = Path(path)
    try:
        text = read_text(path, "chain", ChainError)
    except FileError as error:
        raise ChainError(str(error)) from error
    data = parse_toml(text, path, "chain", ChainError, SCHEMA)
    about = data.get("chain", {})
    if not isinstance(about, dict):
        raise ChainError(f"chain {path}: [chain] must be a table, got {about!r}")
    unknown = [key for key in data if key not in _KNOWN]
    unknown += [f"chain.{key}" for key in about if key not in _KNOWN_ABOUT]
    for key in unknown:
        note(f"chain {path}: unknown key {key!r} ignored")
    steps = data.get("step", [])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ChainError(f"chain {path}: steps must be tables, each under [[step]]")
    return Chain(_elements(steps, path))


def _elements(steps: Iterable[Table], path: Path) -> Iterable[Element]:
    for number, step in enumerate(steps, 1):
        try:
            yield _element(step, path.parent)
        except UsageError as error:
            raise ChainError(f"chain {path}, step {number}: {error}") from error
        except AudioSRError as error:
            raise PluginError(f"chain {path}, step {number}: {error}") from error


def _element(step: Table, folder: Path) -> Element:
    kinds = [kind for kind in _MAKERS if kind in step]
    if len(kinds) != 1:
        raise ChainError(
            f"a step has one of {', '.join(_MAKERS)}, got {' and '.join(kinds) or 'none of them'}"
        )
    (kind,) = kinds
    rest = {name: value for name, value in step.items() if name != kind}
    return _MAKERS[kind](step[kind], rest, folder)


# ---- one maker for each kind of step: its name, what stands beside it, the folder of the file


def _effect(name: Any, beside: Table, folder: Path) -> pedalboard.Plugin:
    effects = _effects()
    effect = effects[_one_of(name, effects, "plugin")]
    defaults = _defaults(effect)
    values = {
        key: _argument(key, value, defaults[_one_of(key, defaults, f"argument of {name}")])
        for key, value in beside.items()
    }
    if effect is pedalboard.Convolution:
        values |= _impulse_response(values.get("impulse_response_filename", ""), folder)
    try:
        made: pedalboard.Plugin = effect(**values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ChainError(f"{name} cannot be made so: {error}") from error
    return made


def _super_resolution(preset: Any, beside: Table, folder: Path) -> SuperResolution:
    for key in beside:
        _one_of(key, KNOBS, "knob of super_resolution")
    if preset is True:
        return SuperResolution(**beside)
    name = _text(preset, "super_resolution", "a preset, or true")
    is_file = name.endswith(".toml") or Path(name).name != name
    return SuperResolution(folder / name if is_file else name, **beside)


def _vst3(plugin: Any, beside: Table, folder: Path) -> Element:
    text = _text(plugin, "vst3", "a name or path")
    keys = ("plugin_name", "parameters", "preset", "state", "each_channel")
    for key in beside:
        _one_of(key, keys, "key of a vst3 step")
    texts = {
        key: _text(beside[key], key, "text") if key in beside else None
        for key in ("plugin_name", "preset", "state")
    }

    def load() -> pedalboard.Plugin:
        return load_plugin(
            folder / text if is_path(text) else text,
            plugin_name=texts["plugin_name"],
            parameters=_parameters(beside),
            preset=texts["preset"] and folder / texts["preset"],
            state=texts["state"] and folder / texts["state"],
        )

    each = _argument("each_channel", beside.get("each_channel", False), False)
    return EachChannel(load) if each else load()


def _lv2(uri: Any, beside: Table, folder: Path) -> Lv2Plugin:
    for key in beside:
        _one_of(key, ("parameters",), "key of an lv2 step")
    return Lv2Plugin(_text(uri, "lv2", "a URI"), _parameters(beside))


_MAKERS: dict[str, Callable[[Any, Table, Path], Element]] = {
    "plugin": _effect,
    "super_resolution": _super_resolution,
    "vst3": _vst3,
    "lv2": _lv2,
}


# ---- pedalboard's own effects


def _effects() -> dict[str, Any]:
    """By name; containers, and what loads code, are no effects."""
    plugins = {
        name: one
        for name, one in vars(pedalboard).items()
        if not name.startswith("_")
        and isinstance(one, type)
        and issubclass(one, pedalboard.Plugin)
        and not issubclass(one, _NO_EFFECTS)
    }
    bases = {base for one in plugins.values() for base in one.__bases__}
    return {name: one for name, one in sorted(plugins.items()) if one not in bases}


def _defaults(effect: Any) -> dict[str, Any]:
    """The effect's arguments, with the values that it has by itself."""
    if effect is pedalboard.Convolution:
        return {"impulse_response_filename": "", "mix": 1.0}
    made = effect()
    properties = [name for name, one in vars(effect).items() if isinstance(one, property)]
    return {name: getattr(made, name) for name in properties}


def _argument(name: str, value: Any, default: Any) -> Any:
    """The value in the type of the default; ChainError if it has another."""
    choices = getattr(type(default), "__members__", None)
    if choices is not None:
        return choices[_one_of(value, choices, name)]
    if isinstance(default, str):
        return _text(value, name, "a path")
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ChainError(f"{name} must be true or false, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ChainError(f"{name} must be a number, got {value!r}")
    return float(value)


def _impulse_response(name: str, folder: Path) -> dict[str, Any]:
    """Read by us: pedalboard takes any file, and one that holds no sound for silence."""
    if not name:
        raise ChainError("Convolution needs impulse_response_filename, the path of a sound")
    with Reader(folder / name) as reader:
        info = reader.info
        if (
            info.num_channels > 2
            or not 0 < info.num_samples <= MAX_IMPULSE_SECONDS * info.sample_rate
        ):
            raise ChainError(
                f"an impulse response has one or two channels and at most {MAX_IMPULSE_SECONDS} s,"
                f" but {name} has {info.num_channels} and"
                f" {info.num_samples / info.sample_rate:.10g} s"
            )
        samples: NDArray[np.float32] = reader.read(0, info.num_samples).astype(np.float32)
    return {"impulse_response_filename": samples, "sample_rate": float(info.sample_rate)}


# ---- values


def _parameters(beside: Table) -> dict[str, float | bool | str]:
    parameters = beside.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ChainError(f"parameters must be a table, [step.parameters], got {parameters!r}")
    for name, value in parameters.items():
        if not isinstance(value, bool | int | float | str):
            raise ChainError(f"{name} must be a number, true, false or text, got {value!r}")
    return parameters


def _text(value: Any, name: str, wanted: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ChainError(f"{name} must be {wanted}, got {value!r}")
    return value


def _one_of(value: Any, there: Iterable[str], what: str) -> str:
    names = list(there)
    if value not in names:
        raise ChainError(f"unknown {what}: {value!r}; there are: {', '.join(names)}")
    return str(value)
