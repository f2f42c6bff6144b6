"""The published pipeline from one sound to one wave; the picture is in `reference`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosr_core.audio import Samples
from audiosr_core.diffusion import Step, cosine_schedule, guided, sample_ddim, steps_reference
from audiosr_core.diffusion.samplers import PredictV
from audiosr_core.errors import AudioError
from audiosr_core.mel import LogMel
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.model.autoencoder import sample
from audiosr_core.reference.back import final_level, replace_low_mel, replace_low_wave
from audiosr_core.reference.draws import Draws
from audiosr_core.reference.front import prepare

OnStage = Callable[[str, Any], None]
"""Told the name and value of each thing made: a float32 array, a number or a word."""


def _ignore(name: str, value: Any) -> None:
    pass


@torch.inference_mode()
def run_reference(
    networks: AudioSR,
    wave: Samples,
    sample_rate: int,
    *,
    draws: Draws,
    steps: int = 50,
    guidance_scale: float = 3.5,
    eta: float = 1.0,
    on_stage: OnStage = _ignore,
) -> Samples:
    """What the published code makes of a sound, [480 · T + 16] float32 at the model's rate.

    Args:
        networks: on any device; the randomness is the CPU's
        wave: float32 [channels, samples]; only the first channel is heard
        draws: `Draws(seed)`
        on_stage: told of everything on the way, in its order; raise from it to cancel

    Raises:
        AudioError: what the published code crashes on: silence, sounds below 1 kHz or of less
            than 100 samples, and some lengths
        SettingsError: a step count for which it has no timesteps
    """
    config = networks.config
    schedule = steps_reference(cosine_schedule(), steps)
    device = next(networks.parameters()).device
    mel = LogMel(config.mel).to(device)

    kind = draws.filter_kind()
    on_stage("filter_kind", kind)
    front = prepare(wave[0], sample_rate, mel, kind)
    for name, value in vars(front).items():
        on_stage(name, value)
    frames = len(front.low_mel)
    if frames % config.frame_multiple:
        raise AudioError(
            f"reference mode needs a multiple of {config.frame_multiple} mel frames, but its"
            f" arithmetic makes {frames} of these {wave.shape[1]} samples at {sample_rate} Hz;"
            " add or drop a sample, or use the product mode"
        )

    latent = (1, config.autoencoder.embed_dim, frames // config.autoencoder.downsample)
    condition = _condition(
        networks, _image(front.low_mel, device), draws, (*latent, config.latent_bins), on_stage
    )
    z = _walk(networks, condition, draws, schedule, guidance_scale, eta, on_stage)
    on_stage("final_latent", z.cpu().numpy())

    decoded = networks.autoencoder.decode(z / config.scale_factor)[0, 0].cpu().numpy()
    on_stage("decoded_mel", decoded)
    whole = replace_low_mel(decoded, front.low_mel)
    on_stage("mel_cutoff_bin", whole.cutoff_bin)
    on_stage("vocoder_mel", whole.mel)
    generated = networks.vocoder(_image(whole.mel, device)[:, 0].mT)[0].cpu().numpy()
    on_stage("vocoder_wave", generated)
    spliced = replace_low_wave(generated, front.low_wave)
    on_stage("wave_cutoff_bin", spliced.cutoff_bin)
    on_stage("wave_ratio", spliced.ratio)
    on_stage("spliced_wave", spliced.wave)
    final = final_level(spliced.wave)
    on_stage("final_wave", final)
    return final


def _image(mel: NDArray[np.float32], device: torch.device) -> Tensor:
    """[T, bins] → [1, 1, T, bins]."""
    return torch.from_numpy(mel).to(device)[None, None]


def _condition(
    networks: AudioSR, mel: Tensor, draws: Draws, shape: tuple[int, ...], on_stage: OnStage
) -> Tensor:
    """A sample of the posterior, unscaled, of `shape` [1, channels, T/8, bins].

    The published code first encodes the other mel and throws it away; only its draw is kept.
    """
    on_stage("noise_discarded", draws.normal(shape).numpy())
    noise = draws.normal(shape)
    on_stage("noise_condition", noise.numpy())
    mean, logvar = networks.autoencoder.encode(mel)
    condition = sample(mean, logvar, noise.to(mean))
    on_stage("condition", condition.cpu().numpy())
    return condition


def _walk(
    networks: AudioSR,
    condition: Tensor,
    draws: Draws,
    steps: tuple[Step, ...],
    guidance_scale: float,
    eta: float,
    on_stage: OnStage,
) -> Tensor:
    """DDIM from the draws to a scaled latent, like `condition`."""
    shape = tuple(condition.shape)
    x = draws.normal(shape)
    on_stage("x_T", x.numpy())

    def noise(i: int) -> Tensor:
        drawn = draws.normal(shape)
        on_stage("step_noise", drawn.numpy())
        return drawn.to(condition)

    def on_step(i: int) -> None:
        if eta == 0:  # published: drawn all the same, then multiplied by nothing
            noise(i)

    predict = guided_network(networks, condition, guidance_scale)

    def predict_v(x: Tensor, t: int) -> Tensor:
        on_stage("x", x.cpu().numpy())
        return predict(x, t)

    return sample_ddim(predict_v, x.to(condition), steps, noise, eta, on_step)


def guided_network(networks: AudioSR, condition: Tensor, scale: float) -> PredictV:
    """v of (x, t) with guidance, given an unscaled condition latent [B, channels, T/8, bins]."""
    factor = networks.config.scale_factor

    def predict(x: Tensor, t: int, condition: Tensor) -> Tensor:
        at = torch.full((len(x),), t, device=x.device)
        v: Tensor = networks.unet(torch.cat([x, condition], dim=1), at)
        return v

    return guided(predict, condition * factor, networks.config.unconditional * factor, scale)
