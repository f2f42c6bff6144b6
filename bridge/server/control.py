"""The control thread: hello, heartbeats, status, cancel and stop, never behind audio.

It also publishes events, ends sessions that fell silent, and watches the daemon's own memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import psutil
import zmq

from audiosr_core import __version__
from audiosr_core.errors import AudioSRError
from bridge.errors import CODES, BridgeError, CodedError, ProtocolError, code_of
from bridge.jobs import State
from bridge.protocol import (
    LIMITS,
    TYPES,
    VERSION,
    Message,
    Outgoing,
    SequenceError,
    decode,
    encode,
    peek,
)
from bridge.server.sessions import Route, Session
from bridge.server.shared import Shared, log
from bridge.server.sockets import Sockets, receive_all

TICK_MILLISECONDS = 100
ALERT_MILLISECONDS = 5  # the same, while much memory is in use: a peer can send GiB in a second
HEARTBEAT_SECONDS = 1.0
BURST = 64  # messages of one socket before the others get their turn
SETTLE_SECONDS = 0.25  # after peers were dropped, memory is looked at again
LOOK_SECONDS = 0.5  # between two looks at the allow-list and at the sockets' files
HELLO_FRAMES = 4  # and no audio
INTERNAL = "this is a bug in the daemon; see 'audiosr-bridge daemon logs'"


class RemoteClient(Protocol):
    """One client on the allow-list."""

    @property
    def public(self) -> str: ...


class Allowed(Protocol):
    """Who may come by TCP, as it is now."""

    def key_of(self, name: str) -> bytes | None:
        """What signs the `hello` of the client that CURVE has proven; None if it was revoked."""

    def everyone(self) -> Mapping[str, RemoteClient]: ...


class Jobs(Protocol):
    """What control asks of the work thread; every call may come from any thread."""

    def views(self, owner: str | None = None) -> list[dict[str, Any]]: ...
    def cancel(self, job: str, owner: str | None = None) -> State: ...
    def gone(self, session: str) -> None: ...
    def unload(self) -> None: ...
    def active(self) -> int: ...
    def status(self) -> dict[str, Any]: ...


class Control(threading.Thread):
    """Owns the control and events sockets."""

    def __init__(
        self, shared: Shared, routers: Sockets, events: Sockets, jobs: Jobs, allowed: Allowed
    ) -> None:
        super().__init__(name="control", daemon=True)
        self.shared, self.jobs = shared, jobs
        self._routers, self._events, self._allowed = routers, events, allowed
        self._known = dict(allowed.everyone())
        self._published = Outgoing(shared.events_key, "")
        self._process = psutil.Process()
        self._next_beat = self._next_look = 0.0
        self._settling_until = 0.0
        self._is_alert = False
        self._memory_bytes = shared.options.memory_bytes
        self._idle_since = time.monotonic()

    def run(self) -> None:
        try:
            while not self.shared.stopping.is_set():
                self._poll()
                self._publish()
                self._tick(time.monotonic())
            self._publish()
        except Exception:
            log.exception("control failed")
            raise
        finally:
            self.shared.stopping.set()
            self.shared.wake_work()
            self._routers.close()
            self._events.close()

    # ---- what comes

    def _poll(self) -> None:
        poller = zmq.Poller()
        poller.register(self.shared.wake_control.receiver, zmq.POLLIN)
        for one in self._routers:
            poller.register(one, zmq.POLLIN)
        ready = dict(poller.poll(ALERT_MILLISECONDS if self._is_alert else TICK_MILLISECONDS))
        self.shared.wake_control.clear()
        for one in list(self._routers):
            if one in ready:
                receive_all(one, BURST, lambda frames, one=one: self._take(one, frames))  # type: ignore[misc]

    def _take(self, socket: zmq.Socket[bytes], frames: list[zmq.Frame]) -> None:
        route = Route(socket, frames[0].bytes)
        body = [one.buffer for one in frames[1:]]
        user = _user(frames[-1]) if self._routers.is_remote(socket) else "local"
        base = self.shared.key if user == "local" else self._allowed.key_of(user)
        if base is None:
            return self.shared.refuse("a key that was revoked")

        try:
            type, id = peek(body)
            if type == "hello" and not id:
                if len(body) != HELLO_FRAMES:
                    raise ProtocolError("hello carries no audio")
                return self._hello(decode(body, lambda *_: base), route, base, user)
        except ProtocolError as error:
            return self.shared.refuse(str(error))
        session = self.shared.sessions.get(id)
        if session is None or session.key_name != user:
            return self.shared.refuse("a session that is not known")
        try:
            message = session.control_in.open(body)
        except SequenceError as error:
            return (
                self._fail(session, error, None) if error.lost else self.shared.refuse(str(error))
            )
        except ProtocolError as error:
            if error.answers is None:  # not authentic: no answer
                return self.shared.refuse(str(error))
            return self._fail(session, error, error.answers)
        session.control, session.heard, session.proven = route, time.monotonic(), True
        try:
            kind = TYPES[message.type]
            if kind.socket != "control" or kind.sender != "client":
                raise ProtocolError(f"{message.type} is not for the control socket")
            type, meta = self._answer(session, message)
            if type:
                self._send(session, type, meta, message.sequence)
        except AudioSRError as error:
            self._fail(session, error, message.sequence)
        except Exception:  # one bad request ends nobody else's work
            log.exception("a request failed")
            self._fail(session, BridgeError(INTERNAL), message.sequence)
        return None

    def _hello(self, hello: Message, route: Route, base: bytes, user: str) -> None:
        nonce = hello["nonce"]
        try:
            if hello["key"] != user:
                raise ProtocolError(f"this hello names the key {hello['key']!r}, not {user!r}")
            if self.shared.stopping.is_set():
                raise CodedError("E_STOPPING", "the daemon is stopping; try again")
            session, own = self.shared.sessions.open(hello, base, route, time.monotonic())
        except BridgeError as error:
            self.shared.refuse(str(error))
            answer = Message(
                "refused",
                {"code": code_of(error), "text": str(error), "client_nonce": nonce},
            )
        else:
            limits = self.shared.options.limits
            answer = Message(
                "welcome",
                {
                    "protocol": list(VERSION),
                    "version": __version__,
                    "nonce": own,
                    "client_nonce": nonce,
                    "session": session.id,
                    "events_key": self.shared.events_key.hex(),
                    "limits": {
                        "frame_bytes": limits.frame_bytes,
                        "meta_bytes": limits.meta_bytes,
                        "credit_bytes": limits.credit_bytes,
                        "jobs_per_session": limits.jobs_per_session,
                    },
                    "pid": self._process.pid,
                },
            )
            log.info("hello", extra={"client": session.name, "sessions": len(self.shared.sessions)})
        _try_send(route, encode(answer, base))

    def _answer(self, session: Session, message: Message) -> tuple[str, dict[str, Any]]:
        """The answer to one request: its type, and its meta."""
        owner = session.key_name if session.remote else None
        match message.type:
            case "ping":
                return "pong", {"uptime_seconds": round(self.shared.uptime, 3)}
            case "status":
                return "status_is", {"status": self.status(owner)}
            case "list_jobs":
                return "jobs_are", _fitting(self.jobs.views(owner))
            case "cancel":
                state = self.jobs.cancel(message["job"], owner)
                return "cancelling", {"job": message["job"], "state": str(state)}
            case "unload":
                if session.remote:
                    raise CodedError("E_USAGE", "a model is unloaded on its own machine only")
                self.jobs.unload()
                return "unloading", {}
            case "stop":
                if session.remote:
                    raise CodedError("E_USAGE", "a daemon is stopped on its own machine only")
                log.info("stop", extra={"client": session.name})
                self._send(session, "stopping", {"pid": self._process.pid}, message.sequence)
                self.shared.stopping.set()
                return "", {}
            case "open_instance" | "set_instance" | "close_instance":
                return "instance_is", self._instance(session, message)
            case "goodbye":
                self._end(session, "goodbye")
                return "", {}
        raise ProtocolError(f"{message.type} cannot be asked")

    def _instance(self, session: Session, message: Message) -> dict[str, Any]:
        instances, name = self.shared.instances, message["name"]
        if message.type == "close_instance":
            instances.close(name, session.id)
            return {"name": name, "settings": {}, "open": False}
        if message.type == "open_instance":
            one = instances.open(name, message["settings"], session.id)
        else:
            one = instances.change(name, message["settings"], session.id)
        return {"name": name, "settings": one.settings.as_dict(), "open": True}

    # ---- what goes

    def _send(self, session: Session, type: str, meta: dict[str, Any], answers: int | None) -> None:
        if _try_send(session.control, session.control_out.frames(type, meta, (), answers)):
            session.control_out.sent()

    def _fail(self, session: Session, error: AudioSRError, answers: int | None) -> None:
        meta = {
            "code": code_of(error),
            "text": str(error)[:4000],
            "retryable": CODES[code_of(error)].retryable,
            "job": None,
        }
        self._send(session, "error", meta, answers)

    def _publish(self) -> None:
        events = self.shared.events
        while events:
            topic, type, meta, only_local = events.popleft()
            try:
                frames = [topic.encode(), *self._published.frames(type, meta)]
            except (ProtocolError, UnicodeError):
                log.exception("an event cannot be told")
                continue
            self._published.sent()
            for one in self._events:
                if not (only_local and self._events.is_remote(one)):
                    one.send_multipart(frames, zmq.NOBLOCK)

    # ---- what time brings

    def _tick(self, now: float) -> None:
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_SECONDS
            uptime = {"uptime_seconds": round(self.shared.uptime, 3)}
            self.shared.events.append(("heartbeat", "heartbeat", uptime, False))
        for session in self.shared.sessions.silent(now):
            self._end(session, "silent")
        self._watch_memory(now)
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look_at_allowed()
            for one in (self._routers, self._events):
                if one.stolen:
                    log.error("another process has taken our sockets' place; bound anew")
                    one.rebind()
        if len(self.shared.sessions) or self.jobs.active():
            self._idle_since = now
        limit = self.shared.options.idle_exit_seconds
        if 0 <= limit <= now - self._idle_since:
            log.info("idle", extra={"seconds": round(now - self._idle_since)})
            self.shared.stopping.set()

    def _end(self, session: Session, why: str) -> None:
        if self.shared.sessions.close(session.id):
            log.info("end", extra={"client": session.name, "why": why})
            self.shared.instances.close_all_of(session.id)
            self.jobs.gone(session.id)

    def _watch_memory(self, now: float) -> None:
        """What peers have sent and not ended goes with their sockets; what is left is ours."""
        most, used = self.shared.options.memory_bytes, self._process.memory_info().rss
        self._is_alert = used > most // 2
        if self._settling_until and used > most:
            if now < self._settling_until:
                return
            _give_back_memory()
            self._memory_bytes = max(most, self._process.memory_info().rss + most // 4)
        self._settling_until = 0.0
        self._memory_bytes = max(most, min(self._memory_bytes, used + most // 4))
        if used <= self._memory_bytes:
            return
        log.warning("memory full: every peer is dropped", extra={"bytes": used})
        self._settling_until = now + SETTLE_SECONDS
        for one in (self._routers, self._events):
            one.rebind()
        self.shared.rebinds += 1
        self.shared.wake_work()

    def _look_at_allowed(self) -> None:
        """Whoever was revoked is put out of the door: its sessions, and its connections."""
        now = self._allowed.everyone()
        revoked = [name for name, one in self._known.items() if now.get(name) != one]
        self._known = dict(now)
        for session in self.shared.sessions.everyone():
            if session.remote and self._allowed.key_of(session.key_name) != session.key:
                self._end(session, "revoked")
        if revoked:
            log.info("revoked", extra={"clients": revoked})
            for one in (self._routers, self._events):
                one.rebind(only_remote=True)
            self.shared.remote_rebinds += 1
            self.shared.wake_work()

    def status(self, owner: str | None = None) -> dict[str, Any]:
        """What `audiosr-bridge daemon status` shows.

        Args:
            owner: a remote client, which sees itself and nobody else
        """
        options = self.shared.options
        sessions = self.shared.sessions.everyone()
        return {
            "version": __version__,
            "protocol": list(VERSION),
            "pid": self._process.pid,
            "uptime_seconds": round(self.shared.uptime, 1),
            "memory_bytes": self._process.memory_info().rss,
            "sessions": [one.name for one in sessions if owner in (None, one.key_name)],
            "refused": sum(self.shared.refused.values()),
            "endpoints": self._routers.endpoints if owner is None else [],
            "keep_alive_seconds": options.keep_alive_seconds,
            "idle_exit_seconds": options.idle_exit_seconds,
            **self.jobs.status(),
        }


def _fitting(views: list[dict[str, Any]]) -> dict[str, Any]:
    """The latest jobs, as many as fit a message, and how many do not."""
    kept: list[dict[str, Any]] = []
    room = LIMITS.meta_bytes - 1024
    for one in sorted(views, key=lambda view: view["created"], reverse=True):
        room -= len(json.dumps(one)) + 1
        if room < 0:
            break
        kept.insert(0, one)
    return {"jobs": kept, "left_out": len(views) - len(kept)}


def _give_back_memory() -> None:
    """What was freed goes back to the system, where the C library can be asked to."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _user(frame: zmq.Frame) -> str:
    """The name that ZAP gave this peer."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def _try_send(route: Route, frames: list[Any]) -> bool:
    """False if the peer is gone or does not read."""
    try:
        route.socket.send_multipart([route.peer, *frames], zmq.NOBLOCK)
    except zmq.ZMQError:
        return False
    return True
