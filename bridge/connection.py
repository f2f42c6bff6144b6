"""How a daemon is found, and how it is certain that there is only one.

    daemon.lock   held (flock) from start to end; the kernel lets go of it at any kind of death
    daemon.json   where the daemon listens and the key; written in one step, after binding

The lock decides, for a second `bind` on a path succeeds and steals the endpoint. A connection file
is true while the lock is held by the very process that wrote the file; both carry its pid and the
time of its start. Pids themselves are not asked for: in a sandbox they have other numbers.

A client on another machine has a connection file too, without a pid and with CURVE keys
(`bridge.keys`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from bridge.errors import BridgeError, NoDaemonError
from bridge.protocol import KEY_BYTES
from bridge.runtime_dir import (
    CONNECTION,
    LOCK,
    SOCKETS,
    read_private,
    socket_paths,
    write_private,
)

with contextlib.suppress(ImportError):  # not on Windows, where a remote client may still be
    import fcntl

SCHEMA = 1
MAX_FILE_BYTES = 64 << 10
ACQUIRE_SECONDS = 0.25  # a look at the lock (`held_by`) holds it for some microseconds

_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_HEX_KEY = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")
_Z85_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True)
class Endpoints:
    """The three sockets of a daemon: all ipc, or all tcp."""

    control: str
    work: str
    events: str

    def __post_init__(self) -> None:
        for name in SOCKETS:
            endpoint = getattr(self, name)
            if not isinstance(endpoint, str) or not (
                endpoint.startswith("ipc:///") or _TCP.fullmatch(endpoint)
            ):
                raise BridgeError(
                    f"an endpoint is ipc:///PATH or tcp://HOST:PORT, but {name} is {endpoint!r}"
                )
        if len({self.control[:3], self.work[:3], self.events[:3]}) != 1:
            raise BridgeError("the endpoints of a daemon must be all ipc or all tcp")

    @classmethod
    def local(cls, folder: Path) -> Self:
        """Sockets in a folder."""
        return cls(**{name: f"ipc://{path}" for name, path in socket_paths(folder).items()})

    @classmethod
    def listening(cls, endpoint: str) -> Self:
        """tcp://HOST:PORT is for control; work and events take the next two ports.

        With port 0 each takes a free one, which is known once it is bound.
        """
        found = _TCP.fullmatch(endpoint)
        if not found:
            raise BridgeError(f"an endpoint is tcp://HOST:PORT, got {endpoint!r}")
        host, port = found[1], int(found[2])
        if port > 65_533:
            raise BridgeError(f"a port must lie in 0 to 65533, for three are used, got {port}")
        ports = (port, port + 1, port + 2) if port else (0, 0, 0)
        return cls(*(f"tcp://{host}:{one}" for one in ports))

    @property
    def is_local(self) -> bool:
        return self.control.startswith("ipc:")

    @property
    def host(self) -> str:
        """Of tcp endpoints; IPv6 in brackets."""
        found = _TCP.fullmatch(self.control)
        return found[1] if found else ""

    @property
    def is_everywhere(self) -> bool:
        """Whether the host means every interface, so that nobody can connect to that name."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host.strip("[]")).is_unspecified
        return False

    def at(self, host: str) -> Endpoints:
        """The same ports at another host's name or address."""
        name = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return Endpoints(
            *(f"tcp://{name}:{getattr(self, one).rpartition(':')[2]}" for one in SOCKETS)
        )


@dataclass(frozen=True)
class Curve:
    """Keys of an encrypted connection, each 40 characters of Z85."""

    server: str  # the daemon's public key
    public: str  # the client's own
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("server", "public", "secret"):
            if not isinstance(key := getattr(self, name), str) or not _Z85_KEY.fullmatch(key):
                raise BridgeError(f"a CURVE key is 40 characters of Z85, but {name} is not")


