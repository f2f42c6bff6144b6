"""The KL-VAE on log-mel spectrograms: mel to a latent eight times smaller on both axes, and back.

    mel [B, 1, T, F] ─ encoder ─ quant ─ mean, logvar [B, 16, T/8, F/8]
    mel [B, 1, T, F] ─ decoder ─ post-quant ─ z [B, 16, T/8, F/8]

    encoder   conv │ level: blocks, then half the size │ ... │ block, attention, block │ conv
    decoder   conv │ block, attention, block │ level: blocks, then twice the size │ ... │ conv

Kingma & Welling 2013 (arXiv 1312.6114); the shape of the networks is that of Rombach et al. 2022
(arXiv 2112.10752). Attribute names are the keys of the published checkpoint. For inference only:
what is fresh is written over, for on large planes new memory costs as much as the arithmetic.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from audiosr_core.model.config import AutoencoderConfig
from audiosr_core.model.layers import Upsample
from audiosr_core.model.norm import GroupNorm

EPS = 1e-6
LOGVAR_RANGE = (-30.0, 20.0)


class Autoencoder(nn.Module):
    """Encoder and decoder with the 1×1 convolutions between them and the latent."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        moments = 2 * config.z_channels
        self.quant_conv = nn.Conv2d(moments, 2 * config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each [B, embed_dim, T/8, F/8].

        Args:
            mel: natural-log mel, [B, 1, T, F]
        """
        mean, logvar = self.quant_conv(self.encoder(mel)).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def decode(self, z: Tensor) -> Tensor:
        """The mel of a latent that was divided by the scale factor, [B, 1, T, F]."""
        mel: Tensor = self.decoder(self.post_quant_conv(z))
        return mel


def sample(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """A draw from the posterior, with standard normal `noise` of its shape."""
    return mean + (0.5 * logvar).exp() * noise


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        groups, widths = config.norm_groups, _widths(config)
        self.conv_in = nn.Conv2d(config.in_channels, config.base_channels, 3, padding=1)
        self.down = nn.ModuleList()
        channels = config.base_channels
        for i, width in enumerate(widths):
            step = Downsample(width) if i < len(widths) - 1 else None
            self.down.append(Level(channels, width, config.res_blocks, groups, downsample=step))
            channels = width
        self.mid = Middle(channels, groups)
        self.norm_out = GroupNorm(groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, 2 * config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        x = self.mid(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x), inplace=True))
        return out


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        groups, widths = config.norm_groups, _widths(config)
        channels = widths[-1]
        self.conv_in = nn.Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = Middle(channels, groups)
        levels = []
        for i, width in reversed(list(enumerate(widths))):
            step = Upsample(width) if i > 0 else None
            levels.append(Level(channels, width, config.res_blocks + 1, groups, upsample=step))
            channels = width
        self.up = nn.ModuleList(reversed(levels))  # numbered from the finest, walked from its end
        self.norm_out = GroupNorm(groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, config.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x), inplace=True))
        return out


class Level(nn.Module):
    """Blocks of one width, then a change of size, if any."""

    def __init__(
        self, in_channels: int, width: int, count: int, groups: int, **resize: nn.Module | None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            Block(width if i else in_channels, width, groups) for i in range(count)
        )
        for name, module in resize.items():  # by the name that the checkpoint has for it
            self.add_module(name, module)
        self.last = [module for module in resize.values() if module is not None]

    def forward(self, x: Tensor) -> Tensor:
        for module in (*self.block, *self.last):
            x = module(x)
        return x


class Block(nn.Module):
    """Two normalised convolutions beside a shortcut, [B, C, T, F] → [B, C', T, F]."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels, eps=EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = GroupNorm(groups, out_channels, eps=EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(x)
        out: Tensor = h.add_(x)
        return out


class Middle(nn.Module):
    """Block, attention over all positions, block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = Block(channels, channels, groups)
        self.attn_1 = Attention(channels, groups)
        self.block_2 = Block(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Attention(nn.Module):
    """One head over all positions of the plane, beside a shortcut."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps=EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).mT for conv in (self.q, self.k, self.v))  # [B, T·F, C]
        h = F.scaled_dot_product_attention(q, k, v).mT.reshape(x.shape)
        out: Tensor = self.proj_out(h).add_(x)
        return out


class Downsample(nn.Module):
    """Half the size on both axes; padded on the far sides only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


def _widths(config: AutoencoderConfig) -> list[int]:
    return [config.base_channels * mult for mult in config.channel_mult]
