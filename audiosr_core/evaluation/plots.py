"""Spectrograms to look at: before, after, what changed, and the long-term spectra.

A long sound is looked at in at most `COLUMNS` places, so memory does not grow with duration: every
column is the mean power of up to `FRAMES_PER_COLUMN` frames spread over its stretch of time.
Matplotlib (extra `plots`) is imported when a figure is drawn, never before, and without a display.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples
from audiosr_core.containers.temporary import write_whole
from audiosr_core.errors import AudioError, SettingsError

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
INKS = ("#c2410c", "#2563eb", "#15803d", "#9333ea", "#b45309")  # of what was made of it
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


def spectrogram(
    read: Read, num_samples: int, sample_rate: int, window_seconds: float = WINDOW_SECONDS
) -> Spectrogram:
    """Look at a sound through `read`, in order, a few frames at a time."""
    if num_samples < 1:
        raise AudioError("a spectrogram needs at least one sample, got an empty sound")
    window = max(16, round(window_seconds * sample_rate))
    duration = num_samples / sample_rate
    columns = int(np.clip(duration / (window_seconds / 8), 1, COLUMNS))  # not of the rate
    taper = signal.get_window("hann", window)
    scale = 2 / taper.sum()
    stretch = num_samples / columns
    frames = int(np.clip(round(duration / columns / (window_seconds / 2)), 1, FRAMES_PER_COLUMN))
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
    figure = new_figure(15, 9, title)
    (first, third), (second, fourth) = figure.subplots(2, 2)
    floor_db, top_db = colour_range(original, extended)
    top_hz = max(original.sample_rate, extended.sample_rate) / 2

    image: Any = None
    for axes, picture, name in ((first, original, names[0]), (second, extended, names[1])):
        image = paint(axes, picture, picture.db, "magma_r", floor_db, top_db)
        label(axes, f"{name}, {picture.sample_rate / 1000:g} kHz", top_hz, picture.duration)
    figure.colorbar(image, ax=[first, second], label="Level, dB re full-scale sine", pad=0.01)

    change, shown = _change_db(original, extended, floor_db)
    image = paint(third, shown, change, "RdBu_r", -CHANGE_DB, CHANGE_DB)
    label(third, f"Difference: {names[1]} − {names[0]}", top_hz, shown.duration)
    figure.colorbar(image, ax=third, label="Change, dB", pad=0.01, extend="both")

    long_term(fourth, {names[0]: original, names[1]: extended})
    if cutoff_hz is not None:
        for axes in (first, second, third):
            mark(axes.axhline, cutoff_hz)
        mark(fourth.axvline, cutoff_hz, f"Cutoff, {cutoff_hz / 1000:.2f} kHz")
        first.text(
            0.995, cutoff_hz / 1000 / (top_hz / 1000), f"cutoff {cutoff_hz / 1000:.2f} kHz ",
            transform=first.transAxes, ha="right", va="bottom", color=CUTOFF_INK, fontsize=10,
        )  # fmt: skip
    legend(fourth)
    write_whole(path, png_of(figure), overwrite=True)


def png_of(figure: Any) -> bytes:
    """The figure as a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def new_figure(width: float, height: float, title: str) -> Any:
    """An empty figure of so many inches, that needs no display."""
    figure_module, canvas_module = _matplotlib()
    figure = figure_module.Figure(
        figsize=(width, height), dpi=120, layout="constrained", facecolor="white"
    )
    canvas_module.FigureCanvasAgg(figure)
    figure.suptitle(plain(title), fontsize=15, fontweight="bold", color=INK, parse_math=False)
    return figure


def colour_range(*pictures: Spectrogram) -> tuple[float, float]:
    """dB from and to: the same colours for all of them."""
    top_db = float(10 * np.ceil(max(picture.db.max() for picture in pictures) / 10))
    top_db = max(top_db, FLOOR_DB + 10)  # of what nobody hears
    return max(FLOOR_DB, top_db - 100), top_db


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


def paint(
    axes: Any, picture: Spectrogram, values: Array, colours: str, low: float, high: float
) -> Any:
    """Values of a spectrogram's shape, as an image."""
    extent = (0, picture.duration, 0, picture.hz[-1] / 1000)
    return axes.imshow(
        _thinned(values), origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=low,
        vmax=high, interpolation="antialiased",
    )  # fmt: skip


def plain(text: str) -> str:
    """Without what no font has: control characters, undecodable bytes of file names."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def label(axes: Any, title: str, top_hz: float, duration: float) -> None:
    """Title, units and limits of a spectrogram."""
    axes.set_title(plain(title), loc="left", fontsize=12, color=INK, parse_math=False)
    axes.set(xlabel="Time, s", ylabel="Frequency, kHz", xlim=(0, duration), ylim=(0, top_hz / 1000))
    axes.set_facecolor("#f1f3f5")  # above a lower Nyquist frequency: no data, not silence


def long_term(axes: Any, pictures: Mapping[str, Spectrogram]) -> None:
    """Long-term spectra in one picture; the first is the original, and drawn on top."""
    floor_db, _ = colour_range(*pictures.values())
    inks = [ORIGINAL_INK, *INKS]
    for place, (name, picture) in enumerate(pictures.items()):
        axes.plot(
            picture.hz / 1000, picture.long_term_db, color=inks[place % len(inks)], label=name,
            lw=1.4 if place else 1.0, zorder=2 if place else 3,
        )  # fmt: skip
    top_hz = max(picture.sample_rate for picture in pictures.values()) / 2
    axes.set_title("Long-term spectrum, mean power over time", loc="left", fontsize=12, color=INK)
    axes.set(xlabel="Frequency, kHz", ylabel="Level per 12.5 Hz bin, dB", xlim=(0, top_hz / 1000))
    lowest = min(picture.long_term_db.min() for picture in pictures.values())
    axes.set_ylim(bottom=max(lowest, floor_db - 20) - 5)
    axes.grid(color="#dee2e6", lw=0.6)


def legend(axes: Any) -> None:
    axes.legend(loc="upper right", frameon=True, framealpha=0.9, fontsize=10)


def mark(line: Callable[..., Any], cutoff_hz: float, label: str | None = None) -> None:
    """The cutoff, dashed; `line` is an axes' axhline or axvline."""
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
