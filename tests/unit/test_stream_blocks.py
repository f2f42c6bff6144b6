"""The size of blocks changes no bit, and their memory stays the caller's."""

from __future__ import annotations

import numpy as np
import pytest

from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision
from audiosr_core.settings import Settings
from audiosr_core.store import load_model
from audiosr_core.stream import Stream


def _walk(x: np.ndarray, block: int) -> np.ndarray:
    decision = Decision(44_100, Cutoff(7_500.0, 1.0, False, ""), True, False, (False,), 0.0, "")
    stream = Stream(load_model("lite"), 44_100, 1, Settings(), decision)
    memory = np.zeros((1, block), np.float32)
    out = []
    for i in range(0, x.shape[1], block):
        part = x[:, i : i + block]
        memory[:, : part.shape[1]] = part  # a host hands over the same memory again and again
        out.append(stream.push(memory[:, : part.shape[1]]))
    return np.concatenate([*out, stream.flush()], axis=1)


@pytest.mark.parametrize("block", [7, 64, 4_093])  # many joins of tiny blocks; some; none
def test_the_size_of_blocks_changes_no_bit(block: int) -> None:
    x = (0.1 * np.random.default_rng(0).standard_normal((1, 44_100 * 10))).astype(np.float32)
    assert np.array_equal(_walk(x, block), _walk(x, x.shape[1]))
