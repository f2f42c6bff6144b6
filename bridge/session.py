"""A session: one life with a daemon, from hello to goodbye. A thread of its own owns both sockets.

    callers ── ask, tell ──▶ queue ─┐                       ┌─▶ answers, as futures
                                    │  the session's thread │
    channels ── what to send next ──┴─ control, work DEALER ┴─▶ channels, one a job

Every message that comes is checked before anybody hears of it: a daemon that does not know the key
is as good as none. When the daemon is gone, everybody who waits is told at once, in one sentence;
a session does not come back, its client makes another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, Self

import zmq
from zmq.utils.monitor import parse_monitor_message

from audiosr_core import __version__
from bridge.errors import (
    BridgeError,
    NoDaemonError,
    ProtocolError,
    UnsupportedError,
    VersionError,
    error_from,
)
from bridge.protocol import (
    LIMITS,
    MAGIC,
    MAGIC_FAMILY,
    NONCE_BYTES,
    VERSION,
    Frame,
    Incoming,
    Limits,
    Message,
    Outgoing,
    SequenceError,
    decode,
    encode,
    session_keys,
)

if TYPE_CHECKING:
    from bridge.connection import Connection

PING_SECONDS = 1.0
DEAD_SECONDS = 5.0  # of silence
LOCAL_SECONDS = 1.0  # a daemon on this machine listens before it is found
GOODBYE_MILLISECONDS = 200
SOCKET_BYTES = 2 << 20  # in the kernel; with less, both sides wake each other for every piece
HIGH_WATER_MARK = 16
COPIED_BYTES = 64 << 10  # a smaller frame is sooner copied than kept alive
BURST = 16  # messages taken from one socket before the other gets its turn

Outgoings = tuple[str, Mapping[str, Any], Sequence[Frame]]
"""Type, meta and audio of a message."""


_Post = tuple[Outgoings, "Future[Message] | None"]


class Channel(Protocol):
    """What a session needs of a job. All but `job` is called in the session's thread: be quick."""

    job: str

    def heard(self, message: Message) -> None: ...
    def lost(self, error: BridgeError) -> None: ...
    def next(self) -> Outgoings | None:
        """The next audio to send, if there is some and credit for it."""


