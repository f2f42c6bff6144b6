"""P6 for `audiosr`: what its ways to join do, measured as docs/joins.md does it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from audiosr_core.families import audiosr
from audiosr_core.settings import Settings
from tests.bench.joins import Joins, measure, table
from tests.support.audiosr import small_model


@pytest.fixture(scope="module")
def joins() -> Iterator[dict[str, Joins]]:
    """Windows of 1.28 s, so that a minute of sound is not needed for a dozen joins."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audiosr, "WINDOW", 16)
        patch.setattr(audiosr, "JOINT_STRIDE", 12)
        yield measure(small_model(), Settings(steps=3), 12)
    torch.set_num_threads(threads)


def test_neighbours_with_the_same_noise_are_more_alike(joins: dict[str, Joins]) -> None:
    apart, shared = (joins[f"crossfade, {which} noise"] for which in ("independent", "shared"))
    assert apart.latent is not None
    assert shared.latent is not None
    # chance: four frames of 16 × 32 values, which hang together; eleven joins
    assert abs(apart.latent) < 0.15
    assert shared.latent > apart.latent + 0.15


def test_no_join_is_louder_or_quieter_than_what_it_joins(joins: dict[str, Joins]) -> None:
    for name in ("crossfade, independent noise", "crossfade, shared noise"):
        energy = joins[name].energy_db
        assert energy is not None
        assert abs(energy) < 0.05  # the two versions' powers, faded into each other


def test_no_join_stands_out_of_its_surroundings(joins: dict[str, Joins]) -> None:
    for name, one in joins.items():
        assert one.spread_db is not None
        # P4 allows 0.1 dB; chance gives the mean of so many joins its own deviation, three of it
        assert abs(one.level_db) < 0.1 + 3 * one.spread_db / np.sqrt(one.count), name
        assert one.spike < 1.3, name  # of the greatest bend beside the joins


def test_the_table_has_a_line_for_every_way(joins: dict[str, Joins]) -> None:
    lines = table(joins)
    assert len(lines) == 2 + len(joins)
    assert {line.count("|") for line in lines} == {9}
