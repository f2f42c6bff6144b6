"""qtractor's scanner: loads a CLAP without a screen and prints what it offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hosts.bench import CLAP, Bench, Check

NAME = "qtractor's scanner"


def missing() -> str:
    return "" if _scanner() else "install qtractor"


def run(bench: Bench) -> Iterator[Check]:
    scanner = _scanner()
    assert scanner is not None
    with bench.without_daemon():
        done = bench.run([scanner], text=f"CLAP:{bench.clap}\n")
    found = [line for line in done.stdout.splitlines() if line.startswith("CLAP|")]
    yield Check(NAME, "CLAP", "loads", len(found) >= len(CLAP), f"{len(found)} plugins found")
    for channels, column in ((1, "mono"), (2, "stereo")):
        ports = f"|{channels}:{channels}|"
        there = any(ports in line for line in found)
        yield Check(NAME, "CLAP", column, there, " / ".join(found)[:200])


def _scanner() -> Path | None:
    return next(Path("/usr/lib").glob("*/qtractor/qtractor_plugin_scan"), None)