class Session:
    """Opened where it is made; `close` says goodbye.

    Args:
        connection: where the daemon is, and the key
        client: what the daemon's log shall call us

    Raises:
        NoDaemonError: nobody answered, or somebody who does not know the key
        VersionError: the daemon speaks another major version
    """

    def __init__(self, connection: Connection, client: str, timeout_seconds: float = 10.0) -> None:
        self.connection = connection
        self.limits = LIMITS
        self.events_key = b""
        self.daemon_version = ""
        self.protocol = VERSION  # the daemon's
        self._client = client
        self._key = connection.key_bytes
        self._lock = threading.Lock()
        self._posts: dict[str, deque[_Post]] = {"control": deque(), "work": deque()}
        self._ready: deque[Channel] = deque()
        self._channels: dict[str, Channel] = {}
        self._failure: BridgeError | None = None
        self._closing = False
        self._deadline = time.monotonic() + timeout_seconds
        self._begun: Future[None] = Future()
        self._bell, self._ringer = socket.socketpair()
        for end in (self._bell, self._ringer):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="audiosr-bridge", daemon=True)
        self._thread.start()
        try:
            self._begun.result(timeout_seconds + 1)
        except TimeoutError:
            self.close()
            raise NoDaemonError(_silent(connection)) from None
        except BaseException:
            self.close()
            raise

    # ---- for callers, in any thread

    @property
    def alive(self) -> bool:
        return self._failure is None and not self._closing

    def check_minor(self, minor: int, what: str) -> None:
        """VersionError where the daemon is too old for this."""
        if self.protocol[1] < minor:
            raise VersionError(
                f"{what} need protocol {VERSION[0]}.{minor}, the daemon speaks"
                f" {self.protocol[0]}.{self.protocol[1]}; update it and run"
                " `audiosr-bridge daemon restart`"
            )

    def ask(self, type: str, meta: Mapping[str, Any] | None = None, timeout: float = 10) -> Message:
        """The daemon's answer on the control socket; its error is raised."""
        return self.answer(self.ask_later(type, meta), timeout)

    def answer(self, future: Future[Message], timeout: float) -> Message:
        """What was asked for later, now."""
        try:
            return future.result(timeout)
        except TimeoutError:
            raise NoDaemonError(
                f"the daemon did not answer within {timeout:.3g} s; it may be busy: try again"
            ) from None

    def ask_later(
        self, type: str, meta: Mapping[str, Any] | None = None, on: str = "control"
    ) -> Future[Message]:
        future: Future[Message] = Future()
        self._post(on, (type, meta or {}, ()), future)
        return future

    def tell(self, type: str, meta: Mapping[str, Any]) -> None:
        """A message on the work socket that nothing answers. Nothing happens if the daemon died."""
        with contextlib.suppress(BridgeError):
            self._post("work", (type, meta, ()), None)

    def open(self, channel: Channel) -> bool:
        """From now on the channel hears what is said about its job; False if another one does."""
        with self._lock:
            self._check()
            return self._channels.setdefault(channel.job, channel) is channel

    def drop(self, channel: Channel) -> None:
        """The channel hears no more."""
        if self._channels.get(channel.job) is channel:
            del self._channels[channel.job]

    def wake(self, channel: Channel) -> None:
        """The channel may have something to send."""
        self._ready.append(channel)
        self._ring()

    def close(self) -> None:
        """Say goodbye; whoever still waits is told that the client was closed."""
        self._closing = True
        self._ring()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=2)

    def _post(self, on: str, what: Outgoings, future: Future[Message] | None) -> None:
        with self._lock:
            self._check()
            self._posts[on].append((what, future))
        self._ring()

    def _check(self) -> None:
        if self._failure is not None:
            raise _again(self._failure)
        if self._closing:
            raise NoDaemonError("this client is closed; connect another")

    def _ring(self) -> None:
        if self._thread is not threading.current_thread():
            with contextlib.suppress(OSError):  # full: it is ringing already
                self._ringer.send(b"!")

    # ---- the session's thread

    def _run(self) -> None:
        failure: BridgeError = NoDaemonError("this client is closed; connect another")
        try:
            with _sockets(self.connection) as (control, work, poller):
                poller.register(self._bell.fileno(), zmq.POLLIN)
                _Life(self, control, work, poller).run()
        except BridgeError as error:
            failure = error
        except zmq.ZMQError as error:
            failure = NoDaemonError(f"the connection to the daemon failed: {error}")
        except Exception as error:
            failure = BridgeError(f"this is a bug: {type(error).__name__}: {error}")
        finally:
            self._end(failure)

    def _end(self, failure: BridgeError) -> None:
        with self._lock:
            self._failure = failure
            posts = [one for queue in self._posts.values() for one in queue]
            channels, self._channels = list(self._channels.values()), {}
        for _, future in posts:
            _fail(future, failure)
        for channel in channels:
            channel.lost(failure)
        if not self._begun.done():
            self._begun.set_exception(failure)
        self._bell.close()
        self._ringer.close()


