"""The new band of a mix, shared out among its stems: each keeps its level, and they sum to it.

    stem i, extended alone ── h_i ──┐
                                    ├── h_i + w_i · (m − Σ h_j)    what stem i gets
    mix, extended ─────────── m ────┘

What stems get when each is extended alone does not sum to what their mix gets. So a stem gets a
draw of what it would get alone, on the condition that all of them sum to m: Matheron's rule for
conditional simulation (Wilson et al. 2021, "Pathwise conditioning of Gaussian processes"), cell by
cell of an STFT, with powers p as variances. w_i = p_i / Σ p_j sums to one, which makes the sum
exact, and is the one choice that leaves a stem its own level p_i. The h_i must come from noise of
their own, for noise that all of them share adds up to more than the mix has.

A mono stem in a wider mix is the same in all of its channels. The rule is then that of the joint
distribution of the channels, and what mono cannot hold goes to the stems as wide as the mix.

Cut in segments on an absolute grid, each with context, so the size of blocks changes no bit:

    |<-context->|<-- segment -->|<-context->|
                |<-context->|<-- segment ...
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

FRAME_SECONDS = 0.0213
HOPS = 4  # of a frame
SMOOTH = (9, 5)  # bins and frames over which a power is a mean
SEGMENT_FRAMES = 16
NOBODY = 1e-25  # power under which nobody sounds: there, all stems are equal

Band = NDArray[np.float32]


class Sharer:
    """Shares out the new band of one song as it comes.

    Args:
        widths: channels of each stem: as many as the mix has, or one, which is in all of them
        mix_channels: of the mix
    """

    def __init__(self, widths: Sequence[int], mix_channels: int, sample_rate: int) -> None:
        self._ends = [int(end) for end in np.cumsum([*widths, mix_channels])]
        self._size = 2 ** round(np.log2(FRAME_SECONDS * sample_rate))
        self._segment = SEGMENT_FRAMES * self._size
        self._context = self._size + SMOOTH[1] // 2 * self._size // HOPS
        self._context = -(-self._context // self._size) * self._size
        self._kept = np.zeros((self._ends[-1], self._context), np.float32)
        self._missing = 0  # samples that came and were not given

    def push(self, alone: Sequence[Band], mix: Band) -> list[Band]:
        """The next samples, each stem extended alone and the extended mix; what has settled."""
        self._missing += mix.shape[1]
        self._kept = np.concatenate([self._kept, np.concatenate([*alone, mix])], axis=1)
        return self._settle()

    def flush(self) -> list[Band]:
        """The rest."""
        missing = self._missing
        silence = -missing % self._segment + self._context
        self._kept = np.pad(self._kept, ((0, 0), (0, silence)))
        return [one[:, :missing] for one in self._settle()]

    def _settle(self) -> list[Band]:
        made: list[list[Band]] = [[one[:, :0]] for one in self._apart(self._kept)[:-1]]
        needed = self._segment + 2 * self._context
        while self._kept.shape[1] >= needed:
            *alone, mix = self._apart(self._kept[:, :needed])
            for given, one in zip(made, share(mix, alone, self._size), strict=True):
                given.append(one[:, self._context : self._context + self._segment])
            self._kept = self._kept[:, self._segment :]
            self._missing -= self._segment
        return [np.concatenate(given, axis=1) for given in made]

    def _apart(self, rows: Band) -> list[Band]:
        return np.split(rows, self._ends[:-1])


@torch.inference_mode()
def share(mix: Band, alone: Sequence[Band], size: int) -> list[Band]:
    """Share out a band among stems.

    Stems as wide as the mix sum to it exactly; with mono ones too, wherever such a one sounds.

    Args:
        mix: the band that all of them shall sum to, [channels, samples]
        alone: what each stem would get alone, [channels or 1, samples]
        size: samples of an STFT frame
    """
    target = _stft(mix, size)
    total = torch.zeros_like(target)
    wide = torch.zeros_like(target.real)  # power of the stems as wide as the mix
    narrow = torch.zeros_like(wide[:1])  # and of the mono ones in a wider mix
    for one in alone:
        band = _stft(one, size)
        total += band
        if len(one) == len(mix):
            wide += _power(band)
        else:
            narrow += _power(band)
    # as loud as the mix is in each cell: another model, or stems that cancel, make less or more
    level = (_power(target).sum(0) / (wide + narrow).sum(0).clamp_min(NOBODY)).sqrt()
    rest = target - level * total
    quietest = wide.amin(0, keepdim=True).clamp_min(NOBODY)
    trust = quietest / wide.clamp_min(NOBODY)
    mono = narrow * (trust * rest).sum(0, keepdim=True) / (quietest + narrow * trust.sum(0))
    made = []
    for one in alone:
        band = _stft(one, size)
        if len(one) == len(mix):
            given = level * band + _power(band) / wide.clamp_min(NOBODY) * (rest - mono)
        else:
            given = level * band + _power(band) / narrow.clamp_min(NOBODY) * mono
        made.append(_istft(given, size, mix.shape[1]))
    return made


def _power(band: Tensor) -> Tensor:
    """Its running mean; where a stem is silent it has as little as any other."""
    power = band.real.square() + band.imag.square()
    padding = (SMOOTH[0] // 2, SMOOTH[1] // 2)
    smooth = F.avg_pool2d(power[:, None], SMOOTH, 1, padding)[:, 0]
    return smooth.clamp_min(NOBODY)


def _stft(x: Band, size: int) -> Tensor:
    """[channels, bins, frames]."""
    return torch.stft(
        torch.from_numpy(x),
        size,
        size // HOPS,
        window=torch.hann_window(size),
        return_complex=True,
        pad_mode="constant",
    )


def _istft(spectrum: Tensor, size: int, length: int) -> Band:
    window = torch.hann_window(size)
    x = torch.istft(spectrum, size, size // HOPS, window=window, length=length)
    made: Band = x.numpy()
    return made
