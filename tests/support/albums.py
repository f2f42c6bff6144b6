"""Albums of small sounds."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import soundfile


def sound(path: Path, seconds: float = 0.1, rate: int = 16_000, channels: int = 1) -> Path:
    """Noise of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode("utf-8", "surrogateescape")))
    x = rng.normal(0, 0.1, (round(seconds * rate), channels))
    with open(path, "wb") as file:  # any name
        kind = {".flac": "FLAC", ".ogg": "OGG"}.get(path.suffix, "WAV")
        soundfile.write(file, x, rate, format=kind)
    return path


def album(folder: Path, *songs: str, stems: int = 2, seconds: float = 0.1) -> Path:
    """A folder of songs; the mark is for `tests.support.stem_work`."""
    folder.mkdir(parents=True)
    (folder / "album.txt").touch()
    for song in songs:
        for number in range(stems):
            sound(folder / song / f"stem {number}.wav", seconds)
    return folder