class _Life:
    """What happens in the session's thread."""

    def __init__(
        self, session: Session, control: _Socket, work: _Socket, poller: zmq.Poller
    ) -> None:
        self.session, self.control, self.work, self.poller = session, control, work, poller
        self.asked: dict[tuple[str, int], Future[Message]] = {}
        self.heard_at = time.monotonic()

    def run(self) -> None:
        try:
            self._greet()
            self.session._begun.set_result(None)
            self._talk()
        except BridgeError as error:
            self._fail_all(error)
            raise
        self._fail_all(NoDaemonError("this client is closed; connect another"))

    def _fail_all(self, error: BridgeError) -> None:
        for future in self.asked.values():
            _fail(future, error)

    def _greet(self) -> None:
        session, key = self.session, self.session._key
        connection = session.connection
        nonce = secrets.token_hex(NONCE_BYTES)
        meta = {
            "protocol": list(VERSION),
            "client": session._client[:128],
            "version": __version__,
            "pid": os.getpid(),
            "nonce": nonce,
            "key": connection.key_name,
        }
        unsent: list[Frame] | None = encode(Message("hello", meta), key)
        what = "nobody answers"
        local_until = time.monotonic() + LOCAL_SECONDS
        while (left := session._deadline - time.monotonic()) > 0:
            if unsent and connection.endpoints.is_local and time.monotonic() > local_until:
                break
            if session._closing:
                raise NoDaemonError("this client is closed; connect another")
            if unsent and self.control.send(unsent):
                unsent = None
            self.control.watch(self.poller, bool(unsent))
            self.poller.poll(int(1000 * min(left, 0.1)) + 1)
            self._empty_bell()
            for one in (self.control, self.work):
                if zmq.EVENT_HANDSHAKE_FAILED_AUTH in one.happened():  # libzmq does not try again
                    raise NoDaemonError(
                        f"the daemon at {one.endpoint} does not accept the key"
                        f" {connection.key_name!r}; it was revoked or is another daemon's: make a"
                        " new one there with `audiosr-bridge daemon keys create`"
                    )
            while (frames := self.control.receive()) is not None:
                try:
                    message = decode(frames, lambda _, session: None if session else key)
                except ProtocolError:
                    what = _strange(frames)
                    continue
                if message.get("client_nonce") == nonce and message.type in ("welcome", "refused"):
                    self._welcome(message, nonce)
                    return
        raise NoDaemonError(_silent(connection, what))

    def _welcome(self, message: Message, nonce: str) -> None:
        session = self.session
        if message.type == "refused":
            raise _bridge_error(message)
        theirs = message["protocol"]
        if len(theirs) != 2 or theirs[0] != VERSION[0]:
            raise VersionError(
                f"the daemon speaks protocol {theirs}, this client {VERSION[0]}.{VERSION[1]};"
                " update the older of the two and run `audiosr-bridge daemon restart`"
            )
        session.protocol = theirs[0], theirs[1]
        session.limits = _limits(message["limits"])
        session.daemon_version = message["version"]
        session.events_key = bytes.fromhex(message["events_key"])
        name = message["session"]
        keys = session_keys(session._key, name, nonce, message["nonce"])
        self.control.begin(keys.control_up, keys.control_down, name, session.limits)
        self.work.begin(keys.work_up, keys.work_down, name, session.limits)
        self.heard_at = time.monotonic()

    def _talk(self) -> None:
        session = self.session
        ping_at = time.monotonic()
        while not session._closing:
            now = time.monotonic()
            if now >= ping_at:
                self._send("control", ("ping", {}, ()), None)
                ping_at = now + PING_SECONDS
            if now - self.heard_at > DEAD_SECONDS:
                raise NoDaemonError(
                    f"the daemon has said nothing for {DEAD_SECONDS:.0f} s; see"
                    " `audiosr-bridge daemon status` and try again"
                )
            busy = self._send_what_waits()
            for one in (self.control, self.work):
                one.watch(self.poller, one.unsent is not None)
            wait = 0 if busy else max(0, int(1000 * (ping_at - now))) + 1
            ready = dict(self.poller.poll(wait))
            if session._bell.fileno() in ready:
                self._empty_bell()
            for one in (self.control, self.work):
                if one.monitor in ready and zmq.EVENT_DISCONNECTED in one.happened():
                    raise NoDaemonError(  # after a restart it knows us no more
                        "the daemon went away; what it had computed is kept: start it with"
                        " `audiosr-bridge daemon start` and try again"
                    )
                if one.socket not in ready:
                    continue
                busy_for = BURST
                while busy_for and (frames := one.receive()) is not None:
                    busy_for -= 1
                    self._hear(one, frames)
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        for name, posts in self.session._posts.items():
            while posts:
                self._send(name, *posts.popleft())
        self._send("control", ("goodbye", {}, ()), None)
        for one in (self.control, self.work):
            one.socket.linger = GOODBYE_MILLISECONDS

    def _send_what_waits(self) -> bool:
        """Posts first, then the audio of one channel; whether there is more."""
        session = self.session
        for one in (self.control, self.work):
            posts = session._posts[one.name]
            while posts and one.unsent is None:
                self._send(one.name, *posts.popleft())
        if self.work.unsent is not None or not session._ready:
            return False
        channel = session._ready.popleft()
        what = channel.next()
        if what is not None:
            self._send("work", what, None)
            if channel not in session._ready:
                session._ready.append(channel)
        return bool(session._ready) and self.work.unsent is None

    def _send(self, name: str, what: Outgoings, future: Future[Message] | None) -> None:
        one = self.control if name == "control" else self.work
        if one.unsent is not None:
            return  # a ping or a goodbye behind one that could not leave
        try:
            one.post(what)
        except ProtocolError as error:
            _fail(future, error)
            return
        if future is not None:
            self.asked[name, one.number] = future

    def _hear(self, one: _Socket, frames: Sequence[Frame]) -> None:
        try:
            message = one.open(frames)
        except UnsupportedError:
            raise NoDaemonError(
                "the daemon sent a message that this client does not know; update the client"
            ) from None
        except SequenceError as error:
            if error.lost:
                raise NoDaemonError(f"the connection to the daemon broke: {error}") from error
            return  # somebody plays an old message again
        except ProtocolError:
            return  # not the daemon's, so nobody's
        self.heard_at = time.monotonic()
        future = None
        if message.answers is not None:
            future = self.asked.pop((one.name, message.answers), None)
        failed = message.type == "error"
        if future is not None and failed:
            _fail(future, error_from(message["code"], message["text"]))
            return
        if future is not None and not future.set_running_or_notify_cancel():
            future = None
        channel = self.session._channels.get(message.get("job") or "")
        if channel is not None and one.name == "work":
            channel.heard(message)
        if future is not None:
            future.set_result(message)
        elif failed and channel is None and not message.get("job"):
            raise _bridge_error(message)

    def _empty_bell(self) -> None:
        with contextlib.suppress(OSError):
            while len(self.session._bell.recv(4096)) == 4096:
                pass


