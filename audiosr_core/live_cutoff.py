"""The cutoff of what has just been heard: measured all along, little by little, never looking ahead.

    hops     |----|----|----|----|----|----|----|----|
    meter A  |===================|===================|     two to four seconds each: the older
    meter B                      |===================|===  one is asked, twice a second
    search               |.....|        |.....|            in slices, one every other hop

Everything happens at multiples of the hop in absolute time, so the size of blocks has no say.
"""

from __future__ import annotations

import dataclasses

from audiosr_core.audio import Samples
from audiosr_core.cutoff import DOUBT, Cutoff, Slices, search_cutoff
from audiosr_core.spectrum import LongTermSpectrum, SpectrumMeter

METER_SECONDS = 2.0
SEARCH_SECONDS = 0.5
SLICE_HOPS = 2
SAME = 0.03  # of a cutoff: what lies nearer is no other


class CutoffFollower:
    """Takes hops of sound; `cutoff_hz` is where it ends, or None where nothing is missing or known.

    Args:
        base_rate: nothing above half of it is looked at
    """

    def __init__(self, sample_rate: int, base_rate: int, hop: int, num_channels: int) -> None:
        self.cutoff_hz: float | None = None
        self._format = sample_rate, num_channels
        self._base_rate = base_rate
        self._restart = round(METER_SECONDS * sample_rate / hop)
        self._ask = round(SEARCH_SECONDS * sample_rate / hop)
        self._meters = [SpectrumMeter(*self._format)]
        self._search: Slices[Cutoff] | None = None

    def push(self, samples: Samples, index: int) -> None:
        """Hop `index` of the sound, [channels, hop]."""
        if index % self._restart == 0:
            self._meters = [self._meters[-1], SpectrumMeter(*self._format)]
        for meter in self._meters:
            meter.push(samples)
        if self._search is None:
            if index % self._ask == 0:
                self._search = search_cutoff(self._spectrum())
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
        if found.full_band:
            self.cutoff_hz = None
        elif self.cutoff_hz is None or abs(found.hz / self.cutoff_hz - 1) > SAME:
            self.cutoff_hz = float(round(found.hz))

    def _spectrum(self) -> LongTermSpectrum:
        """As a sound at the base rate would show it."""
        whole = self._meters[0].spectrum()
        bins = slice(0, (len(whole.frequencies) - 1) * self._base_rate // whole.sample_rate + 1)
        return dataclasses.replace(
            whole,
            sample_rate=self._base_rate,
            frequencies=whole.frequencies[bins],
            power=whole.power[:, bins],
            histogram=whole.histogram[bins],
        )
