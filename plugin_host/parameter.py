"""One parameter of somebody else's plugin, as chain files name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """What can be turned, in the plugin's own units."""

    name: str
    value: float | bool | str  # as the plugin is loaded
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    words: tuple[str, ...] = ()  # the only values, where they are no numbers
