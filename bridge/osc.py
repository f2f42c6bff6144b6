"""OSC: faders and buttons of a control surface, over UDP.

    surface ──► packet ──► messages_of ──► _act ──► Service (the daemon)
       ▲                                     │
       ├────────────── answers ──────────────┘
       └── feedback, 10 Hz at most ◄── Board ◄── instances, jobs

OSC knows no sender for sure and no secret, so nothing that comes this way can hurt: knobs, buttons
and cancel only; no path, no loading of a model; loopback unless somebody says otherwise; bounds on
everything. `ADDRESSES` is the table of addresses, docs/osc.md shows it, and a test holds the two
together.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import math
import re
import selectors
import socket
import struct
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message import ParseError as MessageError
from pythonosc.osc_message_builder import BuildError, OscMessageBuilder
from pythonosc.parsing import osc_types

from audiosr_core import __version__
from audiosr_core.errors import AudioSRError, ModelError, UsageError
from audiosr_core.settings import KNOBS
from bridge.errors import BusyError, JobError, ProtocolError, UnsupportedError, code_of
from bridge.instances import (
    MONITORS,
    Instance,
    Instances,
    from_fader,
    knob_of,
    natural,
    to_fader,
)
from bridge.jobs import ENDED
from bridge.protocol import VERSION

log = logging.getLogger("audiosr-bridge.osc")

PACKET_BYTES = 8 << 10
BUNDLE_MESSAGES = 32
SUBSCRIBERS = 32
SENDERS = 256  # whose rate is remembered
LEASE_SECONDS = 60.0
FEEDBACK_HZ = 10.0
FEEDBACK_MESSAGES = 64  # to one subscriber at a time; the rest follows at the next
SENDER_RATE, SENDER_BURST = 1000.0, 2000.0  # messages a second
TOTAL_RATE, TOTAL_BURST = 4000.0, 8000.0
WRONG_TOKENS_RATE, WRONG_TOKENS_BURST = 1.0, 5.0
LISTED_JOBS = 64
LEAVING = 1024  # last words that are kept for who reads slowly
PORTS_TRIED = 20
STOP_SECONDS = 0.5
COMPLAINT_SECONDS = 1.0
COMPLAINTS_RATE, COMPLAINTS_BURST = 10.0, 20.0  # that messages come too fast, to all
TOLD_SECONDS = 60.0  # how often the log says what was refused

ALIASES = {"gain_hf": "gain_hf_db", "crossover": "cutoff", "guidance": "guidance_scale"}
ACTIONS = ("render", "cancel", "audition")

Value = int | float | bool | str
Peer = tuple[Any, ...]  # as the system's socket calls give it


@dataclass(frozen=True)
class Address:
    """One line of the table of addresses."""

    address: str
    arguments: str
    way: str  # "in", "out", or both
    meaning: str


ADDRESSES = (
    Address("/audiosr/ping", "", "in", "answered by `pong`, also without `auth`"),
    Address("/audiosr/pong", "s version, s protocol", "out", "alive"),
    Address("/audiosr/auth", "s token", "in", "first of all, where a token is configured"),
    Address(
        "/audiosr/subscribe", "i port, f max_hz", "in, out",
        "feedback to this port of the sender, 0 for the port it sends from; for 60 s, so send it"
        " again before that; begins with everything; answered with port, max_hz and seconds",
    ),
    Address("/audiosr/unsubscribe", "i port", "in, out", "no more feedback"),
    Address(
        "/audiosr/info", "s device, s model, i jobs, f megabytes, s version", "in, out",
        "how the daemon is; asked for without arguments",
    ),
    Address("/audiosr/instance/list", "s name …", "in, out", "which instances are open"),
    Address("/audiosr/<id>/<knob>", "natural units", "in, out", "turn a knob, or ask with nothing"),
    Address("/audiosr/<id>/<knob>/norm", "f 0 … 1", "in, out", "the same as the place of a fader"),
    Address(
        "/audiosr/<id>/preset", "s name", "in", "all knobs as the preset has them; no paths"
    ),
    Address("/audiosr/<id>/bypass", "i", "in, out", "hear the original; non-zero is on"),
    Address("/audiosr/<id>/delta", "i", "in, out", "hear only what was added"),
    Address("/audiosr/<id>/ab", "i", "in, out", "hear A (0) or B"),
    Address("/audiosr/<id>/render", "i", "in", "button: acts on non-zero, or on no argument"),
    Address("/audiosr/<id>/cancel", "i", "in", "button"),
    Address("/audiosr/<id>/audition", "i", "in", "button"),
    Address(
        "/audiosr/<id>/state", "s state, f progress, f eta_seconds, s message", "out",
        "of its latest job; `idle` before, `closed` at the end; eta −1 while nobody knows",
    ),
    Address(
        "/audiosr/job/list", "i count", "in, out", "then one `progress` for each, the newest 64"
    ),
    Address("/audiosr/job/<job>/cancel", "i", "in", "button"),
    Address("/audiosr/job/<job>/progress", "s state, f progress, f eta_seconds", "out", ""),
    Address(
        "/audiosr/error", "s code, s text, s address", "out",
        "what was refused and why; codes as in the table of [the protocol](protocol.md#errors)",
    ),
)  # fmt: skip


class Service(Protocol):
    """What the daemon does for OSC. Called on OSC's thread; none of it may wait."""

    @property
    def instances(self) -> Instances: ...

    def info(self) -> Mapping[str, Any]:
        """device, model, models (names that need no loading), jobs, memory_bytes."""
        ...

    def set_setting(self, name: str, knob: str, value: Any) -> None:
        """Turn a knob of an instance, and tell its owner. The value is checked already."""
        ...

    def action(self, name: str, action: str, value: float) -> None:
        """A button (`ACTIONS`) or a monitor mode (`instances.MONITORS`), told to the owner."""
        ...

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        """Every job: job, state, fraction, eta_seconds; the oldest first."""
        ...

    def cancel(self, job: str) -> None: ...


