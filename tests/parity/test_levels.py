"""AudioSR with its official weights gives the level back: why no gain law is measured for it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.parity.levels import Band, levels
from tests.support.parity import parity_folder


@pytest.fixture(scope="module")
def bands() -> list[Band]:
    folder = parity_folder()
    if not (folder / "official_run.npz").is_file():
        pytest.skip("this parity set has no run with the official weights")
    return levels(folder)


def test_the_band_that_was_shown_comes_back_at_its_level(bands: list[Band]) -> None:
    shown = [b for b in bands if b.low_hz >= 1_000 and b.high_hz <= 7_000]
    assert shown
    for band in shown:
        assert abs(band.difference) < 0.3, band  # dB; a third of what is just noticed


def test_the_generated_band_begins_without_a_step(bands: list[Band]) -> None:
    around = [b for b in bands if b.low_hz >= 6_500]  # the cutoff is at 7.8 kHz
    for one, other in pairwise(around):
        assert abs(one.generated - other.generated) < 3, (one, other)  # dB between neighbours
