"""What was done to an album, so that it is not done again: one JSON object a line, in OUT.

    {"state": "begun", "key": …, "targets": […]}                  before the work
    {"state": "done",  "key": …, "outputs": […], "report": {…}}   after it, on the disk

The key is everything the outputs depend on. A song that was begun and is not done was under way
when everything ended: what there is of its targets is half a song of ours, and may be replaced.
A line that a kill tore is no line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from audiosr_core.containers.temporary import sync_folder, translated
from audiosr_core.errors import UsageError

JOURNAL = ".audiosr-bridge-stems.jsonl"
LOCK = ".audiosr-bridge-stems.lock"


@dataclass(frozen=True)
class Entry:
    """What is known of one song."""

    done: bool
    targets: tuple[Path, ...]
    report: Mapping[str, Any]


class Journal:
    """Of one folder of outputs, which belongs to one run at a time; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self._lock = FileLock(folder / LOCK, timeout=0)
        self._lines: dict[str, Mapping[str, Any]] = {}

    def __enter__(self) -> Self:
        with translated(self.folder, "written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise UsageError(
                    f"another run is writing into {self.folder}; wait for it, or choose another"
                    " folder for the outputs"
                ) from None
        try:
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def find(self, key: str) -> Entry | None:
        """None as well where outputs are no longer those that were written."""
        line = self._lines.get(key)
        if line is None:
            return None
        if line["state"] == "begun":
            return Entry(False, self._paths(line["targets"]), {})
        outputs = line["outputs"]
        targets = self._paths([one["path"] for one in outputs])
        stamps = [[one["size"], one["mtime_ns"]] for one in outputs]
        if [_stamp(target) for target in targets] != stamps:
            return None
        return Entry(True, targets, line["report"])

    def begin(self, key: str, name: str, targets: Sequence[Path]) -> None:
        self._add(
            {"state": "begun", "key": key, "song": name, "targets": [*map(self._name, targets)]}
        )

    def finish(
        self, key: str, name: str, targets: Sequence[Path], report: Mapping[str, Any]
    ) -> None:
        outputs = []
        for target in targets:
            size, mtime_ns = _stamp(target) or (None, None)
            outputs.append({"path": self._name(target), "size": size, "mtime_ns": mtime_ns})
        self._add({"state": "done", "key": key, "song": name, "outputs": outputs, "report": report})

    def _read(self) -> None:
        with translated(self.path, "read"):
            try:
                data = self.path.read_bytes()
            except FileNotFoundError:
                return
            if data and not data.endswith(b"\n"):  # torn: what comes next begins a line
                self._append(b"\n")
        for text in data.split(b"\n"):
            try:
                line = json.loads(text)
                self._lines[line["key"]] = _checked(line)
            except (ValueError, KeyError, TypeError):
                continue

    def _add(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":"), default=str)
        self._lines[line["key"]] = line
        with translated(self.path, "written"):
            self._append(text.encode() + b"\n")

    def _append(self, data: bytes) -> None:
        is_new = not self.path.exists()
        with open(self.path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.folder)

    def _name(self, target: Path) -> str:
        return target.relative_to(self.folder).as_posix()

    def _paths(self, names: Sequence[str]) -> tuple[Path, ...]:
        return tuple(self.folder / name for name in names)


def key_of(inputs: Mapping[str, Any]) -> str:
    """SHA-256 of everything that outputs depend on."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _checked(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """The line, if it holds what a line holds; KeyError or TypeError if not."""
    names = (
        [one["path"] for one in line["outputs"] if {"size", "mtime_ns"} <= one.keys()]
        if line["state"] == "done"
        else line["targets"]
    )
    if not all(isinstance(name, str) for name in [*names, line["key"]]):
        raise TypeError
    return line


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
