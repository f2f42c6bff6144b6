"""The daemon's log: JSON, one event a line, for this user's eyes only, and never without bound.

    log.info("job done", extra={"job": "3f9c…", "chunks": 7, "file": Path("/music/song.wav")})
    {"time": "2026-01-31T12:00:00.123Z", "level": "info", "from": "bridge.daemon", "pid": 7,
     "event": "job done", "job": "3f9c…", "chunks": 7, "file": "song.wav"}

No sample of a sound is ever written, whatever is handed in; of a file only its name without its
folders, unless the log is at level debug.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import math
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import FileIO, TextIOWrapper
from pathlib import Path, PurePath
from typing import Any, TextIO

from bridge.errors import BridgeError
from bridge.runtime_dir import LOG, private_folder

LOGGERS = ("audiosr_core", "bridge", "plugin_host", "__main__")  # the last: `-m bridge.daemon`
MAX_BYTES = 2 << 20  # of one file
KEPT = 4  # older files
MAX_TEXT = 2000
MAX_ITEMS = 50

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_FOLDERS = re.compile(r"(?<![\w:/])(?:~|/)[^\n'\"<>|:;]*/(?=[^/\s])")


class JsonLines(logging.Formatter):
    """One record, one line.

    Args:
        whole_names: files with their folders
    """

    def __init__(self, whole_names: bool = False) -> None:
        super().__init__()
        self.whole_names = whole_names

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "from": record.name,
            "pid": record.process,
            "event": self._plain(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _OWN:
                fields.setdefault(name, self._plain(value))
        if record.exc_info and record.exc_info[0]:
            fields["traceback"] = self._plain("".join(traceback.format_exception(*record.exc_info)))
        return json.dumps(fields, ensure_ascii=True)

    def _plain(self, value: Any, depth: int = 3) -> Any:
        """What JSON can say of a value; of anything large or unknown only its kind."""
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, PurePath):
            return str(value) if self.whole_names else value.name
        if isinstance(value, str):
            text = value if self.whole_names else _FOLDERS.sub("", value)
            return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
        if isinstance(value, BaseException):
            return self._plain(str(value))
        if isinstance(value, Mapping) and depth:
            items = list(value.items())[:MAX_ITEMS]
            return {str(self._plain(k, 0)): self._plain(v, depth - 1) for k, v in items}
        if isinstance(value, list | tuple | set | frozenset) and depth:
            if len(value) > MAX_ITEMS:  # may be a sound
                return f"<{len(value)} values>"
            return [self._plain(one, depth - 1) for one in value]
        return f"<{type(value).__name__}>"


class PrivateRotatingFile(logging.handlers.RotatingFileHandler):
    """Files of bounded size that only this user can read; never a link to somewhere else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        file = FileIO(os.open(self.baseFilename, flags, 0o600), "a")
        # nothing is kept back, so that what could not be written is no trouble later
        return TextIOWrapper(file, "utf-8", write_through=True)

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written, as on a full disk, stops nobody."""


@contextlib.contextmanager
def logging_to(
    folder: Path, level: str = "info", also_to: TextIO | None = None, name: str = LOG
) -> Iterator[logging.Handler]:
    """What this project logs goes to a file in the folder, until the `with` is left.

    Args:
        also_to: a stream besides, for a daemon in the foreground
        name: of the file, where it is not the daemon that logs
    """
    private_folder(folder)
    try:
        file = PrivateRotatingFile(folder / name)
    except OSError as error:
        raise BridgeError(f"{folder / name} cannot be written: {error.strerror}") from error
    handlers: list[logging.Handler] = [file]
    if also_to is not None:
        handlers.append(logging.StreamHandler(also_to))
    for one in handlers:
        one.setFormatter(JsonLines(whole_names=level == "debug"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.setLevel(level.upper())
        logger.propagate = False
        for one in handlers:
            logger.addHandler(one)
    try:
        yield file
    finally:
        for logger in loggers:
            logger.propagate = True
            for one in handlers:
                logger.removeHandler(one)
        for one in handlers:
            one.close()
