"""What a second process, and Ray, cost and bring on an album of small songs.

python -m tests.bench.stems [--songs 8] [--stems 4] [--seconds 10]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from audiosr_core.settings import Settings
from plugin_host.place import Where
from plugin_host.stems.album import read_album
from plugin_host.stems.batch import SongResult, run_batch
from plugin_host.stems.local import LocalCrew
from plugin_host.stems.ray_crew import RayCrew
from plugin_host.stems.seat import Crew, extending
from tests.support.albums import album
from tests.support.stem_work import opened

HERE = Where(device="cpu", daemon=False)


class Silent:
    """Nobody is told, but a failure is no measurement."""

    def progress(self, name: str, fraction: float, whole: float) -> None:
        pass

    def ended(self, song: SongResult) -> None:
        assert song.state == "done", song.error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=8)
    parser.add_argument("--stems", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--copy", action="store_true", help="copy instead of extending")
    options = parser.parse_args()
    opener = opened if options.copy else extending
    crews: dict[str, Callable[[], Crew]] = {
        "local, 1 job": lambda: LocalCrew(1, HERE, opener),
        "local, 2 jobs": lambda: LocalCrew(2, HERE, opener),
        "ray, 1 job": lambda: RayCrew(1, HERE, None, opener),
        "ray, 2 jobs": lambda: RayCrew(2, HERE, None, opener),
    }
    with tempfile.TemporaryDirectory() as folder:
        names = [f"song {number}" for number in range(options.songs)]
        top = album(Path(folder) / "album", *names, stems=options.stems, seconds=options.seconds)
        for name, crew in crews.items():
            out = Path(folder) / name
            began = time.monotonic()
            run_batch(read_album(top, out, recursive=True), out, Settings(), crew, Silent())
            print(f"{name:15} {time.monotonic() - began:6.1f} s")


if __name__ == "__main__":
    main()
