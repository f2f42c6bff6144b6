"""`lite` one frame at a time: what `Lite` gives for a whole sound, with less of the future.

Every block keeps its last `kernel` inputs, so nothing of the past is computed twice. A block that
may look ahead answers one frame late; one that may not takes the present for the future, which is
its last tap laid on the one before.

    frame in   j                      ring of a block  [j-6 … j-1 | j]
    frame out  j - look_ahead                          present ^  ^ future

In plain numpy: a matrix of two rows is nothing but memory traffic, and torch would double it. Rows
are two at least, so that one channel gives the bits that it gives beside another.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from audiosr_core.model.lite import SILENT_POWER, TINY, Block, Lite

Array = NDArray[np.float32]
MIN_ROWS = 2


class StepBlock:
    """The weights of one `Block`, its norm and its scale folded into its two matrices."""

    def __init__(self, block: Block, ahead: int) -> None:
        self.ahead = ahead
        taps = _array(block.taps).copy()
        for _ in range(block.future - ahead):
            taps[-2] += taps[-1]
            taps[1:] = taps[:-1].copy()
            taps[0] = 0
        self.taps = taps[:, None]
        self.bias = _array(block.bias)
        self.epsilon = block.norm.eps
        up, self.up_bias = _linear(block.up, block.norm)
        down, down_bias = _linear(block.down)
        scale = _array(block.scale)
        self.up, self.down, self.down_bias = up, down * scale, down_bias * scale

    def __call__(self, ring: Array) -> Array:
        """The answer to the frame `ahead` before the last of `ring`, [kernel, rows, dim]."""
        y = np.einsum("krd,krd->rd", ring, self.taps) + self.bias
        y = _gelu(_normal(y, self.epsilon) @ self.up + self.up_bias) @ self.down
        return np.asarray(ring[-1 - self.ahead] + (y + self.down_bias), np.float32)


class StepWeights:
    """A network as steps need it, for every cutoff.

    Args:
        look_ahead: frames of the future, at most one a block; the last blocks get them
    """

    def __init__(self, network: Lite, look_ahead: int) -> None:
        count = len(network.blocks)
        if not 0 <= look_ahead <= count * network.config.look_ahead:
            raise ValueError(f"look_ahead must be 0 to {count}, got {look_ahead}")
        self.network, self.config, self.look_ahead = network, network.config, look_ahead
        self.blocks = [
            StepBlock(block, ahead=int(i >= count - look_ahead))
            for i, block in enumerate(network.blocks)
            if isinstance(block, Block)
        ]

    @property
    def memory(self) -> int:
        """Frames before the last that steps remember anything of."""
        return self.config.num_blocks * (self.config.kernel - 1) + self.config.level_past


@lru_cache(maxsize=2)
def step_weights(network: Lite, look_ahead: int) -> StepWeights:
    """Once for all streams: they are as big as the network."""
    return StepWeights(network, look_ahead)


class LiteStep:
    """The network with its memory, for one cutoff.

    Args:
        cut: the first bin that is generated
    """

    def __init__(self, weights: StepWeights, cut: int, num_channels: int) -> None:
        c, network = weights.config, weights.network
        self.weights, self.cut, self.num_channels = weights, cut, num_channels
        known = (torch.arange(c.num_bins) < cut).float()[None]
        with torch.inference_mode():
            to_edge = network.edge_levels(torch.eye(cut)[None], known[:, :cut])[0]
            start = network.condition(torch.cat([known, torch.ones_like(known)], dim=-1))[0]
        enter, enter_bias = _linear(network.input)
        leave, leave_bias = _linear(network.head, network.norm)
        gate, gate_bias = _linear(network.gate, network.norm)
        quarter = np.float32(1 / 4)
        self.to_edge: Array = np.ascontiguousarray(quarter * to_edge.numpy())
        to_edge_to_enter = _product(self.to_edge, _array(network.edge.weight).T)
        self.enter: Array = quarter * enter[:cut] + to_edge_to_enter
        self.enter_bias = enter_bias + start.numpy()
        self.leave = np.ascontiguousarray(4 * leave[:, cut:])
        self.leave_bias = 4 * leave_bias[cut:]
        self.edge_to_leave = np.ascontiguousarray(
            4 * _array(network.edge_to_head.weight).T[:, cut:]
        )
        self.gate, self.gate_bias = gate, gate_bias
        self.epsilon = network.norm.eps
        rows = max(MIN_ROWS, num_channels)
        self._relative = np.zeros((rows, cut), np.float32)
        self._means = np.zeros((c.level_past + 1, num_channels))
        self._rings = np.zeros((c.num_blocks, c.kernel, rows, c.dim), np.float32)
        self._later: deque[tuple[Array, Array]] = deque(maxlen=weights.look_ahead + 1)

    def settle(self) -> None:
        """Silence for as long as anything is remembered."""
        silence = np.zeros((self.num_channels, self.cut), np.float32)
        for _ in range(self.weights.memory + 1):
            self(silence)

    def __call__(self, power: Array) -> tuple[Array, Array]:
        """Power of the bins below the cutoff, [channels, cut], of the next frame.

        Returns:
            log10 power of the bins above, [channels, bins - cut], and tonality in 0..1,
            [channels, bands], of the frame `look_ahead` before it
        """
        n, room = self.num_channels, np.float32(self.weights.config.dynamic_range)
        power = np.where(power < SILENT_POWER, np.float32(0), power)
        level = self._level(power)
        relative = np.log10(np.maximum(power, TINY))
        self._relative[:n] = np.maximum(relative, level - room) - level
        edge = _product(self._relative, self.to_edge)
        self._later.append((level, edge))
        x = _product(self._relative, self.enter) + self.enter_bias
        for block, ring in zip(self.weights.blocks, self._rings, strict=True):
            ring[:-1] = ring[1:]
            ring[-1] = x
            x = block(ring)
        x = _normal(x, self.epsilon)
        level, edge = self._later[0]
        head = _product(x, self.leave) + self.leave_bias + _product(edge, self.edge_to_leave)
        np.clip(head, -room - 2, 3.0, out=head)
        tonality = 1 / (1 + np.exp(-(_product(x, self.gate) + self.gate_bias)))
        return level + head[:n], np.asarray(tonality[:n], np.float32)

    def _level(self, power: Array) -> Array:
        """Running level of the known band up to this frame, log10 power, [channels, 1]."""
        self._means[:-1] = self._means[1:]
        self._means[-1] = power.sum(axis=1) / max(1, self.cut)
        level = np.log10(np.maximum(self._means.mean(axis=0), TINY))
        return np.asarray(level[:, None], np.float32)


def _array(x: torch.Tensor) -> Array:
    return np.asarray(x.detach().numpy(), np.float32)


def _linear(linear: nn.Module, norm: nn.LayerNorm | None = None) -> tuple[Array, Array]:
    """Matrix [in, out] and bias of a layer, with the weights of the norm before it."""
    assert isinstance(linear, nn.Linear)
    matrix, bias = _array(linear.weight).T, _array(linear.bias)
    if norm is not None:
        bias = bias + _array(norm.bias) @ matrix
        matrix = _array(norm.weight)[:, None] * matrix
    return np.ascontiguousarray(matrix), bias


def _product(x: Array, y: Array) -> Array:
    return np.asarray(x @ y, np.float32)


def _normal(x: Array, epsilon: float) -> Array:
    """Mean 0, variance 1 in every row."""
    share = np.float32(1 / x.shape[1])  # half the time of `mean`
    x = np.asarray(x - share * np.add.reduce(x, axis=1, keepdims=True), np.float32)
    variance = share * np.add.reduce(x * x, axis=1, keepdims=True)
    return np.asarray(x / np.sqrt(variance + np.float32(epsilon)), np.float32)


def _gelu(x: Array) -> Array:
    """Its approximation by tanh (Hendrycks & Gimpel 2016)."""
    inner = np.tanh(x * (np.float32(0.7978846) + np.float32(0.035677408) * x * x))
    return np.asarray(x * (np.float32(0.5) + np.float32(0.5) * inner), np.float32)
