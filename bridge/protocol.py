"""The wire: values and two functions, `encode` and `decode`. Sockets are somebody else's work.

    ASB1 │ HMAC-SHA-256, 32 bytes │ header, JSON │ meta, JSON │ audio 0 … 2

The HMAC covers every other frame with its length, audio included. Audio frames are planar,
[channels, samples], little endian, one a part. docs/protocol.md is the authority; `TYPES` is its
table of messages, and a test holds the two together.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bridge.errors import ProtocolError, UnsupportedError

MAGIC = b"ASB1"
MAGIC_FAMILY = b"ASB"
VERSION = (1, 1)  # major: both sides must agree; minor: fields and types were added
MAC_BYTES = 32
NONCE_BYTES = 16
KEY_BYTES = 32

Frame = bytes | memoryview
DTYPES: dict[str, np.dtype[np.floating]] = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8")}


@dataclass(frozen=True)
class Limits:
    """What a message, a session and a daemon may hold. The daemon's are told in `welcome`."""

    header_bytes: int = 4 << 10
    meta_bytes: int = 64 << 10
    frame_bytes: int = 8 << 20  # of one audio frame
    audio_frames: int = 2
    depth: int = 16  # of objects and lists in one another
    sessions: int = 256
    jobs_per_session: int = 64
    jobs: int = 4096  # waiting or running, of all sessions
    credit_bytes: int = 16 << 20  # audio that may be on its way, per job and direction
    spool_bytes: int = 32 << 30  # sounds kept on disk, of all jobs

    @property
    def frames(self) -> int:
        return 4 + self.audio_frames


LIMITS = Limits()


# ---- which messages there are


