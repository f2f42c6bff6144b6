"""Engines for tests of daemon and worker: quick, without torch or scipy, and some that misbehave.

Used as `--engine tests.support.bridge_engines:echo`. What a worker process should do is read from
the environment, which it has from the test through the daemon:

    BRIDGE_TEST_CHUNK_SECONDS   of sound in a chunk: 0.1
    BRIDGE_TEST_STEPS           of a chunk, each of which may be cancelled: 5
    BRIDGE_TEST_STEP_SECONDS    time that one takes, for `slow`: 0.02
    BRIDGE_TEST_AT              the chunk at which something happens: 1
    BRIDGE_TEST_FLAG            a file: with it, it happens once, and the file is there afterwards
    BRIDGE_TEST_COUNT           a file: `counted` writes a line for each chunk it begins
    BRIDGE_TEST_LOAD_SECONDS    time that loading a model takes: 0
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Audio, Samples, check_finite
from audiosr_core.chunking import ChunkPlan
from audiosr_core.errors import ModelError, SettingsError
from audiosr_core.settings import Settings

MODEL_SHA256 = "0" * 64

HighBand = NDArray[np.float32]


def echo_of(x: Samples, seed: int = 0) -> Samples:
    """What `echo` makes of a whole sound: the input, and a little of it again."""
    return (x + x.astype(np.float32) * gain_of(seed)).astype(x.dtype)


def gain_of(seed: int) -> np.float32:
    return np.float32((seed % 1000 + 1) / 1024)


@dataclass(frozen=True)
class FakeCutoff:
    hz: float
    confidence: float = 1.0
    full_band: bool = False
    note: str = ""


@dataclass(frozen=True)
class FakeDecision:
    """The fields of `audiosr_core.decision.Decision`, without its imports."""

    rate_out: int
    cutoff: FakeCutoff
    skipped: tuple[bool, ...]
    extends: bool = True
    follow: bool = False
    gain_db: float = 0.0
    note: str = ""
    peak: float = 1.0


@dataclass
class FakeStream:
    """Chunks without overlap; what `audiosr_core.stream.Stream` gives, piece by piece."""

    plan: ChunkPlan
    num_channels: int
    settings: Settings
    decision: FakeDecision
    region: tuple[int, int] | None
    on_step: Callable[[], None]
    compute: Any
    origin: int = 0
    kept: list[Samples] = field(default_factory=list)
    received: int = field(init=False)
    index: int = field(init=False)

    def __post_init__(self) -> None:
        self.received, self.index = self.origin, self.origin // self.stride
        self.kept = [np.zeros((self.num_channels, self.origin % self.stride), np.float32)]

    @property
    def first_out(self) -> int:
        return self.origin // self.stride * self.stride

    @property
    def latency_samples(self) -> int:
        return self.stride

    @property
    def stride(self) -> int:
        return self.plan.at(self.plan.stride, self.plan.rate_in)

    def push_split(self, samples: Samples) -> Iterator[tuple[Samples, HighBand]]:
        check_finite(samples, self.received, self.plan.rate_in)
        self.kept = [one.astype(samples.dtype, copy=False) for one in self.kept]
        self.kept.append(samples.copy())
        self.received += samples.shape[1]
        return self._settle(self.stride)

    def flush_split(self) -> Iterator[tuple[Samples, HighBand]]:
        return self._settle(1) if self.received > self.origin else iter(())

    def _settle(self, least: int) -> Iterator[tuple[Samples, HighBand]]:
        while self.received - self.index * self.stride >= least:
            kept = np.concatenate(self.kept, axis=1)
            piece, self.kept = kept[:, : self.stride], [kept[:, self.stride :]]
            high = self.compute(
                None, self.plan, self.index, piece, self.decision, self.settings, self.on_step
            )[:, : piece.shape[1]]
            if self.region:
                place = self.index * self.stride + np.arange(high.shape[1])
                inside = (place >= self.region[0]) & (place < self.region[1])
                high = np.where(inside, high, np.float32(0))
            self.index += 1
            yield piece, high


@dataclass
class FakeLive:
    """Small steps on an absolute grid, with a little latency; adds what `echo` adds."""

    num_channels: int
    origin: int
    gain: np.float32
    rate: int
    latency_samples: int = 300

    def __post_init__(self) -> None:
        self.plan = ChunkPlan(self.rate, self.rate, self.rate, 64, 0, 0, self.latency_samples - 64)
        self._kept = np.zeros((self.num_channels, 0), np.float32)
        self._received = self._given = self.origin

    def push_split(self, samples: Samples) -> Iterator[tuple[Samples, HighBand]]:
        check_finite(samples, self._received, self.rate)
        self._kept = np.concatenate([self._kept, samples], axis=1)
        self._received += samples.shape[1]
        steps = (self._received - self.latency_samples) // self.plan.stride + 1
        return self._give(steps * self.plan.stride)

    def flush_split(self) -> Iterator[tuple[Samples, HighBand]]:
        return self._give(self._received)

    def _give(self, end: int) -> Iterator[tuple[Samples, HighBand]]:
        if end > self._given:
            size, self._given = end - self._given, end
            piece, self._kept = self._kept[:, :size], self._kept[:, size:]
            yield piece, piece.astype(np.float32) * self.gain


class FakeEngine:
    """See `worker_engine.ChunkEngine`. Subclasses misbehave in `on_chunk`."""

    added = False  # whether something is added

    def __init__(
        self, device: str = "auto", precision: str = "auto", allow_cpu: bool = False
    ) -> None:
        self._loaded: set[str] = set()
        self.relieved = 0

    def on_sound(self, sound: Any) -> FakeEngine:
        return self

    def close(self) -> None:
        """Nothing is held."""

    def is_loaded(self, settings: Settings) -> bool:
        return settings.model in self._loaded

    def load(self, settings: Settings) -> str:
        if settings.model == "missing":
            raise ModelError("there is no model 'missing'; choose another")
        time.sleep(_number("LOAD_SECONDS", 0.0))
        self._loaded.add(settings.model)
        return "test"

    def model_sha256(self, settings: Settings) -> str:
        return MODEL_SHA256

    def sample_rate(self, settings: Settings) -> int:
        return 48_000

    def place(self, settings: Settings) -> str:
        return f"test-{type(self).__name__}"

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Callable[[int, int], Samples],
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: Callable[[], None],
    ) -> FakeDecision:
        total = 0
        for block in blocks:
            check_finite(block, total, sample_rate)
            total += block.shape[1]
            self.on_block(on_step)
        return self._decide(sample_rate, num_channels)

    def decision(
        self, values: Mapping[str, Any], sample_rate: int, num_channels: int
    ) -> FakeDecision:
        if values.get("rate_out") != sample_rate:
            raise SettingsError(
                f"rate_out of a decision must be {sample_rate}, got {values.get('rate_out')!r}"
            )
        return self._decide(sample_rate, num_channels)

    def follow(
        self, sample_rate: int, num_channels: int, settings: Settings
    ) -> tuple[Settings, FakeDecision]:
        return settings, self._decide(sample_rate, num_channels)

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: FakeDecision,
        region: tuple[int, int] | None,
        on_step: Callable[[], None],
        compute: Any,
        origin: int,
    ) -> FakeStream:
        ticks = max(1, round(_number("CHUNK_SECONDS", 0.1) * sample_rate))
        plan = ChunkPlan(sample_rate, sample_rate, sample_rate, ticks, 0, 0, 0)
        return FakeStream(plan, num_channels, settings, decision, region, on_step, compute, origin)

    def open_live(
        self, sample_rate: int, num_channels: int, settings: Settings, origin: int
    ) -> FakeLive:
        return FakeLive(num_channels, origin, self._gain(settings), sample_rate)

    def high_band(
        self,
        model: Any,
        plan: ChunkPlan,
        index: int,
        piece: Samples,
        decision: FakeDecision,
        settings: Settings,
        on_step: Callable[[], None] = lambda: None,
    ) -> HighBand:
        self.on_chunk(index, on_step)
        return piece.astype(np.float32) * self._gain(settings)

    def on_block(self, on_step: Callable[[], None]) -> None:
        """Called for each block of an analysis."""

    def on_chunk(self, index: int, on_step: Callable[[], None]) -> None:
        """Called for each chunk that is computed."""
        on_step()

    def relieve(self, settings: Settings) -> bool:
        self.relieved += 1
        return self.relieved < 3

    def memory_text(self, settings: Settings) -> str:
        return "2.0 GiB are needed and 1.0 GiB are free on test"

    def extend_as_published(
        self, audio: Audio, settings: Settings, on_stage: Callable[[str, Any], None]
    ) -> Audio:
        on_stage("cutoff_hz", 4_000.0)
        return Audio(audio.samples[:1].astype(np.float32), 48_000)

    def _gain(self, settings: Settings) -> np.float32:
        return gain_of(settings.seed) if self.added else np.float32(0)

    def _decide(self, sample_rate: int, num_channels: int) -> FakeDecision:
        return FakeDecision(sample_rate, FakeCutoff(sample_rate / 4), (False,) * num_channels)


class Identity(FakeEngine):
    """Adds nothing."""


class Passthrough(Identity):
    """Adds nothing and says so: nothing of it is kept in the chunk cache."""

    def _decide(self, sample_rate: int, num_channels: int) -> FakeDecision:
        return replace(super()._decide(sample_rate, num_channels), extends=False)


class Echo(FakeEngine):
    """Adds a little of the input; see `echo_of`."""

    added = True


class Slow(Echo):
    """As `echo`, in its time."""

    def on_block(self, on_step: Callable[[], None]) -> None:
        self._take_time(on_step)

    def on_chunk(self, index: int, on_step: Callable[[], None]) -> None:
        self._take_time(on_step)

    def _take_time(self, on_step: Callable[[], None]) -> None:
        for _ in range(int(_number("STEPS", 5))):
            on_step()
            time.sleep(_number("STEP_SECONDS", 0.02))
        on_step()


class Counted(Slow):
    """As `slow`, and writes down every chunk that it begins: its seed and its index."""

    def on_block(self, on_step: Callable[[], None]) -> None:
        on_step()

    def high_band(
        self,
        model: Any,
        plan: ChunkPlan,
        index: int,
        piece: Samples,
        decision: FakeDecision,
        settings: Settings,
        on_step: Callable[[], None] = lambda: None,
    ) -> HighBand:
        with Path(os.environ["BRIDGE_TEST_COUNT"]).open("a") as file:
            file.write(f"{settings.seed} {index}\n")
        return super().high_band(model, plan, index, piece, decision, settings, on_step)


class Stuck(Echo):
    """Computes for ever, and never asks whether to go on."""

    def on_chunk(self, index: int, on_step: Callable[[], None]) -> None:
        if _happens(index):
            while True:
                time.sleep(3600)


class OutOfMemory(Echo):
    """Has no memory for a chunk, once or always."""

    def on_chunk(self, index: int, on_step: Callable[[], None]) -> None:
        if _happens(index):
            raise MemoryError("no memory for a test")


class NotANumber(Echo):
    """Gives up over a chunk, as `high_band` does after two seeds that gave NaN."""

    def on_chunk(self, index: int, on_step: Callable[[], None]) -> None:
        if _happens(index):
            raise ModelError(f"the model 'test' gave NaN or Inf for chunk {index}")


class Crashing(Echo):
    """Dies at a chunk, as a driver or a decoder would."""

    def on_chunk(self, index: int, on_step: Callable[[], None]) -> None:
        if _happens(index):
            os.kill(os.getpid(), signal.SIGKILL)


class Buggy(Echo):
    """Has a bug."""

    def on_chunk(self, index: int, on_step: Callable[[], None]) -> None:
        if _happens(index):
            raise ZeroDivisionError("a bug in a test")


identity, passthrough, echo, slow, stuck = Identity, Passthrough, Echo, Slow, Stuck
counted = Counted
oom, nan, crashing, buggy = OutOfMemory, NotANumber, Crashing, Buggy


def _happens(index: int) -> bool:
    """At the given chunk; where a flag is given, the first time only."""
    if index != int(_number("AT", 1)):
        return False
    flag = os.environ.get("BRIDGE_TEST_FLAG")
    if flag is None:
        return True
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _number(name: str, default: float) -> float:
    return float(os.environ.get(f"BRIDGE_TEST_{name}", default))
