"""Training examples: a mixture, the same without its high band, and where it was cut.

Degradations follow AudioSR (arXiv 2309.07314, §2.1) and AudioLBM (arXiv 2509.17609, §4): four
filter families, orders 2 to 10, cutoffs 1.5 to 20 kHz; beside them brick walls, resampler edges
and the holes of lossy codecs. All filters act by their magnitude alone, in one FFT per clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

from audiosr_core.training.corpus import SAMPLE_RATE, Recording, load

GROUPS = {
    "instruments": 0.36, "drums": 0.08, "sax": 0.09, "tagelharpa": 0.07, "body": 0.07,
    "speech": 0.06, "esc10": 0.12, "synthetic": 0.15,
}  # fmt: skip
ALONE = {"esc10", "speech", "synthetic"}  # mostly not mixed with others
USUAL_CUTOFFS = (3_400.0, 3_700.0, 4_000.0, 5_512.0, 7_600.0, 8_000.0, 11_025.0, 12_000.0, 16_000.0)


@dataclass(frozen=True)
class Batch:
    """Clips at 48 kHz; frequencies in Hz."""

    target: Tensor  # [batch, samples]
    low: Tensor  # [batch, samples]
    cutoff_hz: Tensor  # [batch]
    target_hz: Tensor  # [batch], above it the target is not known


def response(
    rng: np.random.Generator, frequency: NDArray[np.floating]
) -> tuple[NDArray[np.floating], float]:
    """A random low-pass: its magnitude at `frequency`, and the cutoff a detector would report."""
    if rng.random() < 0.35:
        cutoff = float(rng.choice(USUAL_CUTOFFS)) * rng.uniform(0.97, 1.03)
    else:
        cutoff = float(
            rng.uniform(1_500, 20_000)
            if rng.random() < 0.5
            else np.exp(rng.uniform(np.log(1_500), np.log(20_000)))
        )
    kind = rng.choice(6, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    if kind == 0:  # brick wall
        return (frequency <= cutoff).astype(np.float64), cutoff * rng.uniform(0.97, 1.0)
    if kind == 1:  # a resampler: flat, then a short slope down to Nyquist
        start = cutoff * rng.uniform(0.9, 0.98)
        slope = np.clip((frequency - start) / (cutoff - start), 0, 1)
        gain = np.cos(0.5 * np.pi * slope) ** 2
        return gain, start + (cutoff - start) * rng.uniform(0.2, 0.9)
    order = int(rng.integers(2, 11))
    nyquist = SAMPLE_RATE / 2
    match kind:
        case 2:
            sos = signal.cheby1(order, rng.uniform(0.05, 1), cutoff / nyquist, output="sos")
        case 3:
            sos = signal.butter(order, cutoff / nyquist, output="sos")
        case 4:
            sos = signal.ellip(order, 0.1, rng.uniform(40, 90), cutoff / nyquist, output="sos")
        case _:
            sos = signal.bessel(order, cutoff / nyquist, norm="mag", output="sos")
    coarse = np.linspace(0, nyquist, 1025)
    magnitude = np.abs(signal.freqz_sos(sos, worN=coarse, fs=SAMPLE_RATE)[1])
    down = 10 ** (-rng.uniform(3, 15) / 20)
    cutoff = float(coarse[np.argmax(magnitude < down)]) or cutoff
    return np.interp(frequency, coarse, magnitude), min(cutoff, 20_500.0)


def equaliser(rng: np.random.Generator, frequency: NDArray[np.floating]) -> NDArray[np.floating]:
    """A smooth random curve, a tilt and a few broad bumps."""
    octave = np.log2(np.maximum(frequency, 50) / 1000)
    knots = np.linspace(-4.4, 4.6, 8)
    bumps = np.interp(octave, knots, rng.normal(0, 2.5, 8))
    return np.asarray(10 ** ((bumps + rng.normal(0, 1.0) * octave) / 20))


class Batches:
    """An endless supply; the same seed and the same corpus give the same batches."""

    def __init__(self, folder: Path, seed: int, batch: int = 16, samples: int = 65_536) -> None:
        self.pool, rows = load(folder)
        self.groups = {g: [r for r in rows if r.group == g] for g in GROUPS}
        self.weights = {
            g: (w := np.array([r.num_samples**0.5 for r in rs])) / w.sum()
            for g, rs in self.groups.items()
        }
        self.rng = np.random.default_rng(seed)
        self.batch, self.samples = batch, samples
        self.frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)

    def _cut(self, row: Recording, room: int) -> tuple[NDArray[np.floating], float]:
        """Up to `room` samples of a recording, perhaps played faster, and its edge."""
        rng = self.rng
        speed = 1.0 if rng.random() < 0.55 else float(rng.uniform(1.0, 1.5))
        need = min(int(room * speed) + 64, row.num_samples)
        start = row.start + int(rng.integers(0, row.num_samples - need + 1))
        if rng.random() < 0.4:
            start = row.start  # the attack
        x = np.asarray(self.pool[start : start + need], dtype=np.float32) / 32768
        if speed != 1.0:
            x = soxr.resample(x, SAMPLE_RATE * speed, SAMPLE_RATE, quality="HQ")
        return x[:room], row.edge_hz * speed

    def _mixture(self) -> tuple[NDArray[np.floating], float]:
        rng = self.rng
        out = np.zeros(self.samples, np.float32)
        edge = 24_000.0
        names, shares = list(GROUPS), np.array(list(GROUPS.values()))
        first = str(rng.choice(names, p=shares / shares.sum()))
        voices = 1 if first in ALONE and rng.random() < 0.7 else int(rng.integers(1, 5))
        for voice in range(voices):
            group = first if voice == 0 else str(rng.choice(names, p=shares / shares.sum()))
            row = self.groups[group][
                int(rng.choice(len(self.groups[group]), p=self.weights[group]))
            ]
            x, its_edge = self._cut(row, self.samples)
            gain = 10 ** (-rng.uniform(0, 0.3 if voice == 0 else 1.3)) / (np.abs(x).max() + 1e-6)
            repeats = int(rng.integers(1, 7)) if len(x) < self.samples // 2 else 1
            for _ in range(repeats):
                at = int(rng.integers(0, max(1, self.samples - len(x) // 2)))
                at = 0 if len(x) >= self.samples else at
                part = x[: self.samples - at]
                out[at : at + len(part)] += part * np.float32(gain * rng.uniform(0.4, 1.0))
            edge = min(edge, its_edge)
        if rng.random() < 0.1:
            out *= np.geomspace(1, 10 ** -rng.uniform(0.5, 3), self.samples).astype(np.float32)
        peak = np.abs(out).max() + 1e-6
        out *= np.float32(10 ** -rng.uniform(0.05, 1.5) / peak)
        if rng.random() < 0.7:  # a 16-bit file, or a room
            level = 10 ** (-rng.uniform(3.5, 4.9))
            out += rng.normal(0, level, self.samples).astype(np.float32)
        return out, edge

    def next(self) -> Batch:
        clips, filters, curves, cutoffs, edges = [], [], [], [], []
        for _ in range(self.batch):
            clip, edge = self._mixture()
            gain, cutoff = response(self.rng, self.frequency)
            curve = equaliser(self.rng, self.frequency) if self.rng.random() < 0.6 else np.ones(1)
            clips.append(clip)
            filters.append(gain)
            curves.append(np.broadcast_to(curve, self.frequency.shape))
            cutoffs.append(cutoff)
            edges.append(24_000.0 if edge >= 24_000 else max(edge - 200, cutoff + 500))
        spectrum = torch.fft.rfft(torch.from_numpy(np.stack(clips)))
        spectrum = spectrum * torch.from_numpy(np.stack(curves).astype(np.float32))
        low = spectrum * torch.from_numpy(np.stack(filters).astype(np.float32))
        return Batch(
            torch.fft.irfft(spectrum, self.samples),
            torch.fft.irfft(low, self.samples),
            torch.tensor(cutoffs),
            torch.tensor(edges),
        )


def codec_holes(power: Tensor, cutoff_bin: Tensor, generator: torch.Generator) -> Tensor:
    """Factors for a low-band spectrogram, 0 where an encoder would have dropped a band.

    power: [batch, frames, bins]; one clip in eight gets holes in its upper half.
    """
    batch, frames, bins = power.shape
    keep = torch.rand(batch, frames // 4 + 1, bins // 12 + 1, generator=generator) > 0.35
    keep = keep.repeat_interleave(4, 1)[:, :frames].repeat_interleave(12, 2)[:, :, :bins]
    upper = torch.arange(bins)[None] > cutoff_bin[:, None] * 0.5
    chosen = torch.rand(batch, generator=generator) < 0.125
    return torch.where(chosen[:, None, None] & upper[:, None], keep.float(), 1.0)
