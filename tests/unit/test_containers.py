"""Promise P3, chunk by chunk: what lies around the samples survives byte for byte, in its order.

The files are built and taken apart here, by code that shares nothing with the package.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.containers import aiff, riff
from audiosr_core.errors import FileError
from audiosr_core.files import Reader, Writer, canonical_json, probe, provenance_of

Chunks = list[tuple[bytes, bytes]]
RATE = 44_100
PCM = {
    "PCM_16": (1, "<i2"),
    "PCM_32": (1, "<i4"),
    "FLOAT": (3, "<f4"),
    "DOUBLE": (3, "<f8"),
    "PCM_U8": (1, "u1"),
}
GUID = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes, order: str = "<", size: int | None = None) -> bytes:
    stated = len(body) if size is None else size
    return name + struct.pack(f"{order}I", stated) + body + b"\0" * (len(body) % 2)


def samples_of(subtype: str, n: int = 101, order: str = "<") -> bytes:
    rng = np.random.default_rng(1)
    if subtype == "PCM_24":
        return rng.bytes(2 * n * 3)
    if subtype in ("FLOAT", "DOUBLE"):
        x = rng.uniform(-1, 1, 2 * n)
        return x.astype(order + PCM[subtype][1][1:]).tobytes()
    return rng.bytes(2 * n * int(PCM[subtype][1][-1]))


def fmt_of(subtype: str, extensible: bool = False, rate: int = RATE) -> bytes:
    width = 3 if subtype == "PCM_24" else np.dtype(PCM[subtype][1]).itemsize
    tag = PCM.get(subtype, (1,))[0]
    body = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else tag, 2, rate, rate * 2 * width, 2 * width, 8 * width
    )
    return body + struct.pack("<HHIH", 22, 8 * width, 0x600, tag) + GUID if extensible else body


def wav(
    form: bytes,
    before: Chunks,
    data: bytes,
    after: Chunks,
    fmt: bytes,
    junk: bytes = b"",
) -> bytes:
    wide = form != b"RIFF"
    body = b"".join(chunk(*c) for c in before[: len(before) // 2])
    body += chunk(b"fmt ", fmt) + b"".join(chunk(*c) for c in before[len(before) // 2 :])
    body += chunk(b"data", data, size=0xFFFFFFFF if wide else None)
    body += b"".join(chunk(*c) for c in after)
    if wide:
        total = 4 + 36 + len(body)
        body = chunk(b"ds64", struct.pack("<QQQI", total, len(data), len(data) // 2, 0)) + body
    size = 0xFFFFFFFF if wide else 4 + len(body)
    return form + struct.pack("<I", size) + b"WAVE" + body + junk


def take_apart(data: bytes, order: str = "<") -> tuple[Chunks, bytes]:
    """Chunks and what follows the end of the outermost."""
    (size,) = struct.unpack_from(f"{order}I", data, 4)
    ds64 = dict[bytes, int]()
    if size == 0xFFFFFFFF:
        size, ds64[b"data"] = struct.unpack_from("<QQ", data, 20)
    place, end = 12, 8 + size
    out: Chunks = []
    while place < end:
        name, length = struct.unpack_from(f"{order}4sI", data, place)
        length = ds64.get(name, length) if length == 0xFFFFFFFF else length
        assert place + 8 + length <= end
        out.append((name, data[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    assert place == end  # the outer size is right and every odd size padded
    return out, data[end:]


def rewrite(source: Path, target: Path, **how: object) -> Writer:
    with Reader(source) as reader, Writer(target, reader.info, **how) as writer:  # type: ignore[arg-type]
        for samples in reader.blocks(64):
            writer.write(samples, False)
        writer.commit()
    return writer


def body_of(chunks: Chunks, name: bytes) -> bytes:
    return next(body for key, body in chunks if key == name)


KNOWN = {b"fmt ", b"data", b"ds64", b"bext", b"fact", b"PEAK", b"asrb", b"levl", b"MD5 "}
names = st.one_of(
    st.sampled_from([b"LIST", b"cue ", b"smpl", b"inst", b"acid", b"iXML", b"axml", b"JUNK"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=4, max_size=4)
    .map(str.encode)
    .filter(lambda name: name not in KNOWN),
)  # fmt: skip
chunk_lists = st.lists(st.tuples(names, st.binary(max_size=41)), max_size=5)


@given(
    form=st.sampled_from([b"RIFF", b"RF64", b"BW64"]),
    subtype=st.sampled_from(["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]),
    extensible=st.booleans(),
    before=chunk_lists,
    after=chunk_lists,
    junk=st.sampled_from([b"", b"\0" * 7, b"TAGrest of it"]),
    n=st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_every_riff_chunk_survives_in_its_place(form, subtype, extensible, before, after, junk, n):
    source_bytes = wav(
        form, before, samples_of(subtype, n), after, fmt_of(subtype, extensible), junk
    )
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.wav", Path(name) / "out.wav"
        source.write_bytes(source_bytes)
        writer = rewrite(source, target, provenance={"a": 1}, coding_history="A=PCM")
        new = target.read_bytes()
    old_chunks, old_junk = take_apart(source_bytes)
    new_chunks, new_junk = take_apart(new)
    assert new[:4] == source_bytes[:4]
    assert new_junk == old_junk == junk
    assert new_chunks[-1] == (b"asrb", b'{"a":1}')
    kept = [c for c in new_chunks[:-1] if c[0] != b"ds64"]
    assert kept == [c for c in old_chunks if c[0] != b"ds64"]  # fmt, data and all the others
    assert writer.overs == 0


@given(
    before=chunk_lists,
    after=chunk_lists,
    subtype=st.sampled_from(["PCM_16", "PCM_24", "sowt", "FLOAT", "DOUBLE"]),
    offset=st.integers(0, 5),
    late_comm=st.booleans(),
    n=st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_every_aiff_chunk_survives_in_its_place(before, after, subtype, offset, late_comm, n):
    width = {"PCM_16": 2, "PCM_24": 3, "sowt": 2, "FLOAT": 4, "DOUBLE": 8}[subtype]
    code = {"sowt": b"sowt\0\0", "FLOAT": b"fl32\0\0", "DOUBLE": b"fl64\0\0"}.get(subtype, b"")
    comm = struct.pack(">HIH", 2, n, 8 * width) + aiff.encode_rate(RATE) + code
    data = samples_of("PCM_16" if subtype == "sowt" else subtype, n, ">")
    ssnd = struct.pack(">II", offset, 0) + b"\xab" * offset + data
    reserved = (b"COMM", b"SSND", b"APPL", b"MARK", b"FVER")
    listed = [c for c in before if c[0] not in reserved]
    trailing = [c for c in after if c[0] not in reserved]
    chunks: Chunks = [*listed, (b"COMM", comm), (b"SSND", ssnd), *trailing]
    if late_comm:
        chunks = [*listed, (b"SSND", ssnd), *trailing, (b"COMM", comm)]
    if code:
        chunks.insert(0, (b"FVER", struct.pack(">I", 0xA2805140)))
    body = (b"AIFC" if code else b"AIFF") + b"".join(chunk(*c, order=">") for c in chunks)
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.aif", Path(name) / "out.aif"
        source.write_bytes(b"FORM" + struct.pack(">I", len(body)) + body)
        rewrite(source, target, provenance={"b": 2})
        new, junk = take_apart(target.read_bytes(), ">")
        assert provenance_of(target) == {"b": 2}
    assert new[:-1] == chunks
    assert new[-1] == (b"APPL", b'asrb{"b":2}')
    assert junk == b""


def test_an_rf64_with_an_odd_bext_before_its_data_is_read(tmp_path):
    """libsndfile 1.2.2 finds no data chunk in such a file."""
    bext = bytes(602) + b"A=ANALOGUE\r\n\0"  # 615 bytes
    data = samples_of("PCM_24")
    source = tmp_path / "in.wav"
    source.write_bytes(wav(b"RF64", [(b"bext", bext)], data, [], fmt_of("PCM_24")))
    rewrite(source, tmp_path / "out.wav")
    chunks, _ = take_apart((tmp_path / "out.wav").read_bytes())
    assert body_of(chunks, b"data") == data
    assert body_of(chunks, b"bext") == bext


# What has to change, and nothing besides


def bext_body(history: bytes, reference: int = 123_456) -> bytes:
    head = bytearray(np.random.default_rng(2).bytes(602))
    struct.pack_into("<Q", head, 338, reference)
    return bytes(head) + history


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (b"", b"A=PCM,F=44100\r\n"),
        (b"A=ANALOGUE,M=stereo\r\n", b"A=ANALOGUE,M=stereo\r\nA=PCM,F=44100\r\n"),
        (b"no line end", b"no line end\r\nA=PCM,F=44100\r\n"),
        (b"x\r\n" + bytes(30), b"x\r\nA=PCM,F=44100\r\n" + bytes(15)),  # room kept free is used
        (b"x\r\n\0\0", b"x\r\nA=PCM,F=44100\r\n"),
    ],
)
def test_bext_gets_one_line_of_history(tmp_path, history, expected):
    bext = bext_body(history)
    source = tmp_path / "in.wav"
    source.write_bytes(wav(b"RIFF", [(b"bext", bext)], samples_of("PCM_16"), [], fmt_of("PCM_16")))
    rewrite(source, tmp_path / "out.wav", coding_history="A=PCM,F=44100")
    new = body_of(take_apart((tmp_path / "out.wav").read_bytes())[0], b"bext")
    assert new == bext[:602] + expected


def test_our_record_is_replaced_and_any_other_kept(tmp_path):
    source = tmp_path / "in.wav"
    after = [(b"asrb", b'{"old":1}'), (b"APPL", b"othr")]
    source.write_bytes(wav(b"RIFF", [], samples_of("PCM_16"), after, fmt_of("PCM_16")))
    assert provenance_of(source) == {"old": 1}
    rewrite(source, tmp_path / "none.wav")
    assert provenance_of(tmp_path / "none.wav") == {"old": 1}  # no new record, nothing touched
    record = {"z": [1, 2], "a": {"seed": 3, "model": "lite"}, "text": "å"}
    rewrite(source, tmp_path / "out.wav", provenance=record)
    chunks, _ = take_apart((tmp_path / "out.wav").read_bytes())
    assert [c for c in chunks if c[0] == b"asrb"] == [(b"asrb", canonical_json(record))]
    assert (b"APPL", b"othr") in chunks
    assert provenance_of(tmp_path / "out.wav") == record
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_a_broken_record_is_none(tmp_path, body):
    source = tmp_path / "in.wav"
    data = samples_of("PCM_16")
    source.write_bytes(wav(b"RIFF", [], data, [(b"asrb", body)], fmt_of("PCM_16")))
    assert provenance_of(source) is None


def test_fact_and_peak_are_made_anew_and_stale_chunks_left_out(tmp_path):
    x = np.zeros((2, 300), dtype=np.float32)
    x[0, 7], x[1, 200] = -0.75, 1.5
    before = [
        (b"fact", struct.pack("<I", 5) + b"more"),
        (b"PEAK", struct.pack("<II", 1, 77) + bytes(16)),
        (b"levl", b"envelope"),
        (b"MD5 ", bytes(16)),
    ]
    source = tmp_path / "in.wav"
    source.write_bytes(wav(b"RIFF", before, x.T.tobytes(), [], fmt_of("FLOAT")))
    writer = rewrite(source, tmp_path / "out.wav")
    chunks, _ = take_apart((tmp_path / "out.wav").read_bytes())
    assert body_of(chunks, b"fact") == struct.pack("<I", 300) + b"more"
    assert body_of(chunks, b"PEAK") == struct.pack("<IIfIfI", 1, 77, 0.75, 7, 1.5, 200)
    assert not {b"levl", b"MD5 "} & {c[0] for c in chunks}
    assert len([n for n in writer.notes if "left out" in n]) == 2


# Another sample rate: every position says the same moment


def scaled(position: int, new: int) -> int:
    return int(position * new / RATE + 0.5)


@pytest.mark.parametrize("form", [b"RIFF", b"RF64"])
@pytest.mark.parametrize("rate", [22_050, 48_000, 88_200, 192_000])
def test_riff_positions_follow_the_rate_and_nothing_else_does(tmp_path, form, rate):
    cue = struct.pack("<I", 2)
    cue += struct.pack("<II4sIII", 1, 1000, b"data", 11, 22, 1000)
    cue += struct.pack("<II4sIII", 2, 777, b"data", 33, 44, 778) + b"tail"
    smpl = struct.pack("<9I", 1, 2, 22676, 60, 0, 0, 0, 1, 3)
    smpl += struct.pack("<6I", 0, 0, 100, 199, 5, 0) + b"abc"
    ltxt = struct.pack("<II4sHHHH", 1, 500, b"rgn ", 0, 0, 0, 0) + b"t"
    adtl = b"adtl" + chunk(b"labl", b"\1\0\0\0Odd\0") + chunk(b"ltxt", ltxt) + chunk(b"note", b"n")
    info = b"INFO" + chunk(b"INAM", b"ltxt and so on")
    plst = struct.pack("<IIII", 1, 1, 441, 2)
    ixml = (
        "<BWFXML><FILE_SAMPLE_RATE>44100</FILE_SAMPLE_RATE><NOTE>44100 é</NOTE>"
        "<DIGITIZER_SAMPLE_RATE>44100</DIGITIZER_SAMPLE_RATE>"
        "<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>{}</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>"
        "<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>{}</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>"
        "<TIMESTAMP_SAMPLE_RATE>44100</TIMESTAMP_SAMPLE_RATE>"
        "<SYNC_POINT><SYNC_POINT_LOW>10</SYNC_POINT_LOW><SYNC_POINT_HIGH>0</SYNC_POINT_HIGH>"
        "</SYNC_POINT></BWFXML>"
    )
    stamp = 44_100 * 60 * 60 * 24
    bext = bext_body(b"h\r\n", stamp)
    before = [(b"bext", bext), (b"iXML", ixml.format(stamp >> 32, stamp & 0xFFFFFFFF).encode())]
    after = [
        (b"cue ", cue), (b"smpl", smpl), (b"LIST", adtl), (b"LIST", info), (b"plst", plst),
        (b"acid", struct.pack("<IHHfIHHf", 1, 60, 0, 0, 4, 4, 4, 120)),
        (b"inst", b"\x3c\0\0\0\x7f\0\x7f"), (b"rand", bytes(range(33))),
    ]  # fmt: skip
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    fmt = fmt_of("PCM_16", extensible=True)
    source.write_bytes(wav(form, before, samples_of("PCM_16"), after, fmt))
    rewrite(source, target, sample_rate=rate)
    chunks, _ = take_apart(target.read_bytes())
    lists = [body for name, body in chunks if name == b"LIST"]

    new_fmt = body_of(chunks, b"fmt ")
    assert new_fmt == fmt_of("PCM_16", extensible=True, rate=rate)  # the mask is kept
    new_bext = body_of(chunks, b"bext")
    assert struct.unpack_from("<Q", new_bext, 338) == (rate * 86_400,)
    assert new_bext[:338] + new_bext[346:] == bext[:338] + bext[346:]
    expected_cue = struct.pack("<I", 2)
    for i, place, a, b, offset in [(1, 1000, 11, 22, 1000), (2, 777, 33, 44, 778)]:
        moved = scaled(place, rate), scaled(offset, rate)
        expected_cue += struct.pack("<II4sIII", i, moved[0], b"data", a, b, moved[1])
    assert body_of(chunks, b"cue ") == expected_cue + b"tail"
    new_smpl = body_of(chunks, b"smpl")
    period, start, last = (struct.unpack_from("<I", new_smpl, at)[0] for at in (8, 44, 48))
    assert period == round(1e9 / rate)
    assert (start, last + 1) == (scaled(100, rate), scaled(200, rate))  # end: the last one played
    untouched = [slice(0, 8), slice(12, 44), slice(52, None)]
    assert [new_smpl[s] for s in untouched] == [smpl[s] for s in untouched]
    assert lists == [
        adtl.replace(struct.pack("<I", 500), struct.pack("<I", scaled(500, rate))),
        info,
    ]
    assert body_of(chunks, b"plst") == struct.pack("<IIII", 1, 1, scaled(441, rate), 2)
    moved_stamp = rate * 86_400
    expected = ixml.format(moved_stamp >> 32, moved_stamp & 0xFFFFFFFF)
    for tag in ("FILE_SAMPLE_RATE", "TIMESTAMP_SAMPLE_RATE"):
        expected = expected.replace(f"<{tag}>44100", f"<{tag}>{rate}")
    expected = expected.replace("LOW>10<", f"LOW>{scaled(10, rate)}<")
    assert body_of(chunks, b"iXML").decode() == expected
    for name in (b"acid", b"inst", b"rand"):
        assert body_of(chunks, name) == body_of(after, name)


@given(
    name=st.sampled_from([b"cue ", b"smpl", b"LIST", b"plst", b"iXML", b"bext", b"fact", b"PEAK"]),
    body=st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=60).map(lambda b: b"\xff\xff\xff\xff" + b),
        st.binary(max_size=60).map(lambda b: b"adtl" + b"ltxt" + b),
        st.binary(min_size=30, max_size=40).map(lambda b: bytes(28) + b"\xff\xff\0\0" + b),
    ),
)
@settings(max_examples=150, deadline=None)
def test_malformed_metadata_is_kept_and_harms_nothing(name, body):
    data = samples_of("PCM_16", 9)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.wav", Path(folder) / "out.wav"
        source.write_bytes(wav(b"RIFF", [], data, [(name, body)], fmt_of("PCM_16")))
        writer = rewrite(source, target, sample_rate=48_000, coding_history="A=PCM")
        chunks, _ = take_apart(target.read_bytes())
    assert body_of(chunks, b"data") == data
    if any("malformed" in note for note in writer.notes) or (name == b"bext"):
        assert (name, body) in chunks


def test_lying_counts_are_kept_byte_for_byte(tmp_path):
    after = [
        (b"cue ", struct.pack("<I", 1000) + bytes(24)),
        (b"smpl", bytes(28) + struct.pack("<II", 9, 0)),
        (b"plst", b"\1"),
        (b"LIST", b"adtl" + b"ltxt" + struct.pack("<I", 999) + bytes(20)),
        (b"bext", b"short"),
    ]
    source = tmp_path / "in.wav"
    source.write_bytes(wav(b"RIFF", [], samples_of("PCM_16"), after, fmt_of("PCM_16")))
    writer = rewrite(source, tmp_path / "out.wav", sample_rate=48_000, coding_history="x")
    assert take_apart((tmp_path / "out.wav").read_bytes())[0][2:] == after
    assert len([n for n in writer.notes if "malformed" in n]) == 5


def test_aiff_markers_follow_the_rate(tmp_path):
    def mark(*places: int) -> bytes:
        body = struct.pack(">H", len(places))
        for i, place in enumerate(places):
            label = b"verse"[: 2 + i]
            pascal = bytes([len(label)]) + label
            body += struct.pack(">HI", i + 1, place) + pascal + b"\0" * (len(pascal) % 2)
        return body

    comm = struct.pack(">HIH", 2, 101, 16) + aiff.encode_rate(RATE)
    others = [(b"INST", bytes(20)), (b"NAME", b"odd"), (b"APPL", b"stocx"), (b"COMT", bytes(10))]
    chunks = [
        (b"COMM", comm), (b"MARK", mark(441, 882, 90)), *others,
        (b"SSND", bytes(8) + samples_of("PCM_16")), (b"ANNO", b"after"), (b"APPL", b"asrb{}"),
    ]  # fmt: skip
    body = b"AIFF" + b"".join(chunk(*c, order=">") for c in chunks)
    source = tmp_path / "in.aif"
    source.write_bytes(b"FORM" + struct.pack(">I", len(body)) + body)
    rewrite(source, tmp_path / "out.aif", sample_rate=48_000, provenance={"n": 1})
    new, _ = take_apart((tmp_path / "out.aif").read_bytes(), ">")
    assert new == [
        (b"COMM", comm[:8] + aiff.encode_rate(48_000)), (b"MARK", mark(480, 960, 98)), *others,
        chunks[-3], (b"ANNO", b"after"), (b"APPL", b'asrb{"n":1}'),
    ]  # fmt: skip
    assert probe(tmp_path / "out.aif").sample_rate == 48_000


@pytest.mark.parametrize("rate", [1, 8_000, 11_025, 44_100, 48_000, 192_000, 768_000])
def test_an_extended_number_comes_back(rate):
    assert aiff.decode_rate(aiff.encode_rate(rate)) == rate
    assert aiff.encode_rate(44_100) == bytes.fromhex("400eac44000000000000")


# FLAC


def flac_blocks(data: bytes) -> tuple[bytes, Chunks, bytes]:
    start = data.index(b"fLaC")
    place, last, out = start + 4, False, []
    while not last:
        last = bool(data[place] & 128)
        size = int.from_bytes(data[place + 1 : place + 4], "big")
        out.append((bytes([data[place] & 127]), data[place + 4 : place + 4 + size]))
        place += 4 + size
    return data[:start], out, data[place:]


def cuesheet(*offsets: int) -> bytes:
    body = b"1234567890123".ljust(128, b"\0") + struct.pack(">Q", offsets[0]) + bytes(259)
    body += bytes([len(offsets) - 1])
    for i, offset in enumerate(offsets[1:]):
        index = struct.pack(">QB3x", offset + 7, 1)
        indices = index if i < len(offsets) - 2 else b""
        body += struct.pack(">QB12s14xB", offset, i + 1, b"ISRC", len(indices) // 12) + indices
    return body


@pytest.mark.parametrize("id3", [b"", b"ID3\4\0\0\0\0\0\x05tagtg"])
@pytest.mark.parametrize("rate", [RATE, 48_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_every_flac_block_survives_in_its_place(tmp_path, id3, rate, subtype):
    source, target = tmp_path / "in.flac", tmp_path / "out.flac"
    soundfile.write(source, np.random.default_rng(0).uniform(-1, 1, (9000, 2)), RATE, subtype)
    _, blocks, frames = flac_blocks(source.read_bytes())
    kept = [
        (b"\4", struct.pack("<I", 3) + b"ref" + struct.pack("<II", 1, 5) + b"A=b=c"),
        (b"\6", bytes(range(256)) * 9),  # picture
        (b"\2", b"riff" + bytes(33)),
        (b"\5", cuesheet(88_200, 0, 4410, 9000)),
        (b"\6", b"another picture"),
        (b"\x2a", b"a type not invented yet"),
        (b"\1", bytes(101)),  # padding
    ]
    old = [blocks[0], (b"\3", bytes(18)), (b"\2", b"asrb{}"), *kept]
    parts = [id3 + b"fLaC"]
    for i, (kind, body) in enumerate(old):
        flag = 128 if i == len(old) - 1 else 0
        parts.append(bytes([kind[0] | flag]) + len(body).to_bytes(3, "big") + body)
    source.write_bytes(b"".join(parts) + frames)
    assert provenance_of(source) == {}

    rewrite(source, target, provenance={"m": "lite"}, sample_rate=rate)

    start, new, _ = flac_blocks(target.read_bytes())
    if rate != RATE:
        kept[3] = (b"\5", scaled_cuesheet(cuesheet(88_200, 0, 4410, 9000), rate))
    assert start == id3
    assert new[0][0] == b"\0"
    assert new[1:] == [*kept, (b"\2", b'asrb{"m":"lite"}')]
    assert provenance_of(target) == {"m": "lite"}
    with Reader(source) as a, Reader(target) as b:
        assert b.info.sample_rate == rate
        np.testing.assert_array_equal(a.read(0, 9000), b.read(0, 9000))


def scaled_cuesheet(body: bytes, rate: int) -> bytes:
    out = bytearray(body)
    places = [128, 396, 396 + 36, 396 + 48, 396 + 84, 396 + 96]
    for place in places:
        (offset,) = struct.unpack_from(">Q", body, place)
        struct.pack_into(">Q", out, place, scaled(offset, rate))
    return bytes(out)


def test_the_flac_tool_finds_no_fault(tmp_path):
    if shutil.which("flac") is None:
        pytest.skip("the flac tool is not installed")
    soundfile.write(tmp_path / "in.flac", np.random.default_rng(0).uniform(-1, 1, (9000, 2)), RATE)
    rewrite(tmp_path / "in.flac", tmp_path / "out.flac", provenance={"m": "lite"})
    subprocess.run(["flac", "-st", "out.flac"], cwd=tmp_path, check=True, timeout=30)


@pytest.mark.parametrize("name", ["out.wav", "out.aiff", "out.flac", "out.rf64"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_other_programs_read_what_is_written(tmp_path, name, channels):
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    x = np.random.default_rng(0).integers(-(2**15), 2**15, (channels, 999)) / 2**15
    soundfile.write(tmp_path / "in.wav", x.T, RATE, "PCM_16")
    rewrite(tmp_path / "in.wav", tmp_path / name, provenance={"m": "lite"})
    command = ["ffmpeg", "-v", "error", "-xerror", "-i", name, "-f", "s16le", "-"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=30, check=True)
    assert done.stderr == b""
    y = np.frombuffer(done.stdout, "<i2").reshape(-1, channels).T / 2**15
    np.testing.assert_array_equal(y, x)


def test_the_mask_of_flac_speakers_comes_into_wav(tmp_path):
    soundfile.write(tmp_path / "in.flac", np.zeros((10, 6)), RATE)
    rewrite(tmp_path / "in.flac", tmp_path / "out.wav")
    fmt = body_of(take_apart((tmp_path / "out.wav").read_bytes())[0], b"fmt ")
    assert struct.unpack_from("<H", fmt) == (0xFFFE,)
    assert struct.unpack_from("<I", fmt, 20) == (0x3F,)


def test_a_wav_whose_outer_size_lies_is_read_by_its_chunks(tmp_path):
    data = samples_of("PCM_16")
    after = [(b"cue ", struct.pack("<I", 0)), (b"LIST", b"INFO")]
    whole = bytearray(wav(b"RIFF", [], data, after, fmt_of("PCM_16")))
    for lie in (0, 36, 0xFFFFFFFF, len(whole) + 1000):
        whole[4:8] = struct.pack("<I", lie)
        (tmp_path / "in.wav").write_bytes(whole)
        rewrite(tmp_path / "in.wav", tmp_path / "out.wav", overwrite=True)
        chunks, junk = take_apart((tmp_path / "out.wav").read_bytes())
        assert chunks[1:] == [(b"data", data), *after]
        assert junk == b""


def test_a_chunk_cut_short_behind_the_audio_costs_no_byte(tmp_path):
    data = samples_of("PCM_16")
    whole = wav(b"RIFF", [], data, [(b"LIST", b"INFO" + bytes(100))], fmt_of("PCM_16"))
    (tmp_path / "in.wav").write_bytes(whole[:-40])
    writer = rewrite(tmp_path / "in.wav", tmp_path / "out.wav", provenance={})
    chunks, junk = take_apart((tmp_path / "out.wav").read_bytes())
    assert body_of(chunks, b"data") == data
    assert junk == whole[len(whole) - 112 : -40]
    assert any("kept" in note for note in probe(tmp_path / "in.wav").notes), writer.notes


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"])
def test_a_compressed_wav_becomes_24_bits_and_keeps_its_chunks(tmp_path, subtype):
    source = tmp_path / "in.wav"
    soundfile.write(source, np.random.default_rng(0).uniform(-1, 1, (4096, 2)), RATE, subtype)
    kept = chunk(b"bext", bext_body(b"")) + chunk(b"xyzq", b"odd")
    data = bytearray(source.read_bytes() + kept)
    data[4:8] = struct.pack("<I", len(data) - 8)
    source.write_bytes(data)
    with Reader(source) as reader:
        assert reader.info.lossy
        x = reader.read(0, reader.info.num_samples)
    writer = rewrite(source, tmp_path / "out.wav")
    chunks, _ = take_apart((tmp_path / "out.wav").read_bytes())
    assert chunks[-2:] == [(b"bext", bext_body(b"")), (b"xyzq", b"odd")]
    assert writer.subtype == "PCM_24"
    with Reader(tmp_path / "out.wav") as reader:  # 16 bits at most: 24 hold them exactly
        np.testing.assert_array_equal(reader.read(0, reader.info.num_samples), x)


@pytest.mark.parametrize("old", [b"RIFF", b"RF64", b"BW64"])
@pytest.mark.parametrize("new", ["WAV", "RF64", "BW64"])
def test_the_sisters_of_wav_turn_into_each_other(tmp_path, old, new):
    data, fmt, after = samples_of("PCM_24"), fmt_of("PCM_24"), [(b"xyzq", b"odd")]
    (tmp_path / "in.wav").write_bytes(wav(old, [(b"JUNK", b"odd")], data, after, fmt))
    rewrite(tmp_path / "in.wav", tmp_path / "out.wav", container=new)
    written = (tmp_path / "out.wav").read_bytes()
    chunks, _ = take_apart(written)
    assert written[:4] == (b"RIFF" if new == "WAV" else new.encode())
    kept = [(b"fmt ", fmt), (b"JUNK", b"odd"), (b"data", data), *after]
    assert [c for c in chunks if c[0] != b"ds64"] == kept
    assert len(chunks) == len(kept) + (new != "WAV")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("late", [False, True])
def test_a_million_chunks_do_no_harm(tmp_path, late):
    many = chunk(b"xxxx", b"") * 1_000_000
    whole = bytearray(wav(b"RIFF", [], samples_of("PCM_16"), [], fmt_of("PCM_16")))
    whole = whole + many if late else whole[:12] + many + whole[12:]
    whole[4:8] = struct.pack("<I", len(whole) - 8)
    (tmp_path / "in.wav").write_bytes(whole)
    if late:
        rewrite(tmp_path / "in.wav", tmp_path / "out.wav")
        assert (tmp_path / "out.wav").read_bytes()[12:] == whole[12:]
    else:
        with pytest.raises(FileError, match="chunks"):
            probe(tmp_path / "in.wav")


def test_riff_names_are_told_from_others():
    assert riff.is_riff(b"RIFF\0\0\0\0WAVE")
    assert not riff.is_riff(b"RIFF\0\0\0\0AVI ")
    assert not aiff.is_aiff(b"FORM\0\0\0\0ILBM")
