"""How long `lite` takes live, step by step, and what its low latency costs in quality.

    python -m tests.bench.live steps [--seconds 20]
    python -m tests.bench.live quality [--set NAME] [--set-dir DIR] [--files N]

`steps` runs with one thread, each row in a process of its own: back to back, and at the pace of
real time, where caches are cold and the machine is whatever else it is doing. `quality` gives
docs/models/lite.md its table; sets are those of `audiosr-bridge evaluate`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HOP = 256
HEAD = (
    "| rate | channels | cutoff | block | pace | median | p99 | p99.9 | of a core |\n"
    "| ---: | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |"
)


def sound(num_channels: int, sample_rate: int, seconds: float) -> np.ndarray:
    """Noise that falls with frequency and ends at 7 kHz."""
    n = int(seconds * sample_rate)
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=(num_channels, n)))
    f = np.fft.rfftfreq(n, 1 / sample_rate)
    spectrum *= (f < 7_000) * np.sqrt(200 / np.maximum(f, 200))
    return (0.1 * np.fft.irfft(spectrum, n)).astype(np.float32)


def measure(
    sample_rate: int, num_channels: int, cutoff: str, block: int, paced: bool, seconds: float
) -> list[float]:
    """Seconds of processor time of every step, a step being a push of a block.

    On a machine of one's own that is what the clock says; beside others, what it would say.
    """
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    settings = Settings(cutoff=cutoff if cutoff == "follow" else float(cutoff))
    x = sound(num_channels, sample_rate, seconds)
    stream = Engine().open_live(sample_rate, num_channels, settings)
    took, due = [], time.perf_counter()
    for i in range(0, x.shape[1] - block, block):
        due += block / sample_rate
        while paced and time.perf_counter() < due:
            time.sleep(max(0.0, due - time.perf_counter()))
        began = time.thread_time()
        for _ in stream.push_split(x[:, i : i + block]):
            pass
        took.append(time.thread_time() - began)
    return took[len(took) // 10 :]


def steps(seconds: float) -> None:
    print(HEAD)
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    for rate, channels, cutoff, block, paced in (
        (48_000, 1, "7000", HOP, False),
        (48_000, 2, "7000", HOP, False),
        (48_000, 2, "7000", 2 * HOP, False),
        (48_000, 2, "7000", 2 * HOP, True),
        (48_000, 2, "follow", HOP, False),
        (48_000, 1, "follow", 2 * HOP, True),
        (48_000, 2, "follow", 2 * HOP, True),
        (44_100, 2, "follow", 2 * HOP, True),
        (192_000, 2, "follow", 8 * HOP, True),
    ):
        command = [sys.executable, "-m", "tests.bench.live", "one", json.dumps(
            [rate, channels, cutoff, block, paced, seconds]
        )]  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, **one}, cwd=Path(__file__).parents[2], check=True,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        took = np.array(json.loads(done.stdout))
        middle, most, nearly_all = (1e3 * np.percentile(took, p) for p in (50, 99, 99.9))
        share = took.mean() * rate / block
        print(
            f"| {rate} | {channels} | {cutoff} | {block} | {'real time' if paced else '–'}"
            f" | {middle:.2f} ms | {most:.2f} ms | {nearly_all:.2f} ms | {100 * share:.0f} % |",
            flush=True,
        )


def quality(set_name: str, folder: Path | None, num_files: int | None) -> None:
    from audiosr_core import live, live_voices
    from audiosr_core.audio import Audio
    from audiosr_core.engine import Engine
    from audiosr_core.evaluation.run import System, evaluate
    from audiosr_core.evaluation.sets import open_set
    from audiosr_core.families import lite_live
    from audiosr_core.settings import Settings

    def whole(x: np.ndarray, rate: int, cutoff_hz: float) -> np.ndarray:
        audio = Audio(np.atleast_2d(x).astype(np.float32), rate)
        return Engine().extend(audio, Settings(cutoff=cutoff_hz)).samples

    def looking(ahead: int) -> System:
        def run(x: np.ndarray, rate: int, cutoff_hz: float) -> np.ndarray:
            for module in (lite_live, live_voices, live):
                module.LOOK_AHEAD = ahead
            live.NEEDED_HOPS = ahead + live.WINDOW_HOPS + live_voices.FILTER_HOPS
            x = np.atleast_2d(x).astype(np.float32)
            stream = Engine().open_live(rate, len(x), Settings(cutoff=cutoff_hz))
            pieces = [*stream.push_split(x), *stream.flush_split()]
            return np.concatenate([original + high for original, high in pieces], axis=1)

        return run

    systems: dict[str, Callable[..., np.ndarray]] = {"lite, whole": whole}
    systems |= {f"live, {ahead} frames ahead": looking(ahead) for ahead in (8, 4, 2, 0)}
    table = evaluate(
        open_set(set_name, folder, max_files=num_files), systems, metrics={"lsd_ssr", "lsd_hf"}
    )
    print(table.as_markdown())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("steps", "quality", "one"))
    parser.add_argument("of", nargs="?", default="null")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--set", default="sonic-pi-long")
    parser.add_argument("--set-dir", type=Path)
    parser.add_argument("--files", type=int)
    given = parser.parse_args()
    if given.what == "one":
        print(json.dumps(measure(*json.loads(given.of))))
    elif given.what == "steps":
        steps(given.seconds)
    else:
        quality(given.set, given.set_dir, given.files)


if __name__ == "__main__":
    main()
