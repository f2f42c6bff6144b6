"""The new band of a mix, shared out among its stems: each keeps its level, and they sum to it.

    stem i ── guide, noise of its own ── h_i ──┐
                                               ├── h_i + w_i · (m − Σ h_j)    what stem i gets
    mix ───── model ──────────────────── m ────┘

What stems get when each is extended alone does not sum to what their mix gets. So a stem gets a
draw of what it would get alone, on the condition that all of them sum to m: Matheron's rule for
conditional simulation (Wilson et al. 2021, "Pathwise conditioning of Gaussian processes"), cell by
cell of an STFT, with powers p as variances. w_i = p_i / Σ p_j sums to one, which makes the sum
exact, and is the one choice that leaves a stem its own level p_i.

A mono stem in a wider mix is the same in every channel of it; the rule is then that of the joint
distribution of all channels, and what is left goes to the stems that are as wide as the mix.

Frames lie on multiples of the hop in absolute time, so that neighbouring chunks agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from audiosr_core.audio import Samples
from audiosr_core.chunking import ChunkPlan
from audiosr_core.decision import Decision
from audiosr_core.errors import ModelError
from audiosr_core.families import Condition, Model
from audiosr_core.settings import Settings
from audiosr_core.stream import HighBand, chunk_cutoff, distinct, new_band, nothing

N_FFT, HOP = 1024, 256
SMOOTH = (9, 5)  # bins and frames over which a power is a mean
NOBODY = 1e-25  # power under which nobody sounds: there, all stems are equal

Levels = NDArray[np.float64]
"""Energy of the new band of each stem, extended alone and as it was shared, [stems, 2]."""


@dataclass(frozen=True)
class Layout:
    """The rows of a song: the channels of its stems, one stem after the other, then the mix."""

    stems: tuple[int, ...]  # channels of each: as many as the mix has, or one, which is in all
    mix: int  # channels
    seeds: tuple[int, ...]  # what each stem adds to the seed, for noise of its own
    skipped: tuple[bool, ...]  # per row, the mix included: nothing to extend, gets nothing

    @property
    def num_rows(self) -> int:
        return sum(self.stems) + self.mix

    def rows(self) -> Iterator[slice]:
        """Where each stem lies."""
        start = 0
        for width in self.stems:
            yield slice(start, start + width)
            start += width


class SongModel:
    """A model for all rows of a song at once; see `families.Model`.

    Args:
        model: extends the mix, which it hears as if there were no stems
        guide: a small one, for what each stem would get alone
        on_levels: told of every chunk that is computed
    """

    def __init__(
        self,
        model: Model,
        guide: Model,
        layout: Layout,
        on_levels: Callable[[Levels], None] = lambda levels: None,
    ) -> None:
        if model.sample_rate != guide.sample_rate:
            raise ModelError(
                f"the stems of a song need a model at {guide.sample_rate} Hz, but {model.id!r}"
                f" works at {model.sample_rate} Hz; use another model"
            )
        self._model, self._guide, self._layout, self._on_levels = model, guide, layout, on_levels
        self.id, self.sample_rate = model.id, model.sample_rate
        self.anchored, self.grid_samples = model.anchored, model.grid_samples
        self.stride_seconds, self.overlap_seconds = model.stride_seconds, model.overlap_seconds
        self._more_past = self._more(guide.past_samples, model.past_samples)
        self._more_future = self._more(guide.future_samples, model.future_samples)
        self.past_samples = model.past_samples + self._more_past
        self.future_samples = model.future_samples + self._more_future

    def _more(self, guide_samples: int, model_samples: int) -> int:
        """Context that only the stems need, on the model's grid."""
        needed = guide_samples + N_FFT + SMOOTH[1] // 2 * HOP - model_samples
        return -(-max(0, needed) // self.grid_samples) * self.grid_samples

    def high_band(
        self,
        model: Model,
        plan: ChunkPlan,
        index: int,
        piece: Samples,
        decision: Decision,
        settings: Settings,
        on_step: Callable[[], None] = lambda: None,
    ) -> HighBand:
        """`stream.high_band` of a song; the decision is that of its mix."""
        mix = piece[-self._layout.mix :]
        cutoff_hz = chunk_cutoff(mix, plan, decision, settings)
        if cutoff_hz is None or not mix.any():
            return nothing(plan, index, len(piece))
        return new_band(model, plan, index, piece, cutoff_hz, decision, settings, on_step)

    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        """See `families.Model`; all rows, in their order."""
        layout = self._layout
        heard = np.where(np.array(layout.skipped)[:, None], np.float32(0), low)
        own = slice(self._more_past, low.shape[1] - self._more_future)
        out = np.zeros_like(low)
        mix = out[-layout.mix :]
        mix[:, own] = _made(
            self._model, heard[-layout.mix :, own], start + self._more_past, condition
        )
        sounding = [i for i, rows in enumerate(layout.rows()) if not all(layout.skipped[rows])]
        rows = [list(layout.rows())[i] for i in sounding]
        if len(sounding) == 1 and layout.stems[sounding[0]] == layout.mix:
            out[rows[0]] = mix
            return out
        alone = []
        for i, here in zip(sounding, rows, strict=True):
            seed = (condition.settings.seed + layout.seeds[i]) % 2**32
            settings = condition.settings.replace(seed=seed)
            alone.append(
                _made(
                    self._guide, heard[here], start, dataclasses.replace(condition, settings=settings)
                )
            )
        shared, levels = share(mix, alone, start)
        for here, made in zip(rows, shared, strict=True):
            out[here] = made
        told = np.zeros((len(layout.stems), 2))
        told[sounding] = levels
        self._on_levels(told)
        return out


def _made(
    model: Model, x: NDArray[np.float32], start: int, condition: Condition
) -> NDArray[np.float32]:
    """What the model gives for the rows that sound, equal rows once; silence for the others."""
    out = np.zeros_like(x)
    rows = [i for i in range(len(x)) if x[i].any()]
    if rows:
        different, like = distinct(x, rows)
        out[rows] = model.generate(x[different], start, condition)[like]
    return out


@torch.inference_mode()
def share(
    mix: NDArray[np.float32], alone: Sequence[NDArray[np.float32]], start: int
) -> tuple[list[NDArray[np.float32]], Levels]:
    """Share out a band among stems, and how loud they were alone and are now.

    Stems as wide as the mix sum to it exactly; with mono ones, where such a stem sounds too.

    Args:
        mix: the band that all of them shall sum to, [channels, samples]
        alone: what each stem would get alone, [channels or 1, samples]
        start: absolute time of the first sample
    """
    frames = _Frames(start, mix.shape[1])
    target = frames.forward(mix)
    total = torch.zeros_like(target)
    wide = torch.zeros_like(target.real)  # power of the stems as wide as the mix
    narrow = torch.zeros_like(wide[:1])  # and of the mono ones, where the mix is wider
    for one in alone:
        band = frames.forward(one)
        total += band
        if len(one) == len(mix):
            wide += _power(band)
        else:
            narrow += _power(band)
    # as loud as the mix is in each cell: another model, or stems that cancel, say less or more
    level = (_power(target).sum(0) / (wide + narrow).sum(0).clamp_min(NOBODY)).sqrt()
    rest = target - level * total
    quietest = wide.amin(0, keepdim=True).clamp_min(NOBODY)
    trust = quietest / wide.clamp_min(NOBODY)
    mono = narrow * (trust * rest).sum(0, keepdim=True) / (quietest + narrow * trust.sum(0))
    made, levels = [], np.zeros((len(alone), 2))
    for i, one in enumerate(alone):
        band = frames.forward(one)
        if len(one) == len(mix):
            given = level * band + _power(band) / wide.clamp_min(NOBODY) * (rest - mono)
        else:
            given = level * band + _power(band) / narrow.clamp_min(NOBODY) * mono
        made.append(frames.back(given))
        levels[i] = [float(x.abs().square().sum(dtype=torch.float64)) for x in (band, given)]
    return made, levels


def _power(band: Tensor) -> Tensor:
    """Its running mean; a stem that sounds has some in every cell."""
    power = band.real.square() + band.imag.square()
    padding = (SMOOTH[0] // 2, SMOOTH[1] // 2)
    smooth = F.avg_pool2d(power[:, None], SMOOTH, 1, padding)[:, 0]
    return smooth.clamp_min(NOBODY)


class _Frames:
    """The STFT of one stretch of time."""

    def __init__(self, start: int, num_samples: int) -> None:
        self._lead, self._length = start % HOP, num_samples
        self._window = torch.hann_window(N_FFT)

    def forward(self, x: NDArray[np.float32]) -> Tensor:
        """[channels, bins, frames]."""
        padded = torch.from_numpy(np.pad(x, ((0, 0), (self._lead, 0))))
        return torch.stft(
            padded, N_FFT, HOP, window=self._window, return_complex=True, pad_mode="constant"
        )

    def back(self, spectrum: Tensor) -> NDArray[np.float32]:
        length = self._lead + self._length
        x = torch.istft(spectrum, N_FFT, HOP, window=self._window, length=length)
        return np.ascontiguousarray(x.numpy()[:, self._lead :])
