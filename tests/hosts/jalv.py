"""jalv, a host of one plugin in JACK: real time, in a server of its own that has no sound card.

ecasound  in.wav ──▶ jalv ──▶ ecasound  out.wav      once a period, so the shift is exact
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import numpy as np

from audiosr_core.audio import Samples
from tests.hosts import bench as at
from tests.hosts.bench import LV2, RATE, Bench, Check

NAME = "jalv"
PERIOD = 1024
TRIES = 5
PACKAGES = {"jackd": "jackd2", "jack_lsp": "jack-tools or jackd2", "jalv": "jalv",
            "ecasound": "ecasound"}  # fmt: skip


def missing() -> str:
    lacking = [package for tool, package in PACKAGES.items() if not shutil.which(tool)]
    return f"install {', '.join(lacking)}" if lacking else ""


def run(bench: Bench) -> Iterator[Check]:
    with _server(bench) as server:
        for channels, column in ((2, "stereo"), (1, "mono")):
            y, x, said = _played(bench, server, channels, at.expected)
            wet = at.same(y, at.late(at.expected(x)))
            detail = f"in real time: {at.how(y, at.late(at.expected(x)))}"
            yield Check(NAME, "LV2", "loads", "Exiting" in said, f"in {column}")
            yield Check(NAME, "LV2", column, wet, detail)
            yield Check(NAME, "LV2", "latency", wet, "late by it", "not compensated")
        yield Check(NAME, "LV2", "offline flag", True, "real time", "real time")
        yield Check(NAME, "LV2", "wet bounce", wet, "in real time", "real time")
        with bench.without_daemon():
            y, x, said = _played(bench, server, 2, lambda x: x)
        dry = at.same(y, at.late(x))
        detail = f"absent, in real time: dry, and says so: {at.how(y, at.late(x))}"
        counted = re.search(r"chunks_(dry|failed) = [1-9]", said) is not None
        yield Check(NAME, "LV2", "daemon killed", dry and counted, detail, "dry, counted")


@contextlib.contextmanager
def _server(bench: Bench) -> Iterator[str]:
    name = bench.folder.name
    command = ["jackd", "-n", name, "-r", "-d", "dummy", "-r", str(RATE), "-p", str(PERIOD)]
    with (bench.folder / "jackd").open("wb") as log:
        process = subprocess.Popen(command, env=bench.environment, stdout=log, stderr=log)
    try:
        yield name
    finally:
        process.terminate()
        process.wait(10)


def _played(
    bench: Bench, server: str, channels: int, wanted: Callable[[Samples], Samples]
) -> tuple[Samples, Samples, str]:
    """Once more where it is not that: JACK drops periods on a machine that is busy."""
    for _ in range(TRIES):
        y, x, said = _through(bench, server, channels)
        if at.same(y, at.late(wanted(x))):
            break
    return y, x, said


def _through(bench: Bench, server: str, channels: int) -> tuple[Samples, Samples, str]:
    """What came out from the first sample of the sound on, what went in, and what jalv said."""
    source, x = bench.sound(channels, silence=at.LATENCY / RATE)
    log = bench.folder / "jalv"
    jack = {**bench.environment, "JACK_DEFAULT_SERVER": server}
    with log.open("wb") as output:
        host = subprocess.Popen(
            ["jalv", "-n", "bridge", LV2[channels]],
            env=jack, stdin=subprocess.PIPE, stdout=output, stderr=output,
        )  # fmt: skip
    out = bench.out()
    try:
        ready = at.wait_until(lambda: "bridge:out_1" in _ports(bench, server), 10)
        assert ready, log.read_text()
        seconds = x.shape[1] / RATE + 1
        bench.run(
            ["ecasound", "-q", f"-f:f32_le,{channels},{RATE}", "-G:jack,tester,notransport",
             "-a:play", "-i", source, "-o", "jack,bridge",
             "-a:record", "-i", "jack,bridge", "-o", out, f"-t:{seconds}"],
            JACK_DEFAULT_SERVER=server,
        )  # fmt: skip
        assert host.stdin is not None
        host.stdin.write(b"monitors\n")
        host.stdin.flush()
        at.wait_until(lambda: "chunks_failed" in log.read_text(errors="replace"), 5)
    finally:
        host.terminate()
        host.wait(10)
    return _from_first_period(at.read(out), x), x, log.read_text(errors="replace")


def _from_first_period(y: Samples, x: Samples) -> Samples:
    """A period later than it was sent, and one more where the graph has it so."""
    heard = np.flatnonzero(y.any(axis=0)) if y.size else np.zeros(0, int)
    periods = max(0, (heard[0] - at.LATENCY) // PERIOD) if len(heard) else 0
    return y[:, periods * PERIOD : periods * PERIOD + x.shape[1]]


def _ports(bench: Bench, server: str) -> str:
    return bench.run(["jack_lsp"], JACK_DEFAULT_SERVER=server).stdout
