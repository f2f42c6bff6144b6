"""AIFF and AIFC (Apple 1989, 1991): big-endian chunks in a FORM.

"FORM" size32 "AIFF" | "COMM" 18+ channels frames bits rate80 | "SSND" offset blockSize data | ...
              "AIFC" |            ... and compression, its name
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from typing import BinaryIO

from audiosr_core.containers.chunks import (
    MAX_CHUNKS,
    MAX_FORMAT_BYTES,
    MAX_REWRITTEN_BYTES,
    PROVENANCE_ID,
    Chunk,
    Part,
    Piece,
    Span,
    Table,
    Target,
    Totals,
    first_bytes,
    peak_body,
    read_span,
    sum_sizes,
)
from audiosr_core.containers.coding import Coding
from audiosr_core.containers.scaling import Malformed, RateChange, scale_mark
from audiosr_core.errors import FileError

MAX_AIFF_BYTES = 0xFFFFFFFE
"""AIFF has no larger form."""

_AIFC_VERSION = struct.pack(">I", 0xA2805140)
_INTEGERS = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
_CODINGS = {
    b"sowt": Coding("PCM_16"),
    b"fl32": Coding("FLOAT", True),
    b"FL32": Coding("FLOAT", True),
    b"fl64": Coding("DOUBLE", True),
    b"FL64": Coding("DOUBLE", True),
    b"in24": Coding("PCM_24", True),
    b"in32": Coding("PCM_32", True),
    b"raw ": Coding("PCM_U8", True),
}


def is_aiff(start: bytes) -> bool:
    """Whether a file that begins so is AIFF or AIFC."""
    return start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC")


def read_table(file: BinaryIO, size: int) -> Table:
    """The chunks of a file of `size` bytes; FileError where its audio cannot be whole."""
    _, form_size, form = struct.unpack(">4sI4s", read_span(file, Span(0, 12)))
    chunks: list[Chunk] = []
    found: set[bytes] = set()
    place, end = 12, 8 + form_size
    while place + 8 <= size:
        name, length = struct.unpack(">4sI", read_span(file, Span(place, place + 8)))
        body = Span(place + 8, place + 8 + length)
        whole = found >= {b"SSND", b"COMM"}
        if len(chunks) == MAX_CHUNKS:
            if whole:
                break
            raise FileError(f"is damaged: no audio in {MAX_CHUNKS} chunks; export it again")
        if whole and (place >= end or body.stop > size or not all(31 < x < 127 for x in name)):
            break
        if body.stop > size:
            raise FileError(
                f"is truncated: its chunk {name!r} promises {length} bytes,"
                f" {max(size - body.start, 0)} are there; copy or export it again"
            )
        if name == b"SSND" and not body.stop <= end <= size + 1:
            end = size  # the outer size lies: what the chunks say counts
        chunks.append(Chunk(name, body))
        found.add(name)
        place = body.stop + length % 2
    comm = next((c for c in chunks if c.id == b"COMM"), None)
    if comm is None or comm.body.size < 18:
        raise FileError("is damaged: an AIFF file needs a 'COMM' chunk; export it again")
    num_channels, num_samples, sample_rate, coding = _read_comm(
        read_span(file, first_bytes(comm.body, MAX_FORMAT_BYTES)), form
    )
    audio = next((i for i, c in enumerate(chunks) if c.id == b"SSND"), len(chunks))
    samples = _samples(file, chunks[audio]) if audio < len(chunks) else Span(0, 0)
    junk = Span(place, size) if place < size else None
    if coding and num_samples * num_channels * coding.width > samples.size:
        raise FileError(
            f"is truncated: its header promises {num_samples} samples of {num_channels} channels,"
            f" {samples.size} bytes of audio are there; copy or export it again"
        )
    notes = [f"{junk.size} bytes after the end of the file's chunks were kept"] if junk else []
    return Table(
        container=form.decode(),
        sample_rate=sample_rate,
        num_channels=num_channels,
        num_samples=num_samples,
        coding=coding,
        samples=samples,
        chunks=tuple(chunks),
        audio=audio,
        junk=junk,
        notes=tuple(notes),
    )


def _samples(file: BinaryIO, chunk: Chunk) -> Span:
    if chunk.body.size < 8:
        return Span(chunk.body.stop, chunk.body.stop)
    (offset,) = struct.unpack(">I", read_span(file, Span(chunk.body.start, chunk.body.start + 4)))
    return Span(min(chunk.body.start + 8 + offset, chunk.body.stop), chunk.body.stop)


def _read_comm(body: bytes, form: bytes) -> tuple[int, int, int, Coding | None]:
    """Channels, samples, rate in Hz, and the coding unless it is compressed."""
    num_channels, num_samples, bits = struct.unpack_from(">HIH", body)
    sample_rate = round(decode_rate(body[8:18]))
    compression = body[18:22] if form == b"AIFC" else b"NONE"
    if compression in (b"NONE", b"twos", b"sowt"):
        subtype = _INTEGERS.get((bits + 7) // 8)
        if subtype is None:
            raise FileError(f"is damaged: it claims {bits} bits per sample; export it again")
        return num_channels, num_samples, sample_rate, Coding(subtype, compression != b"sowt")
    return num_channels, num_samples, sample_rate, _CODINGS.get(compression)


def decode_rate(ten: bytes) -> Fraction:
    """An 80-bit IEEE 754 extended number; zero where it is not positive and finite."""
    exponent, mantissa = struct.unpack(">HQ", ten)
    if exponent >= 0x7FFF or not 16383 <= exponent < 16383 + 63:
        return Fraction(0)
    return Fraction(mantissa, 1 << (63 - (exponent - 16383)))


def encode_rate(rate: int) -> bytes:
    """A positive whole number as an 80-bit IEEE 754 extended number."""
    shift = rate.bit_length() - 1
    return struct.pack(">HQ", 16383 + shift, rate << (63 - shift))


class AiffLayout:
    """Lay a new file around its samples; source and table are None where nothing is kept."""

    def __init__(
        self, target: Target, source: BinaryIO | None = None, table: Table | None = None
    ) -> None:
        self.notes: list[str] = []
        self._target = target
        self._align = target.coding.width * target.num_channels
        self._ssnd = bytes(8)  # offset and block size, and what the offset leaves room for
        self._before: list[Part] = []
        self._after: list[Part] = []
        self._junk: list[Piece] = []
        kept = source is not None and table is not None and table.coding == target.coding
        same_form = table is not None and table.container == target.container
        self._form = b"AIFC" if target.container == "AIFC" else b"AIFF"
        if source and table:
            self._keep(source, table, kept and same_form)
        else:
            self._before.append(Part(b"COMM", self._new_comm))
        every = {part.id for part in self._before + self._after}
        if self._form == b"AIFC" and b"FVER" not in every:
            self._before.insert(0, Part(b"FVER", _AIFC_VERSION))
        if target.record is not None:
            self._after.append(Part(b"APPL", PROVENANCE_ID + target.record))

    def head(self, totals: Totals) -> list[Piece]:
        """Everything up to the first sample."""
        num_bytes = totals.num_samples * self._align
        chunks = [p for part in self._before for p in part.pieces(">", totals)]
        tail = sum_sizes(self.tail(totals)) - sum_sizes(self._junk)
        ssnd = len(self._ssnd) + num_bytes
        form_size = 4 + sum_sizes(chunks) + 8 + ssnd + tail
        start = b"FORM" + struct.pack(">I", min(form_size, 0xFFFFFFFF)) + self._form
        return [start, *chunks, b"SSND" + struct.pack(">I", min(ssnd, 0xFFFFFFFF)) + self._ssnd]

    def tail(self, totals: Totals) -> list[Piece]:
        """Everything after the last sample."""
        pad = b"\0" * ((totals.num_samples * self._align + len(self._ssnd)) % 2)
        return [pad, *(p for part in self._after for p in part.pieces(">", totals)), *self._junk]

    def _keep(self, source: BinaryIO, table: Table, same_format: bool) -> None:
        if table.junk:
            self._junk = [table.junk]
        for i, chunk in enumerate(table.chunks):
            if i == table.audio:
                between = Span(chunk.body.start, table.samples.start)
                if 8 <= between.size <= MAX_REWRITTEN_BYTES:
                    self._ssnd = read_span(source, between)
                continue
            part = self._part(chunk, source, table, same_format)
            if part:
                (self._before if i < table.audio else self._after).append(part)

    def _part(self, chunk: Chunk, source: BinaryIO, table: Table, same_format: bool) -> Part | None:
        """What becomes of one chunk; None: it is left out."""
        target = self._target
        rate = RateChange(table.sample_rate, target.sample_rate)
        edited = (b"COMM", b"MARK", b"PEAK", b"APPL")
        if chunk.id == b"FVER" and self._form == b"AIFF":
            return None
        if chunk.id not in edited or chunk.body.size > MAX_REWRITTEN_BYTES:
            return Part(chunk.id, chunk.body)
        body = read_span(source, chunk.body)
        if chunk.id == b"COMM":
            return Part(b"COMM", self._patched_comm(body, rate) if same_format else self._new_comm)
        if chunk.id == b"APPL":
            ours = body[:4] == PROVENANCE_ID and target.record is not None
            return None if ours else Part(b"APPL", body)
        if chunk.id == b"PEAK":
            if len(body) != 8 + 8 * target.num_channels or not target.coding.is_float:
                self.notes.append("chunk 'PEAK' was left out: it is out of date")
                return None
            return Part(b"PEAK", peak_body(body[:8], ">", target.num_channels))
        try:
            if rate.old != rate.new:
                body = scale_mark(body, rate)
        except Malformed as error:
            self.notes.append(f"chunk 'MARK' is malformed ({error}) and was kept as it is")
        return Part(chunk.id, body)

    def _patched_comm(self, body: bytes, rate: RateChange) -> Callable[[Totals], bytes]:
        """The source's COMM with another number of samples, and another rate if that changed."""
        ten = body[8:18] if rate.old == rate.new else encode_rate(rate.new)

        def patched(totals: Totals) -> bytes:
            n = min(totals.num_samples, 0xFFFFFFFF)
            return body[:2] + struct.pack(">I", n) + body[6:8] + ten + body[18:]

        return patched

    def _new_comm(self, totals: Totals) -> bytes:
        target = self._target
        bits = target.coding.bits
        n = min(totals.num_samples, 0xFFFFFFFF)
        common = struct.pack(">HIH", target.num_channels, n, bits) + encode_rate(target.sample_rate)
        if self._form == b"AIFF":
            return common
        kinds = {
            "FLOAT": (b"fl32", b"32-bit floating point"),
            "DOUBLE": (b"fl64", b"64-bit floating point"),
            "PCM_U8": (b"raw ", b"offset binary"),
        }
        code, name = kinds.get(target.coding.subtype, (b"NONE", b"not compressed"))
        if target.coding == Coding("PCM_16"):
            code, name = b"sowt", b"little-endian"
        pascal = bytes([len(name)]) + name
        return common + code + pascal + b"\0" * (len(pascal) % 2)


def provenance(file: BinaryIO, table: Table) -> bytes | None:
    """The body of our own APPL chunk, if there is one."""
    found = None
    for chunk in table.chunks:
        if chunk.id == b"APPL" and chunk.body.size <= MAX_REWRITTEN_BYTES:
            body = read_span(file, chunk.body)
            found = body[4:] if body[:4] == PROVENANCE_ID else found
    return found
