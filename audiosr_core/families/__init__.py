"""Model families: one small protocol, one file a family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audiosr_core.settings import Settings


@dataclass(frozen=True)
class Condition:
    """What a model is told beside the sound; the same for every chunk unless the cutoff follows."""

    cutoff_hz: float  # where the original ends
    settings: Settings = field(default_factory=Settings)  # the seed, and the sampler's knobs
    peak: float = 1.0  # of the whole sound, for models that want to hear it at a certain level
    on_step: Callable[[], None] = lambda: None  # called all along; raise from it to cancel


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
    def anchored(self) -> bool:
        """What it gives has the level of the original of itself: no gain law is measured."""

    @property
    def grid_samples(self) -> int:
        """The model works on this grid of absolute time: slices best begin on it."""

    def stride_seconds(self, settings: Settings) -> float:
        """From one chunk to the next; shorter, best, where the cutoff follows the sound."""

    @property
    def overlap_seconds(self) -> float:
        """What neighbouring chunks share."""

    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        """The missing band above the cutoff; what lies below is unspecified.

        Channels are linked: one field of noise serves them all.

        Args:
            low: the original at the model's rate, [channels, samples]
            start: absolute time of low[:, 0] in samples, may be negative
        """
