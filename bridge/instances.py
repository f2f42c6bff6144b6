"""Named sets of knobs, so that a fader, a script and a plugin can mean the same one.

A client opens an instance under a name and owns it; the daemon (for OSC) or its owner turns its
knobs. Values only: no sockets, no clock, and safe to use from every thread.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from audiosr_core.errors import SettingsError
from audiosr_core.settings import KNOBS, Knob, Settings, settings_from
from bridge.errors import BusyError, JobError

NAME = re.compile(r"[a-z0-9_-]{1,32}")
RESERVED = frozenset(
    {"auth", "error", "info", "instance", "job", "ping", "pong", "subscribe", "unsubscribe"}
)
"""Second words of OSC addresses that mean something else."""

MONITORS = ("bypass", "delta", "ab")
MOST = 256


@dataclass(frozen=True)
class Instance:
    """One named set of knobs, as it is now."""

    name: str
    settings: Settings
    owner: str  # session
    monitors: Mapping[str, bool] = field(
        default_factory=lambda: MappingProxyType(dict.fromkeys(MONITORS, False))
    )
    job: Mapping[str, Any] | None = None  # the latest `job_state` of its latest job
    version: int = 0  # rises with every change of any instance


class Instances:
    """Every open instance of a daemon."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Instance] = {}
        self._version = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Instance]:
        with self._lock:
            return iter(list(self._all.values()))

    @property
    def version(self) -> int:
        """Rises with every change, so that who looks often need not look closely."""
        return self._version

    def get(self, name: str) -> Instance | None:
        return self._all.get(name)

    def open(self, name: str, settings: Mapping[str, Any], owner: str) -> Instance:
        """A new instance, or its owner's own again with these settings.

        Raises:
            SettingsError: a knob out of range, or a name that cannot be; BusyError: it is taken
        """
        if not NAME.fullmatch(name) or name in RESERVED:
            raise SettingsError(
                "an instance's name must be 1 to 32 of a-z, 0-9, _ and -, and none of"
                f" {', '.join(sorted(RESERVED))}; got {name[:40]!r}"
            )
        made = settings_from(settings)
        with self._lock:
            there = self._all.get(name)
            if there is not None and there.owner != owner:
                raise BusyError(f"another client has the instance {name!r} open; take another name")
            if there is None and len(self._all) >= MOST:
                raise BusyError(f"{MOST} instances are open already; close one and try again")
            return self._keep(
                Instance(name, made, owner) if there is None else replace(there, settings=made)
            )

    def change(self, name: str, changes: Mapping[str, Any], owner: str | None = None) -> Instance:
        """Turn some knobs.

        Args:
            owner: who asks; None for the daemon itself

        Raises:
            SettingsError: a knob is out of range or unknown; JobError: not open, or not the owner's
        """
        with self._lock:
            there = self._of(name, owner)
            return self._keep(
                replace(there, settings=settings_from({**there.settings.as_dict(), **changes}))
            )

    def monitor(self, name: str, mode: str, on: bool) -> Instance:
        """What its owner lets hear: the original (bypass), only what was added (delta), or B."""
        if mode not in MONITORS:
            raise SettingsError(f"a monitor mode is one of {', '.join(MONITORS)}, got {mode!r}")
        with self._lock:
            there = self._of(name, None)
            return self._keep(
                replace(there, monitors=MappingProxyType({**there.monitors, mode: on}))
            )

    def job_state(self, name: str, meta: Mapping[str, Any]) -> None:
        """What became of its job; nothing if the instance is closed."""
        with self._lock:
            there = self._all.get(name)
            if there is not None:
                self._keep(replace(there, job=MappingProxyType(dict(meta))))

    def close(self, name: str, owner: str | None = None) -> None:
        with self._lock:
            del self._all[self._of(name, owner).name]
            self._version += 1

    def close_all_of(self, owner: str) -> None:
        """The session is over."""
        with self._lock:
            for one in [one for one in self._all.values() if one.owner == owner]:
                del self._all[one.name]
                self._version += 1

    def _of(self, name: str, owner: str | None) -> Instance:
        there = self._all.get(name)
        if there is None:
            names = ", ".join(sorted(self._all)[:10]) or "none"
            raise JobError(f"there is no instance {name[:40]!r}; open are: {names}")
        if owner is not None and there.owner != owner:
            raise JobError(f"the instance {name!r} belongs to another client")
        return there

    def _keep(self, one: Instance) -> Instance:
        self._version += 1
        kept = replace(one, version=self._version)
        self._all[one.name] = kept
        return kept


# ---- knobs under a finger


def knob_of(name: str) -> Knob:
    """The knob of this name, or SettingsError."""
    if name not in KNOBS:
        raise SettingsError(f"there is no knob {name[:40]!r}; there are: {', '.join(KNOBS)}")
    return KNOBS[name]


def natural(knob: Knob, value: int | float | bool | str) -> Any:
    """The value that a surface means: a choice by its number or text, a whole number near a float.

    Raises:
        SettingsError: it is out of range
    """
    if isinstance(value, str):
        return knob.check(value)
    number = float(value)
    if knob.choices:
        if not number.is_integer() or not 0 <= number < len(knob.choices):
            raise SettingsError(
                f"{knob.name} must be one of {', '.join(knob.choices)}, or 0 to"
                f" {len(knob.choices) - 1}, got {value!r}"
            )
        return knob.choices[int(number)]
    if knob.whole and abs(number) < 2**53:  # NaN is neither
        number = round(number)
    return knob.check(number)


def from_fader(knob: Knob, position: float) -> Any:
    """The value at a place between 0 and 1 of a knob's range, or of its list of choices."""
    if not 0 <= position <= 1:
        raise SettingsError(f"{knob.name}/norm must lie in 0 to 1, got {position!r}")
    if knob.choices:
        return knob.choices[round(position * (len(knob.choices) - 1))]
    if knob.minimum is None or knob.maximum is None:
        raise SettingsError(f"{knob.name} is text and has no fader; send its name")
    value = knob.minimum + position * (knob.maximum - knob.minimum)
    return natural(knob, min(max(value, knob.minimum), knob.maximum))


def to_fader(knob: Knob, value: Any) -> float | None:
    """Where a value lies between 0 and 1; None for a word such as auto, and for text."""
    if knob.choices:
        return knob.choices.index(value) / max(1, len(knob.choices) - 1)
    if isinstance(value, str) or knob.minimum is None or knob.maximum is None:
        return None
    return float((value - knob.minimum) / (knob.maximum - knob.minimum))