# ---- packets


def messages_of(packet: bytes) -> list[tuple[str, list[Value]]]:
    """The messages of a packet: addresses and arguments.

    python-osc reads the messages; bundles are cut here, for a size that lies must not keep a thread
    busy. The time of a bundle is not looked at: everything is done when it comes.

    Raises:
        UnsupportedError: too much, or nested; ProtocolError: no OSC at all
    """
    if len(packet) > PACKET_BYTES:
        raise UnsupportedError(f"a packet may have {PACKET_BYTES} bytes, got more")
    try:
        return [_message(one) for one in _elements(packet)]
    except (MessageError, osc_types.ParseError, ValueError, IndexError, struct.error) as error:
        raise ProtocolError(f"this is no OSC: {error}") from error


def _elements(packet: bytes) -> list[bytes]:
    if not packet.startswith(b"#bundle\0"):
        return [packet]
    found, at = [], 16
    while at < len(packet):
        (size,) = struct.unpack_from(">i", packet, at)
        one = packet[at + 4 : at + 4 + size]
        if size <= 0 or size % 4 or len(one) != size:
            raise ProtocolError("this is no OSC: the size of an element is wrong")
        if one.startswith(b"#bundle"):
            raise UnsupportedError("a bundle may not hold a bundle; send its messages")
        found.append(one)
        if len(found) > BUNDLE_MESSAGES:
            raise UnsupportedError(f"a bundle may hold {BUNDLE_MESSAGES} messages, got more")
        at += 4 + size
    return found


def _message(one: bytes) -> tuple[str, list[Value]]:
    if not one.startswith(b"/") or len(one) % 4:
        raise ProtocolError("this is no OSC: a message begins with / and is padded to 4 bytes")
    address, at = osc_types.get_string(one, 0)
    if at < len(one):  # the library would log every type that it does not know
        types, _ = osc_types.get_string(one, at)
        if not re.fullmatch(",[ifhdsTF]*", types):
            raise UnsupportedError("arguments may be numbers, text, true and false")
    return address, list(OscMessage(one).params)


def packet_of(address: str, *arguments: Value) -> bytes:
    """One message."""
    builder = OscMessageBuilder(address)
    for one in arguments:
        builder.add_arg(int(one) if isinstance(one, bool) else one)
    return builder.build().dgram


def _typed(value: Value) -> Value:
    """A number as its sender meant it: 0.02 comes as the float32 next to it."""
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return float(f"{value:.7g}")
    return value


def _one(params: Sequence[Value]) -> Value:
    if len(params) != 1:
        raise UsageError(f"one argument is wanted, got {len(params)}")
    return _typed(params[0])


