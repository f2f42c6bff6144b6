"""Streams of this process, whose chunks outlive it: what was computed once is only read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from audiosr_core.decision import Decision
from audiosr_core.engine import Engine
from audiosr_core.settings import Settings
from audiosr_core.stream import Stream, high_band
from bridge.cache import CachedCompute, ChunkCache, cached
from bridge.worker_engine import RealEngine

CACHE_BYTES = 10 << 30


class CachedStreams:
    """Opens streams, and counts what they compute.

    Args:
        num_samples: of each of them
    """

    def __init__(self, folder: Path, sample_rate: int, num_samples: int) -> None:
        self._cache = ChunkCache(folder, CACHE_BYTES)
        self._sample_rate, self._num_samples = sample_rate, num_samples
        self._computes: list[CachedCompute] = []
        self.num_chunks = 0

    @property
    def num_cached(self) -> int:
        """Chunks that were there already."""
        return sum(compute.hits for compute in self._computes)

    def open(
        self,
        engine: Engine,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        on_step: Callable[[], None],
    ) -> Stream:
        place = RealEngine(engine.device, engine.precision).place
        compute = cached(
            self._cache, high_band, engine.model_sha256(settings), lambda: place(settings)
        )
        stream = engine.open(
            self._sample_rate, num_channels, settings, decision, None, on_step, compute
        )
        if decision.extends:
            self._computes.append(compute)
            self.num_chunks += stream.plan.num_chunks(self._num_samples)
        return stream

    def settle(self) -> None:
        """Wait until every chunk is on the disk."""
        self._cache.settle()
