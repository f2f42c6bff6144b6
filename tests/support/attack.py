"""A daemon under attack: watched all along, and afterwards asked to serve an honest client."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bridge.protocol import Message
from tests.support.bridge_engines import echo_of
from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.wire import Wire

RATE = 48_000
NothingCame = AssertionError  # what a wire raises
MIB = 1 << 20
CEILING = 512 * MIB  # of daemon and worker together, without a model: SECURITY.md says so


class Watch(threading.Thread):
    """The most memory that daemon and worker had together, looked at all along."""

    def __init__(self, one: RunningDaemon) -> None:
        super().__init__(daemon=True)
        self._one, self._over = one, threading.Event()
        self.peak = 0

    def now(self) -> int:
        total = 0
        with contextlib.suppress(psutil.Error):
            for process in self._one.family():
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
        self.peak = max(self.peak, total)
        return total

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.now()

    def stop(self) -> None:
        self._over.set()
        self.join(5)


@contextlib.contextmanager
def attacked(
    *flags: str, ceiling: int = CEILING, engine: str = "echo", **environment: object
) -> Iterator[RunningDaemon]:
    """A daemon that must outlive what is done to it, in bounded memory, and serve afterwards."""
    with daemon(*flags, engine=f"{ENGINES}:{engine}", **environment) as one:
        pid = one.pid()
        watch = Watch(one)
        watch.start()
        try:
            yield one
            assert one.process is not None
            assert one.process.poll() is None, f"the daemon died:\n{one.log()[-4000:]}"
            serves(one)
        finally:
            watch.stop()
        assert one.pid() == pid
        assert watch.peak < ceiling, f"{watch.peak / MIB:.0f} MiB"
        assert "Traceback" not in one.log(), one.log()[-4000:]
        assert "Traceback" not in (one.folder / "stderr").read_text()


def serves(one: RunningDaemon, timeout: float = 20.0) -> None:
    """An honest client gets its sound back, to the bit."""
    sound = noise(0.3, seed=secrets.randbits(16))
    with patient_wire(one, timeout) as wire:
        made, _ = extend(wire, sound)
        np.testing.assert_array_equal(made, echo_of(sound))
        assert wire.ask("ping").type == "pong"


def patient_wire(one: RunningDaemon, timeout: float = 20.0) -> Wire:
    """A client's sockets, once it is let in: a full house empties within seconds."""
    deadline = time.monotonic() + timeout
    while True:
        wire = Wire(one.connection(), hello=False)
        with contextlib.suppress(AssertionError):
            if wire.hello().type == "welcome":
                return wire
        wire.close()
        assert time.monotonic() < deadline, f"nobody is let in:\n{one.log()[-2000:]}"


def noise(seconds: float, seed: int = 0, channels: int = 2) -> Any:
    x = np.random.default_rng(seed).standard_normal((channels, round(seconds * RATE)))
    return (0.1 * x).astype(np.float32)


def name() -> str:
    return secrets.token_hex(16)


def extend(wire: Wire, sound: Any, **changes: Any) -> Any:
    job = name()
    accepted = wire.submit(job, num_samples=sound.shape[1], num_channels=len(sound), **changes)
    assert accepted.type == "accepted", dict(accepted.meta)
    wire.upload(job, sound)
    return wire.result(job)


def until(wire: Wire, *types: str, seconds: float = 60.0) -> Message:
    """As `wire.until`, for what takes its time: the session is kept alive meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(NothingCame):
            return wire.until(*types, timeout=1)
        assert time.monotonic() < deadline, f"nothing of {types} came"
        assert wire.ask("ping").type == "pong"


def wait_for(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything below a folder: mode, size, time of change, content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = os.lstat(path)
        plain = path.is_file() and not path.is_symlink() and info.st_size < MIB
        content = path.read_bytes() if plain else b""
        found[str(path)] = (info.st_mode, info.st_size, info.st_mtime_ns, content)
    return found


class RawPeer:
    """A peer that speaks ZMTP 3.0 with the NULL mechanism by hand, and frames as it likes."""

    def __init__(self, endpoint: str, kind: bytes = b"DEALER") -> None:
        self.socket = dial(endpoint)
        greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
        self.socket.sendall(greeting)
        body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        self.socket.sendall(b"\x04" + bytes([len(body)]) + body)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def frame(self, data: bytes, more: bool = True) -> None:
        flags = (1 if more else 0) | 2
        self.socket.sendall(bytes([flags]) + struct.pack(">Q", len(data)) + data)

    def heard(self, seconds: float = 1.0) -> bytes:
        """All that comes within so many seconds, or until the other side hangs up."""
        self.socket.settimeout(seconds)
        heard = b""
        with contextlib.suppress(OSError):
            while piece := self.socket.recv(65536):
                heard += piece
        return heard


def dial(endpoint: str) -> socket.socket:
    kind, _, place = endpoint.partition("://")
    if kind == "ipc":
        deadline = time.monotonic() + 5
        while True:  # while it is bound anew there is nobody for a moment
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(10)
            try:
                one.connect(place)
                return one
            except OSError:
                one.close()
                if time.monotonic() > deadline:
                    raise
    host, _, port = place.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def endpoints(one: RunningDaemon) -> list[str]:
    """Every address that the daemon listens on."""
    connection = one.connection()
    found = [connection.endpoints, *([connection.tcp] if connection.tcp else [])]
    return [getattr(each, kind) for each in found for kind in ("control", "work", "events")]
