"""How early the plugin for listening has its generated band, and what it costs.

    python -m tests.bench.live_plugin table [--seconds 20]        rates × blocks
    python -m tests.bench.live_plugin long [--seconds 600]        48 kHz, blocks of 512
    python -m tests.bench.live_plugin disturbed                   what stops it, how it comes back

A host that plays by the clock (tests/native/live_host.cpp, an ordinary thread), the plugin, a real
daemon and its worker with `lite`, stereo, all on one core. `--first` has them all go before others
(SCHED_RR): on a machine that others work on, as if the core were free.
*Ahead* is by how much the generated band is there before it is needed; below zero the block is late
and dry. *Others* is what everybody else took of the core.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

from audiosr_core.audio import Samples
from tests.bench.live import sound
from tests.support.daemon import RunningDaemon
from tests.support.live_host import FADE_SECONDS, Played, expected, play, share_of, steepest, warm

RATES, BLOCKS = (44_100, 48_000, 96_000), (64, 128, 512, 1024)
PERIOD_SECONDS = 11
CHECKED_SECONDS = 20  # in the end, compared with the engine in this process
HEAD = (
    "| rate | block | s | late | ahead, ms: least / 0.1 % / 1 % / median"
    " | host / renderer / daemon / worker, % | others, % | process p50 / p99.9 / most, µs"
    " | woke late, most, ms | the same bits | steepest |\n"
    "| ---: | ---: | ---: | ---: | --- | --- | ---: | --- | ---: | --- | ---: |"
)

TROUBLES_HEAD = (
    "| what | dry | blocks | least ahead | seconds wet / dry / failed | steepest | state |\n"
    "| --- | --- | ---: | ---: | --- | ---: | --- |"
)


class Place:
    """A daemon of our own on one core, its model loaded."""

    def __init__(self, folder: Path, core: int, first: bool) -> None:
        self.folder, self.first = folder, first
        self.prefix = ["taskset", "-c", str(core)]
        self.daemon = RunningDaemon(folder, engine=None)
        self.daemon.start(self.prefix)

    def go_first(self) -> None:
        """Host, daemon and worker before all others, if that is wanted; not what they start."""
        if not self.first:
            return
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        for process in psutil.Process().children(recursive=True):
            for thread in process.threads():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setscheduler(thread.id, policy, os.sched_param(5))

    def used(self) -> dict[str, float]:
        """Seconds of processor of the daemon and of the worker that has jobs now."""
        used = {"daemon": 0.0, "worker": 0.0}
        for process in self.daemon.family():
            with contextlib.suppress(psutil.Error):
                kind = "daemon" if process.pid == self.daemon.pid() else "worker"
                used[kind] += sum(process.cpu_times()[:2])
        return used

    def worker(self) -> psutil.Process:
        """The one that live jobs have: it was there first."""
        return self.daemon.family()[1]


@contextlib.contextmanager
def place(core: int, first: bool) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="asb") as name:
        one = Place(Path(name), core, first)
        try:
            warm(one.daemon)
            yield one
        finally:
            with contextlib.suppress(Exception):
                one.daemon.stop()


def busy(core: int) -> float:
    times = psutil.cpu_times(percpu=True)[core]
    return float(sum(times) - times.idle - times.iowait)


def measure(at: Place, core: int, rate: int, block: int, seconds: float, cutoff_hz: float) -> str:
    x = sound(2, rate, PERIOD_SECONDS)
    before, core_before = at.used(), busy(core)
    played = play(
        at.daemon, x, at.folder, sample_rate=rate, block=block, seconds=seconds,
        cutoff_hz=cutoff_hz, prefix=at.prefix, meanwhile=at.go_first,
    )  # fmt: skip
    others = busy(core) - core_before
    used = {"host": played.seen["audio"], "renderer": played.seen["renderer"]}
    used |= {name: seconds - before[name] for name, seconds in at.used().items()}
    others -= sum(used.values())
    length = played.seen["played"]
    ahead = 1e3 * played.ahead[len(played.ahead) * 1 // max(2, round(length)) :]
    same, slope = compared(played, rate, cutoff_hz)
    took = 1e6 * played.took
    return (
        f"| {rate} | {block} | {length:.0f} | {played.late_after(1)} of {len(played.ahead)}"
        f" | {numbers(ahead, 0, 0.1, 1, 50)}"
        f" | {' / '.join(f'{100 * one / length:.1f}' for one in used.values())}"
        f" | {100 * others / length:.0f} | {numbers(took, 50, 99.9, 100)}"
        f" | {1e3 * played.woke_late.max():.1f} | {same} | {slope:.2f} |"
    )


def numbers(values: Samples, *percents: float) -> str:
    return " / ".join(f"{one:.0f}" for one in np.percentile(values, percents))


def compared(played: Played, rate: int, cutoff_hz: float) -> tuple[str, float]:
    """How much of the end has the bits of the engine; the steepest fade, a fade being 1.

    Only of a cutoff that is given: one that is followed depends on where the sound began.
    """
    if not cutoff_hz:
        return "–", float("nan")
    size = played.out.shape[1]
    first = max(played.latency, size - CHECKED_SECONDS * rate)
    high = expected(played, rate, cutoff_hz, first, size)
    same = np.all(played.out[:, first:] == played.dry[:, first:] + high, axis=0)
    slope = steepest(share_of(played.added[:, first:], high)) * int(FADE_SECONDS * rate)
    return f"{100 * same.mean():.1f} %", slope


# ---- what goes wrong


def frozen(at: Place) -> None:
    """The worker is stopped for 300 ms."""
    worker = at.worker()
    worker.suspend()
    time.sleep(0.3)
    worker.resume()


def bounced(at: Place) -> None:
    """A client of the same daemon has ten seconds of sound extended."""
    from audiosr_core.audio import Audio
    from audiosr_core.settings import Settings

    x = sound(2, 48_000, 10)
    with at.daemon.client() as client:
        client.extend(Audio(x, 48_000), Settings(seed=time.time_ns() % 1000))


def killed(at: Place) -> None:
    """The worker is killed."""
    at.worker().send_signal(signal.SIGKILL)
    time.sleep(0.5)
    at.go_first()


def restarted(at: Place) -> None:
    """The daemon is killed, and another one started."""
    at.daemon.kill()
    at.daemon.start(at.prefix)
    at.go_first()


TROUBLES: tuple[Callable[[Place], None], ...] = (frozen, bounced, killed, restarted)


def disturbed(at: Place, trouble: Callable[[Place], None], cutoff_hz: float) -> str:
    """At five seconds of fifteen."""

    def meanwhile() -> None:
        at.go_first()
        timer.start()

    timer = threading.Timer(5, trouble, [at])
    played = play(
        at.daemon, sound(2, 48_000, PERIOD_SECONDS), at.folder, seconds=15, cutoff_hz=cutoff_hz,
        prefix=at.prefix, meanwhile=meanwhile,
    )  # fmt: skip
    timer.join()
    late = np.flatnonzero(played.ahead < 0) * played.seen["played"] / len(played.ahead)
    late = late[late > 1]
    when = f"{late[0]:.2f} to {late[-1]:.2f} s" if len(late) else "never"
    high = expected(played, 48_000, cutoff_hz)
    slope = steepest(share_of(played.added, high)) * int(FADE_SECONDS * 48_000)
    seen = played.seen
    return (
        f"| {trouble.__doc__} | {when} | {len(late)} | {1e3 * played.ahead.min():.0f} ms"
        f" | {seen['wet']} / {seen['dry']} / {seen['failed']} | {slope:.2f} | {seen['state']} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("table", "long", "disturbed"))
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--core", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first", action="store_true", help="before all others")
    parser.add_argument("--cutoff", type=float, default=0, help="Hz; 0 follows it")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    parser.add_argument("--blocks", type=int, nargs="+", default=BLOCKS)
    given = parser.parse_args()
    core = min(given.core, (os.cpu_count() or 1) - 1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with place(core, given.first) as at:
        print(f"load {' '.join(f'{one:.1f}' for one in os.getloadavg())}", flush=True)
        if given.what == "disturbed":
            print(TROUBLES_HEAD)
            for trouble in TROUBLES:
                print(disturbed(at, trouble, given.cutoff or 6_000), flush=True)
        else:
            print(HEAD)
            cases = [(48_000, 512)]
            if given.what == "table":
                cases = [(rate, block) for rate in given.rates for block in given.blocks]
            seconds = given.seconds or (20 if given.what == "table" else 600)
            for rate, block in cases:
                print(measure(at, core, rate, block, seconds, given.cutoff), flush=True)
        print(f"load {' '.join(f'{one:.1f}' for one in os.getloadavg())}", flush=True)


if __name__ == "__main__":
    main()
