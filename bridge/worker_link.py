"""The daemon's end of the pipe to its worker process. No torch.

The worker reads at all times (a thread of it does nothing else), so a send from here never waits
for a computation; what comes from there is taken as it arrives, so neither waits for the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bridge.errors import BridgeError, WorkerError
from bridge.pipe import Framer, PipeMessage, pack

SEND_SECONDS = 5.0  # a worker that does not read for so long is no worker any more
STOP_SECONDS = 1.0
SOCKET_BYTES = 2 << 20  # in the kernel: a piece is out before it is read
MAX_LINE_BYTES = 2_000  # of what the worker prints
MAX_LINES_A_MINUTE = 1_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerArguments:
    """How workers are started."""

    cache: Path  # folder of the chunk cache
    cache_bytes: int = 10 << 30
    device: str = "auto"
    precision: str = "auto"
    allow_cpu: bool = False  # go on with the CPU where a device has too little memory
    engine: str = ""  # module:factory, for tests
    upstream: Path | None = None  # connection file of the daemon that computes in its place

    def command(self, descriptor: int) -> list[str]:
        # -P: the current folder, whatever lies there, is no place to import from
        module, bound = "bridge.worker", self.cache_bytes
        if self.upstream:
            module, bound = "bridge.upstream", 0  # the cache there is enough
        command = [sys.executable, "-P", "-m", module, "--fd", str(descriptor)]
        command += ["--cache", str(self.cache), "--cache-bytes", str(bound)]
        command += ["--device", self.device, "--precision", self.precision]
        if self.allow_cpu:
            command.append("--allow-cpu")
        if self.engine:
            command += ["--engine", self.engine]
        if self.upstream:
            command += ["--upstream", str(self.upstream)]
        return command


class WorkerLink:
    """One worker process. `send` and `cancel` from any thread, the rest from one.

    Poll `fileno()` for reading; then call `receive` until it gives None.
    """

    def __init__(self, arguments: WorkerArguments) -> None:
        self.arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: socket.socket | None = None  # for reading, never waits
        self._outward: socket.socket | None = None  # the same end, waits up to SEND_SECONDS
        self._sending = threading.Lock()
        self._framer = Framer()

    def __enter__(self) -> WorkerLink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process; it says `started` and `ready` by itself.

        Raises:
            WorkerError: the system does not let us
        """
        if self._process is not None:
            raise BridgeError("this worker was started already; make another link")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        try:
            self._process = subprocess.Popen(
                self.arguments.command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # what a library prints, and tracebacks: for the log
                stderr=subprocess.STDOUT,
                env=_environment(),
            )
        except OSError as error:
            ours.close()
            raise WorkerError(f"no worker can be started: {error.strerror or error}") from error
        finally:
            theirs.close()
        said = self._process.stdout
        threading.Thread(target=_log, args=(said,), name="worker's words", daemon=True).start()
        ours.setblocking(False)
        self._pipe, self._outward = ours, ours.dup()
        self._outward.settimeout(SEND_SECONDS)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll() if self._process else None

    def fileno(self) -> int:
        """For a poller; −1 where there is no pipe."""
        return self._pipe.fileno() if self._pipe else -1

    def send(self, command: Mapping[str, Any]) -> None:
        """Put one command into the worker's queue.

        Raises:
            WorkerError: it is dead, or does not read any more and was killed for it
        """
        buffers = pack(command)
        with self._sending:
            if self._outward is None:
                raise WorkerError("the worker is not running")
            try:
                for one in buffers:
                    self._outward.sendall(one)
            except OSError as error:  # half a message may be out: nothing can follow it
                self._kill_process()
                raise WorkerError(f"the worker takes no commands: {error}") from error

    def cancel(self, job: str) -> None:
        """The worker's reader thread acts on it at once; `cancelled` is the answer."""
        self.send({"do": "cancel", "job": job})

    def receive(self) -> PipeMessage | None:
        """The next whole message; None where none has arrived yet. Never waits.

        Raises:
            WorkerError: the worker is gone, or what came is no message
        """
        if self._pipe is None:
            raise WorkerError("the worker is not running")
        while True:
            try:
                count = self._pipe.recv_into(self._framer.space())
            except BlockingIOError:
                return None
            except InterruptedError:
                continue
            except OSError:
                count = 0
            if count == 0:
                raise WorkerError(f"the worker died ({self._how_it_ended()})")
            message = self._framer.filled(count)
            if message is not None:
                return message

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end, then end it; afterwards it is gone."""
        with contextlib.suppress(WorkerError):
            self.send({"do": "stop"})
        self._hang_up()
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it now, whatever it is doing; afterwards it is gone."""
        self._kill_process()
        self._hang_up()
        if self._process is not None:
            self._process.wait(10)  # for the system; a process cannot refuse

    def _kill_process(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _hang_up(self) -> None:
        with self._sending:
            for end in (self._pipe, self._outward):
                if end is not None:
                    end.close()
            self._pipe = self._outward = None

    def _how_it_ended(self) -> str:
        """A clause for people; waits a moment, for the pipe closes before the process is gone."""
        if self._process is None:
            return "it was never started"
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"signal {-status}" if status < 0 else f"exit status {status}"


def _log(said: IO[bytes] | None) -> None:
    """What the worker says, a line each, into the log; as long as it lives, and not without end."""
    assert said is not None
    minute, count = time.monotonic(), 0
    with said:
        while line := said.readline(MAX_LINE_BYTES):
            if time.monotonic() - minute > 60:
                minute, count = time.monotonic(), 0
            count += 1
            if count <= MAX_LINES_A_MINUTE:
                log.warning("worker: %s", line.decode("utf-8", "backslashreplace").rstrip())


def _environment() -> dict[str, str]:
    """Ours, with the place that this package came from to import from."""
    places = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in places if one)}