def _number(params: Sequence[Value], default: float) -> float:
    """The first argument, or the default where there is none."""
    if not params:
        return default
    value = _one(params)
    if isinstance(value, str) or not math.isfinite(value):
        raise UsageError(f"a number is wanted, got {value!r}")
    return float(value)


# ---- bounds


class Bucket:
    """So many at once, and so many a second."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now

    def has(self, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left >= 1

    def take(self, now: float) -> bool:
        has = self.has(now)
        self._left -= has
        return has


class Board:
    """The latest word on every address. Each subscriber reads on from where it was, so it may skip
    words, but never the last one."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[int, tuple[Value, ...]]] = OrderedDict()
        self._version = 0

    def __contains__(self, address: str) -> bool:
        return address in self._entries

    def put(self, address: str, *arguments: Value) -> None:
        there = self._entries.get(address)
        if there is None or there[1] != arguments:
            self._version += 1
            self._entries[address] = (self._version, arguments)
            self._entries.move_to_end(address)

    def drop(self, prefix: str, but: str = "") -> None:
        for address in [a for a in self._entries if a.startswith(prefix) and a != but]:
            del self._entries[address]

    def since(self, version: int, most: int) -> list[tuple[int, str, tuple[Value, ...]]]:
        """What is newer than a version, the oldest first."""
        newer: list[tuple[int, str, tuple[Value, ...]]] = []
        for address, (at, arguments) in reversed(self._entries.items()):
            if at <= version:
                break
            newer.append((at, address, arguments))
        return newer[::-1][:most]


@dataclass
class Subscriber:
    """Who wants feedback."""

    max_hz: float
    until: float
    seen: int = 0  # version of the board
    next: float = 0.0  # monotonic seconds


@dataclass
class _Sender:
    """Whose messages come, and how fast."""

    bucket: Bucket
    complained: float = -math.inf  # when it was last told that it is too fast


# ---- the server


