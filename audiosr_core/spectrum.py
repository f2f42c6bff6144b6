"""The long-term spectrum of a sound of any length, in memory that does not grow.

Frames of about 0.17 s stand on a fixed grid counted from the first sample; blocks only fill them,
so the size of the blocks changes no bit.

    samples  |------------------------------------------------|
    frame 0  |=======|
    frame 1      |=======|                 hop: half a frame
    frame k                                          |=======|
    last                                              |=======|   ends on the last sample

Each bin keeps its mean power, per channel, and a histogram of its level over time, channels
summed. Ranks are read off the histogram ("the level this bin reaches in a seventh of the active
frames"), so that neither silence and fades nor a few loud clicks decide what the spectrum is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from audiosr_core.audio import Samples, check_format
from audiosr_core.errors import AudioError

FRAME_SECONDS = 0.17  # bins of 6 Hz: 0.4 % of a 1.5 kHz cutoff
KAISER_BETA = 16.0  # side lobes below −120 dB, main lobe ±5.2 bins
GROUP_FRAMES = 4  # frames transformed at once, always the same, so that rounding is the same too
LEVEL_MIN_DB = -200.0
LEVEL_STEP_DB = 20 * math.log10(2) / 7  # so that half the level is seven steps exactly
NUM_LEVELS = 300
ACTIVE_RANGE_DB = 40.0  # frames this far below the loud ones still count as active
MIN_SAMPLES = 64  # shorter sounds have no spectrum worth the name
SILENCE_POWER = 1e-16  # −160 dBFS: below the last bit of 24, so digital silence
LOW_ONLY_HZ = 200.0
LOW_ONLY_RATIO = 1e-6  # −60 dB
LOW_ONLY_POWER = 10**-8.5  # −85 dBFS: above the dither of 16 bits (−93 dBFS)


@dataclass(frozen=True, eq=False)
class LongTermSpectrum:
    """What a sound holds at each frequency. Power 1 is the mean square of full-scale DC."""

    sample_rate: int  # Hz
    num_samples: int
    frequencies: NDArray[np.float64]  # Hz, [bins]
    power: NDArray[np.float64]  # mean over time, sums to the mean square, [channels, bins]
    histogram: NDArray[np.int32]  # frames by level of the summed channels, [bins, levels]
    loudness: NDArray[np.int64]  # active and quiet frames by their total level, [levels]
    low_only: NDArray[np.bool_]  # nothing above 200 Hz, as an LFE channel has it, [channels]
    silent: bool  # not one frame above −160 dBFS

    @property
    def num_frames(self) -> int:
        """Frames that were not digital silence."""
        return int(self.loudness.sum())

    @property
    def num_active(self) -> int:
        """Frames within 40 dB of the loud ones (which 5 % of the frames reach)."""
        level = int((self.loud_db - ACTIVE_RANGE_DB - LEVEL_MIN_DB) // LEVEL_STEP_DB)
        return int(self.loudness[max(level, 0) :].sum())

    @property
    def loud_db(self) -> float:
        """The level that 5 % of the frames reach, dBFS of the summed channels."""
        return float(_rank_db(self.loudness[None, :], 1 + self.num_frames // 20)[0])

    def level_db(self, share: float) -> NDArray[np.float64]:
        """The level each bin reaches in this share of the active frames, dBFS, [bins]."""
        return _rank_db(self.histogram, 1 + round(share * max(self.num_active - 1, 0)))


def _rank_db(histogram: NDArray[np.integer], rank: int) -> NDArray[np.float64]:
    """The rank-th largest level of each row, dB, spread evenly inside its step."""
    from_top = np.cumsum(histogram[:, ::-1], axis=1, dtype=np.int32)  # a third of the time of int64
    found = np.minimum((from_top < rank).sum(axis=1), histogram.shape[1] - 1)
    row = np.arange(histogram.shape[0])
    here = np.maximum(histogram[:, ::-1][row, found], 1)
    inside = np.clip((rank - 0.5 - (from_top[row, found] - here)) / here, 0.0, 1.0)
    level = histogram.shape[1] - found - inside
    return np.asarray(LEVEL_MIN_DB + LEVEL_STEP_DB * level, dtype=np.float64)


class SpectrumMeter:
    """Takes blocks of any size, gives the long-term spectrum so far."""

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        check_format(sample_rate, num_channels)
        self.sample_rate = sample_rate
        self.num_channels = num_channels
        self._size = 2 ** round(np.log2(FRAME_SECONDS * sample_rate))
        self._hop = self._size // 2
        self._window = _window(self._size, self._size)
        bins = self._size // 2 + 1
        # one hop of history, so that the last frame can end on the last sample; then one group
        length = self._hop + self._size + (GROUP_FRAMES - 1) * self._hop
        self._buffer = np.zeros((num_channels, length), np.float32)
        self._filled = self._hop
        self._num_samples = 0
        self._settled = _Sums(num_channels, bins)

    @property
    def nbytes(self) -> int:
        """What the meter holds, in bytes; it does not grow."""
        sums = self._settled
        return sum(a.nbytes for a in (self._buffer, sums.power, sums.histogram, sums.loudness))

    def push(self, samples: Samples) -> None:
        """Take the next samples, [channels, any number]."""
        if samples.ndim != 2 or samples.shape[0] != self.num_channels:
            raise AudioError(
                f"the meter was opened for blocks [{self.num_channels}, samples],"
                f" got {list(samples.shape)}; give every block all channels"
            )
        buffer, start = self._buffer, 0
        self._num_samples += samples.shape[1]
        while start < samples.shape[1]:
            count = min(buffer.shape[1] - self._filled, samples.shape[1] - start)
            buffer[:, self._filled : self._filled + count] = samples[:, start : start + count]
            self._filled += count
            start += count
            if self._filled == buffer.shape[1]:
                self._settled.add(self._frames(buffer) * self._window, self._size)
                buffer[:, : self._size] = buffer[:, -self._size :].copy()
                self._filled = self._size

    def spectrum(self) -> LongTermSpectrum:
        """The spectrum of all samples so far; more may follow."""
        sums = self._with_rest()
        count = max(sums.count, 1)
        power = sums.power / count
        frequencies = np.arange(power.shape[1]) * (self.sample_rate / self._size)
        audible = frequencies >= 6 * self.sample_rate / self._size  # DC and its main lobe are not
        high = power[:, frequencies >= LOW_ONLY_HZ].sum(axis=1)
        low_only = high <= np.maximum(
            LOW_ONLY_RATIO * power[:, audible].sum(axis=1), LOW_ONLY_POWER
        )
        return LongTermSpectrum(
            sample_rate=self.sample_rate,
            num_samples=self._num_samples,
            frequencies=frequencies,
            power=power,
            histogram=sums.histogram,
            loudness=sums.loudness,
            low_only=low_only,
            silent=not sums.loudness.any(),
        )

    def _frames(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The whole frames after the history in x, [channels, frames, size]."""
        view = np.lib.stride_tricks.sliding_window_view(x[:, self._hop :], self._size, axis=1)
        return view[:, :: self._hop]

    def _with_rest(self) -> _Sums:
        """The sums, with the frames not yet taken and one that ends on the last sample."""
        sums = self._settled.copy()
        x = self._buffer[:, : self._filled]
        if self._num_samples >= self._size:
            if self._filled >= self._hop + self._size:
                whole = self._frames(x)
                for i in range(whole.shape[1]):
                    sums.add(whole[:, i : i + 1] * self._window, self._size)
            if self._filled % self._hop:
                sums.add(x[:, None, -self._size :] * self._window, self._size)
        elif self._num_samples >= MIN_SAMPLES:  # a frame as short as the sound: padding would click
            x = x[:, None, self._hop :]
            sums.add(x * _window(x.shape[2], self._size), self._size)
        return sums


