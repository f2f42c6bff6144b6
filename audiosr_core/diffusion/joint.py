"""Denoise overlapping windows of one long latent together (MultiDiffusion, Bar-Tal et al. 2023).

At every step each window is predicted by itself and the predictions are averaged where windows
meet, so that all of them walk towards one sound and there is nothing left to crossfade.

    window 0   ──────────╲
                          ╲            the weights, which sum to one
    window 1             ╱ ──────────
               |---------|==|--------|
                         overlap
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiosr_core.errors import UsageError


def joint(
    predict: Callable[..., Tensor], windows: Sequence[slice], batch: int | None = None
) -> Callable[..., Tensor]:
    """A network for a window of time as a network for all of the latent.

    Averaging v is averaging x_0 (or ε): at one x and t each is an affine function of the other
    with the same coefficients in every window, and the weights sum to one.

    Args:
        predict: (x, t, *conditions) → v; x, conditions and v [batch, channels, time, bins]
        windows: of the time axis, in order, all of one length, together the whole axis; each
            overlaps only its neighbours
        batch: rows of x that the network sees at once; None for all windows in one call

    Returns:
        The same function for the whole time axis; conditions are cut like x.

    Raises:
        UsageError: windows that leave a gap, differ in length or overlap beyond a neighbour
    """
    _check(windows)
    weights = [torch.tensor(one)[:, None] for one in window_weights(windows)]

    def predict_all(x: Tensor, t: int, *conditions: Tensor) -> Tensor:
        if x.shape[-2] != windows[-1].stop:
            raise UsageError(
                f"the windows cover {windows[-1].stop} frames, but the latent has {x.shape[-2]}"
            )
        rows = [torch.cat([one[..., at, :] for at in windows]) for one in (x, *conditions)]
        size = batch or len(rows[0])
        parts = [
            predict(pieces[0], t, *pieces[1:])
            for pieces in zip(*(torch.split(one, size) for one in rows), strict=True)
        ]
        v = torch.zeros_like(x)
        by_window = torch.split(torch.cat(parts).to(x.dtype), len(x))
        for at, weight, part in zip(windows, weights, by_window, strict=True):
            v[..., at, :] += weight.to(x) * part
        return v

    return predict_all


def window_weights(windows: Sequence[slice]) -> list[list[float]]:
    """Per window and frame, its share of the average: squared sines in every overlap."""
    shares = [[1.0] * (at.stop - at.start) for at in windows]
    for k, (a, b) in enumerate(itertools.pairwise(windows)):
        overlap = a.stop - b.start
        for i in range(overlap):
            rising = math.sin(math.pi / 2 * (i + 0.5) / overlap) ** 2
            shares[k][i - overlap] = 1 - rising
            shares[k + 1][i] = rising
    return shares


def _check(windows: Sequence[slice]) -> None:
    if not windows or windows[0].start != 0:
        raise UsageError("joint denoising needs windows that begin at frame 0")
    lengths = {at.stop - at.start for at in windows}
    if len(lengths) != 1:
        raise UsageError(f"all windows must have one length, got {sorted(lengths)} frames")
    for a, b in itertools.pairwise(windows):
        if not a.start < b.start <= a.stop:
            raise UsageError(
                f"windows must follow each other without a gap, but {b.start} .. {b.stop} comes"
                f" after {a.start} .. {a.stop}"
            )
    for a, b in zip(windows, windows[2:], strict=False):
        if b.start < a.stop:
            raise UsageError(
                f"a window may overlap only its neighbours, but {a.start} .. {a.stop} reaches"
                f" into {b.start} .. {b.stop}"
            )
