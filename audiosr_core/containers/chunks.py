"""Values that every chunked container shares: spans, chunks, tables and layouts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from audiosr_core.containers.coding import Coding

PROVENANCE_ID = b"asrb"
"""Marks our own chunk (RIFF), APPL signature (AIFF) and APPLICATION block (FLAC)."""

MAX_REWRITTEN_BYTES = 1 << 24
"""A chunk that has to be edited is read into memory; a larger one is kept as it is."""

MAX_CHUNKS = 1 << 16
"""A file of more is no sound; behind the audio, the rest is kept as one piece."""

MAX_FORMAT_BYTES = 1 << 10
"""As much of a format chunk is looked at; the longest in use have some 300 bytes."""


@dataclass(frozen=True)
class Span:
    """Bytes start to stop of the source file."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


Piece = bytes | Span
"""A part of a new file: made, or copied from the source."""


@dataclass(frozen=True)
class Chunk:
    """One chunk: its four letters and where its body lies."""

    id: bytes
    body: Span


@dataclass(frozen=True)
class Table:
    """Every chunk of a file in its order, and what they say of the samples."""

    container: str
    sample_rate: int  # Hz
    num_channels: int
    num_samples: int
    coding: Coding | None  # None: compressed, for libsndfile to decode
    samples: Span
    chunks: tuple[Chunk, ...]
    audio: int  # which chunk holds the samples; len(chunks) if none does
    junk: Span | None = None  # what follows the container's end
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """What the new file shall be."""

    container: str
    sample_rate: int  # Hz
    num_channels: int
    coding: Coding
    record: bytes | None = None  # provenance, canonical JSON
    coding_history: str | None = None
    start: int = 0  # where it begins in the source, at the new rate
    channel_mask: int = 0  # WAVE_FORMAT_EXTENSIBLE's speakers, if no source chunk says them


@dataclass(frozen=True)
class Totals:
    """What is known only when the last sample is written."""

    num_samples: int
    peaks: Sequence[tuple[float, int]] = ()  # per channel: largest magnitude, its first place


@dataclass(frozen=True)
class Part:
    """A chunk to be written; a body that depends on the totals keeps its size whatever they are."""

    id: bytes
    body: Piece | Callable[[Totals], bytes]

    def pieces(self, order: str, totals: Totals) -> list[Piece]:
        """Header, body and padding; `order` is struct's byte order."""
        body = self.body if isinstance(self.body, bytes | Span) else self.body(totals)
        size = size_of(body)
        header = self.id + struct.pack(f"{order}I", min(size, 0xFFFFFFFF))
        return [header, body, b"\0" * (size % 2)]


class Layout(Protocol):
    """A new file around its samples; head and tail keep their sizes whatever the totals."""

    notes: list[str]

    def head(self, totals: Totals) -> list[Piece]: ...
    def tail(self, totals: Totals) -> list[Piece]: ...


def size_of(piece: Piece) -> int:
    return piece.size if isinstance(piece, Span) else len(piece)


def first_bytes(span: Span, size: int) -> Span:
    return Span(span.start, min(span.stop, span.start + size))


def sum_sizes(pieces: Sequence[Piece]) -> int:
    return sum(size_of(piece) for piece in pieces)


def read_span(file: BinaryIO, span: Span) -> bytes:
    """The bytes of a span; fewer where the file ends."""
    file.seek(span.start)
    return file.read(span.size)


def peak_body(start: bytes, order: str, num_channels: int) -> Callable[[Totals], bytes]:
    """A PEAK chunk as libsndfile writes it: version, time, then value and place per channel."""

    def body(totals: Totals) -> bytes:
        peaks = list(totals.peaks) or [(0.0, 0)] * num_channels
        pairs = (struct.pack(f"{order}fI", v, min(place, 0xFFFFFFFF)) for v, place in peaks)
        return start + b"".join(pairs)

    return body