@dataclass(frozen=True)
class Field:
    """One field of a meta frame."""

    kind: Literal["text", "path", "whole", "number", "flag", "object", "list"]
    required: bool = True
    minimum: float = 0
    maximum: float = 2**53
    length: int = 256  # of a text or a list, at most
    pattern: str = ""  # of a text
    shortest: int = 0  # of a list
    items: Field | None = None  # of a list
    choices: tuple[str, ...] = ()
    nullable: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise ProtocolError unless the value is of this kind and in its range."""
        if value is None and self.nullable:
            return
        if not _KINDS[self.kind](value):
            raise ProtocolError(f"{name} must be {_A[self.kind]}, got {_shown(value)}")
        if self.kind in ("text", "path", "list") and len(value) > self.length:
            raise ProtocolError(f"{name} must be no longer than {self.length}, got {len(value)}")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise ProtocolError(f"{name} must be of the form {self.pattern}, got {_shown(value)}")
        if self.kind == "list" and len(value) < self.shortest:
            raise ProtocolError(f"{name} must have at least {self.shortest}, got {len(value)}")
        if self.items is not None:
            for one in value:
                self.items.check(f"each of {name}", one)
        if self.kind in ("whole", "number") and not self.minimum <= value <= self.maximum:
            raise ProtocolError(
                f"{name} must lie in {self.minimum:.10g} to {self.maximum:.10g},"
                f" got {_shown(value)}"
            )
        if self.choices and value not in self.choices:
            raise ProtocolError(
                f"{name} must be one of {', '.join(self.choices)}, got {_shown(value)}"
            )


@dataclass(frozen=True)
class MessageType:
    """One type of message: who sends it, on which socket, with what."""

    socket: Literal["control", "work", "events"]
    sender: Literal["client", "daemon"]
    fields: Mapping[str, Field] = field(default_factory=dict)
    answer: str = ""  # the type that answers it
    audio: bool = False

    @property
    def paths(self) -> frozenset[str]:
        """The fields in which bytes that are no UTF-8 may stand."""
        return frozenset(name for name, one in self.fields.items() if one.kind == "path")


_JOB = Field("text", length=64, pattern="[A-Za-z0-9_-]{1,64}")
_TEXT = Field("text", length=4096)
_NONCE = Field("text", length=2 * NONCE_BYTES, pattern="[0-9a-f]{32}")
_COUNT = Field("whole")
_BYTES = Field("whole")
_FRACTION = Field("number", maximum=1.0)
_SECONDS = Field("number", nullable=True)
_OBJECT = Field("object")
_NAME = Field("text", length=64)
_INSTANCE = Field("text", length=32, pattern="[a-z0-9_-]{1,32}")
_TWO = Field("list", length=2, shortest=2, items=_COUNT)

STATES = (
    "receiving", "queued", "analysing", "running", "held", "interrupted",
    "done", "failed", "cancelled",
)  # fmt: skip
PRIORITIES = ("audition", "interactive", "batch")
POLICIES = ("cancel", "finish", "hold")
SOURCES = ("inline", "path", "stream")
WANTS = ("sound", "parts")
PARTS = ("sound", "original", "high")

_STATE = Field("text", choices=STATES)
_AUDIO = {
    "job": _JOB,
    "start": Field("whole"),  # its first sample, of the sound
    "num_channels": Field("whole", minimum=1, maximum=64),
    "num_samples": Field("whole"),
    "dtype": Field("text", choices=tuple(DTYPES)),
}

TYPES: dict[str, MessageType] = {
    # control: small, never behind audio
    "hello": MessageType(
        "control",
        "client",
        {
            "protocol": _TWO,
            "client": Field("text", length=128),
            "version": Field("text", length=64),
            "pid": _COUNT,
            "nonce": _NONCE,
            "key": _NAME,  # whose key signs: "local", or the name of a client's key
        },
        answer="welcome",
    ),
    "welcome": MessageType(
        "control",
        "daemon",
        {
            "protocol": _TWO,
            "version": Field("text", length=64),
            "nonce": _NONCE,
            "client_nonce": _NONCE,
            "session": Field("text", length=32),
            "events_key": Field("text", length=2 * KEY_BYTES, pattern="[0-9a-f]{64}"),
            "limits": _OBJECT,
            "pid": _COUNT,
        },
    ),
    "refused": MessageType(
        "control", "daemon", {"code": _NAME, "text": _TEXT, "client_nonce": _NONCE}
    ),
    "ping": MessageType("control", "client", answer="pong"),
    "pong": MessageType("control", "daemon", {"uptime_seconds": Field("number")}),
    "goodbye": MessageType("control", "client"),
    "status": MessageType("control", "client", answer="status_is"),
    "status_is": MessageType("control", "daemon", {"status": _OBJECT}),
    "list_jobs": MessageType("control", "client", answer="jobs_are"),
    "jobs_are": MessageType(
        "control",
        "daemon",
        {
            "jobs": Field("list", length=10_000, items=_OBJECT),  # the newest that fit
            "left_out": Field("whole", required=False),
        },
    ),
    "cancel": MessageType("control", "client", {"job": _JOB}, answer="cancelling"),
    "cancelling": MessageType("control", "daemon", {"job": _JOB, "state": _STATE}),
    "unload": MessageType("control", "client", answer="unloading"),
    "unloading": MessageType("control", "daemon"),
    "stop": MessageType("control", "client", answer="stopping"),
    "stopping": MessageType("control", "daemon", {"pid": _COUNT}),
    "open_instance": MessageType(
        "control", "client", {"name": _INSTANCE, "settings": _OBJECT}, answer="instance_is"
    ),
    "close_instance": MessageType("control", "client", {"name": _INSTANCE}, answer="instance_is"),
    "set_instance": MessageType(
        "control", "client", {"name": _INSTANCE, "settings": _OBJECT}, answer="instance_is"
    ),
    "instance_is": MessageType(
        "control",
        "daemon",
        {"name": _INSTANCE, "settings": _OBJECT, "open": Field("flag")},
    ),
    # work: sounds, there and back
    "submit": MessageType(
        "work",
        "client",
        {
            "job": _JOB,
            "source": Field("text", choices=SOURCES),
            "path": Field("path", required=False, length=4096),
            "sample_rate": Field("whole", minimum=4_000, maximum=768_000),
            "num_channels": Field("whole", minimum=1, maximum=64),
            "num_samples": Field("whole", required=False, nullable=True),  # none for a stream
            "dtype": Field("text", choices=tuple(DTYPES)),
            "settings": _OBJECT,
            "decision": Field("object", required=False, nullable=True),
            "region": Field(
                "list", required=False, length=2, shortest=2, items=_COUNT, nullable=True
            ),
            "want": Field("text", choices=WANTS),
            "start": Field("whole", required=False),  # results wanted from here, output samples
            "origin": Field("whole", required=False),  # of a stream: its first sample's place
            "live": Field("flag", required=False),  # of a stream: little latency
            "dry_run": Field("flag", required=False),  # stop after `decided`
            "priority": Field("text", choices=PRIORITIES),
            "on_disconnect": Field("text", choices=POLICIES),
            "instance": replace(_INSTANCE, required=False, nullable=True),
            "credit_bytes": _BYTES,  # of results, to begin with
        },
        answer="accepted",
    ),
    "accepted": MessageType(
        "work",
        "daemon",
        {
            "job": _JOB,
            "state": _STATE,
            "received": _COUNT,  # input samples that are there already
            "complete": Field("flag"),  # nothing more need be sent
            "credit_bytes": _BYTES,  # of input, to begin with
        },
    ),
    "audio": MessageType("work", "client", {**_AUDIO, "last": Field("flag")}, audio=True),
    "credit": MessageType("work", "client", {"job": _JOB, "bytes": _BYTES}),
    "granted": MessageType("work", "daemon", {"job": _JOB, "bytes": _BYTES}),
    "decided": MessageType(
        "work",
        "daemon",
        {
            "job": _JOB,
            "decision": _OBJECT,
            "plan": _OBJECT,
            "model_sha256": Field("text", length=64),
        },
    ),
    "partial": MessageType(
        "work",
        "daemon",
        {
            **_AUDIO,
            "parts": Field(  # one frame each
                "list", length=2, shortest=1, items=Field("text", choices=PARTS)
            ),
            "chunk": _COUNT,
            "cached": Field("flag"),
        },
        audio=True,
    ),
    "progress": MessageType(
        "work",
        "daemon",
        {"job": _JOB, "state": _STATE, "fraction": _FRACTION, "eta_seconds": _SECONDS},
    ),
    "final": MessageType("work", "daemon", {"job": _JOB, "report": _OBJECT}),
    "close": MessageType("work", "client", {"job": _JOB}),
    # either socket, and events
    "error": MessageType(
        "work",
        "daemon",
        {
            "code": _NAME,
            "text": _TEXT,
            "retryable": Field("flag"),
            "job": replace(_JOB, required=False, nullable=True),
        },
    ),
    "heartbeat": MessageType("events", "daemon", {"uptime_seconds": Field("number")}),
    "job_state": MessageType(
        "events",
        "daemon",
        {
            "job": _JOB,
            "state": _STATE,
            "fraction": _FRACTION,
            "eta_seconds": _SECONDS,
            "instance": replace(_INSTANCE, nullable=True),
        },
    ),
    "instance_changed": MessageType("events", "daemon", {"name": _INSTANCE, "settings": _OBJECT}),
    "instance_action": MessageType(
        "events",
        "daemon",
        {"name": _INSTANCE, "action": _NAME, "value": Field("number", minimum=-1e9, maximum=1e9)},
    ),
    "daemon_state": MessageType("events", "daemon", {"status": _OBJECT}),
}

ON_BOTH = frozenset({"error"})
"""What both `control` and `work` carry."""


# ---- values


@dataclass(frozen=True, eq=False)
class Message:
    """One message. Checked by `decode`, and trusted ever after."""

    type: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    audio: tuple[Frame, ...] = ()
    session: str = ""
    sequence: int = 0
    answers: int | None = None  # the sequence number of the message that this one answers

    def __getitem__(self, name: str) -> Any:
        return self.meta[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.meta.get(name, default)

    def samples(self, part: int = 0) -> NDArray[np.floating]:
        """One part of the audio, [channels, samples], read only: it is the frame itself."""
        dtype = DTYPES[self.meta["dtype"]]
        flat: NDArray[np.floating] = np.frombuffer(self.audio[part], dtype)
        return flat.reshape(self.meta["num_channels"], self.meta["num_samples"])


def audio_frame(samples: NDArray[np.floating]) -> tuple[Frame, str]:
    """The frame and the dtype of samples, [channels, samples]; float32 unless they are float64."""
    name = "f8" if samples.dtype == np.float64 else "f4"
    planar = np.ascontiguousarray(samples, DTYPES[name])
    return planar.data.cast("B") if planar.size else b"", name


def encode(message: Message, key: bytes, limits: Limits = LIMITS) -> list[Frame]:
    """The frames of a message, signed; ProtocolError for one that no peer would take."""
    header: dict[str, Any] = {
        "type": message.type, "session": message.session, "sequence": message.sequence,
    }  # fmt: skip
    if message.answers is not None:
        header["answers"] = message.answers
    paths = TYPES[message.type].paths if message.type in TYPES else ()
    meta = _json(message.meta, paths)
    signed: list[Frame] = [MAGIC, _json(header), meta, *message.audio]
    if len(meta) > limits.meta_bytes:
        raise ProtocolError(
            f"{message.type} may carry {limits.meta_bytes} bytes of meta, got {len(meta)}"
        )
    return [signed[0], _mac(key, signed), *signed[1:]]


def decode(
    frames: Sequence[Frame], key_of: Callable[[str, str], bytes | None], limits: Limits = LIMITS
) -> Message:
    """The message of these frames, authentic and of the right shape.

    Nothing but the header is looked at before the signature is found good.

    Args:
        key_of: the key for a message of (type, session), or None if there is none

    Raises:
        ProtocolError: for everything else; `UnsupportedError` for an unknown type
    """
    return _message(_authentic(frames, key_of, limits), frames, limits)


def _authentic(
    frames: Sequence[Frame], key_of: Callable[[str, str], bytes | None], limits: Limits
) -> dict[str, Any]:
    """The header, once the signature over everything is found good."""
    if not 4 <= len(frames) <= limits.frames:
        raise ProtocolError(f"a message has 4 to {limits.frames} frames, got {len(frames)}")
    magic, mac, header_json, meta_json, *audio = frames
    if bytes(magic[:8]) != MAGIC:
        raise ProtocolError(f"a message begins with {MAGIC!r}, got {bytes(magic[:8])!r}")
    if len(mac) != MAC_BYTES:
        raise ProtocolError(f"a signature has {MAC_BYTES} bytes, got {len(mac)}")
    sizes = (("header", header_json, limits.header_bytes), ("meta", meta_json, limits.meta_bytes))
    for name, frame, most in (*sizes, *(("audio", one, limits.frame_bytes) for one in audio)):
        if len(frame) > most:
            raise ProtocolError(f"a frame of {name} has at most {most} bytes, got {len(frame)}")
    header = _header(header_json, limits)
    key = key_of(header["type"], header["session"])
    if key is None:
        raise ProtocolError("there is no such session; say hello again")
    if not hmac.compare_digest(bytes(mac), _mac(key, [magic, header_json, meta_json, *audio])):
        raise ProtocolError("the signature does not fit")
    return header


def peek(frames: Sequence[Frame], limits: Limits = LIMITS) -> tuple[str, str]:
    """Type and session as a message claims them: to find the key by, and to trust in nothing.

    Raises:
        ProtocolError: there is no header to look at
    """
    if len(frames) < 3 or len(frames[2]) > limits.header_bytes:
        raise ProtocolError("this is no message: it has no header")
    header = _header(frames[2], limits)
    return header["type"], header["session"]


def _header(frame: Frame, limits: Limits) -> dict[str, Any]:
    header = _object(frame, "header", limits)
    for name, kind in (("type", _NAME), ("session", _NAME), ("sequence", _COUNT)):
        kind.check(name, header.get(name))
    if "answers" in header:
        _COUNT.check("answers", header["answers"])
    return header


def _message(header: Mapping[str, Any], frames: Sequence[Frame], limits: Limits) -> Message:
    """The rest of an authentic message. An error tells which message it is about."""
    audio = tuple(frames[4:])
    try:
        kind = TYPES.get(header["type"])
        if kind is None:
            raise UnsupportedError(
                f"there is no message {_shown(header['type'])} in version"
                f" {VERSION[0]}.{VERSION[1]}; update this side"
            )
        meta = _object(frames[3], "meta", limits, kind.paths)
        for name, one in kind.fields.items():
            if name in meta:
                one.check(name, meta[name])
            elif one.required:
                raise ProtocolError(f"{header['type']} must have {name}")
        _check_audio(kind, meta, audio)
    except ProtocolError as error:
        error.answers = header["sequence"]
        raise
    return Message(
        header["type"], meta, audio, header["session"], header["sequence"], header.get("answers")
    )


def _check_audio(kind: MessageType, meta: Mapping[str, Any], audio: Sequence[Frame]) -> None:
    if not kind.audio:
        if audio:
            raise ProtocolError("this message carries no audio")
        return
    count = len(meta["parts"]) if "parts" in kind.fields else 1
    if len(audio) != count:
        raise ProtocolError(f"{count} frames of audio were announced, got {len(audio)}")
    wanted = meta["num_channels"] * meta["num_samples"] * DTYPES[meta["dtype"]].itemsize
    for one in audio:
        if len(one) != wanted:
            raise ProtocolError(f"a frame of audio must have {wanted} bytes, got {len(one)}")


# ---- sessions


@dataclass(frozen=True)
class SessionKeys:
    """One key for each socket and direction, so that nothing fits anywhere else."""

    control_up: bytes  # up: from client to daemon
    control_down: bytes
    work_up: bytes
    work_down: bytes


def session_keys(key: bytes, session: str, client_nonce: str, daemon_nonce: str) -> SessionKeys:
    """The keys of a session, from the key that both sides knew before."""
    text = "\n".join(("audiosr-bridge session 1", session, client_nonce, daemon_nonce))
    base = hmac.digest(key, text.encode(), hashlib.sha256)

    def derived(label: str) -> bytes:
        return hmac.digest(base, label.encode(), hashlib.sha256)

    return SessionKeys(
        *(derived(s) for s in ("control up", "control down", "work up", "work down"))
    )


class Outgoing:
    """Signs and numbers what one side sends on one socket."""

    def __init__(self, key: bytes, session: str) -> None:
        self.key, self.session = key, session
        self.sequence = 0  # of the last message

    def frames(
        self,
        type: str,
        meta: Mapping[str, Any] | None = None,
        audio: Sequence[Frame] = (),
        answers: int | None = None,
    ) -> list[Frame]:
        """The next message; call `sent` once it is on its way."""
        message = Message(type, meta or {}, tuple(audio), self.session, self.sequence + 1, answers)
        return encode(message, self.key)

    def sent(self) -> None:
        self.sequence += 1


class Incoming:
    """Checks that what arrives on one socket is authentic, complete and in order."""

    def __init__(self, key: bytes, session: str, limits: Limits = LIMITS) -> None:
        self.key, self.session, self.limits = key, session, limits
        self.sequence = 0  # of the last message

    def open(self, frames: Sequence[Frame]) -> Message:
        """The next message, or ProtocolError.

        What is not authentic, or replayed, changes nothing. What is authentic and next in order
        counts even if it is malformed or unknown, so that the peer can be told and go on.
        """
        header = _authentic(
            frames, lambda _, session: self.key if session == self.session else None, self.limits
        )
        if header["sequence"] != self.sequence + 1:
            raise SequenceError(self.sequence + 1, header["sequence"])
        self.sequence += 1
        return _message(header, frames, self.limits)


class SequenceError(ProtocolError):
    """A message was lost (the number is too high), or came twice (too low)."""

    code = "E_SEQUENCE"

    def __init__(self, wanted: int, came: int) -> None:
        what = "messages were lost" if came > wanted else "a message came again"
        super().__init__(f"{what}: number {wanted} was due, got {came}; say hello again")
        self.lost = came > wanted


# ---- small things


def _mac(key: bytes, frames: Sequence[Frame]) -> bytes:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for one in frames:
        mac.update(struct.pack("<Q", len(one)))
        mac.update(one)
    return mac.digest()


def _json(value: Mapping[str, Any], paths: Collection[str] = ()) -> bytes:
    """Canonical: the same value gives the same bytes."""
    try:
        sent = {name: one if name in paths else _as_text(one) for name, one in value.items()}
        text = json.dumps(sent, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"this cannot be sent: {error}") from error
    return text.encode("ascii")


def _as_text(value: Any) -> Any:
    """The same, but a file name's bytes that are no UTF-8 are shown as \\udcff and the like."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_as_text(name): _as_text(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_text(one) for one in value]
    return value


