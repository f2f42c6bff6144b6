"""The one path of every sound: blocks in, settled samples out.

    push(block) ─ kept input ─ chunk k ─ high band ─ join with k-1 ─┐
                       │                                            + ─ settled samples
                       └── original (resampled only if the rate changes) ─┘

A file is a stream of one block. The size of blocks changes no bit: chunks lie on an absolute
grid, and each is a function of its own slice of the input.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples, check_block, check_finite
from audiosr_core.chunking import ChunkPlan, plan_chunks
from audiosr_core.crossfade import join
from audiosr_core.cutoff import DOUBT, cutoff_of, second_look
from audiosr_core.decision import Decision, top_edge
from audiosr_core.errors import AudioError, ModelError
from audiosr_core.families import Condition, Model
from audiosr_core.resample import CONTEXT_SECONDS, output_length, resample
from audiosr_core.settings import Settings
from audiosr_core.splice import bandpass, end_fade, filter_same, max_half_length, width_hz

HighBand = NDArray[np.float32]

FAINT = 1e-4
"""Below this share of the sound's peak a chunk is so quiet that a model may answer with nothing."""

Compute = Callable[
    [Model, ChunkPlan, int, Samples, Decision, Settings, Callable[[], None]], HighBand
]
"""`high_band`, or something that gives the same samples, out of a cache say."""

JOINED_BLOCKS = 256
"""Tiny blocks are joined by so many, for each of them costs a hundred bytes beside its samples."""


def plan_for(model: Model, rate_in: int, decision: Decision, settings: Settings) -> ChunkPlan:
    """The chunks of a sound for this model; slices begin on the model's grid."""
    rate = model.sample_rate
    reach = max_half_length(rate) / rate + 2 * CONTEXT_SECONDS
    grid = model.grid_samples / rate

    def on_grid(seconds: float) -> float:
        return math.ceil(seconds / grid - 1e-9) * grid

    return plan_chunks(
        rate_in,
        rate,
        decision.rate_out,
        stride_seconds=model.stride_seconds(settings),
        overlap_seconds=model.overlap_seconds,
        past_seconds=on_grid(model.past_samples / rate + reach),
        future_seconds=on_grid(model.future_samples / rate + reach),
    )


def high_band(
    model: Model,
    plan: ChunkPlan,
    index: int,
    piece: Samples,
    decision: Decision,
    settings: Settings,
    on_step: Callable[[], None] = lambda: None,
) -> HighBand:
    """What is added to chunk `index`, at the output rate, [channels, core].

    A pure function: the same slice, index, decision and settings give the same samples. What a
    model gives must be sound: NaN, Inf or nothing at all is tried once more with the next seed.

    Args:
        piece: the chunk's slice of the input, [channels, slice]
        on_step: called all along; raise from it to cancel

    Raises:
        ModelError: the model gave no sound twice; a dry chunk is never passed off as extended
    """
    start, end = plan.core(index)
    first, _ = plan.slice(index)
    length = plan.at(end - start, plan.rate_out)
    out = np.zeros((piece.shape[0], length), np.float32)
    rows = [i for i, skip in enumerate(decision.skipped) if not skip and piece[i].any()]
    cutoff_hz = decision.cutoff.hz
    if decision.follow:
        cutoff_hz = _local_cutoff(piece, plan.rate_in, decision)
    top = min(plan.rate_out / 2, settings.ceiling_hz)
    if not decision.extends or not rows or cutoff_hz >= top:
        return out
    different = _different(piece, rows)  # mono in two channels is computed once, and stays mono
    low = resample(piece[different].astype(np.float32), plan.rate_in, plan.rate_model)
    condition = Condition(cutoff_hz, settings, decision.peak, on_step)
    made = _generated(model, low, plan.at(first, plan.rate_model), condition, index)
    taps = bandpass(plan.rate_model, cutoff_hz, settings.transition, settings.ceiling_hz)
    made = filter_same(made, taps)
    gain = settings.mix * 10 ** ((settings.gain_hf_db + decision.gain_db) / 20)
    made = resample(made * np.float32(gain), plan.rate_model, plan.rate_out)
    lead = plan.at(start - first, plan.rate_out)
    for i in rows:
        first_like_it = next(k for k, j in enumerate(different) if _same(piece, i, j))
        out[i] = made[first_like_it, lead : lead + length]
    return out


