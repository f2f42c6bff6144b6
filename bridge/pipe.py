"""The pipe between daemon and worker: how messages lie in it. No sockets, no torch.

    uint32 size of what follows │ uint32 size of the JSON │ JSON │ audio, parts back to back

Little endian. The JSON of a message with audio tells the size of each part in `sizes`. Both ends
are ours, yet nothing that comes through is trusted further than that: sizes are bounded, and
nothing is ever unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bridge.errors import BridgeError, WorkerError

MAX_MESSAGE_BYTES = 64 << 20
MAX_JSON_BYTES = 4 << 20
SIZES = struct.Struct("<II")

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class PipeMessage:
    """What came through the pipe."""

    values: Mapping[str, Any]
    audio: list[memoryview] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


def pack(values: Mapping[str, Any], audio: Sequence[Buffer] = ()) -> list[Buffer]:
    """A message as buffers to send one after the other; `sizes` is added for the audio."""
    whole = {**values, "sizes": [memoryview(one).nbytes for one in audio]} if audio else values
    text = json.dumps(dict(whole), allow_nan=False).encode("ascii")
    size = SIZES.size - 4 + len(text) + sum(memoryview(one).nbytes for one in audio)
    if size > MAX_MESSAGE_BYTES or len(text) > MAX_JSON_BYTES:
        raise BridgeError(f"a message may have {MAX_MESSAGE_BYTES} bytes, this one has {size}")
    return [SIZES.pack(size, len(text)) + text, *audio]


class Framer:
    """Bytes as they arrive, messages when they are whole; audio is not copied."""

    def __init__(self) -> None:
        self._head = bytearray(SIZES.size)
        self._body = memoryview(b"")
        self._filled = 0  # of the head, then of the body
        self._in_body = False

    def space(self) -> memoryview:
        """Where the next bytes belong; tell `filled` how many came."""
        return memoryview(self._body if self._in_body else self._head)[self._filled :]

    def filled(self, count: int) -> PipeMessage | None:
        """The message that these bytes completed.

        Raises:
            WorkerError: the other side does not speak our language
        """
        self._filled += count
        if not self._in_body and self._filled == SIZES.size:
            size, json_size = SIZES.unpack(self._head)
            size -= SIZES.size - 4
            if not 0 < json_size <= min(size, MAX_JSON_BYTES) or size > MAX_MESSAGE_BYTES:
                raise WorkerError(f"a message of {size} bytes came through the worker's pipe")
            self._json_size = json_size
            self._body, self._filled, self._in_body = _memory(size), 0, True
        if not self._in_body or self._filled < len(self._body):
            return None
        body = self._body.toreadonly()
        self._body, self._filled, self._in_body = memoryview(b""), 0, False
        return _parsed(body, self._json_size)


def _memory(size: int) -> memoryview:
    """So many bytes of anything: they are overwritten before anybody looks."""
    return np.empty(size, np.uint8).data


def _parsed(body: memoryview, json_size: int) -> PipeMessage:
    try:
        values = json.loads(bytes(body[:json_size]))
        audio, place = [], json_size
        for size in values.get("sizes", ()):
            audio.append(body[place : place + size])
            place += size
        if place != len(body):
            raise ValueError("the sizes of its audio do not add up")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WorkerError(f"a malformed message came through the worker's pipe: {error}") from error
    return PipeMessage(values, audio)