@dataclass(frozen=True)
class Connection:
    """Where a daemon listens and what it takes to talk to it."""

    endpoints: Endpoints
    key: str = field(repr=False)  # 64 hex digits: what signs `hello`
    version: str  # of the daemon
    protocol: tuple[int, int]
    key_name: str = "local"
    pid: int | None = None  # none of a daemon on another machine
    start_time: float | None = None  # of that process, seconds since 1970
    curve: Curve | None = None
    osc_port: int | None = None
    tcp: Endpoints | None = None  # where it listens for other machines
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise BridgeError(
                f"a connection file of schema {SCHEMA} is wanted, got {self.schema!r}; update the"
                " older of the two, or run: audiosr-bridge daemon restart"
            )
        if not isinstance(self.key, str) or not _HEX_KEY.fullmatch(self.key):
            raise BridgeError(f"a key is {2 * KEY_BYTES} hex digits, but this one is not")
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise BridgeError(f"{name} of a connection makes no sense: {value!r}")
        if len(self.protocol) != 2 or not all(type(one) is int for one in self.protocol):
            raise BridgeError(f"protocol must be two whole numbers, got {list(self.protocol)!r}")
        if not self.endpoints.is_local and self.curve is None:
            raise BridgeError("tcp endpoints must come with CURVE keys, but there are none")

    @property
    def key_bytes(self) -> bytes:
        return bytes.fromhex(self.key)

    def text(self) -> str:
        """As JSON, the key included."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def parse(cls, text: str | bytes) -> Connection:
        """Raise BridgeError unless this is the JSON of a connection; unknown fields are ignored."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise TypeError("it must be an object")
            known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
            if isinstance(known.get("protocol"), list):
                known["protocol"] = tuple(known["protocol"])
            for name, kind in _NESTED.items():
                if isinstance(known.get(name), dict):
                    known[name] = _nested(kind, known[name])
            if missing := _needed(cls) - known.keys():
                raise TypeError(f"it lacks {', '.join(sorted(missing))}")
            return cls(**known)
        except (ValueError, TypeError, RecursionError) as error:
            raise BridgeError(f"this is no connection file: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Connection:
        """From a file that only this user can have written; NoDaemonError if there is none."""
        data = read_private(path, MAX_FILE_BYTES)
        try:
            return cls.parse(data)
        except BridgeError as error:
            raise BridgeError(f"{path} cannot be used: {error}") from error

    @classmethod
    def read_remote(cls, path: Path) -> Connection:
        """As `read`; BridgeError where the daemon is one of this machine."""
        connection = cls.read(path)
        if connection.endpoints.is_local:
            raise BridgeError(
                f"{path} must be a file of `audiosr-bridge daemon keys create`, but is that of a"
                " daemon on this machine; leave --upstream out"
            )
        return connection

    def write_atomic(self, path: Path) -> None:
        """There whole or not at all, and for nobody else's eyes."""
        write_private(path, self.text().encode())


_KINDS: Mapping[str, Any] = {
    "endpoints": Endpoints,
    "version": str,
    "protocol": tuple,
    "key_name": str,
    "pid": int | None,
    "start_time": int | float | None,
    "curve": Curve | None,
    "osc_port": int | None,
    "tcp": Endpoints | None,
}
_NESTED: Mapping[str, type[Endpoints] | type[Curve]] = {
    "endpoints": Endpoints, "tcp": Endpoints, "curve": Curve,
}  # fmt: skip


def _nested(kind: type[Endpoints] | type[Curve], values: Mapping[str, Any]) -> Endpoints | Curve:
    if missing := _needed(kind) - values.keys():
        raise TypeError(f"it lacks {', '.join(sorted(missing))}")
    return kind(**{name: values[name] for name in kind.__dataclass_fields__ if name in values})


def _needed(kind: type[Any]) -> set[str]:
    """The fields without a default."""
    return {one.name for one in fields(kind) if one.default is MISSING}


# ---- the lock


class Holder(NamedTuple):
    """The process that holds a lock; zeros in the instant before it has written who it is."""

    pid: int
    start_time: float


class DaemonLock:
    """One process at a time. Let go of by `release`, or by the kernel when the process is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, wait_seconds: float = ACQUIRE_SECONDS) -> bool:
        """Whether it is ours now; by default it waits for those who look, not for a holder."""
        deadline = time.monotonic() + wait_seconds
        while not self._try():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _try(self) -> bool:
        if self._descriptor is not None:
            return True
        me = psutil.Process()
        words = f"{me.pid} {me.create_time()!r}\n".encode()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise BridgeError(f"{self.path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        if not _is_at(descriptor, self.path):  # it was removed while we took it
            os.close(descriptor)
            return False
        os.pwrite(descriptor, words, 0)  # at once: what the last holder wrote is in its place
        os.ftruncate(descriptor, len(words))
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Harmless if it is not ours. The file stays: to remove it would make two of them."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def in_place(self) -> bool:
        """Whether our lock is still the one that others look at; some systems clear old files."""
        if self._descriptor is None or not _is_at(self._descriptor, self.path):
            return False
        with contextlib.suppress(OSError):
            os.utime(self._descriptor)  # young enough for another while
        return True

    def held_by(self) -> Holder | None:
        """Who holds it; None if it is free."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BridgeError(f"{self.path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except OSError:
            words = os.pread(descriptor, 100, 0).split()
            with contextlib.suppress(ValueError):
                pid, start_time = words
                return Holder(int(pid), float(start_time))
            return Holder(0, 0.0)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def is_stale(connection: Connection, folder: Path) -> bool:
    """Whether the daemon that wrote this connection is gone.

    Args:
        folder: the runtime folder; of a remote daemon's connection nothing can be said, so False
    """
    if connection.pid is None:
        return False
    return DaemonLock(folder / LOCK).held_by() != (connection.pid, connection.start_time)


def running(folder: Path) -> Connection | None:
    """The connection of the daemon that runs in this folder, or None."""
    if DaemonLock(folder / LOCK).held_by() is None:  # then what lies there does not matter
        return None
    try:
        connection = Connection.read(folder / CONNECTION)
    except NoDaemonError:
        return None
    return None if is_stale(connection, folder) else connection
