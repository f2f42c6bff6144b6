"""The sounds a daemon has on disk: opened by job, counted, swept."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from pathlib import Path

from bridge.spool import Arriving, Spool, StreamSpool, used_bytes

COUNT_SECONDS = 1.0


class Spools:
    """All spooled sounds of one folder. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Arriving] = {}
        self._counted, self._counted_at = 0, 0.0
        self._since = 0  # bytes that came after the count

    @property
    def used(self) -> int:
        """Bytes on disk; counted anew once a second, and added to meanwhile."""
        now = time.monotonic()
        if not self._counted_at or now - self._counted_at > COUNT_SECONDS:
            self._counted, self._counted_at, self._since = used_bytes(self.folder), now, 0
        return self._counted + self._since

    def __getitem__(self, job: str) -> Arriving:
        return self._open[job]

    def __contains__(self, job: str) -> bool:
        return job in self._open

    def open(self, job: str, num_channels: int, dtype: str) -> Arriving:
        """Take up what is there of a whole sound, or begin."""
        if job not in self._open:
            self._open[job] = Spool(self.folder, job, num_channels, dtype)
        return self._open[job]

    def begin(self, job: str, num_channels: int, dtype: str, origin: int) -> Arriving:
        """A stream, from its first sample on, whatever there was of it."""
        self.remove(job)
        spool = self._open[job] = StreamSpool(self.folder, job, num_channels, dtype, origin)
        return spool

    def keeps(self, job: str, sample: int) -> bool:
        """Whether a stream is still there from this sample on."""
        spool = self._open.get(job)
        return isinstance(spool, StreamSpool) and spool.begins <= sample

    def trim(self, job: str, before: int) -> None:
        """Let go of what a stream has before this sample."""
        spool = self._open.get(job)
        if isinstance(spool, StreamSpool):
            spool.trim(before)

    def added(self, num_bytes: int) -> None:
        self._since += num_bytes

    def remove(self, job: str) -> None:
        spool = self._open.pop(job, None)
        if spool is not None:
            spool.remove()
            self._counted_at = 0.0

    def close(self) -> None:
        """Let go of the files; they stay."""
        for spool in self._open.values():
            spool.close()
        self._open.clear()

    def sweep(self, keep: Collection[str]) -> None:
        """Remove what belongs to no job that could still want it."""
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.split(".")[0] not in keep:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
