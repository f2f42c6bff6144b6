"""Who may come by TCP: an allow-list of clients, each with keys of its own.

    keys.json    server   the daemon's CURVE pair, made once
                 clients  name → public CURVE key, key that signs its `hello`, when it was made

A client's connection file is given out once; its secret CURVE key is kept nowhere else. To revoke a
client is to take it off the list: a daemon that runs looks at the file again when it has changed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import zmq
from filelock import FileLock, Timeout
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from audiosr_core import __version__
from audiosr_core.errors import UsageError
from bridge.connection import Connection, Curve, Endpoints
from bridge.errors import BridgeError, NoDaemonError
from bridge.protocol import KEY_BYTES, VERSION
from bridge.runtime_dir import KEYS, private_folder, read_private, write_private

SCHEMA = 1
MAX_FILE_BYTES = 4 << 20
LOCK_SECONDS = 10.0
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientKey:
    """One client on the list."""

    name: str
    public: str  # CURVE, Z85
    key: str = field(repr=False)  # 64 hex digits
    created: str  # ISO 8601

    @property
    def key_bytes(self) -> bytes:
        return bytes.fromhex(self.key)


@dataclass(frozen=True)
class KeyFile:
    """What keys.json holds."""

    server_public: str
    server_secret: str = field(repr=False)
    clients: Mapping[str, ClientKey] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> KeyFile:
        """NoDaemonError if there is none; BridgeError if it is damaged or not safe."""
        data = read_private(path, MAX_FILE_BYTES)
        try:
            value = json.loads(data)
            if value["schema"] != SCHEMA:
                raise ValueError(f"its schema is {value['schema']!r}, {SCHEMA} was wanted")
            server = value["server"]
            Curve(server["public"], server["public"], server["secret"])
            clients = {}
            for name, one in value["clients"].items():
                key = ClientKey(_checked(name), one["public"], one["key"], str(one["created"]))
                Curve(server["public"], key.public, key.public)
                if len(key.key_bytes) != KEY_BYTES:
                    raise ValueError(f"the key of {name} must have {KEY_BYTES} bytes")
                clients[name] = key
            return cls(server["public"], server["secret"], clients)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BridgeError(f"{path} is damaged: {error}") from error
        except (BridgeError, UsageError) as error:
            raise BridgeError(f"{path} is damaged: {error}") from error

    def write(self, path: Path) -> None:
        value = {
            "schema": SCHEMA,
            "server": {"public": self.server_public, "secret": self.server_secret},
            "clients": {
                name: {key: text for key, text in asdict(one).items() if key != "name"}
                for name, one in self.clients.items()
            },
        }
        write_private(path, (json.dumps(value, indent=1) + "\n").encode())


def server_keys(folder: Path) -> tuple[str, str]:
    """The daemon's public and secret CURVE key; made now if there are none."""
    with _changing(folder) as file:
        return file.server_public, file.server_secret


def create(folder: Path, name: str, endpoints: Endpoints) -> str:
    """Put a client on the list; the text of its connection file, which is kept nowhere.

    Args:
        endpoints: tcp, as the client reaches them
    """
    _checked(name)
    if endpoints.is_local or endpoints.is_everywhere:
        raise UsageError(
            "a client on another machine needs this machine's name or address; give it with --host"
        )
    if any(one.endswith(":0") for one in asdict(endpoints).values()):
        raise UsageError("a client needs the ports that the daemon listens on; got port 0")
    with _changing(folder) as file:
        if name in file.clients:
            raise UsageError(
                f"there is a client {name!r} already; revoke it or choose another name"
            )
        public, secret = (one.decode() for one in zmq.curve_keypair())
        key = secrets.token_hex(KEY_BYTES)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        client = ClientKey(name, public, key, created)
        replace(file, clients={**file.clients, name: client}).write(folder / KEYS)
        connection = Connection(
            endpoints=endpoints,
            key=key,
            version=__version__,
            protocol=VERSION,
            key_name=name,
            curve=Curve(file.server_public, public, secret),
        )
    return connection.text()


