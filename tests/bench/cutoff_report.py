"""Measure the cutoff detector: tables and pictures for docs/cutoff.md.

    python tests/bench/cutoff_report.py --material NAME=DIR ... --tables OUT.md --images DIR

Every DIR holds full-band recordings (WAV, FLAC). Pink noise and white noise are always in. With
--fit, random filters over the same material are drawn with another seed and the two regressions
of audiosr_core/cutoff.py are fitted anew and printed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.signal
import scipy.special
import soundfile
import soxr
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))
from audiosr_core.cutoff import SHARES, Edge, evidence_features, find_cutoff, find_edge
from audiosr_core.cutoff import confidence_features as confidence_of
from audiosr_core.spectrum import SpectrumMeter, rolloff_hz

Signal = NDArray[np.float64]
CUTOFFS = np.geomspace(1_500, 19_000, 8).round()
FAMILIES = ("brick-wall", "cheby1", "ellip", "butter", "bessel")
RIPPLE_DB, STOPBAND_DB = 0.1, 60.0


@dataclass(frozen=True)
class Case:
    """One measured sound."""

    family: str
    order: int
    material: str
    truth_hz: float  # the designer's corner; 0 where nothing was cut
    hz: float
    confidence: float
    full_band: bool
    rolloff: float

    @property
    def error(self) -> float:
        return self.hz / self.truth_hz - 1.0


def low_pass(x: Signal, rate: int, family: str, order: int, hz: float) -> Signal:
    """Cut x at hz (Chebyshev, elliptic: end of the ripple; Butterworth, Bessel: −3 dB)."""
    if family == "brick-wall":
        spectrum = np.fft.rfft(x)
        spectrum[np.fft.rfftfreq(len(x), 1 / rate) > hz] = 0.0
        return np.fft.irfft(spectrum, len(x))
    design: dict[str, Callable[[], NDArray[np.float64]]] = {
        "cheby1": lambda: scipy.signal.cheby1(order, RIPPLE_DB, hz, fs=rate, output="sos"),
        "ellip": lambda: scipy.signal.ellip(
            order, RIPPLE_DB, STOPBAND_DB, hz, fs=rate, output="sos"
        ),
        "butter": lambda: scipy.signal.butter(order, hz, fs=rate, output="sos"),
        "bessel": lambda: scipy.signal.bessel(order, hz, norm="mag", fs=rate, output="sos"),
    }
    return np.asarray(scipy.signal.sosfilt(design[family](), x))


def dithered(x: Signal, rng: np.random.Generator) -> Signal:
    """x in 16 bits with TPDF dither."""
    step = 2.0**-15
    return np.round(x / step + rng.random(x.shape) - rng.random(x.shape)) * step


def noise(rng: np.random.Generator, seconds: float, rate: int, db_per_octave: float) -> Signal:
    """Gaussian noise that falls by so much, peak 0.7."""
    n = int(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / rate), 20.0) ** (-db_per_octave / 6.02)
    x = np.fft.irfft(spectrum, n)
    return 0.7 * x / np.abs(x).max()


def clips(
    folder: Path, rng: np.random.Generator, count: int, seconds: float
) -> Iterator[tuple[Signal, int]]:
    """Sounds of a folder, joined at random to clips of this length at least, mono, peak 0.7."""
    files = sorted([*folder.rglob("*.flac"), *folder.rglob("*.wav")])
    for _ in range(count):
        parts: list[Signal] = []
        rate, length = 0, 0.0
        for i in rng.permutation(len(files)):
            x, here = soundfile.read(files[i], always_2d=True)
            if rate in (0, here):
                rate = here
                parts += [x.mean(axis=1), np.zeros(rate // 10)]
                length += len(x) / rate
            if length > seconds:
                break
        joined = np.concatenate(parts)[: int(2 * seconds * rate)]
        yield 0.7 * joined / np.abs(joined).max(), rate


def measure(x: Signal, rate: int, family: str, order: int, material: str, truth: float) -> Case:
    meter = SpectrumMeter(rate, 1)
    meter.push(x[None])
    spectrum = meter.spectrum()
    found = find_cutoff(spectrum)
    return Case(
        family, order, material, truth, found.hz, found.confidence, found.full_band,
        rolloff_hz(spectrum, 0.985),
    )  # fmt: skip


def filter_cases(material: dict[str, tuple[Signal, int]]) -> list[Case]:
    rng = np.random.default_rng(7)
    cases = []
    for name, (x, rate) in material.items():
        for family in FAMILIES:
            for order in (0,) if family == "brick-wall" else range(2, 11):
                for hz in CUTOFFS:
                    y = dithered(low_pass(x, rate, family, order, hz), rng)
                    cases.append(measure(y, rate, family, order, name, float(hz)))
    return cases


def there_and_back(x: Signal, rate: int, low: int, quality: str) -> Signal:
    back = soxr.resample(soxr.resample(x, rate, low, quality), low, rate, quality)
    return np.asarray(back, dtype=np.float64)


def resampler_cases(material: dict[str, tuple[Signal, int]]) -> list[Case]:
    """There and back through a lower rate; the truth is the end of the pass band, −1 dB."""
    rng = np.random.default_rng(8)
    cases = []
    for name, (x, rate) in material.items():
        for low in (8_000, 11_025, 16_000, 22_050, 32_000):
            for quality in ("MQ", "HQ", "VHQ"):
                impulse = np.zeros(rate)
                impulse[rate // 2] = 1.0
                response = np.abs(np.fft.rfft(there_and_back(impulse, rate, low, quality)))
                truth = float(np.flatnonzero(response > 10 ** (-1 / 20) * response[100])[-1])
                y = dithered(there_and_back(x, rate, low, quality), rng)
                cases.append(measure(y, rate, f"soxr {quality}", low, name, truth))
            y = scipy.signal.resample_poly(
                scipy.signal.resample_poly(x, low // 25, rate // 25), rate // 25, low // 25
            )
            cases.append(measure(dithered(y, rng), rate, "resample_poly", low, name, low / 2))
    return cases


def codec_cases(material: dict[str, tuple[Signal, int]]) -> list[Case]:
    """Encoded and decoded; the truth is what the encoder says or was told, 0 if neither."""
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as folder:
        wav, coded, out = (Path(folder) / n for n in ("a.wav", "b.mp3", "c.wav"))
        for name, (x, rate) in material.items():
            soundfile.write(wav, x, rate)
            if shutil.which("lame"):
                for kbps in (64, 96, 128, 160, 192, 256, 320):
                    run = subprocess.run(
                        ["lame", "-b", str(kbps), str(wav), str(coded)],
                        capture_output=True, text=True, check=True,
                    )  # fmt: skip
                    band = re.search(r"transition band:\s*(\d+) Hz -\s*(\d+) Hz", run.stderr)
                    truth = float(band[1]) if band else 0.0
                    subprocess.run(
                        ["lame", "--quiet", "--decode", str(coded), str(out)], check=True
                    )
                    y, decoded = soundfile.read(out)
                    cases.append(measure(y, decoded, "lame", kbps, name, truth))
            if shutil.which("ffmpeg"):
                for codec, order, options, truth in (
                    *(("vorbis", q, ["-c:a", "libvorbis", "-q:a", str(q), "-f", "ogg"], 0.0)
                      for q in (0, 2, 4, 6, 8)),
                    *(("aac", hz, ["-c:a", "aac", "-b:a", "128k", "-cutoff", str(hz), "-f", "adts"],
                       float(hz)) for hz in (8_000, 12_000, 16_000)),
                    *(("opus", hz, ["-c:a", "libopus", "-b:a", "64k", "-cutoff", str(hz),
                                    "-f", "ogg"], float(hz)) for hz in (4_000, 8_000, 12_000)),
                ):  # fmt: skip
                    quiet = ["ffmpeg", "-v", "error", "-y", "-i"]
                    subprocess.run([*quiet, str(wav), *options, str(coded)], check=True)
                    subprocess.run([*quiet, str(coded), "-f", "wav", str(out)], check=True)
                    y, decoded = soundfile.read(out)
                    cases.append(measure(y, decoded, codec, order, name, truth))
    return cases


def full_cases(folders: dict[str, Path], count: int) -> list[Case]:
    """Nothing cut: what an edge is found in nevertheless."""
    rng = np.random.default_rng(9)
    cases = []
    for name, folder in folders.items():
        for x, rate in clips(folder, rng, count, 6.0):
            cases.append(measure(dithered(x, rng), rate, "none", 0, name, 0.0))
    for slope in np.linspace(0.0, 9.0, count):
        x = dithered(noise(rng, 6.0, 48_000, float(slope)), rng)
        cases.append(measure(x, 48_000, "none", 0, "noise", 0.0))
    return cases


def row(name: str, cases: list[Case]) -> str:
    """One line: how many, found, median, 90th percentile and bias of the error, within 5 %."""
    found = [c for c in cases if not c.full_band]
    if not found:
        return f"| {name} | {len(cases)} | 0 % | | | | |"
    error = 100.0 * np.array([c.error for c in found])
    return (
        f"| {name} | {len(cases)} | {100 * len(found) / len(cases):.0f} %"
        f" | {np.median(np.abs(error)):.1f} % | {np.percentile(np.abs(error), 90):.1f} %"
        f" | {np.median(error):+.1f} % | {100 * np.mean(np.abs(error) <= 5.0):.0f} % |"
    )


def tables(filters: list[Case], others: list[Case], full: list[Case]) -> str:
    head = (
        "| | cases | found | median error | 90th percentile | median bias | within 5 % |\n"
        "|---|---|---|---|---|---|---|"
    )
    lines = ["### Filters", "", head]
    for family in FAMILIES:
        for low, high in ((0, 0), (2, 3), (4, 5), (6, 7), (8, 10)):
            chosen = [c for c in filters if c.family == family and low <= c.order <= high]
            if chosen:
                orders = f", order {low} to {high}" if low else ""
                lines.append(row(f"{family}{orders}", chosen))
    steep = [c for c in filters if is_steep(c)]
    lines.append(row("**all steep** (brick-wall; cheby1, ellip of order ≥ 6)", steep))
    lines += ["", "### Steep filters by material", "", head]
    for name in sorted({c.material for c in filters}):
        lines.append(row(name, [c for c in steep if c.material == name]))
    lines += ["", "### Steep filters by cutoff", "", head]
    for hz in CUTOFFS:
        lines.append(row(f"{hz:.0f} Hz", [c for c in steep if c.truth_hz == hz]))
    lines += ["", "### Resamplers and codecs that tell their edge", "", head]
    for family in dict.fromkeys(c.family for c in others):
        told = [c for c in others if c.family == family and 0 < c.truth_hz < 19_800]
        if told:
            lines.append(row(family, told))
    lines += ["", "### Codecs: what is found", ""]
    lines += ["| codec | setting | told | found, lowest to highest |", "|---|---|---|---|"]
    for key in dict.fromkeys((c.family, c.order) for c in others):
        group = [c for c in others if (c.family, c.order) == key]
        if key[0] in ("lame", "vorbis", "aac", "opus"):
            hz = sorted(c.hz for c in group)
            told = f"{group[0].truth_hz:.0f} Hz" if group[0].truth_hz else ""
            lines.append(f"| {key[0]} | {key[1]} | {told} | {hz[0]:.0f} to {hz[-1]:.0f} Hz |")
    lines += ["", "### Nothing cut", ""]
    lines += ["| material | clips | false edges | at (confidence) |", "|---|---|---|---|"]
    for name in dict.fromkeys(c.material for c in full):
        group = [c for c in full if c.material == name]
        false = sorted((c for c in group if not c.full_band), key=lambda c: c.hz)
        where = ", ".join(f"{c.hz:.0f} ({c.confidence:.2f})" for c in false)
        lines.append(f"| {name} | {len(group)} | {len(false)} | {where} |")
    lines += ["", "### Confidence", ""]
    lines += ["| confidence | edges | within 5 % | within 15 % | median error |"]
    lines += ["|---|---|---|---|---|"]
    told = [c for c in filters + others if c.truth_hz and not c.full_band]
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        group = [c for c in told if low <= c.confidence < low + 0.2]
        error = np.abs([c.error for c in group])
        if len(group):
            lines.append(
                f"| {low:.1f} to {low + 0.2:.1f} | {len(group)}"
                f" | {100 * np.mean(error <= 0.05):.0f} %"
                f" | {100 * np.mean(error <= 0.15):.0f} % | {100 * np.median(error):.1f} % |"
            )
    roll = np.array([c.rolloff / c.truth_hz - 1.0 for c in steep])
    ours = np.array([c.error for c in steep if not c.full_band])
    lines += [
        "", "### The published roll-off (0.985 of the energy) on the same steep filters", "",
        "| | median error | 90th percentile | within 5 % |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, error in (("roll-off", np.abs(roll)), ("ours", np.abs(ours))):
        lines.append(
            f"| {name} | {100 * np.median(error):.1f} % | {100 * np.percentile(error, 90):.1f} %"
            f" | {100 * np.mean(error <= 0.05):.0f} % |"
        )
    return "\n".join(lines) + "\n"


def is_steep(case: Case) -> bool:
    return case.family == "brick-wall" or (case.family in ("cheby1", "ellip") and case.order >= 6)


def draw(filters: list[Case], others: list[Case], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = [c for c in filters if not c.full_band]
    fig, axes = plt.subplots(1, 5, figsize=(15, 4), sharey=True)
    for ax, family in zip(axes, FAMILIES, strict=True):
        chosen = [c for c in found if c.family == family]
        orders = sorted({c.order for c in chosen})
        errors = [[100 * c.error for c in chosen if c.order == o] for o in orders]
        ax.boxplot(errors, whis=(5, 95), sym=".", flierprops={"markersize": 2})
        ax.set_xticks(range(1, len(orders) + 1), [str(o) if o else "-" for o in orders])
        ax.axhspan(-5, 5, color="tab:green", alpha=0.15)
        ax.set(title=family, xlabel="order", ylim=(-60, 120))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("error against the nominal corner, %")
    fig.suptitle(
        "Error by filter family and order; box: quartiles, whiskers: 5th to 95th percentile"
    )
    fig.tight_layout()
    fig.savefig(folder / "cutoff_errors.png", dpi=80)

    told = [c for c in filters + others if c.truth_hz and not c.full_band]
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    error = np.maximum([abs(100 * c.error) for c in told], 0.05)
    confidence = np.array([c.confidence for c in told])
    left.semilogy(confidence, error, ".", markersize=2)
    left.axhline(5, color="tab:green")
    left.set(
        xlabel="confidence", ylabel="absolute error, %", title="Errors concentrate on the left"
    )
    middles, rates = [], []
    for low in np.arange(0, 1, 0.1):
        inside = (confidence >= low) & (confidence < low + 0.1)
        if inside.sum() >= 5:
            middles.append(confidence[inside].mean())
            rates.append(np.mean(error[inside] <= 5))
    right.plot([0, 1], [0, 1], color="0.6")
    right.plot(middles, rates, "o-")
    right.set(xlabel="confidence", ylabel="share within 5 %", title="Calibration")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    fig.tight_layout()
    fig.savefig(folder / "cutoff_confidence.png", dpi=80)

    steep = [c for c in filters if is_steep(c)]
    fig, ax = plt.subplots(figsize=(8, 4))
    bins = np.linspace(-60, 30, 91)
    ours = [100 * c.error for c in steep if not c.full_band]
    ax.hist(np.clip(ours, -60, 30), bins, alpha=0.7, label="spectral edge")
    roll = [100 * (c.rolloff / c.truth_hz - 1) for c in steep]
    ax.hist(np.clip(roll, -60, 30), bins, alpha=0.5, label="roll-off 0.985 (−60: and below)")
    ax.set(xlabel="error, %", ylabel="cases", title="Steep filters")
    ax.legend()
    fig.tight_layout()
    fig.savefig(folder / "cutoff_steep.png", dpi=80)


def fit(folders: dict[str, Path], count: int) -> None:
    """Print the coefficients of the two regressions, from random filters over the material."""
    rng = np.random.default_rng(1)
    drawn: list[tuple[float, list[Edge | None]]] = []
    sources = [*folders.values(), None]
    for i in range(count):
        folder = sources[i % len(sources)]
        if folder is None:
            rate, x = 48_000, noise(rng, 6.0, 48_000, rng.uniform(0.0, 12.0))
        else:
            x, rate = next(clips(folder, rng, 1, 6.0))
        x, truth = x * 10 ** rng.uniform(-1.0, 0.0), 0.0
        if rng.random() < 0.62:
            truth = float(min(np.exp(rng.uniform(np.log(1_500), np.log(20_000))), 0.47 * rate))
            x = low_pass(x, rate, str(rng.choice(FAMILIES)), int(rng.integers(2, 11)), truth)
        meter = SpectrumMeter(rate, 1)
        meter.push((dithered(x, rng) if rng.random() < 0.7 else x)[None])
        spectrum = meter.spectrum()
        drawn.append((truth, [find_edge(spectrum, share) for share in SHARES]))

    pairs = [(truth, e) for truth, edges in drawn for e in edges if e]
    real = [float(truth > 0 and 0.8 < e.hz / truth < 1.3) for truth, e in pairs]
    weights = _regress(np.array([evidence_features(e) for _, e in pairs]), np.array(real))
    print("EVIDENCE =", tuple(weights.round(2).tolist()))
    rows, right = [], []
    for truth, edges in drawn:
        found = [e for e in edges if e]
        best = max(found, key=lambda e: float(weights @ evidence_features(e)), default=None)
        if best and weights @ evidence_features(best) > 0:
            rows.append(confidence_of(best, found, float(weights @ evidence_features(best))))
            right.append(float(truth > 0 and abs(best.hz / truth - 1) < 0.05))
    print("CONFIDENCE =", tuple(_regress(np.array(rows), np.array(right)).round(2).tolist()))


def _regress(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic regression with a little shrinkage; the first column is the constant."""

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ b
        shrunk = 1e-3 * len(y) * np.r_[0.0, b[1:]]
        value = float(np.sum(np.logaddexp(0.0, z) - y * z) + shrunk @ b)
        return value, x.T @ (scipy.special.expit(z) - y) + 2.0 * shrunk

    return np.asarray(scipy.optimize.minimize(loss, np.zeros(x.shape[1]), jac=True).x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--material", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--tables", type=Path, default=Path("cutoff_tables.md"))
    parser.add_argument("--images", type=Path, default=Path())
    parser.add_argument("--clips", type=int, default=30, help="full-band clips per material")
    parser.add_argument("--fit", type=int, default=0, metavar="CLIPS")
    args = parser.parse_args()
    folders = {name: Path(d) for name, d in (m.split("=", 1) for m in args.material)}
    if args.fit:
        return fit(folders, args.fit)
    rng = np.random.default_rng(5)
    material = {
        "white noise": (noise(rng, 6.0, 48_000, 0.0), 48_000),
        "pink noise": (noise(rng, 6.0, 48_000, 3.01), 48_000),
        **{name: next(clips(folder, rng, 1, 6.0)) for name, folder in folders.items()},
    }
    filters = filter_cases(material)
    others = resampler_cases(material) + codec_cases(material)
    args.tables.write_text(tables(filters, others, full_cases(folders, args.clips)))
    draw(filters, others, args.images)
    return None


if __name__ == "__main__":
    main()