class OscServer:
    """Owns a UDP socket and a thread."""

    def __init__(
        self,
        host: str,
        port: int,
        service: Service,
        *,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: Counter[str] = Counter()  # why, and how often
        self._host, self._port, self._service = host, port, service
        self._token, self._clock = token, clock
        self._socket: socket.socket | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._senders: OrderedDict[Peer, _Sender] = OrderedDict()
        self._proven: OrderedDict[Peer, None] = OrderedDict()  # who said the token
        self._subscribers: dict[Peer, Subscriber] = {}
        self._board = Board()
        self._shown: dict[str, int] = {}  # instances on the board, and their versions
        self._jobs: set[str] = set()  # on the board: their addresses
        self._leaving: dict[str, float] = {}  # addresses whose last word is said, and when
        self._looked = -math.inf
        self._told = -math.inf
        self._total = Bucket(TOTAL_RATE, TOTAL_BURST, clock())
        self._complaints = Bucket(COMPLAINTS_RATE, COMPLAINTS_BURST, clock())
        self._wrong_tokens = Bucket(WRONG_TOKENS_RATE, WRONG_TOKENS_BURST, clock())

    def start(self) -> int | None:
        """`open`, and a thread that serves until `stop`."""
        port = self.open()
        if port is not None:
            self._thread = threading.Thread(target=self._run, name="osc", daemon=True)
            self._thread.start()
        return port

    def open(self) -> int | None:
        """The port: the wanted one, or the next free; None, and a line in the log, if none is."""
        bound = self._bound()
        if bound is None:
            return None
        bound.setblocking(False)
        self._socket, self._wake = bound, socket.socketpair()
        port = int(bound.getsockname()[1])
        if self._port and port != self._port:
            log.warning("port busy", extra={"wanted": self._port, "port": port})
        if not _is_loopback(self._host):
            log.warning(
                "OSC listens beyond this machine: who reaches it can turn knobs and cancel jobs",
                extra={"host": self._host, "token": self._token is not None},
            )
        return port

    def stop(self) -> None:
        """No packet is taken after this."""
        self._stopping.set()
        if self._wake is not None:
            with contextlib.suppress(OSError):
                self._wake[1].send(b"x")
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        for one in (self._socket, *(self._wake or ())):
            if one is not None:
                one.close()

    def _bound(self) -> socket.socket | None:
        ports = range(self._port, min(self._port + PORTS_TRIED, 65_536)) if self._port else ()
        try:
            family, kind, number, _, where = socket.getaddrinfo(
                self._host, 0, type=socket.SOCK_DGRAM
            )[0]
            for port in (*ports, 0):
                one = socket.socket(family, kind, number)
                try:
                    one.bind((where[0], port, *where[2:]))
                    return one
                except OSError as error:
                    one.close()
                    why = error
        except OSError as error:
            why = error
        log.error("no OSC", extra={"host": self._host, "port": self._port, "why": str(why)})
        return None

    # ---- the thread

    def _run(self) -> None:
        assert self._socket is not None
        assert self._wake is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._wake[0], selectors.EVENT_READ)
            while not self._stopping.is_set():
                try:
                    selector.select(0.5 / FEEDBACK_HZ if self._subscribers else 1.0)
                    for packet, sender in self._received():
                        self.take(packet, sender)
                    self.tick()
                except Exception:
                    if not self._stopping.is_set():
                        self._trouble()

    def _received(self) -> Iterator[tuple[bytes, Peer]]:
        """What is waiting; feedback gets its turn after so many."""
        assert self._socket is not None
        for _ in range(256):
            if self._stopping.is_set():
                return
            try:
                packet, sender = self._socket.recvfrom(PACKET_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:  # some systems tell here that an earlier answer found nobody
                continue
            yield packet, sender

    def _trouble(self) -> None:
        self.refused["failed"] += 1
        if self.refused["failed"] <= 10:
            log.exception("OSC failed at a packet")

    def take(self, packet: bytes, sender: Peer) -> None:
        """Everything that one packet asks for."""
        now = self._clock()
        known = self._senders.get(sender)
        if known is None:
            known = self._senders[sender] = _Sender(Bucket(SENDER_RATE, SENDER_BURST, now))
            while len(self._senders) > SENDERS:
                self._senders.popitem(last=False)
        self._senders.move_to_end(sender)
        if not self._may(known, sender, now):
            return
        try:
            messages = messages_of(packet)
        except UnsupportedError as error:
            self._refuse(sender, error, "")
            return
        except ProtocolError:  # whoever it was speaks no OSC: no answer
            self.refused["malformed"] += 1
            return
        for n, (address, params) in enumerate(messages):
            if n and not self._may(known, sender, now):
                return
            try:
                self._act(sender, address, params)
            except AudioSRError as error:
                self._refuse(sender, error, address)
            except Exception as error:
                self._trouble()
                self._refuse(sender, error, address)

    def _may(self, known: _Sender, sender: Peer, now: float) -> bool:
        """Whether one more message is within the rates; if not, its sender hears it once."""
        if known.bucket.take(now) and self._total.take(now):
            return True
        self.refused["rate"] += 1
        if now - known.complained >= COMPLAINT_SECONDS and self._complaints.take(now):
            known.complained = now
            self._refuse(sender, BusyError("too many messages; send fewer a second"), "")
        return False

    def _refuse(self, sender: Peer, error: Exception, address: str) -> None:
        code = code_of(error)
        self.refused[code] += 1
        known = isinstance(error, AudioSRError)
        text = str(error) if known else "a bug in the daemon; its log has the details"
        self._send(sender, "/audiosr/error", code, text[:400], address[:200])

    def _send(self, peer: Peer, address: str, *arguments: Value) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(
            OSError, BuildError, OverflowError
        ):  # nobody there, or no room: it is UDP
            self._socket.sendto(packet_of(address, *arguments), peer)

    # ---- what comes

    def _act(self, sender: Peer, address: str, params: list[Value]) -> None:
        root, *words = address.split("/")[1:]
        if root != "audiosr" or not words:
            raise UnsupportedError("addresses begin with /audiosr/; see docs/osc.md")
        if words[0] in ("error", "pong"):  # our own words come back: no answer, or it never ends
            self.refused["echo"] += 1
            return
        if (
            self._token is not None
            and sender not in self._proven
            and words not in (["auth"], ["ping"])
        ):
            raise UsageError("this daemon wants a token; send it to /audiosr/auth first")
        match words:
            case ["ping"]:
                protocol = ".".join(str(n) for n in VERSION)
                self._send(sender, "/audiosr/pong", __version__, protocol)
            case ["auth"]:
                self._prove(sender, params)
            case ["subscribe"]:
                self._subscribe(sender, params)
            case ["unsubscribe"]:
                peer = _with_port(sender, _number(params[:1], 0.0))
                self._subscribers.pop(peer, None)
                self._send(sender, address, peer[1])
            case ["info"]:
                self._send(sender, address, *self._info())
            case ["instance", "list"]:
                names = [one.name for one in self._service.instances]
                self._send(sender, address, *sorted(names))
            case ["job", "list"]:
                jobs = self._service.jobs()
                self._send(sender, address, len(jobs))
                for job in jobs[-LISTED_JOBS:]:
                    about, words_of = _progress(job)
                    self._send(sender, about, *words_of)
            case ["job", job, "cancel"]:
                if _number(params, 1.0):
                    self._service.cancel(job)
            case [name, "preset"]:
                self._preset(self._instance(name), _one(params))
            case [name, action] if action in ACTIONS:
                self._instance(name)
                value = _number(params, 1.0)
                if value:
                    self._service.action(name, action, value)
            case [name, mode] if mode in MONITORS:
                there = self._instance(name)
                if params:
                    self._service.action(name, mode, 1.0 if _number(params, 0.0) else 0.0)
                else:
                    self._send(sender, address, int(there.monitors[mode]))
            case [name, "state"] if not params:
                self._send(sender, address, *_state(self._instance(name)))
            case [name, knob] | [name, knob, "norm"]:
                self._turn(sender, address, self._instance(name), knob, params)
            case _:
                raise UnsupportedError(f"there is no address {address[:100]!r}; see docs/osc.md")

    def _prove(self, sender: Peer, params: Sequence[Value]) -> None:
        token, now = str(_one(params)).encode(), self._clock()
        if self._token is not None:
            if not self._wrong_tokens.has(now):  # the right one must wait too, or it could be told
                raise BusyError("too many wrong tokens came; wait a few seconds")
            if not hmac.compare_digest(token, self._token.encode()):
                self._wrong_tokens.take(now)
                raise UsageError("this is not the token")
        self._proven[sender] = None
        self._proven.move_to_end(sender)
        while len(self._proven) > SENDERS:
            self._proven.popitem(last=False)
        self._send(sender, "/audiosr/auth", 1)

    def _subscribe(self, sender: Peer, params: Sequence[Value]) -> None:
        now = self._clock()
        peer = _with_port(sender, _number(params[:1], 0.0))
        max_hz = min(max(_number(params[1:2], FEEDBACK_HZ), 0.1), FEEDBACK_HZ)
        self._expire(now)
        if peer not in self._subscribers and len(self._subscribers) >= SUBSCRIBERS:
            raise BusyError(f"{SUBSCRIBERS} surfaces are subscribed already; unsubscribe one")
        self._subscribers[peer] = Subscriber(max_hz, now + LEASE_SECONDS)
        self._send(sender, "/audiosr/subscribe", peer[1], max_hz, LEASE_SECONDS)

    def _info(self) -> tuple[Value, ...]:
        info = self._service.info()
        return (
            str(info.get("device") or "none"),
            str(info.get("model") or "none"),
            int(info.get("jobs") or 0),
            float(info.get("memory_bytes") or 0) / 1e6,
            __version__,
        )

    def _instance(self, name: str) -> Instance:
        there = self._service.instances.get(name)
        if there is None:
            names = ", ".join(sorted(one.name for one in self._service.instances)[:10]) or "none"
            raise JobError(f"there is no instance {name[:40]!r}; open are: {names}")
        return there

    def _turn(
        self, sender: Peer, address: str, there: Instance, word: str, params: Sequence[Value]
    ) -> None:
        knob = knob_of(ALIASES.get(word, word))
        fader = address.endswith("/norm")
        if not params:
            value = getattr(there.settings, knob.name)
            place = to_fader(knob, value) if fader else None
            return self._send(sender, address, value if place is None else place)
        given = _one(params)
        value = from_fader(knob, _number([given], 0.0)) if fader else natural(knob, given)
        if knob.name == "model":
            self._check_model(there, value)
        return self._service.set_setting(there.name, knob.name, value)

    def _preset(self, there: Instance, name: Value) -> None:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9][A-Za-z0-9 _-]{0,99}", name):
            raise UsageError("a preset is wanted by its name; no path can be given here")
        from audiosr_core.presets import load_preset

        settings = load_preset(name).settings().as_dict()
        self._check_model(there, settings["model"])
        for knob, value in settings.items():
            if getattr(there.settings, knob) != value:
                self._service.set_setting(there.name, knob, value)

    def _check_model(self, there: Instance, model: Any) -> None:
        if model == there.settings.model:
            return
        known = [str(one) for one in self._service.info().get("models", ())]
        if model not in known:
            raise ModelError(
                f"the model must be one of {', '.join(known) or 'none'}, got {str(model)[:40]!r};"
                " nothing is loaded over OSC, so use it once from elsewhere"
            )

    # ---- what time brings

    def tick(self) -> None:
        """Feedback that is due; leases that are over."""
        now = self._clock()
        self._expire(now)
        if now - self._told > TOLD_SECONDS:
            self._told = now
            if self.refused:
                log.info("refused so far", extra={"counts": dict(self.refused)})
        due = [(peer, one) for peer, one in self._subscribers.items() if now >= one.next]
        if not due:
            return
        if now - self._looked >= 1 / FEEDBACK_HZ:
            self._looked = now
            self._look(now)
        for peer, one in due:
            news = self._board.since(one.seen, FEEDBACK_MESSAGES)
            for at, address, arguments in news:
                self._send(peer, address, *arguments)
                one.seen = at
            if news:
                one.next = now + 1 / one.max_hz

    def _expire(self, now: float) -> None:
        for peer in [peer for peer, one in self._subscribers.items() if one.until <= now]:
            del self._subscribers[peer]

    def _look(self, now: float) -> None:
        """Put what changed on the board."""
        shown: dict[str, int] = {}
        for one in self._service.instances:
            shown[one.name] = one.version
            if self._shown.get(one.name) != one.version:
                for address, arguments in _words(one):
                    self._leaving.pop(address, None)
                    self._board.put(address, *arguments)
        for name in self._shown.keys() - shown.keys():
            state = f"/audiosr/{name}/state"
            self._board.drop(f"/audiosr/{name}/", but=state)
            self._board.put(state, "closed", 0.0, -1.0, "")
            self._leaving[state] = now
        self._shown = shown
        jobs = set()
        for job in self._service.jobs():
            address, arguments = _progress(job)
            over = job["state"] in ENDED
            if over and address not in self._jobs:
                continue
            jobs.add(address)
            self._board.put(address, *arguments)
            if over:
                self._leaving.setdefault(address, now)
            else:
                self._leaving.pop(address, None)
        for address in self._jobs - jobs:
            self._leaving.setdefault(address, now)
        self._jobs = jobs
        self._forget(now)

    def _forget(self, now: float) -> None:
        """What every subscriber has had time to read."""
        over = [one for one, since in self._leaving.items() if now - since > LEASE_SECONDS]
        over += list(self._leaving)[: max(0, len(self._leaving) - LEAVING)]
        for address in over:
            self._board.drop(address)
            self._leaving.pop(address, None)
            self._jobs.discard(address)


