"""A bare client: says exactly what a test wants said, and shows what comes back."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zmq

from bridge.connection import Connection
from bridge.protocol import (
    NONCE_BYTES,
    Incoming,
    Message,
    Outgoing,
    audio_frame,
    decode,
    encode,
    session_keys,
)

SUBMIT: dict[str, Any] = {
    "source": "inline",
    "sample_rate": 48_000,
    "num_channels": 2,
    "num_samples": None,
    "dtype": "f4",
    "settings": {},
    "want": "sound",
    "priority": "interactive",
    "on_disconnect": "cancel",
    "credit_bytes": 16 << 20,
}


class Wire:
    """Two DEALERs and the keys of a session."""

    def __init__(self, connection: Connection, hello: bool = True, **changes: Any) -> None:
        self.connection = connection
        self.context = zmq.Context()
        self.sockets = {}
        for name in ("control", "work"):
            socket = self.context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            if connection.curve:
                socket.setsockopt_string(zmq.CURVE_SERVERKEY, connection.curve.server)
                socket.setsockopt_string(zmq.CURVE_PUBLICKEY, connection.curve.public)
                socket.setsockopt_string(zmq.CURVE_SECRETKEY, connection.curve.secret)
            socket.connect(getattr(connection.endpoints, name))
            self.sockets[name] = socket
        self.messages: list[Message] = []  # of work, that came while another was waited for
        if hello:
            self.hello(**changes)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for one in self.sockets.values():
            one.close(0)
        self.context.term()

    def hello_message(self, **changes: Any) -> Message:
        meta = {
            "protocol": [1, 0], "client": "wire", "version": "test", "pid": os.getpid(),
            "nonce": secrets.token_hex(NONCE_BYTES), "key": self.connection.key_name,
        } | changes  # fmt: skip
        return Message("hello", meta)

    def hello(self, **changes: Any) -> Message:
        message = self.hello_message(**changes)
        self.raw("control", encode(message, self.connection.key_bytes))
        frames = self.frames("control")
        assert frames is not None, "nobody answered hello"
        answer = decode(frames, lambda *_: self.connection.key_bytes)
        if answer.type == "welcome":
            keys = session_keys(
                self.connection.key_bytes, answer["session"], message["nonce"], answer["nonce"]
            )
            self.session = answer["session"]
            self.out = {
                "control": Outgoing(keys.control_up, self.session),
                "work": Outgoing(keys.work_up, self.session),
            }
            self.into = {
                "control": Incoming(keys.control_down, self.session),
                "work": Incoming(keys.work_down, self.session),
            }
        self.welcome = answer
        return answer

    def raw(self, socket: str, frames: Sequence[Any]) -> None:
        self.sockets[socket].send_multipart([bytes(one) for one in frames])

    def frames(self, socket: str, timeout: float = 5.0) -> list[bytes] | None:
        """The next message, unopened; None if none comes."""
        if not self.sockets[socket].poll(timeout * 1000):
            return None
        return self.sockets[socket].recv_multipart()

    def send(
        self, socket: str, type: str, meta: Mapping[str, Any] | None = None, audio: Any = ()
    ) -> int:
        """A good message; its number."""
        out = self.out[socket]
        self.raw(socket, out.frames(type, meta, audio))
        out.sent()
        return out.sequence

    def receive(self, socket: str = "work", timeout: float = 10.0) -> Message:
        frames = self.frames(socket, timeout)
        assert frames is not None, f"nothing came on {socket}"
        return self.into[socket].open(frames)

    def ask(self, type: str, **meta: Any) -> Message:
        """A request on control, and what answers it."""
        number = self.send("control", type, meta)
        answer = self.receive("control")
        assert answer.answers == number
        return answer

    def until(self, *types: str, timeout: float = 20.0) -> Message:
        """The next message of one of these types on work; the others are kept in `messages`."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.receive("work", max(0.01, deadline - time.monotonic()))
            if message.type in types:
                return message
            self.messages.append(message)

    def submit(self, job: str, **changes: Any) -> Message:
        self.send("work", "submit", SUBMIT | {"job": job} | changes)
        return self.until("accepted", "error")

    def audio(self, job: str, samples: Any, start: int = 0, last: bool = True) -> None:
        frame, dtype = audio_frame(samples)
        meta = {
            "job": job, "start": start, "num_channels": samples.shape[0],
            "num_samples": samples.shape[1], "dtype": dtype, "last": last,
        }  # fmt: skip
        self.send("work", "audio", meta, [frame])

    def upload(self, job: str, samples: Any, block: int = 100_000, credit: int = 16 << 20) -> None:
        """A whole sound, by credit."""
        for start in range(0, max(1, samples.shape[1]), block):
            piece = np.ascontiguousarray(samples[:, start : start + block])
            while piece.nbytes > credit:
                credit += self.until("granted")["bytes"]
            credit -= piece.nbytes
            self.audio(job, piece, start, last=start + block >= samples.shape[1])

    def result(self, job: str, timeout: float = 30.0) -> tuple[Any, Message]:
        """The samples of a job and its `final`; an error is an AssertionError."""
        parts: list[Any] = []
        while True:
            message = self.until("partial", "final", "error", timeout=timeout)
            assert message.type != "error", dict(message.meta)
            if message.type == "final":
                break
            parts.append(message.samples())
            size = sum(len(one) for one in message.audio)
            self.send("work", "credit", {"job": job, "bytes": size})
        return np.concatenate(parts, axis=1) if parts else np.zeros((0, 0), np.float32), message
