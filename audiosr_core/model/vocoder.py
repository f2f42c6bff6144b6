"""The HiFi-GAN generator: log-mel frames to samples.

    mel [B, 256, T] ─ conv ─ stage 1 ─ ... ─ stage 5 ─ conv ─ tanh ─ wave [B, 480·T + 16]

A stage stretches time by its rate and passes the result through residual blocks of several
kernel sizes, whose mean goes on. The blocks work tile by tile, each tile with as much of its
neighbours as they hear, so the result is that of the whole and memory stays small. All of it is
two-dimensional convolution over a plane of height 1: that is what a one-dimensional one is
inside, and only planes can lie channels last (`audiosr.channels_last`).

Kong et al. 2020 (arXiv 2010.05646). Attribute names are the keys of the published checkpoint, in
which the weight norm is folded already.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiosr_core.model.config import VocoderConfig

TILE_VALUES = 2**21
"""Channels × samples that residual blocks take at once: what they need stays in the cache."""


class Vocoder(nn.Module):
    """Natural-log mel in, samples out."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.initial_channels
        self.conv_pre = Conv(config.mel_bins, channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernels, strict=True):
            self.ups.append(
                nn.ConvTranspose1d(channels, channels // 2, kernel, rate, (kernel - rate) // 2)
            )
            channels //= 2
            self.resblocks.extend(
                ResidualBlock(channels, size, config.resblock_dilations, config.leaky_slope)
                for size in config.resblock_kernels
            )
        self.conv_post = Conv(channels, 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        """Samples of mel frames [B, mel_bins, T]; the published sizes give [B, 480·T + 16]."""
        x = self.conv_pre(mel[:, :, None])
        for i in range(len(self.ups)):
            x = self.stage(i, x)
        x = F.leaky_relu(x, self.config.last_leaky_slope)
        return torch.tanh(self.conv_post(x))[:, 0, 0]

    def stage(self, i: int, x: Tensor) -> Tensor:
        """Stage `i`, [B, C, 1, N] → [B, C/2, 1, N·rate]."""
        up = self.ups[i]
        assert isinstance(up, nn.ConvTranspose1d)
        x = F.conv_transpose2d(
            F.leaky_relu(x, self.config.leaky_slope),
            up.weight[:, :, None],
            up.bias,
            (1, up.stride[0]),
            (0, int(up.padding[0])),
        )
        count = len(self.config.resblock_kernels)
        blocks = self.resblocks[i * count : (i + 1) * count]
        out = torch.empty_like(x)
        for here, seen in tiles(x.shape[-1], TILE_VALUES // x.shape[1], self.reach):
            piece = x[..., seen]
            total = sum(block(piece) for block in blocks)
            lead = here.start - seen.start
            out[..., here] = total[..., lead : lead + here.stop - here.start]
        return out.div_(count)

    @property
    def reach(self) -> int:
        """Samples on each side that a residual block hears."""
        half = (max(self.config.resblock_kernels) - 1) // 2
        return half * sum(dilation + 1 for dilation in self.config.resblock_dilations)


def tiles(length: int, size: int, reach: int) -> Iterator[tuple[slice, slice]]:
    """Cut 0 .. length into tiles, each with what has to be seen to compute it exactly."""
    size = max(size, 16 * reach)
    for start in range(0, length, size):
        stop = min(start + size, length)
        yield slice(start, stop), slice(max(0, start - reach), min(length, stop + reach))


class ResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair beside a shortcut, [B, C, 1, N]."""

    def __init__(
        self, channels: int, kernel: int, dilations: tuple[int, ...], leaky_slope: float
    ) -> None:
        super().__init__()
        self.slope = leaky_slope

        def same(dilation: int) -> Conv:
            padding = dilation * (kernel - 1) // 2
            return Conv(channels, channels, kernel, 1, padding, dilation)

        self.convs1 = nn.ModuleList(same(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(same(1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            h = dilated(F.leaky_relu(x, self.slope))
            x = plain(F.leaky_relu_(h, self.slope)).add_(x)
        return x


class Conv(nn.Conv1d):
    """A one-dimensional convolution on a plane of height 1, [B, C, 1, N] → [B, C', 1, N']."""

    def forward(self, x: Tensor) -> Tensor:
        padding, dilation = int(self.padding[0]), self.dilation[0]
        return F.conv2d(x, self.weight[:, :, None], self.bias, 1, (0, padding), (1, dilation))
