"""The published sequence of operations on our own networks: what ours is measured against.

    encode      twice, the first result thrown away
    U-Net       every row of a batch by a call of its own, as its two guidance branches were
    attention   QKᵀ, softmax, product, each written to memory
    vocoder     one-dimensional convolutions over the whole, new memory for every result
    weights     contiguous (`Subject.plain`)

Everything around them is `audiosr_core.reference` for both. Left out in favour of the published
code: gradient checkpointing inside every transformer, the filterbank made anew for every call by
a slower library, and swish in two operations.
"""

from __future__ import annotations

import math
from types import MethodType

import torch
from torch import Tensor
from torch.nn import functional as F

from audiosr_core.model import autoencoder, unet
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.model.vocoder import ResidualBlock, Vocoder


def as_published(networks: AudioSR) -> AudioSR:
    """The same networks, working as published from now on; in place."""
    for module in networks.modules():
        if isinstance(module, unet.SelfAttention):
            module.forward = MethodType(_self_attention, module)
        elif isinstance(module, autoencoder.Attention):
            module.forward = MethodType(_plane_attention, module)
        elif isinstance(module, ResidualBlock):
            module.forward = MethodType(_residual_block, module)
    networks.vocoder.forward = MethodType(_vocoder, networks.vocoder)
    networks.unet.forward = _one_by_one(networks.unet.forward)
    networks.autoencoder.encode = _twice(networks.autoencoder.encode)
    return networks


def _twice(encode):
    def encode_twice(mel: Tensor) -> tuple[Tensor, Tensor]:
        encode(mel)
        return encode(mel)

    return encode_twice


def _one_by_one(forward):
    def predict(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([forward(x[i : i + 1], t[i : i + 1]) for i in range(len(x))])

    return predict


def _self_attention(self: unet.SelfAttention, x: Tensor) -> Tensor:
    def by_head(layer) -> Tensor:  # [B·heads, N, C/heads]
        h = layer(x)
        return h.unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1).contiguous()

    q, k, v = by_head(self.to_q), by_head(self.to_k), by_head(self.to_v)
    share = (torch.bmm(q, k.mT) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    heard = torch.bmm(share, v).unflatten(0, (len(x), self.heads))
    return self.to_out(heard.transpose(1, 2).flatten(2))


def _plane_attention(self: autoencoder.Attention, x: Tensor) -> Tensor:
    h = self.norm(x)
    q, k, v = (conv(h).flatten(2) for conv in (self.q, self.k, self.v))  # [B, C, N]
    share = (torch.bmm(q.mT, k) / math.sqrt(x.shape[1])).softmax(dim=-1)
    heard = torch.bmm(v, share.mT)
    return x + self.proj_out(heard.reshape(x.shape))


def _vocoder(self: Vocoder, mel: Tensor) -> Tensor:
    x = _conv(self.conv_pre, mel)
    count = len(self.config.resblock_kernels)
    for i, up in enumerate(self.ups):
        x = up(F.leaky_relu(x, self.config.leaky_slope))
        total = None
        for block in self.resblocks[i * count : (i + 1) * count]:
            total = block(x) if total is None else total + block(x)
        x = total / count
    x = F.leaky_relu(x, self.config.last_leaky_slope)
    return torch.tanh(_conv(self.conv_post, x))[:, 0]


def _residual_block(self: ResidualBlock, x: Tensor) -> Tensor:
    for dilated, plain in zip(self.convs1, self.convs2, strict=True):
        h = _conv(dilated, F.leaky_relu(x, self.slope))
        x = _conv(plain, F.leaky_relu(h, self.slope)) + x
    return x


def _conv(layer: torch.nn.Conv1d, x: Tensor) -> Tensor:
    """The layer as torch's own one-dimensional convolution, [B, C, N]."""
    return torch.nn.Conv1d.forward(layer, x)
