"""Laws of diffusion, with networks that know the answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audiosr_core.diffusion import (
    SAMPLERS,
    Step,
    cosine_schedule,
    guided,
    joint,
    sample_ddim,
    sample_dpmpp_2m,
    sample_unipc,
    steps_reference,
    steps_solver,
    steps_trailing,
)
from audiosr_core.diffusion.joint import window_weights
from audiosr_core.diffusion.samplers import fresh_noise, split
from audiosr_core.errors import SettingsError, UsageError
from tests.support.parity import parity_folder

SCHEDULE = cosine_schedule()
SHAPE = (2, 3, 8, 4)
WALKS = (sample_ddim, sample_dpmpp_2m, sample_unipc)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


def drawn(i: int) -> Tensor:
    return normal(1000 + i)


def unasked(i: int) -> Tensor:
    raise AssertionError("a deterministic walk asks for no noise")


def knows(x_0: Tensor) -> Callable[[Tensor, int], Tensor]:
    """The network of a world with one sound."""

    def predict_v(x: Tensor, t: int) -> Tensor:
        a = float(SCHEDULE.alphas_cumprod[t])
        eps = (x - math.sqrt(a) * x_0) / math.sqrt(1 - a)
        return math.sqrt(a) * eps - math.sqrt(1 - a) * x_0

    return predict_v


def gaussian_v(x: Tensor, alpha: float, mean: float, deviation: float) -> Tensor:
    """v of a world where every value of a latent is N(mean, deviation²)."""
    variance = alpha * deviation**2 + 1 - alpha
    x_0 = mean + deviation**2 * math.sqrt(alpha) / variance * (x - math.sqrt(alpha) * mean)
    return (math.sqrt(alpha) * x - x_0) / math.sqrt(1 - alpha)


# ---- schedule and timesteps


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(parity_folder() / "schedule.npz") as tables:
        return dict(tables)


def test_the_schedule_is_the_recorded_one(recorded):
    bar = SCHEDULE.alphas_cumprod
    assert bar[-1] == 0
    np.testing.assert_allclose(bar, recorded["f64_alphas_cumprod"], atol=1e-14)
    np.testing.assert_allclose(SCHEDULE.betas, recorded["f64_betas"], atol=1e-14)
    for name, table in SCHEDULE.buffers().items():
        np.testing.assert_allclose(table, recorded[f"buffer/{name}"], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("count", [7, 10, 30, 50, 200])
def test_the_published_steps_are_the_recorded_ones(recorded, count):
    steps = steps_reference(SCHEDULE, count)[::-1]
    assert [step.t for step in steps] == recorded[f"ddim{count}/timesteps"].tolist()
    for name, ours in (
        ("alphas", [step.alpha for step in steps]),
        ("alphas_prev", [step.alpha_next for step in steps]),
        ("sigmas_eta1", [fresh_noise(step) for step in steps]),
    ):
        np.testing.assert_allclose(ours, recorded[f"f64_ddim{count}/{name}"], atol=1e-7)


def test_the_published_counts_that_fail_are_the_recorded_ones(recorded):
    numbers = recorded["effective_step_count_for_request_1_to_1000"]
    fails = set(recorded["requested_steps_that_raise_IndexError"].tolist())
    for count in range(1, 1001):
        if count in fails:
            with pytest.raises(SettingsError, match=f"{count} steps"):
                steps_reference(SCHEDULE, count)
        else:
            assert len(steps_reference(SCHEDULE, count)) == numbers[count - 1]


def test_a_count_that_fails_names_its_neighbours():
    with pytest.raises(SettingsError, match=r"ask for 250 or 334,"):
        steps_reference(SCHEDULE, 292)
    with pytest.raises(SettingsError, match=r"ask for 500,"):
        steps_reference(SCHEDULE, 700)


@pytest.mark.parametrize("power", [1.0, 1.2, 2.0])
def test_every_count_of_trailing_steps_is_exact(power):
    for count in range(1, 1001):
        steps = steps_trailing(SCHEDULE, count, power)
        t = [step.t for step in steps]
        assert len(t) == count
        assert t[0] == 999
        assert t[-1] >= 0
        assert all(a > b for a, b in itertools.pairwise(t))
        assert steps[0].alpha == 0
        assert steps[-1].alpha_next == 1
        assert all(a.alpha_next == b.alpha for a, b in itertools.pairwise(steps))


@pytest.mark.parametrize("count", [-1, 0, 1001])
@pytest.mark.parametrize("choose", [steps_reference, steps_solver, steps_trailing])
def test_a_count_out_of_range_is_an_error(choose, count):
    with pytest.raises(SettingsError, match=f"1 to 1000, got {count}"):
        choose(SCHEDULE, count)


# ---- samplers


def test_at_zero_snr_v_is_exactly_minus_x_0():
    x, v = normal(1), normal(2)
    x_0, eps = split(x, v, 0.0)
    assert torch.equal(x_0, -v)
    assert torch.equal(eps, x)


@pytest.mark.parametrize("name", SAMPLERS)
@given(count=st.integers(2, 60), eta=st.sampled_from([0.0, 0.4, 1.0]))
@settings(max_examples=25, deadline=None)
def test_with_a_network_that_knows_the_answer_every_sampler_arrives(name, count, eta):
    sampler, x_0 = SAMPLERS[name], normal(3)
    try:
        steps = sampler.steps(SCHEDULE, count)
    except SettingsError:
        assert name == "ddim"
        return
    y = sampler.sample(knows(x_0), normal(4), steps, drawn, eta)
    # the published steps end at ᾱ_0: noise of 0.0064 stays, five deviations of it
    np.testing.assert_allclose(y, x_0, atol=0.035 if name == "ddim" else 2e-5)


def ladder(count: int) -> list[Step]:
    """Steps evenly spaced in λ between two finite levels, where t only counts them."""
    bar = [1 / (1 + math.exp(-2 * one)) for one in np.linspace(-2, 1, count + 1)]
    return [Step(i, bar[i], bar[i + 1]) for i in range(count)]


@pytest.mark.parametrize(
    ("walk", "order"), [(sample_ddim, 1), (sample_dpmpp_2m, 2), (sample_unipc, 3)]
)
@pytest.mark.parametrize("deviation", [0.3, 1.2, 3.0])
def test_twice_the_steps_divide_the_error_by_two_to_the_order(walk, order, deviation):
    errors = [gaussian_error(walk, ladder(count), deviation) for count in (80, 160)]
    # the next order still adds up to a fifth at 80 steps
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)


def gaussian_error(walk, steps: list[Step], deviation: float) -> float:
    """How far a walk ends from where the probability flow ends, in float64."""
    z, mean = normal(5).double(), 0.5

    def at(alpha: float) -> Tensor:  # the flow keeps every value at its quantile
        return math.sqrt(alpha) * mean + math.sqrt(alpha * deviation**2 + 1 - alpha) * z

    y = walk(
        lambda x, t: gaussian_v(x, steps[t].alpha, mean, deviation),
        at(steps[0].alpha),
        steps,
        unasked,
        0.0,
    )
    return float((y - at(steps[-1].alpha_next)).square().mean().sqrt())


@pytest.mark.parametrize("deviation", [0.3, 0.6, 1.2, 3.0])
def test_ten_steps_of_unipc_are_no_worse_than_thirty_of_ddim(deviation):
    def error(name: str, count: int) -> float:
        steps = SAMPLERS[name].steps(SCHEDULE, count)
        y = SAMPLERS[name].sample(
            lambda x, t: gaussian_v(x, float(SCHEDULE.alphas_cumprod[t]), 0.5, deviation),
            normal(6).double(),
            steps,
            unasked,
            0.0,
        )
        return float((y - (0.5 + deviation * normal(6).double())).square().mean().sqrt())

    assert error("unipc", 10) <= error("ddim-trailing", 30)
    assert error("dpm++2m", 10) <= error("ddim-trailing", 15)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("walk", [sample_dpmpp_2m, sample_unipc])
def test_one_step_of_every_solver_is_ddim(walk, eta):
    for step in steps_trailing(SCHEDULE, 5):
        a = walk(lambda x, t: normal(7), normal(8), [step], drawn, eta)
        b = sample_ddim(lambda x, t: normal(7), normal(8), [step], drawn, eta)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)  # float32, in another order


@pytest.mark.parametrize("choose", [steps_reference, steps_trailing, steps_solver])
@pytest.mark.parametrize("walk", WALKS)
def test_the_rows_of_a_batch_do_not_see_each_other(walk, choose):
    def predict_v(x: Tensor, t: int) -> Tensor:
        return torch.sin(3 * x) + 0.001 * t

    steps, x = choose(SCHEDULE, 10), normal(9)
    both = walk(predict_v, x, steps, drawn, 0.5)
    for i in range(len(x)):
        alone = walk(predict_v, x[i : i + 1], steps, lambda k, i=i: drawn(k)[i : i + 1], 0.5)
        assert both.dtype == torch.float32
        torch.testing.assert_close(alone[0], both[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("walk", WALKS)
def test_who_is_told_of_steps_may_cancel(walk):
    calls: list[int] = []

    def stop(i: int) -> None:
        calls.append(i)
        if i == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk(knows(normal(1)), normal(2), steps_trailing(SCHEDULE, 10), unasked, 0.0, stop)
    assert calls == [0, 1, 2]


@pytest.mark.parametrize("walk", WALKS)
def test_noise_is_asked_for_once_per_noisy_step(walk):
    calls: list[int] = []

    def noise(i: int) -> Tensor:
        calls.append(i)
        return drawn(i)

    walk(knows(normal(1)), normal(2), steps_trailing(SCHEDULE, 4), noise, 1.0)
    assert calls == [0, 1, 2]  # a step to no noise draws none
    calls.clear()
    walk(knows(normal(1)), normal(2), steps_reference(SCHEDULE, 4), noise, 1.0)
    assert calls == [0, 1, 2, 3]


# ---- guidance


class Network:
    """v depends on x, t and the condition; counts the rows it was asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Tensor, t: int, condition: Tensor) -> Tensor:
        self.rows.append(len(x))
        return 0.3 * x + torch.tanh(condition) * (1 + t / 1000)


