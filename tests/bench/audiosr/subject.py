"""What is measured: networks of some size, kept in a folder as the store keeps models.

tiny     0.2 M parameters, to debug with          weights by arithmetic (tests/support/recipe.py)
parity   5.8 M, the parity set's own              its weights
full     672 M, the published sizes               weights by arithmetic
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from audiosr_core import store
from audiosr_core.audio import Samples
from audiosr_core.checkpoint.writing import Entry, write_safetensors
from audiosr_core.families.weights import read_networks
from audiosr_core.model.audiosr import AudioSR, build, layout
from audiosr_core.model.config import AudioSRConfig
from tests.parity.config import config_of
from tests.support.checkpoints import TINY
from tests.support.recipe import recipe_weight

EDGE_HZ = 7_500.0


@dataclass(frozen=True)
class Subject:
    """One model of the store."""

    id: str
    path: Path
    config: AudioSRConfig

    @property
    def is_full(self) -> bool:
        return self.config.unet == AudioSRConfig().unet

    def ours(self) -> AudioSR:
        """The networks as the product loads them."""
        return read_networks(self.path)

    def plain(self) -> AudioSR:
        """The same numbers, every tensor contiguous."""
        tensors = {key: one.contiguous() for key, one in load_file(self.path).items()}
        return build(self.config, tensors)


def subject(size: str, folder: Path, parity: Path | None) -> Subject:
    """The model of this size; made on first use, and then taken from the folder."""
    os.environ[store.FOLDER_VARIABLE] = str(folder.absolute())
    id = f"bench-{size}"
    if not (folder / id).exists():
        _make(id, *_content(size, parity))
    info = store.model_info(id)
    info.verify(trust_stamp=True)
    with safe_open(info.path, "pt") as file:
        assert (file.metadata() or {})["family"] == "audiosr"
    return Subject(id, info.path, _config(size, parity))


def sound(seconds: float, num_channels: int = 1, sample_rate: int = 48_000) -> Samples:
    """Noise and partials with an edge at 7.5 kHz, float32 [channels, samples]."""
    n = round(seconds * sample_rate)
    rng = np.random.default_rng(1)
    t = np.arange(n) / sample_rate
    x = 0.1 * rng.standard_normal((num_channels, n))
    x += sum(0.05 * np.sin(2 * np.pi * f * t) for f in (220, 331, 443, 1760))
    f = np.fft.rfftfreq(n, 1 / sample_rate)
    slope = np.minimum(1, (200 / np.maximum(f, 1)) ** 0.7)
    x = np.fft.irfft(np.fft.rfft(x) * slope * (f < EDGE_HZ), n)
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def _config(size: str, parity: Path | None) -> AudioSRConfig:
    if size == "full":
        return AudioSRConfig()
    if size == "tiny":
        return TINY
    if parity is None:
        raise SystemExit("--size parity needs --parity DIR, the folder of a parity set")
    return config_of(json.loads((parity / "manifest.json").read_text()))


def _content(size: str, parity: Path | None) -> tuple[AudioSRConfig, Callable[[str], Tensor]]:
    config = _config(size, parity)
    if size == "parity":
        assert parity is not None
        tensors = load_file(parity / "weights.safetensors")
        return config, lambda key: tensors[key].float()
    shapes = layout(config)
    return config, lambda key: recipe_weight(key, shapes[key])


def _make(id: str, config: AudioSRConfig, weight: Callable[[str], Tensor]) -> None:
    shapes = layout(config)

    @contextlib.contextmanager
    def get(key: str) -> Iterator[Tensor]:
        yield weight(key)

    with store.staging() as folder:
        entries = {key: Entry(torch.float32, shape) for key, shape in shapes.items()}
        metadata = {"format": "pt", "family": "audiosr", "config": json.dumps(config.as_dict())}
        sha256, size = write_safetensors(folder / store.WEIGHTS, entries, get, metadata)
        card = {
            "id": id,
            "family": "audiosr",
            "description": "to be measured, not to be heard",
            "licence": "none needed",
            "sha256": sha256,
            "size_bytes": size,
            "num_parameters": sum(int(np.prod(shape)) for shape in shapes.values()),
            "config": config.as_dict(),
        }
        store.install(folder, card)
