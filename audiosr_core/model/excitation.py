"""From predicted levels to a high band: what sounds in each bin.

The phase of a bin comes from two excitations, mixed by the tonality of its band:

    copied up  bins of the top octave of the low band, moved up by a multiple of 4 bins, so that
               phases stay coherent from frame to frame at 75 % overlap: keeps pitch and attack
    noise      white noise, a function of (seed, absolute time): for what has no pitch

        low band            copied          copied again
    |-----[======]      |[======]       |[======]
        cut/2   cut      cut
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiosr_core.model.lite import LiteConfig

COHERENT_BINS = 4  # n_fft / hop: a shift by this many bins turns every frame by whole circles


def copy_map(num_bins: int, cutoff_bin: int) -> Tensor:
    """For every bin, the bin below the cutoff that it copies; itself below the cutoff."""
    shift = COHERENT_BINS * max(1, cutoff_bin // (2 * COHERENT_BINS))
    bins = torch.arange(num_bins)
    turns = (bins - cutoff_bin) // shift + 1
    return torch.where(bins < cutoff_bin, bins, bins - turns * shift).clamp_min(0)


def band_weights(config: LiteConfig) -> Tensor:
    """Triangles, equal in width on the ERB-rate scale (Glasberg & Moore 1990), [bands, bins]."""
    top = config.sample_rate / 2
    rate = [
        21.4 * math.log10(1 + 0.00437 * top * k / (config.num_bins - 1))
        for k in range(config.num_bins)
    ]
    position = torch.tensor(rate) / rate[-1] * (config.num_bands - 1)
    return (1 - (position[None] - torch.arange(config.num_bands)[:, None]).abs()).clamp_min(0)


def unit(real: Tensor, imag: Tensor) -> Tensor:
    """What brings every bin to magnitude one; an empty bin stays empty."""
    return (real * real + imag * imag).clamp_min(1e-36).rsqrt()


def high_band(
    log_power: Tensor, tonality: Tensor, copied: Tensor, noise: Tensor, mask: Tensor
) -> Tensor:
    """Spectrum of the generated band.

    Real and imaginary parts stay apart until the end: a complex magnitude or quotient guards
    against overflow, which costs several times the arithmetic and cannot happen here.

    Args:
        log_power: log10 power per bin, [batch, frames, bins]
        tonality: 0 noise to 1 copied, [batch, frames, bins]
        copied, noise: the two excitations, complex, any level, [batch, frames, bins]
        mask: 1 where something is to be generated, broadcast to [batch, frames, bins]
    """
    a = tonality * unit(copied.real, copied.imag)
    b = (1 - tonality) * unit(noise.real, noise.imag)
    real = a * copied.real + b * noise.real
    imag = a * copied.imag + b * noise.imag
    level = torch.exp(0.5 * math.log(10.0) * log_power) * mask * unit(real, imag)
    return torch.complex(level * real, level * imag)
