"""The diffusion U-Net: noisy latent and condition in, v out.

    x [B, 32, T, F] ─ in ─┬─ level 1 ─┬─ level 2 ─┬─ ... ─ middle ─┐      down: half the size
                          │           │           │                │      after every level
    v [B, 16, T, F] ─ out ┴─ level 1 ─┴─ level 2 ─┴─ ... ──────────┘      up: twice, with skips

A level is a row of residual blocks that hear the time; where the latent is small enough, each is
followed by transformers over all its positions. There is no text and no cross-attention: the
condition is the other half of the input channels. Ho et al. 2020 (arXiv 2006.11239), Rombach et
al. 2022 (arXiv 2112.10752). Attribute names are the keys of the published checkpoint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiosr_core.model.config import UnetConfig
from audiosr_core.model.layers import Upsample
from audiosr_core.model.norm import GroupNorm

RESIDUAL_EPS = 1e-5
TRANSFORMER_EPS = 1e-6
MAX_PERIOD = 10_000.0


class Unet(nn.Module):
    """v as in Salimans & Ho 2022 (arXiv 2202.00512), §4."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.model_channels
        heard = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, heard), nn.SiLU(), nn.Linear(heard, heard))

        def stage(channels: int, out: int, factor: int) -> list[nn.Module]:
            attention = config.transformers if factor in config.attention_at else 0
            return [
                Residual(channels, out, heard, config.norm_groups),
                *(Transformer(out, config) for _ in range(attention)),
            ]

        channels, factor = width, 1
        self.input_blocks = nn.ModuleList(
            [Row([nn.Conv2d(config.in_channels, channels, 3, padding=1)])]
        )
        skips = [channels]
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.res_blocks):
                self.input_blocks.append(Row(stage(channels, mult * width, factor)))
                channels = mult * width
                skips.append(channels)
            if level < len(config.channel_mult) - 1:
                self.input_blocks.append(Row([Downsample(channels)]))
                skips.append(channels)
                factor *= 2

        self.middle_block = Row(
            [
                Residual(channels, channels, heard, config.norm_groups),
                *(Transformer(channels, config) for _ in range(config.transformers)),
                Residual(channels, channels, heard, config.norm_groups),
            ]
        )

        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for i in range(config.res_blocks + 1):
                row = stage(channels + skips.pop(), mult * width, factor)
                channels = mult * width
                if level and i == config.res_blocks:
                    row.append(Upsample(channels))
                    factor //= 2
                self.output_blocks.append(Row(row))

        self.out = nn.Sequential(
            GroupNorm(config.norm_groups, channels, eps=RESIDUAL_EPS),
            nn.SiLU(),
            nn.Conv2d(channels, config.out_channels, 3, padding=1),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """v, [B, 16, T, F].

        Args:
            x: noisy latent, then the scaled condition latent, [B, 32, T, F]; T a multiple of
                `config.time_multiple`
            t: diffusion time of every row, [B], 0 to 999
        """
        heard = self.time_embed(time_embedding(t, self.config.model_channels).to(x.dtype))
        skips = []
        for row in self.input_blocks:
            x = row(x, heard)
            skips.append(x)
        x = self.middle_block(x, heard)
        for row in self.output_blocks:
            x = row(torch.cat([x, skips.pop()], dim=1), heard)
        v: Tensor = self.out(x)
        return v


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines, then sines of t at geometric frequencies, [B, width] (Vaswani et al. 2017)."""
    half = width // 2
    place = torch.arange(half, dtype=torch.float32, device=t.device)
    phase = t[:, None].float() * torch.exp(-math.log(MAX_PERIOD) * place / half)
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


class Row(nn.ModuleList):
    """Modules one after the other; those that want the time embedding get it."""

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        for module in self:
            x = module(x, heard) if isinstance(module, Residual) else module(x)
        return x


class Residual(nn.Module):
    """Two normalised convolutions beside a shortcut; the time is added between them.

    [B, C, T, F] and [B, embedding] → [B, C', T, F]
    """

    def __init__(self, in_channels: int, out_channels: int, heard: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm(groups, in_channels, eps=RESIDUAL_EPS),
            nn.SiLU(inplace=True),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(heard, out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm(groups, out_channels, eps=RESIDUAL_EPS),
            nn.SiLU(inplace=True),
            nn.Identity(),  # where dropout was in training
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        h = self.in_layers(x).add_(self.emb_layers(heard)[:, :, None, None])
        out: Tensor = self.out_layers(h).add_(self.skip_connection(x))
        return out


class Downsample(nn.Module):
    """Half the size on both axes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class Transformer(nn.Module):
    """Transformer blocks over all positions of the plane, beside a shortcut."""

    def __init__(self, channels: int, config: UnetConfig) -> None:
        super().__init__()
        heads = channels // config.head_channels
        self.norm = GroupNorm(config.norm_groups, channels, eps=TRANSFORMER_EPS)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, heads) for _ in range(config.transformer_depth)
        )
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x)).flatten(2).mT  # [B, T·F, C]
        for block in self.transformer_blocks:
            h = block(h)
        out: Tensor = x + self.proj_out(h.mT.reshape(x.shape))
        return out


class TransformerBlock(nn.Module):
    """Self-attention twice, then a gated feed-forward, each beside a shortcut, [B, N, C].

    The second attention is where a text would be heard, had there been one.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn1 = SelfAttention(channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = SelfAttention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x))
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention, [B, N, C]."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        heard = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out(heard.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Gated by GELU (Shazeer 2020, arXiv 2002.05202), four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            Gated(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Gated(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out
