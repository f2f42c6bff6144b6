"""How fast `extend` is and how much memory it takes, as docs/performance.md shows it.

    python -m tests.bench.extend [--markdown] [--minutes 1 10 60] [--speed-seconds 120]

Every figure comes from a process of its own with one thread. Files lie on disk: stereo, 16 bits,
noise and partials up to 7.5 kHz, written in blocks. `--markdown` rewrites the table in the
document between its two markers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

EDGE_HZ = 7_500.0
DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
MARKERS = "<!-- measured: begin -->", "<!-- measured: end -->"
BLOCKS = (1, 64, 512, 4096, 0)  # 0: the whole sound at once


def make_sound(path: Path, sample_rate: int, seconds: int) -> None:
    """A file with an edge at 7.5 kHz: ten seconds again and again, so that memory is flat here."""
    n = 10 * sample_rate
    rng = np.random.default_rng(1)
    t = np.arange(n) / sample_rate
    x = 0.1 * rng.standard_normal((2, n))
    x += sum(0.05 * np.sin(2 * np.pi * f * t) for f in (220, 331, 443, 1760))
    f = np.fft.rfftfreq(n, 1 / sample_rate)
    slope = np.minimum(1, (200 / np.maximum(f, 1)) ** 0.7)
    x = np.fft.irfft(np.fft.rfft(x) * slope * (f < EDGE_HZ), n)
    x *= 0.3 / np.abs(x).max()
    with soundfile.SoundFile(path, "w", sample_rate, 2, "PCM_16") as file:
        for start in range(0, seconds, 10):
            file.write(x.T[: min(10, seconds - start) * sample_rate])


def child(job: str, *arguments: str) -> dict[str, Any]:
    """Run one job of this module in a process of its own, with one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "tests.bench.extend", "--job", job, *arguments]
    began = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **one}, cwd=DOCUMENT.parents[1], check=True,
        capture_output=True, text=True, timeout=7200,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "with_start": time.perf_counter() - began}


def peak_mb() -> float:
    """The most memory this process ever held. Not ru_maxrss, which the parent's peak enters."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# ---- jobs, each in its own process


def job_extend(source: str, cutoff: str) -> dict[str, Any]:
    """One whole `extend`, processor seconds by stage, peak memory."""
    from audiosr_core import engine, extend_file, stream
    from audiosr_core.engine import Engine
    from audiosr_core.families import lite
    from audiosr_core.settings import Settings

    settings = Settings(cutoff="auto" if cutoff == "auto" else float(cutoff))
    model = Engine().model(settings)
    started_mb = peak_mb()
    clock = _Clock()
    clock.watch(extend_file.Reader, "read", "read")
    clock.watch(engine.SpectrumMeter, "push", "analysis")
    clock.watch(engine, "find_cutoff", "analysis")
    clock.watch(engine, "measure_gain_law", "gain law (4 probes)")
    clock.watch(stream, "resample", "resample, both ways")
    clock.watch(stream, "filter_same", "splice filter")
    clock.watch(lite.LiteModel, "_stft", "STFT")
    clock.watch(lite.torch, "istft", "inverse STFT")
    clock.watch(lite, "white_noise", "noise")
    clock.watch(model.network, "forward", "network")  # type: ignore[attr-defined]
    clock.watch(lite, "high_band", "levels and phases")
    clock.watch(extend_file.Writer, "write", "dither and write")
    began, cpu = time.perf_counter(), time.process_time()
    target = Path(source).with_suffix(".out.wav")
    report = extend_file.extend_file(Path(source), target, settings, overwrite=True)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert report.extended
    target.unlink()
    stages = {**clock.seconds, "everything else": cpu - sum(clock.seconds.values())}
    return {
        "seconds": seconds, "cpu": cpu, "stages": stages, "peak_mb": peak_mb(),
        "started_mb": started_mb,
    }  # fmt: skip


def job_block(block: str) -> dict[str, Any]:
    """A stream fed with blocks of one size."""
    from audiosr_core.cutoff import Cutoff
    from audiosr_core.decision import Decision
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    rate = 44_100
    x = (0.1 * np.random.default_rng(0).standard_normal((2, 17 * rate))).astype(np.float32)
    settings = Settings()
    cutoff = Cutoff(EDGE_HZ, 1.0, False, "given")
    decision = Decision(rate, cutoff, True, False, (False, False), 0.0, "")
    Engine().model(settings)
    stream = Engine().open(rate, 2, settings, decision)
    step = int(block) or x.shape[1]
    began = time.process_time()
    for i in range(0, x.shape[1], step):
        stream.push(x[:, i : i + step])
    stream.flush()
    return {"cpu": time.process_time() - began}


class _Clock:
    """Processor time inside functions; time inside an inner one counts there alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def watch(self, owner: Any, name: str, stage: str) -> None:
        inside: Callable[..., Any] = getattr(owner, name)
        self.seconds.setdefault(stage, 0.0)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            self._inner.append(0.0)
            try:
                return inside(*args, **kwargs)
            finally:
                spent = time.process_time() - began
                self.seconds[stage] += spent - self._inner.pop()
                self._inner[-1] += spent

        setattr(owner, name, timed)


