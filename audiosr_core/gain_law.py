"""One gain per sound for the generated band, so that the spectrum goes on without a step.

The long-term spectrum of the original, just below the cutoff, is continued by a straight line over
octaves; the generated band, just above, is compared with it. Sounds do bend there, so only what
exceeds TOLERANCE_DB is taken for an error of the model and corrected.

    level  -----___
           original ---___  · · ·  continued
                          |  ===   generated: too loud or too soft by step_db
                          cutoff

Every chunk gets the same gain, so there is no level step anywhere (promise P4).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples
from audiosr_core.decision import Decision
from audiosr_core.families import Model
from audiosr_core.resample import resample
from audiosr_core.settings import Settings

BELOW = (0.5, 0.96)  # of the cutoff: where the original is measured
ABOVE = (1.04, 1.4)  # likewise the generated band
TOLERANCE_DB = 8.0  # less made speech worse, more made music worse (docs/models/lite.md)
MAX_DB = 6.0
PROBES = 6  # places in the sound
PROBE_SECONDS = 2
CONTEXT_SECONDS = 1
SIZE = 2048


def measure_gain_law(
    model: Model,
    read: Callable[[int, int], Samples],
    num_samples: int,
    sample_rate: int,
    decision: Decision,
    settings: Settings,
) -> float:
    """Gain in dB for the generated band of this sound, within ±MAX_DB.

    Args:
        read: samples start .. stop of the sound, [channels, samples]
    """
    rows = [i for i, skip in enumerate(decision.skipped) if not skip]
    cutoff = decision.cutoff.hz
    original, generated = np.zeros(SIZE // 2 + 1), np.zeros(SIZE // 2 + 1)
    for start in _places(num_samples, sample_rate):
        first = max(0, start - CONTEXT_SECONDS * sample_rate)
        stop = min(num_samples, start + PROBE_SECONDS * sample_rate)
        piece = read(first, stop)[rows].astype(np.float32)
        low = resample(piece, sample_rate, model.sample_rate)
        place = first // sample_rate * model.sample_rate
        lead = (start - first) // sample_rate * model.sample_rate
        original += _power(low[:, lead:], model.sample_rate)
        made = model.generate(low, place, cutoff, settings.seed)
        generated += _power(made[:, lead:], model.sample_rate)
    step = step_db(original, generated, model.sample_rate, cutoff)
    beyond = np.sign(step) * max(0.0, abs(step) - TOLERANCE_DB)
    return float(np.clip(beyond, -MAX_DB, MAX_DB))


def step_db(
    original: NDArray[np.float64],
    generated: NDArray[np.float64],
    sample_rate: int,
    cutoff_hz: float,
) -> float:
    """How far the generated band lies below the continued original, dB; power spectra, [bins]."""
    octave = np.log2(
        np.arange(1, len(original)) * sample_rate / (2 * len(original) - 2) / cutoff_hz
    )
    below = (octave > np.log2(BELOW[0])) & (octave < np.log2(BELOW[1]))
    above = (octave > np.log2(ABOVE[0])) & (octave < np.log2(ABOVE[1]))
    known, made = (10 * np.log10(power[1:] + 1e-20) for power in (original, generated))
    slope, level = np.polyfit(octave[below], known[below], 1)
    slope = min(0.0, slope)  # a rise is not continued
    level = float(np.mean(known[below] - slope * octave[below]))
    return float(np.mean(level + slope * octave[above]) - np.mean(made[above]))


def _places(num_samples: int, sample_rate: int) -> list[int]:
    """Starts of the probes: whole seconds, spread evenly."""
    seconds = max(1, num_samples // sample_rate)
    count = min(PROBES, -(-seconds // PROBE_SECONDS))
    return [int(i * seconds / count) * sample_rate for i in range(count)]


def _power(x: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Mean power spectrum over time and channels, [bins]; zeros for a stretch too short."""
    if x.shape[1] < SIZE:
        x = np.pad(x, ((0, 0), (0, SIZE - x.shape[1])))
    _, power = signal.welch(x, sample_rate, nperseg=SIZE)
    return np.asarray(power.mean(axis=0), dtype=np.float64)
