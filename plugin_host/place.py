"""Where to compute: the daemon that was asked for, or one that runs, or this process.

The samples are the same, so nobody behind an `EngineLike` needs to know which it is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from audiosr_core.errors import AudioSRError, UsageError
from bridge.errors import NoDaemonError

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike
    from bridge.client import Priority

Made = TypeVar("Made")

START_SECONDS = 20.0  # for a daemon that was asked for
ANSWER_SECONDS = 3.0  # for one that happens to run


@dataclass(frozen=True)
class Where:
    """What the user said of it. Checked where it is made."""

    device: str | None = None
    precision: str | None = None
    daemon: bool | None = None  # None: if one runs
    connection: Path | None = None  # of another daemon

    def __post_init__(self) -> None:
        if self.connection is not None and self.daemon is False:
            raise UsageError(
                "--connection names a daemon and --no-daemon wants none; leave one out"
            )
        if self.chosen and self.insists:
            raise UsageError(
                "the device is the daemon's; leave out --device and --precision, or say --no-daemon"
            )

    @property
    def chosen(self) -> bool:
        """A device or precision was chosen, which only this process can promise."""
        return self.device is not None or self.precision is not None

    @property
    def insists(self) -> bool:
        """A daemon was asked for, and nothing else will do."""
        return bool(self.daemon) or self.connection is not None


class Place(contextlib.ExitStack):
    """An engine for as long as the `with` lasts; the daemon is looked for where it begins.

    Args:
        name: what the daemon is told of who asks
        priority: of what is computed in the daemon
        note: told in one sentence where it was not as the user may think
    """

    def __init__(
        self,
        where: Where,
        name: str,
        note: Callable[[str], None] = lambda text: None,
        priority: Priority = "batch",
    ) -> None:
        super().__init__()
        self._where, self._name, self._note, self._priority = where, name, note, priority
        here = where.daemon is False or (where.chosen and not where.insists)
        found = None if here else self._in_the_daemon()
        self.engine: EngineLike = self._here() if found is None else found

    def attempt(self, work: Callable[[EngineLike], Made]) -> Made:
        """`work` with the engine; once more where the daemon went away and there is another way."""
        try:
            return work(self.engine)
        except NoDaemonError as error:
            if self._where.connection is not None:
                raise
            if self._where.daemon:  # the client starts another
                self._note(f"{error.args[0]}; trying once more")
            else:
                self._note(f"{error.args[0]}; computing in this process")
                self.engine = self._here()
        return work(self.engine)

    def _here(self) -> EngineLike:
        from audiosr_core.engine import Engine

        return Engine(self._where.device or "auto", self._where.precision or "auto")

    def _in_the_daemon(self) -> EngineLike | None:
        """None if none runs, or it does not answer and nobody insists on it."""
        from bridge import lifecycle

        where = self._where
        try:
            named = where.connection or os.environ.get("AUDIOSR_BRIDGE_CONNECTION")
            if not where.insists and not named and lifecycle.find() is None:
                return None
            from bridge.client import connect
            from bridge.remote import RemoteEngine

            client = connect(
                where.connection,
                start=bool(where.daemon),
                timeout_seconds=START_SECONDS if where.insists else ANSWER_SECONDS,
                name=self._name,
            )
        except AudioSRError as error:
            if where.insists:
                raise
            self._note(f"{error}; computing in this process")
            return None
        self.callback(client.close)
        return RemoteEngine(client, priority=self._priority)
