"""The level at which AudioSR gives a sound back, from the recorded run with the official weights.

    python -m tests.parity.levels DIR

The networks were shown a sound at a peak of 0.5. If what the vocoder makes of the part that they
were shown has the level of that part, the part that they add has the right level too, and nothing
must be measured or corrected (`anchored` in `families.audiosr`; docs/parity.md has the table).
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.reference.front import normalise

RATE = 48_000
SIZE = 4_096
WINDOW = ("kaiser", 14.0)  # the bass is 50 dB louder than the rest and must not leak into it
BANDS_HZ = (20, 500, 1_000, 2_000, 3_000, 5_000, 6_500, 7_000, 7_500, 8_000, 8_500, 9_000, 10_000,
            12_000)  # fmt: skip


class Band(NamedTuple):
    """Mean power density of one band, dB."""

    low_hz: int
    high_hz: int
    original: float
    generated: float

    @property
    def difference(self) -> float:
        return self.generated - self.original


def levels(folder: Path) -> list[Band]:
    """The original as the networks heard it against the vocoder's wave, first two seconds.

    Raises:
        FileNotFoundError: the set has no recorded run
    """
    recorded = np.load(folder / "official_run.npz")
    generated = recorded["vocoder_wave_first_96000"].astype(np.float64)
    heard = normalise(recorded["pcm16"] / 2.0**15)[: len(generated)]
    return [
        Band(low, high, _density(heard, low, high), _density(generated, low, high))
        for low, high in pairwise(BANDS_HZ)
    ]


def _density(wave: NDArray[np.float64], low_hz: float, high_hz: float) -> float:
    hz, power = signal.welch(wave, RATE, WINDOW, SIZE, detrend=False)
    return float(10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].mean()))


def table(bands: list[Band]) -> str:
    """In Markdown."""
    rows = ["| kHz | original, dB/Hz | generated, dB/Hz | difference, dB |", "|---|---|---|---|"]
    rows += [
        f"| {b.low_hz / 1000:g} to {b.high_hz / 1000:g} | {b.original:.1f} | {b.generated:.1f}"
        f" | {b.difference:+.2f} |"
        for b in bands
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(table(levels(Path(sys.argv[1]))) + "\n")
