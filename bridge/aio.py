"""The client for asyncio: the same jobs and streams, awaited.

    async with await AsyncClient.connect() as client:
        job = await client.submit(audio, settings)
        async for start, samples in job.chunks(): ...

The sockets stay with the thread that `bridge.client` has for them; it wakes the loop, and nobody
polls. Where the awaiting task is cancelled, so is its job.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from audiosr_core.audio import Audio, Samples
from audiosr_core.errors import AudioSRError
from audiosr_core.settings import Settings
from bridge.client import Client, connect
from bridge.client_job import Job
from bridge.errors import NoDaemonError
from bridge.protocol import Message
from bridge.remote_stream import RemoteStream

if TYPE_CHECKING:
    from audiosr_core.decision import Decision
    from bridge.connection import Connection


class AsyncClient:
    """A client whose every call is awaited; see `Client` for what they do."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    async def connect(cls, connection: Connection | Path | None = None, **how: Any) -> AsyncClient:
        """See `bridge.client.connect`."""
        return cls(await asyncio.to_thread(connect, connection, **how))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)

    async def ping(self) -> float:
        return await asyncio.to_thread(self.client.ping)

    async def status(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.client.status)

    async def jobs(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.client.jobs)

    async def cancel(self, job: str) -> str:
        return await asyncio.to_thread(self.client.cancel, job)

    async def unload(self) -> None:
        await asyncio.to_thread(self.client.unload)

    async def stop_daemon(self) -> int:
        return await asyncio.to_thread(self.client.stop_daemon)

    async def events(self, topics: Sequence[str] = ("",)) -> AsyncIterator[Message]:
        """What the daemon says to all."""
        events = self.client.events(topics)
        end = object()
        while (message := await asyncio.to_thread(next, events, end)) is not end:
            assert isinstance(message, Message)
            yield message

    async def extend(
        self,
        audio: Audio | str | os.PathLike[str],
        settings: Settings | None = None,
        *,
        on_progress: Callable[[float], None] | None = None,
        timeout: float | None = None,
        **how: Any,
    ) -> Audio:
        """The sound with its missing high band."""
        job = await self.submit(audio, settings, **how)
        return await job.result(timeout, on_progress)

    async def submit(
        self,
        audio: Audio | str | os.PathLike[str],
        settings: Settings | None = None,
        **how: Any,
    ) -> AsyncJob:
        """Begin to extend a sound."""
        beginning = asyncio.ensure_future(
            asyncio.to_thread(self.client.submit, audio, settings, **how)
        )
        try:
            return AsyncJob(await asyncio.shield(beginning))
        except asyncio.CancelledError:  # the thread cannot be stopped, but what it began can
            await asyncio.shield(asyncio.ensure_future(_cancel_begun(beginning)))
            raise

    async def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings | None = None,
        decision: Decision | None = None,
        **how: Any,
    ) -> AsyncStream:
        """A stream for one sound whose end is not known yet."""
        return AsyncStream(
            await asyncio.to_thread(
                self.client.open, sample_rate, num_channels, settings, decision, **how
            )
        )


class AsyncJob:
    """A job whose result is awaited; see `Job` for what its attributes mean."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        job.on_change(self._tell)

    def __getattr__(self, name: str) -> Any:
        if name in ("id", "state", "progress", "eta", "plan", "report", "decision", "done"):
            return getattr(self.job, name)
        raise AttributeError(name)

    async def cancel(self) -> None:
        """The daemon stops at once."""
        await asyncio.to_thread(self.job.cancel)

    async def result(
        self,
        timeout: float | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Audio:
        """The extended sound. If the awaiting task is cancelled, so is the job."""

        def ready() -> bool:
            if on_progress is not None:
                on_progress(self.job.progress)
            return self.job.done()

        self.job.collect()
        await self._until(ready, timeout)
        return await asyncio.to_thread(self.job.result)

    async def chunks(self, timeout: float | None = None) -> AsyncIterator[tuple[int, Samples]]:
        """Start and samples of each settled piece, as they come; the daemon waits for us."""
        self.job.hold()
        while True:
            await self._until(lambda: self.job.has_piece or self.job.done(), timeout)
            piece = self.job.take()
            if piece is None:
                self.job.check()
                return
            yield piece[0], piece[1][0]

    async def _until(self, ready: Callable[[], bool], timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._changed.clear()
                    if ready():
                        return
                    await self._changed.wait()
        except TimeoutError:
            await self.cancel()
            raise NoDaemonError(
                f"the daemon did not get so far within {timeout:.3g} s, so the job was cancelled;"
                " allow more time"
            ) from None
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self.cancel()))
            raise

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._changed.set)


class AsyncStream:
    """A stream whose pushes are awaited; see `RemoteStream`."""

    def __init__(self, stream: RemoteStream) -> None:
        self.stream = stream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stream.close)

    async def push(self, samples: Samples, wait: float | None = 0.0) -> Samples:
        return await asyncio.to_thread(self.stream.push, samples, wait)

    async def flush(self, timeout: float | None = None) -> Samples:
        return await asyncio.to_thread(self.stream.flush, timeout)


async def _cancel_begun(beginning: asyncio.Future[Job]) -> None:
    """Cancel a job as soon as it is one; before that, the client may not be closed."""
    with contextlib.suppress(AudioSRError):  # it never began
        job = await beginning
        await asyncio.to_thread(job.cancel)
