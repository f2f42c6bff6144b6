"""White noise as a function of (seed, absolute time), never of call order or block size.

sample   0        4096      8192
         |--block 0--|--block 1--|      block i is drawn from Philox(key=seed, counter=i)
               |== asked for ==|
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
    blocks = [_block(seed, index) for index in range(first, last)]
    if not blocks:
        return np.zeros(0, np.float32)
    return np.concatenate(blocks)[start - first * BLOCK :][:num_samples]


def _block(seed: int, index: int) -> NDArray[np.float32]:
    # the top word of the counter: negative time wraps to its far end
    counter = np.array([0, 0, 0, index % 2**64], dtype=np.uint64)
    bits = np.random.Philox(key=seed, counter=counter)
    return np.random.Generator(bits).standard_normal(BLOCK, np.float32)
