"""Diffusion as mathematics: nothing here knows a network, a device or a sound.

schedule    ᾱ of the training steps
timesteps   which of them a sampler visits
samplers    from noise to a latent
guidance    the network with and without its condition
joint       many windows of one latent at a time
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from audiosr_core.diffusion.guidance import guided
from audiosr_core.diffusion.joint import joint
from audiosr_core.diffusion.samplers import sample_ddim, sample_dpmpp_2m, sample_unipc
from audiosr_core.diffusion.schedule import Schedule, cosine_schedule
from audiosr_core.diffusion.timesteps import Step, steps_reference, steps_trailing

__all__ = [
    "SAMPLERS",
    "Sampler",
    "Schedule",
    "Step",
    "cosine_schedule",
    "guided",
    "joint",
    "sample_ddim",
    "sample_dpmpp_2m",
    "sample_unipc",
    "steps_reference",
    "steps_trailing",
]


class Sampler(NamedTuple):
    """A walk and the timesteps that suit it."""

    steps: Callable[[Schedule, int], tuple[Step, ...]]
    sample: Callable[..., Tensor]


SAMPLERS = {
    "ddim": Sampler(steps_reference, sample_ddim),
    "ddim-trailing": Sampler(steps_trailing, sample_ddim),
    "dpm++2m": Sampler(steps_trailing, sample_dpmpp_2m),
    "unipc": Sampler(steps_trailing, sample_unipc),
}
"""What a user may ask for, by name; see docs/diffusion.md for which one when."""