def clients(folder: Path) -> list[ClientKey]:
    """Who is on the list, by name."""
    try:
        file = KeyFile.read(folder / KEYS)
    except NoDaemonError:
        return []
    return [file.clients[name] for name in sorted(file.clients)]


def revoke(folder: Path, name: str) -> None:
    """Take a client off the list; UsageError if it is not on it."""
    with _changing(folder) as file:
        if name not in file.clients:
            known = ", ".join(sorted(file.clients)) or "none"
            raise UsageError(f"there is no client {name!r}; there are: {known}")
        left = {one: key for one, key in file.clients.items() if one != name}
        replace(file, clients=left).write(folder / KEYS)


class AllowList:
    """The list as it is at this moment; read again when the file has changed.

    A file that is missing or damaged lets nobody in.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / KEYS
        self._seen: tuple[int, ...] | None = None
        self._lists: tuple[Mapping[str, ClientKey], Mapping[str, str]] = ({}, {})

    def name_of(self, public: bytes | str) -> str | None:
        """The client with this public key, Z85."""
        text = public.decode("ascii", "replace") if isinstance(public, bytes) else public
        return self._now()[1].get(text)

    def key_of(self, name: str) -> bytes | None:
        """What signs the `hello` of this client."""
        client = self._now()[0].get(name)
        return client.key_bytes if client else None

    def everyone(self) -> Mapping[str, ClientKey]:
        """The clients that may come in now, by name."""
        return self._now()[0]

    def _now(self) -> tuple[Mapping[str, ClientKey], Mapping[str, str]]:
        seen: tuple[int, ...] = ()
        with contextlib.suppress(OSError):
            info = os.stat(self.path)
            seen = (info.st_mtime_ns, info.st_ino, info.st_size, info.st_mode, info.st_uid)
        if seen != self._seen:
            by_name: Mapping[str, ClientKey] = {}
            try:
                if seen:
                    by_name = KeyFile.read(self.path).clients
            except BridgeError as error:
                log.error("no client by TCP is let in: %s", error)
            # in one step, for several threads ask
            self._lists = by_name, {one.public: name for name, one in by_name.items()}
            self._seen = seen
        return self._lists


DOMAIN = "audiosr-bridge"
"""The ZAP domain of the daemon's sockets."""


class Authenticator(ThreadAuthenticator):
    """Answers libzmq's questions who may come in (ZAP, RFC 27), in a thread of its own.

    Start it before the first CURVE socket of its context is bound, and stop it after the last is
    closed. Whoever is let in has its client's name as the `User-Id` of every message.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: AllowList) -> None:
        super().__init__(context, log=logging.getLogger(f"{__name__}.zap"))
        self._allowed_clients = allowed
        for domain in ("*", DOMAIN):  # to the library, * is a socket without a domain
            self.configure_curve_callback(domain, self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the client with this public key may come in."""
        return self._allowed_clients.name_of(key) is not None

    def curve_user_id(self, client_public_key: bytes) -> str:
        """The client's name; nothing if it was revoked this very moment."""
        return self._allowed_clients.name_of(z85.encode(client_public_key)) or ""

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Refuse what is not CURVE, whatever else the library would let in."""
        if len(msg) > 5 and msg[5] != b"CURVE":
            self.zap_socket.send_multipart([b"1.0", msg[1], b"400", b"CURVE is wanted", b"", b""])
            return
        await super().handle_zap_message(msg)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name) or name == "local":
        raise UsageError(
            "a client's name has 1 to 32 small letters, digits, dots, dashes and underscores,"
            f" begins with a letter or digit and is not 'local'; got {name[:40]!r}"
        )
    return name


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[KeyFile]:
    """The file, made if need be, while nobody else changes it."""
    private_folder(folder)
    path = folder / KEYS
    try:
        with FileLock(folder / "keys.lock", timeout=LOCK_SECONDS, mode=0o600):
            if not os.path.lexists(path):
                public, secret = zmq.curve_keypair()
                KeyFile(public.decode(), secret.decode()).write(path)
            yield KeyFile.read(path)
    except Timeout as error:
        raise BridgeError(f"{path} is being changed by another process; try again") from error
