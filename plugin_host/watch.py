"""A folder that is looked after: what has stopped growing in it is handed on, once.

appears ─▶ grows ─▶ has not changed for a while, and opens ─▶ handed on
             ▲                                                   │ changes later
             └───────────────────────────────────────────────────┘
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import watchfiles

from plugin_host.stems.album import is_sound, made_by_extend

TICK_SECONDS = 0.1

Stamp = tuple[int, int, int]
"""Inode, size, time of the last change: another one is another sound."""


@dataclass
class _Growing:
    stamp: Stamp
    since: float  # monotonic seconds


def watch(
    folder: Path,
    out: Path,
    hand_on: Callable[[Path], None],
    *,
    recursive: bool = False,
    existing: bool = True,
    settle_seconds: float = 2.0,
    stop: Event | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Until `stop` is set, or an exception comes by.

    Args:
        out: nothing in it is a source
        hand_on: told of a file that is whole; once, until it changes
        existing: what is there at the start counts too
        settle_seconds: a file that has not changed for so long has stopped growing
        on_ready: told when nothing can be missed any more
    """
    growing: dict[Path, _Growing] = {}
    handed: dict[Path, Stamp] = {}
    changes = watchfiles.watch(
        folder,
        recursive=recursive,
        watch_filter=None,
        stop_event=stop,
        rust_timeout=round(1000 * TICK_SECONDS),
        yield_on_timeout=True,
        ignore_permission_denied=True,
        debounce=round(1000 * TICK_SECONDS),
        step=round(1000 * TICK_SECONDS / 2),
    )
    next(changes, None)
    for path in _sounds(folder, out, recursive):
        if (stamp := _stamp(path)) is None:
            continue
        if existing:
            growing[path] = _Growing(stamp, time.monotonic())
        else:
            handed[path] = stamp
    on_ready()
    for changed in changes:
        for _, name in changed:
            for path in _within(Path(name), folder, out, recursive):
                if (stamp := _stamp(path)) is not None:
                    growing.setdefault(path, _Growing(stamp, time.monotonic()))
        for path in sorted(growing):
            one = growing[path]
            stamp = _stamp(path)
            if stamp is None or stamp == handed.get(path):
                del growing[path]
            elif stamp != one.stamp:
                growing[path] = _Growing(stamp, time.monotonic())
            elif time.monotonic() - one.since >= settle_seconds and _opens(path):
                del growing[path]
                handed[path] = stamp
                hand_on(path)


def _within(path: Path, folder: Path, out: Path, recursive: bool) -> Iterator[Path]:
    """The sounds that a change at this path may be about; a folder may have moved in as a whole."""
    if path.is_dir():
        if recursive and not _is_inside(path, out):
            yield from _sounds(path, out, recursive)
    elif is_sound(path) and not _is_inside(path, out):
        hidden = any(part.startswith(".") for part in path.relative_to(folder.absolute()).parts)
        if not hidden and not made_by_extend(path, _names(path.parent)):
            yield path


def _sounds(folder: Path, out: Path, recursive: bool) -> Iterator[Path]:
    for here, folders, names in os.walk(folder.absolute()):
        folders[:] = [
            name
            for name in folders
            if recursive and not name.startswith(".") and not _is_inside(Path(here, name), out)
        ]
        for name in names:
            path = Path(here, name)
            if is_sound(path) and not made_by_extend(path, names):
                yield path


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _opens(path: Path) -> bool:
    """Some systems lock a file while it is written."""
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False
