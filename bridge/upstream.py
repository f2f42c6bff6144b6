"""A worker without a model: its engine is a daemon on another machine.

    plugin ── ipc ── daemon here ═ pipe ═ this worker ── CURVE ── daemon there ═ pipe ═ model

`python -m bridge.upstream --upstream FILE ...` runs in place of `python -m bridge.worker`, so that
whoever needs a high band knows the daemon of this machine alone. Torch is loaded there and never
here; the chunk cache is the one there, too. Should that daemon go away, the jobs under way fail
with a sentence, and the next one looks for it again.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiosr_core.audio import Audio, Samples
from audiosr_core.chunking import ChunkPlan
from audiosr_core.errors import UsageError
from audiosr_core.settings import Settings
from bridge import worker
from bridge.client import Client
from bridge.connection import Connection
from bridge.errors import NoDaemonError
from bridge.remote import RemoteEngine, RemoteParts
from bridge.worker_engine import HighBand, OnStep, Pieces, Sound, decision_from, follow

if TYPE_CHECKING:
    from audiosr_core.decision import Decision

CONNECT_SECONDS = 3.0
PUBLISHED_RATE = 48_000  # of what reference mode gives


class Upstream:
    """The daemon there: connected to when it is first needed, and again after it was gone."""

    def __init__(self, path: Path) -> None:
        self.used: set[str] = set()  # models that it has loaded for us
        self.shas: dict[str, str] = {}
        self._path = path
        self._client: Client | None = None
        self._where = ""

    @property
    def client(self) -> Client:
        with self.told():
            if self._client is None:
                connection = Connection.read_remote(self._path)
                self._where = connection.endpoints.control
                self._client = Client(
                    lambda: Connection.read_remote(self._path), name="upstream of a daemon",
                    timeout_seconds=CONNECT_SECONDS,
                )  # fmt: skip
            # another session, if the daemon there was started anew
            self._client.session.check_minor(1, "sounds that a daemon passes on")
            return self._client

    def place(self) -> str:
        """Where it computes, and its version, for people."""
        status = self.client.status()
        device = status.get("worker", {}).get("device", "")
        return f"{self._where}, version {status['version']}{device and ', '}{device}"

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """What goes wrong between the two is told as such."""
        try:
            yield
        except NoDaemonError as error:
            self.used.clear()
            raise NoDaemonError(
                f"the daemon that computes, {self._where or self._path}, cannot be reached: {error}"
            ) from error


class UpstreamEngine:
    """`ChunkEngine`, for one sound or before there is one."""

    def __init__(self, upstream: Upstream, sound: Sound | None = None) -> None:
        self._upstream, self._sound = upstream, sound or Sound()
        self._remote: RemoteEngine | None = None

    def on_sound(self, sound: Sound) -> UpstreamEngine:
        return UpstreamEngine(self._upstream, sound)

    def close(self) -> None:
        """Cancel what is not done there."""
        if self._remote is not None:
            self._remote.__exit__()
            self._remote = None

    def is_loaded(self, settings: Settings) -> bool:
        return settings.model in self._upstream.used

    def load(self, settings: Settings) -> str:
        """The model is loaded there, with the first sound."""
        place = self._upstream.place()
        self._upstream.used.add(settings.model)
        return place

    def model_sha256(self, settings: Settings) -> str:
        """As the daemon there told with the latest sound; empty before."""
        return self._upstream.shas.get(settings.model, "")

    def sample_rate(self, settings: Settings) -> int:
        return PUBLISHED_RATE

    def place(self, settings: Settings) -> str:
        """Nobody's: weights and device may have changed there by the next time."""
        return secrets.token_hex(16)

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Callable[[int, int], Samples],
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: OnStep,
    ) -> Decision:
        with self._upstream.told():
            return self._engine().analyse(
                blocks, read, sample_rate, num_channels, settings, on_step
            )

    def decision(self, values: Mapping[str, Any], sample_rate: int, num_channels: int) -> Decision:
        return decision_from(values, num_channels)

    def follow(
        self, sample_rate: int, num_channels: int, settings: Settings
    ) -> tuple[Settings, Decision]:
        return follow(sample_rate, num_channels, settings)

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        region: tuple[int, int] | None,
        on_step: OnStep,
        compute: Any,
        origin: int,
    ) -> UpstreamStream:
        with self._upstream.told():
            parts = self._engine().open(
                sample_rate, num_channels, settings, decision, region, on_step,
                origin, self._sound.start, self._sound.dtype,
            )  # fmt: skip
        self._heard(settings, parts)
        return UpstreamStream(self._upstream, parts)

    def open_live(
        self, sample_rate: int, num_channels: int, settings: Settings, origin: int
    ) -> UpstreamLive:
        with self._upstream.told():
            parts = self._engine().open_live(
                sample_rate, num_channels, settings, origin, self._sound.dtype
            )
        self._heard(settings, parts)
        return UpstreamLive(self._upstream, parts)

    def high_band(self, *_: Any) -> HighBand:
        raise UsageError("chunks are computed by the daemon there, whole streams at a time")

    def relieve(self, settings: Settings) -> bool:
        return False

    def memory_text(self, settings: Settings) -> str:
        return "the memory is that of another machine"

    def extend_as_published(
        self, audio: Audio, settings: Settings, on_stage: Callable[[str, Any], None]
    ) -> Audio:
        with self._upstream.told():
            return self._engine().extend_as_published(audio, settings, on_stage)

    def _engine(self) -> RemoteEngine:
        """Of this sound."""
        if self._remote is None:
            remote = RemoteEngine(self._upstream.client, priority=self._sound.priority)
            self._remote = remote.on_file(
                None, self._sound.region, num_samples=self._sound.num_samples
            )
        return self._remote

    def _heard(self, settings: Settings, parts: RemoteParts) -> None:
        self._upstream.shas[settings.model] = parts.model_sha256


