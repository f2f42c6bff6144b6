"""From a sound to what the networks are shown: level, length, cutoff, low-passed mel.

    |-------- sound --------|· · zeros · ·|      a multiple of 5.12 s
    |-- 512 frames --|-- 512 frames ----- |

Lengths are published as floating-point arithmetic on seconds, at the rate of the file. Where that
comes out one frame short, the networks cannot run and the length is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError
from audiosr_core.lowpass import FilterKind, lowpass
from audiosr_core.mel import LogMel

CHUNK_SECONDS = 5.12
PEAK = 0.5
TINY = 1e-8  # so that silence is not divided by nothing
ROLLOFF = 0.985
LOWEST_HZ = 1000.0  # a rolloff below it is taken for "no cutoff"
MIN_SAMPLES = 100


@dataclass(frozen=True, eq=False)
class Front:
    """What is known of a sound before a network runs. T frames, 480 · T samples."""

    wave: Samples  # at the model's rate, peak 0.5, padded, [samples]
    stft: NDArray[np.float32]  # magnitudes without the last bin, [T, 1024]
    log_mel: NDArray[np.float32]  # [T, mel bins]
    cutoff_bin: int  # of `stft`
    cutoff_hz: float
    low_wave: Samples  # low-passed at the cutoff, [samples]
    low_mel: NDArray[np.float32]  # its log-mel, [T, mel bins]


def prepare(wave: Samples, sample_rate: int, mel: LogMel, kind: FilterKind) -> Front:
    """The front end on one channel.

    Args:
        wave: float32 [samples] at `sample_rate`
        kind: of the low-pass; published at random

    Raises:
        AudioError: the sound is too short, or its rolloff leaves nothing to generate: silence,
            and whatever has its energy below 1 kHz
    """
    rate = mel.config.sample_rate
    seconds = padded_seconds(len(wave), sample_rate)
    frames, samples = target_frames(seconds, rate / mel.config.hop), int(rate * seconds)
    padded = fit(normalise(to_rate(wave, sample_rate, rate)), samples)
    magnitude = mel.magnitude(torch.from_numpy(padded).to(mel.window.device))
    stft = fit_frames(magnitude, frames)[:, :-1].cpu().numpy()
    cutoff_bin = rolloff_bin(stft)
    cutoff_hz = cutoff_of(cutoff_bin, stft.shape[1], rate)
    low_wave = lowpass(padded, cutoff_hz, kind, rate)
    low_mel = fit_frames(mel(torch.from_numpy(low_wave).to(mel.window.device)), frames)
    return Front(
        wave=padded,
        stft=stft,
        log_mel=fit_frames(mel.log_mel(magnitude), frames).cpu().numpy(),
        cutoff_bin=cutoff_bin,
        cutoff_hz=cutoff_hz,
        low_wave=low_wave,
        low_mel=low_mel.cpu().numpy(),
    )


def to_rate(wave: Samples, rate_in: int, rate_out: int) -> Samples:
    """[samples] at another rate: windowed sinc of width 6, rolloff 0.99, Hann."""
    from torchaudio.functional import resample

    resampled: Tensor = resample(torch.from_numpy(wave), rate_in, rate_out)
    return np.asarray(resampled.numpy(), np.float32)


def normalise(wave: Samples) -> Samples:
    """Mean removed, then peak 0.5, [samples]."""
    wave = wave - wave.mean()
    return np.asarray(wave / (np.abs(wave).max() + TINY) * np.float32(PEAK), np.float32)


def padded_seconds(num_samples: int, sample_rate: int, multiple: float = CHUNK_SECONDS) -> float:
    """The duration rounded up to a multiple, with the rounding errors of the published formula.

    Raises:
        AudioError: the sound is too short
    """
    if num_samples <= MIN_SAMPLES:
        raise AudioError(
            f"reference mode needs more than {MIN_SAMPLES} samples, got {num_samples};"
            " use the product mode"
        )
    seconds = num_samples / sample_rate
    rest = seconds % multiple
    return seconds if rest == 0 else seconds + (multiple - rest)


def target_frames(seconds: float, frames_per_second: float) -> int:
    """Mel frames of a padded duration, rounded down."""
    return int(seconds * frames_per_second)


def fit(wave: Samples, num_samples: int) -> Samples:
    """Cut, or padded with zeros at the end, [num_samples]."""
    return np.pad(wave[:num_samples], (0, max(0, num_samples - len(wave))))


def fit_frames(frames: Tensor, count: int) -> Tensor:
    """Cut, or padded with zeros at the end, [T, bins] → [count, bins].

    Zero is loud for a log-mel, whose floor is −11.5; so it is published.
    """
    frames = frames[:count]
    missing = count - len(frames)
    return torch.cat([frames, frames.new_zeros(missing, frames.shape[1])]) if missing else frames


def rolloff_bin(magnitude: NDArray[np.float32], fraction: float = ROLLOFF) -> int:
    """The last bin up to which less than this fraction of the whole lies; 0 if there is none.

    Args:
        magnitude: [frames, bins]; magnitudes are added up, not powers
    """
    # float32 would drift by 1e-5 of the whole over the frames: a bin, now and then
    total = np.cumsum(magnitude.sum(axis=0, dtype=np.float64))
    below = np.flatnonzero(total < total[-1] * fraction)
    return int(below[-1]) if len(below) else 0


def cutoff_of(bin: int, num_bins: int, sample_rate: int) -> float:
    """The rolloff in Hz; the end of the band if it is below 1 kHz ("almost empty")."""
    cutoff_hz = bin / num_bins * sample_rate / 2
    return cutoff_hz if cutoff_hz >= LOWEST_HZ else sample_rate / 2
