"""How far an estimate is from its reference: log-spectral distance, level, null, ViSQOL.

Both published log-spectral distances (LSD) are here, because papers quote either without saying so.
They share their shape and differ in frames and floor:

    d[t, f] = log10(P_ref / P_est)      frames × bins, in units of 10 dB
    LSD     = mean over t of sqrt( mean over f of d² )

              window, hop at 48 kHz   edges          floor
    ssr       2229, 480               zero padded    1e-12, on the amplitude and on the ratio
    AP-BWE    2048, 512               reflected      power clipped at 1e-8

A band score takes the inner mean over the bins of that band only. One decibel of gain error is 0.1.
Every function takes [samples] or [channels, samples] and gives the mean over channels.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError, SettingsError, UsageError

Array = NDArray[np.float64]

SSR_EPS = 1e-12
APBWE_FLOOR = 1e-8
ISOLATION_DB = 150.0  # stop band of the null test's filter
NULL_TRANSITION = 0.05  # of the band's edge: how far below it the null test begins to fall off
VISQOL_RATE = 48_000
VISQOL_MIN_SECONDS = 1.0  # one patch of ViSQOL's is 45 frames of 20 ms


@dataclass(frozen=True)
class Lsd:
    """One log-spectral distance over all bins, the bins up to the cutoff, the bins above it.

    NaN where there is nothing to measure: no bins, or only silent frames.
    """

    full: float
    low: float
    high: float


def lsd_ssr(
    reference: Samples, estimate: Samples, sample_rate: int, *, skip_silent: bool = False
) -> float:
    """Log-spectral distance as in ssr_eval (`AudioMetrics.lsd`; NVSR, AudioSR, A2SB).

    Where the reference is digital silence the formula is 12 in every bin, whatever the estimate
    is; `skip_silent` leaves those frames out. Samples are rounded to float32 first, as
    `librosa.load` does: the score of an empty band is the score of that rounding noise.
    """
    return lsd_ssr_bands(reference, estimate, sample_rate, 0.0, skip_silent=skip_silent).full


def lsd_apbwe(reference: Samples, estimate: Samples) -> float:
    """Log-spectral distance as in AP-BWE (`cal_lsd`; NU-Wave 2, mdctGAN), at any sample rate."""
    return lsd_apbwe_bands(reference, estimate, 2, 0.0).full


def lsd_ssr_bands(
    reference: Samples,
    estimate: Samples,
    sample_rate: int,
    cutoff_hz: float,
    *,
    skip_silent: bool = False,
) -> Lsd:
    """`lsd_ssr` whole, and split at `cutoff_hz`."""
    window = int(2048 / (44_100 / sample_rate))
    hop = int(sample_rate / 100)

    def distance(ref: Array, est: Array) -> Array:
        t = np.abs(_stft(ref, window, hop, "constant"))
        e = np.abs(_stft(est, window, hop, "constant"))
        d: Array = np.log10(t**2 / (e + SSR_EPS) ** 2 + SSR_EPS)
        return d[t.max(axis=1) > 0] if skip_silent else d

    return _lsd(reference, estimate, distance, _bins_below(cutoff_hz, window, sample_rate))


def lsd_apbwe_bands(
    reference: Samples, estimate: Samples, sample_rate: int, cutoff_hz: float
) -> Lsd:
    """`lsd_apbwe` whole, and split at `cutoff_hz`."""

    def log_power(x: Array) -> Array:
        power = np.abs(_stft(x, 2048, 512, "reflect")) ** 2
        log: Array = np.log10(np.maximum(power, APBWE_FLOOR))
        return log

    def distance(ref: Array, est: Array) -> Array:
        return log_power(ref) - log_power(est)

    return _lsd(reference, estimate, distance, _bins_below(cutoff_hz, 2048, sample_rate))


def level_error_db(
    reference: Samples, estimate: Samples, sample_rate: int, cutoff_hz: float
) -> float:
    """How much louder the estimate's low band is than the reference's, in dB.

    Energies over all channels below 0.8 of the cutoff, clear of any filter's transition.
    NaN when either low band is digital silence.
    """
    ref, est = _pair(reference, estimate)
    ref_energy = _energy_below(ref, sample_rate, 0.8 * cutoff_hz)
    est_energy = _energy_below(est, sample_rate, 0.8 * cutoff_hz)
    if ref_energy <= 0 or est_energy <= 0:
        return math.nan
    return 10 * math.log10(est_energy / ref_energy)


def level_match(
    reference: Samples, estimate: Samples, sample_rate: int, cutoff_hz: float
) -> Samples:
    """The estimate with the one gain that makes its low band as loud as the reference's.

    Comes back in float64, unchanged when either low band is digital silence.
    """
    error_db = level_error_db(reference, estimate, sample_rate, cutoff_hz)
    gain = 1.0 if math.isnan(error_db) else 10 ** (-error_db / 20)
    matched: Array = np.asarray(estimate, np.float64) * gain
    return matched


def si_sdr_db(reference: Samples, estimate: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 4).

    Tells how well a low band survived; says nothing about a generated high band.
    """
    scores = []
    for ref, est in zip(*_pair(reference, estimate), strict=True):
        target = ref * (ref @ est) / max(float(ref @ ref), 1e-300)
        error = float(np.sum((est - target) ** 2))
        energy = float(target @ target)
        scores.append(10 * math.log10(energy / error) if error > 0 and energy > 0 else math.inf)
    return float(np.mean(scores))


