"""RIFF/WAVE and its 64-bit sisters RF64 (EBU Tech 3306) and BW64 (ITU-R BS.2088).

"RIFF" size32 "WAVE" | id size32 body [pad] | id size32 body [pad] | ...   everything else: junk
"RF64" -1     "WAVE" | "ds64" 28+ riffSize64 dataSize64 samples64 table | ... "data" -1 ...
"""

from __future__ import annotations

import struct
from collections.abc import Callable
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
    size_of,
    sum_sizes,
)
from audiosr_core.containers.coding import Coding
from audiosr_core.containers.scaling import (
    Malformed,
    RateChange,
    moved_bext,
    scale_adtl,
    scale_bext,
    scale_cue,
    scale_ixml,
    scale_plst,
    scale_smpl,
)
from audiosr_core.errors import FileError

MAX_RIFF_BYTES = 0xFFFFFFFE
"""A larger file becomes RF64; all ones is RF64's own mark."""

BEXT_HISTORY = 602  # where CodingHistory begins (EBU Tech 3285)

_UNKNOWN_SIZE = 0xFFFFFFFF
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_SCALED: dict[bytes, Callable[[bytes, RateChange], bytes]] = {
    b"cue ": scale_cue,
    b"smpl": scale_smpl,
    b"plst": scale_plst,
    b"LIST": scale_adtl,
    b"iXML": scale_ixml,
}
_STALE = {b"levl": "the peak envelope", b"MD5 ": "the checksum"}
_PLACES = (b"cue ", b"plst", b"smpl", b"iXML")  # of the whole sound, not of an excerpt


def is_riff(start: bytes) -> bool:
    """Whether a file that begins so is one of ours: WAV, RF64 or BW64."""
    return start[:4] in (b"RIFF", b"RF64", b"BW64") and start[8:12] == b"WAVE"


def read_table(file: BinaryIO, size: int) -> Table:
    """The chunks of a file of `size` bytes; FileError where its audio cannot be whole."""
    form, riff_size = struct.unpack("<4sI", read_span(file, Span(0, 8)))
    wide = form != b"RIFF"
    sizes: dict[bytes, int] = {}
    chunks: list[Chunk] = []
    audio = None
    end, place = 8 + riff_size, 12
    while place + 8 <= size:
        name, length = struct.unpack("<4sI", read_span(file, Span(place, place + 8)))
        if audio is not None and (place >= end or not _is_name(name)):
            break
        if len(chunks) == MAX_CHUNKS:
            if audio is not None:
                break
            raise FileError(f"is damaged: no audio in {MAX_CHUNKS} chunks; export it again")
        if wide and length == _UNKNOWN_SIZE:
            length = sizes.get(name, length)
        body = Span(place + 8, place + 8 + length)
        if body.stop > size:
            if audio is not None:
                break
            raise FileError(_cut_short(name, length, size - body.start))
        if name == b"ds64" and not chunks:
            sizes = _read_ds64(read_span(file, first_bytes(body, MAX_REWRITTEN_BYTES)))
            if riff_size == _UNKNOWN_SIZE:
                end = 8 + sizes.get(b"RIFF", 0)
        if name == b"data" and audio is None:
            audio = len(chunks)
            if not body.stop <= end <= size + 1:
                end = size  # the outer size lies: what the chunks say counts
        chunks.append(Chunk(name, body))
        place = body.stop + length % 2
    if audio is None:
        raise FileError("holds no audio: a 'data' chunk was wanted; export it again")
    junk = Span(place, size) if place < size else None
    data = chunks[audio].body
    if junk and not data.size and junk.size > 8:
        raise FileError(
            f"says it holds no audio, but {junk.size} bytes follow: it was not closed properly;"
            " have the recorder or an editor repair it"
        )
    notes = [f"{junk.size} bytes after the end of the file's chunks were kept"] if junk else []
    fmt = next((c for c in chunks if c.id == b"fmt "), None)
    if fmt is None or fmt.body.size < 16:
        raise FileError("is damaged: a WAV file needs a 'fmt ' chunk; export it again")
    num_channels, sample_rate, coding = _read_format(
        read_span(file, first_bytes(fmt.body, MAX_FORMAT_BYTES))
    )
    num_samples = 0
    if coding:
        num_samples = data.size // (coding.width * num_channels)
    return Table(
        container="WAV" if form == b"RIFF" else form.decode(),
        sample_rate=sample_rate,
        num_channels=num_channels,
        num_samples=num_samples,
        coding=coding,
        samples=data,
        chunks=tuple(chunks),
        audio=audio,
        junk=junk,
        notes=tuple(notes),
    )


def _is_name(name: bytes) -> bool:
    return all(32 <= letter < 127 for letter in name)


