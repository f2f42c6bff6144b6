"""What the daemon remembers of its jobs, whatever becomes of it: one SQLite file.

A process that is killed between two calls loses nothing that was put; what was running then is
`interrupted` when the next daemon looks (`interrupt_running`). The journal is a memory and no
authority: a file that is damaged, or was written by a newer version, is moved aside and begun
anew, and a full disk costs the memory but never a job.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.errors import BridgeError
from bridge.jobs import ENDED, State

SCHEMA = 1
BUSY_SECONDS = 2.0

log = logging.getLogger(__name__)

Row = tuple[Any, ...]

_TABLE = """
CREATE TABLE jobs (
    job TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    priority TEXT NOT NULL,
    source_kind TEXT NOT NULL,
    source_path TEXT,
    chunks_done INTEGER NOT NULL,
    chunks_total INTEGER,
    error_code TEXT,
    error_text TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL
) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX jobs_updated ON jobs (updated)"


@dataclass(frozen=True)
class Entry:
    """One job as it is remembered."""

    job: str
    client: str
    spec: Mapping[str, Any]  # what was submitted
    state: State
    priority: str
    source_kind: str
    source_path: str | None = None
    chunks_done: int = 0
    chunks_total: int | None = None
    error_code: str | None = None
    error_text: str | None = None
    created: float = field(default=0.0)  # seconds since 1970; the journal fills in both
    updated: float = field(default=0.0)


_COLUMNS = tuple(one.name for one in fields(Entry))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"
_PUT = (
    f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    " ON CONFLICT (job) DO UPDATE SET "
    + ", ".join(f"{one} = excluded.{one}" for one in _COLUMNS if one not in ("job", "created"))
)


