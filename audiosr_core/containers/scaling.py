"""Positions in metadata, moved to another sample rate.

Each function takes a chunk's body and gives it back with its sample positions scaled and every
other byte as it was. A body that is too short or contradicts itself raises Malformed, and the
caller keeps it byte for byte.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass


class Malformed(Exception):
    """A metadata chunk does not hold what it says; it is kept as it is."""


@dataclass(frozen=True)
class RateChange:
    """From one sample rate to another, in Hz."""

    old: int
    new: int

    def scale(self, position: int) -> int:
        """The same moment at the new rate, rounded to the nearest sample."""
        return (2 * position * self.new + self.old) // (2 * self.old)


def _scale_at(body: bytearray, offset: int, form: str, rate: RateChange) -> None:
    try:
        (position,) = struct.unpack_from(form, body, offset)
        struct.pack_into(form, body, offset, rate.scale(position))
    except struct.error as error:
        raise Malformed(str(error)) from error


def _count_at(body: bytes, offset: int, form: str, item_size: int, first: int) -> int:
    """A count of fixed-size items, if there is room for as many."""
    if len(body) < first:
        raise Malformed("too short")
    (count,) = struct.unpack_from(form, body, offset)
    if first + count * item_size > len(body):
        raise Malformed(f"{count} entries claimed")
    return int(count)


def scale_bext(body: bytes, rate: RateChange) -> bytes:
    """TimeReference: samples since midnight (EBU Tech 3285, §2.3)."""
    out = bytearray(body)
    if len(out) < 602:
        raise Malformed("too short")
    _scale_at(out, 338, "<Q", rate)
    return bytes(out)


def moved_bext(body: bytes, num_samples: int) -> bytes:
    """TimeReference, so much later: that of an excerpt."""
    if len(body) < 602:
        raise Malformed("too short")
    (since_midnight,) = struct.unpack_from("<Q", body, 338)
    moved = struct.pack("<Q", min(since_midnight + num_samples, 2**64 - 1))
    return body[:338] + moved + body[346:]


def scale_cue(body: bytes, rate: RateChange) -> bytes:
    """dwPosition and dwSampleOffset of each cue point."""
    out = bytearray(body)
    for i in range(_count_at(body, 0, "<I", 24, 4)):
        _scale_at(out, 4 + 24 * i + 4, "<I", rate)
        _scale_at(out, 4 + 24 * i + 20, "<I", rate)
    return bytes(out)


def scale_plst(body: bytes, rate: RateChange) -> bytes:
    """dwLength of each segment of the play list."""
    out = bytearray(body)
    for i in range(_count_at(body, 0, "<I", 12, 4)):
        _scale_at(out, 4 + 12 * i + 4, "<I", rate)
    return bytes(out)


def scale_smpl(body: bytes, rate: RateChange) -> bytes:
    """The sample period in ns, and each loop's start and end.

    A loop's end is the last sample played, so what is scaled is the sample after it: the loop then
    keeps its exact length, and with it its pitch.
    """
    out = bytearray(body)
    count = _count_at(body, 28, "<I", 24, 36)
    (period,) = struct.unpack_from("<I", body, 8)
    if abs(period - 1e9 / rate.old) <= 1:
        period = round(1e9 / rate.new)
    else:
        period = RateChange(rate.new, rate.old).scale(period)
    struct.pack_into("<I", out, 8, min(period, 0xFFFFFFFF))
    for i in range(count):
        _scale_at(out, 36 + 24 * i + 8, "<I", rate)
        (last,) = struct.unpack_from("<I", body, 36 + 24 * i + 12)
        end = rate.scale(last + 1) - 1
        if not 0 <= end <= 0xFFFFFFFF:
            raise Malformed("loop end out of range")
        struct.pack_into("<I", out, 36 + 24 * i + 12, end)
    return bytes(out)


def scale_adtl(body: bytes, rate: RateChange) -> bytes:
    """dwSampleLength of each `ltxt` in a LIST of associated data; another LIST is left alone."""
    if body[:4] != b"adtl":
        return body
    out = bytearray(body)
    place = 4
    while place + 8 <= len(body):
        (size,) = struct.unpack_from("<I", body, place + 4)
        if place + 8 + size > len(body):
            raise Malformed("an entry runs over the end")
        if body[place : place + 4] == b"ltxt" and size >= 8:
            _scale_at(out, place + 12, "<I", rate)
        place += 8 + size + size % 2
    return bytes(out)


def scale_mark(body: bytes, rate: RateChange) -> bytes:
    """The position of each AIFF marker: id, position, Pascal string padded to even."""
    out = bytearray(body)
    place = 2
    for _ in range(_count_at(body, 0, ">H", 7, 2)):
        if place + 7 > len(body):
            raise Malformed("a marker runs over the end")
        _scale_at(out, place + 2, ">I", rate)
        place += 6 + (1 + body[place + 6] + 1) // 2 * 2
    return bytes(out)


def scale_cuesheet(body: bytes, rate: RateChange) -> bytes:
    """Lead-in, track and index offsets of a FLAC CUESHEET block."""
    out = bytearray(body)
    if len(body) < 396:
        raise Malformed("too short")
    _scale_at(out, 128, ">Q", rate)
    place = 396
    for _ in range(body[395]):
        if place + 36 > len(body):
            raise Malformed("a track runs over the end")
        _scale_at(out, place, ">Q", rate)
        num_indices = body[place + 35]
        place += 36
        for _ in range(num_indices):
            _scale_at(out, place, ">Q", rate)
            place += 12
    return bytes(out)


def _field(body: bytes, tag: str) -> re.Match[bytes] | None:
    name = tag.encode()
    return re.search(rb"<" + name + rb">\s*(\d{1,20})\s*</" + name + rb">", body)


def _set_field(body: bytes, tag: str, value: int) -> bytes:
    match = _field(body, tag)
    if match is None:
        return body
    return body[: match.start(1)] + str(value).encode() + body[match.end(1) :]


def _scale_pair(body: bytes, high_tag: str, low_tag: str, rate: RateChange) -> bytes:
    """A 64-bit position in two fields of 32 bits."""
    high, low = _field(body, high_tag), _field(body, low_tag)
    if low is None:
        return body
    position = rate.scale((int(high[1]) << 32 if high else 0) + int(low[1]))
    if high is None and position >> 32:
        raise Malformed("no field for the high half")
    body = _set_field(body, high_tag, position >> 32)
    return _set_field(body, low_tag, position & 0xFFFFFFFF)


def scale_ixml(body: bytes, rate: RateChange) -> bytes:
    """FILE_SAMPLE_RATE, time stamps and sync points of iXML 2.x; every other byte stays.

    DIGITIZER_SAMPLE_RATE is history and stays. A time stamp that says to count in another rate
    than the file's (TIMESTAMP_SAMPLE_RATE, pull-down) stays right without us.
    """
    file_rate = _field(body, "FILE_SAMPLE_RATE")
    stamp_rate = _field(body, "TIMESTAMP_SAMPLE_RATE")
    follows = stamp_rate is None or int(stamp_rate[1]) == rate.old
    if file_rate:
        body = _set_field(body, "FILE_SAMPLE_RATE", rate.scale(int(file_rate[1])))
    if follows:
        prefix = "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_"
        body = _set_field(body, "TIMESTAMP_SAMPLE_RATE", rate.new)
        body = _scale_pair(body, prefix + "HI", prefix + "LO", rate)
    body = _scale_pair(body, "BWF_TIME_REFERENCE_HIGH", "BWF_TIME_REFERENCE_LOW", rate)

    def sync(match: re.Match[bytes]) -> bytes:
        point = _scale_pair(match[0], "SYNC_POINT_HIGH", "SYNC_POINT_LOW", rate)
        duration = _field(point, "SYNC_POINT_EVENT_DURATION")
        if duration is None:
            return point
        return _set_field(point, "SYNC_POINT_EVENT_DURATION", rate.scale(int(duration[1])))

    return re.sub(rb"<SYNC_POINT>.*?</SYNC_POINT>", sync, body, flags=re.DOTALL)
