"""Laws of the noise: a function of seed and absolute time, and of nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.noise import latent_noise, white_noise


@given(
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(-(10**9), 10**9),
    lengths=st.lists(st.integers(0, 5), max_size=4),
    draw=st.integers(0, 1000),
)
def test_any_split_of_time_gives_the_same_latent_noise(seed, first, lengths, draw):
    whole = latent_noise(seed, first, sum(lengths), 3, 4, draw)
    starts = first + np.cumsum([0, *lengths])
    parts = [
        latent_noise(seed, int(a), n, 3, 4, draw) for a, n in zip(starts, lengths, strict=False)
    ]
    assert whole.dtype == np.float32
    assert whole.shape == (3, sum(lengths), 4)
    np.testing.assert_array_equal(np.concatenate([np.zeros((3, 0, 4)), *parts], axis=1), whole)


def test_seeds_draws_and_frames_are_independent_standard_normal():
    a = latent_noise(1, -50, 100)
    others = [
        latent_noise(2, -50, 100),
        latent_noise(1, -50, 100, draw=1),
        latent_noise(1, 50, 100),
    ]
    bound = 5 / np.sqrt(a.size)  # five deviations of a mean of so many products
    for b in others:
        assert abs(np.mean(a * b)) < bound
    assert abs(a.mean()) < bound
    assert abs(a.std() - 1) < bound
    assert abs(np.mean(a[:, 1:] * a[:, :-1])) < bound


def test_a_latent_shares_no_number_with_the_white_noise_of_its_seed():
    assert not np.intersect1d(latent_noise(7, 0, 8), white_noise(7, 0, 4096)).size


def test_the_numbers_of_a_seed_are_these():
    """Renders made years apart must null; the lite model was trained with this white noise."""
    bits = np.random.Philox(key=5, counter=np.array([0, 0, 0, 2**64 - 1], np.uint64))
    block = np.random.Generator(bits).standard_normal(4096, np.float32)
    np.testing.assert_array_equal(white_noise(5, -4096, 4096), block)
    bits = np.random.Philox(key=5, counter=np.array([0, 0, 3, 9], np.uint64))
    frame = np.random.Generator(bits).standard_normal(16 * 32, np.float32)
    np.testing.assert_array_equal(latent_noise(5, 9, 1, draw=2)[:, 0].ravel(), frame)
