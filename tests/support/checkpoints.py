"""Checkpoints like the published ones, at any size: same names, same ballast, made-up values.

model.diffusion_model.*      live U-Net                     needed
model_ema.*                  its average, dots removed      ballast: other values
first_stage_model.*          autoencoder, vocoder           needed
cond_stage_models.0.vae.*    the same once more             ballast: same values
clap.*, schedule, logvar     not used here                  ballast, some of it integer
scale_factor                 a number                       needed
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from audiosr_core.checkpoint.keys import AUTOENCODER, CONDITIONER, UNET, UNUSED, averaged_name
from audiosr_core.model.audiosr import layout
from audiosr_core.model.config import (
    AudioSRConfig,
    AutoencoderConfig,
    UnetConfig,
    VocoderConfig,
)

SCALE_FACTOR = 0.5

TINY = AudioSRConfig(
    autoencoder=AutoencoderConfig(
        base_channels=8, channel_mult=(1, 1, 1, 1), res_blocks=1, norm_groups=8
    ),
    unet=UnetConfig(
        model_channels=16,
        channel_mult=(1, 1, 1, 1),
        res_blocks=1,
        attention_at=(4,),
        head_channels=8,
        norm_groups=8,
    ),
    vocoder=VocoderConfig(initial_channels=32),
    scale_factor=SCALE_FACTOR,
)
"""The same code in 0.2 million parameters; its latents have the published shape."""


def needed_tensors(config: AudioSRConfig = TINY, seed: int = 0) -> dict[str, Tensor]:
    """What inference needs, under official keys; values small, so that nothing overflows."""
    random = torch.Generator().manual_seed(seed)
    return {
        key: 0.02 * torch.randn(shape, generator=random) + (1.0 if key.endswith("norm") else 0.0)
        for key, shape in layout(config).items()
    }


def official_state(
    config: AudioSRConfig = TINY, seed: int = 0, needed: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """A whole state dict like the published ones, ballast included."""
    needed = needed or needed_tensors(config, seed)
    state = {name: torch.linspace(0, 1, 1000) for name in sorted(UNUSED)}
    state["scale_factor"] = torch.tensor(config.scale_factor)
    state |= needed
    state |= {averaged_name(k): v + 1 for k, v in needed.items() if k.startswith(UNET)}
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.num_updates"] = torch.tensor(7, dtype=torch.int32)
    state |= {
        CONDITIONER + k.removeprefix(AUTOENCODER): v.clone()
        for k, v in needed.items()
        if k.startswith(AUTOENCODER)
    }
    state["clap.model.logit_scale_a"] = torch.tensor(2.6)
    state["clap.model.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    state["clap.model.audio_branch.bn0.num_batches_tracked"] = torch.tensor(3)
    return state


def write_official(
    path: Path,
    config: AudioSRConfig = TINY,
    seed: int = 0,
    needed: dict[str, Tensor] | None = None,
) -> Path:
    """A file like the published `pytorch_model.bin`."""
    torch.save({"state_dict": official_state(config, seed, needed)}, path)
    return path
