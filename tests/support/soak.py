"""Many clients with many jobs of every kind: nothing may be lost, mixed up or left behind.

Each job has a sound and a seed of its own, so a sample that strays is seen.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np

from audiosr_core.audio import Audio
from audiosr_core.settings import Settings
from bridge.client import Client, Policy, connect
from bridge.connection import Connection
from bridge.errors import CancelledError
from tests.support.bridge_engines import echo_of
from tests.support.daemon import RunningDaemon
from tests.support.wire import Wire

RATE = 48_000
SECONDS = 120.0  # that any job may take at most
JOBS_OF_A_CLIENT = 50  # then it says goodbye, and another one comes


@dataclass
class Tally:
    """What became of the jobs."""

    ended: Counter[str] = field(default_factory=Counter)  # by kind: as they should
    wrong: list[str] = field(default_factory=list)  # what did not

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.ended + other.ended, self.wrong + other.wrong)


def soak(connection: Connection, jobs: Sequence[int], clients: int, processes: int = 1) -> Tally:
    """Run these jobs, each named by its seed, with so many clients at a time."""
    shares = [jobs[i::processes] for i in range(processes)]
    if processes == 1:
        return _clients(connection, jobs, clients)
    with get_context("spawn").Pool(processes) as pool:
        each = clients // processes
        tallies = pool.starmap(_clients, [(connection, share, each) for share in shares])
    return sum(tallies, Tally())


def memory(daemon: RunningDaemon) -> dict[str, int]:
    """Bytes that daemon and worker hold: not shared with anybody."""
    names = ("daemon", "worker")
    return {name: one.memory_info().rss for name, one in zip(names, daemon.family(), strict=False)}


def _clients(connection: Connection, jobs: Sequence[int], clients: int) -> Tally:
    tallies = [Tally() for _ in range(clients)]
    threads = [
        threading.Thread(target=_client, args=(connection, jobs[i::clients], tallies[i]))
        for i in range(clients)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return sum(tallies, Tally())


def _client(connection: Connection, jobs: Sequence[int], tally: Tally) -> None:
    for start in range(0, len(jobs), JOBS_OF_A_CLIENT):
        try:
            with connect(connection, timeout_seconds=30) as client:
                for seed in jobs[start : start + JOBS_OF_A_CLIENT]:
                    _job(client, seed, tally)
        except Exception as error:
            tally.wrong.append(f"client: {type(error).__name__}: {error}")


def _job(client: Client, seed: int, tally: Tally) -> None:
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(KINDS), p=[share for share, _ in KINDS.values()]))
    shape = (int(rng.integers(1, 3)), int(rng.integers(0, 20_000)))
    x = rng.uniform(-1, 1, shape).astype(np.float32)
    try:
        made = KINDS[kind][1](client, x, seed, rng)
        if made is not None:
            np.testing.assert_array_equal(made, echo_of(x, seed))
        tally.ended[kind] += 1
    except Exception as error:
        tally.wrong.append(f"{kind} {seed}: {type(error).__name__}: {error}")


def _whole(client: Client, x: Any, seed: int, rng: np.random.Generator) -> Any:
    return client.extend(Audio(x, RATE), Settings(seed=seed), timeout=SECONDS).samples


def _stream(client: Client, x: Any, seed: int, rng: np.random.Generator) -> Any:
    settled, at = [x[:, :0]], 0
    with client.open(RATE, x.shape[0], Settings(seed=seed)) as stream:
        while at < x.shape[1]:
            size = int(rng.integers(1, 9_000))
            settled.append(stream.push(x[:, at : at + size]))
            at += size
        settled.append(stream.flush(SECONDS))
    return np.concatenate(settled, axis=1)


def _cancelled(client: Client, x: Any, seed: int, rng: np.random.Generator) -> Any:
    """Cancelled anywhere on its way; done all the same if it was quicker."""
    with client.submit(Audio(x, RATE), Settings(seed=seed)) as job:
        if rng.random() < 0.5:
            job.decided(SECONDS)
        job.cancel()
        try:
            return job.result(SECONDS).samples
        except CancelledError:
            return None


def _vanished(client: Client, x: Any, seed: int, rng: np.random.Generator) -> Any:
    """Half of a sound, and not a word more."""
    with Wire(client.connection) as wire:
        wire.submit(f"vanished{seed}", num_channels=x.shape[0], num_samples=x.shape[1])
        wire.audio(f"vanished{seed}", x[:, : x.shape[1] // 2].copy(), last=False)


def _again(client: Client, x: Any, seed: int, rng: np.random.Generator) -> Any:
    """One begins and leaves, another one takes the same job over."""
    policy: Policy = "hold" if rng.random() < 0.5 else "finish"
    audio, settings = Audio(x, RATE), Settings(seed=seed)
    with connect(client.connection, timeout_seconds=30) as other:
        job = other.submit(audio, settings, on_disconnect=policy)
        if rng.random() < 0.5:
            job.decided(SECONDS)
    with client.submit(audio, settings, on_disconnect=policy) as same:
        assert same.id == job.id
        return same.result(SECONDS).samples


KINDS: dict[str, tuple[float, Callable[..., Any]]] = {
    "whole": (0.46, _whole),
    "stream": (0.30, _stream),
    "cancelled": (0.10, _cancelled),
    "vanished": (0.04, _vanished),
    "again": (0.10, _again),
}
"""Share and function of each kind of job."""
