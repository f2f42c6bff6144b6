"""The arithmetic weights are those that the recorded outputs at full size were made with."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch

from audiosr_core.model.audiosr import layout
from audiosr_core.model.config import AudioSRConfig
from tests.support.parity import parity_folder
from tests.support.recipe import BLOCK, INPUTS, recipe_input, recipe_weight, uniform


def test_weights_begin_as_recorded() -> None:
    recorded = json.loads((parity_folder() / "manifest.json").read_text())["full_config_recipe"]
    shapes = layout(AudioSRConfig())
    for key, values in recorded["first_values"].items():
        made = recipe_weight(key, shapes[key], recorded["global_seed"]).flatten()
        np.testing.assert_array_equal(made[: len(values)], np.float32(values))


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_the_recorded_ones(name: str) -> None:
    folder = parity_folder()
    seed = json.loads((folder / "manifest.json").read_text())["full_config_recipe"]["global_seed"]
    with np.load(folder / "full_config.npz") as recorded:
        wanted = torch.from_numpy(recorded[f"in/{name}"])
    assert torch.equal(recipe_input(name, tuple(wanted.shape), seed), wanted)


def test_blocks_are_one_stream() -> None:
    whole = np.concatenate(list(uniform("key", BLOCK + 5)))
    assert whole.shape == (BLOCK + 5,)
    assert -1 <= whole.min() < -0.99 < 0.99 < whole.max() < 1
    np.testing.assert_array_equal(next(uniform("key", 3)), whole[:3])
    z = (BLOCK + 1) * 0x9E3779B97F4A7C15  # Python's integers, the last step by step
    z = (z + ((zlib.crc32(b"key") << 32) | 20230915)) % 2**64
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) % 2**64
    assert ((z ^ z >> 31) >> 40) * 2.0**-23 - 1 == whole[BLOCK]
