"""How fast the bridge is, and how little it loses: the figures of docs/performance.md.

    python -m tests.bench.bridge [extend|echo|block|live|cancel|start|soak|kills|all] [--quick]

Every figure comes from a real daemon, over ipc, with every message signed. Engines of the tests
stand in for a model where the bridge alone is measured: one that adds nothing for `echo` and
`block`, so that nothing is computed and nothing is kept in the chunk cache.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Audio, Samples
from audiosr_core.settings import Settings
from bridge.client import Client, connect
from bridge.errors import CancelledError
from tests.support.bridge_engines import gain_of
from tests.support.daemon import RunningDaemon, daemon
from tests.support.kills import kills
from tests.support.soak import memory, soak

ENGINES = "tests.support.bridge_engines:"
RATE = 48_000
CHUNK_SECONDS = 10.24
REST_SECONDS = 10.0  # a client that vanished is missed after five

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    must: str
    want: str
    reached: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.must} | {self.want} | {self.reached} |"


def extend(quick: bool) -> Iterator[Line]:
    """`extend_file` in-process and through a warm daemon in turns, with the same threads."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; a test's daemon has the same
    from audiosr_core.engine import Engine
    from audiosr_core.extend_file import extend_file
    from bridge.remote import RemoteEngine
    from tests.bench.extend import make_sound

    minutes, rounds = (1, 2) if quick else (10, 3)
    inside, through = [], []
    with (
        tempfile.TemporaryDirectory() as name,
        daemon(engine=None) as running,
        running.client() as client,
    ):
        source, short, made = (Path(name) / f"{one}.wav" for one in ("source", "short", "made"))
        make_sound(source, RATE, 60 * minutes)
        make_sound(short, RATE, 10)
        engines = (inside, Engine()), (through, RemoteEngine(client))
        for _, engine in engines:  # the model is loaded
            extend_file(short, made, Settings(), engine=engine, overwrite=True)
        for seed in range(1, rounds + 1):  # another seed, so that the cache does not help
            files = []
            for times, engine in engines:
                began = time.perf_counter()
                extend_file(source, made, Settings(seed=seed), engine=engine, overwrite=True)
                times.append(time.perf_counter() - began)
                files.append(made.read_bytes())
            assert files[0] == files[1]
    extra = np.array(through) / np.array(inside) - 1
    yield Line(
        f"daemon against in-process, {minutes} min stereo with `lite`: extra wall time",
        "≤ 5 %", "≤ 2 %",
        f"{100 * np.median(extra):+.1f} % ({np.median(inside):.1f} s in-process; rounds"
        f" {', '.join(f'{100 * one:+.1f}' for one in extra)} %)",
    )  # fmt: skip


def echo(quick: bool) -> Iterator[Line]:
    x = _noise(round(CHUNK_SECONDS * RATE))
    with _environment(CHUNK_SECONDS=CHUNK_SECONDS), daemon(engine=f"{ENGINES}passthrough") as one:
        with one.client() as client, client.open(RATE, 2) as stream:
            times = _times(20 if quick else 100, lambda: stream.push(x, wait=None), x, warm=10)
        yield Line(
            "round trip of 10.24 s of stereo, identity, as one block of a stream",
            "≤ 25 ms", "≤ 12 ms", _shown(times),
        )  # fmt: skip
        with one.client() as client:
            audio = Audio(x, RATE)
            times = _times(20 if quick else 50, lambda: client.extend(audio).samples, x, warm=5)
        yield Line("the same as a whole sound, a job of its own", "–", "–", _shown(times))


def block(quick: bool) -> Iterator[Line]:
    x = _noise(512)
    count = 1_000 if quick else 10_000
    with (
        _environment(CHUNK_SECONDS=512 / RATE),
        daemon(engine=f"{ENGINES}passthrough") as running,
        running.client() as client,
        client.open(RATE, 2) as stream,
    ):
        times = _times(count, lambda: stream.push(x, wait=None), x, warm=200)
    yield Line(
        f"round trip of a 512-sample stereo block, p99 of {count}",
        "≤ 2 ms", "≤ 0.7 ms", _shown(times),
    )  # fmt: skip


def live(quick: bool) -> Iterator[Line]:
    """From a block sent to all that it settles: at the pace of sound, and without a pause."""
    x, gain = _noise(512), gain_of(0)
    count = 1_000 if quick else 10_000
    with daemon(engine=f"{ENGINES}echo") as running, running.client() as client:
        for what, pause in [("paced", 512 / RATE), ("one after the other", 0.0)]:
            with client.open(RATE, 2, live=True, origin=3600 * RATE) as stream:
                stream.push(x, wait=None)
                times, due = np.zeros(count), time.perf_counter()
                for i in range(count):
                    due += pause
                    time.sleep(max(0.0, due - time.perf_counter()))
                    began = time.perf_counter()
                    made = stream.push(x, wait=None)
                    times[i] = time.perf_counter() - began
                    assert made.any()
                rest = stream.flush()
                assert np.array_equal(rest[:, -100:], (x + x * gain)[:, -100:])
            yield Line(
                f"round trip of a live 512-sample stereo block, {what}, p99 of {count}",
                "–", "≤ 2 ms", _shown(times),
            )  # fmt: skip


def cancel(quick: bool) -> Iterator[Line]:
    """Acknowledged while another client streams; free where no other job has the device."""
    rounds = 10 if quick else 40
    names = {f"{ENGINES}slow": "engine of 20 ms steps", None: "`lite`"}
    for engine, name in names.items():
        with (
            _environment(STEP_SECONDS=0.02),
            daemon(engine=engine) as running,
            running.client() as client,
        ):
            client.extend(Audio(_noise(RATE), RATE))
            _, free = _cancels(client, rounds)  # the device is its alone: nobody else's chunk
            with _streaming(running.client()):
                told, _ = _cancels(client, rounds)
        yield Line(f"cancel acknowledged, {name}", "≤ 100 ms", "≤ 20 ms", _shown(told))
        yield Line(f"device free, {name}", "1 step", "20 ms", _shown(free))


