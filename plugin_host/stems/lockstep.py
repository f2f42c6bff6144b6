"""The streams of a song, side by side: what has settled in all of them is shared out.

stem i ── stream ── original ──────────────────────────┐
             └───── extended alone ──┐                 ├── original, its share
mix ───── stream ── new band ────────┴── Sharer ───────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from audiosr_core.engine import Parts
from audiosr_core.share import Sharer


@dataclass(frozen=True, eq=False)
class Settled:
    """The next samples of a song, all of the same length."""

    originals: list[Samples]  # of every stem
    shares: list[Samples]  # of the mix's new band
    mix: Samples  # the new band itself


class Lockstep:
    """One song from first sample to last.

    Args:
        stems: a stream for each stem, which extends it alone
        sounding: which of them get a share
        widths: channels of each stem
        mix: the stream that extends the mix
    """

    def __init__(
        self,
        stems: Sequence[Parts],
        sounding: Sequence[int],
        widths: Sequence[int],
        mix: Parts,
        mix_channels: int,
        rate_out: int,
    ) -> None:
        self._sounding, self._widths = sounding, widths
        self._lanes = [_Lane(one, width) for one, width in zip(stems, widths, strict=True)]
        self._mix = _Lane(mix, mix_channels)
        self._band = _Queue(mix_channels)  # of the mix, until it is shared out
        self._shares = {i: _Queue(widths[i]) for i in sounding}
        self._sharer: Sharer | None = None
        if not gets_all([widths[i] for i in sounding], mix_channels):
            self._sharer = Sharer([widths[i] for i in sounding], mix_channels, rate_out)
        self.alone = np.zeros(len(stems))  # energy of each stem's new band, extended alone

    def push(self, stems: Sequence[Samples], mix: Samples) -> Settled:
        """Take the next samples of every stem and of their mix; give what has settled."""
        for lane, samples in zip(self._lanes, stems, strict=True):
            lane.push(samples)
        self._mix.push(mix)
        self._share()
        return self._settled()

    def flush(self) -> Settled:
        """Give the rest; the song is over."""
        for lane in (*self._lanes, self._mix):
            lane.flush()
        self._share()
        if self._sharer:
            self._keep(self._sharer.flush())
        return self._settled()

    def _share(self) -> None:
        count = min(lane.high.size for lane in (*self._lanes, self._mix))
        band = self._mix.high.take(count).astype(np.float32)
        alone = [lane.high.take(count).astype(np.float32) for lane in self._lanes]
        self.alone += [energy(one) for one in alone]
        self._band.push(band)
        if self._sharer:
            self._keep(self._sharer.push([alone[i] for i in self._sounding], band))
        else:
            self._keep([band] * len(self._sounding))

    def _keep(self, shares: Sequence[Samples]) -> None:
        for queue, share in zip(self._shares.values(), shares, strict=True):
            queue.push(share)

    def _settled(self) -> Settled:
        count = min(queue.size for queue in (self._band, *self._shares.values()))
        self._mix.original.take(count)  # nobody needs it: it is the sum of the others
        return Settled(
            originals=[lane.original.take(count) for lane in self._lanes],
            shares=[
                self._shares[i].take(count) if i in self._shares else np.zeros((width, count))
                for i, width in enumerate(self._widths)
            ],
            mix=self._band.take(count),
        )


def gets_all(widths: Sequence[int], mix_channels: int) -> bool:
    """Nothing is to be shared: nobody sounds, or one alone that is as wide as the mix."""
    return not widths or list(widths) == [mix_channels]


def energy(samples: Samples) -> float:
    x: NDArray[np.float64] = np.asarray(samples, np.float64)
    return float(np.vdot(x, x))


class _Queue:
    """Samples that came and were not taken yet."""

    def __init__(self, num_channels: int) -> None:
        self._blocks: list[Samples] = []
        self._none = np.zeros((num_channels, 0), np.float32)

    @property
    def size(self) -> int:
        return sum(block.shape[1] for block in self._blocks)

    def push(self, samples: Samples) -> None:
        self._blocks.append(samples)

    def take(self, num_samples: int) -> Samples:
        joined = np.concatenate(self._blocks or [self._none], axis=1)
        self._blocks = [joined[:, num_samples:]] if joined.shape[1] > num_samples else []
        return joined[:, :num_samples]


class _Lane:
    """One stream, and what has settled of it."""

    def __init__(self, stream: Parts, num_channels: int) -> None:
        self._stream = stream
        self.original, self.high = _Queue(num_channels), _Queue(num_channels)

    def push(self, samples: Samples) -> None:
        for original, high in self._stream.push_split(samples):
            self.original.push(original)
            self.high.push(high)

    def flush(self) -> None:
        for original, high in self._stream.flush_split():
            self.original.push(original)
            self.high.push(high)