def _cut_short(name: bytes, length: int, there: int) -> str:
    if name == b"data" and length == _UNKNOWN_SIZE:
        return (
            "is truncated or was written into a pipe: its header does not say how long it is;"
            " `ffmpeg -i IN -c copy OUT` gives it a length"
        )
    if name == b"data":
        return (
            f"is truncated: its header promises {length} bytes of audio, {max(there, 0)} are there;"
            " copy or export it again"
        )
    return (
        f"is damaged: chunk {name!r} claims {length} bytes where {max(there, 0)} are left;"
        " export it again"
    )


def _read_ds64(body: bytes) -> dict[bytes, int]:
    if len(body) < 24:
        raise FileError("is damaged: its 'ds64' chunk is too short; export it again")
    riff, data = struct.unpack_from("<QQ", body)
    sizes = {b"RIFF": riff, b"data": data}
    count = struct.unpack_from("<I", body, 24)[0] if len(body) >= 28 else 0
    for i in range(min(count, (len(body) - 28) // 12)):
        name, size = struct.unpack_from("<4sQ", body, 28 + 12 * i)
        sizes.setdefault(name, size)
    return sizes


def _read_format(body: bytes) -> tuple[int, int, Coding | None]:
    """Channels, rate in Hz, and the coding unless it is compressed."""
    tag, num_channels, sample_rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    if tag == 0xFFFE and len(body) >= 26:
        (tag,) = struct.unpack_from("<H", body, 24)
    if tag not in (1, 3) or num_channels == 0:
        return num_channels, sample_rate, None
    width = (bits + 7) // 8
    if align % num_channels == 0 and align // num_channels > width:
        width = align // num_channels  # 20 bits in 24, 24 in 32: left-justified
    names = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
    subtype = (names if tag == 1 else {4: "FLOAT", 8: "DOUBLE"}).get(width)
    if subtype is None or align != width * num_channels:
        raise FileError(
            f"is damaged: {bits} bits in blocks of {align} bytes for {num_channels} channels"
            " do not fit together; export it again"
        )
    return num_channels, sample_rate, Coding(subtype)


class RiffLayout:
    """Lay a new file around its samples; source and table are None where nothing is kept."""

    def __init__(
        self, target: Target, wide: bool, source: BinaryIO | None = None, table: Table | None = None
    ) -> None:
        self.notes: list[str] = []
        self._target = target
        self._align = target.coding.width * target.num_channels
        self._ds64_rest = struct.pack("<I", 0)
        self._before: list[Part] = []
        self._after: list[Part] = []
        self._junk: list[Piece] = []
        self._form = target.container.encode() if target.container != "WAV" else b"RF64"
        self.wide = wide or target.container != "WAV"
        if source and table:
            self._keep(source, table)
        else:
            self._before.append(Part(b"fmt ", new_format(target)))
        remade = table is None or table.coding != target.coding
        every = {part.id for part in self._before + self._after}
        if remade and target.coding.is_float and b"fact" not in every:
            place = next(i for i, p in enumerate(self._before) if p.id == b"fmt ") + 1
            self._before.insert(place, Part(b"fact", _fact(bytes(4))))
        if target.record is not None:
            self._after.append(Part(PROVENANCE_ID, target.record))

    def head(self, totals: Totals) -> list[Piece]:
        """Everything up to the first sample."""
        num_bytes = totals.num_samples * self._align
        chunks = [p for part in self._before for p in part.pieces("<", totals)]
        tail = sum_sizes(self.tail(totals)) - sum_sizes(self._junk)
        ds64 = 8 + 24 + len(self._ds64_rest) if self.wide else 0
        ds64 += ds64 % 2
        riff_size = 4 + ds64 + sum_sizes(chunks) + 8 + num_bytes + tail
        if not self.wide:
            start = b"RIFF" + struct.pack("<I", min(riff_size, _UNKNOWN_SIZE)) + b"WAVE"
            data = b"data" + struct.pack("<I", min(num_bytes, _UNKNOWN_SIZE))
            return [start, *chunks, data]
        body = struct.pack("<QQQ", riff_size, num_bytes, totals.num_samples) + self._ds64_rest
        start = self._form + struct.pack("<I", _UNKNOWN_SIZE) + b"WAVE"
        data = b"data" + struct.pack("<I", _UNKNOWN_SIZE)
        return [start, *Part(b"ds64", body).pieces("<", totals), *chunks, data]

    def tail(self, totals: Totals) -> list[Piece]:
        """Everything after the last sample."""
        pad = b"\0" * (totals.num_samples * self._align % 2)
        return [pad, *(p for part in self._after for p in part.pieces("<", totals)), *self._junk]

    def _keep(self, source: BinaryIO, table: Table) -> None:
        if table.junk:
            self._junk = [table.junk]
        for i, chunk in enumerate(table.chunks):
            if i == table.audio:
                continue
            if chunk.id == b"ds64" and i == 0:
                rest = read_span(source, first_bytes(chunk.body, MAX_REWRITTEN_BYTES))[24:]
                self._ds64_rest = rest if len(rest) >= 4 else self._ds64_rest
                continue
            part = self._part(chunk, source, table)
            if part:
                (self._before if i < table.audio else self._after).append(part)

    def _part(self, chunk: Chunk, source: BinaryIO, table: Table) -> Part | None:
        """What becomes of one chunk; None: it is left out."""
        target = self._target
        rate = RateChange(table.sample_rate, target.sample_rate)
        if chunk.id == PROVENANCE_ID and target.record is not None:
            return None
        if chunk.id in _STALE:
            name = chunk.id.decode().strip()
            self.notes.append(
                f"chunk '{name}' ({_STALE[chunk.id]}) was left out: it is out of date"
            )
            return None
        if target.start and chunk.id in _PLACES:
            name = chunk.id.decode().strip()
            self.notes.append(f"chunk '{name}' was left out: it speaks of the whole sound")
            return None
        edited = {b"fmt ", b"fact", b"PEAK", b"bext", *_SCALED}
        if chunk.id not in edited or chunk.body.size > MAX_REWRITTEN_BYTES:
            return Part(chunk.id, chunk.body)
        body = read_span(source, chunk.body)
        if chunk.id == b"fmt ":
            return Part(b"fmt ", patched_format(body, table, target))
        if chunk.id == b"fact":
            return Part(b"fact", _fact(body) if len(body) >= 4 else body)
        if chunk.id == b"PEAK":
            return self._peak(body)
        try:
            if rate.old != rate.new:
                scale = scale_bext if chunk.id == b"bext" else _SCALED[chunk.id]
                body = scale(body, rate)
            if chunk.id == b"bext" and target.start:
                body = moved_bext(body, target.start)
        except Malformed as error:
            name = chunk.id.decode().strip()
            self.notes.append(f"chunk '{name}' is malformed ({error}) and was kept as it is")
        if chunk.id == b"bext" and target.coding_history:
            body = with_history(body, target.coding_history)
        return Part(chunk.id, body)

    def _peak(self, body: bytes) -> Part | None:
        """The peak of each channel, measured anew; version and time stamp stay."""
        if len(body) != 8 + 8 * self._target.num_channels or not self._target.coding.is_float:
            self.notes.append("chunk 'PEAK' was left out: it is out of date")
            return None
        return Part(b"PEAK", peak_body(body[:8], "<", self._target.num_channels))


def _fact(body: bytes) -> Callable[[Totals], bytes]:
    return lambda totals: struct.pack("<I", min(totals.num_samples, _UNKNOWN_SIZE)) + body[4:]


def with_history(body: bytes, line: str) -> bytes:
    """A `bext` body with one CodingHistory line more; zeros kept free there are used first."""
    if len(body) < BEXT_HISTORY:
        return body
    history = body[BEXT_HISTORY:].rstrip(b"\0")
    if history and not history.endswith(b"\n"):
        history += b"\r\n"
    text = " ".join(line.split()).encode("ascii", "replace")
    return body[:BEXT_HISTORY] + (history + text + b"\r\n").ljust(len(body) - BEXT_HISTORY, b"\0")


def patched_format(body: bytes, table: Table, target: Target) -> bytes:
    """The source's `fmt `: the same bytes, or with another rate, or made anew."""
    if table.coding != target.coding:
        mask = target.channel_mask
        if struct.unpack_from("<H", body)[0] == 0xFFFE and len(body) >= 24:
            (mask,) = struct.unpack_from("<I", body, 20)
        return new_format(target, mask)
    if table.sample_rate == target.sample_rate:
        return body
    per_second = target.sample_rate * target.num_channels * target.coding.width
    return body[:4] + struct.pack("<II", target.sample_rate, per_second) + body[12:]


def new_format(target: Target, mask: int = 0) -> bytes:
    """A `fmt ` chunk: plain up to two channels, WAVE_FORMAT_EXTENSIBLE with a mask beyond."""
    mask = mask or target.channel_mask
    coding, n = target.coding, target.num_channels
    align = n * coding.width
    tag = 3 if coding.is_float else 1
    usual = {0, 4} if n == 1 else {0, 3}
    extensible = n > 2 or mask not in usual
    common = struct.pack(
        "<HHIIHH",
        0xFFFE if extensible else tag,
        n,
        target.sample_rate,
        target.sample_rate * align,
        align,
        coding.bits,
    )
    if extensible:
        return common + struct.pack("<HHIH", 22, coding.bits, mask, tag) + _GUID_TAIL
    return common + (struct.pack("<H", 0) if coding.is_float else b"")


def provenance(file: BinaryIO, table: Table) -> bytes | None:
    """The body of our own chunk, if there is one."""
    ours = [c for c in table.chunks if c.id == PROVENANCE_ID]
    return read_span(file, ours[-1].body) if ours else None


def total_size(layout: RiffLayout, totals: Totals) -> int:
    """Bytes of the whole file."""
    around = sum(size_of(p) for p in [*layout.head(totals), *layout.tail(totals)])
    return around + totals.num_samples * layout._align