def test_guidance_is_the_formula_in_one_call():
    network, x, c = Network(), normal(1), normal(2)
    v = guided(network, c, -3.8, scale=3.5)(x, 500)
    assert network.rows == [4]
    v_c, v_u = network(x, 500, c), network(x, 500, torch.full_like(c, -3.8))
    torch.testing.assert_close(v, v_u + 3.5 * (v_c - v_u))


@given(t=st.integers(0, 999), first=st.integers(0, 1000), last=st.integers(0, 1000))
def test_outside_its_interval_guidance_costs_nothing(t, first, last):
    network, x, c = Network(), normal(1, 1, 1, 2, 2), normal(2, 1, 1, 2, 2)
    v = guided(network, c, -3.8, 2.0, (first, last))(x, t)
    inside = first <= t < last
    assert network.rows == [2 if inside else 1]
    assert inside or torch.equal(v, network(x, t, c))


def test_a_scale_of_one_is_the_conditional_network():
    network, x, c = Network(), normal(1), normal(2)
    assert torch.equal(guided(network, c, -3.8, scale=1.0)(x, 7), network(x, 7, c))
    assert network.rows == [2, 2]


def test_equal_rows_share_one_unconditional_row_and_nothing_changes():
    a, b = normal(1, 2, 3, 8, 4)
    x = torch.stack([a, b, a, a])
    c = normal(2, 4, 3, 8, 4)
    plain, shared = Network(), Network()
    expected = guided(plain, c, -3.8)(x, 999)
    predict_v = guided(shared, c, -3.8, share_at=999)
    assert torch.equal(predict_v(x, 999), expected)
    predict_v(x, 900)
    assert plain.rows == [8]
    assert shared.rows == [6, 8]