def _generated(
    model: Model, low: HighBand, start: int, condition: Condition, index: int
) -> HighBand:
    loud = float(np.abs(low).max(initial=0.0)) > FAINT * condition.peak
    for seed in (condition.settings.seed, (condition.settings.seed + 1) % 2**32):
        settings = condition.settings.replace(seed=seed)
        made = model.generate(low, start, dataclasses.replace(condition, settings=settings))
        if np.isfinite(made).all() and (made.any() or not loud):
            return made
    what = "silence" if np.isfinite(made).all() else "NaN or Inf"
    raise ModelError(
        f"the model {model.id!r} gave {what} for chunk {index}, {start / model.sample_rate:.2f} s,"
        " with two seeds; try another precision, device or model"
    )


def _same(piece: Samples, i: int, j: int) -> bool:
    return i == j or np.array_equal(piece[i], piece[j])


def _different(piece: Samples, rows: list[int]) -> list[int]:
    """The first of every group of equal channels."""
    kept: list[int] = []
    for i in rows:
        if not any(_same(piece, i, j) for j in kept):
            kept.append(i)
    return kept


def _local_cutoff(piece: Samples, sample_rate: int, decision: Decision) -> float:
    """The cutoff of one chunk; where it says little, that of the whole sound."""
    found = second_look(cutoff_of(piece, sample_rate), [piece], sample_rate)
    sure = found.confidence >= DOUBT
    return min(found.hz if sure else decision.cutoff.hz, top_edge(sample_rate, decision.rate_out))


