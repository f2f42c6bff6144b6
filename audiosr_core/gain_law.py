"""One gain per sound for the generated band, so that the spectrum goes on without a step.

    level  -----__ original
                  --|  step_db: how far the generated band starts too low
                    |  __ generated
                    |    --__
                 cutoff

Levels are means of the logarithm over time: a few loud attacks must not decide for the rest. Part
of the step is left as it is, for spectra do bend. Every chunk gets the same gain, so there is no
level step in time anywhere (promise P4).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from audiosr_core.decision import Decision
from audiosr_core.families import Condition, Model
from audiosr_core.resample import resample
from audiosr_core.settings import Settings

BELOW = (0.85, 0.96)  # of the cutoff: where the original is measured
ABOVE = (1.04, 1.15)  # likewise the generated band
TRUST = 0.5  # share of the step that is corrected; docs/models/lite.md has the measurement
MAX_DB = 8.0
PROBES = 4  # places in the sound
PROBE_SECONDS = 2
CONTEXT_SECONDS = 1
SIZE = 2048
HEARD_DB = 60.0  # below the loudest frame that still says something


def measure_gain_law(
    model: Model,
    read: Callable[[int, int], Samples],
    num_samples: int,
    sample_rate: int,
    decision: Decision,
    settings: Settings,
    on_step: Callable[[], None] = lambda: None,
) -> float:
    """Gain for the generated band of this sound, in tenths of a dB within ±MAX_DB.

    Args:
        read: samples start .. stop of the sound, [channels, samples]
    """
    rows = [i for i, skip in enumerate(decision.skipped) if not skip]
    condition = Condition(decision.cutoff.hz, settings, decision.peak, on_step)
    original, generated = [], []
    for start in _places(num_samples, sample_rate):
        first = max(0, start - CONTEXT_SECONDS * sample_rate)
        stop = min(num_samples, start + PROBE_SECONDS * sample_rate)
        piece = read(first, stop)[rows].astype(np.float32)
        low = resample(piece, sample_rate, model.sample_rate)
        place = first // sample_rate * model.sample_rate
        made = model.generate(low, place, condition)
        lead = (start - first) // sample_rate * model.sample_rate
        original.append(_levels(low[:, lead:], model.sample_rate))
        generated.append(_levels(made[:, lead:], model.sample_rate))
    step = step_db(
        np.concatenate(original, axis=1),
        np.concatenate(generated, axis=1),
        model.sample_rate,
        decision.cutoff.hz,
    )
    return round(float(np.clip(TRUST * step, -MAX_DB, MAX_DB)), 1)


def step_db(
    original: NDArray[np.float64],
    generated: NDArray[np.float64],
    sample_rate: int,
    cutoff_hz: float,
) -> float:
    """How far the generated band starts below the original, dB; levels in dB, [bins, frames].

    Frames in which either is all but silent say nothing.
    """
    ratio = np.arange(len(original)) * sample_rate / (2 * len(original) - 2) / cutoff_hz
    below = original[(ratio > BELOW[0]) & (ratio < BELOW[1])]
    above = generated[(ratio > ABOVE[0]) & (ratio < ABOVE[1])]
    if not below.size or not above.size:
        return 0.0
    below, above = below.mean(axis=0), above.mean(axis=0)
    heard = (below > below.max() - HEARD_DB) & (above > above.max() - HEARD_DB)
    return float(np.mean(below[heard] - above[heard])) if heard.any() else 0.0


def _places(num_samples: int, sample_rate: int) -> list[int]:
    """Starts of the probes: whole seconds, spread evenly."""
    seconds = max(1, num_samples // sample_rate)
    count = min(PROBES, -(-seconds // PROBE_SECONDS))
    return [int(i * seconds / count) * sample_rate for i in range(count)]


def _levels(x: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Levels of all channels' frames, dB, [bins, frames]."""
    if x.shape[1] < SIZE:
        x = np.pad(x, ((0, 0), (0, SIZE - x.shape[1])))
    _, _, power = scipy.signal.spectrogram(x, sample_rate, ("kaiser", 10.0), SIZE, SIZE // 2)
    floor = 1e-37  # a normal float32: a plugin may have set this thread to flush all others to 0
    return np.asarray(10 * np.log10(np.concatenate(list(power), axis=1) + floor))
