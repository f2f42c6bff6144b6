"""Extend while it plays: blocks in, pieces out a twentieth of a second later.

    hop       k-1  |    k    |   k+1   |  ...                    k + LOOK_AHEAD + 4
    input          |=========|                                  |=========| the last hop needed
    frame                    k+3 |-----------------|   ...  the window that ends with it
    high           |=========|                              hop k is settled

Only `lite` can: one pass, no iteration. Frames lie on absolute multiples of the hop, and each is
computed alone, so the size of blocks changes no bit and noise is a function of absolute time. The
crossover is wider than that of a file, for a filter of one hop; and there is no gain law, for a
level that is measured as it goes would rise and fall with the sound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples, check_block, check_finite, check_format
from audiosr_core.chunking import ChunkPlan
from audiosr_core.errors import AudioError, UsageError
from audiosr_core.families.lite import LiteModel
from audiosr_core.families.lite_live import LOOK_AHEAD, Frame, Frames
from audiosr_core.live_cutoff import MIN_CUTOFF_HZ, CutoffFollower
from audiosr_core.live_voices import FILTER_HOPS, WIDTH_BINS, Voices
from audiosr_core.settings import Settings
from audiosr_core.splice import end_fade
from audiosr_core.stream import fade_at

HighBand = NDArray[np.float32]

BASE_RATES = (44_100, 48_000)
MULTIPLES = (1, 2, 4)
WINDOW_HOPS = 4
NEEDED_HOPS = LOOK_AHEAD + WINDOW_HOPS + FILTER_HOPS  # of input, before one of output is settled


def base_rate(sample_rate: int) -> int:
    """44.1 or 48 kHz; UsageError for a rate that is no multiple of them."""
    for rate in BASE_RATES:
        if any(sample_rate == rate * multiple for multiple in MULTIPLES):
            return rate
    rates = ", ".join(str(r * m) for m in MULTIPLES for r in BASE_RATES)
    raise UsageError(f"live extension is for sample rates of {rates} Hz, got {sample_rate} Hz")


class LiveStream:
    """One sound that goes on and on, from `origin`; before it there was silence.

    Pieces come in order, without gaps, the first begins at `origin` and each has as many samples
    of original as of high band; after `flush_split` they are as many as were pushed. All places
    are samples at the one rate. `plan` is as that of a `Stream`, a chunk being a hop: chunk k is
    settled once input has come up to k·stride + latency_samples. Its `past` holds for a given
    cutoff; one that is followed depends on some four seconds more.

    Args:
        model: `lite`
        settings: of these count seed, cutoff, ceiling, mix and gain. A cutoff that is not given
            is measured all along, from the past alone, and nothing is added before it is found
    """

    def __init__(
        self,
        model: LiteModel,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        origin: int = 0,
    ) -> None:
        check_format(sample_rate, num_channels)
        if not isinstance(settings.cutoff, str) and settings.cutoff < MIN_CUTOFF_HZ:
            raise UsageError(
                f"a live stream takes a cutoff from {MIN_CUTOFF_HZ} Hz on, got"
                f" {settings.cutoff:g} Hz; leave it to be measured, or do not extend live"
            )
        base = base_rate(sample_rate)
        multiple = sample_rate // base
        config = model.config
        hop = config.hop * multiple
        self.settings, self.num_channels = settings, num_channels
        self.plan = ChunkPlan(
            rate_in=sample_rate,
            rate_model=sample_rate,
            rate_out=sample_rate,
            stride=hop,
            overlap=0,
            past=(config.past_frames + WINDOW_HOPS) * hop,
            future=(NEEDED_HOPS - 1) * hop,
        )
        self.received = self.settled = origin
        self._flushed = False
        self._index = origin // hop  # of the next hop
        self._begun: Samples | None = None  # the next hop, as far as it came
        self._filled = origin - self._index * hop
        self._hops: deque[Samples] = deque()  # whole ones, to be computed
        self._waiting: deque[Samples] = deque()  # original that is not settled
        self._window = np.zeros((num_channels, config.n_fft * multiple), np.float32)
        self._frames = Frames(model, multiple, settings.seed)
        silent = _silent(num_channels, config.num_bins)
        self._past = deque([silent] * (LOOK_AHEAD + 1), maxlen=LOOK_AHEAD + 1)
        self._voices = Voices(
            model, base, multiple, num_channels, settings.ceiling_hz if settings.mix else 0.0
        )
        self._follower: CutoffFollower | None = None
        if isinstance(settings.cutoff, str):
            self._follower = CutoffFollower(sample_rate, base, hop, num_channels)
        else:
            self._voices.begin(float(settings.cutoff))
        self._gain = np.float32(settings.mix * 10 ** (settings.gain_hf_db / 20))
        self._fade = end_fade(WIDTH_BINS * base / config.n_fft, sample_rate)
        self._origin = origin

    @property
    def latency_samples(self) -> int:
        """Input that must have come, from a sample on, before it is settled, at most."""
        _, last = self.plan.slice(0)
        return last

    @property
    def cutoff_hz(self) -> float | None:
        """Above it something is generated, or about to be; None: nothing is."""
        return self._voices.cutoff_hz

    def push_split(self, samples: Samples) -> Iterator[tuple[Samples, HighBand]]:
        """Take a block of any size, [channels, samples]; give what has settled, piece by piece."""
        if self._flushed:
            raise AudioError("this stream is over; open another")
        check_block(samples, self.num_channels)
        check_finite(samples, self.received, self.plan.rate_in)
        self.received += samples.shape[1]
        self._cut(samples)
        return self._settle()

    def flush_split(self) -> Iterator[tuple[Samples, HighBand]]:
        """Give the rest; the stream is over."""
        if self._flushed:
            raise AudioError("this stream is over; open another")
        yield from self._settle()
        self._flushed = True
        if self.received == self._origin or self._begun is None:
            return
        silence = np.zeros((self.num_channels, self.plan.stride), self._begun.dtype)
        end = self.received
        while self.settled < end:
            self._cut(silence)
            for original, high in self._settle():
                start = self.settled - original.shape[1]
                size = min(original.shape[1], end - start)
                fade = fade_at(self._fade[::-1], end - len(self._fade) - start, size)
                yield original[:, :size], high[:, :size] * fade
        self.settled = end

    def _cut(self, samples: Samples) -> None:
        """Into whole hops on the absolute grid."""
        hop, start = self.plan.stride, 0
        while start < samples.shape[1]:
            if self._begun is None:
                self._begun = np.zeros((self.num_channels, hop), samples.dtype)
            count = min(hop - self._filled, samples.shape[1] - start)
            self._begun[:, self._filled : self._filled + count] = samples[:, start : start + count]
            self._filled += count
            start += count
            if self._filled == hop:
                self._hops.append(self._begun)
                self._begun, self._filled = np.zeros_like(self._begun), 0

    def _settle(self) -> Iterator[tuple[Samples, HighBand]]:
        while self._hops:
            original = self._hops.popleft()
            high = self._next(original)
            self._waiting.append(original)
            self._index += 1
            if len(self._waiting) < NEEDED_HOPS:
                continue
            original = self._waiting.popleft()
            skip = self.settled % self.plan.stride  # at the origin
            high = high[:, skip:] * self._gain
            if self.settled - self._origin < len(self._fade):
                high = high * fade_at(self._fade, self._origin - self.settled, high.shape[1])
            self.settled += high.shape[1]
            yield original[:, skip:], high

    def _next(self, samples: Samples) -> HighBand:
        """One hop in, one hop of high band out, of NEEDED_HOPS - 1 before."""
        hop = self.plan.stride
        self._window[:, :-hop] = self._window[:, hop:]
        self._window[:, -hop:] = samples
        frame = self._frames(self._window, self._index + 1 - WINDOW_HOPS // 2)
        self._past.append(frame)
        if self._follower is not None:
            self._follower.push(samples, self._index)
            self._voices.want(self._follower.cutoff_hz)
        return self._voices(frame, self._past[0])


def _silent(num_channels: int, num_bins: int) -> Frame:
    nothing = np.zeros((num_channels, num_bins), np.complex64)
    return Frame(nothing, np.abs(nothing), nothing[0])
