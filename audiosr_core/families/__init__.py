"""Model families: one small protocol, one file a family."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Model(Protocol):
    """Chunk in, generated chunk out.

    A model is pure: what it gives for a stretch of sound depends on that stretch, its context
    and absolute time, never on what was asked before.
    """

    @property
    def id(self) -> str:
        """Name in the store, e.g. ``lite``."""

    @property
    def sample_rate(self) -> int:
        """Hz of what goes in and comes out."""

    @property
    def past_samples(self) -> int:
        """Context before a stretch, at the model's rate, that its result depends on."""

    @property
    def future_samples(self) -> int:
        """Context after a stretch, likewise."""

    @property
    def chunk_seconds(self) -> float:
        """Preferred stride of chunks."""

    @property
    def overlap_seconds(self) -> float:
        """What neighbouring chunks share."""

    def generate(
        self, low: NDArray[np.float32], start: int, cutoff_hz: float, seed: int
    ) -> NDArray[np.float32]:
        """The missing band above `cutoff_hz`; what lies below is unspecified.

        Args:
            low: the original at the model's rate, [channels, samples]
            start: absolute time of low[:, 0] in samples, may be negative
            cutoff_hz: where the original ends
            seed: of the noise, one field for all channels
        """
