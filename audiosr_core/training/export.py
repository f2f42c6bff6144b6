"""From a checkpoint to what the wheel carries: fp16 safetensors and a card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from audiosr_core.model.lite import LiteConfig
from audiosr_core.store import hash_file


def export(checkpoint: Path, folder: Path, id: str = "lite") -> Path:
    """Write `id`.safetensors (EMA weights, fp16) and `id`.json into `folder`."""
    state = torch.load(checkpoint, weights_only=True)
    weights = {key: value.half().contiguous() for key, value in state["ema"].items()}
    target = folder / f"{id}.safetensors"
    metadata = {
        "config": json.dumps(asdict(LiteConfig())),
        "family": "lite",
        "licence": "MIT",
        "steps": str(state["step"]),
    }
    save_file(weights, target, metadata)
    card = {
        "family": "lite",
        "description": "small general-purpose model, one pass, 48 kHz, runs on any CPU",
        "licence": "MIT (weights); training data and attributions in docs/models/lite.md",
        "sha256": hash_file(target),
        "size_bytes": target.stat().st_size,
        "num_parameters": sum(value.numel() for value in weights.values()),
    }
    (folder / f"{id}.json").write_text(json.dumps(card, indent=1) + "\n")
    return target
