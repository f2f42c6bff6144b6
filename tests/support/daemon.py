"""A real daemon in a process of its own, with folders of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from bridge.connection import Connection, running

ROOT = Path(__file__).parents[2]
ENGINES = "tests.support.bridge_engines"
IDENTITY = f"{ENGINES}:identity"


class RunningDaemon:
    """Started by `start`, ended by `stop` or `kill`; may be started again in the same folders."""

    def __init__(
        self, folder: Path, *flags: str, engine: str | None = IDENTITY, **environment: object
    ) -> None:
        self.folder = folder
        self.flags = [*flags, *(["--engine", engine] if engine else [])]
        self.environment = {
            **os.environ,
            "AUDIOSR_BRIDGE_RUNTIME_DIR": str(folder / "run"),
            "AUDIOSR_BRIDGE_CACHE_DIR": str(folder / "cache"),
            "AUDIOSR_BRIDGE_STATE_DIR": str(folder / "state"),
            "AUDIOSR_BRIDGE_CONFIG_DIR": str(folder / "config"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            **{name: str(value) for name, value in environment.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def runtime(self) -> Path:
        return self.folder / "run"

    @property
    def connection_file(self) -> Path:
        return self.runtime / "daemon.json"

    def start(self, prefix: Sequence[str] = (), timeout: float = 20) -> RunningDaemon:
        command = [*prefix, sys.executable, "-m", "bridge.daemon", *self.flags]
        with (self.folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stderr=stderr, start_new_session=True
            )
        self.connection(timeout)
        return self

    def connection(self, timeout: float = 20) -> Connection:
        """Of the daemon that runs now; waits until it does."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                if found := running(self.runtime):
                    return found
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"no daemon: {(self.folder / 'stderr').read_text()}\n{self.log()}")

    def client(self, **options: Any) -> Any:
        from bridge.client import connect

        return connect(self.connection(), **options)

    def log(self) -> str:
        path = self.folder / "state" / "daemon.log"
        return path.read_text() if path.exists() else ""

    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def family(self) -> list[psutil.Process]:
        """The daemon and its worker."""
        me = psutil.Process(self.pid())
        return [me, *me.children(recursive=True)]

    def kill(self) -> None:
        """`kill -9`, of the daemon alone: its worker must notice by itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, timeout: float = 10) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


@contextlib.contextmanager
def daemon(
    *flags: str, engine: str | None = IDENTITY, **environment: object
) -> Iterator[RunningDaemon]:
    """A daemon for a test; gone afterwards, with its folders, whose path is short for sockets."""
    with tempfile.TemporaryDirectory(prefix="asb") as name:
        one = RunningDaemon(Path(name), *flags, engine=engine, **environment)
        one.start()
        try:
            yield one
        finally:
            if one.process is not None and one.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.stop()
                with contextlib.suppress(Exception):
                    one.kill()
