"""Noise as a function of (seed, absolute time), never of call order or block size.

sample   0        4096      8192
         |--block 0--|--block 1--|      block i is drawn from Philox(key=seed, counter=i)
               |== asked for ==|

latent frame   -1    0     1     2
              |---|-----|-----|-----|   each frame is a block of its own, for every draw
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096


def white_noise(seed: int, start: int, num_samples: int) -> NDArray[np.float32]:
    """Standard normal noise at absolute samples start .. start + num_samples, [samples].

    `start` may be negative: time before the beginning of a sound has noise too.
    """
    first, last = start // BLOCK, -(-(start + num_samples) // BLOCK)
    blocks = [_block(seed, 0, index, BLOCK) for index in range(first, last)]
    if not blocks:
        return np.zeros(0, np.float32)
    return np.concatenate(blocks)[start - first * BLOCK :][:num_samples]


def latent_noise(
    seed: int,
    first_frame: int,
    num_frames: int,
    channels: int = 16,
    bins: int = 32,
    draw: int = 0,
) -> NDArray[np.float32]:
    """Standard normal noise for a latent, [channels, num_frames, bins].

    Any two windows agree wherever they share a frame: neighbouring chunks, and a region that is
    rendered again, start from the same noise.

    Args:
        seed: names the field
        first_frame: absolute latent frame of [:, 0], may be negative
        num_frames: how many
        channels, bins: of the latent; another size is another field
        draw: 0 for where a sampler starts, i + 1 for the noise of its step i
    """
    frames = range(first_frame, first_frame + num_frames)
    field = np.empty((channels, num_frames, bins), np.float32)
    for i, frame in enumerate(frames):
        field[:, i] = _block(seed, draw + 1, frame, channels * bins).reshape(channels, bins)
    return field


def _block(seed: int, stream: int, index: int, size: int) -> NDArray[np.float32]:
    """Block `index` of one stream of a seed: streams and blocks never share a number."""
    # the lowest words count within a block; negative time wraps to the far end of the highest
    counter = np.array([0, 0, stream, index % 2**64], dtype=np.uint64)
    bits = np.random.Philox(key=seed, counter=counter)
    return np.random.Generator(bits).standard_normal(size, np.float32)
