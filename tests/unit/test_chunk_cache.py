"""What the chunk cache gives is what was put, or nothing; and it never grows beyond its bound."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.chunking import ChunkPlan
from audiosr_core.settings import Settings
from bridge.cache import ChunkCache, cached, chunk_key, sound_key
from tests.support.bridge_engines import FakeCutoff, FakeDecision

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
PLAN = ChunkPlan(48_000, 48_000, 48_000, 100, 10, 5, 5)
DECISION = FakeDecision(48_000, FakeCutoff(8_000.0), (False, False))
PIECE = np.arange(240, dtype=np.float32).reshape(2, 120)


def key(number: int) -> str:
    return f"{number:064x}"


def chunk(number: int, num_samples: int = 1000) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((2, num_samples)).astype(np.float32)


def key_of(piece=PIECE, plan=PLAN, index=0, decision=DECISION, settings=None, sha="a", place="cpu"):
    return chunk_key(piece, plan, index, decision, settings or Settings(), sha, place)


@given(channels=st.integers(1, 8), num_samples=st.integers(0, 300), seed=st.integers(0, 99))
def test_what_is_put_comes_back_to_the_bit(tmp_path_factory, channels, num_samples, seed):
    cache = ChunkCache(tmp_path_factory.getbasetemp() / "any", 1 << 20)
    x = np.random.default_rng(seed).standard_normal((channels, num_samples)).astype(np.float32)
    x[:, :1] = -0.0
    name = key(channels * 1_000_000 + num_samples * 100 + seed)
    cache.put(name, x)
    found = cache.get(name)
    assert found is not None
    assert found.shape == x.shape
    assert found.tobytes() == x.tobytes()
    assert found.flags.writeable  # the walk joins chunks in place


@given(data=st.data())
def test_a_damaged_file_is_a_miss_and_goes(tmp_path_factory, data):
    cache = ChunkCache(tmp_path_factory.getbasetemp() / "damaged", 1 << 20)
    cache.put(key(1), chunk(1, 50))
    path = cache.folder / key(1)
    body = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(body) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "more"]))
    if how == "flip":
        body[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(body[:place] if how == "cut" else body + b"x" * (how == "more"))

    assert cache.get(key(1)) is None
    assert not path.exists()


def test_everything_that_a_chunk_depends_on_is_in_its_name():
    others = [
        key_of(PIECE + 1),
        key_of(PIECE.astype(np.float64)),
        key_of(PIECE.reshape(1, -1)),
        key_of(index=1),
        key_of(sha="b"),
        key_of(place="cuda"),
        key_of(settings=Settings(seed=1)),
        key_of(settings=Settings(mix=0.5)),
        key_of(decision=dataclasses.replace(DECISION, cutoff=FakeCutoff(8_001.0))),
        *(key_of(plan=dataclasses.replace(PLAN, **{f.name: getattr(PLAN, f.name) + 1}))
          for f in dataclasses.fields(PLAN)),
        *(key_of(decision=dataclasses.replace(DECISION, **change)) for change in (
            {"extends": False}, {"follow": True}, {"skipped": (False, True)}, {"gain_db": 0.1},
            {"peak": 0.5},
        )),
        sound_key(PIECE, 48_000, Settings(), "a", "cpu"),
    ]  # fmt: skip
    assert len({key_of(), *others}) == 1 + len(others)
    assert key_of() == key_of(PIECE.copy(), settings=Settings())
    assert key_of(decision=dataclasses.replace(DECISION, note="words")) == key_of()


def test_the_least_recently_used_go_first(tmp_path):
    size = 4 * 2000 + 48
    cache = ChunkCache(tmp_path / "c", 20 * size)
    for i in range(20):
        cache.put(key(i), chunk(i))
        os.utime(cache.folder / key(i), (i, i))
    assert cache.get(key(0)) is not None  # used: it is the youngest now
    cache.put(key(99), chunk(99))

    total = sum(one.stat().st_size for one in cache.folder.iterdir())
    assert total <= 20 * size
    assert cache.get(key(0)) is not None
    assert cache.get(key(99)) is not None
    assert cache.get(key(1)) is None


@given(sizes=st.lists(st.integers(0, 400), max_size=60), bound=st.integers(0, 5000))
def test_it_never_holds_more_than_it_may(tmp_path_factory, sizes, bound):
    folder = tmp_path_factory.mktemp("bound")
    cache = ChunkCache(folder, bound)
    for i, n in enumerate(sizes):
        cache.put(key(i), chunk(i, n))
        assert sum(one.stat().st_size for one in folder.iterdir()) <= bound


def test_only_our_files_go(tmp_path):
    mine = tmp_path / "song.wav"
    mine.write_bytes(b"x" * 10_000)
    left = tmp_path / f".new-{'0' * 16}"
    fresh = tmp_path / f".new-{'1' * 16}"
    left.write_bytes(b"of a kill")
    fresh.write_bytes(b"being written by another daemon")
    os.utime(left, (1, 1))
    cache = ChunkCache(tmp_path, 9_000)
    for i in range(5):
        cache.put(key(i), chunk(i))
    assert mine.exists()
    assert fresh.exists()
    assert not left.exists()


def test_files_are_for_their_owner_alone(tmp_path):
    cache = ChunkCache(tmp_path / "a" / "b", 1 << 20)
    cache.put(key(1), chunk(1))
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert (cache.folder / key(1)).stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(tmp_path):
    cache = ChunkCache(tmp_path, 1 << 20)
    cache.put(key(1), chunk(1))
    (tmp_path / key(2)).symlink_to(tmp_path / key(1))
    assert cache.get(key(2)) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_is_told_once_and_fails_nothing(tmp_path, monkeypatch, number):
    told = []
    cache = ChunkCache(tmp_path, 1 << 20, told.append)
    cache.put(key(1), chunk(1))

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    cache.put(key(2), chunk(2))
    cache.put(key(3), chunk(3))

    assert len(told) == 1
    assert os.strerror(number) in told[0]
    assert cache.get(key(1)) is not None
    assert cache.get(key(2)) is None
    assert {one.name for one in tmp_path.iterdir()} == {key(1)}  # nothing half written is left


def test_a_folder_that_cannot_be_is_no_error(tmp_path):
    told = []
    (tmp_path / "file").write_text("")
    cache = ChunkCache(tmp_path / "file" / "c", 1 << 20, told.append)
    cache.put(key(1), chunk(1))
    assert cache.get(key(1)) is None
    assert len(told) == 1


def test_many_share_a_folder(tmp_path):
    """Each with a cache of its own, as daemons have, and a bound that keeps them trimming."""

    def use(seed: int) -> int:
        cache, choose, hits = ChunkCache(tmp_path, 60_000), random.Random(seed), 0
        for _ in range(300):
            i = choose.randrange(30)
            found = cache.get(key(i))
            if found is None:
                cache.put(key(i), chunk(i))
            else:
                np.testing.assert_array_equal(found, chunk(i))
                hits += 1
        assert cache._stores
        return hits

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(use, range(4))) > 0
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= 4 * 60_000


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from bridge.cache import ChunkCache
from tests.unit.test_chunk_cache import chunk, key
cache = ChunkCache(Path(sys.argv[1]), 1 << 30)
chunks = [chunk(i, 20_000) for i in range(8)]
print("ready", flush=True)
while True:
    for i, one in enumerate(chunks):
        cache.put(key(i), one)
"""


