"""FLAC metadata blocks (RFC 9639, §8): they lie before the audio, so a splice is a concatenation.

[ID3v2] "fLaC" | STREAMINFO | block | block | ... | last block | audio frames [junk]
                 new          kept, in their order               new
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from audiosr_core.containers.chunks import (
    MAX_REWRITTEN_BYTES,
    PROVENANCE_ID,
    Piece,
    Span,
    Target,
    read_span,
)
from audiosr_core.containers.scaling import Malformed, RateChange, scale_cuesheet
from audiosr_core.errors import FileError

STREAMINFO, PADDING, APPLICATION, SEEKTABLE, VORBIS_COMMENT, CUESHEET, PICTURE = range(7)
MAX_BLOCK_BYTES = (1 << 24) - 1


@dataclass(frozen=True)
class Block:
    """One metadata block: its type and where its body lies."""

    type: int
    body: Span


@dataclass(frozen=True)
class FlacTable:
    """The blocks of a file in their order, and where its stream and its frames begin."""

    start: int  # of "fLaC"; an ID3v2 tag lies before it
    blocks: tuple[Block, ...]
    frames: Span


def flac_start(file: BinaryIO, size: int) -> int | None:
    """Where "fLaC" stands: at the beginning or behind an ID3v2 tag; None if it is no FLAC."""
    start = read_span(file, Span(0, min(size, 10)))
    place = 0
    if len(start) == 10 and start[:3] == b"ID3":
        place = id3_size(start)
    return place if read_span(file, Span(place, place + 4)) == b"fLaC" else None


def id3_size(start: bytes) -> int:
    """Bytes of an ID3v2 tag that begins so, with its header and footer."""
    a, b, c, d = start[6:10]
    size = (a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127
    return 10 + size + (10 if start[5] & 0x10 else 0)


def read_table(file: BinaryIO, size: int) -> FlacTable:
    """The metadata blocks of a file of `size` bytes."""
    start = flac_start(file, size)
    if start is None:
        raise FileError("is not FLAC")
    place = start + 4
    blocks: list[Block] = []
    last = False
    while not last:
        header = read_span(file, Span(place, place + 4))
        if len(header) < 4:
            raise FileError("is truncated within its metadata; copy or export it again")
        last = bool(header[0] & 0x80)
        body = Span(place + 4, place + 4 + int.from_bytes(header[1:], "big"))
        if body.stop > size:
            raise FileError("is truncated within its metadata; copy or export it again")
        blocks.append(Block(header[0] & 0x7F, body))
        place = body.stop
    if blocks[0].type != STREAMINFO or blocks[0].body.size != 34:
        raise FileError("is damaged: a FLAC file begins with STREAMINFO; export it again")
    return FlacTable(start, tuple(blocks), Span(place, size))


@dataclass(frozen=True)
class StreamInfo:
    """What the first block says (RFC 9639, §8.2)."""

    sample_rate: int  # Hz
    num_channels: int
    bits: int
    num_samples: int  # 0: unknown, or none

    def encode(self) -> bytes:
        """A block for a stream without frames; the usual block size, nothing else known."""
        fields = self.sample_rate << 44 | (self.num_channels - 1) << 41 | (self.bits - 1) << 36
        return struct.pack(">HH6xQ16x", 4096, 4096, fields | self.num_samples)


def stream_info(file: BinaryIO, table: FlacTable) -> StreamInfo:
    (fields,) = struct.unpack_from(">Q", read_span(file, table.blocks[0].body), 10)
    return StreamInfo(
        sample_rate=fields >> 44,
        num_channels=(fields >> 41 & 7) + 1,
        bits=(fields >> 36 & 31) + 1,
        num_samples=fields & (1 << 36) - 1,
    )


def bare_head(file: BinaryIO, table: FlacTable) -> bytes:
    """What a decoder needs before the frames, and nothing that could confuse it."""
    body = read_span(file, table.blocks[0].body)
    return b"fLaC" + struct.pack(">I", 0x80 << 24 | len(body)) + body


def new_head(
    stream_info: bytes,
    target: Target,
    source: BinaryIO | None = None,
    table: FlacTable | None = None,
    old_rate: int = 0,
) -> tuple[list[Piece], list[str]]:
    """Everything before the frames of a new file, and notes; `stream_info` has 34 bytes.

    The seek table is left out, for it points into frames that are no more.
    """
    blocks: list[tuple[int, Piece]] = [(STREAMINFO, stream_info)]
    notes: list[str] = []
    start: list[Piece] = [b"fLaC"]
    if source and table:
        start.insert(0, Span(0, table.start))
        rate = RateChange(old_rate, target.sample_rate)
        for block in table.blocks:
            if block.type in (STREAMINFO, SEEKTABLE):
                continue
            piece: Piece = block.body
            if block.type == APPLICATION and target.record is not None:
                application = read_span(source, Span(block.body.start, block.body.start + 4))
                if application == PROVENANCE_ID:
                    continue
            if block.type == CUESHEET and rate.old != rate.new:
                try:
                    piece = scale_cuesheet(read_span(source, block.body), rate)
                except Malformed as error:
                    notes.append(f"block CUESHEET is malformed ({error}) and was kept as it is")
            blocks.append((block.type, piece))
    if target.record is not None:
        blocks.append((APPLICATION, PROVENANCE_ID + target.record))
    out = start
    for i, (kind, piece) in enumerate(blocks):
        size = piece.size if isinstance(piece, Span) else len(piece)
        if size > MAX_BLOCK_BYTES:
            raise FileError(
                f"cannot be written: a FLAC metadata block holds {MAX_BLOCK_BYTES} bytes,"
                f" this one has {size}; choose WAV"
            )
        last = 0x80 if i == len(blocks) - 1 else 0
        out += [struct.pack(">I", (kind | last) << 24 | size), piece]
    return out, notes


def provenance(file: BinaryIO, table: FlacTable) -> bytes | None:
    """The body of our own APPLICATION block, if there is one."""
    found = None
    for block in table.blocks:
        if block.type == APPLICATION and block.body.size <= MAX_REWRITTEN_BYTES:
            body = read_span(file, block.body)
            found = body[4:] if body[:4] == PROVENANCE_ID else found
    return found
