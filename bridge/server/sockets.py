"""The daemon's sockets: bound, bounded, and bound anew when somebody fills memory through them.

libzmq holds all frames of a message until the last one came, however many there are: a peer that
never ends its message fills memory without the daemon ever hearing of it. What a socket holds goes
with the socket, so the cure is to close it and bind it again; honest clients reconnect.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq

from bridge.errors import BridgeError
from bridge.keys import DOMAIN

QUEUED_MESSAGES = 16  # per peer and direction: what a peer that ignores credit can fill
OVERHEAD_BYTES = 1024  # of CURVE, around a frame
TOPIC_BYTES = 512  # of a subscription: all that a listener may send
BIND_SECONDS = 0.5


@dataclass(frozen=True)
class Curve:
    """The daemon's own pair of keys, Z85."""

    public: bytes
    secret: bytes


@dataclass(frozen=True)
class Listener:
    """One address that is listened on; a port of 0 becomes a real one when bound."""

    endpoint: str
    curve: Curve | None = None  # needed by tcp, and by nothing else


class Sockets:
    """The sockets of one kind, one for each listener. Used by one thread.

    Args:
        frame_bytes: what a peer may send in one frame
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], kind: int, listeners: Sequence[Listener],
        frame_bytes: int,
    ) -> None:  # fmt: skip
        self._context, self._kind, self._frame_bytes = context, kind, frame_bytes
        self._listeners = list(listeners)
        self._sockets: list[zmq.Socket[bytes]] = []
        self._files: list[tuple[int, int] | None] = []  # of ipc sockets, as bound
        for i in range(len(self._listeners)):
            self._bind(i)

    def __iter__(self) -> Iterator[zmq.Socket[bytes]]:
        return iter(self._sockets)

    @property
    def endpoints(self) -> list[str]:
        """As bound: with real ports."""
        return [one.endpoint for one in self._listeners]

    def is_remote(self, socket: zmq.Socket[bytes]) -> bool:
        return self._listeners[self._sockets.index(socket)].curve is not None

    @property
    def stolen(self) -> bool:
        """Whether something else lies where a local socket of ours was bound."""
        return any(
            ours is not None and _file_at(listener.endpoint) != ours
            for ours, listener in zip(self._files, self._listeners, strict=True)
        )

    def rebind(self, only_remote: bool = False) -> None:
        """Drop every peer and whatever it has sent so far; honest ones come again."""
        for i, listener in enumerate(self._listeners):
            if listener.curve is not None or not only_remote:
                self._sockets[i].close(linger=0)
                self._bind(i)

    def close(self) -> None:
        for one in self._sockets:
            one.close(linger=0)
        self._sockets, self._files = [], []

    def _bind(self, i: int) -> None:
        listener = self._listeners[i]
        socket = self._context.socket(self._kind)
        self._sockets[i : i + 1] = [socket]
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, QUEUED_MESSAGES)
        socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        socket.setsockopt(zmq.MAXMSGSIZE, self._frame_bytes + OVERHEAD_BYTES)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 5_000)
        if self._kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if listener.curve:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, listener.curve.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, listener.curve.secret)
            socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN.encode())
            socket.setsockopt(zmq.HEARTBEAT_IVL, 2_000)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6_000)
        elif not listener.endpoint.startswith("ipc://"):
            raise BridgeError(f"{listener.endpoint} without keys is open to everybody; use ipc")
        with _umask(0o077):
            bound = _bound(socket, listener.endpoint)
        self._listeners[i] = Listener(bound, listener.curve)
        self._files[i : i + 1] = [_file_at(bound)]


def _file_at(endpoint: str) -> tuple[int, int] | None:
    """Which file an ipc endpoint is; None of tcp, and where there is none."""
    if endpoint.startswith("ipc://"):
        with contextlib.suppress(OSError):
            found = os.lstat(endpoint.removeprefix("ipc://"))
            return found.st_dev, found.st_ino
    return None


def _bound(socket: zmq.Socket[bytes], endpoint: str) -> str:
    path = Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None
    if path is not None and path.is_symlink():
        path.unlink()  # in our own folder, and under our lock: nobody of ours made it
    deadline = time.monotonic() + BIND_SECONDS
    while True:
        try:
            socket.bind(endpoint)
            break
        except zmq.ZMQError as error:
            # the socket that was bound here before is closed by another thread, in its time
            if error.errno == zmq.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            raise BridgeError(
                f"cannot listen on {endpoint}: {error.strerror}; is the address in use, or not of"
                " this machine?"
            ) from error
    return str(socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def receive_all(
    socket: zmq.Socket[bytes], most: int, handle: Callable[[list[zmq.Frame]], None]
) -> None:
    """Up to so many messages that are there, so that no peer has the thread for itself."""
    for _ in range(most):
        try:
            frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return
        except zmq.ZMQError:  # interrupted, or the socket was closed meanwhile
            return
        handle(frames)
