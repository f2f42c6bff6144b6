"""Train `lite`: levels first, then the sound that is made of them.

    stage 1  L1 between predicted and true log power above the cutoff
    stage 2  the same, and log-spectral distance of the synthesised band at three resolutions,
             through excitation and inverse STFT, so that levels and tonality learn what an
             inconsistent spectrogram loses

Resumes from its last checkpoint. EMA weights are what is exported.
"""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiosr_core.model.excitation import band_weights, copy_map, high_band
from audiosr_core.model.lite import Lite, LiteConfig
from audiosr_core.training.batches import Batch, Batches, codec_holes

RESOLUTIONS = ((0.5, (2048, 480)), (0.75, (1024, 256)), (1.0, (512, 128)))
"""Of the spectral loss, one a step: cumulative share, (n_fft, hop)."""


@dataclass(frozen=True)
class Plan:
    """One run."""

    steps: int
    stage: int = 1
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: int = 200
    ema: float = 0.999
    seed: int = 0
    save_every: int = 250


def stft(x: Tensor, n_fft: int, hop: int) -> Tensor:
    """[batch, samples] → complex [batch, frames, bins]."""
    window = torch.hann_window(n_fft)
    return torch.stft(x, n_fft, hop, window=window, return_complex=True, pad_mode="constant").mT


def istft(spectrum: Tensor, n_fft: int, hop: int, samples: int) -> Tensor:
    """The inverse of `stft`."""
    return torch.istft(spectrum.mT, n_fft, hop, window=torch.hann_window(n_fft), length=samples)


def masks(config: LiteConfig, batch: Batch) -> tuple[Tensor, Tensor]:
    """Known and wanted bins, [batch, bins]."""
    hz = torch.arange(config.num_bins) * (config.sample_rate / config.n_fft)
    return (hz[None] < batch.cutoff_hz[:, None]).float(), (
        hz[None] <= batch.target_hz[:, None]
    ).float()


def level_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean |difference| of log power in bel, weighted; 10 × this is dB."""
    return ((predicted - target).abs() * weight).sum() / weight.sum().clamp_min(1)


def spectral_loss(made: Tensor, target: Tensor, batch: Batch, n_fft: int, hop: int) -> Tensor:
    """Half L1, half log-spectral distance (per-frame RMS) over the missing band, in bel."""
    a = stft(made, n_fft, hop).abs().square()
    b = stft(target, n_fft, hop).abs().square()
    floor = 1e-11 * b.mean((1, 2), keepdim=True) + 1e-11
    difference = torch.log10(a + floor) - torch.log10(b + floor)
    hz = torch.arange(a.shape[-1]) * (48_000 / n_fft)
    band = ((hz >= batch.cutoff_hz[:, None]) & (hz <= batch.target_hz[:, None])).float()[:, None]
    width = band.sum(-1).clamp_min(1)
    l1 = (difference.abs() * band).sum(-1) / width
    rms = ((difference.square() * band).sum(-1) / width + 1e-6).sqrt()
    return 0.5 * l1.mean() + 0.5 * rms.mean()


class Run:
    """Network, optimiser, EMA, and where they are kept."""

    def __init__(self, corpus: Path, folder: Path, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.folder = plan, folder
        self.config = LiteConfig()
        self.network = Lite(self.config)
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.step = 0
        self.bands = band_weights(self.config)
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.checkpoint = folder / f"stage{plan.stage}.pt"
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._load(torch.load(self.checkpoint, weights_only=True), whole=True)
        elif plan.stage == 2:
            self._load(torch.load(folder / "stage1.pt", weights_only=True), whole=False)
        self.batches = Batches(corpus, plan.seed + 1000 * plan.stage + self.step, plan.batch)

    def _load(self, state: dict[str, object], whole: bool) -> None:
        for network, name in ((self.network, "network" if whole else "ema"), (self.ema, "ema")):
            network.load_state_dict(state[name])  # type: ignore[arg-type]
        if whole:
            self.optimiser.load_state_dict(state["optimiser"])  # type: ignore[arg-type]
            self.step = int(state["step"])  # type: ignore[call-overload]

    def save(self) -> None:
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "network": self.network.state_dict(),
                "ema": self.ema.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "plan": json.dumps(asdict(self.plan)),
            },
            partial,
        )
        partial.replace(self.checkpoint)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        c = self.config
        known, wanted = masks(c, batch)
        low = stft(batch.low, c.n_fft, c.hop)
        target = stft(batch.target, c.n_fft, c.hop).abs().square()
        cutoff_bin = known.sum(-1).long()
        low = low * codec_holes(low.abs(), cutoff_bin, self.generator)
        power = low.abs().square()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted, tonality = self.network(power, known, wanted)
        predicted, tonality = predicted.float(), tonality.float()
        level = self.network.level(power, known)
        truth = torch.maximum(torch.log10(target + 1e-12), level - c.dynamic_range)
        heard = (level > -8).float()  # nothing is learned from silence
        below = torch.roll(known, -1, -1) * (torch.cumsum(known, -1) > 0.85 * known.sum(-1, True))
        weight = (wanted * (1 - known) + 0.3 * below)[:, None] * heard
        levels = level_loss(predicted, truth, weight)
        parts = {"level_db": 10 * float(levels.detach())}
        if self.plan.stage == 1:
            return levels, parts
        index = torch.stack([copy_map(c.num_bins, int(b)) for b in cutoff_bin])
        copied = torch.gather(low, 2, index[:, None].expand_as(low))
        noise = stft(torch.randn(batch.low.shape, generator=self.generator), c.n_fft, c.hop)
        mask = (1 - known)[:, None] * heard
        spectrum = high_band(predicted, tonality @ self.bands, copied, noise, mask)
        made = istft(spectrum, c.n_fft, c.hop, batch.low.shape[1])
        chance = float(torch.rand((), generator=self.generator))
        n_fft, hop = next(size for share, size in RESOLUTIONS if chance <= share)
        spectral = spectral_loss(made, batch.target, batch, n_fft, hop)
        parts[f"spectral_{n_fft}_db"] = 10 * float(spectral.detach())
        parts["tonality"] = float(tonality.detach().mean())
        return 0.3 * levels + spectral, parts

    def learning_rate(self) -> float:
        p = self.plan
        ramp = min(1.0, (self.step + 1) / p.warmup)
        return (
            p.learning_rate
            * ramp
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / p.steps)))
        )

    def train(self) -> None:
        began, history = time.monotonic(), dict[str, float]()
        while self.step < self.plan.steps:
            for group in self.optimiser.param_groups:
                group["lr"] = self.learning_rate()
            loss, parts = self.loss(self.batches.next())
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                for kept, new in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                    kept.lerp_(new, 1 - decay)
            for name, value in parts.items():
                history[name] = 0.98 * history.get(name, value) + 0.02 * value
            if self.step % 50 == 0:
                text = " ".join(f"{name} {value:.3f}" for name, value in history.items())
                print(f"step {self.step} {time.monotonic() - began:.0f} s {text}", flush=True)
            if self.step % self.plan.save_every == 0 or self.step == self.plan.steps:
                self.save()
