"""Weights defined by arithmetic: any size of the networks, the same everywhere, nothing to fetch.

    key ── CRC-32 ──┐
                    ├── base ── splitmix64(base, i) ── u_i in [−1, 1) ── scaled by the shape
    seed ───────────┘                                                    and kind of the tensor

The recipe is the one in the parity set's manifest (`full_config_recipe`), whose recorded outputs
of the published networks at full size were made with it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosr_core.model.audiosr import layout
from audiosr_core.model.config import AudioSRConfig

SEED = 20230915
BLOCK = 1 << 18  # numbers at once: what the processor's cache holds
GOLDEN = 0x9E3779B97F4A7C15
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))

INPUTS = {  # name → scale, offset
    "unet_x": (1.0, 0.0),
    "unet_cond": (4.0, 0.8),
    "vae_mel": (1.8, -6.0),
    "vae_z_scaled": (0.6, 0.0),
    "vocoder_mel": (1.5, -5.0),
}


def recipe_weights(config: AudioSRConfig, seed: int = SEED) -> dict[str, Tensor]:
    """Every weight of networks of these sizes, float32, under official keys."""
    return {key: recipe_weight(key, shape, seed) for key, shape in layout(config).items()}


def recipe_weight(key: str, shape: tuple[int, ...], seed: int = SEED) -> Tensor:
    """One weight, float32."""
    if key == "first_stage_model.decoder.conv_out.bias":
        return torch.full(shape, -5.5)  # so that mels are about as loud as sounds are
    if key.endswith(".bias"):
        scale, offset = 0.05, 0.0
    elif len(shape) == 1:
        scale, offset = 0.1, 1.0
    else:
        fan = 2 * shape[0] if ".vocoder.ups." in key else math.prod(shape[1:])
        scale, offset = math.sqrt(3 / fan), 0.0
    weight = _filled(key, shape, scale, offset, seed)
    return weight * 0.35 if key == "first_stage_model.vocoder.conv_post.weight" else weight


def recipe_input(name: str, shape: tuple[int, ...], seed: int = SEED) -> Tensor:
    """An input of one of the networks, float32; names as in INPUTS."""
    scale, offset = INPUTS[name]
    return _filled(f"input/{name}", shape, scale * math.sqrt(3), offset, seed)


def _filled(key: str, shape: tuple[int, ...], scale: float, offset: float, seed: int) -> Tensor:
    flat = np.empty(math.prod(shape), np.float32)
    place = 0
    for u in uniform(key, len(flat), seed):
        flat[place : place + len(u)] = u * scale + offset
        place += len(u)
    return torch.from_numpy(flat.reshape(shape))


def uniform(key: str, count: int, seed: int = SEED) -> Iterator[NDArray[np.float64]]:
    """The first `count` numbers of the key's stream, in [−1, 1), block by block."""
    base = (zlib.crc32(key.encode()) << 32) | (seed & 0xFFFFFFFF)
    for first in range(0, count, BLOCK):
        z = np.arange(first + 1, min(first + BLOCK, count) + 1, dtype=np.uint64)
        z *= np.uint64(GOLDEN)
        z += np.uint64(base)
        for shift, factor in MIX:
            z ^= z >> np.uint64(shift)
            z *= np.uint64(factor)
        z ^= z >> np.uint64(31)
        yield (z >> np.uint64(40)) * 2.0**-23 - 1
