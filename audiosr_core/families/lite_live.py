"""`lite` as it plays live: frames in, the high band of frames a little earlier out.

              |<---- window ---->|  frame j, the last whose samples are there
        |<---- window ---->|        frame j - LOOK_AHEAD, whose levels the network now knows
        |=hop=|                     what no later frame adds to, out

Rates that are a multiple of the model's take as much longer windows. Their lowest bins are what
the model would see of the sound at its own rate, so nothing is resampled and nothing delayed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from audiosr_core.families.lite import LiteModel
from audiosr_core.model.excitation import copy_map
from audiosr_core.model.lite import SILENT_POWER
from audiosr_core.model.lite_step import LiteStep, StepWeights
from audiosr_core.noise import BLOCK, white_noise

Array = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

LOOK_AHEAD = 4
"""Frames of the future; docs/models/lite.md has what each is worth."""


def _rfft(samples: Array) -> Spectrum:
    """In single precision, as it is for single precision; what types there are do not say so."""
    return np.asarray(scipy.fft.rfft(samples), np.complex64)


class Frame(NamedTuple):
    """What is known of one frame, whatever the cutoff."""

    sound: Spectrum  # [channels, bins]
    power: Array  # likewise
    noise: Spectrum  # [bins]


class Frames:
    """Windows of sound → frames, at the model's rate times `multiple`."""

    def __init__(self, model: LiteModel, multiple: int, seed: int) -> None:
        c = model.config
        self.hop, self.n_fft, self.num_bins = c.hop, c.n_fft, c.num_bins
        self._multiple, self._seed = multiple, seed
        self._window = hann(c.n_fft * multiple) / np.float32(multiple)
        self._noise_window = hann(c.n_fft)
        self._noise = np.zeros(0, np.float32)
        self._noise_from = 0

    def __call__(self, samples: Array, index: int) -> Frame:
        """The frame around `index` hops; [channels, n_fft · multiple] samples."""
        sound = _rfft(samples * self._window)[:, : self.num_bins]
        power = sound.real**2 + sound.imag**2
        start = index * self.hop - self.n_fft // 2
        return Frame(sound, power, _rfft(self._noise_at(start) * self._noise_window))

    def _noise_at(self, start: int) -> Array:
        """`white_noise`, drawn once a block."""
        at = start - self._noise_from
        if not 0 <= at <= len(self._noise) - self.n_fft:
            self._noise_from = start // BLOCK * BLOCK
            self._noise = white_noise(self._seed, self._noise_from, 2 * BLOCK)
            at = start - self._noise_from
        return self._noise[at : at + self.n_fft]


class LiteVoice:
    """The high band above one cutoff.

    Args:
        cut, top: the bins from which and before which something is generated
        multiple: of the model's rate
    """

    def __init__(
        self,
        model: LiteModel,
        weights: StepWeights,
        cut: int,
        top: int,
        multiple: int,
        num_channels: int,
    ) -> None:
        c = model.config
        self.cut = cut
        self.step = LiteStep(weights, cut, num_channels)
        self._hop, self._size = c.hop * multiple, c.n_fft * multiple
        self._copies = copy_map(c.num_bins, cut)[cut:].numpy()
        self._bands = np.ascontiguousarray(model.bands.numpy()[:, cut:])
        self._wanted = (np.arange(cut, c.num_bins) < top).astype(np.float32)
        window = hann(self._size)
        overlapped = (window**2).reshape(-1, self._hop).sum(axis=0)
        self._window = window / np.tile(overlapped, c.n_fft // c.hop) * np.float32(multiple)
        self._made = np.zeros((num_channels, self._size // 2 + 1), np.complex64)
        self._sum = np.zeros((num_channels, self._size), np.float32)

    def __call__(self, now: Frame, then: Frame) -> Array:
        """The next hop that has settled, [channels, hop].

        It begins half a window before the centre of `then`, which lies LOOK_AHEAD frames before
        `now`.
        """
        level, tonality = self.step(now.power[:, : self.cut])
        heard = np.asarray((then.power[:, : self.cut] >= SILENT_POWER).any(axis=1, keepdims=True))
        end = self.cut + level.shape[1]
        self._made[:, self.cut : end] = self._high_band(level, tonality, then, heard)
        self._sum[:, : -self._hop] = self._sum[:, self._hop :]
        self._sum[:, -self._hop :] = 0
        if heard.any():
            self._sum += scipy.fft.irfft(self._made, self._size) * self._window
        return self._sum[:, : self._hop].copy()

    def _high_band(
        self, level: Array, tonality: Array, then: Frame, heard: NDArray[np.bool_]
    ) -> Spectrum:
        """As `excitation.high_band`, for one frame."""
        tonal = tonality @ self._bands
        mixed = tonal * _unit(then.sound[:, self._copies])
        mixed += (1 - tonal) * _unit(then.noise[self.cut :])
        scale = np.exp(np.float32(0.5 * np.log(10)) * level) * (self._wanted * heard)
        return np.asarray(_unit(mixed) * scale)


def hann(size: int) -> Array:
    return np.asarray(scipy.signal.windows.hann(size, sym=False), np.float32)


def _unit(x: Spectrum) -> Spectrum:
    """Every bin at magnitude one; an empty bin stays empty."""
    power = x.real**2 + x.imag**2
    return np.asarray(x / np.sqrt(np.maximum(power, np.float32(1e-36))))
