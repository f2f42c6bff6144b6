"""A stream may begin anywhere: what it gives is what one that began earlier gives there."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision
from audiosr_core.families import Model
from audiosr_core.settings import Settings
from audiosr_core.store import load_model
from audiosr_core.stream import Stream
from tests.support.quick_model import NoiseModel

pytestmark = pytest.mark.timeout(60)

HOURS = 3600 * 48_000


def noise(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal((2, num_samples))).astype(np.float32)


def opened(model: Model, rate: int, rate_out: int, origin: int) -> Stream:
    decision = Decision(
        rate_out, Cutoff(3_000.0, 1.0, False, ""), True, False, (False,) * 2, 0.0, ""
    )
    return Stream(model, rate, 2, Settings(), decision, origin=origin)


def high_of(stream: Stream, x: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """All that is added, from `first_out` on."""
    high = [
        h for i in range(0, x.shape[1], block) for _, h in stream.push_split(x[:, i : i + block])
    ]
    return np.concatenate([*high, *(h for _, h in stream.flush_split())], axis=1)


def past_in(stream: Stream) -> int:
    return stream.plan.at(stream.plan.reach, stream.plan.rate_in)


@pytest.mark.parametrize("where", [0, HOURS])
@given(
    rates=st.sampled_from([(16_000, 16_000), (16_000, 48_000), (44_100, 48_000), (48_000, 44_100)]),
    chunk=st.integers(1, 6),
    earlier=st.integers(0, 100_000),
    block=st.integers(500, 90_000),
)
@settings(max_examples=12, deadline=None)
def test_from_its_chunk_on_it_is_the_one_that_began_earlier(
    where: int, rates: tuple[int, int], chunk: int, earlier: int, block: int
) -> None:
    model, (rate, rate_out) = NoiseModel(), rates
    plan = opened(model, rate, rate_out, 0).plan
    stride = plan.at(plan.stride, rate)
    chunk += where // stride
    origin = max(0, chunk * stride - plan.at(plan.reach, rate))
    begun = max(0, origin - earlier)
    x = noise(chunk * stride - begun + 2 * stride + 77)

    whole, late = opened(model, rate, rate_out, begun), opened(model, rate, rate_out, origin)
    expected = high_of(whole, x, block)
    got = high_of(late, x[:, origin - begun :], block + 1)
    start = plan.at(chunk * plan.stride, rate_out)
    assert late.first_out <= start
    np.testing.assert_array_equal(got[:, start - late.first_out :],
                                  expected[:, start - whole.first_out :])  # fmt: skip
    assert late.first_out + got.shape[1] == whole.first_out + expected.shape[1]


def test_with_the_real_model_too() -> None:
    model, rate = load_model("lite"), 44_100
    plan = opened(model, rate, rate, 0).plan
    stride, reach = plan.at(plan.stride, rate), plan.at(plan.reach, rate)
    chunk = HOURS // stride
    origin = chunk * stride - reach
    x = noise(reach + 2 * stride + 10_000)
    whole, late = opened(model, rate, rate, origin - 10_000), opened(model, rate, rate, origin)
    expected, got = high_of(whole, x, 50_000), high_of(late, x[:, 10_000:], 33_333)
    assert got.any()
    np.testing.assert_array_equal(
        got[:, chunk * stride - late.first_out :], expected[:, chunk * stride - whole.first_out :]
    )


def test_what_it_gives_begins_on_the_grid_and_was_silent_before() -> None:
    """Silence before the origin is silence that was sent."""
    model, rate, origin = NoiseModel(), 16_000, 200_123
    stream = opened(model, rate, rate, origin)
    x = noise(60_000)
    got = high_of(stream, x, 7_000)
    sent = np.concatenate([np.zeros((2, origin), np.float32), x], axis=1)
    expected = high_of(opened(model, rate, rate, 0), sent, sent.shape[1])
    stride = stream.plan.at(stream.plan.stride, rate)
    assert stream.first_out % stride == 0
    assert 0 <= origin - stream.first_out < stride
    np.testing.assert_array_equal(got, expected[:, stream.first_out :])


def test_hours_cost_nothing() -> None:
    tracemalloc.start()
    stream = opened(NoiseModel(), 48_000, 48_000, 24 * HOURS)
    for _ in stream.push_split(noise(48_000)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # a second in, and a chunk's worth of silence before it
