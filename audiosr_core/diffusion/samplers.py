"""From noise to a latent: the only place that iterates the network.

All samplers have one signature, and all of them move the same way: from what the network says
about x they take an estimate of x_0, and noise that again to the level of the next step.

    x ── network ── v ──┬─ x_0 ── estimate ──┬── x at the next, lower noise level
                        └─ ε ────────────────┘
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
        x = _renoise(x_0, eps, step, eta, noise, i)
        on_step(i)
    return x


def split(x: Tensor, v: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """x_0 and ε of x = √ᾱ x_0 + √(1 − ᾱ) ε, given v (Salimans & Ho 2022, appendix D).

    Exact at ᾱ = 0, where x is all noise: there v says −x_0 and nothing else.
    """
    signal, spread = math.sqrt(alpha), math.sqrt(1 - alpha)
    v = v.to(x.dtype)
    return signal * x - spread * v, signal * v + spread * x


def _renoise(x_0: Tensor, eps: Tensor, step: Step, eta: float, noise: Noise, i: int) -> Tensor:
    """x at the next level: part of the noise is kept, part is drawn anew (eq. 12)."""
    sigma = eta * fresh_noise(step)
    kept = math.sqrt(max(0.0, 1 - step.alpha_next - sigma**2))
    x = math.sqrt(step.alpha_next) * x_0 + kept * eps
    return x + sigma * noise(i) if sigma > 0 else x


def fresh_noise(step: Step) -> float:
    """σ at eta = 1: the deviation of DDPM's posterior (Song et al. 2021, eq. 16)."""
    _, alpha, alpha_next = step
    return math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
