"""Read the networks of an `audiosr` model from its file, a few tensors at a time.

The file is mapped into memory, and what was read of a map stays in memory until it is closed. So
it is opened anew for every few tensors, each is copied into the layout that the processor likes
best, and the peak is hardly more than the networks themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audiosr_core.errors import ModelError
from audiosr_core.model.audiosr import AudioSR, build, laid_out
from audiosr_core.model.config import config_from

AT_ONCE = 32  # tensors


def read_networks(path: Path) -> AudioSR:
    """The networks in float32, on the CPU, channels last.

    Raises:
        ModelError: the file is damaged, or not of this family
    """
    try:
        with safe_open(path, "pt") as file:
            config = config_from(json.loads((file.metadata() or {})["config"]))
            keys = list(file.keys())
        return build(config, dict(_tensors(path, keys)))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"the weights in {path.name} cannot be used: {error}") from error


def _tensors(path: Path, keys: list[str]) -> Iterator[tuple[str, Tensor]]:
    for i in range(0, len(keys), AT_ONCE):
        with safe_open(path, "pt") as file:
            for key in keys[i : i + AT_ONCE]:
                yield key, laid_out(file.get_tensor(key).to(torch.float32))
