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

from audiosr_core.errors import RegionError, SettingsError


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
    choices: tuple[str, ...] = ()  # the only texts that are accepted
    whole: bool = False  # whole numbers only

    def check(self, value: Any) -> Any:
        """The value in the knob's own type, or SettingsError."""
        if self.choices:
            if value not in self.choices:
                wanted = ", ".join(self.choices)
                raise SettingsError(f"{self.name} must be one of {wanted}, got {value!r}")
            return value
        if isinstance(value, str) and (value in self.words or self.is_text):
            return value
        if self.is_text:
            raise SettingsError(f"{self.name} must be text, got {value!r}")
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise SettingsError(f"{self.name} must be {self.range_text}, got {value!r}") from None
        if self.whole:
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
    choices: tuple[str, ...] = (),
    whole: bool = False,
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
            "choices": choices,
            "whole": whole,
        },
    )


@dataclass(frozen=True)
class Settings:
    """How to extend one sound. Checked where it is made, and trusted ever after."""

    model: str = knob("lite", help="which model generates the high band")
    seed: int = knob(0, 0, 2**32 - 1, whole=True, help="the same seed gives the same samples")
    rate: int | Literal["auto", "keep"] = knob(
        "auto", 8_000, 192_000, "Hz", words=("auto", "keep"), whole=True,
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

    mode: str = knob(
        "product", choices=("product", "reference"),
        help="the product, or the published AudioSR pipeline as it is, for comparisons",
    )  # fmt: skip
    sampler: str = knob(
        "auto", choices=("auto", "dpm++2m", "unipc", "ddim", "ddim-trailing"),
        help="how a diffusion model walks from noise to sound; auto is the model's own",
    )  # fmt: skip
    steps: int | Literal["auto"] = knob(
        "auto", 1, 1000, words=("auto",), whole=True,
        help="denoising steps of a diffusion model; auto is the model's own",
    )  # fmt: skip
    guidance_scale: float = knob(
        3.5, 1.0, 20.0, help="how strongly a diffusion model is held to the sound; 1 adds nothing"
    )
    guidance_from: float = knob(
        1.0, 0.0, 1.0, help="noise level at which guidance begins, 1 being pure noise"
    )
    guidance_to: float = knob(0.0, 0.0, 1.0, help="noise level at which guidance ends")
    eta: float | Literal["auto"] = knob(
        "auto", 0.0, 1.0, words=("auto",),
        help="fresh noise at every step of a diffusion model: 0 for none, 1 as published",
    )  # fmt: skip
    joins: str = knob(
        "crossfade", choices=("crossfade", "joint"),
        help="how a diffusion model's windows meet: each on its own, or denoised together",
    )  # fmt: skip

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


def keep_rate(settings: Settings) -> Settings:
    """Settings for a region of a sound, which keeps its rate; RegionError if they want another."""
    if settings.rate not in ("auto", "keep"):
        raise RegionError(
            f"a region keeps the rate of its file, but rate {settings.rate} was asked for;"
            " leave out one of the two"
        )
    return settings.replace(rate="keep")
