"""Diffusion as mathematics: schedules, timesteps, samplers. Nothing here knows a network.

schedule    ᾱ of the training steps
timesteps   which of them a sampler visits
samplers    from noise to a latent
"""

from __future__ import annotations

from audiosr_core.diffusion.samplers import sample_ddim
from audiosr_core.diffusion.schedule import Schedule, cosine_schedule
from audiosr_core.diffusion.timesteps import Step, steps_reference, steps_trailing

__all__ = [
    "Schedule",
    "Step",
    "cosine_schedule",
    "sample_ddim",
    "steps_reference",
    "steps_trailing",
]
