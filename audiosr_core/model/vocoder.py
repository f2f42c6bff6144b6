"""The HiFi-GAN generator: log-mel frames to samples.

    mel [B, 256, T] ─ conv ─ stage 1 ─ ... ─ stage 5 ─ conv ─ tanh ─ wave [B, 480·T + 16]

A stage stretches time by its rate and passes the result through residual blocks of several
kernel sizes, whose mean goes on. Kong et al. 2020 (arXiv 2010.05646). Attribute names are the keys
of the published checkpoint, in which the weight norm is folded already.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiosr_core.model.config import VocoderConfig


class Vocoder(nn.Module):
    """Natural-log mel in, samples out."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.initial_channels
        self.conv_pre = nn.Conv1d(config.mel_bins, channels, 7, padding=3)
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
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        """Samples of mel frames [B, mel_bins, T]; the published sizes give [B, 480·T + 16]."""
        x = self.conv_pre(mel)
        for i in range(len(self.ups)):
            x = self.stage(i, x)
        x = F.leaky_relu(x, self.config.last_leaky_slope)
        wave: Tensor = torch.tanh(self.conv_post(x))[:, 0]
        return wave

    def stage(self, i: int, x: Tensor) -> Tensor:
        """Stage `i`, [B, C, N] → [B, C/2, N·rate]."""
        x = self.ups[i](F.leaky_relu(x, self.config.leaky_slope))
        count = len(self.config.resblock_kernels)
        made = [block(x) for block in self.resblocks[i * count : (i + 1) * count]]
        total: Tensor = sum(made[1:], made[0])
        return total / count


class ResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair beside a shortcut, [B, C, N]."""

    def __init__(
        self, channels: int, kernel: int, dilations: tuple[int, ...], leaky_slope: float
    ) -> None:
        super().__init__()
        self.slope = leaky_slope

        def conv(dilation: int) -> nn.Conv1d:
            padding = dilation * (kernel - 1) // 2
            return nn.Conv1d(channels, channels, kernel, 1, padding, dilation)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            h = dilated(F.leaky_relu(x, self.slope))
            x = x + plain(F.leaky_relu(h, self.slope))
        return x
