"""How far samplers end from where 200 steps of the published DDIM without fresh noise end.

All start from the same x_T with the same condition; the distance is the RMS over the latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from audiosr_core.diffusion import SAMPLERS, cosine_schedule
from audiosr_core.mel import LogMel
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.reference.pipeline import guided_network
from tests.bench.audiosr.subject import Subject, sound
from tests.bench.audiosr.tables import Table
from tests.bench.audiosr.timing import Difference, clocked

GUIDANCE = (1.0, 2.0, 3.5)


@dataclass(frozen=True)
class Walk:
    sampler: str
    steps: int
    eta: float

    @property
    def name(self) -> str:
        return f"{self.sampler}, {self.steps} steps, eta {self.eta:g}"


TARGET = Walk("ddim", 200, 0.0)
WALKS = (
    Walk("ddim", 50, 1.0),
    Walk("ddim", 50, 0.0),
    Walk("ddim-trailing", 50, 0.0),
    Walk("dpm++2m", 10, 0.0),
    Walk("unipc", 10, 0.0),
    Walk("dpm++2m", 16, 0.0),
    Walk("unipc", 16, 0.0),
)


@torch.inference_mode()
def measure(subject: Subject, latent_frames: int, starts: int) -> Iterator[Table]:
    """One table a guidance scale, the mean and the worst over `starts` different x_T."""
    networks = subject.ours()
    condition = condition_of(networks, latent_frames)
    for scale in GUIDANCE:
        distances: dict[str, list[float]] = {walk.name: [] for walk in WALKS}
        seconds: dict[str, list[float]] = {walk.name: [] for walk in WALKS}
        spread = 0.0
        for seed in range(starts):
            wanted = walk_to_end(TARGET, networks, condition, scale, seed)
            spread += float(wanted.std()) / starts
            for walk in WALKS:
                took, got = clocked(partial(walk_to_end, walk, networks, condition, scale, seed))
                distances[walk.name].append(Difference.between(got, wanted).rms)
                seconds[walk.name].append(took)
        rows = [
            (name, sum(far) / len(far), max(far), min(seconds[name]))
            for name, far in distances.items()
        ]
        yield Table(
            f"Distance from {TARGET.name}; guidance {scale:g}, {subject.id}",
            ("sampler", "RMS, mean", "RMS, worst", "s"),
            rows,
            f"{latent_frames} latent frames, {starts} starts; the latent's deviation is"
            f" {spread:.3g}.",
        )


def condition_of(networks: AudioSR, latent_frames: int) -> Tensor:
    """The unscaled condition of a sound with an edge, [1, 16, frames, bins]."""
    config = networks.config
    seconds = latent_frames * config.latent_hop / config.mel.sample_rate
    wave = torch.from_numpy(sound(seconds, 1, config.mel.sample_rate))
    mean, _ = networks.autoencoder.encode(LogMel(config.mel)(wave)[:, None])
    return mean


def walk_to_end(
    walk: Walk, networks: AudioSR, condition: Tensor, scale: float, seed: int
) -> Tensor:
    """The scaled latent, like `condition`."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(condition.shape, generator=random).to(condition)

    def noise(i: int) -> Tensor:
        return torch.randn(condition.shape, generator=random).to(condition)

    sampler = SAMPLERS[walk.sampler]
    steps = sampler.steps(cosine_schedule(), walk.steps)
    predict = guided_network(networks, condition, scale)
    return sampler.sample(predict, x, steps, noise, walk.eta)