class Stream:
    """One sound from first sample to last, with one `Settings` and one `Decision`.

    Args:
        region: input samples start, stop; nothing is added outside, and what is inside equals
            the same place of the whole render
        on_step: called all along while a chunk is computed; raise from it to cancel
        compute: `high_band`, or what stands in front of it
        origin: input sample that the first block begins at, with silence before it; chunks and
            noise lie where they would in a stream that began earlier
    """

    def __init__(
        self,
        model: Model,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        region: tuple[int, int] | None = None,
        on_step: Callable[[], None] = lambda: None,
        compute: Compute = high_band,
        origin: int = 0,
    ) -> None:
        self._compute = compute
        self.model, self.settings, self.decision = model, settings, decision
        self.plan = plan_for(model, sample_rate, decision, settings)
        self._on_step = on_step
        self.num_channels = num_channels
        self.region = region
        self._first = origin  # input sample that the first block begins at
        self._received = origin  # input samples so far, those before it too
        self._blocks: list[Samples] = []  # the latest, as they came
        self._kept: list[Samples] = []  # input from self._kept_from on; joined when a chunk is due
        self._first_chunk = origin // self.plan.at(self.plan.stride, sample_rate)
        joins = self._first_chunk > 0 and self._overlap > 0
        self._index = self._first_chunk - joins  # the one before is computed for the join alone
        self._kept_from = self.plan.at(self.plan.slice(self._index)[0], sample_rate)
        width = width_hz(decision.cutoff.hz, settings.transition)
        self._fade = end_fade(width, decision.rate_out)
        self._tail: HighBand | None = None  # overlap of the last chunk
        self._flushed = False

    @property
    def latency_samples(self) -> int:
        """Input samples that must follow a sample before it can settle, at most."""
        _, last = self.plan.slice(0)
        return self.plan.at(last, self.plan.rate_in)

    @property
    def first_out(self) -> int:
        """Output sample that the first piece begins at: of the grid, at or before the origin."""
        return self.plan.at(self._first_chunk * self.plan.stride, self.plan.rate_out)

    def skip(self) -> tuple[int, int]:
        """Leave out all chunks before the region; called before the first block, or not at all.

        Returns:
            the input sample that the first block must begin at, and the output sample that the
            first piece begins at
        """
        plan = self.plan
        if self.region:
            self._index = self._first_chunk = next(iter(plan.chunks_of(*self.region)), 0)
            self._kept_from = plan.at(plan.slice(self._index)[0], plan.rate_in)
            self._first = self._received = max(0, self._kept_from)
        return self._first, plan.at(self._index * plan.stride, plan.rate_out)

    def push(self, samples: Samples) -> Samples:
        """Take a block of any size, [channels, samples]; give what has settled."""
        return _added(self.push_split(samples), self.num_channels, samples.dtype)

    def flush(self) -> Samples:
        """Give the rest; the stream is over."""
        dtype = self._kept[0].dtype if self._kept else np.dtype(np.float64)
        return _added(self.flush_split(), self.num_channels, dtype)

    def push_split(self, samples: Samples) -> Iterator[tuple[Samples, HighBand]]:
        """As `push`, but the original and what is to be added apart, piece by piece."""
        if self._flushed:
            raise AudioError("this stream is over; open another")
        check_block(samples, self.num_channels)
        check_finite(samples, self._received, self.plan.rate_in)
        if self._received == self._first:
            silence = self._first - self._kept_from
            self._kept = [np.zeros((self.num_channels, silence), samples.dtype)]
            self._blocks = []
        self._blocks.append(samples.copy())  # the caller may use its block again
        if len(self._blocks) >= JOINED_BLOCKS:
            self._kept.append(np.concatenate(self._blocks, axis=1))
            self._blocks = []
        self._received += samples.shape[1]
        return self._settle()

    def flush_split(self) -> Iterator[tuple[Samples, HighBand]]:
        """As `flush`, likewise."""
        if self._flushed:
            raise AudioError("this stream is over; open another")
        self._flushed = True
        if self._received == self._first:
            return
        plan = self.plan
        total_out = output_length(self._received, plan.rate_in, plan.rate_out)
        done = plan.at(self._index * plan.stride, plan.rate_out)
        count = plan.num_chunks(self._received)
        silence = plan.at(plan.slice(count - 1)[1], plan.rate_in) - self._received
        silence = max(0, silence)
        self._blocks.append(np.zeros((self.num_channels, silence), self._kept[0].dtype))
        while self._index < count:
            original, high = self._next_chunk()
            size = min(original.shape[1], total_out - done)
            fade = fade_at(self._fade[::-1], total_out - len(self._fade) - done, size)
            if self._index > self._first_chunk:
                yield original[:, :size], high[:, :size] * fade
            done += size

    def _settle(self) -> Iterator[tuple[Samples, HighBand]]:
        plan = self.plan
        while plan.at(plan.slice(self._index)[1], plan.rate_in) <= self._received:
            made = self._next_chunk()
            if self._index > self._first_chunk:
                yield made

    def _next_chunk(self) -> tuple[Samples, HighBand]:
        plan, index = self.plan, self._index
        first, last = (plan.at(t, plan.rate_in) for t in plan.slice(index))
        kept = self._joined()
        piece = kept[:, first - self._kept_from : last - self._kept_from]
        stride = plan.at(plan.stride, plan.rate_out)
        if self._wanted(index):
            made = self._compute(
                self.model, plan, index, piece, self.decision, self.settings, self._on_step
            )
        else:
            made = np.zeros((self.num_channels, stride + self._overlap), np.float32)
        if self._tail is not None and self._overlap:
            made[:, : self._overlap] = join(self._tail, made[:, : self._overlap])
        self._tail = made[:, stride:]
        high = made[:, :stride]
        if index * stride < len(self._fade):
            high = high * fade_at(self._fade, -index * stride, stride)
        if self.region:
            high = self._inside(high, index * stride)
        original = self._original(piece)
        self._index += 1
        self._kept_from = plan.at(plan.slice(self._index)[0], plan.rate_in)
        self._kept = [kept[:, self._kept_from - first :]]
        return original, high

    def _joined(self) -> Samples:
        """What is kept, in one piece: copied once a chunk, so that tiny blocks cost no more."""
        if len(self._kept) + len(self._blocks) > 1:
            self._kept, self._blocks = [np.concatenate(self._kept + self._blocks, axis=1)], []
        return self._kept[0]

    @property
    def _overlap(self) -> int:
        return self.plan.at(self.plan.overlap, self.plan.rate_out)

    def _wanted(self, index: int) -> bool:
        return not self.region or index in self.plan.chunks_of(*self.region)

    def _inside(self, high: HighBand, start: int) -> HighBand:
        assert self.region
        place = start + np.arange(high.shape[1])
        a, b = (output_length(n, self.plan.rate_in, self.plan.rate_out) for n in self.region)
        return np.where((place >= a) & (place < b), high, np.float32(0))

    def _original(self, piece: Samples) -> Samples:
        plan = self.plan
        stride = plan.at(plan.stride, plan.rate_out)
        lead = plan.at(plan.past, plan.rate_out)
        return resample(piece, plan.rate_in, plan.rate_out)[:, lead : lead + stride]


def fade_at(fade: HighBand, start: int, length: int) -> HighBand:
    """A fade laid at `start` (may be negative) on a stretch of ones; flat outside it."""
    place = np.clip(np.arange(length) - start, 0, len(fade) - 1)
    return fade[place]


def _added(
    parts: Iterator[tuple[Samples, HighBand]], num_channels: int, dtype: np.dtype[np.floating]
) -> Samples:
    """original + high band; where nothing is added, the original to the bit (−0.0 included)."""
    settled = [np.where(high == 0, original, original + high) for original, high in parts]
    if not settled:
        return np.zeros((num_channels, 0), dtype)
    return np.concatenate(settled, axis=1).astype(dtype, copy=False)
