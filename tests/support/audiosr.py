"""The `audiosr` family with networks that a test can afford, and sounds for it.

The weights are the recipe's, so the networks are untrained: what they add is no music, but a loud
band that depends on everything it should depend on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from audiosr_core import store
from audiosr_core.families.audiosr import AudioSRModel
from audiosr_core.model.audiosr import build
from audiosr_core.model.config import AudioSRConfig, AutoencoderConfig, VocoderConfig
from tests.support.checkpoints import TINY
from tests.support.recipe import recipe_weights

SMALL = dataclasses.replace(
    TINY,
    autoencoder=AutoencoderConfig(
        base_channels=4, channel_mult=(1, 1, 2, 2), res_blocks=1, norm_groups=4
    ),
    vocoder=VocoderConfig(
        initial_channels=32, resblock_kernels=(3, 7), resblock_dilations=(1,)
    ),
)  # fmt: skip
"""Every kind of part, once; a window of 5.12 s takes half a second on one thread."""


def small_model() -> AudioSRModel:
    """The smallest networks, in a model of their own."""
    return AudioSRModel(build(SMALL, recipe_weights(SMALL)), "small")


def install(
    id: str = "audiosr-basic",
    config: AudioSRConfig = SMALL,
    tensors: Mapping[str, Tensor] | None = None,
) -> store.ModelInfo:
    """Put networks into the store of models, as an import would leave them."""
    weights = dict(tensors if tensors is not None else recipe_weights(config))
    with store.staging() as folder:
        path = folder / store.WEIGHTS
        save_file(weights, path, {"config": json.dumps(config.as_dict())})
        card = {
            "id": id,
            "family": "audiosr",
            "description": "arithmetic weights",
            "licence": "MIT",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size_bytes": path.stat().st_size,
            "num_parameters": sum(one.numel() for one in weights.values()),
            "config": config.as_dict(),
        }
        return store.install(folder, card, replace=True)


def muffled(
    num_channels: int,
    num_samples: int,
    edge_hz: float = 8_000.0,
    sample_rate: int = 44_100,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Noise whose band ends like a wall, peak 0.3, [channels, samples]."""
    x = np.random.default_rng(seed).standard_normal((num_channels, num_samples))
    spectrum = np.fft.rfft(x, axis=1)
    spectrum[:, np.fft.rfftfreq(num_samples, 1 / sample_rate) > edge_hz] = 0
    x = np.fft.irfft(spectrum, num_samples, axis=1)
    return (0.3 * x / np.abs(x).max()).astype(np.float32)
