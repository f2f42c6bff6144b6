"""Who is connected: one session from hello to goodbye, known by its keys and not by its sockets.

Control makes sessions and ends them; work looks them up. A session ends when nothing authentic came
for `SILENCE_SECONDS`; its jobs then do what their policy says.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import zmq

from bridge.errors import BusyError, ProtocolError, VersionError
from bridge.protocol import (
    KEY_BYTES,
    LIMITS,
    NONCE_BYTES,
    VERSION,
    Incoming,
    Limits,
    Message,
    Outgoing,
    session_keys,
)

SILENCE_SECONDS = 5.0
UNPROVEN_SECONDS = 5.0  # a hello that nothing follows, say a replayed one
REMEMBERED_NONCES = 4096
REMOTE_SHARE = 4  # one remote key has at most this part of all sessions: 1 / 4
NAME_CHARACTERS = 64


@dataclass(frozen=True)
class Route:
    """Where a peer is: a ROUTER socket and its routing id there."""

    socket: zmq.Socket[bytes]
    peer: bytes


@dataclass(eq=False)
class Session:
    """One client, from hello to goodbye."""

    id: str
    client: str  # what it calls itself
    pid: int
    key_name: str  # "local", or the name of a remote client's key
    key: bytes = field(repr=False)  # that key, as it was at hello
    control_in: Incoming
    control_out: Outgoing
    work_in: Incoming
    work_out: Outgoing
    heard: float  # monotonic seconds
    control: Route
    work: Route | None = None
    proven: bool = False  # a message signed with the session's own keys has come
    outbox: deque[list[Any]] = field(default_factory=deque)  # of work, while the peer reads slowly

    @property
    def remote(self) -> bool:
        return self.key_name != "local"

    @property
    def name(self) -> str:
        return f"{self.client} {self.pid}" + (f" ({self.key_name})" if self.remote else "")


class Sessions:
    """Every session of a daemon; safe to use from both threads."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._all: dict[str, Session] = {}
        self._nonces: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def get(self, id: str) -> Session | None:
        return self._all.get(id)

    def everyone(self) -> list[Session]:
        with self._lock:
            return list(self._all.values())

    def open(self, hello: Message, key: bytes, route: Route, now: float) -> tuple[Session, str]:
        """A new session and the daemon's nonce.

        Raises:
            VersionError: another major version; BusyError: too many; ProtocolError: a replay
        """
        wanted = hello["protocol"]
        if not wanted or wanted[0] != VERSION[0]:
            raise VersionError(
                f"this daemon speaks protocol {VERSION[0]}.{VERSION[1]}, {hello['client']}"
                f" {hello['version']} speaks {'.'.join(str(n) for n in wanted)}; update the older"
                " one, then run 'audiosr-bridge daemon restart'"
            )
        client_nonce = hello["nonce"]
        if len(client_nonce) != 2 * NONCE_BYTES:
            raise ProtocolError(f"a nonce has {2 * NONCE_BYTES} hex digits")
        with self._lock:
            if client_nonce in self._nonces:
                raise ProtocolError("this hello came before")
            self._make_room(hello["key"])
            self._nonces[client_nonce] = None
            while len(self._nonces) > REMEMBERED_NONCES:
                self._nonces.popitem(last=False)
            id, nonce = secrets.token_hex(16), secrets.token_hex(NONCE_BYTES)
            keys = session_keys(key, id, client_nonce, nonce)
            session = Session(
                id=id,
                client=_printable(hello["client"]),
                pid=hello["pid"],
                key_name=hello["key"],
                key=key,
                control_in=Incoming(keys.control_up, id, self.limits),
                control_out=Outgoing(keys.control_down, id),
                work_in=Incoming(keys.work_up, id, self.limits),
                work_out=Outgoing(keys.work_down, id),
                heard=now,
                control=route,
            )
            self._all[id] = session
        return session, nonce

    def _make_room(self, key_name: str) -> None:
        """A hello that nothing followed goes first; BusyError if there is none to go."""
        mine = [one for one in self._all.values() if one.key_name == key_name]
        if key_name != "local" and len(mine) >= max(1, self.limits.sessions // REMOTE_SHARE):
            everyone = mine
        elif len(self._all) >= self.limits.sessions:
            everyone = list(self._all.values())
        else:
            return
        unproven = min((one for one in everyone if not one.proven), key=_heard, default=None)
        if unproven is None:
            raise BusyError(f"{len(everyone)} clients are connected; close one and try again")
        del self._all[unproven.id]

    def close(self, id: str) -> Session | None:
        with self._lock:
            return self._all.pop(id, None)

    def silent(self, now: float) -> list[Session]:
        """Sessions that have ended by silence."""
        return [
            one
            for one in self.everyone()
            if now - one.heard > (SILENCE_SECONDS if one.proven else UNPROVEN_SECONDS)
        ]


def _heard(session: Session) -> float:
    return session.heard


def _printable(name: str) -> str:
    """A name as a log and a terminal may show it."""
    return "".join(c if " " <= c <= "~" else "?" for c in name[:NAME_CHARACTERS])


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)
