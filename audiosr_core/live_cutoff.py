"""The cutoff of what was just heard: measured all along, in slices, from the past alone.

    hops     |----|----|----|----|----|----|----|----|
    meter A  |===================|===================|     two to four seconds each: the older
    meter B                      |===================|===  one is asked, once a second
    search               |.....|        |.....|            in slices, one every third hop

Everything happens at multiples of the hop in absolute time, so the size of blocks has no say.
"""

from __future__ import annotations

import numpy as np
import scipy

from audiosr_core.audio import Samples
from audiosr_core.cutoff import DOUBT, Cutoff, Slices, search_cutoff
from audiosr_core.spectrum import SpectrumMeter

METER_SECONDS = 2.0
SEARCH_SECONDS = 1.0
SLICE_HOPS = 3
MIN_CUTOFF_HZ = 1_500  # below it the short crossover would reach into the original
SAME = 0.03  # of a cutoff: what lies nearer is no other


class CutoffFollower:
    """Takes hops of sound; `cutoff_hz` is where it ends, or None where nothing is missing or known.

    Args:
        base_rate: at which the sound is looked at; `sample_rate` is a multiple of it
    """

    def __init__(self, sample_rate: int, base_rate: int, hop: int, num_channels: int) -> None:
        self.cutoff_hz: float | None = None
        self._format = base_rate, num_channels
        multiple = sample_rate // base_rate
        self._decimator = Decimator(multiple, num_channels) if multiple > 1 else None
        self._restart = round(METER_SECONDS * sample_rate / hop)
        self._ask = round(SEARCH_SECONDS * sample_rate / hop)
        self._meters = [SpectrumMeter(*self._format)]
        self._search: Slices[Cutoff] | None = None

    def push(self, samples: Samples, index: int) -> None:
        """Hop `index` of the sound, [channels, hop]."""
        if index % self._restart == 0:
            self._meters = [self._meters[-1], SpectrumMeter(*self._format)]
        if self._decimator is not None:
            samples = self._decimator(samples)
        for meter in self._meters:
            meter.push(samples)
        if self._search is None:
            if index % self._ask == 0:
                self._search = search_cutoff(self._meters[0].spectrum())
        elif index % SLICE_HOPS == 0:
            try:
                next(self._search)
            except StopIteration as done:
                self._search = None
                self._take(done.value)

    def _take(self, found: Cutoff) -> None:
        """What says little changes nothing."""
        if found.confidence < DOUBT:
            return
        if found.full_band or found.hz < MIN_CUTOFF_HZ:
            self.cutoff_hz = None
        elif self.cutoff_hz is None or abs(found.hz / self.cutoff_hz - 1) > SAME:
            self.cutoff_hz = float(round(found.hz))


class Decimator:
    """Every `factor`-th sample of what lies below the new Nyquist frequency, hop by hop."""

    REACH = 128  # length of the filter in samples of the low rate

    def __init__(self, factor: int, num_channels: int) -> None:
        self._factor = factor
        self._taps = scipy.signal.firwin(self.REACH * factor + 1, 1 / factor, window="blackman")
        self._kept = np.zeros((num_channels, self.REACH * factor), np.float32)

    def __call__(self, samples: Samples) -> Samples:
        """[channels, any multiple of the factor] → [channels, samples / factor]."""
        x = np.concatenate([self._kept, samples], axis=1, dtype=np.float32)
        self._kept = x[:, samples.shape[1] :]
        y = scipy.signal.upfirdn(self._taps, x, down=self._factor, axis=1)
        return np.asarray(y[:, self.REACH :][:, : samples.shape[1] // self._factor], np.float32)
