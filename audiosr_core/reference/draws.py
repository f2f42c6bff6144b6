"""All randomness of the published pipeline, in its order.

    numpy    filter kind
    torch    posterior (discarded)   posterior of the condition   x_T   step 1   step 2  ...

Each chunk of a long sound begins with one more number of torch's, of which nothing is made.

One `Draws` serves many runs, as one global generator did: each goes on where the last one stopped.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audiosr_core.errors import SettingsError
from audiosr_core.lowpass import FILTER_KINDS, FilterKind

LAST_SEED = 2**32 - 1


class Draws:
    """Numbers of the two generators that the published code seeds globally; these are its own."""

    def __init__(self, seed: int) -> None:
        if not 0 <= seed <= LAST_SEED:
            raise SettingsError(f"seed must be 0 to {LAST_SEED} in reference mode, got {seed}")
        self._choices = np.random.RandomState(seed)
        self._noise = torch.Generator().manual_seed(seed)

    def filter_kind(self) -> FilterKind:
        """The next of the four kinds."""
        return FILTER_KINDS[self._choices.randint(len(FILTER_KINDS))]

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """The next standard normal float32 numbers; drawn by the CPU, whatever the device."""
        return torch.randn(shape, generator=self._noise)

    def unused(self) -> None:
        """Pass over one number of torch's generator."""
        torch.rand(1, generator=self._noise)