def _object(frame: Frame, name: str, limits: Limits, paths: Collection[str] = ()) -> dict[str, Any]:
    """A JSON object, unambiguous for every parser: RFC 8259 as strict as it can be read."""
    try:
        value = json.loads(
            str(frame, "utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
        if not isinstance(value, dict):
            raise ProtocolError(f"{name} must be a JSON object, got {_shown(value)}")
        _check_depth(value, limits.depth)
        for field_name, one in value.items():
            _check_text(field_name)
            if field_name not in paths:
                _check_text(one)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{name} must be JSON, got something else: {error}") from error
    return value


def _no_constant(name: str) -> Any:
    raise ProtocolError(f"a number must be finite, got {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ProtocolError(f"a number must be finite, got {_shown(text)}")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ProtocolError("a name must stand once in an object, got it twice")
    return value


def _check_depth(value: Any, most: int) -> None:
    if isinstance(value, (dict, list)):
        if most == 0:
            raise ProtocolError("objects and lists are too deep in one another")
        for one in value.values() if isinstance(value, dict) else value:
            _check_depth(one, most - 1)


def _check_text(value: Any) -> None:
    """Raise UnicodeEncodeError for text that is none: half of a surrogate pair."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for name, one in value.items():
            name.encode()
            _check_text(one)
    elif isinstance(value, list):
        for one in value:
            _check_text(one)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_path(value: Any) -> bool:
    """Text, in which a byte 0x80 + n that is no UTF-8 stands as U+DC80 + n (PEP 383)."""
    try:
        return isinstance(value, str) and bool(value.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda v: isinstance(v, str),
    "path": _is_path,
    "whole": _is_whole,
    "number": _is_number,
    "flag": lambda v: isinstance(v, bool),
    "object": lambda v: isinstance(v, dict),
    "list": lambda v: isinstance(v, list),
}
_A = {
    "text": "text", "path": "a path", "whole": "a whole number", "number": "a number",
    "flag": "true or false", "object": "an object", "list": "a list",
}  # fmt: skip
