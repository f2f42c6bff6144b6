"""P7: memory is flat. A process of its own for each length, for a peak never falls again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.extend import EDGE_HZ, child, make_sound


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_memory_does_not_grow_with_duration(tmp_path: Path) -> None:
    peaks = []
    for seconds in (30, 120):
        make_sound(tmp_path / f"{seconds}.wav", 44_100, seconds)
        peaks.append(child("extend", str(tmp_path / f"{seconds}.wav"), f"{EDGE_HZ:g}")["peak_mb"])
    # 90 s of stereo as float64 are 64 MB, a twelfth of the peak: one array of the whole fails
    assert peaks[1] < 1.05 * peaks[0], peaks
