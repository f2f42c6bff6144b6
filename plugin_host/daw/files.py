"""Files of ours in a DAW's folders: put there, taken away, looked at.

    <where the DAW looks>/...        what `Daw.files` says
    <config>/daw/<name>.json         what is ours, by digest

All of them or none: what was there before comes back if one cannot be written. Ours is what the
record says, unchanged: anything else of such a name is somebody's own, and is neither replaced nor
removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from audiosr_core import __version__
from audiosr_core.containers.temporary import translated, write_whole
from audiosr_core.errors import OutputExistsError
from bridge.errors import NoDaemonError
from bridge.runtime_dir import config_folder, private_folder, read_private, write_private
from plugin_host.daw import DAWS

MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class Daw:
    """One of them, as its module describes it."""

    title: str
    files: Callable[[], Mapping[Path, bytes]]  # where → what; raises where the DAW is not there
    folders: Callable[[], list[Path]]  # that are ours alone, and go when they are empty
    then: str  # what is left to its user


@dataclass(frozen=True)
class Done:
    """What an installation or its end did."""

    written: list[Path]
    removed: list[Path]
    notes: list[str]


@dataclass(frozen=True)
class State:
    """One file of ours."""

    path: Path
    there: bool
    ours: bool  # as it was put there
    current: bool  # as this version has it


def daw(name: str) -> Daw:
    """One of `DAWS`."""
    found: Daw = importlib.import_module(DAWS[name]).DAW
    return found


def data(folder: str, name: str) -> bytes:
    """A file that is shipped beside this module."""
    return (resources.files("plugin_host.daw") / folder / name).read_bytes()


def install(name: str) -> Done:
    """Put a DAW's files where it looks.

    Raises:
        OutputExistsError: something that is not ours has the name of one
        FileError: one cannot be written, or the DAW is not there
    """
    wanted = daw(name).files()
    record = _recorded(name)
    for path, content in wanted.items():
        if os.path.lexists(path) and not _is(path, record.get(path), _digest(content)):
            raise OutputExistsError(
                f"{path} is there and not ours; move it elsewhere and try again"
            )
    with _restored(list(wanted)):
        for path, content in wanted.items():
            with translated(path.parent, "made"):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content, overwrite=True)
        _write_record(name, {path: _digest(content) for path, content in wanted.items()})
    stale = [path for path, sha256 in record.items() if path not in wanted and _is(path, sha256)]
    _remove(stale)
    return Done(list(wanted), stale, [])


def uninstall(name: str) -> Done:
    """Take away what `install` put there; what somebody changed since stays, with a note."""
    record = _recorded(name)
    ours = [path for path, sha256 in record.items() if _is(path, sha256)]
    kept = [path for path in record if path not in ours and os.path.lexists(path)]
    _remove(ours)
    for folder in daw(name).folders():
        with contextlib.suppress(OSError):  # somebody put something into it
            folder.rmdir()
    _record(name).unlink(missing_ok=True)
    return Done([], ours, [f"{path} was changed since and stays" for path in kept])


def status(name: str) -> list[State]:
    """Every file that belongs there, and those of an earlier version."""
    wanted = {path: _digest(content) for path, content in daw(name).files().items()}
    record = _recorded(name)
    return [
        State(path, os.path.lexists(path), _is(path, record.get(path)), _is(path, wanted.get(path)))
        for path in dict.fromkeys([*wanted, *record])
    ]


def _record(name: str) -> Path:
    return config_folder() / "daw" / f"{name}.json"


def _recorded(name: str) -> dict[Path, str]:
    try:
        text = read_private(_record(name), MAX_RECORD_BYTES)
    except NoDaemonError:  # there is no such file
        return {}
    try:
        return {Path(path): str(sha256) for path, sha256 in json.loads(text)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # then nothing is ours


def _write_record(name: str, files: Mapping[Path, str]) -> None:
    path = _record(name)
    private_folder(path.parent)
    record = {"version": __version__, "files": {str(one): files[one] for one in files}}
    write_private(path, json.dumps(record, indent=1).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is(path: Path, *digests: str | None) -> bool:
    """Whether it is a plain file with one of these contents."""
    if path.is_symlink() or not path.is_file():
        return False
    with translated(path, "read"):
        return _digest(path.read_bytes()) in digests


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with translated(path, "removed"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _restored(paths: list[Path]) -> Iterator[None]:
    """What these files hold now, they hold again if what is done with them fails."""
    before = {path: path.read_bytes() if path.is_file() else None for path in paths}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            with contextlib.suppress(Exception):
                if content is None:
                    path.unlink(missing_ok=True)
                else:
                    write_whole(path, content, overwrite=True)
        raise
