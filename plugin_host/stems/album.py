"""What is to be done: an album is songs, a song is stems, a stem is one file or a pair of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stem:
    """One sound of a song: a file, or the two mono files of a `%L`/`%R` pair."""

    name: str  # without suffix and side
    files: tuple[Path, ...]  # one, or left and right
    targets: tuple[Path, ...]  # where each of them goes


@dataclass(frozen=True)
class Song:
    """Stems that belong together: their sum is the mix."""

    name: str  # its folder within the album
    stems: tuple[Stem, ...]
