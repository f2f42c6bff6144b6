"""How fast the plugin's link is: the round-trip table of docs/performance.md.

    python -m tests.bench.shim [--quick]

A block goes to a real daemon and comes back, every message signed, with an engine that adds
nothing and whose chunk is the block; the same through the Python client.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.daemon import RunningDaemon, daemon
from tests.support.native import build

RATE = 48_000
BLOCKS = (64, 128, 256, 512, 1024, 4096, 16_384, 65_536)
PARTS = ("link", "wire", "zmtp", "json", "sha256", "places")

Microseconds = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    rounds = 200 if parser.parse_args().quick else 2_000
    print("| block | bytes | plugin, median / 99 % | Python client | MB/s one way | real time × |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in BLOCKS:
        os.environ["BRIDGE_TEST_CHUNK_SECONDS"] = repr(size / RATE)
        count = max(50, rounds * 512 // max(512, size))
        x = np.random.default_rng(size).standard_normal((2, size)).astype(np.float32)
        with daemon(engine="tests.support.bridge_engines:passthrough") as running:
            ours, theirs = through_link(running, x, count), through_client(running, x, count)
        median = float(np.median(ours))
        print(
            f"| {size} | {x.nbytes} | {shown(ours)} | {shown(theirs)}"
            f" | {x.nbytes / median:.0f} | {size / RATE / median * 1e6:.0f} |",
            flush=True,
        )


def through_link(running: RunningDaemon, x: NDArray[np.float32], count: int) -> Microseconds:
    program = build("link", *PARTS, flags=("-O2",))
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name) / "in"
        sound.write_bytes(x.tobytes())
        done = subprocess.run(
            [program, running.runtime, f"in={sound}", f"rate={RATE}", "channels=2",
             f"rounds={count}"],
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
    return np.array(json.loads(done.stdout.splitlines()[-1]))[count // 10 :]


def through_client(running: RunningDaemon, x: NDArray[np.float32], count: int) -> Microseconds:
    times = []
    with running.client() as client, client.open(RATE, 2) as stream:
        for _ in range(count):
            began = time.perf_counter()
            stream.push(x, wait=None)
            times.append(1e6 * (time.perf_counter() - began))
    return np.array(times)[count // 10 :]


def shown(times: Microseconds) -> str:
    return f"{np.median(times):.0f} / {np.percentile(times, 99):.0f} µs"


if __name__ == "__main__":
    main()
