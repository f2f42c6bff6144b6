"""Synthetic speech-like sound and noise, to make up for missing full-band speech.

Source and filter (Fant 1960): a glottal pulse train with jitter and a falling slope, or noise,
through formants; fricatives are noise with a broad peak between 2.5 and 12 kHz. None of it is
meant to be understood: it teaches what the high band does when the low band is voiced,
unvoiced, or stops.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import signal

SAMPLE_RATE = 48_000
Mono = NDArray[np.float64]


def _resonator(x: Mono, frequency: float, bandwidth: float) -> Mono:
    r = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
    a = [1.0, -2 * r * np.cos(2 * np.pi * frequency / SAMPLE_RATE), r * r]
    return np.asarray(signal.lfilter([sum(a)], a, x))


def _envelope(rng: np.random.Generator, n: int, attack: float, release: float) -> Mono:
    rise, fall = int(attack * SAMPLE_RATE), int(release * SAMPLE_RATE)
    env = np.ones(n)
    env[:rise] = np.sin(np.linspace(0, np.pi / 2, rise))[:n] ** 2
    env[max(0, n - fall) :] *= np.cos(np.linspace(0, np.pi / 2, min(fall, n))) ** 2
    return env


def voiced(rng: np.random.Generator, seconds: float) -> Mono:
    """A vowel: pulses with jitter, breath in the open phase, five moving formants."""
    n = int(seconds * SAMPLE_RATE)
    f0 = rng.uniform(80, 320) * np.exp(np.cumsum(rng.normal(0, 1, n)) * 2e-4)
    f0 *= np.linspace(1, rng.uniform(0.7, 1.2), n)
    phase = np.cumsum(f0 / SAMPLE_RATE)
    cycle = phase % 1.0
    open_quotient = rng.uniform(0.45, 0.75)
    flow = np.where(cycle < open_quotient, np.sin(np.pi * cycle / open_quotient) ** 2, 0.0)
    source = np.diff(flow, prepend=0.0) * rng.uniform(10, 40)
    closing = np.diff(np.floor(phase), prepend=0.0)  # the closure is what carries the highs
    source -= closing * rng.uniform(0.1, 1.0) * (1 + 0.1 * rng.normal(size=n))
    breath = rng.normal(size=n) * (0.3 + flow) * 10 ** rng.uniform(-3.0, -1.2)
    x = source + breath
    k = rng.uniform(0.85, 1.25)
    formants = k * np.array([
        rng.uniform(300, 850), rng.uniform(850, 2300), rng.uniform(2300, 3000),
        rng.uniform(3200, 3900), rng.uniform(4200, 5000),
    ])  # fmt: skip
    y = np.zeros(n)
    for i, formant in enumerate(formants):
        y += _resonator(x, formant, 60 + 40 * i + rng.uniform(0, 60)) * 10 ** (
            -rng.uniform(0, 4) * i / 10
        )
    for _ in range(4):  # what the tract does above 5 kHz: broad, weak
        y += _resonator(x, rng.uniform(5500, 16000), rng.uniform(600, 2500)) * 10 ** rng.uniform(
            -1.6, -0.4
        )
    return y * _envelope(rng, n, rng.uniform(0.005, 0.05), rng.uniform(0.02, 0.12))


def fricative(rng: np.random.Generator, seconds: float) -> Mono:
    """Shaped noise, with its peak anywhere from sh to s."""
    n = int(seconds * SAMPLE_RATE)
    x = rng.normal(size=n)
    peak = rng.uniform(2500, 12000)
    y = _resonator(x, peak, rng.uniform(800, 5000)) * 3 + 10 ** rng.uniform(-2, -0.7) * x
    y = y - np.asarray(signal.lfilter([0.2], [1, -0.8], y)) * rng.uniform(0, 1)
    return np.asarray(y * _envelope(rng, n, rng.uniform(0.003, 0.08), rng.uniform(0.01, 0.1)))


def plosive(rng: np.random.Generator) -> Mono:
    n = int(rng.uniform(0.01, 0.06) * SAMPLE_RATE)
    x = rng.normal(size=n) * np.exp(-np.arange(n) / (rng.uniform(0.002, 0.015) * SAMPLE_RATE))
    return _resonator(x, rng.uniform(500, 6000), rng.uniform(500, 4000)) * 3 + 0.1 * x


def utterance(rng: np.random.Generator, seconds: float) -> Mono:
    """Syllables with pauses over a quiet room."""
    n = int(seconds * SAMPLE_RATE)
    out = rng.normal(size=n) * 10 ** rng.uniform(-5, -3.2)
    at = 0
    while at < n:
        kind = rng.choice(4, p=[0.5, 0.25, 0.1, 0.15])
        if kind == 3:
            at += int(rng.uniform(0.05, 0.4) * SAMPLE_RATE)
            continue
        y = (
            voiced(rng, rng.uniform(0.08, 0.45)) if kind == 0
            else fricative(rng, rng.uniform(0.04, 0.2)) if kind == 1
            else plosive(rng)
        )  # fmt: skip
        level = {0: 0.0, 1: rng.uniform(-18, -4), 2: rng.uniform(-15, 0)}[int(kind)]
        y = y / (np.sqrt(np.mean(y**2)) + 1e-9) * 10 ** (level / 20) * 0.12
        m = min(len(y), n - at)
        out[at : at + m] += y[:m]
        at += int(m * rng.uniform(0.75, 1.0)) + 1
    if rng.random() < 0.5:  # a microphone's own curve
        sos = signal.butter(1, rng.uniform(6000, 20000), "low", fs=SAMPLE_RATE, output="sos")
        out = np.asarray(signal.sosfilt(sos, out))
    return np.asarray(out * 0.7 / np.abs(out).max())


def texture(rng: np.random.Generator, seconds: float) -> Mono:
    """Bursts of coloured noise, sweeps with harmonics, clicks."""
    n = int(seconds * SAMPLE_RATE)
    out = np.zeros(n)
    for _ in range(int(rng.integers(2, 12))):
        m = int(rng.uniform(0.01, 1.5) * SAMPLE_RATE)
        start = int(rng.integers(0, max(1, n - m)))
        t = np.arange(m) / SAMPLE_RATE
        kind = rng.integers(3)
        if kind == 0:
            spectrum = np.fft.rfft(rng.normal(size=m))
            f = np.fft.rfftfreq(m, 1 / SAMPLE_RATE) + 50
            y = np.fft.irfft(spectrum * (f / 1000) ** -rng.uniform(-0.3, 1.8), m)
        elif kind == 1:
            f = np.geomspace(rng.uniform(60, 4000), rng.uniform(60, 4000), m)
            phase = 2 * np.pi * np.cumsum(f) / SAMPLE_RATE
            slope = rng.uniform(0.7, 2.2)
            y = sum(np.sin(k * phase) * k**-slope * (k * f < 23_500) for k in range(1, 60))
        else:
            y = rng.normal(size=m) * np.exp(-t / rng.uniform(0.0005, 0.02))
        y = np.asarray(y) * np.exp(-t / rng.uniform(0.05, 2.0)) * _envelope(rng, m, 0.002, 0.01)
        out[start : start + m] += (y / (np.abs(y).max() + 1e-9) * 10 ** rng.uniform(-1.5, 0))[
            : n - start
        ]
    return np.asarray(out * 0.8 / (np.abs(out).max() + 1e-9))


def pieces(seed: int, utterances: int = 100, textures: int = 60) -> Iterator[tuple[str, Mono]]:
    """About 16 minutes, the same for the same seed."""
    for i in range(utterances):
        yield f"utterance_{i:03d}", utterance(np.random.default_rng((seed, 0, i)), 7.0)
    for i in range(textures):
        yield f"texture_{i:03d}", texture(np.random.default_rng((seed, 1, i)), 5.0)
