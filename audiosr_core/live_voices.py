"""What is heard of a live stream: one voice a cutoff, and how one follows another.

    old voice   ==========================\\\\\\\\
    new voice   ..........................////==================
                | listens, in silence    |fade|

The new voice listens until it knows as much of the past as if it had always been there. So what
is heard after a change depends on where the cutoff lies, and not on where it lay.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy
from numpy.typing import NDArray

from audiosr_core.crossfade import weights
from audiosr_core.decision import ROOM
from audiosr_core.families.lite import LiteModel
from audiosr_core.families.lite_live import LOOK_AHEAD, Frame, LiteVoice
from audiosr_core.model.lite_step import step_weights
from audiosr_core.splice import highpass

HighBand = NDArray[np.float32]

FILTER_HOPS = 1  # half of the crossover's filter
WIDTH_BINS = 16.5  # of the crossover: what a filter of that length can do
FILL_HOPS = 6  # until windows overlap and the filter is full
FADE_HOPS = 8
ALIKE = 0.5  # correlation of the bands above two cutoffs: the same noise, other copies


class Voice(Protocol):
    """Frames in, the next settled hop of high band out; None is the cutoff of silence."""

    cutoff_hz: float | None

    def __call__(self, now: Frame, then: Frame) -> HighBand: ...


class Rest:
    """Nothing is added."""

    cutoff_hz: float | None = None

    def __init__(self, num_channels: int, hop: int) -> None:
        self._silence = np.zeros((num_channels, hop), np.float32)

    def __call__(self, now: Frame, then: Frame) -> HighBand:
        return self._silence


class Spliced:
    """A voice of the model behind the filter that keeps it above its cutoff."""

    def __init__(self, voice: LiteVoice, crossover: Crossover, cutoff_hz: float) -> None:
        self.cutoff_hz: float | None = cutoff_hz
        self.voice, self._crossover = voice, crossover

    def __call__(self, now: Frame, then: Frame) -> HighBand:
        return self._crossover(self.voice(now, then))


class Crossover:
    """High-pass of linear phase, a hop at a time by overlap-save, FILTER_HOPS late.

    Args:
        cutoff: as a fraction of Nyquist, where it passes all; `width` below, nothing
    """

    def __init__(self, cutoff: float, width: float, hop: int, num_channels: int) -> None:
        half = FILTER_HOPS * hop
        taps = highpass(half, cutoff - min(width, 0.9 * cutoff) / 2)
        self._hop = hop
        self._size = scipy.fft.next_fast_len(2 * half + hop, real=True)
        self._response = scipy.fft.rfft(taps, self._size).astype(np.complex64)
        self._kept = np.zeros((num_channels, 2 * half + hop), np.float32)

    def __call__(self, x: HighBand) -> HighBand:
        hop, kept = self._hop, self._kept
        kept[:, :-hop] = kept[:, hop:]
        kept[:, -hop:] = x
        if not kept.any():
            return np.zeros_like(x)
        spectrum = scipy.fft.rfft(kept, self._size) * self._response
        out = scipy.fft.irfft(spectrum, self._size)
        return np.asarray(out[:, kept.shape[1] - hop : kept.shape[1]])


class Voices:
    """The voice that is heard and, while the cutoff changes, the one that comes.

    Args:
        base_rate: the model's rate, or 44.1 kHz in its place
        multiple: of it, the stream's rate
        ceiling_hz: nothing is generated above
    """

    def __init__(
        self,
        model: LiteModel,
        base_rate: int,
        multiple: int,
        num_channels: int,
        ceiling_hz: float,
    ) -> None:
        self._model, self._base_rate = model, base_rate
        self._multiple, self._num_channels = multiple, num_channels
        self._ceiling_hz = min(base_rate / 2, ceiling_hz)
        self._weights = step_weights(model.network, LOOK_AHEAD)
        self._hop = model.config.hop * multiple
        self._fade = weights(FADE_HOPS * self._hop, ALIKE)
        self._heard: Voice = Rest(num_channels, self._hop)
        self._coming: Voice | None = None
        self._age = 0  # of the one that comes, in hops

    @property
    def cutoff_hz(self) -> float | None:
        """Above it something is generated, or about to be; None: nothing is."""
        return (self._coming or self._heard).cutoff_hz

    def begin(self, cutoff_hz: float) -> None:
        """A cutoff for good, after silence."""
        if cutoff_hz < self._ceiling_hz:
            voice = self._spliced(cutoff_hz)
            voice.voice.step.settle()
            self._heard = voice

    def want(self, cutoff_hz: float | None) -> None:
        """Another cutoff, as soon as may be; one that leaves no room is none."""
        if cutoff_hz is not None and cutoff_hz * (1 + ROOM) >= self._ceiling_hz:
            cutoff_hz = None
        if self._coming is None and cutoff_hz != self._heard.cutoff_hz:
            rest = Rest(self._num_channels, self._hop)
            self._coming = rest if cutoff_hz is None else self._spliced(cutoff_hz)
            self._age = 0

    def __call__(self, now: Frame, then: Frame) -> HighBand:
        """The next hop of high band."""
        old = self._heard(now, then)
        if self._coming is None:
            return old
        new = self._coming(now, then)
        start = (self._age - self._weights.memory - FILL_HOPS) * self._hop
        self._age += 1
        if start < 0:
            return old
        down, up = (fade[start : start + self._hop] for fade in self._fade)
        if start + self._hop == len(self._fade[0]):
            self._heard, self._coming = self._coming, None
        return old * down + new * up

    def _spliced(self, cutoff_hz: float) -> Spliced:
        c = self._model.config
        bin_hz = self._base_rate / c.n_fft
        cut, top = (min(c.num_bins, -int(-hz // bin_hz)) for hz in (cutoff_hz, self._ceiling_hz))
        if self._ceiling_hz >= self._base_rate / 2:
            top = c.num_bins
        voice = LiteVoice(self._model, self._weights, cut, top, self._multiple, self._num_channels)
        nyquist = self._base_rate * self._multiple / 2
        crossover = Crossover(
            cutoff_hz / nyquist, WIDTH_BINS * bin_hz / nyquist, self._hop, self._num_channels
        )
        return Spliced(voice, crossover, cutoff_hz)