def _cancels(client: Client, rounds: int) -> tuple[Seconds, Seconds]:
    told, free = [], []
    for seed in range(rounds):
        x = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, 30 * RATE)).astype(np.float32)
        with client.submit(Audio(x, RATE), Settings(seed=seed), priority="audition") as job:
            job.decided()
            began = time.perf_counter()
            client.cancel(job.id)
            told.append(time.perf_counter() - began)
            with contextlib.suppress(CancelledError):
                job.wait(lambda job=job: job.done(), 10)  # type: ignore[misc]
            free.append(time.perf_counter() - began)  # the worker has said so
    return np.array(told), np.array(free)


@contextlib.contextmanager
def _streaming(client: Client) -> Iterator[None]:
    """Somebody else's sound, all the while."""
    over = threading.Event()

    def run() -> None:
        with client, client.open(RATE, 2) as stream:
            x = _noise(4096)
            while not over.wait(0.04):
                stream.push(x)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def start(quick: bool) -> Iterator[Line]:
    """`connect(start=True)` where none runs: detached, bound, announced, and the first answer."""
    times = []
    for _ in range(3 if quick else 15):
        with tempfile.TemporaryDirectory(prefix="asb") as name:
            folders = {
                f"AUDIOSR_BRIDGE_{kind}_DIR": str(Path(name) / kind.lower())
                for kind in ("RUNTIME", "CACHE", "STATE", "CONFIG")
            }
            with _variables(folders):
                began = time.perf_counter()
                with connect(start=True, timeout_seconds=20) as client:
                    client.ping()
                    times.append(time.perf_counter() - began)
                    pid = client.stop_daemon()
                _until_gone(pid)
    yield Line("cold start to the first answer", "≤ 1.0 s", "≤ 0.4 s", _shown(np.array(times)))


def _until_gone(pid: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(10)


def long_soak(quick: bool) -> Iterator[Line]:
    warm, jobs = (400, 2_000) if quick else (2_000, 20_000)
    with daemon("--cache-bytes", str(64 << 20), engine=f"{ENGINES}echo") as running:
        began = time.perf_counter()
        tally = soak(running.connection(), range(warm), 50, processes=2)
        first = _memory_at_rest(running)
        tally += soak(running.connection(), range(warm, jobs), 50, processes=2)
        last = _memory_at_rest(running)
        seconds = time.perf_counter() - began
    for text in tally.wrong[:10]:
        sys.stderr.write(f"{text}\n")
    yield Line(
        f"50 clients, {jobs} jobs: lost or mixed-up results", "0", "0",
        f"{len(tally.wrong)} ({seconds:.0f} s; {dict(tally.ended)})",
    )  # fmt: skip
    grown = ", ".join(
        f"{name} {100 * (last[name] / first[name] - 1):+.1f} % of {first[name] / 1e6:.0f} MB"
        for name in first
    )
    yield Line(f"memory growth, job {warm} to {jobs}", "< 5 %", "< 1 %", grown)


def _memory_at_rest(running: RunningDaemon) -> dict[str, int]:
    """When the last jobs are gone, and what they had was given back."""
    time.sleep(REST_SECONDS)
    return memory(running)


def many_kills(quick: bool) -> Iterator[Line]:
    outcome = kills(20 if quick else 200)
    for text in outcome.wrong[:10]:
        sys.stderr.write(f"{text}\n")
    yield Line(
        f"{outcome.kills} `kill -9` at random moments", "nothing lost but the running chunk", "–",
        f"{outcome.jobs} sounds, {len(outcome.wrong)} wrong; {outcome.lost} of {outcome.needed}"
        f" chunks begun twice",
    )  # fmt: skip


PARTS: dict[str, Callable[[bool], Iterator[Line]]] = {
    "extend": extend, "echo": echo, "block": block, "live": live, "cancel": cancel,
    "start": start, "soak": long_soak, "kills": many_kills,
}  # fmt: skip


def _times(count: int, once: Callable[[], Samples], expected: Samples, warm: int) -> Seconds:
    """Seconds that each call takes; what it gives is what it was given."""
    times = np.zeros(warm + count)
    for i in range(len(times)):
        began = time.perf_counter()
        made = once()
        times[i] = time.perf_counter() - began
        assert np.array_equal(made, expected)
    return times[warm:]


def _shown(times: Seconds) -> str:
    median, p99 = 1000 * np.median(times), 1000 * np.percentile(times, 99)
    return f"median {median:.3g} ms, p99 {p99:.3g} ms, least {1000 * times.min():.3g} ms"


def _noise(num_samples: int) -> Samples:
    """With an edge at 8 kHz, so that there is something to extend."""
    x = np.random.default_rng(num_samples).standard_normal((2, num_samples)).astype(np.float32)
    x = (x + np.roll(x, 1, axis=1) + np.roll(x, 2, axis=1)) / 20
    return x.clip(-1, 1)


def _environment(**values: object) -> contextlib.AbstractContextManager[None]:
    return _variables({f"BRIDGE_TEST_{name}": str(value) for name, value in values.items()})


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["all"], choices=[*PARTS, "all"])
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load {load:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    print("| | must | want | reached |\n|---|---|---|---|")
    for name in PARTS if "all" in given.parts else given.parts:
        for line in PARTS[name](given.quick):
            print(line, flush=True)


if __name__ == "__main__":
    main()
