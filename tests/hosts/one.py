"""One host, in a process of its own: `python -m tests.hosts.one HOST`; a JSON line a check.

Some hosts are libraries. So the bench's variables are this process's own, and a plugin that
crashes takes nothing with it but this.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from tests.hosts.bench import Bench, Check

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 600.0


def host(name: str) -> ModuleType:
    return importlib.import_module(f"tests.hosts.{name}")


def checks(name: str, *, quick: bool = False, limit: float = LIMIT_SECONDS) -> Iterator[Check]:
    """All of a host's, as they come; one more that failed where it did not get to its end."""
    with tempfile.TemporaryDirectory(prefix="asb") as folder:
        errors = Path(folder) / "errors"
        command = ["timeout", "--kill-after=5", str(limit), sys.executable, "-m", "tests.hosts.one",
                   name, folder, *(["--quick"] if quick else [])]  # fmt: skip
        with (
            errors.open("wb") as stderr,
            subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                yield Check(**json.loads(line))
        _end_daemons(Path(folder))
        said = errors.read_text(errors="replace").strip().splitlines()
    if process.returncode:
        detail = f"ended with {process.returncode}: {' / '.join(said[-3:])}"
        yield Check(host(name).NAME, "", "loads", False, detail)


def _end_daemons(folder: Path) -> None:
    """Of a host that crashed, and took nobody with it."""
    for path in folder.glob("*/run/daemon.json"):
        with contextlib.suppress(OSError):
            os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("folder", type=Path, nargs="?", help="for the bench's own")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no check
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it owns ends with it
    with Bench(arguments.quick, arguments.folder) as bench:
        os.environ.update(bench.environment)
        for check in host(arguments.host).run(bench):
            print(json.dumps(dataclasses.asdict(check)), file=out, flush=True)


if __name__ == "__main__":
    main()
