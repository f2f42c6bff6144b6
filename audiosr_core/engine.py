"""The engine: settings and a sound in, decisions and streams out. Torch begins here.

analyse   one pass over the sound → Decision     the cutoff, the output rate, the gain law
open      Settings, Decision      → Stream
extend    a sound                 → a sound      analyse, one push, a flush
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np

from audiosr_core.audio import Audio, Samples, check_finite, check_format
from audiosr_core.cutoff import Cutoff, find_cutoff, second_look
from audiosr_core.decision import Decision, decide
from audiosr_core.families import Model
from audiosr_core.gain_law import measure_gain_law
from audiosr_core.settings import Settings
from audiosr_core.spectrum import SpectrumMeter
from audiosr_core.store import load_model
from audiosr_core.stream import Stream

Read = Callable[[int, int], Samples]
"""Samples start .. stop of a sound, [channels, samples]; both inside it."""


LOOKS = 8  # places of the second look
LOOK_SECONDS = 2


class Engine:
    """Extends sounds with the models of the store.

    Args:
        device: auto, cpu, cuda, cuda:1, mps: where a large model runs
        precision: auto, fp32, bf16, fp16: of its networks
    """

    def __init__(self, device: str = "auto", precision: str = "auto") -> None:
        self.device, self.precision = device, precision

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Read,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: Callable[[], None] = lambda: None,
    ) -> Decision:
        """Everything that is decided once for a sound.

        Args:
            blocks: the whole sound, in order, in blocks of any size
            read: random access to the same sound, for the gain law
            on_step: called all along while the model works; raise from it to cancel

        Raises:
            NotFiniteError: with the place of the first NaN or Inf
        """
        check_format(sample_rate, num_channels)
        model = self.model(settings)
        meter = SpectrumMeter(sample_rate, num_channels)
        total, peak = 0, 0.0
        for block in blocks:
            check_finite(block, total, sample_rate)
            meter.push(block)
            total += block.shape[1]
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
        spectrum = meter.spectrum()
        if isinstance(settings.cutoff, str):
            pieces = (read(a, b) for a, b in _places(total, sample_rate))
            cutoff = second_look(find_cutoff(spectrum), pieces, sample_rate)
        else:
            cutoff = Cutoff(float(settings.cutoff), 1.0, False, "given")
        low_only = tuple(bool(low) for low in spectrum.low_only)
        decision = decide(sample_rate, cutoff, spectrum.silent, low_only, settings)
        if not decision.extends:
            return decision
        decision = dataclasses.replace(decision, peak=_rounded(peak))
        if model.anchored:
            return decision
        gain_db = measure_gain_law(model, read, total, sample_rate, decision, settings, on_step)
        return dataclasses.replace(decision, gain_db=gain_db)

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        region: tuple[int, int] | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> Stream:
        """A stream for one sound; see `Stream` for `region` and `on_step`."""
        check_format(sample_rate, num_channels)
        model = self.model(settings)
        return Stream(model, sample_rate, num_channels, settings, decision, region, on_step)

    def extend(self, audio: Audio, settings: Settings) -> Audio:
        """A file is a stream of one block."""
        x = audio.samples
        decision = self.analyse(
            [x], lambda a, b: x[:, a:b], audio.sample_rate, audio.num_channels, settings
        )
        stream = self.open(audio.sample_rate, audio.num_channels, settings, decision)
        samples = np.concatenate([stream.push(x), stream.flush()], axis=1)
        return Audio(samples.astype(x.dtype, copy=False), decision.rate_out)

    def model(self, settings: Settings) -> Model:
        """The model of these settings, loaded once per process."""
        return load_model(settings.model, self.device, self.precision)


def _rounded(peak: float) -> float:
    """To 0.1 dB: a number one can write down, give back, and get the same sound."""
    return float(10 ** (round(20 * math.log10(peak), 1) / 20)) if peak > 0 else 1.0


def _places(num_samples: int, sample_rate: int) -> list[tuple[int, int]]:
    """Start and end of a few pieces, spread evenly over the sound."""
    length = LOOK_SECONDS * sample_rate
    count = max(1, min(LOOKS, num_samples // length))
    starts = (i * max(0, num_samples - length) // max(1, count - 1) for i in range(count))
    return [(start, min(start + length, num_samples)) for start in starts]
