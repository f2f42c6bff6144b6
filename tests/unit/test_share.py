"""Laws of sharing out: the sum is the mix, a stem keeps its level, blocks change no bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiosr_core.share import Sharer, share

RATE = 44_100
SIZE = 1024
Band = NDArray[np.float32]


def noise(channels: int, n: int, seed: int, level: float = 0.1) -> Band:
    return np.random.default_rng(seed).normal(0, level, (channels, n)).astype(np.float32)


def db(x: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    energy = float(np.sum(np.square(x, dtype=np.float64)))
    return 10 * np.log10(max(energy, 1e-40) / float(np.sum(np.square(reference, dtype=np.float64))))


def through(alone: list[Band], mix: Band, block: int) -> list[Band]:
    sharer = Sharer([len(one) for one in alone], len(mix), RATE)
    starts = range(0, mix.shape[1], block)
    parts = [
        sharer.push([one[:, i : i + block] for one in alone], mix[:, i : i + block]) for i in starts
    ]
    return [np.concatenate(one, axis=1) for one in zip(*parts, sharer.flush(), strict=True)]


@given(
    levels=st.lists(st.floats(-80, 0), min_size=2, max_size=6),
    channels=st.integers(1, 3),
    monos=st.integers(0, 2),
    n=st.integers(1, 60_000),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=12)
def test_shares_sum_to_the_mix(
    levels: list[float], channels: int, monos: int, n: int, seed: int
) -> None:
    alone = [noise(channels, n, seed + i, 10 ** (db / 20)) for i, db in enumerate(levels)]
    alone += [noise(1, n, seed + 50 + i) for i in range(monos)]
    mix = noise(channels, n, seed + 99, 0.3)

    shares = through(alone, mix, 10_000)

    assert [one.shape for one in shares] == [one.shape for one in alone]
    # float32 sums of parts, some of them larger than the mix
    assert db(sum(shares) - mix, mix) < -110


@pytest.mark.parametrize("block", [1_023, 30_000, 100_000])
def test_the_size_of_blocks_changes_no_bit(block: int) -> None:
    alone, mix = [noise(2, 90_001, 1), noise(2, 90_001, 2, 0.01)], noise(2, 90_001, 3)
    for one, other in zip(
        through(alone, mix, block), through(alone, mix, mix.shape[1]), strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_stem_keeps_the_level_it_has_alone(count: int) -> None:
    alone = [noise(1, RATE, i, 0.1 / (1 + i)) for i in range(count)]
    mix = sum(noise(1, RATE, 100 + i, 0.1 / (1 + i)) for i in range(count))
    assert isinstance(mix, np.ndarray)

    for own, shared in zip(alone, through(alone, mix, RATE), strict=True):
        assert abs(db(shared, own)) < 0.7  # dB; the levels of cells are estimates


def test_what_is_silent_for_a_while_gets_nothing_then() -> None:
    alone, mix = [noise(1, 2 * RATE, 1), noise(1, 2 * RATE, 2)], noise(1, 2 * RATE, 3, 0.14)
    alone[0][:, RATE:] = 0
    first, second = through(alone, mix, RATE)

    quiet = np.s_[:, RATE + 4 * SIZE :]  # a frame, and those over which powers are means
    assert db(first[quiet], mix[quiet]) < -150
    assert db(second[quiet] - mix[quiet], mix[quiet]) < -120


def test_order_changes_nothing_but_rounding() -> None:
    alone, mix = [noise(1, RATE, i, 0.1 / (1 + i)) for i in range(4)], noise(1, RATE, 9)
    forth, back = through(alone, mix, RATE), through(alone[::-1], mix, RATE)[::-1]

    for one, other in zip(forth, back, strict=True):
        assert db(one - other, one) < -100


def test_mono_stems_alone_get_what_all_channels_share() -> None:
    mix = np.repeat(noise(1, RATE, 1), 2, axis=0)
    shares = share(mix, [noise(1, RATE, 2), noise(1, RATE, 3)], SIZE)

    assert db(sum(shares) - mix, mix) < -110


def test_stems_that_cancel_get_what_the_mix_has() -> None:
    one, nothing = noise(1, RATE, 1), np.zeros((1, RATE), np.float32)
    for mix in (nothing, noise(1, RATE, 2, 1e-9)):
        shares = share(mix, [one, -one], SIZE)

        assert all(np.isfinite(share).all() for share in shares)
        assert max(np.abs(share).max() for share in shares) <= 100 * np.abs(mix).max() + 1e-12


def test_a_sound_of_no_samples_has_no_shares() -> None:
    sharer = Sharer([2, 1], 2, RATE)
    assert [one.shape for one in sharer.flush()] == [(2, 0), (1, 0)]
