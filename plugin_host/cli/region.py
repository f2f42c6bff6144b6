"""A region of a sound, as a person writes it.

START:END in seconds, or in minutes and seconds; START-END where hours make colons ambiguous.

    12.5:20        12.5 s to 20 s
    1:30:2:05.5    1 min 30 s to 2 min 5.5 s
    1:30-2:05.5    the same
    0:59:30-1:2:0  with hours
"""

from __future__ import annotations

import re

from audiosr_core.errors import RegionError

_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")


def parse_region(text: str) -> tuple[float, float]:
    """Start and end in seconds; RegionError says how to write it."""
    parts = [side.split(":") for side in text.split("-")] if "-" in text else _halves(text)
    numbers = [part for side in parts for part in side]
    if (
        len(parts) != 2
        or max(map(len, parts)) > 3
        or not all(_NUMBER.fullmatch(part) and len(part) < 20 for part in numbers)
    ):
        raise RegionError(
            "a region is START:END in seconds or mm:ss.s, such as 12.5:20 or 1:30-2:05.5,"
            f" got {text!r}"
        )
    start, end = (_seconds(side) for side in parts)
    if not start < end:
        raise RegionError(f"a region must end after it starts, got {start:g} s to {end:g} s")
    return start, end


def parse_moment(text: str) -> float:
    """A point in seconds, or as mm:ss.s or hh:mm:ss; RegionError says how to write it."""
    parts = text.split(":")
    if len(parts) > 3 or not all(_NUMBER.fullmatch(part) and len(part) < 20 for part in parts):
        raise RegionError(f"a point is seconds or mm:ss.s, such as 83 or 1:23.5, got {text!r}")
    return _seconds(parts)


def _halves(text: str) -> list[list[str]]:
    parts = text.split(":")
    half, odd = divmod(len(parts), 2)
    return [] if odd else [parts[:half], parts[half:]]


def _seconds(parts: list[str]) -> float:
    total = 0.0
    for part in parts:
        total = total * 60 + float(part)
    return total
