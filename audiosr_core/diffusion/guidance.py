"""Classifier-free guidance: away from what the network says without a condition.

       scale 1        scale s
v_u ──────▪──────────────▪───►        v = v_u + s (v_c − v_u)
          v_c

batch of x        1     2               one call of the network:
network sees      1+c₁  2+c₂  1+u  2+u  with the condition, then without
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audiosr_core.diffusion.samplers import PredictV

Predict = Callable[[Tensor, int, Tensor], Tensor]
"""The network: (x, t, condition), both [batch, channels, time, bins] → v like x."""


def guided(
    predict: Predict,
    condition: Tensor,
    unconditional: float,
    scale: float = 3.5,
    interval: tuple[int, int] = (0, 1000),
    rescale: float = 0.0,
    share_at: int | None = None,
) -> PredictV:
    """The network with its condition and guidance (Ho & Salimans 2022, eq. 6).

    Args:
        predict: called once a step, with both branches in one batch
        condition: as the network takes it (scaled), [batch, channels, time, bins]
        unconditional: the constant latent that means "no condition", scaled like `condition`
        scale: 1 for the plain conditional network, at half the work
        interval: guidance at first ≤ t < last only; outside, the conditional network alone at
            half the work (Kynkäänniemi et al. 2024, eq. 5)
        rescale: φ, from 0 (off) to 1, how far each sound's deviation is brought back to that of
            v_c (Lin et al. 2023, eq. 14 to 16)
        share_at: a timestep at which rows of x may be equal: the first step of linked channels,
            which start from the same noise. Rows equal to the bit then share one unconditional
            row, whose result is theirs by definition. Elsewhere nothing is compared
    """
    first, last = interval

    def predict_v(x: Tensor, t: int) -> Tensor:
        if scale == 1 or not first <= t < last:
            return predict(x, t, condition)
        bare, rows = _distinct(x) if t == share_at else (x, None)
        nothing = condition.new_full((len(bare), *condition.shape[1:]), unconditional)
        both = predict(torch.cat([x, bare]), t, torch.cat([condition, nothing]))
        v_c, v_u = both[: len(x)], both[len(x) :]
        if rows is not None:
            v_u = v_u[rows]
        v = v_u + scale * (v_c - v_u)
        return _rescaled(v, v_c, rescale) if rescale else v

    return predict_v


def _distinct(x: Tensor) -> tuple[Tensor, list[int]]:
    """The different rows of x in order, and for every row of x which of them it equals."""
    kept: list[int] = []
    rows: list[int] = []
    for i in range(len(x)):
        same = next((k for k, j in enumerate(kept) if torch.equal(x[j], x[i])), None)
        if same is None:
            same = len(kept)
            kept.append(i)
        rows.append(same)
    return x[kept], rows


def _rescaled(v: Tensor, like: Tensor, amount: float) -> Tensor:
    """v with its deviation, sound by sound, brought `amount` of the way to that of `like`."""
    axes = tuple(range(1, v.ndim))
    ratio = like.std(axes, keepdim=True) / v.std(axes, keepdim=True)
    return v * (1 + amount * (ratio - 1))