class UpstreamLive:
    """`LiveStream`: what settles by a block is waited for."""

    def __init__(self, upstream: Upstream, parts: RemoteParts) -> None:
        self._upstream, self._parts = upstream, parts
        self.plan, self.latency_samples = plan_of(parts.plan), parts.latency_samples

    def push_split(self, samples: Samples) -> Pieces:
        with self._upstream.told():
            yield from self._parts.push_split(samples)

    def flush_split(self) -> Pieces:
        with self._upstream.told():
            yield from self._parts.flush_split()


class UpstreamStream:
    """`ChunkStream`: the pieces that come are joined to chunks again."""

    def __init__(self, upstream: Upstream, parts: RemoteParts) -> None:
        self._upstream, self._parts = upstream, parts
        self.plan = plan_of(parts.plan)
        self.latency_samples, self.first_out = parts.latency_samples, parts.first_out
        self._end = parts.first_out  # of what has come
        self._held: list[tuple[Samples, HighBand]] = []  # of a chunk

    def push_split(self, samples: Samples) -> Pieces:
        with self._upstream.told():
            yield from self._whole(self._parts.push_split(samples))

    def flush_split(self) -> Pieces:
        with self._upstream.told():
            yield from self._whole(self._parts.flush_split())
        if self._held:
            yield self._joined()

    def _whole(self, pieces: Pieces) -> Pieces:
        stride = self.plan.at(self.plan.stride, self.plan.rate_out)
        for original, high in pieces:
            self._held.append((original, high))
            self._end += high.shape[1]
            if self._end % stride == 0:
                yield self._joined()

    def _joined(self) -> tuple[Samples, HighBand]:
        held, self._held = self._held, []
        original, high = (np.concatenate(one, axis=1) for one in zip(*held, strict=True))
        return original, high


def plan_of(values: Mapping[str, Any]) -> ChunkPlan:
    """Chunks that lie as these numbers say: strides, what they need, and how far they reach."""
    rate_in, rate_out = int(values["rate_in"]), int(values["rate_out"])
    plan = ChunkPlan(rate_in, rate_out, rate_out, 1, 0, 0, 0)
    tick = plan.at(1, rate_in)
    stride = int(values["stride_in"]) // tick
    past, end = int(values["past_in"]) // tick, int(values["first_end_in"]) // tick
    return ChunkPlan(rate_in, rate_out, rate_out, stride, 0, past, end - stride)


def main(arguments: Sequence[str] | None = None) -> None:
    """The process."""
    parser = worker.parser("bridge.upstream")
    parser.add_argument("--upstream", type=Path, required=True)
    given = parser.parse_args(arguments)
    worker.run(given, lambda: UpstreamEngine(Upstream(given.upstream)))


if __name__ == "__main__":
    main()
