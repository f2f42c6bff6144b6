"""What a user may turn: every knob once.

Flags, presets, OSC addresses and plugin parameters are read off `Settings`, so adding a knob is
adding a line here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from audiosr_core.errors import SettingsError


@dataclass(frozen=True)
class Knob:
    """What a door needs to show one knob: range, unit, help."""

    name: str
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    words: tuple[str, ...] = ()  # accepted instead of a number

    def check(self, value: Any) -> Any:
        """The value in the knob's own type, or SettingsError."""
        if isinstance(value, str) and (value in self.words or self.is_text):
            return value
        if self.is_text:
            raise SettingsError(f"{self.name} must be text, got {value!r}")
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError):
            raise SettingsError(f"{self.name} must be {self.range_text}, got {value!r}") from None
        if isinstance(self.default, int) or self.name == "rate":
            if number != number // 1:
                raise SettingsError(f"{self.name} must be a whole number, got {value!r}")
            number = int(number)
        assert self.minimum is not None
        assert self.maximum is not None
        if not self.minimum <= number <= self.maximum:
            raise SettingsError(f"{self.name} must be {self.range_text}, got {value!r}")
        return number

    @property
    def is_text(self) -> bool:
        return self.minimum is None

    @property
    def range_text(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        words = "".join(f"'{w}' or " for w in self.words)
        return f"{words}{self.minimum:.10g} to {self.maximum:.10g}{unit}"


def knob(
    default: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    unit: str = "",
    *,
    help: str,
    words: tuple[str, ...] = (),
) -> Any:
    """Declare one knob as a dataclass field."""
    return dataclasses.field(
        default=default,
        metadata={
            "minimum": minimum,
            "maximum": maximum,
            "unit": unit,
            "help": help,
            "words": words,
        },
    )


@dataclass(frozen=True)
class Settings:
    """How to extend one sound. Checked where it is made, and trusted ever after."""

    model: str = knob("lite", help="which model generates the high band")
    seed: int = knob(0, 0, 2**32 - 1, help="the same seed gives the same samples")
    rate: int | Literal["auto", "keep"] = knob(
        "auto", 8_000, 192_000, "Hz", words=("auto", "keep"),
        help="output rate: auto keeps the input's where there is room for a new band, else 48 kHz",
    )  # fmt: skip
    cutoff: float | Literal["auto", "follow"] = knob(
        "auto", 500, 24_000, "Hz", words=("auto", "follow"),
        help="where the original ends: measured per file, measured all along, or given",
    )  # fmt: skip
    transition: float = knob(
        0.08, 0.02, 0.5, help="width of the crossover below the cutoff, as a fraction of the cutoff"
    )
    ceiling_hz: float = knob(24_000, 2_000, 24_000, "Hz", help="nothing is generated above this")
    mix: float = knob(1.0, 0.0, 1.0, help="how much of the generated high band is added")
    gain_hf_db: float = knob(0.0, -24.0, 12.0, "dB", help="level of the generated high band")

    def __post_init__(self) -> None:
        for name, one in KNOBS.items():
            object.__setattr__(self, name, one.check(getattr(self, name)))

    def replace(self, **changes: Any) -> Settings:
        """A copy with these knobs turned; SettingsError for an unknown one."""
        return settings_from({**self.as_dict(), **changes})

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """SHA-256 over the canonical JSON of every knob."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


KNOBS: dict[str, Knob] = {
    f.name: Knob(name=f.name, default=f.default, **f.metadata) for f in dataclasses.fields(Settings)
}


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings from a mapping (a preset, a message); SettingsError names an unknown knob."""
    unknown = sorted(set(values) - set(KNOBS))
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]!r}; there are: {', '.join(KNOBS)}")
    return Settings(**dict(values))
