"""Flags for every knob, read off `Settings`: a new knob is a new flag."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from audiosr_core.errors import SettingsError
from audiosr_core.presets import Preset, load_preset
from audiosr_core.settings import KNOBS, Knob, Settings
from plugin_host.cli.terminal import say


def with_knobs(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its `**knobs` replaced by one flag for each knob; None where not given."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = [_parameter(one) for one in KNOBS.values()]

    def run(**arguments: Any) -> None:
        command(**arguments)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*own, *flags]}
    return run


def turned(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that were given, checked; SettingsError names the flag."""
    given = {name: text for name, text in knobs.items() if text is not None}
    for name, text in given.items():
        try:
            given[name] = KNOBS[name].check(text)
        except SettingsError as error:
            raise SettingsError(f"{flag(name)}: {error}") from error
    return given


def settings_of(preset: str | None, knobs: Mapping[str, Any]) -> Settings:
    """Defaults, then the preset, then the flags."""
    changes = turned(knobs)
    return tell_notes(load_preset(preset)).settings(**changes) if preset else Settings(**changes)


def tell_notes(preset: Preset) -> Preset:
    """Say what of the preset was ignored."""
    for note in preset.notes:
        say(f"note: preset {preset.name}: {note}")
    return preset


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parameter(one: Knob) -> inspect.Parameter:
    option = typer.Option(
        flag(one.name),
        metavar=_metavar(one),
        help=_help(one),
        show_default=False,
        rich_help_panel="Knobs",
    )
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )


def _metavar(one: Knob) -> str:
    if one.choices:
        return "|".join(one.choices)
    return "NAME" if one.is_text else "|".join([*one.words, "NUMBER"])


def _help(one: Knob) -> str:
    if one.is_text:
        return f"{one.help} (default: {one.default})"
    unit = f" {one.unit}" if one.unit else ""
    ends = f"{one.minimum:.10g} to {one.maximum:.10g}{unit}"
    return f"{one.help} ({ends}; default: {one.default})"
