"""Promise P3: the file stays that file. Read exactly, write atomically, lose nothing."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.containers import aiff, riff, temporary
from audiosr_core.containers.coding import quantise, tpdf
from audiosr_core.errors import (
    AudioSRError,
    FileError,
    NotFiniteError,
    OutputExistsError,
    RegionError,
)
from audiosr_core.files import FileInfo, Reader, Writer, output_format, probe, provenance_of

INTEGERS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
COMBINATIONS = [
    *[(c, s) for c in ("WAV", "WAVEX", "RF64") for s in (*INTEGERS, "FLOAT", "DOUBLE")],
    ("WAV", "PCM_U8"),
    *[("AIFF", s) for s in (*INTEGERS, "PCM_S8", "FLOAT", "DOUBLE")],
    *[("FLAC", s) for s in ("PCM_S8", "PCM_16", "PCM_24")],
]
SUFFIX = {"WAV": ".wav", "WAVEX": ".wav", "RF64": ".wav", "AIFF": ".aif", "FLAC": ".flac"}
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def sound(num_channels: int = 2, n: int = 1001, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (num_channels, n))


def make(path: Path, container: str = "WAV", subtype: str = "PCM_24", n: int = 1001) -> Path:
    soundfile.write(path, sound(2, n).T, 44_100, format=container, subtype=subtype)
    return path


def copy(source: Path, target: Path, block: int = 333, **how: object) -> Writer:
    """Every sample through Reader and Writer."""
    with Reader(source) as reader, Writer(target, reader.info, **how) as writer:  # type: ignore[arg-type]
        for samples in reader.blocks(block):
            writer.write(samples, False)
        writer.commit()
    return writer


def hidden(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.name.startswith(".")]


# Reading


@pytest.mark.parametrize(("container", "subtype"), COMBINATIONS)
def test_an_identity_copy_gives_every_bit_back(tmp_path, container, subtype):
    source = make(tmp_path / f"in{SUFFIX[container]}", container, subtype)
    target = tmp_path / f"out{SUFFIX[container]}"

    writer = copy(source, target, provenance={"seed": 1})

    kind = "float64" if subtype in ("FLOAT", "DOUBLE") else "int32"
    old, rate = soundfile.read(source, dtype=kind, always_2d=True)
    new, new_rate = soundfile.read(target, dtype=kind, always_2d=True)
    np.testing.assert_array_equal(new, old)
    assert (new_rate, soundfile.info(target).subtype) == (rate, subtype)
    assert soundfile.info(target).format == soundfile.info(source).format
    assert writer.overs == 0
    assert provenance_of(target) == {"seed": 1}
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("container", "subtype"), COMBINATIONS)
def test_samples_read_are_the_numbers_in_the_file(tmp_path, container, subtype):
    source = make(tmp_path / f"in{SUFFIX[container]}", container, subtype)
    with Reader(source) as reader:
        x = reader.read(0, 1001)
        parts = [reader.read(i, min(i + 97, 1001)) for i in range(0, 1001, 97)]
        late = reader.read(900, 950)  # any place, in any order
        early = reader.read(3, 5)
        with pytest.raises(RegionError, match="1001"):
            reader.read(0, 1002)
    expected = soundfile.read(source, dtype="float64", always_2d=True)[0].T
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)
    np.testing.assert_array_equal(late, expected[:, 900:950])
    np.testing.assert_array_equal(early, expected[:, 3:5])
    assert x.dtype == np.float64
    if subtype in INTEGERS:
        whole = x * 2.0 ** (INTEGERS[subtype] - 1)
        np.testing.assert_array_equal(whole, np.rint(whole))


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "FLAC"])
def test_a_sound_of_no_samples_is_a_sound(tmp_path, container):
    source = make(tmp_path / "in.wav", "WAV", "PCM_16", n=0)
    empty = tmp_path / f"empty{SUFFIX[container]}"
    copy(source, empty, container=container)  # libsndfile would write a FLAC of 0 bytes
    copy(empty, tmp_path / "out", provenance={"n": 0})
    info = probe(tmp_path / "out")
    assert (info.num_samples, info.num_channels, info.sample_rate) == (0, 2, 44_100)
    assert (info.container, info.subtype) == (container, "PCM_16")
    assert provenance_of(tmp_path / "out") == {"n": 0}


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_named_with_its_place(tmp_path, subtype, bad):
    x = sound(2, 5000)
    x[1, 4321] = bad
    soundfile.write(tmp_path / "in.wav", x.T, 48_000, subtype=subtype)
    with Reader(tmp_path / "in.wav") as reader:
        reader.read(0, 4321)
        with pytest.raises(NotFiniteError, match="channel 2 is not at sample 4321") as caught:
            reader.read(4000, 5000)
    assert (caught.value.channel, caught.value.sample) == (1, 4321)


@pytest.mark.parametrize("kind", [("OGG", "VORBIS", "x.ogg"), ("MP3", "MPEG_LAYER_III", "x.mp3")])
def test_a_lossy_sound_becomes_24_bit_wav_and_says_so(tmp_path, kind):
    container, subtype, name = kind
    source = tmp_path / name
    soundfile.write(source, sound(2, 40_000).T * 0.3, 44_100, format=container, subtype=subtype)
    info = probe(source)
    assert (info.container, info.lossy) == (container, True)
    writer = copy(source, tmp_path / "out.wav", block=7_000)
    assert (writer.container, writer.subtype) == ("WAV", "PCM_24")
    assert any("lossy" in note for note in writer.notes)
    assert probe(tmp_path / "out.wav").num_samples == info.num_samples
    with Reader(source) as a, Reader(source) as b:
        whole = a.read(0, info.num_samples)
        parts = np.concatenate(list(b.blocks(777)), axis=1)
        b_late = b.read(20_000, 21_000)
    np.testing.assert_array_equal(parts, whole)  # blocks one after the other need no seek
    np.testing.assert_array_equal(b_late, whole[:, 20_000:21_000])
    with pytest.raises(FileError, match="only read"):
        Writer(tmp_path / "out.mp3", info)


MP3_MAKERS = {
    "constant rate": ["lame", "--quiet", "-b", "128", "in.wav", "out.mp3"],
    "no length": ["lame", "--quiet", "-t", "-b", "128", "in.wav", "out.mp3"],
    "variable rate": ["lame", "--quiet", "-V2", "in.wav", "out.mp3"],
    "by ffmpeg": ["ffmpeg", "-v", "error", "-i", "in.wav", "-q:a", "2", "out.mp3"],
    "ogg by ffmpeg": ["ffmpeg", "-v", "error", "-i", "in.wav", "-strict", "-2", "out.ogg"],
}


@pytest.mark.parametrize("maker", MP3_MAKERS)
def test_a_lossy_sound_is_the_same_at_any_place(tmp_path, maker):
    command = MP3_MAKERS[maker]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    x = np.cumsum(np.random.default_rng(0).normal(size=(100_000, 2)), axis=0)
    soundfile.write(tmp_path / "in.wav", x / np.abs(x).max() / 2, 44_100)
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    with Reader(tmp_path / command[-1]) as reader:
        n = reader.info.num_samples
        assert abs(n - 100_000) < 4 * 1152  # encoder delay and padding
        whole = np.concatenate(list(reader.blocks(9_999)), axis=1)
        for start in (n - 500, 1, 50_000, 1000, 70_001):
            np.testing.assert_array_equal(
                reader.read(start, start + 500), whole[:, start : start + 500]
            )


# Bad input: one sentence that names the file, and nothing else


def wav_bytes(**fields: int) -> bytes:
    f = {"channels": 2, "rate": 44_100, "align": 4, "bits": 16}
    f |= {"data": 400, "riff": 436, "there": 400} | fields
    fmt = struct.pack("<HHIIHH", 1, f["channels"], f["rate"], 0, f["align"], f["bits"])
    head = struct.pack("<4sI4s4sI", b"RIFF", f["riff"], b"WAVE", b"fmt ", 16) + fmt
    return head + struct.pack("<4sI", b"data", f["data"]) + bytes(f["there"])


def truncated(container: str, subtype: str) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        soundfile.write(path, sound(2, 20_000).T, 44_100, format=container, subtype=subtype)
        os.truncate(path, path.stat().st_size * 2 // 3)

    return build


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: None, "no such file"),
    "empty": (lambda p: p.touch(), "empty"),
    "folder": (lambda p: p.mkdir(), "a folder"),
    "fifo": (lambda p: os.mkfifo(p), "a pipe"),
    "device": (lambda p: p.symlink_to("/dev/zero"), "a device"),
    "circle": (lambda p: p.symlink_to(p), "circle"),
    "text": (lambda p: p.write_text("I am not a sound\n" * 99), "not audio"),
    "one byte": (lambda p: p.write_bytes(b"R"), "not audio"),
    "twelve bytes": (lambda p: p.write_bytes(b"RIFF\0\0\0\0WAVE"), "no audio"),
    "no fmt": (lambda p: p.write_bytes(b"RIFF\x0c\0\0\0WAVEdata\0\0\0\0"), "'fmt '"),
    "truncated wav": (truncated("WAV", "PCM_24"), "truncated"),
    "truncated rf64": (truncated("RF64", "PCM_24"), "truncated"),
    "truncated aiff": (truncated("AIFF", "PCM_16"), "truncated"),
    "truncated flac": (truncated("FLAC", "PCM_16"), "truncated"),
    "lying data": (lambda p: p.write_bytes(wav_bytes(data=0x7FFFFFF0)), "truncated"),
    "streamed data": (lambda p: p.write_bytes(wav_bytes(data=0xFFFFFFFF)), "truncated"),
    "both lie": (lambda p: p.write_bytes(wav_bytes(data=2**32 - 1, riff=2**32 - 1)), "truncated"),
    "never closed": (lambda p: p.write_bytes(wav_bytes(data=0, riff=0)), "not closed"),
    "zero channels": (lambda p: p.write_bytes(wav_bytes(channels=0)), "channels"),
    "65535 channels": (lambda p: p.write_bytes(wav_bytes(channels=65535, align=65535 * 2 % 65536)),
                       "channels|fit together"),
    "zero rate": (lambda p: p.write_bytes(wav_bytes(rate=0)), "rate"),
    "absurd rate": (lambda p: p.write_bytes(wav_bytes(rate=2**32 - 1)), "rate"),
    "zero bits": (lambda p: p.write_bytes(wav_bytes(bits=0, align=0)), "fit together"),
    "wrong align": (lambda p: p.write_bytes(wav_bytes(align=3)), "fit together"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.timeout(20)
def test_bad_input_is_one_clear_sentence(tmp_path, name):
    build, word = BAD[name]
    path = tmp_path / "in.wav"
    build(path)
    with pytest.raises(FileError, match=word) as caught:
        probe(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text


def test_a_socket_is_refused(tmp_path):
    folder = Path(tempfile.mkdtemp())  # a socket's path may have some 100 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as endpoint:
            endpoint.bind(str(folder / "s"))
            with pytest.raises(FileError, match="a socket"):
                probe(folder / "s")
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that anybody may enter, and for root the rights of nobody, for root may all."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    nobody = 65534
    if AS_ROOT:
        os.seteuid(nobody)
    try:
        yield folder
    finally:
        if AS_ROOT:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_file_without_permission_is_refused():
    with open_folder() as folder:
        make(folder / "in.wav").chmod(0)
        with pytest.raises(FileError, match="permission denied"):
            probe(folder / "in.wav")


@given(
    cut=st.integers(0, 400),
    at=st.integers(0, 400),
    junk=st.binary(max_size=8),
    container=st.sampled_from(["WAV", "RF64", "AIFF", "FLAC"]),
)
@settings(max_examples=150, deadline=None)
def test_a_damaged_header_is_a_file_error_and_nothing_else(cut, at, junk, container):
    with tempfile.TemporaryDirectory() as name:
        path = make(Path(name) / "in", container, "PCM_16", n=50)
        data = bytearray(path.read_bytes())
        data[at : at + len(junk)] = junk
        path.write_bytes(data[: len(data) - cut])
        with contextlib.suppress(AudioSRError), Reader(path) as reader:
            for _ in reader.blocks(4096):
                pass


# Writing


def test_untouched_samples_are_bit_equal_and_only_added_ones_are_dithered(tmp_path):
    source = make(tmp_path / "in.wav", subtype="PCM_16", n=9000)
    added = np.zeros((2, 9000), dtype=bool)
    added[0, 2000:5000] = True
    with Reader(source) as reader, Writer(tmp_path / "out.wav", reader.info) as writer:
        x = reader.read(0, 9000)
        writer.write(x, added)
        writer.commit()
    with Reader(tmp_path / "out.wav") as reader:
        error = (reader.read(0, 9000) - x) * 32768
    assert not error[~added].any()
    assert set(np.unique(error[added])) == {-1, 0, 1}  # on whole numbers ±1 LSB, before rounding


def test_the_dither_is_triangular():
    d = np.concatenate([tpdf(3, channel, 0, 200_000) for channel in range(2)])
    assert np.abs(d).max() < 1
    # the standard error of a variance 1/6 over 400 000 draws is 0.0003; five of them
    assert abs(d.var() - 1 / 6) < 0.0015
    assert abs(d.mean()) < 5 * (1 / 6 / 400_000) ** 0.5
    below = np.mean(d < -0.5)  # the triangle has 1/8 of its area there
    assert abs(below - 1 / 8) < 5 * (7 / 64 / 400_000) ** 0.5
    assert abs(np.corrcoef(d[:200_000], d[200_000:])[0, 1]) < 5 / 200_000**0.5
    assert abs(np.corrcoef(d[1:], d[:-1])[0, 1]) < 5 / 400_000**0.5


def test_dither_frees_the_error_from_the_signal():
    """With TPDF, mean and variance of the total error do not depend on the value: 0 and 1/4."""
    for level in (0.0, 0.25, 0.5, 0.9):
        x = np.full((1, 100_000), level / 32768)
        whole, _ = quantise(x, np.ones_like(x, dtype=bool), 16, 0, 0)
        error = whole - level
        assert abs(error.mean()) < 5 * (0.25 / 100_000) ** 0.5
        assert abs(error.var() - 0.25) < 0.01  # some eight standard errors


@given(cuts=st.lists(st.integers(1, 700), max_size=8), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=40, deadline=None)
def test_the_size_of_the_blocks_changes_no_bit(cuts, seed):
    x = sound(2, 1000, seed=1)
    added = np.ones_like(x, dtype=bool)
    whole, _ = quantise(x, added, 16, seed, 0)
    places = sorted({0, 1000, *(sum(cuts[: i + 1]) % 1000 for i in range(len(cuts)))})
    parts = [
        quantise(x[:, a:b], added[:, a:b], 16, seed, a)[0] for a, b in itertools.pairwise(places)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_over_full_scale_is_counted_and_clipped_never_wrapped(tmp_path, container, subtype):
    source = make(tmp_path / f"in{SUFFIX[container]}", container, subtype, n=100)
    x = np.zeros((2, 100))
    x[0, 10], x[1, 20], x[1, 30], x[0, 40] = 1.5, -1.5, 1e9, -1.0
    target = tmp_path / f"out{SUFFIX[container]}"
    with Writer(target, probe(source)) as writer:
        writer.write(x, False)
        writer.commit()
    assert writer.overs == 3  # −1 itself fits an integer
    with Reader(target) as reader:
        y = reader.read(0, 100)
    top = 1 - 2.0 ** (1 - INTEGERS[subtype])
    assert (y[0, 10], y[1, 20], y[1, 30], y[0, 40]) == (top, -1.0, top, -1.0)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_over_full_scale_is_kept_in_float(tmp_path, subtype):
    source = make(tmp_path / "in.wav", subtype=subtype, n=4)
    with Writer(tmp_path / "out.wav", probe(source)) as writer:
        writer.write(np.array([[0, 1.0, 2.5, -7.0], [0, 0, 0, 0]]), True)
        writer.commit()
    assert writer.overs == 2
    with Reader(tmp_path / "out.wav") as reader:
        assert list(reader.read(0, 4)[0]) == [0, 1, 2.5, -7]


@pytest.mark.parametrize(
    ("container", "subtype", "name", "wanted"),
    [
        ("WAV", "FLOAT", "o.flac", ("FLAC", "PCM_24")),
        ("WAV", "PCM_32", "o.flac", ("FLAC", "PCM_24")),
        ("WAV", "PCM_16", "o.aiff", ("AIFF", "PCM_16")),
        ("WAV", "FLOAT", "o.aif", ("AIFC", "FLOAT")),
        ("WAV", "PCM_U8", "o.aif", ("AIFF", "PCM_S8")),
        ("WAV", "PCM_16", "o.rf64", ("RF64", "PCM_16")),
        ("RF64", "PCM_24", "o.wav", ("RF64", "PCM_24")),
        ("FLAC", "PCM_16", "o.wav", ("WAV", "PCM_16")),
        ("AIFF", "PCM_24", "o", ("AIFF", "PCM_24")),
        ("WAV", "ULAW", "o.wav", ("WAV", "PCM_24")),
        ("W64", "PCM_16", "o", ("WAV", "PCM_16")),
    ],
)
def test_the_suffix_chooses_the_container_and_the_nearest_subtype(
    tmp_path, container, subtype, name, wanted
):
    source = make(tmp_path / "in", container, subtype, n=500)
    writer = copy(source, tmp_path / name)
    info = probe(tmp_path / name)
    assert (info.container, info.subtype) == wanted == (writer.container, writer.subtype)
    assert info.num_samples == 500
    old = soundfile.read(source, always_2d=True)[0]
    new = soundfile.read(tmp_path / name, always_2d=True)[0]
    np.testing.assert_allclose(new, old, atol=2.0**-23)  # one step of 24 bits


def info_of(container: str, subtype: str) -> FileInfo:
    return FileInfo(Path("in"), 48_000, 2, 1, container, subtype, False)


def test_what_cannot_be_carried_over_is_said():
    notes = output_format(info_of("WAV", "FLOAT"), Path("o.flac"))[2]
    assert any("PCM_24 was written" in n for n in notes)
    assert any("not carried" in n for n in notes)
    assert output_format(info_of("WAV", "PCM_16"), Path("o.wav"))[2] == []


# Never half a file, never another's file


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_leaving_early_leaves_nothing(tmp_path, container, error):
    source = make(tmp_path / "in", container, "PCM_16")
    before = snapshot(tmp_path)

    def leave() -> None:
        with Writer(tmp_path / "out", probe(source)) as writer:
            writer.write(sound(), False)
            raise error

    with pytest.raises(error):
        leave()
    assert snapshot(tmp_path) == before


def test_leaving_without_commit_leaves_nothing(tmp_path):
    source = make(tmp_path / "in.wav")
    with Writer(tmp_path / "out.wav", probe(source)) as writer:
        writer.write(sound(), False)
        assert len(hidden(tmp_path)) == 1  # in the same folder, so that a rename is one step
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def test_an_existing_target_is_refused_before_any_work(tmp_path):
    source = make(tmp_path / "in.wav")
    (tmp_path / "out.wav").write_bytes(b"precious")
    before = snapshot(tmp_path)
    with pytest.raises(OutputExistsError, match="exists already"):
        Writer(tmp_path / "out.wav", probe(source))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("links", [True, False], ids=["link", "no hard links"])
def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(temporary.os, "link", no_links)
    source = make(tmp_path / "in.wav")
    with Writer(tmp_path / "out.wav", probe(source)) as writer:
        writer.write(sound(), False)
        (tmp_path / "out.wav").write_bytes(b"precious")
        with pytest.raises(OutputExistsError):
            writer.commit()
    assert (tmp_path / "out.wav").read_bytes() == b"precious"
    assert hidden(tmp_path) == []


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary.os, "link", no_links)
    source = make(tmp_path / "in.wav")
    before = source.read_bytes()
    copy(source, tmp_path / "out.wav")
    writer = copy(source, source, in_place=True)
    assert probe(tmp_path / "out.wav").num_samples == 1001
    assert writer.backup is not None
    assert writer.backup.read_bytes() == before


def test_overwriting_keeps_the_mode_and_follows_a_link(tmp_path):
    source = make(tmp_path / "in.wav")
    (tmp_path / "real.wav").write_bytes(b"old")
    (tmp_path / "real.wav").chmod(0o640)
    (tmp_path / "out.wav").symlink_to("real.wav")
    copy(source, tmp_path / "out.wav", overwrite=True)
    assert (tmp_path / "out.wav").is_symlink()
    assert probe(tmp_path / "real.wav").num_samples == 1001
    assert stat.S_IMODE((tmp_path / "real.wav").stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    source = make(tmp_path / "in.wav")
    copy(source, tmp_path / "out.wav")
    (tmp_path / "any").touch()
    assert (tmp_path / "out.wav").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("how", ["same", "symlink", "hard link", "dotted"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_source_itself_is_never_the_target_unless_asked(tmp_path, how, overwrite):
    source = make(tmp_path / "in.wav")
    target = {"same": source, "dotted": tmp_path / "." / ".." / tmp_path.name / "in.wav"}.get(
        how, tmp_path / "other.wav"
    )
    if how == "symlink":
        target.symlink_to(source)
    if how == "hard link":
        os.link(source, target)
    before = source.read_bytes()
    with pytest.raises(OutputExistsError, match="source itself"):
        Writer(target, probe(source), overwrite=overwrite)
    assert source.read_bytes() == before


def test_in_place_keeps_every_original(tmp_path):
    source = make(tmp_path / "in.wav")
    source.chmod(0o600)
    first = source.read_bytes()
    one = copy(source, source, in_place=True, provenance={"run": 1})
    second = source.read_bytes()
    two = copy(source, source, in_place=True, provenance={"run": 2})
    assert (one.backup, two.backup) == (tmp_path / "in.orig.wav", tmp_path / "in.orig.2.wav")
    assert (tmp_path / "in.orig.wav").read_bytes() == first
    assert (tmp_path / "in.orig.2.wav").read_bytes() == second
    assert provenance_of(source) == {"run": 2}
    assert stat.S_IMODE(source.stat().st_mode) == 0o600
    assert len(list(tmp_path.iterdir())) == 3


def test_in_place_is_no_leave_to_overwrite_others(tmp_path):
    source = make(tmp_path / "in.wav")
    (tmp_path / "out.wav").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        Writer(tmp_path / "out.wav", probe(source), in_place=True)


@pytest.mark.parametrize("target", ["no/such/folder/out.wav", "in.wav/out.wav", "x" * 300 + ".wav"])
def test_a_place_that_is_none_is_a_sentence(tmp_path, target):
    source = make(tmp_path / "in.wav")
    with pytest.raises(FileError, match="cannot be written"):
        copy(source, tmp_path / target)
    assert hidden(tmp_path) == []


def test_a_folder_or_pipe_as_target_is_a_sentence(tmp_path):
    source = make(tmp_path / "in.wav")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="folder"):
        Writer(tmp_path, probe(source), overwrite=True)
    with pytest.raises(FileError, match="regular"):
        Writer(tmp_path / "pipe", probe(source), overwrite=True)


def test_a_read_only_folder_is_a_sentence():
    with open_folder() as folder:
        source = make(folder / "in.wav")
        (folder / "closed").mkdir(mode=0o500)
        with pytest.raises(FileError, match="permission denied"):
            Writer(folder / "closed" / "out.wav", probe(source))
        assert list((folder / "closed").iterdir()) == []


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_kill_at_any_time_leaves_the_target_whole_or_absent(tmp_path, container):
    source = make(tmp_path / "in", container, "PCM_16", n=4000)
    code = (
        "import sys, os; from audiosr_core.files import *\n"
        "from audiosr_core.containers import temporary\n"
        "count = int(sys.argv[3])\n"
        "def dying(real):\n"
        "    def call(*a, **k):\n"
        "        global count\n"
        "        count -= 1\n"
        "        if count < 0: os.kill(os.getpid(), 9)\n"
        "        return real(*a, **k)\n"
        "    return call\n"
        "temporary.Temporary.write = dying(temporary.Temporary.write)\n"
        "for name in ('link', 'unlink', 'replace', 'fsync'):\n"
        "    setattr(os, name, dying(getattr(os, name)))\n"
        "with Reader(sys.argv[1]) as r, Writer(sys.argv[2], r.info) as w:\n"
        "    for x in r.blocks(500): w.write(x, False)\n"
        "    w.commit()\n"
    )
    seen = set()
    for calls in (0, 3, 8, 12, 16, 20, 24, 60):
        command = [sys.executable, "-c", code, source, tmp_path / "out", str(calls)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60, check=False)
        there = (tmp_path / "out").exists()
        seen.add((done.returncode, there))
        if there:
            with Reader(source) as a, Reader(tmp_path / "out") as b:
                np.testing.assert_array_equal(b.read(0, 4000), a.read(0, 4000))
            (tmp_path / "out").unlink()
    assert {(-9, False), (0, True)} <= seen


@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC"])
@pytest.mark.parametrize("allowed", [0, 60, 3000, 20_000])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, container, allowed):
    source = make(tmp_path / "in", container, "PCM_16", n=20_000)
    before = snapshot(tmp_path)
    real = temporary.Temporary.write
    left = allowed

    def write(self: temporary.Temporary, data: bytes) -> None:
        nonlocal left
        left -= len(data)
        if left < 0:
            with temporary.translated(self.target, "written"):
                raise OSError(errno.ENOSPC, "No space left on device")
        real(self, data)

    monkeypatch.setattr(temporary.Temporary, "write", write)
    with pytest.raises(FileError, match="disk is full"):
        copy(source, tmp_path / "out")
    assert snapshot(tmp_path) == before


def test_the_limit_of_the_system_is_a_sentence(tmp_path):
    """RLIMIT_FSIZE in a child: a real failed write, of the kind a full disk gives."""
    source = make(tmp_path / "in.wav", n=50_000)
    code = (
        "import sys; from audiosr_core.files import *\n"
        "with Reader(sys.argv[1]) as r, Writer(sys.argv[2], r.info) as w:\n"
        "    for x in r.blocks(4096): w.write(x, False)\n"
        "    w.commit()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, tmp_path / "out.wav"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FileError" in done.stderr.splitlines()[-1]
    assert "larger than" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


# Size


@pytest.mark.parametrize("foretold", [True, False], ids=["expected", "surprise"])
def test_a_file_that_outgrows_riff_becomes_rf64(tmp_path, monkeypatch, foretold):
    monkeypatch.setattr(riff, "MAX_RIFF_BYTES", 10_000)
    source = make(tmp_path / "in.wav", subtype="PCM_16", n=4000)
    with Reader(source) as reader:
        x = reader.read(0, 4000)
        expected = None if foretold else 10
        with Writer(tmp_path / "out.wav", reader.info, num_samples=expected) as writer:
            writer.write(x[:, :100], False)
            writer.write(x[:, 100:], False)
            writer.commit()
    info = probe(tmp_path / "out.wav")
    assert (info.container, info.num_samples) == ("RF64", 4000)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav")[0].T, x)
    assert any("RF64" in note for note in writer.notes)
    assert hidden(tmp_path) == []


def test_a_file_that_outgrows_aiff_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(aiff, "MAX_AIFF_BYTES", 10_000)
    source = make(tmp_path / "in.aif", "AIFF", "PCM_16", n=4000)
    with pytest.raises(FileError, match="AIFF holds at most 4 GB"):
        copy(source, tmp_path / "out.aif")
    with (
        Reader(source) as reader,
        Writer(tmp_path / "out.aif", reader.info, num_samples=1) as writer,
        pytest.raises(FileError, match="choose WAV"),
    ):
        writer.write(reader.read(0, 4000), False)
    assert [p.name for p in tmp_path.iterdir()] == ["in.aif"]


def test_five_sparse_gigabytes_are_read_at_any_place_in_flat_memory(tmp_path):
    n = 5 * 2**30 // 6
    path = tmp_path / "big.wav"
    ds64 = struct.pack("<QQQI", 60 + 6 * n, 6 * n, n, 0)
    fmt = struct.pack("<HHIIHH", 1, 2, 48_000, 288_000, 6, 24)
    head = b"RF64\xff\xff\xff\xffWAVE" + struct.pack("<4sI", b"ds64", 28) + ds64
    head += struct.pack("<4sI", b"fmt ", 16) + fmt + b"data\xff\xff\xff\xff"
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + 6 * n)
        file.seek(len(head) + 6 * (n - 1))
        file.write(b"\x00\x00\x40\x00\x00\xc0")
    code = (
        "import sys, resource; from audiosr_core.files import *\n"
        "with Reader(sys.argv[1]) as r:\n"
        "    r.read(0, 1000)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    n = r.info.num_samples\n"
        "    for i in range(40): r.read(i * n // 41, i * n // 41 + 4096)\n"
        "    last = r.read(n - 1, n)\n"
        "    print(n, last[0, 0], last[1, 0])\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60, check=True,
    )  # fmt: skip
    values, grown = done.stdout.splitlines()
    assert values == f"{n} 0.5 -0.5"
    assert int(grown) < 8_000  # KiB: a block of 4096 samples and the allocator's slack


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_written_stays(tmp_path):
    source = make(tmp_path / "in.wav")
    code = (
        "import os, sys; from pathlib import Path\n"
        "from audiosr_core.containers.temporary import Temporary\n"
        "Temporary(Path(sys.argv[1])).write(b'half')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "out.wav"]
    subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60, check=False)
    (orphan,) = hidden(tmp_path)
    alive = temporary.Temporary(tmp_path / "out.wav")
    assert not orphan.exists()
    copy(source, tmp_path / "out.wav")
    assert hidden(tmp_path) == [alive.path]
    alive.write(b"whole")
    alive.publish(replace=True)
    assert (tmp_path / "out.wav").read_bytes() == b"whole"
    assert hidden(tmp_path) == []


def test_many_at_once_never_take_each_others_for_orphans(tmp_path):
    def write(number: int) -> None:
        for _ in range(30):
            temporary.write_whole(tmp_path / "out", bytes([number]) * 1000, overwrite=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(set((tmp_path / "out").read_bytes())) == 1
    assert hidden(tmp_path) == []


def test_a_backup_is_whole_or_not_there(tmp_path, monkeypatch):
    """On a file system without links it is a copy, which a full disk or a kill may end early."""
    source = make(tmp_path / "in.wav")
    before = source.read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    def full(self: temporary.Temporary, data: bytes) -> None:
        if ".orig" in self.target.name:
            assert not self.target.exists()
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, data)

    real = temporary.Temporary.write
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(temporary.Temporary, "write", full)
    with pytest.raises(FileError, match="disk is full"):
        copy(source, source, in_place=True)
    assert snapshot(tmp_path).keys() == {"in.wav"}
    monkeypatch.setattr(temporary.Temporary, "write", real)
    copy(source, source, in_place=True)
    assert (tmp_path / "in.orig.wav").read_bytes() == before


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_page_or_report_never_takes_the_place_of_what_is_no_file(tmp_path, kind):
    path = tmp_path / "there"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    before = path.lstat()
    with pytest.raises(FileError, match="no regular file"):
        temporary.write_whole(path, b"report", overwrite=True)
    assert path.lstat() == before
    assert hidden(tmp_path) == []
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("how", ["written", "cut", "replaced"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_source_that_changes_meanwhile_is_told_and_stays(tmp_path, how, in_place):
    source = make(tmp_path / "in.wav", n=4000)
    other = make(tmp_path / "other.wav", n=3000).read_bytes()
    (tmp_path / "other.wav").unlink()
    target = source if in_place else tmp_path / "out.wav"
    with Reader(source) as reader, Writer(target, reader.info, in_place=in_place) as writer:
        writer.write(reader.read(0, 4000), False)
        if how == "replaced":
            (tmp_path / "new").write_bytes(other)
            (tmp_path / "new").rename(source)
        else:
            with open(source, "r+b") as file:
                file.write(other) if how == "written" else file.truncate(3000)
        after = source.read_bytes()
        if how == "replaced" and not in_place:
            writer.commit()  # of the sound that was there, which is still open
        else:
            with pytest.raises(FileError, match="was changed by another program"):
                writer.commit()
    assert source.read_bytes() == after
    assert snapshot(tmp_path).keys() - {"out.wav"} == {"in.wav"}
    assert (tmp_path / "out.wav").exists() == (how == "replaced" and not in_place)
