"""What a checkpoint of the `audiosr` family fixes: the sizes of its four networks.

The defaults are the published ones (basic and speech alike); any other sizes build the same code.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audiosr_core.errors import ModelError


@dataclass(frozen=True)
class MelConfig:
    """The log-mel spectrogram that the autoencoder codes and the vocoder plays."""

    sample_rate: int = 48_000  # Hz
    n_fft: int = 2048
    hop: int = 480
    mel_bins: int = 256
    f_min: float = 20.0  # Hz
    f_max: float = 24_000.0  # Hz
    floor: float = 1e-5  # magnitudes are clamped here before the logarithm


@dataclass(frozen=True)
class AutoencoderConfig:
    """The KL-VAE on log-mel spectrograms."""

    base_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)
    res_blocks: int = 2  # per level of the encoder; the decoder has one more
    in_channels: int = 1
    out_channels: int = 1
    z_channels: int = 16
    embed_dim: int = 16
    norm_groups: int = 32

    @property
    def downsample(self) -> int:
        """Mel frames (and bins) per latent frame (and bin)."""
        return int(2 ** (len(self.channel_mult) - 1))


@dataclass(frozen=True)
class UnetConfig:
    """The diffusion U-Net; the condition comes in as more channels."""

    in_channels: int = 32  # noisy latent, then condition
    out_channels: int = 16
    model_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 3, 5)
    res_blocks: int = 2  # per level on the way down; one more on the way up
    attention_at: tuple[int, ...] = (8, 4, 2)  # downsampling factors with attention
    head_channels: int = 32
    transformers: int = 2  # per attention site
    transformer_depth: int = 1
    norm_groups: int = 32

    @property
    def time_multiple(self) -> int:
        """Latent frames must be a multiple of this."""
        return int(2 ** (len(self.channel_mult) - 1))


@dataclass(frozen=True)
class VocoderConfig:
    """The HiFi-GAN generator."""

    mel_bins: int = 256
    initial_channels: int = 1536
    upsample_rates: tuple[int, ...] = (6, 5, 4, 2, 2)
    upsample_kernels: tuple[int, ...] = (12, 10, 8, 4, 4)
    resblock_kernels: tuple[int, ...] = (3, 7, 11, 15)
    resblock_dilations: tuple[int, ...] = (1, 3, 5)
    leaky_slope: float = 0.1
    last_leaky_slope: float = 0.01

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_rates)


@dataclass(frozen=True)
class AudioSRConfig:
    """One checkpoint of the family."""

    mel: MelConfig = field(default_factory=MelConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    scale_factor: float = 0.3342401385307312  # latents are multiplied by it before diffusion
    unconditional: float = -11.4981  # the condition latent that means "no condition", unscaled

    @property
    def latent_bins(self) -> int:
        return self.mel.mel_bins // self.autoencoder.downsample

    @property
    def latent_hop(self) -> int:
        """Samples per latent frame."""
        return self.mel.hop * self.autoencoder.downsample

    @property
    def frame_multiple(self) -> int:
        """Mel frames that the networks take at once are a multiple of this."""
        return self.autoencoder.downsample * self.unet.time_multiple

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; `config_from` is its inverse."""
        return dataclasses.asdict(self)


_PARTS = {
    "mel": MelConfig,
    "autoencoder": AutoencoderConfig,
    "unet": UnetConfig,
    "vocoder": VocoderConfig,
}


def config_from(values: Mapping[str, Any]) -> AudioSRConfig:
    """The config that `as_dict` gave, back from JSON; ModelError if it is not one."""
    try:
        parts: dict[str, Any] = {
            name: part(**{k: _as_tuple(v) for k, v in values[name].items()})
            for name, part in _PARTS.items()
        }
        rest: dict[str, Any] = {k: float(v) for k, v in values.items() if k not in _PARTS}
        return AudioSRConfig(**parts, **rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"this is no config of an audiosr model: {error!r}") from error


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
