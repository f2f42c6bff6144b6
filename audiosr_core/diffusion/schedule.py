"""How much of a latent is left at each training step: x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε.

  ᾱ
1 |--._
  |     `-._                  cosine: its slope is flat at both ends,
  |          `-._             and at t = 999 nothing of x_0 is left
0 |_______________`--._
  t = 0              999
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECIPROCAL_GUARD = 1e-10
"""The published buffers of 1/ᾱ add this to ᾱ, so that they stay finite at zero SNR."""

LOG_VARIANCE_FLOOR = 1e-20


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise levels that a network was trained with, t = 0 .. steps − 1."""

    alphas_cumprod: NDArray[np.float64]  # ᾱ, falling, in [0, 1), [steps]

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def alphas_cumprod_prev(self) -> NDArray[np.float64]:
        """ᾱ of the step before, 1 before the first, [steps]."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @property
    def betas(self) -> NDArray[np.float64]:
        """The variance that each step adds, 1 − ᾱ_t / ᾱ_(t−1), [steps]."""
        return 1 - self.alphas_cumprod / self.alphas_cumprod_prev

    def buffers(self) -> dict[str, NDArray[np.float32]]:
        """The float32 tables of a published checkpoint, by its names, each [steps].

        The posterior is q(x_(t−1) | x_t, x_0) of Ho et al. 2020, eq. 7.
        """
        bar, before, betas = self.alphas_cumprod, self.alphas_cumprod_prev, self.betas
        variance = betas * (1 - before) / (1 - bar)
        reciprocal = 1 / (bar + RECIPROCAL_GUARD)
        log_variance = np.log(np.maximum(variance, LOG_VARIANCE_FLOOR))
        tables = {
            "betas": betas,
            "alphas_cumprod": bar,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": np.sqrt(bar),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - bar),
            "log_one_minus_alphas_cumprod": np.log(1 - bar),
            "sqrt_recip_alphas_cumprod": np.sqrt(reciprocal),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(reciprocal - 1),
            "posterior_variance": variance,
            "posterior_log_variance_clipped": log_variance,
            "posterior_mean_coef1": betas * np.sqrt(before) / (1 - bar),
            "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - bar),
        }
        return {name: table.astype(np.float32) for name, table in tables.items()}


def cosine_schedule(steps: int = 1000, s: float = 0.008) -> Schedule:
    """The cosine schedule (Nichol & Dhariwal 2021, eq. 17), its betas not clipped.

    So the last ᾱ is exactly 0: zero terminal SNR, which takes a network that predicts v.
    """
    angle = (np.arange(steps + 1) / steps + s) / (1 + s) * np.pi / 2
    kept = np.cos(angle) ** 2
    # the ratio first, as published: 1 − β rounds the last one, 4e-27, to 0
    betas = 1 - kept[1:] / kept[:-1]
    return Schedule(np.cumprod(1 - betas))