def _words(one: Instance) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Everything to say about an instance."""
    names = {**{knob: knob for knob in KNOBS}, **ALIASES}
    for name, knob in names.items():
        value = getattr(one.settings, knob)
        yield f"/audiosr/{one.name}/{name}", (value,)
        place = to_fader(KNOBS[knob], value)
        if place is not None:
            yield f"/audiosr/{one.name}/{name}/norm", (place,)
    for mode, on in one.monitors.items():
        yield f"/audiosr/{one.name}/{mode}", (int(on),)
    yield f"/audiosr/{one.name}/state", _state(one)


def _state(one: Instance) -> tuple[Value, ...]:
    job = one.job
    if job is None:
        return ("idle", 0.0, -1.0, "")
    return (str(job["state"]), *_how_far(job), str(job.get("message") or ""))


def _progress(job: Mapping[str, Any]) -> tuple[str, tuple[Value, ...]]:
    return f"/audiosr/job/{job['job']}/progress", (str(job["state"]), *_how_far(job))


def _how_far(job: Mapping[str, Any]) -> tuple[float, float]:
    remaining = job.get("eta_seconds")
    return float(job.get("fraction") or 0.0), -1.0 if remaining is None else float(remaining)


def _with_port(peer: Peer, port: float) -> Peer:
    """The same machine at another port; 0 for the same one."""
    if not (port == int(port) and 0 <= port <= 65_535):
        raise UsageError(f"a port must be a whole number from 0 to 65535, got {port!r}")
    return (peer[0], int(port) or peer[1], *peer[2:])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