def test_rescaled_guidance_has_the_deviation_of_the_condition():
    network, x, c = Network(), normal(1), normal(2)
    v = guided(network, c, -3.8, 3.5, rescale=1.0)(x, 500)
    v_c = network(x, 500, c)
    assert not torch.allclose(guided(network, c, -3.8, 3.5)(x, 500).std(), v_c.std())
    torch.testing.assert_close(v.std((1, 2, 3)), v_c.std((1, 2, 3)))


# ---- joint windows


def test_one_window_is_the_plain_network():
    network, x, c = Network(), normal(1), normal(2)
    assert torch.equal(joint(network, [slice(0, 8)])(x, 5, c), network(x, 5, c))


@given(
    length=st.integers(1, 12),
    stride=st.integers(1, 12),
    count=st.integers(1, 6),
    batch=st.one_of(st.none(), st.integers(1, 9)),
)
@settings(deadline=None)
def test_windows_of_a_pointwise_network_are_the_whole(length, stride, count, batch):
    stride = min(max(stride, (length + 1) // 2), length)
    windows = [slice(i * stride, i * stride + length) for i in range(count)]
    network, whole = Network(), Network()
    x, c = normal(1, 2, 3, windows[-1].stop, 4), normal(2, 2, 3, windows[-1].stop, 4)
    v = joint(network, windows, batch)(x, 5, c)
    torch.testing.assert_close(v, whole(x, 5, c), atol=1e-6, rtol=0)  # weights sum to one
    assert max(network.rows) <= (batch or 2 * count)
    total = np.zeros(windows[-1].stop)
    for at, weights in zip(windows, window_weights(windows), strict=True):
        assert min(weights) > 0
        total[at] += weights
    np.testing.assert_allclose(total, 1, rtol=1e-15)


def test_windows_walk_together_to_one_sound():
    """Two windows that want different sounds agree on one in their overlap."""
    windows = [slice(0, 8), slice(4, 12)]
    wanted = torch.cat([torch.zeros(1, 3, 8, 4), torch.ones(1, 3, 8, 4)])

    steps = steps_solver(SCHEDULE, 10)
    y = sample_unipc(
        joint(lambda x, t: knows(wanted)(x, t), windows), normal(1, 1, 3, 12, 4), steps, unasked
    )
    expected = torch.tensor([0.0] * 4 + window_weights(windows)[1][:4] + [1.0] * 4)
    torch.testing.assert_close(y.mean((0, 1, 3)), expected, atol=1e-5, rtol=0)


def test_guidance_and_windows_combine():
    windows = [slice(0, 8), slice(6, 14)]
    network, x, c = Network(), normal(1, 2, 3, 14, 4), normal(2, 2, 3, 14, 4)
    v = guided(joint(network, windows), c, -3.8)(x, 300)
    assert network.rows == [8]
    torch.testing.assert_close(v, guided(network, c, -3.8)(x, 300), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "windows",
    [
        [],
        [slice(1, 9)],
        [slice(0, 8), slice(9, 17)],
        [slice(0, 8), slice(4, 11)],
        [slice(0, 8), slice(0, 8)],
        [slice(0, 8), slice(2, 10), slice(4, 12)],
    ],
)
def test_windows_that_do_not_tile_are_an_error(windows):
    with pytest.raises(UsageError, match="window"):
        joint(Network(), windows)


def test_a_latent_of_another_length_is_an_error():
    with pytest.raises(UsageError, match="cover 8 frames, but the latent has 9"):
        joint(Network(), [slice(0, 8)])(normal(1, 1, 1, 9, 1), 0)
