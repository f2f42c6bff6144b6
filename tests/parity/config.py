"""The sizes of a parity set, from its neutral names to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audiosr_core.model.config import (
    AudioSRConfig,
    AutoencoderConfig,
    MelConfig,
    UnetConfig,
    VocoderConfig,
)


def config_of(manifest: Mapping[str, Any]) -> AudioSRConfig:
    """What manifest.json says under "config"."""
    c = manifest["config"]
    audio, stft, mel, latent = c["audio"], c["stft_for_model"], c["mel"], c["latent"]
    vae, unet, vocoder = c["vae"], c["unet"], c["vocoder"]
    return AudioSRConfig(
        mel=MelConfig(
            sample_rate=audio["sample_rate"],
            n_fft=stft["n_fft"],
            hop=stft["hop"],
            mel_bins=mel["bins"],
            f_min=float(mel["f_min"]),
            f_max=float(mel["f_max"]),
            floor=mel["clamp_min"],
        ),
        autoencoder=AutoencoderConfig(
            base_channels=vae["base_channels"],
            channel_mult=tuple(vae["channel_mult"]),
            res_blocks=vae["res_blocks_per_level"],
            in_channels=vae["in_channels"],
            out_channels=vae["out_channels"],
            z_channels=vae["z_channels"],
            embed_dim=vae["embed_dim"],
            norm_groups=vae["group_norm_groups"],
        ),
        unet=UnetConfig(
            in_channels=unet["in_channels"],
            out_channels=unet["out_channels"],
            model_channels=unet["model_channels"],
            channel_mult=tuple(unet["channel_mult"]),
            res_blocks=unet["res_blocks_per_level"],
            attention_at=tuple(unet["attention_at_downsample"]),
            head_channels=unet["head_channels"],
            transformers=unet["transformers_per_attention_site"],
            transformer_depth=unet["transformer_depth"],
            norm_groups=unet["group_norm_groups"],
        ),
        vocoder=VocoderConfig(
            mel_bins=vocoder["mel_bins"],
            initial_channels=vocoder["initial_channels"],
            upsample_rates=tuple(vocoder["upsample_rates"]),
            upsample_kernels=tuple(vocoder["upsample_kernels"]),
            resblock_kernels=tuple(vocoder["resblock_kernels"]),
            resblock_dilations=tuple(vocoder["resblock_dilations"]),
            leaky_slope=vocoder["leaky_slope"],
            last_leaky_slope=vocoder["leaky_slope_before_last_conv"],
        ),
        scale_factor=latent["scale_factor"],
        unconditional=c["diffusion"]["uncond_latent_value_before_scaling"],
    )
