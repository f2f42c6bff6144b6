"""How loud a sound is and how high it peaks, block by block (ITU-R BS.1770-4).

block ─┬─ K weighting ─ power over the channels ─ 100 ms sums ─ gates ─ integrated loudness
       └─ oversampled to about 192 kHz ─ largest magnitude ─ true peak

One number is kept for every 100 ms. The size of the blocks changes no bit.
"""

from __future__ import annotations

import math
from array import array

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples, check_format

Array = NDArray[np.float64]

ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
STEPS_PER_WINDOW = 4  # windows of 400 ms, one every 100 ms
SURROUND = 10**0.15  # +1.5 dB
WEIGHTS = {
    5: (1, 1, 1, SURROUND, SURROUND),  # L R C Ls Rs
    6: (1, 1, 1, 0, SURROUND, SURROUND),  # L R C LFE Ls Rs
    8: (1, 1, 1, 0, 1, 1, SURROUND, SURROUND),  # L R C LFE, rear, side
}
"""By the number of channels, in the order of WAV; other counts weigh all alike."""

TRUE_PEAK_RATE = 192_000
TAPS_PER_PHASE = 24


class LoudnessMeter:
    """Integrated loudness, true peak and sample peak of one sound.

    Sounds under 400 ms have no window to measure, and silence has no loudness: both are −inf.
    """

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        check_format(sample_rate, num_channels)
        self.sample_peak = 0.0  # full scale is 1
        self._true_peak = 0.0
        self._rate = sample_rate
        self._weights = np.array(WEIGHTS.get(num_channels, (1,) * num_channels), np.float64)
        self._sections = k_weighting(sample_rate)
        self._state = np.zeros((len(self._sections), num_channels, 2))
        self._power = np.zeros(0)  # of the step that is not full yet
        self._steps = array("d")  # mean power of every 100 ms
        self._factor = _oversampling(sample_rate)
        self._taps = _interpolator(self._factor)
        self._past = np.zeros((num_channels, TAPS_PER_PHASE))

    def push(self, samples: Samples) -> None:
        """The next samples, [channels, n]."""
        if not samples.shape[1]:
            return
        x = np.asarray(samples, np.float64)
        self.sample_peak = max(self.sample_peak, float(np.abs(x).max()))
        self._true_peak = max(self._true_peak, self._peak_between(x))
        self._past = np.concatenate([self._past, x[:, -TAPS_PER_PHASE:]], axis=1)[
            :, -TAPS_PER_PHASE:
        ]
        weighted, self._state = signal.sosfilt(self._sections, x, axis=1, zi=self._state)
        power = (self._weights[:, None] * weighted**2).sum(axis=0)
        self._power = np.concatenate([self._power, power])
        done = 0
        while (end := done + self._step_length(len(self._steps))) <= len(self._power):
            self._steps.append(float(self._power[done:end].mean()))
            done = end
        self._power = self._power[done:].copy()

    @property
    def integrated_lufs(self) -> float:
        """Of what has come so far, gated; −inf where nothing passes the gates."""
        steps = np.frombuffer(self._steps) if self._steps else np.zeros(0)
        if len(steps) < STEPS_PER_WINDOW:
            return -math.inf
        windows = np.lib.stride_tricks.sliding_window_view(steps, STEPS_PER_WINDOW).mean(axis=1)
        heard = windows[windows > _power_of(ABSOLUTE_GATE_LUFS)]
        if not heard.size:
            return -math.inf
        gate = heard.mean() * 10 ** (RELATIVE_GATE_LU / 10)
        return _lufs(float(heard[heard > gate].mean()))

    @property
    def true_peak_db(self) -> float:
        """The highest peak on and between the samples so far, dBTP; −inf in silence."""
        peak = max(self._true_peak, self._peak_between(np.zeros_like(self._past)))
        return 20 * math.log10(peak) if peak else -math.inf

    def _peak_between(self, x: Array) -> float:
        """The largest magnitude of the oversampled signal, from where it was left up to `x`."""
        if self._factor == 1:
            return self.sample_peak
        joined = np.concatenate([self._past, x], axis=1)
        made = signal.upfirdn(self._taps, joined, up=self._factor, axis=1)
        settled = slice(TAPS_PER_PHASE * self._factor, joined.shape[1] * self._factor)
        return float(np.abs(made[:, settled]).max())

    def _step_length(self, index: int) -> int:
        """Samples of one step: 100 ms, and on average exactly so at a rate of 11 025 Hz too."""
        return (index + 1) * self._rate // 10 - index * self._rate // 10


def k_weighting(sample_rate: int) -> Array:
    """The two filters of BS.1770-4, Annex 1, at any rate: head shelf, then high pass.

    The recommendation gives coefficients at 48 kHz; these are the analogue filters behind them
    (De Man 2014), brought to the rate by the bilinear transform, with the gain they have there.
    """
    hz, q, gain = 1681.974450955533, 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    k, poles = _poles(hz, q, sample_rate)
    middle = gain**0.4996667741545416 * k / q
    shelf = [gain + middle + k**2, 2 * (k**2 - gain), gain - middle + k**2]
    hz, q = 38.13547087602444, 0.5003270373238773
    _, low_poles = _poles(hz, q, sample_rate)
    scale = _poles(hz, q, 48_000)[1][0]
    high_pass = [scale, -2 * scale, scale]
    return np.array(
        [np.array([*shelf, *poles]) / poles[0], np.array([*high_pass, *low_poles]) / low_poles[0]]
    )


def _poles(hz: float, q: float, sample_rate: int) -> tuple[float, list[float]]:
    """The warped frequency of a second-order section, and its denominator."""
    k = math.tan(math.pi * hz / sample_rate)
    return k, [1 + k / q + k**2, 2 * (k**2 - 1), 1 - k / q + k**2]


def _oversampling(sample_rate: int) -> int:
    """4 up to 48 kHz, 2 at 96 kHz, 1 at 192 kHz, as BS.1770-4, Annex 2 allows."""
    return min(4, max(1, math.ceil(TRUE_PEAK_RATE / sample_rate)))


def _interpolator(factor: int) -> Array:
    """A windowed sinc that keeps the samples and puts `factor - 1` between each two."""
    half = TAPS_PER_PHASE * factor // 2
    n = np.arange(-half, half + 1) / factor
    taps: Array = np.sinc(n) * np.kaiser(len(n), 8.0)
    return taps


def _lufs(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def _power_of(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))
