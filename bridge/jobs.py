"""The life of a job, whose turn it is, and how long it will take. No I/O, no clock of its own.

receiving ── queued ── analysing ── running ── done
    │          │           │           │
    └──────────┴───────────┴───────────┴── held · interrupted · failed · cancelled
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from bridge.protocol import PRIORITIES

Priority = Literal["audition", "interactive", "batch"]  # as PRIORITIES


class State(StrEnum):
    """Where a job is."""

    RECEIVING = "receiving"  # its sound is arriving
    QUEUED = "queued"  # complete, waiting for the worker
    ANALYSING = "analysing"  # the pass that decides
    RUNNING = "running"  # chunk after chunk
    HELD = "held"  # its client is away; it waits a while
    INTERRUPTED = "interrupted"  # the daemon went down; submitting again goes on
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STOPS = frozenset({State.INTERRUPTED, State.FAILED, State.CANCELLED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.RECEIVING: frozenset({State.QUEUED, State.RUNNING, State.HELD}) | _STOPS,
    State.QUEUED: frozenset({State.ANALYSING, State.RUNNING, State.HELD}) | _STOPS,
    State.ANALYSING: frozenset({State.RUNNING, State.DONE, State.QUEUED, State.HELD}) | _STOPS,
    State.RUNNING: frozenset({State.DONE, State.QUEUED, State.HELD}) | _STOPS,
    State.HELD: frozenset({State.RECEIVING, State.QUEUED, State.RUNNING}) | _STOPS,
    State.INTERRUPTED: frozenset({State.RECEIVING, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.DONE: frozenset({State.RECEIVING, State.QUEUED}),  # asked for again: from the cache
    State.FAILED: frozenset({State.RECEIVING, State.QUEUED}),  # submitted again
    State.CANCELLED: frozenset({State.RECEIVING, State.QUEUED}),
}
"""What may follow what. From the stream's first block a job runs while it still receives."""

ANALYSIS = 0.1
"""The share of a job's progress that the analysing pass has."""

ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


def follows(now: State, then: State) -> bool:
    return then in TRANSITIONS[now]


def job_id(
    content: str,
    sample_rate: int,
    num_channels: int,
    num_samples: int,
    settings: Mapping[str, Any],
    region: tuple[int, int] | None = None,
    decision: Mapping[str, Any] | None = None,
) -> str:
    """The same sound with the same settings is the same job: 32 hex digits of a SHA-256.

    Args:
        content: SHA-256 of the samples, or what identifies a file (`file_content`)
    """
    text = json.dumps(
        [content, sample_rate, num_channels, num_samples, dict(settings),
         None if region is None else list(region), None if decision is None else dict(decision)],
        sort_keys=True, separators=(",", ":"),
    )  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Waiting:
    """A job that could use the worker now."""

    job: str
    client: str
    priority: str  # of PRIORITIES


class FairQueue:
    """Whose turn it is: the highest priority first, within it one client after the other.

    A client with a hundred jobs gets no more turns than one with a single job; within a client the
    oldest job goes first. A turn is one chunk, so an audition waits for one chunk at most.
    """

    def __init__(self) -> None:
        self._clients: dict[str, deque[str]] = {p: deque() for p in PRIORITIES}
        self._jobs: dict[tuple[str, str], deque[str]] = {}
        self._where: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, job: str) -> bool:
        return job in self._where

    def __iter__(self) -> Iterator[Waiting]:
        return iter(list(self._where.values()))

    def add(self, waiting: Waiting) -> None:
        """At the end of its client's line; a job that is there already stays where it is."""
        if waiting.job in self._where:
            return
        self._where[waiting.job] = waiting
        place = (waiting.priority, waiting.client)
        line = self._jobs.setdefault(place, deque())
        if not line:
            self._clients[waiting.priority].append(waiting.client)
        line.append(waiting.job)

    def remove(self, job: str) -> None:
        """Out of the line; nothing if it is not in it."""
        waiting = self._where.pop(job, None)
        if waiting is None:
            return
        place = (waiting.priority, waiting.client)
        self._jobs[place].remove(job)
        if not self._jobs[place]:
            del self._jobs[place]
            self._clients[waiting.priority].remove(waiting.client)

    def turn(self, ready: Callable[[str], bool] = lambda job: True) -> Waiting | None:
        """The job whose turn it is among those that are ready; its client goes to the end."""
        for priority in PRIORITIES:
            clients = self._clients[priority]
            for _ in range(len(clients)):
                client = clients[0]
                clients.rotate(-1)
                for job in self._jobs[priority, client]:
                    if ready(job):
                        return self._where[job]
        return None

    def urgent(self, than: str) -> bool:
        """Whether something of a higher priority is waiting."""
        return any(self._clients[p] for p in PRIORITIES[: PRIORITIES.index(than)])


class Eta:
    """How long it will still take, from what was done since it began; None until that is known."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def seconds(self, fraction: float, now: float) -> float | None:
        """Args: fraction: done; now: monotonic seconds."""
        if self._began is None or fraction < self._began[1]:
            self._began = (now, fraction)
        began, at = self._began
        done, elapsed = fraction - at, now - began
        if done < 1e-9 or elapsed <= 0:  # nothing yet, and no division that leaves the numbers
            return None
        return (1 - fraction) * elapsed / done
