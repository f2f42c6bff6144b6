"""An engine that computes in the daemon: what `extend_file` takes in place of `Engine`.

    analyse   ── submit, and the sound if the daemon cannot read it by itself ──▶ daemon
              ◀── Decision ──
    open      the same job goes on; push_split waits for what has settled

    the file  ── block ── block ── block ──┐ kept until settled
    daemon    ── high band of chunk k ─────┴─ (original, high band)

The original never travels back where the rate stays: it is here already. So the two processes
write the file that one would write, byte for byte, and no more is kept than has not settled yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from audiosr_core.audio import Audio, Samples, check_block, check_finite
from audiosr_core.errors import AudioError, FileError, ModelError
from audiosr_core.settings import Settings
from bridge.client import Client, Policy, Priority
from bridge.client_job import Job
from bridge.errors import ProtocolError
from bridge.jobs import ANALYSIS
from bridge.protocol import audio_frame
from bridge.remote_stream import settled
from bridge.sound import Sound, identity, travels_as_path

if TYPE_CHECKING:
    from audiosr_core.decision import Decision
    from audiosr_core.files import FileInfo


class RemoteEngine:
    """The daemon's engine. Errors are those of `Engine`, and those of the bridge.

    Args:
        client: stays its owner's, who closes it
        on_disconnect: what becomes of a sound if this process goes away without a word
    """

    name = "daemon"

    def __init__(
        self, client: Client, *, priority: Priority = "batch", on_disconnect: Policy = "cancel"
    ) -> None:
        self._client = client
        self._priority, self._on_disconnect = priority, on_disconnect
        self._file: FileInfo | None = None
        self._region: tuple[int, int] | None = None
        self._num_samples: int | None = None
        self._dry_run = False
        self._on_progress: Callable[[float], None] = lambda fraction: None
        self._job: Job | None = None  # of the last sound
        self._analysed = False  # and nobody has opened it since
        self._shas: dict[str, str] = {}

    def on_file(
        self,
        info: FileInfo | None = None,
        region: tuple[int, int] | None = None,
        dry_run: bool = False,
        on_progress: Callable[[float], None] = lambda fraction: None,
        num_samples: int | None = None,
    ) -> RemoteEngine:
        """An engine for this file alone, or for a sound that is in none.

        Leaving its `with` cancels what is not done.

        Args:
            on_progress: told how much of the sound is analysed
            num_samples: of a sound that is in no file, which then goes to the daemon block by
                block; without it, the sound is joined here first
        """
        engine = RemoteEngine(
            self._client, priority=self._priority, on_disconnect=self._on_disconnect
        )
        engine._file, engine._region, engine._dry_run = info, region, dry_run
        engine._num_samples, engine._on_progress = num_samples, on_progress
        return engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._job is not None:
            self._job.close()

    def model_sha256(self, settings: Settings) -> str:
        """Of the weights that the daemon used; before that, of ours; empty if we have none."""
        if settings.model not in self._shas:
            from audiosr_core.store import model_info

            try:
                return model_info(settings.model).sha256
            except ModelError:
                return ""
        return self._shas[settings.model]

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Callable[[int, int], Samples],
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: Callable[[], None] = lambda: None,
    ) -> Decision:
        """As `Engine.analyse`. Where the daemon reads the file by itself, no block is taken."""
        sound = self._sound(blocks, read, sample_rate, num_channels)
        job = self._job = self._client.begin(
            sound,
            settings,
            priority=self._priority,
            on_disconnect=self._on_disconnect,
            region=self._region,
            want="parts",
            dry_run=self._dry_run,
            hold=True,
        )
        try:
            if sound.source == "inline" and sound.samples is None:
                for block in blocks:
                    job.send(block, None, on_step)
                job.end()
            decision = job.decided(None, lambda: self._step(job, on_step))
        except BaseException:
            job.close()
            raise
        self._shas[settings.model] = job.model_sha256
        self._analysed = True
        return decision

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        region: tuple[int, int] | None = None,
        on_step: Callable[[], None] = lambda: None,
        origin: int = 0,
        start: int = 0,
        dtype: str = "f8",
    ) -> RemoteParts:
        """As `Engine.open`; the sound that was just analysed is not sent again.

        Args:
            start: output sample from which on anything is wanted
            dtype: of the blocks that will be pushed, and of the originals that come back
        """
        job, analysed, self._analysed = self._job, self._analysed, False
        if job is not None:
            if analysed and (region, settings.as_dict(), decision) == (
                self._region, dict(job.settings), job.decision,
            ):  # fmt: skip
                return RemoteParts(job, on_step, sends=False)
            job.close()
        sound = Sound.stream(sample_rate, num_channels, dtype, origin)
        self._job = job = self._client.begin(
            sound,
            settings,
            priority=self._priority,
            on_disconnect=self._on_disconnect,
            region=region,
            decision=decision,
            want="parts",
            hold=True,
            start=start,
        )
        job.decided(None, on_step)
        self._shas[settings.model] = job.model_sha256
        return RemoteParts(job, on_step, sends=True)

    def open_live(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        origin: int = 0,
        dtype: str = "f4",
    ) -> RemoteParts:
        """As `Engine.open_live`."""
        if self._job is not None:
            self._job.close()
        sound = Sound.stream(sample_rate, num_channels, dtype, origin, live=True)
        self._job = job = self._client.begin(
            sound, settings, priority=self._priority, on_disconnect=self._on_disconnect,
            want="parts", hold=True,
        )  # fmt: skip
        job.decided()
        self._shas[settings.model] = job.model_sha256
        return RemoteParts(job, lambda: None, sends=True)

    def extend(self, audio: Audio, settings: Settings) -> Audio:
        """As `Engine.extend`."""
        return self._client.extend(audio, settings, priority=self._priority)

    def extend_as_published(
        self,
        audio: Audio,
        settings: Settings,
        on_stage: Callable[[str, Any], None] = lambda name, value: None,
    ) -> Audio:
        """As `Engine.extend_as_published`; of its stages, only "progress" and "cutoff_hz"."""
        with self._client.begin(
            Sound.of(audio), settings, priority=self._priority, on_disconnect=self._on_disconnect
        ) as job:
            made = job.result(None, lambda fraction: on_stage("progress", fraction))
        self._shas[settings.model] = job.model_sha256
        on_stage("cutoff_hz", float(job.report.get("cutoff_hz") or 0.0))
        return made

    def _sound(
        self,
        blocks: Iterable[Samples],
        read: Callable[[int, int], Samples],
        sample_rate: int,
        num_channels: int,
    ) -> Sound:
        info = self._file
        if info is None and self._num_samples is not None:
            _, dtype = audio_frame(read(0, 0))
            return Sound.blocks(sample_rate, num_channels, self._num_samples, dtype)
        if info is None:  # in memory already, and of a length that only its end tells
            joined = np.concatenate([np.zeros((num_channels, 0), np.float32), *blocks], axis=1)
            return Sound.of(Audio(joined, sample_rate))
        shape = (sample_rate, num_channels, info.num_samples)
        if self._client.is_local and travels_as_path(info.path):
            return Sound.at(info.path, *shape)
        return Sound("inline", *shape, "f8", identity(info.path))

    def _step(self, job: Job, on_step: Callable[[], None]) -> None:
        if job.sound.source == "path":
            self._on_progress(min(1.0, job.progress / ANALYSIS))
        else:  # the blocks told it on their way
            on_step()


class RemoteParts:
    """A stream whose high band comes from the daemon; see `Stream.push_split`.

    Args:
        sends: the daemon gets the sound from here; else it has it already
    """

    def __init__(self, job: Job, on_step: Callable[[], None], sends: bool) -> None:
        self._job, self._on_step, self._sends = job, on_step, sends
        self._sound = job.sound
        self._pieces = job.pieces(None, on_step)
        self._kept: deque[Samples] = deque()
        self._kept_from = self._received = job.sound.origin  # samples in
        self._given = self.first_out = job.first_out  # samples out
        if not self._resamples and self.first_out < self._kept_from:  # silence comes first
            silence = self._kept_from - self.first_out
            self._kept.append(np.zeros((job.sound.num_channels, silence), np.float32))
            self._kept_from = self.first_out
        self._flushed = False

    @property
    def latency_samples(self) -> int:
        """Input samples that must follow a sample before it can settle, at most."""
        return int(self._job.plan["latency_samples"])

    @property
    def plan(self) -> Mapping[str, Any]:
        """As `decided` has it."""
        return self._job.plan

    @property
    def model_sha256(self) -> str:
        return self._job.model_sha256

    def skip(self) -> tuple[int, int]:
        """As `Stream.skip`, but nothing is left out, for the daemon counts from the start."""
        return 0, 0

    def push_split(self, samples: Samples) -> Iterator[tuple[Samples, Samples]]:
        """The original and what is to be added, of what settles by this block, piece by piece."""
        if self._flushed:
            raise AudioError("this stream is over; open another")
        check_block(samples, self._sound.num_channels)
        check_finite(samples, self._received, self._sound.sample_rate)
        block = samples.copy()  # the caller may use its block again
        if self._sends and block.shape[1]:
            self._job.send(block, None, self._on_step)
        self._received += block.shape[1]
        if not self._resamples:
            self._kept.append(block)
        return self._until(settled(self._job.plan, self._received))

    def flush_split(self) -> Iterator[tuple[Samples, Samples]]:
        """The rest, likewise; the stream is over."""
        if self._flushed:
            raise AudioError("this stream is over; open another")
        self._flushed = True
        if self._sends:
            self._job.end()
        yield from self._until(None)
        total = self._job.plan.get("num_samples_out")
        if not self._resamples:
            total = self._received
        if total is not None and self._given != total:
            raise ProtocolError(
                f"the daemon must give {total} samples, but gave {self._given}; try again"
            )
        path = self._sound.path
        if path is not None and identity(path) != self._sound.content:
            raise FileError(f"{path} changed while it was being extended; try again")

    @property
    def _resamples(self) -> bool:
        plan = self._job.plan
        return bool(plan["rate_out"] != plan["rate_in"])

    def _until(self, end: int | None) -> Iterator[tuple[Samples, Samples]]:
        while end is None or self._given < end:
            piece = next(self._pieces, None)
            if piece is None:
                return
            start, parts = piece
            length = parts[-1].shape[1]
            self._given = start + length
            yield (parts[0] if self._resamples else self._original(start, length)), parts[-1]

    def _original(self, start: int, length: int) -> Samples:
        """Samples of the input from `start` on; those before it are let go of."""
        while self._kept and self._kept_from + self._kept[0].shape[1] <= start:
            self._kept_from += self._kept.popleft().shape[1]
        found: list[Samples] = []
        place, missing = self._kept_from, length
        for block in self._kept:
            if missing <= 0:
                break
            piece = block[:, max(0, start - place) :][:, :missing]
            found.append(piece)
            missing -= piece.shape[1]
            place += block.shape[1]
        if missing:
            raise ProtocolError("the daemon gave more samples than it got; try again")
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)
