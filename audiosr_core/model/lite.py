"""`lite`: one pass over STFT frames, from what is there to the log-magnitude of what is missing.

A small stack of ConvNeXt blocks (Liu et al. 2022) along time, after the one-pass STFT-domain
systems (AP-BWE, arXiv 2401.06387). It looks mostly back: every block sees `look_ahead` frames
of the future, so one set of weights serves offline and low-latency use.

    known bins, relative to the running level ─ Linear ─┐
    what is known, what is wanted (masks)     ─ Linear ─┼─ blocks ─┬─ log power, all bins
    quarter octaves, counted from the cutoff  ─ Linear ─┘    │     └─ tonality, ERB-like bands
                                              ─ Linear ──────┘

Every level is relative to the running level of the known band, so a gain at the input is the
same gain at the output: there is no hidden level (promise P4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SILENT_POWER = 1e-22
"""Power of a bin below which it is silence: what filters leave behind, under −240 dBFS."""

TINY = 1e-37
"""What logarithms see instead of nothing; no denormal."""


@dataclass(frozen=True)
class LiteConfig:
    """What a `lite` checkpoint fixes."""

    sample_rate: int = 48_000
    n_fft: int = 1024
    hop: int = 256
    dim: int = 192
    expansion: int = 3
    num_blocks: int = 8
    kernel: int = 7
    look_ahead: int = 1  # frames of the future that each block sees
    level_past: int = 32  # frames of the running level
    level_future: int = 8
    num_bands: int = 32  # of the tonality gate
    num_edge_bands: int = 8  # quarter octaves below the cutoff
    dynamic_range: float = 12.0  # log10 power below the running level that still counts

    @property
    def num_bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def past_frames(self) -> int:
        """Frames before a frame that it depends on."""
        return self.num_blocks * (self.kernel - 1 - self.look_ahead) + self.level_past

    @property
    def future_frames(self) -> int:
        """Frames after a frame that it depends on."""
        return self.num_blocks * self.look_ahead + self.level_future

    def bin_of(self, frequency_hz: float) -> int:
        """The first bin at or above a frequency."""
        return min(self.num_bins, -int(-frequency_hz * self.n_fft // self.sample_rate))


class Block(nn.Module):
    """ConvNeXt along time, [batch, frames, dim] → the same."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.dim * config.expansion
        self.past = config.kernel - 1 - config.look_ahead
        self.future = config.look_ahead
        self.taps = nn.Parameter(torch.randn(config.kernel, dim) / config.kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[1]
        padded = F.pad(x, (0, 0, self.past, self.future))
        y: Tensor = self.bias
        for k, tap in enumerate(self.taps.unbind(0)):
            y = torch.addcmul(y, padded[:, k : k + frames], tap)
        y = self.down(F.gelu(self.up(self.norm(y)), approximate="tanh"))
        return torch.addcmul(x, self.scale, y)


class Lite(nn.Module):
    """Log power of every bin, and how tonal each band is.

    Shapes: power [batch, frames, bins]; known and wanted [batch, bins], 1 where a bin lies
    below the cutoff, and below the top of the band to generate.
    """

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Linear(config.num_bins, config.dim)
        self.condition = nn.Linear(2 * config.num_bins, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.num_bins)
        self.gate = nn.Linear(config.dim, config.num_bands)
        self.edge = nn.Linear(config.num_edge_bands, config.dim, bias=False)
        self.edge_to_head = nn.Linear(config.num_edge_bands, config.num_bins, bias=False)
        nn.init.zeros_(self.edge.weight)
        nn.init.zeros_(self.edge_to_head.weight)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def level(self, power: Tensor, known: Tensor) -> Tensor:
        """Running level of the known band, log10 power, [batch, frames, 1]."""
        c = self.config
        mean = (power * known[:, None]).sum(-1) / known.sum(-1, keepdim=True).clamp_min(1)
        padded = F.pad(mean[:, None], (c.level_past, c.level_future))
        window = c.level_past + 1 + c.level_future
        smooth = F.avg_pool1d(padded, window, stride=1)[:, 0]
        return torch.log10(smooth.clamp_min(TINY))[..., None]

    def edge_levels(self, relative: Tensor, known: Tensor) -> Tensor:
        """Levels of the quarter octaves just below the cutoff, wherever it is.

        The highs go on from there, but a linear layer over fixed bins cannot know which are last.
        """
        bins, bands = torch.arange(relative.shape[-1]), torch.arange(self.config.num_edge_bands)
        octaves = torch.log2(known.sum(-1, keepdim=True) / (bins + 0.5))
        place = 4 * octaves[:, None] - (bands[:, None] + 0.5)
        weight = (1 - place.abs()).clamp_min(0) * known[:, None]
        weight = weight / weight.sum(-1, keepdim=True).clamp_min(1e-6)
        return relative @ weight.mT

    def forward(
        self, power: Tensor, known: Tensor, wanted: Tensor, cut: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """→ log10 power [batch, frames, bins], tonality in 0..1 [batch, frames, bands].

        Args:
            cut: a bin where everything known ends: `power` holds only the bins below it, and the
                log power given only those from it on; what would be thrown away is not computed
        """
        here = known[:, :cut]
        power = torch.where(power < SILENT_POWER, 0.0, power)
        level = self.level(power, here)
        floor = level - self.config.dynamic_range
        relative = torch.maximum(torch.log10(power.clamp_min(TINY)), floor) - level
        relative = relative * (here[:, None] / 4)
        edge = self.edge_levels(relative, here)
        x = F.linear(relative, self.input.weight[:, :cut], self.input.bias) + self.edge(edge)
        x = x + self.condition(torch.cat([known, wanted], dim=-1))[:, None]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        head = F.linear(x, self.head.weight[cut:], self.head.bias[cut:])
        head = 4 * (head + F.linear(edge, self.edge_to_head.weight[cut:]))
        return level + head.clamp(-self.config.dynamic_range - 2, 3.0), torch.sigmoid(self.gate(x))
