"""`kill -9` of daemon, worker or both while jobs run; nothing but the running chunk may be lost.

clients   submit ──✗ submit again ──✗ submit again ── result, bit-equal
killer           9                 9
counted   chunks begun ≤ chunks there are + kills
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from audiosr_core.audio import Audio
from audiosr_core.settings import Settings
from bridge.client import connect
from bridge.errors import BridgeError
from tests.support.bridge_engines import echo_of
from tests.support.daemon import RunningDaemon, daemon

RATE = 16_000
CHUNKS = 12  # of each sound
CLIENTS = 4
GIVE_UP_SECONDS = 60.0
STEP_SECONDS, CHUNK_SECONDS = 0.004, 0.1
ENGINE = "tests.support.bridge_engines:counted"


@dataclass
class Outcome:
    """What the kills left."""

    kills: int = 0
    jobs: int = 0
    wrong: list[str] = field(default_factory=list)
    begun: int = 0  # chunks that were computed, or begun
    needed: int = 0  # chunks there are

    @property
    def lost(self) -> int:
        """Chunks that had to be computed again."""
        return self.begun - self.needed


def kills(count: int, seed: int = 0) -> Outcome:
    """So many kills at random moments, under clients that do not give up."""
    outcome = Outcome()
    over = threading.Event()
    with _environment() as counted, daemon("--cache-bytes", str(8 << 30), engine=ENGINE) as running:
        threads = [
            threading.Thread(target=_client, args=(running, first, over, outcome))
            for first in range(CLIENTS)
        ]
        for one in threads:
            one.start()
        rng = np.random.default_rng(seed)
        while outcome.kills < count:
            time.sleep(rng.uniform(0.0, 0.6))  # the random moment
            outcome.kills += _kill(running, str(rng.choice(["daemon", "worker", "both"])))
        over.set()
        for one in threads:
            one.join(2 * GIVE_UP_SECONDS)
        lines = counted.read_text().splitlines()
        outcome.begun, outcome.needed = len(lines), len(set(lines))
    return outcome


@contextlib.contextmanager
def _environment() -> Iterator[Path]:
    """What the engine reads; the file in which it counts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chunks"
        path.touch()
        values = {
            "COUNT": str(path),
            "STEP_SECONDS": str(STEP_SECONDS),
            "CHUNK_SECONDS": str(CHUNK_SECONDS),
        }
        names = {f"BRIDGE_TEST_{name}": value for name, value in values.items()}
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(names)
        try:
            yield path
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _kill(running: RunningDaemon, whom: str) -> int:
    """1 if somebody was killed: there may be no worker just now."""
    me, *workers = running.family()
    victims = {"daemon": [me], "worker": workers, "both": [*workers, me]}[whom]
    for one in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    if me in victims:
        running.kill()
        psutil.wait_procs(workers, 10)  # they notice by themselves
        running.start()
    return bool(victims)


def _client(running: RunningDaemon, first: int, over: threading.Event, outcome: Outcome) -> None:
    """One sound after the other, each submitted until it is there."""
    seed = first
    while not over.is_set():
        x = np.random.default_rng(seed).uniform(-1, 1, (2, round(CHUNKS * CHUNK_SECONDS * RATE)))
        audio, settings = Audio(x.astype(np.float32), RATE), Settings(seed=seed)
        failure, end = "", 0.0
        while not end or time.monotonic() < end:
            if over.is_set() and not end:  # nobody is killed any more: now it must come
                end = time.monotonic() + GIVE_UP_SECONDS
            try:
                with connect(running.connection(), timeout_seconds=2) as client:
                    job = client.submit(audio, settings, on_disconnect="hold")
                    made = job.result(GIVE_UP_SECONDS).samples
                if not np.array_equal(made, echo_of(audio.samples, seed)):
                    outcome.wrong.append(f"{seed}: other samples")
                break
            except (BridgeError, AssertionError) as error:
                failure = str(error)
                over.wait(0.02)
        else:
            outcome.wrong.append(f"{seed}: {failure[:200]}")
        outcome.jobs += 1
        seed += CLIENTS