def test_a_kill_at_any_moment_leaves_whole_chunks(tmp_path):
    choose = random.Random(4)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(choose.uniform(0, 0.05))  # the random moment
        process.kill()
        process.wait(10)
        process.stdout.close()
        cache = ChunkCache(tmp_path, 1 << 30)
        there = [one for one in tmp_path.iterdir() if not one.name.startswith(".new-")]
        for path in there:
            found = cache.get(path.name)
            assert found is not None, "a torn file had its final name"
            np.testing.assert_array_equal(found, chunk(int(path.name, 16), 20_000))


# ---- in front of the walk


def test_what_moved_to_another_device_is_not_kept_under_the_first(tmp_path):
    place = ["cuda:fp32"]

    def compute(*_: object) -> np.ndarray:
        place[0] = "cpu:fp32"
        return chunk(1)

    cache = ChunkCache(tmp_path, 1 << 20)
    one = cached(cache, compute, "sha", lambda: place[0])
    one(None, PLAN, 0, PIECE, DECISION, Settings())
    cache.settle()
    assert list(tmp_path.iterdir()) == []
    one(None, PLAN, 0, PIECE, DECISION, Settings())
    assert not one.last_cached
    cache.settle()
    one(None, PLAN, 0, PIECE, DECISION, Settings())
    assert one.last_cached
    assert one.hits == 1


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("cutoff", ["auto", "follow"])
def test_the_walk_gives_the_same_samples_from_the_cache(tmp_path, cutoff, one_thread):
    from audiosr_core.audio import Audio
    from audiosr_core.engine import Engine
    from audiosr_core.stream import high_band

    rate, settings, engine = 16_000, Settings(cutoff=cutoff), Engine()
    x = (np.random.default_rng(1).standard_normal((2, 20 * rate)) / 8).astype(np.float32)
    expected = engine.extend(Audio(x, rate), settings).samples
    decision = engine.analyse([x], lambda a, b: x[:, a:b], rate, 2, settings)
    for hits in (0, None):
        cache = ChunkCache(tmp_path, 1 << 30)
        compute = cached(cache, high_band, "sha", lambda: "cpu")
        stream = engine.open(rate, 2, settings, decision, compute=compute)
        made = np.concatenate([stream.push(x), stream.flush()], axis=1)
        cache.settle()
        np.testing.assert_array_equal(made, expected)
        wanted = stream.plan.num_chunks(x.shape[1]) if hits is None else hits
        assert compute.hits == wanted