class NullMeter:
    """Measures block by block what differs between two streams below a frequency.

    One linear-phase low pass (Kaiser, 150 dB) over the original and over the difference:

        |####### pass, ±1e-7 #######\\                       stop, −150 dB
        0                0.95·below_hz   below_hz                     f →

    so whatever was generated above `below_hz` cannot leak into the result. float64 throughout.

    A generated band that a file's end cuts off at full level is a click with a low band of its
    own. `ends=False` measures only where the filter lies wholly inside the sound, so that such a
    click does not count; a sound shorter than `num_taps` then has nothing to measure.
    """

    def __init__(
        self, sample_rate: int, below_hz: float, num_channels: int, *, ends: bool = True
    ) -> None:
        if not 20 <= below_hz <= sample_rate / 2:
            raise UsageError(
                f"the null test needs an edge from 20 Hz to {sample_rate / 2:g} Hz"
                f" at {sample_rate} Hz, got {below_hz:g} Hz; give a crossover inside the band"
            )
        self._taps = _null_filter(sample_rate, below_hz)
        self._ends = ends
        self._original = np.zeros((num_channels, self.num_taps - 1 if ends else 0))
        self._difference = self._original
        self._original_energy = 0.0
        self._extended_energy = 0.0
        self._difference_energy = 0.0
        self.peak = 0.0  # largest low band residual so far, full scale is 1

    def push(self, original: Samples, extended: Samples) -> None:
        """The next samples of both, [channels, samples], of the same shape."""
        x = np.asarray(original, np.float64)
        self._original, low = self._filtered(self._original, x)
        self._difference, residual = self._filtered(self._difference, np.asarray(extended) - x)
        self._original_energy += float(np.sum(low**2))
        self._extended_energy += float(np.sum((low + residual) ** 2))
        self._difference_energy += float(np.sum(residual**2))
        self.peak = max(self.peak, float(np.abs(residual).max(initial=0.0)))

    def finish(self) -> float:
        """Energy of the residual relative to the original, in dB; −inf for a perfect null."""
        if self._ends:
            tail = np.zeros_like(self._original)
            self.push(tail, tail)
        return _ratio_db(self._difference_energy, self._original_energy)

    @property
    def num_taps(self) -> int:
        """Length of the filter in samples, odd."""
        return len(self._taps)

    @property
    def level_difference_db(self) -> float:
        """How much louder the extended low band is than the original's, in dB; NaN in silence."""
        if self._original_energy == self._extended_energy == 0:
            return math.nan
        return _ratio_db(self._extended_energy, self._original_energy)

    def _filtered(self, history: Array, block: Array) -> tuple[Array, Array]:
        x = np.concatenate([history, block], axis=1)
        tail = self.num_taps - 1
        if block.shape[1] == 0 or x.shape[1] <= tail:
            return x, block[:, :0]
        y = signal.oaconvolve(x, self._taps[None, :], mode="valid", axes=1)
        return x[:, x.shape[1] - tail :], y


def null_residual_db(
    original: Samples,
    extended: Samples,
    sample_rate: int,
    below_hz: float,
    *,
    original_rate: int | None = None,
    ends: bool = True,
) -> float:
    """(extended − original) below `below_hz`, relative to the original below it, in dB.

    Args:
        original, extended: [samples] or [channels, samples]
        sample_rate: of the extended sound, and of the original unless `original_rate` says else
        below_hz: the crossover; what lies above it is rejected by 150 dB
        original_rate: a different rate of the original, resampled here by soxr VHQ
        ends: count the filter's length at both ends too, see NullMeter
    """
    x, y = _channels(original), _channels(extended)
    if original_rate is not None and original_rate != sample_rate:
        x = soxr.resample(x.T, original_rate, sample_rate, quality="VHQ").T
        x = _fit(x, y.shape[1])
    _check_shapes(x, y)
    meter = NullMeter(sample_rate, below_hz, x.shape[0], ends=ends)
    meter.push(x, y)
    return meter.finish()


