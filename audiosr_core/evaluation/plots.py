"""Spectrograms to look at: before, after, what changed, and the long-term spectra.

A long sound is looked at in at most `COLUMNS` places, so memory does not grow with duration: every
column is the mean power of up to `FRAMES_PER_COLUMN` frames spread over its stretch of time.
Matplotlib (extra `plots`) is imported when a figure is drawn, never before, and without a display.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError, FileError, SettingsError

Array = NDArray[np.float64]
Read = Callable[[int, int], Samples]
"""(start, count) → [channels, count] samples of a sound."""

COLUMNS = 1000
FRAMES_PER_COLUMN = 4
WINDOW_SECONDS = 0.08  # a whole number of samples at every usual rate, so bins of two rates meet
FLOOR_DB = -120.0  # of the colours; 0 dB is a full-scale sine
CHANGE_DB = 60.0  # the difference panel's colours end here

INK = "#1b1f24"
ORIGINAL_INK = "#30363d"
EXTENDED_INK = "#c2410c"
CUTOFF_INK = "#0b7285"


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """Power of a sound over frequency and time, mean over the channels."""

    power: Array  # [bins, columns], 1 is a full-scale sine
    hz: Array  # [bins]
    seconds: Array  # [columns], middles
    duration: float  # s
    sample_rate: int  # Hz

    @property
    def db(self) -> Array:
        return _db(self.power)

    @property
    def long_term_db(self) -> Array:
        """Mean power over time, [bins]."""
        return _db(self.power.mean(axis=1))


def spectrogram(read: Read, num_samples: int, sample_rate: int) -> Spectrogram:
    """Look at a sound through `read`, in order, a few frames at a time."""
    if num_samples < 1:
        raise AudioError("a spectrogram needs at least one sample, got an empty sound")
    window = max(16, round(WINDOW_SECONDS * sample_rate))
    duration = num_samples / sample_rate
    columns = int(np.clip(duration / (WINDOW_SECONDS / 8), 1, COLUMNS))  # not of the rate
    taper = signal.get_window("hann", window)
    scale = 2 / taper.sum()
    stretch = num_samples / columns
    frames = int(np.clip(round(duration / columns / (WINDOW_SECONDS / 2)), 1, FRAMES_PER_COLUMN))
    power = np.zeros((window // 2 + 1, columns))
    for column in range(columns):
        for frame in range(frames):
            middle = round((column + (frame + 0.5) / frames) * stretch)
            x = _centred(read, middle, window, num_samples)
            spectrum = np.abs(np.fft.rfft(x * taper, axis=1) * scale) ** 2
            power[:, column] += spectrum.mean(axis=0) / frames
    return Spectrogram(
        power=power,
        hz=np.arange(window // 2 + 1, dtype=np.float64) * (sample_rate / window),
        seconds=(np.arange(columns) + 0.5) * stretch / sample_rate,
        duration=duration,
        sample_rate=sample_rate,
    )


def spectrogram_comparison(
    original: Samples,
    extended: Samples,
    sample_rates: tuple[int, int],
    cutoff_hz: float | None,
    path: Path,
    *,
    title: str = "Original and extended",
) -> None:
    """Draw both sounds, [samples] or [channels, samples], into one PNG; see `draw`."""
    pictures = []
    for samples, rate in zip((original, extended), sample_rates, strict=True):
        x = np.atleast_2d(samples)
        pictures.append(spectrogram(_slicer(x), x.shape[1], rate))
    draw(pictures[0], pictures[1], cutoff_hz, path, title=title)


def draw(
    original: Spectrogram,
    extended: Spectrogram,
    cutoff_hz: float | None,
    path: Path,
    *,
    title: str = "Original and extended",
    names: tuple[str, str] = ("Original", "Extended"),
) -> None:
    """Four panels in one PNG: both spectrograms in the same colours, difference, spectra."""
    figure_module, canvas_module = _matplotlib()
    figure = figure_module.Figure(figsize=(15, 9), dpi=120, layout="constrained", facecolor="white")
    canvas_module.FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=15, fontweight="bold", color=INK)
    (first, third), (second, fourth) = figure.subplots(2, 2)
    top_db = 10 * np.ceil(max(original.db.max(), extended.db.max()) / 10)
    floor_db = max(FLOOR_DB, top_db - 100)
    top_hz = max(original.sample_rate, extended.sample_rate) / 2

    image: Any = None
    for axes, picture, name in ((first, original, names[0]), (second, extended, names[1])):
        image = _paint(axes, picture, picture.db, "magma_r", floor_db, top_db)
        _label(axes, f"{name}, {picture.sample_rate / 1000:g} kHz", top_hz, picture.duration)
    figure.colorbar(image, ax=[first, second], label="Level, dB re full-scale sine", pad=0.01)

    change, shown = _change_db(original, extended, floor_db)
    image = _paint(third, shown, change, "RdBu_r", -CHANGE_DB, CHANGE_DB)
    _label(third, f"Difference: {names[1]} − {names[0]}", top_hz, shown.duration)
    figure.colorbar(image, ax=third, label="Change, dB", pad=0.01, extend="both")

    _spectra(fourth, original, extended, names, floor_db, top_hz)
    if cutoff_hz is not None:
        for axes in (first, second, third):
            _mark(axes.axhline, cutoff_hz)
        _mark(fourth.axvline, cutoff_hz, f"Cutoff, {cutoff_hz / 1000:.2f} kHz")
        first.text(
            0.995, cutoff_hz / 1000 / (top_hz / 1000), f"cutoff {cutoff_hz / 1000:.2f} kHz ",
            transform=first.transAxes, ha="right", va="bottom", color=CUTOFF_INK, fontsize=10,
        )  # fmt: skip
    fourth.legend(loc="upper right", frameon=True, framealpha=0.9, fontsize=10)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise FileError(f"the picture cannot be written to {path}: {error.strerror}") from error


def _matplotlib() -> tuple[Any, Any]:
    try:
        return (
            importlib.import_module("matplotlib.figure"),
            importlib.import_module("matplotlib.backends.backend_agg"),
        )
    except ImportError as error:
        raise SettingsError(
            "a picture needs matplotlib, which is not installed;"
            " run: pip install 'audiosr-bridge[plots]', or leave the picture out"
        ) from error


def _paint(
    axes: Any, picture: Spectrogram, values: Array, colours: str, low: float, high: float
) -> Any:
    extent = (0, picture.duration, 0, picture.hz[-1] / 1000)
    return axes.imshow(
        _thinned(values), origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=low,
        vmax=high, interpolation="antialiased",
    )  # fmt: skip


def _label(axes: Any, title: str, top_hz: float, duration: float) -> None:
    axes.set_title(title, loc="left", fontsize=12, color=INK)
    axes.set(xlabel="Time, s", ylabel="Frequency, kHz", xlim=(0, duration), ylim=(0, top_hz / 1000))
    axes.set_facecolor("#f1f3f5")  # above a lower Nyquist frequency: no data, not silence


def _spectra(
    axes: Any,
    original: Spectrogram,
    extended: Spectrogram,
    names: tuple[str, str],
    floor_db: float,
    top_hz: float,
) -> None:
    for picture, name, ink, width in (
        (extended, names[1], EXTENDED_INK, 1.4),
        (original, names[0], ORIGINAL_INK, 1.0),
    ):
        axes.plot(picture.hz / 1000, picture.long_term_db, color=ink, lw=width, label=name)
    axes.set_title("Long-term spectrum, mean power over time", loc="left", fontsize=12, color=INK)
    axes.set(xlabel="Frequency, kHz", ylabel="Level per 12.5 Hz bin, dB", xlim=(0, top_hz / 1000))
    lowest = min(original.long_term_db.min(), extended.long_term_db.min())
    axes.set_ylim(bottom=max(lowest, floor_db - 20) - 5)
    axes.grid(color="#dee2e6", lw=0.6)


def _mark(line: Callable[..., Any], cutoff_hz: float, label: str | None = None) -> None:
    line(cutoff_hz / 1000, color=CUTOFF_INK, lw=1.4, ls=(0, (6, 3)), label=label)


def _change_db(
    original: Spectrogram, extended: Spectrogram, floor_db: float
) -> tuple[Array, Spectrogram]:
    """Extended − original in dB on the grid of whichever reaches higher; both end at the floor."""
    shown = extended if extended.sample_rate >= original.sample_rate else original
    on_grid = []
    for picture in (original, extended):
        db = np.full(shown.power.shape, floor_db)
        last = picture.power.shape[1] - 1
        columns = np.interp(shown.seconds, picture.seconds, np.arange(last + 1)).round().astype(int)
        bins = min(picture.power.shape[0], shown.power.shape[0])
        db[:bins] = np.maximum(picture.db[:bins][:, columns], floor_db)
        on_grid.append(db)
    return on_grid[1] - on_grid[0], shown


def _thinned(values: Array, rows: int = 480) -> Array:
    """Mean over neighbouring bins, so that a picture row is not one bin picked by chance."""
    group = max(1, values.shape[0] // rows)
    whole = values.shape[0] // group * group
    mean: Array = values[:whole].reshape(-1, group, values.shape[1]).mean(axis=1)
    return mean


def _centred(read: Read, middle: int, window: int, num_samples: int) -> Array:
    """One frame around a sample, zeros beyond the ends, [channels, window]."""
    start = middle - window // 2
    first, last = max(0, start), min(num_samples, start + window)
    x = np.asarray(read(first, last - first), np.float64)
    return np.pad(x, ((0, 0), (first - start, window - x.shape[1] - (first - start))))


def _slicer(x: Samples) -> Read:
    return lambda start, count: x[:, start : start + count]


def _db(power: Array) -> Array:
    db: Array = 10 * np.log10(np.maximum(power, 1e-20))
    return db
