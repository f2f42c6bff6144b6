"""The command line as a process of its own, as from a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def start(folder: Path, *arguments: str, **environment: str | None) -> subprocess.Popen[bytes]:
    """The command in this folder.

    Args:
        environment: what differs from ours; None for a variable that is not there
    """
    differs = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    env = {name: text for name, text in {**os.environ, **differs}.items() if text is not None}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "plugin_host.cli", *arguments],
        cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe,
        preexec_fn=_hear_interrupts,
    )  # fmt: skip


def ended(
    process: subprocess.Popen[bytes], timeout_seconds: float
) -> tuple[int, list[dict[str, Any]], str]:
    """Its exit code, the JSON lines of standard output, and standard error."""
    out, err = process.communicate(timeout=timeout_seconds)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


def _hear_interrupts() -> None:
    """A suite started in the background inherits SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
