"""A spooled sound is the sound that came, whatever happened to those who wrote it."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.errors import FileError
from bridge.errors import BusyError, CodedError, JobError
from bridge.spool import (
    SEGMENT_BYTES,
    Spool,
    SpoolReader,
    StreamReader,
    StreamSpool,
    spool_path,
    used_bytes,
)

pytestmark = pytest.mark.timeout(60)

DTYPES = {"f4": np.float32, "f8": np.float64}


def noise(num_channels: int, num_samples: int, dtype: str = "f4") -> np.ndarray:
    random = np.random.default_rng(num_samples)
    return random.standard_normal((num_channels, num_samples)).astype(DTYPES[dtype])


@given(
    channels=st.integers(1, 6),
    sizes=st.lists(st.integers(0, 500), max_size=8),
    dtype=st.sampled_from(["f4", "f8"]),
    reopens=st.booleans(),
)
def test_any_cut_gives_the_sound_back(tmp_path_factory, channels, sizes, dtype, reopens):
    folder = tmp_path_factory.mktemp("spool")
    x = noise(channels, sum(sizes), dtype)
    spool, place = Spool(folder, "j", channels, dtype), 0
    reader = SpoolReader(spool.path, channels, dtype)
    for size in sizes:
        spool.append(x[:, place : place + size], place)
        place += size
        assert spool.received == reader.num_samples == place
        np.testing.assert_array_equal(reader.read(0, place), x[:, :place])
        if reopens:
            spool.close()
            spool = Spool(folder, "j", channels, dtype)
            assert spool.received == place
            assert not spool.complete
    spool.finish()
    spool.finish()
    spool.close()

    again = Spool(folder, "j", channels, dtype)
    assert again.complete
    assert again.received == place
    assert again.size_bytes == used_bytes(folder) == x.nbytes
    a, b = sorted((place // 3, place // 2))
    for one in (reader, SpoolReader(again.path, channels, dtype)):
        np.testing.assert_array_equal(one.read(a, b), x[:, a:b])
        assert one.read(a, b).dtype == DTYPES[dtype]
        one.close()
    again.remove()
    assert list(folder.iterdir()) == []


@given(size=st.integers(0, 7 * 12))
def test_after_a_kill_a_torn_frame_is_cut(tmp_path_factory, size):
    folder = tmp_path_factory.mktemp("torn")
    x = noise(3, 7)
    with Spool(folder, "j", 3) as spool:
        spool.append(x, 0)
    os.truncate(folder / "j.f4.part", size)

    with Spool(folder, "j", 3) as spool:
        whole = size // 12
        assert spool.received == whole
        spool.append(x[:, whole:], whole)
        reader = SpoolReader(spool.path, 3)
        np.testing.assert_array_equal(reader.read(0, 7), x)
        reader.close()


def test_samples_must_follow_and_fit(tmp_path):
    with Spool(tmp_path, "j", 2) as spool:
        spool.append(noise(2, 10), 0)
        for start in (0, 9, 11, -1):
            with pytest.raises(CodedError, match="sample 10 must follow") as caught:
                spool.append(noise(2, 5), start)
            assert caught.value.code == "E_SEQUENCE"
        for bad in (noise(3, 5), np.zeros(5, np.float32)):
            with pytest.raises(CodedError, match=r"\[2, samples\]"):
                spool.append(bad, 10)
        assert spool.received == 10
        spool.finish()
        with pytest.raises(CodedError, match="complete with 10"):
            spool.append(noise(2, 5), 10)


def test_a_reader_sees_a_sound_grow_and_end(tmp_path):
    x = noise(2, 100)
    with Spool(tmp_path, "j", 2) as spool:
        spool.append(x[:, :40], 0)
        reader = SpoolReader(spool.path, 2)  # by the name that it will have
        with pytest.raises(FileError, match="30 to 50"):
            reader.read(30, 50)
        spool.append(x[:, 40:], 40)
        spool.finish()
    np.testing.assert_array_equal(reader.read(30, 100), x[:, 30:])
    assert reader.read(5, 5).shape == (2, 0)
    reader.close()


@pytest.mark.parametrize("job", ["", "../x", "a/b", "a.b", "x" * 65, "a\0", "ä", "a\n"])
def test_a_name_leads_nowhere_else(tmp_path, job):
    with pytest.raises(JobError, match="name"):
        spool_path(tmp_path, job)


@pytest.mark.parametrize("name", ["j.f4", "j.f4.part"])
def test_a_link_is_not_followed(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(FileError):
        Spool(tmp_path, "j", 2)
    with pytest.raises(FileError):
        SpoolReader(tmp_path / "j.f4", 2)
    assert victim.read_bytes() == b"precious"


def test_a_missing_sound_is_one_sentence(tmp_path):
    with pytest.raises(FileError, match="send it again"):
        SpoolReader(tmp_path / "j.f4", 2)


def test_files_are_for_their_owner_alone(tmp_path):
    folder = tmp_path / "a" / "spool"
    with Spool(folder, "j", 2) as spool:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "j.f4.part").stat().st_mode & 0o777 == 0o600
        assert not spool.complete


def test_a_full_disk_leaves_what_was_there(tmp_path):
    x = noise(2, 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Spool(tmp_path, "j", 2) as spool:
        spool.append(x[:, :500], 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
        try:
            with pytest.raises(BusyError, match="free some space"):
                spool.append(x[:, 500:], 500)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert spool.received == 500
        assert (tmp_path / "j.f4.part").stat().st_size == 4000
        spool.append(x[:, 500:], 500)
        reader = SpoolReader(spool.path, 2)
        np.testing.assert_array_equal(reader.read(0, 1000), x)
        reader.close()


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="must take the sounds"):
        Spool(Path(tmp_path / "file" / "spool"), "j", 2)
    assert used_bytes(tmp_path / "nowhere") == 0


# ---- streams


@given(
    channels=st.integers(1, 4),
    origin=st.sampled_from([0, 1, 1000, 3600 * 48_000 + 5]),
    sizes=st.lists(st.integers(0, 900), max_size=8),
    cuts=st.lists(st.integers(0, 900), min_size=8, max_size=8),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_any_cut_of_a_stream_gives_back_what_was_not_let_go_of(
    tmp_path_factory, channels, origin, sizes, cuts, dtype
):
    folder = tmp_path_factory.mktemp("stream")
    with mock.patch("bridge.spool.SEGMENT_BYTES", 4096):
        x = noise(channels, sum(sizes), dtype)
        spool, place, kept = StreamSpool(folder, "j", channels, dtype, origin), 0, 0
        reader = StreamReader(spool.path, channels, dtype)
        for size, cut in zip(sizes, cuts, strict=False):
            spool.append(x[:, place : place + size], origin + place)
            place += size
            kept = min(place, kept + cut)
            spool.trim(origin + kept)
            assert spool.begins <= origin + kept
            assert spool.received == origin + place
            np.testing.assert_array_equal(
                reader.read(origin + kept, origin + place), x[:, kept:place]
            )
            if place > kept:
                assert reader.num_samples == origin + place
            assert used_bytes(folder) <= x[:, kept:place].nbytes + 2 * 4096
        with pytest.raises(CodedError, match=f"sample {origin + place} must follow"):
            spool.append(x, origin + place + 1)
        spool.finish()
        with pytest.raises(CodedError, match="complete"):
            spool.append(x, origin + place)
        spool.remove()
        assert list(folder.iterdir()) == []
        reader.close()


def test_what_was_let_go_of_is_one_sentence(tmp_path):
    with mock.patch("bridge.spool.SEGMENT_BYTES", 4096), StreamSpool(tmp_path, "j", 2) as spool:
        spool.append(noise(2, 2000), 0)
        reader = StreamReader(spool.path, 2)
        spool.trim(1500)
        assert spool.begins == 1024
        for start, stop in [(0, 10), (1000, 1030), (1990, 2001)]:
            with pytest.raises(FileError, match=f"samples {start} to {stop} .* send it again"):
                reader.read(start, stop)
        reader.close()


def test_an_origin_of_hours_takes_no_space(tmp_path):
    with StreamSpool(tmp_path, "j", 2, origin=24 * 3600 * 48_000) as spool:
        spool.append(noise(2, 100), 24 * 3600 * 48_000)
        found = list(tmp_path.iterdir())
        assert len(found) == 1
        assert found[0].stat().st_size <= SEGMENT_BYTES
        assert found[0].stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_what_a_stream_had(tmp_path):
    x = noise(2, 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with StreamSpool(tmp_path, "j", 2) as spool:
        spool.append(x[:, :500], 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
        try:
            with pytest.raises(BusyError, match="free some space"):
                spool.append(x[:, 500:], 500)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        spool.append(x[:, 500:], 500)
        reader = StreamReader(spool.path, 2)
        np.testing.assert_array_equal(reader.read(0, 1000), x)
        reader.close()


def test_a_link_is_not_followed_by_a_stream(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "j.f4.0").symlink_to(victim)
    with StreamSpool(tmp_path, "j", 2) as spool, pytest.raises(BusyError):
        spool.append(noise(2, 10), 0)
    with pytest.raises(FileError):
        StreamReader(tmp_path / "j.f4", 2).read(0, 1)
    assert victim.read_bytes() == b"precious"