class _Socket:
    """A DEALER with its signatures; only the session's thread touches it."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], name: str, to: Connection) -> None:
        self.name = name
        self.endpoint: str = getattr(to.endpoints, name)
        self.socket = context.socket(zmq.DEALER)
        self.unsent: list[Frame] | None = None
        self.number = 0
        self._watched = 0
        self._outgoing: Outgoing | None = None
        self._incoming: Incoming | None = None
        _configure(self.socket, to)
        wanted = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        self.monitor = self.socket.get_monitor_socket(wanted)
        try:
            self.socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            raise NoDaemonError(f"{self.endpoint} is no endpoint of a daemon: {error}") from error

    def begin(self, up: bytes, down: bytes, session: str, limits: Limits) -> None:
        self._outgoing = Outgoing(up, session)
        self._incoming = Incoming(down, session, limits)

    def watch(self, poller: zmq.Poller, sending: bool) -> None:
        wanted = zmq.POLLIN | (zmq.POLLOUT if sending else 0)
        if wanted != self._watched:
            poller.register(self.socket, wanted)
            self._watched = wanted

    def post(self, what: Outgoings) -> None:
        """Sign, number and send; what cannot leave yet waits in `unsent`."""
        assert self._outgoing
        frames = self._outgoing.frames(*what)
        self._outgoing.sent()
        self.number = self._outgoing.sequence
        if not self.send(frames):
            self.unsent = frames

    def send(self, frames: list[Frame]) -> bool:
        try:
            self.socket.send_multipart(frames, zmq.DONTWAIT, copy=len(frames[-1]) < COPIED_BYTES)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[Frame] | None:
        if self.unsent is not None and self.send(self.unsent):
            self.unsent = None
        try:
            frames = self.socket.recv_multipart(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return None
        return [frame.buffer for frame in frames]

    def open(self, frames: Sequence[Frame]) -> Message:
        assert self._incoming
        return self._incoming.open(frames)

    def happened(self) -> set[int]:
        """What became of the connection since the last look: zmq's events."""
        events = set()
        while self.monitor.poll(0):
            told = parse_monitor_message(self.monitor.recv_multipart(zmq.DONTWAIT))
            events.add(int(told["event"]))
        return events