# ---- the report


def measure(folder: Path, minutes: list[int], speed_seconds: int) -> list[str]:
    lines = [
        "| one thread, stereo | 44.1 kHz | 48 kHz |",
        "| --- | --- | --- |",
    ]
    runs = []
    for rate in (44_100, 48_000):
        source = folder / f"{rate}.wav"
        make_sound(source, rate, speed_seconds)
        runs.append(child("extend", str(source), "auto"))
    for label, key in (("without", "seconds"), ("with", "with_start")):
        row = " | ".join(f"**{run[key] / speed_seconds:.4f}**" for run in runs)
        lines.append(f"| real-time factor, {speed_seconds} s, {label} process start | {row} |")
    row = " | ".join(f"{run['cpu'] / speed_seconds:.4f}" for run in runs)
    lines.append(f"| processor seconds a second, without process start; of these | {row} |")
    for stage in runs[0]["stages"]:
        row = " | ".join(f"{run['stages'][stage] / speed_seconds:.4f}" for run in runs)
        lines.append(f"| {stage} | {row} |")

    lines += ["", "| minutes, 44.1 kHz | cutoff | peak memory | over 1 min |", "|---|---|---|---|"]
    first: dict[str, float] = {}
    for length in minutes:
        source = folder / f"{length}.wav"
        make_sound(source, 44_100, 60 * length)
        for cutoff in ("auto", f"{EDGE_HZ:g}"):
            run = child("extend", str(source), cutoff)
            growth = run["peak_mb"] / first.setdefault(cutoff, run["peak_mb"]) - 1
            lines.append(f"| {length} | {cutoff} | {run['peak_mb']:.0f} MB | {growth:+.1%} |")
        source.unlink()
    lines += ["", f"Of this, {runs[0]['started_mb']:.0f} MB are Python, torch and the weights."]

    times = [child("block", str(block))["cpu"] for block in BLOCKS]
    lines += ["", "| samples a block | time, whole sound at once = 1 |", "|---|---|"]
    for block, seconds in zip(BLOCKS, times, strict=True):
        lines.append(f"| {block or 'whole'} | {seconds / times[-1]:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--markdown", action="store_true", help="rewrite docs/performance.md")
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60])
    parser.add_argument("--speed-seconds", type=int, default=120)
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        name, *arguments = options.job
        print(json.dumps({"extend": job_extend, "block": job_block}[name](*arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = "\n".join(measure(Path(folder), options.minutes, options.speed_seconds))
    print(table)
    if options.markdown:
        text = DOCUMENT.read_text()
        begin, end = (text.index(marker) for marker in MARKERS)
        start = begin + len(MARKERS[0])
        DOCUMENT.write_text(f"{text[:start]}\n\n{table}\n\n{text[end:]}")


if __name__ == "__main__":
    main()