class _Sums:
    """What is added up over the frames."""

    def __init__(self, num_channels: int, bins: int) -> None:
        self.count = 0
        self.power = np.zeros((num_channels, bins))
        self.histogram = np.zeros((bins, NUM_LEVELS), np.int32)
        self.loudness = np.zeros(NUM_LEVELS, np.int64)
        self._bins = np.arange(bins)

    def copy(self) -> _Sums:
        other = _Sums(*self.power.shape)
        other.count = self.count
        other.power = self.power.copy()
        other.histogram = self.histogram.copy()
        other.loudness = self.loudness.copy()
        return other

    def add(self, frames: NDArray[np.float32], size: int) -> None:
        """Add windowed frames [channels, frames, samples], transformed to this size."""
        self.count += frames.shape[1]
        if not frames.any():
            return
        spectra = scipy.fft.rfft(frames, n=size, axis=-1)
        power = np.square(spectra.real) + np.square(spectra.imag)
        power[..., 1:-1] *= 2.0
        self.power += power.sum(axis=1, dtype=np.float64)
        summed = power.sum(axis=0)
        totals = summed.sum(axis=1, dtype=np.float64)
        for total, level in zip(totals, _level(summed), strict=True):
            if total > SILENCE_POWER:
                self.histogram[self._bins, level] += 1
                self.loudness[_level(total)] += 1


def _level(power: NDArray[np.floating] | np.floating) -> NDArray[np.intp]:
    """Power → its step of the histogram."""
    db = 10.0 * np.log10(np.maximum(power, 1e-20))
    return np.clip((db - LEVEL_MIN_DB) / LEVEL_STEP_DB, 0, NUM_LEVELS - 1).astype(np.intp)


def _window(length: int, size: int) -> NDArray[np.float32]:
    """Kaiser window; the power over the bins of one side then sums to the mean square."""
    w = scipy.signal.windows.kaiser(length, KAISER_BETA, sym=False)
    return np.asarray(w / np.sqrt(size * np.sum(w**2)), dtype=np.float32)


def rolloff_hz(spectrum: LongTermSpectrum, fraction: float) -> float:
    """The frequency below which this fraction of the energy lies, Hz; 0 for silence.

    The published cutoff (AudioSR: 0.985, its paper: 0.99). A measurement, no edge detector:
    see docs/cutoff.md.
    """
    total = np.cumsum(spectrum.power.sum(axis=0))
    if not total[-1] > 0.0:
        return 0.0
    return float(spectrum.frequencies[np.searchsorted(total, fraction * total[-1])])