def visqol_audio(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """MOS-LQO, 1 to about 4.75, by ViSQOL v3 in audio mode (48 kHz), through visqol-python.

    Needs the extra `evaluate`; takes about half a second per second of sound. NaN for a sound
    under one second, or one without anything to hear: ViSQOL has no patch to compare there.
    """
    api = _visqol()
    ref_rows, est_rows = _pair(reference, estimate)
    if ref_rows.shape[1] < VISQOL_MIN_SECONDS * sample_rate:
        return math.nan
    scores = []
    for ref, est in zip(ref_rows, est_rows, strict=True):
        if sample_rate != VISQOL_RATE:
            ref = soxr.resample(ref, sample_rate, VISQOL_RATE, quality="VHQ")
            est = soxr.resample(est, sample_rate, VISQOL_RATE, quality="VHQ")
        if ref.any() and est.any():
            scores.append(float(api.measure_from_arrays(ref, est, VISQOL_RATE).moslqo))
    return float(np.mean(scores)) if scores else math.nan


def low_pass(x: Array, sample_rate: int, edge_hz: float) -> Array:
    """Linear phase, no delay: flat to 0.95 of the edge, −150 dB from the edge on."""
    y: Array = signal.oaconvolve(x, _null_filter(sample_rate, edge_hz)[None, :], "same", axes=1)
    return y


@lru_cache(maxsize=1)
def _visqol() -> Any:
    try:
        visqol = importlib.import_module("visqol")
    except ImportError as error:
        raise SettingsError(
            "ViSQOL needs the package visqol-python, which is not installed;"
            " run: pip install 'audiosr-bridge[evaluate]', or leave ViSQOL out"
        ) from error
    api = visqol.VisqolApi()
    api.create(mode="audio")
    return api


@lru_cache(maxsize=8)
def _null_filter(sample_rate: int, below_hz: float) -> Array:
    """Odd-length linear-phase low pass: −150 dB from `below_hz` on, flat to 0.95 of it."""
    width = NULL_TRANSITION * below_hz
    if below_hz + 1e-9 >= sample_rate / 2:
        return np.ones(1)  # the whole band: nothing to reject
    num_taps, beta = signal.kaiserord(ISOLATION_DB, width / (sample_rate / 2))
    num_taps |= 1
    taps: Array = signal.firwin(
        num_taps, below_hz - width / 2, window=("kaiser", beta), fs=sample_rate
    )
    return taps


def _stft(x: Array, window: int, hop: int, pad_mode: str) -> NDArray[np.complex128]:
    """Centred frames under a periodic Hann window, [frames, bins], as librosa and torch count."""
    half = window // 2
    if pad_mode == "reflect":
        if x.size <= half:
            raise AudioError(
                f"this LSD needs more than {half} samples for its reflected edges, got {x.size};"
                " give a longer sound"
            )
        padded = np.pad(x, half, mode="reflect")
    else:
        padded = np.pad(x, half)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    spectrum: NDArray[np.complex128] = np.fft.rfft(
        frames * signal.get_window("hann", window, fftbins=True), axis=1
    )
    return spectrum


def _bins_below(cutoff_hz: float, window: int, sample_rate: int) -> int:
    """How many bins lie at or below the cutoff."""
    return math.floor(cutoff_hz * window / sample_rate) + 1


def _lsd(
    reference: Samples,
    estimate: Samples,
    distance: Callable[[Array, Array], Array],
    low_bins: int,
) -> Lsd:
    pair = _pair(np.asarray(reference, np.float32), np.asarray(estimate, np.float32))
    rows = []
    for ref, est in zip(*pair, strict=True):
        squared = distance(ref, est) ** 2
        rows.append(
            [_rms_mean(part) for part in (squared, squared[:, :low_bins], squared[:, low_bins:])]
        )
    known = [[v for v in column if not math.isnan(v)] for column in zip(*rows, strict=True)]
    full, low, high = (float(np.mean(column)) if column else math.nan for column in known)
    return Lsd(full, low, high)


def _rms_mean(squared: Array) -> float:
    return float(np.mean(np.sqrt(np.mean(squared, axis=1)))) if squared.size else math.nan


def _energy_below(x: Array, sample_rate: int, edge_hz: float) -> float:
    """Energy of the bins from 20 Hz to the edge: a DC offset is not level."""
    power = np.abs(np.fft.rfft(x, axis=1)) ** 2
    hz = np.fft.rfftfreq(x.shape[1], 1 / sample_rate)
    return float(power[:, (hz >= 20) & (hz <= edge_hz)].sum())


def _ratio_db(energy: float, reference: float) -> float:
    if energy == 0:
        return -math.inf
    return math.inf if reference == 0 else 10 * math.log10(energy / reference)


def _channels(x: Samples) -> Array:
    planar: Array = np.atleast_2d(np.asarray(x, np.float64))
    return planar


def _pair(reference: Samples, estimate: Samples) -> tuple[Array, Array]:
    ref, est = _channels(reference), _channels(estimate)
    _check_shapes(ref, est)
    return ref, est


def _check_shapes(a: Array, b: Array) -> None:
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] == 0:
        raise AudioError(
            "both sounds must be [samples] or [channels, samples] of the same shape and not empty,"
            f" got {list(a.shape)} and {list(b.shape)}; cut or resample one of them"
        )


def _fit(x: Array, num_samples: int) -> Array:
    """Cut or zero-padded at the end to this length."""
    missing = max(0, num_samples - x.shape[1])
    return np.pad(x[:, :num_samples], ((0, 0), (0, missing)))
