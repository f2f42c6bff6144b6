"""A sound on its way to the daemon: what is known of it, and its pieces in order."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from audiosr_core.audio import Audio, Samples, check_format
from audiosr_core.errors import FileError
from bridge.protocol import DTYPES, audio_frame

if TYPE_CHECKING:
    pass


PATH_BYTES = 4 << 20  # smaller files travel inline
PIECE_BYTES = 1 << 20  # of audio in one message: one is signed while another is on its way
QUEUE_BYTES = 4 << 20  # of blocks that wait to be sent


@dataclass(eq=False)
class Sound:
    """What a job is about, and how its samples get to the daemon."""

    source: Literal["inline", "path", "stream"]
    sample_rate: int
    num_channels: int
    num_samples: int | None  # None while nobody knows
    dtype: str
    content: str  # what identifies the samples
    path: Path | None = None
    samples: Samples | None = None  # all of them, if they are there already
    origin: int = 0  # of a stream: its first sample's place
    live: bool = False  # of a stream

    @classmethod
    def of(cls, audio: Audio) -> Sound:
        """A sound in memory."""
        x = audio.samples
        _, dtype = audio_frame(x[:, :0])
        digest = hashlib.sha256(dtype.encode())
        for channel in np.asarray(x, DTYPES[dtype]):
            digest.update(np.ascontiguousarray(channel).data)
        return cls(
            "inline", audio.sample_rate, audio.num_channels, audio.num_samples, dtype,
            digest.hexdigest(), samples=x,
        )  # fmt: skip

    @classmethod
    def blocks(cls, sample_rate: int, num_channels: int, num_samples: int, dtype: str) -> Sound:
        """A sound that will come in blocks, and is in no file: no later job can find it again."""
        check_format(sample_rate, num_channels)
        return cls("inline", sample_rate, num_channels, num_samples, dtype, secrets.token_hex(16))

    @classmethod
    def stream(
        cls, sample_rate: int, num_channels: int, dtype: str, origin: int = 0, live: bool = False
    ) -> Sound:
        """A sound that will come in blocks, nobody knows how many, with silence before `origin`."""
        check_format(sample_rate, num_channels)
        return cls(
            "stream", sample_rate, num_channels, None, dtype, secrets.token_hex(16),
            origin=origin, live=live,
        )  # fmt: skip

    @classmethod
    def at(cls, path: Path, sample_rate: int, num_channels: int, num_samples: int) -> Sound:
        """A file that the daemon reads by itself."""
        real = Path(os.path.realpath(path))
        return cls("path", sample_rate, num_channels, num_samples, "f8", identity(real), real)


def travels_as_path(path: Path) -> bool:
    """Whether a daemon of this machine had better read this file itself."""
    return path.stat().st_size > PATH_BYTES


def identity(path: Path) -> str:
    """Changes when the file does: place, size, time of its last change, inode."""
    try:
        real = os.path.realpath(path)
        now = os.stat(real)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    text = "\0".join((real, str(now.st_size), str(now.st_mtime_ns), str(now.st_ino)))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Upload:
    """Samples on their way to the daemon, no more at a time than it grants."""

    def __init__(self, sound: Sound) -> None:
        self.credit = 0  # bytes
        self._sound = sound
        self._begun = False
        self._ended = sound.samples is not None
        self._over = sound.source == "path"
        self._blocks: deque[Samples] = deque()
        self._place = sound.origin  # sample at which the first of them starts
        self._queued = sound.origin  # end of the last of them
        self._start = sound.origin  # next sample to send
        if sound.samples is not None:
            self.put(sound.samples)

    @property
    def _frame_bytes(self) -> int:
        return self._sound.num_channels * DTYPES[self._sound.dtype].itemsize

    @property
    def piece_samples(self) -> int:
        """Of a block that makes one message."""
        return max(1, PIECE_BYTES // self._frame_bytes)

    @property
    def has_room(self) -> bool:
        return (self._queued - self._start) * self._frame_bytes < QUEUE_BYTES

    def put(self, block: Samples) -> None:
        self._blocks.append(np.asarray(block, DTYPES[self._sound.dtype]))
        self._queued += block.shape[1]

    def end(self) -> None:
        self._ended = True

    def begin(self, received: int, complete: bool, credit: int) -> None:
        """The daemon has these already."""
        self._begun = True
        self._start, self.credit = received, credit
        self._over = self._over or complete

    def next(self, most_bytes: int) -> tuple[int, Samples, bool] | None:
        """Start, samples and whether they are the last, as many as may go."""
        if not self._begun or self._over:
            return None
        while self._blocks and self._place + self._blocks[0].shape[1] <= self._start:
            self._place += self._blocks.popleft().shape[1]
        if not self._blocks:
            self._over = self._ended
            nothing = np.zeros((self._sound.num_channels, 0), DTYPES[self._sound.dtype])
            return (self._start, nothing, True) if self._over else None
        room = min(self.credit, PIECE_BYTES, most_bytes) // self._frame_bytes
        if room < 1:
            return None
        skip = self._start - self._place
        samples = self._blocks[0][:, skip : skip + room]
        start, self._start = self._start, self._start + samples.shape[1]
        self.credit -= samples.shape[1] * self._frame_bytes
        self._over = self._ended and self._start >= self._queued
        return start, samples, self._over
