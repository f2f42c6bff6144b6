"""What a seat can do in place of a model; the name of a song says what happens to it.

echo      the files are copied, in pieces, with progress
fail      an error with a sentence
bug       an error nobody foresaw
crash     its process is killed, every time
once      its process is killed, the first time
hang      until it is ended, with a half written file, unless there is a `calm.txt`

Every time a song is begun, a line goes to `begun.txt` at the top of the album.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from audiosr_core.containers.temporary import Temporary
from audiosr_core.errors import FileError, OutputExistsError
from audiosr_core.settings import Settings
from plugin_host.place import Where
from plugin_host.stems.album import Song
from plugin_host.stems.seat import Work

PIECE_BYTES = 1 << 12


@contextlib.contextmanager
def opened(where: Where) -> Iterator[Work]:
    yield _extend


@contextlib.contextmanager
def slow(where: Where) -> Iterator[Work]:
    """Long enough for kills to fall into it."""
    os.environ["STEM_WORK_SECONDS"] = "0.01"  # a piece
    yield _extend


def begun(album: Path) -> list[str]:
    """The songs that were begun, in order."""
    path = album / "begun.txt"
    return path.read_text().splitlines() if path.exists() else []


def _extend(
    song: Song, settings: Settings, overwrite: bool, on_progress: Callable[[float], None]
) -> Mapping[str, Any]:
    top = _top(song.files[0].parent)
    with open(top / "begun.txt", "a") as file:
        file.write(f"{song.name}\n")
    if "fail" in song.name:
        raise FileError(f"{song.files[0]} is damaged; copy it again")
    if "bug" in song.name:
        raise ZeroDivisionError("nobody saw it coming")
    if ("once" in song.name and begun(top).count(song.name) == 1) or "crash" in song.name:
        Temporary(song.targets[0]).write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in song.name and not (top / "calm.txt").exists():
        Temporary(song.targets[0]).write(b"half")
        (top / "hangs.part").write_text(str(os.getpid()))
        (top / "hangs.part").rename(top / "hangs.txt")
        threading.Event().wait(60)
    for done, (file, target) in enumerate(zip(song.files, song.targets, strict=True)):
        if target.exists() and not overwrite:
            raise OutputExistsError(f"{target} exists already")
        _copy(file, target)
        on_progress((done + 1) / len(song.files))
    return {"stems": len(song.stems), "seed": settings.seed, "notes": ["copied"]}


def _copy(file: Path, target: Path) -> None:
    data = file.read_bytes()
    temporary = Temporary(target)
    pause = threading.Event()
    for start in range(0, len(data), PIECE_BYTES):
        temporary.write(data[start : start + PIECE_BYTES])
        pause.wait(float(os.environ.get("STEM_WORK_SECONDS", "0")))
    temporary.publish(replace=True)


def _top(folder: Path) -> Path:
    """Of the album: the folder with the mark."""
    return next(one for one in (folder, *folder.parents) if (one / "album.txt").exists())
