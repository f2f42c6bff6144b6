"""From what the networks made to the sound that is returned: the low band put back, the level.

frequency ▲   generated                 generated
          │─ ─ ─ ─ ─ ─ rolloff 2       ─ ─ ─ ─ ─ ─ rolloff 3
          │   low-passed                low-passed / gain
          └──── mel ──── vocoder ────── STFT ─────── peak 0.5, mean 0
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError
from audiosr_core.reference.front import PEAK, rolloff_bin

N_FFT = 2048
HOP = 512
GAIN_RANGE = (0.8, 1.2)


class LowMel(NamedTuple):
    mel: NDArray[np.float32]  # [T, bins]
    cutoff_bin: int


class LowWave(NamedTuple):
    wave: Samples  # [samples]
    cutoff_bin: int  # of the STFT's 1025
    ratio: float  # of the low-passed to the generated at that bin, before it is limited


def replace_low_mel(generated: NDArray[np.float32], low: NDArray[np.float32]) -> LowMel:
    """Take the bins below the rolloff of the low-passed mel from it; both log, [T, bins]."""
    cut = rolloff_bin(np.exp(low))
    return LowMel(np.concatenate([low[:, :cut], generated[:, cut:]], axis=1), cut)


def replace_low_wave(generated: Samples, low: Samples) -> LowWave:
    """Take the STFT bins below the rolloff of the low-passed wave from it, at a new level.

    The level is that of one row: the summed magnitudes at the rolloff, limited to 0.8 .. 1.2.

    Args:
        generated: [samples]; the result has its length
        low: [samples], the same number of STFT frames

    Raises:
        AudioError: the lengths are not of one sound
    """
    if len(generated) // HOP != len(low) // HOP:
        raise AudioError(
            f"a low band of {len(generated)} samples is wanted, got one of {len(low)};"
            " give both the same length"
        )
    window = torch.hann_window(N_FFT)

    def stft(wave: Samples) -> torch.Tensor:
        return torch.stft(
            torch.from_numpy(wave),
            N_FFT,
            HOP,
            window=window,
            pad_mode="constant",
            return_complex=True,
        )

    made, kept = stft(generated), stft(low)
    cut = rolloff_bin(kept.abs().mT.numpy())
    ratio = float(kept[cut].abs().sum() / made[cut].abs().sum())
    made[:cut] = kept[:cut] / float(np.clip(ratio, *GAIN_RANGE))
    wave = torch.istft(made, N_FFT, HOP, window=window, length=len(generated))
    return LowWave(wave.numpy(), cut, ratio)


def final_level(wave: Samples) -> Samples:
    """Peak 0.5, and only then mean 0, [samples]."""
    wave = np.float32(PEAK) * wave / np.abs(wave).max()
    return np.asarray(wave - wave.mean(), np.float32)
