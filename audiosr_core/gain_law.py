"""One gain per sound for the generated band, measured where the truth is known.

The model is asked for a band that the original still has, the upper quarter below the cutoff,
while it sees only what lies below that. How far off its level is there is the best witness of how
far off it is above the cutoff, on this sound.

    original   =====================|  cutoff
    shown      ==============|
    compared                 [=====]     original against generated, in dB
                           0.72    0.97

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

SHOWN = 0.72  # of the cutoff: what the model sees when it is examined
COMPARED = (0.75, 0.97)
PROBES = 8  # places in the sound
PROBE_SECONDS = 2
FRAME = 2048  # of the measurement; a shorter sound is followed by silence
TRUST = 0.5  # share of the measured error that is corrected
MAX_DB = 6.0


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
    context = 1
    errors, weights = [], []
    for start in _places(num_samples, sample_rate):
        first = max(0, start - context * sample_rate)
        stop = min(num_samples, start + PROBE_SECONDS * sample_rate)
        piece = read(first, stop)[rows].astype(np.float32)
        if not piece.any():
            continue
        low = resample(piece, sample_rate, model.sample_rate)
        made = model.generate(
            low, first // sample_rate * model.sample_rate, SHOWN * decision.cutoff.hz, settings.seed
        )
        true, guess = (_band_level(x, model.sample_rate, decision.cutoff.hz) for x in (low, made))
        heard = true > true.max() - 50
        errors.append(float(np.mean(true[heard] - guess[heard])))
        weights.append(float(heard.sum()))
    if not errors:
        return 0.0
    error = float(np.average(errors, weights=weights))
    return float(np.clip(TRUST * error, -MAX_DB, MAX_DB))


def _places(num_samples: int, sample_rate: int) -> list[int]:
    """Starts of the probes: whole seconds, spread evenly."""
    seconds = max(1, num_samples // sample_rate)
    count = min(PROBES, -(-seconds // PROBE_SECONDS))
    return [int(i * seconds / count) * sample_rate for i in range(count)]


def _band_level(x: NDArray[np.float32], sample_rate: int, cutoff_hz: float) -> NDArray[np.float64]:
    """Level of the compared band per frame and channel, dB."""
    x = np.pad(x, ((0, 0), (0, max(0, FRAME - x.shape[1]))))
    f, _, spectrum = signal.stft(x, sample_rate, nperseg=FRAME, noverlap=FRAME // 2)
    band = (f >= COMPARED[0] * cutoff_hz) & (f <= COMPARED[1] * cutoff_hz)
    power = np.mean(np.abs(spectrum[:, band]) ** 2, axis=1)
    return np.asarray(10 * np.log10(power + 1e-20)).ravel()
