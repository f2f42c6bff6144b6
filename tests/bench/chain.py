"""What a `Chain` costs where it holds plugins only, against `pedalboard.Pedalboard`.

    python -m tests.bench.chain [--runs 21] [--seconds 20]

Runs alternate, so that whatever else the machine does meets both; the median of their ratios is
given, one JSON line a case.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pedalboard
from pedalboard import Chorus, Compressor, Gain, HighpassFilter, Limiter, Pedalboard, Reverb

from plugin_host import Chain

RATE = 44_100
BOARDS: dict[str, Callable[[], list[pedalboard.Plugin]]] = {
    "gain": lambda: [Gain(-3)],
    "mastering": lambda: [HighpassFilter(30), Compressor(-20, 2), Limiter(-1)],
    "effects": lambda: [Chorus(), Reverb(), Gain(-3)],
}


def seconds(plugin: Callable[..., Any], sound: Any) -> float:
    began = time.perf_counter()
    plugin(sound, RATE)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    shape = (2, round(arguments.seconds * RATE))
    x = (0.2 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    interleaved = np.ascontiguousarray(x.T)
    for name, plugins in BOARDS.items():
        board, chain = Pedalboard(plugins()), Chain(plugins())
        for layout, sound in (("channels_first", x), ("channels_last", interleaved)):
            equal = np.array_equal(board(sound, RATE), chain(sound, RATE))
            pairs = [(seconds(board, sound), seconds(chain, sound)) for _ in range(arguments.runs)]
            result = {
                "chain": name,
                "layout": layout,
                "bit_equal": equal,
                "pedalboard_seconds": round(statistics.median(a for a, _ in pairs), 5),
                "chain_seconds": round(statistics.median(b for _, b in pairs), 5),
                "ratio": round(statistics.median(b / a for a, b in pairs), 4),
            }
            print(json.dumps(result))


if __name__ == "__main__":
    main()