class Journal:
    """Open until closed; any thread may call.

    Args:
        clock: seconds since 1970
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._turn = threading.Lock()
        self._database: sqlite3.Connection | None = None
        with self._turn:
            self._open()

    def put(self, entry: Entry) -> None:
        """Remember a job; one of the same name is replaced and keeps the time it was created."""
        now = self._clock()
        values = [getattr(entry, name) for name in _COLUMNS[:-2]]
        values = [_text(one) if isinstance(one, str) else one for one in values]
        values[_COLUMNS.index("spec")] = json.dumps(dict(entry.spec))
        values[_COLUMNS.index("state")] = str(entry.state)
        self._do(_PUT, (*values, entry.created or now, now))

    def set_state(
        self, job: str, state: State, error_code: str | None = None, error_text: str | None = None
    ) -> None:
        """The job is in this state now; nothing if it is not known."""
        self._do(
            "UPDATE jobs SET state = ?, error_code = ?, error_text = ?, updated = ? WHERE job = ?",
            (str(state), error_code, error_text, self._clock(), job),
        )

    def set_progress(self, job: str, chunks_done: int, chunks_total: int | None) -> None:
        """How far it is; the caller sees to it that this is not told too often."""
        self._do(
            "UPDATE jobs SET chunks_done = ?, chunks_total = ?, updated = ? WHERE job = ?",
            (chunks_done, chunks_total, self._clock(), job),
        )

    def get(self, job: str) -> Entry | None:
        rows = self._do(f"{_SELECT} WHERE job = ?", (job,))
        return next(_entries(rows), None)

    def list(self, states: Iterable[State] | None = None, limit: int = 10_000) -> Sequence[Entry]:
        """Jobs, the last changed first.

        Args:
            states: only these; all if not given
        """
        if states is None:
            rows = self._do(f"{_SELECT} ORDER BY updated DESC, job LIMIT ?", (limit,))
        else:
            wanted = [str(one) for one in states]
            marks = ", ".join("?" * len(wanted))
            rows = self._do(
                f"{_SELECT} WHERE state IN ({marks}) ORDER BY updated DESC, job LIMIT ?",
                (*wanted, limit),
            )
        return [*_entries(rows)]

    def interrupt_running(self) -> int:
        """At the start of a daemon: what had not ended is interrupted; how many there were."""
        keep = [str(one) for one in (*ENDED, State.INTERRUPTED)]
        rows = self._do(
            f"UPDATE jobs SET state = ?, updated = ? WHERE state NOT IN ({_marks(keep)})"
            " RETURNING job",
            (str(State.INTERRUPTED), self._clock(), *keep),
        )
        return len(rows)

    def prune(self, older_than_seconds: float, keep: int) -> int:
        """Forget what ended or was interrupted long ago, and the oldest beyond `keep` of them."""
        states = [str(one) for one in (*ENDED, State.INTERRUPTED)]
        rows = self._do(
            f"DELETE FROM jobs WHERE state IN ({_marks(states)}) AND (updated < ? OR job NOT IN"
            f" (SELECT job FROM jobs WHERE state IN ({_marks(states)})"
            " ORDER BY updated DESC, job LIMIT ?)) RETURNING job",
            (*states, self._clock() - older_than_seconds, *states, keep),
        )
        return len(rows)

    def close(self) -> None:
        """Harmless when closed; afterwards nothing is remembered and nothing is known."""
        with self._turn:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- one statement, one transaction

    def _do(self, statement: str, values: tuple[Any, ...]) -> Sequence[Row]:
        with self._turn:
            if self._database is None:
                return []
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    log.error("the journal could not be used: %s", error)
                    return []
                log.error("the journal is damaged and begins anew: %s", error)
                self._close()
                self._set_aside("damaged")
                with contextlib.suppress(BridgeError):  # then nothing is remembered any more
                    self._open()
                return []

    def _open(self) -> None:
        for _ in range(2):
            try:
                self._database = self._connect()
                return
            except _UnknownSchemaError as error:
                log.warning("the journal begins anew: %s", error)
                self._set_aside("newer")
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise BridgeError(
                        f"the journal {self.path} cannot be opened: {error}"
                    ) from error
                log.warning("the journal is damaged and begins anew: %s", error)
                self._set_aside("damaged")
        raise BridgeError(f"the journal {self.path} cannot be opened; remove it")

    def _connect(self) -> sqlite3.Connection:
        try:  # SQLite gives its other files the same mode
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise BridgeError(
                f"the journal {self.path} cannot be opened: {error.strerror}"
            ) from error
        database = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("BEGIN IMMEDIATE")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.execute(_TABLE)
                database.execute(_INDEX)
                database.execute(f"PRAGMA user_version = {SCHEMA}")
            elif version != SCHEMA:
                raise _UnknownSchemaError(f"its schema is {version}, {SCHEMA} was wanted")
            database.execute("COMMIT")
            database.execute(f"{_SELECT} LIMIT 1").fetchall()
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except BaseException:
            database.close()
            raise
        return database

    def _close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _set_aside(self, why: str) -> None:
        """Under another name, for whoever wants to look at it; only the last one is kept."""
        for end in ("", "-wal", "-shm"):
            old = self.path.with_name(self.path.name + end)
            with contextlib.suppress(FileNotFoundError):
                os.replace(old, self.path.with_name(f"{self.path.name}.{why}{end}"))


class _UnknownSchemaError(Exception):
    pass


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault, and not the disk, its rights or another process."""
    if not isinstance(error, sqlite3.OperationalError):
        return True
    return error.sqlite_errorcode == sqlite3.SQLITE_ERROR  # no such table, no such column


def _text(value: str) -> str:
    """What SQLite can keep: bytes of a file name that are no UTF-8 are shown as \\udcff."""
    return value.encode("utf-8", "backslashreplace").decode()


def _entries(rows: Iterable[Row]) -> Iterator[Entry]:
    """What cannot be read is left out."""
    for row in rows:
        named = dict(zip(_COLUMNS, row, strict=True))
        try:
            named["spec"] = json.loads(named["spec"])
            named["state"] = State(named["state"])
        except (ValueError, TypeError):
            continue
        yield Entry(**named)


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)
