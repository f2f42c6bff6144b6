"""From noise to a latent: the only place that iterates the network.

All samplers have one signature and one way to move; they differ in what they take for x_0
between two noise levels. λ = ln(√ᾱ / √(1 − ᾱ)) grows from −∞ (only noise) to +∞ (only x_0):

    x_0 of the network      o         o         o · · · x        o  evaluated
                                                                 x  where the step goes
    λ                   ──(i−2)─────(i−1)──────(i)──────(i+1)──►

    DDIM         the x_0 at i
    DPM++ 2M     a line through i − 1 and i, averaged over the step
    UniPC        the same; when the network has seen x at i + 1, the step is taken again with a
                 curve through all of them, at no further evaluation
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor

from audiosr_core.diffusion.timesteps import Step

PredictV = Callable[[Tensor, int], Tensor]
Noise = Callable[[int], Tensor]
OnStep = Callable[[int], None]


def _ignore(i: int) -> None:
    pass


def sample_ddim(
    predict_v: PredictV,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    eta: float = 1.0,
    on_step: OnStep = _ignore,
) -> Tensor:
    """Walk from noise to a latent with DDIM (Song et al. 2021, eq. 12; σ from eq. 16).

    Args:
        predict_v: the network; v as in Salimans & Ho 2022, §4
        x: x_T, standard normal, [batch, channels, time, bins]
        steps: where to evaluate and where to go from there
        noise: step index → standard normal like x; the caller owns all randomness, and it is
            asked only for steps that add noise
        eta: 0 for a deterministic walk, 1 for DDPM's noise
        on_step: told after each step; raise from it to cancel
    """
    for i, step in enumerate(steps):
        x_0, eps = split(x, predict_v(x, step.t), step.alpha)
        sigma = eta * fresh_noise(step)
        x = math.sqrt(step.alpha_next) * x_0 + _kept_noise(step, sigma) * eps
        if sigma > 0:
            x = x + sigma * noise(i)
        on_step(i)
    return x


def sample_dpmpp_2m(
    predict_v: PredictV,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    eta: float = 0.0,
    on_step: OnStep = _ignore,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2); arguments as of `sample_ddim`.

    The first step and a step to zero noise are of first order, where a line has no meaning.
    With eta = 1 it is SDE-DPM-Solver++(2M) (ibid., §5).
    """
    last: Node | None = None
    for i, step in enumerate(steps):
        x_0, _ = split(x, predict_v(x, step.t), step.alpha)
        node = (step.log_snr, x_0)
        estimate = _average([node] if last is None else [last, node], step)
        sigma = eta * fresh_noise(step)
        x = _move(x, estimate, step, sigma)
        if sigma > 0:
            x = x + sigma * noise(i)
        last = node
        on_step(i)
    return x


def sample_unipc(
    predict_v: PredictV,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    eta: float = 0.0,
    on_step: OnStep = _ignore,
    order: int = 2,
) -> Tensor:
    """UniPC in its bh2 variant for x_0 (Zhao et al. 2023, algorithms 1 and 2).

    Args as of `sample_ddim`, and order: of the predictor; the corrector's is one more. With
    eta > 0 a step taken again gets the noise that it got before.
    """
    nodes: list[Node] = []  # the newest last
    before, sigma, fresh = x, 0.0, x.new_zeros(())  # of the step last taken
    for i, step in enumerate(steps):
        x_0, _ = split(x, predict_v(x, step.t), step.alpha)
        nodes = [*nodes[-order:], (step.log_snr, x_0)]
        if i > 0:
            x = _move(before, _average(nodes, steps[i - 1]), steps[i - 1], sigma) + fresh
        sigma = eta * fresh_noise(step)
        fresh = sigma * noise(i) if sigma > 0 else x.new_zeros(())
        before = x
        x = _move(x, _average(nodes[-order:], step), step, sigma) + fresh
        on_step(i)
    return x


def split(x: Tensor, v: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """x_0 and ε of x = √ᾱ x_0 + √(1 − ᾱ) ε, given v (Salimans & Ho 2022, appendix D).

    Exact at ᾱ = 0, where x is all noise: there v says −x_0 and nothing else.
    """
    signal, spread = math.sqrt(alpha), math.sqrt(1 - alpha)
    v = v.to(x.dtype)
    return signal * x - spread * v, signal * v + spread * x


def fresh_noise(step: Step) -> float:
    """σ at eta = 1: the deviation of DDPM's posterior (Song et al. 2021, eq. 16)."""
    _, alpha, alpha_next = step
    return math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))


def _kept_noise(step: Step, sigma: float) -> float:
    """What is left for the old noise at the next level, when σ of it is drawn anew."""
    return math.sqrt(max(0.0, 1 - step.alpha_next - sigma**2))


def _move(x: Tensor, x_0: Tensor, step: Step, sigma: float) -> Tensor:
    """x at the next level without its fresh noise, if x_0 were constant on the way."""
    _, alpha, alpha_next = step
    kept = _kept_noise(step, sigma) / math.sqrt(1 - alpha)
    return kept * x + (math.sqrt(alpha_next) - kept * math.sqrt(alpha)) * x_0


Node = tuple[float, Tensor]
"""λ, and the x_0 that the network gave there."""


def _average(nodes: Sequence[Node], step: Step) -> Tensor:
    """The constant x_0 that moves x as the polynomial through `nodes` would.

    The exact solution weights x_0 by e^λ dλ (Lu et al. 2022, proposition 4.1). The polynomial
    runs in λ; where a node or the step begins at λ = −∞, it runs in e^λ instead, in which x_0 is
    smooth there. A step to λ = +∞ takes the x_0 that it starts from.
    """
    start, end = step.log_snr, step.log_snr_next
    if end == math.inf:
        return next(x_0 for place, x_0 in reversed(nodes) if place == start)
    places = [place for place, _ in nodes]
    slope = end - start
    if -math.inf in places:
        places = [math.exp(place) for place in places]
        start, end, slope = math.exp(start), math.exp(end), 0.0
    weights = _weights(tuple((place - start) / (end - start) for place in places), slope)
    total = weights[0] * nodes[0][1]
    for weight, (_, x_0) in zip(weights[1:], nodes[1:], strict=True):
        total = total + weight * x_0
    return total


@lru_cache(maxsize=4096)
def _weights(places: tuple[float, ...], slope: float) -> tuple[float, ...]:
    """How much of each node is in the average of the polynomial through them.

    Args:
        places: of the nodes; the step runs from 0 to 1
        slope: the average is over e^(slope · place)

    Two nodes take the plain mean of the line: bh2's choice for order 2, and DPM++'s.
    """
    s, weight = np.polynomial.legendre.leggauss(16)
    s = (s + 1) / 2
    weight = weight * np.exp(slope * (s - 1))
    powers = np.arange(len(places))
    moments = (weight @ s[:, None] ** powers) / weight.sum()
    if len(places) == 2:
        moments[1] = 0.5
    rows = np.asarray(places)[None, :] ** powers[:, None]
    return tuple(float(one) for one in np.linalg.solve(rows, moments))
