"""The most memory that `extend` ever holds, loading included: a process of its own for each length.

The peak is the process's own (`VmHWM`), so Python, torch and the mapped file count.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.audiosr.subject import EDGE_HZ, Subject
from tests.bench.audiosr.tables import Table
from tests.bench.extend import make_sound, peak_mb

ROOT = Path(__file__).parents[3]
LIMIT_SECONDS = 7200


def measure(subject: Subject, seconds: Sequence[int], steps: int, threads: int) -> list[Table]:
    rows: list[tuple[object, ...]] = [("loading alone", *_child(threads, "load", subject.id))]
    with tempfile.TemporaryDirectory() as folder:
        for length in seconds:
            source = Path(folder) / f"{length}.wav"
            make_sound(source, 48_000, length)
            made = _child(threads, "extend", subject.id, str(source), str(steps))
            rows.append((f"{length} s of stereo, steps: {steps}", *made))
            source.unlink()
    return [Table(f"Peak memory, {subject.id}", ("what", "MB", "s"), rows)]


def job(name: str, id: str, *arguments: str) -> None:
    """What a child does; its last line is the peak and the seconds as JSON."""
    began = time.perf_counter()
    if name == "load":
        from audiosr_core.store import load_model

        load_model(id)
    else:
        _extend(id, *arguments)
    print(json.dumps([peak_mb(), time.perf_counter() - began]))


def _extend(id: str, source: str, steps: str) -> None:
    from plugin_host.cli import main

    sys.argv = [
        "audiosr-bridge", "extend", source, "--model", id, "--steps", steps,
        "--cutoff", f"{EDGE_HZ:g}", "--quiet",
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as done:
            if done.code:
                raise


def _child(threads: int, *arguments: str) -> tuple[float, float]:
    few = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.audiosr", "--job", *arguments],
        env={**os.environ, **few}, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        timeout=LIMIT_SECONDS, check=True,
    )  # fmt: skip
    peak, seconds = json.loads(done.stdout.splitlines()[-1])
    return peak, seconds