@contextlib.contextmanager
def _sockets(connection: Connection) -> Iterator[tuple[_Socket, _Socket, zmq.Poller]]:
    with contextlib.ExitStack() as stack:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.term)
        sockets = []
        for name in ("control", "work"):
            one = _Socket(context, name, connection)
            stack.callback(one.socket.close)
            stack.callback(one.monitor.close, linger=0)
            stack.callback(one.socket.disable_monitor)
            sockets.append(one)
        poller = zmq.Poller()
        for one in sockets:
            one.watch(poller, False)
            poller.register(one.monitor, zmq.POLLIN)
        yield sockets[0], sockets[1], poller


def _configure(one: zmq.Socket[bytes], connection: Connection) -> None:
    one.linger = 0
    one.immediate = True
    one.sndhwm = one.rcvhwm = HIGH_WATER_MARK
    one.maxmsgsize = LIMITS.frame_bytes
    one.sndbuf = SOCKET_BYTES
    one.ipv6 = True
    if connection.curve is not None:
        curve = connection.curve
        one.curve_serverkey = curve.server.encode()
        one.curve_publickey = curve.public.encode()
        one.curve_secretkey = curve.secret.encode()


class Events:
    """The daemon's events, checked, as long as it and the session live; listening from the start.

    Args:
        topics: beginnings of topics: "job.", "instance.", "daemon", "" for all
        alive: asked all along; when it is so no more, this ends

    Raises:
        NoDaemonError: on the way, when nothing came for `DEAD_SECONDS`
    """

    def __init__(self, session: Session, topics: Sequence[str], alive: Callable[[], bool]) -> None:
        connection = session.connection
        self._key, self._last, self._alive = session.events_key, -1, alive
        self._topics = tuple(one.encode() for one in topics)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        _configure(self._socket, connection)
        self._socket.immediate = False  # else it subscribes no sooner than it is read
        self._socket.connect(connection.endpoints.events)
        for wanted in ("heartbeat", *topics):
            self._socket.subscribe(wanted)
        self._heard_at = time.monotonic()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        while self._alive() and not self._socket.closed:
            if time.monotonic() - self._heard_at > DEAD_SECONDS:
                self.close()
                raise NoDaemonError(f"no event came for {DEAD_SECONDS:.0f} s; try again")
            if not self._socket.poll(100):
                continue
            topic, *frames = self._socket.recv_multipart()
            try:
                message = decode(frames, lambda _, session: None if session else self._key)
            except ProtocolError:
                continue
            if message.sequence <= self._last:
                continue  # played again
            self._last, self._heard_at = message.sequence, time.monotonic()
            if topic.startswith(self._topics):
                return message
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Harmless when closed."""
        self._socket.close(0)
        self._context.term()


def _bridge_error(message: Message) -> BridgeError:
    error = error_from(message["code"], message["text"])
    return error if isinstance(error, BridgeError) else BridgeError(str(error))


def _limits(told: Mapping[str, Any]) -> Limits:
    """The daemon's, as far as this version knows them."""
    known = {one.name for one in dataclasses.fields(Limits)}
    return Limits(**{k: v for k, v in told.items() if k in known and type(v) is int and v > 0})


def _fail(future: Future[Any] | None, error: Exception) -> None:
    if future is not None and not future.done():
        with contextlib.suppress(Exception):  # cancelled at this moment
            future.set_exception(error)


def _again(error: BridgeError) -> BridgeError:
    """The same sentence, with a traceback of its own."""
    return type(error)(str(error))


def _strange(frames: Sequence[Frame]) -> str:
    start = bytes(frames[0][: len(MAGIC)]) if frames else b""
    if start.startswith(MAGIC_FAMILY) and start != MAGIC:
        return "what answers speaks another version of the protocol"
    return "what answers does not know the key of the connection file"


def _silent(connection: Connection, what: str = "nobody answers") -> str:
    where = connection.endpoints.control
    if not connection.endpoints.is_local:
        return (
            f"{what} at {where}; see there whether a daemon runs with --listen, and whether a"
            " firewall lets its three ports through"
        )
    return (
        f"{what} at {where}; see `audiosr-bridge daemon status`, or start one with"
        " `audiosr-bridge daemon start`"
    )
