"""Pictures to judge by: spectrograms side by side, long-term spectra, and how chunks meet.

The join inspector looks at what was added (the extended sound less the original) in frames of
10 ms, and asks of every join whether it can be told from the places where nothing is joined:

    level   ▁▂▂▃▂▂▂▃|▂▂|▃▂▂▂▃▂▂       step    from before an edge of the join to after it
                    |  |               bulge   the join against the stretches on both sides
    bend    ▁▁▁▁▁▁▁▁|▁█|▁▁▁▁▁▁▁       spike   greatest second difference against its surroundings
                    join
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from audiosr_core.audio import Samples
from audiosr_core.chunking import ChunkPlan
from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision
from audiosr_core.engine import Engine
from audiosr_core.errors import AudioError, SettingsError, UsageError
from audiosr_core.evaluation.compare import side_by_side
from audiosr_core.evaluation.plots import (
    CUTOFF_INK,
    INK,
    ORIGINAL_INK,
    Spectrogram,
    colour_range,
    label,
    legend,
    long_term,
    mark,
    new_figure,
    paint,
    png_of,
    spectrogram,
)
from audiosr_core.files import FileInfo, Reader, provenance_of
from audiosr_core.settings import settings_from
from audiosr_core.stream import plan_for

Array = NDArray[np.float64]

FRAMES_PER_SECOND = 100
PIECE_FRAMES = 500
BESIDE = 10  # frames on each side of an edge
TINY = 1e-12  # power
FAINT = 1e-4  # of the mean power of what is added: below that, one level is as good as another
USUAL = 99.0  # per cent of the other places: what these show is no sign of a join
BEYOND = {"step": 2.0, "bulge": 2.0, "spike": 1.5}  # times that: it is one
LEAST = {"step": 1.0, "bulge": 1.0, "spike": 6.0}  # dB, dB, and times the surroundings
MIN_PLACES = 50  # fewer other places say nothing
CLOSE_UPS, CLOSE_SECONDS = 4, 0.5
CLOSE_WINDOW_SECONDS, CLOSE_RANGE_DB = 0.01, 60
MAX_POINTS = 8_000  # of a curve in a picture
JOIN_INK, FLAG_INK = "#94a3b8", "#dc2626"


def grid(pictures: Mapping[str, Spectrogram], cutoff_hz: float | None, title: str = "") -> bytes:
    """Spectrograms side by side in the same colours, the cutoff drawn in; a PNG."""
    columns = len(pictures) if len(pictures) <= 3 else math.ceil(math.sqrt(len(pictures)))
    rows = -(-len(pictures) // columns)
    figure = new_figure(1.5 + 4.5 * columns, 1.0 + 3.3 * rows, title)
    low, high = colour_range(*pictures.values())
    top_hz = max(picture.sample_rate for picture in pictures.values()) / 2
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, picture) in zip(every, pictures.items(), strict=False):
        image = paint(axes, picture, picture.db, "magma_r", low, high)
        label(axes, name, top_hz, picture.duration)
        if cutoff_hz is not None:
            mark(axes.axhline, cutoff_hz)
    for axes in every[len(pictures) :]:
        axes.set_visible(False)
    figure.colorbar(image, ax=every, label="Level, dB re full-scale sine", pad=0.01)
    if cutoff_hz is not None:
        every[0].text(
            0.99, cutoff_hz / top_hz, f"cutoff {cutoff_hz / 1000:.2f} kHz ", ha="right",
            va="bottom", transform=every[0].transAxes, color=CUTOFF_INK, fontsize=10,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    return png_of(figure)


def spectra(pictures: Mapping[str, Spectrogram], cutoff_hz: float | None, title: str = "") -> bytes:
    """Long-term spectra in one picture, the original first; a PNG."""
    figure = new_figure(10, 4.5, title)
    axes = figure.subplots()
    long_term(axes, pictures)
    if cutoff_hz is not None:
        mark(axes.axvline, cutoff_hz, f"Cutoff, {cutoff_hz / 1000:.2f} kHz")
    legend(axes)
    return png_of(figure)


@dataclass(frozen=True)
class Join:
    """One join of two chunks, measured."""

    start: float  # s
    stop: float  # s; the start where the chunks share nothing
    step: float  # dB
    bulge: float  # dB
    spike: float  # times the surroundings
    found: tuple[str, ...]  # which of the three cannot be met elsewhere: this join shows


@dataclass(frozen=True, eq=False)
class Joins:
    """All joins of one sound, and what they were measured on."""

    joins: tuple[Join, ...]
    limits: Mapping[str, float]  # beyond which a join shows
    level_db: Array  # of what was added, [frames of 10 ms]
    bend: Array  # greatest second difference against its surroundings, [frames]

    @property
    def showing(self) -> list[Join]:
        return [join for join in self.joins if join.found]


def joins_of(
    path: Path, input_rate: int, stride_seconds: float | None
) -> list[tuple[float, float]]:
    """Where the chunks of a file meet: start and end of every overlap in seconds.

    Args:
        input_rate: of what it was made from, Hz
        stride_seconds: from one chunk to the next; None to ask the file's own record

    Raises:
        UsageError: the file does not say how it was made
        ModelError: its model is not installed
    """
    with Reader(path) as reader:
        info = reader.info
    if stride_seconds is not None:
        count = int(info.num_samples / info.sample_rate / stride_seconds) + 1
        return [(k * stride_seconds, k * stride_seconds) for k in range(1, count)]
    plan = _plan_of(path, info, input_rate)
    ticks = plan.ticks_per_second
    count = plan.num_chunks(round(info.num_samples / info.sample_rate * input_rate))
    starts = [plan.core(k)[0] for k in range(1, count)]
    return [(start / ticks, (start + plan.overlap) / ticks) for start in starts]


def inspect_joins(
    original: Reader, extended: Reader, places: Sequence[tuple[float, float]]
) -> Joins:
    """Measure every join against the places where nothing is joined.

    Args:
        places: start and end of every join in seconds, in order
    """
    if original.info.num_channels != extended.info.num_channels:
        raise AudioError(
            f"both files must have the same channels, got {original.info.num_channels} and"
            f" {extended.info.num_channels}; inspect a channel at a time"
        )
    power, bend = _frames(original, extended)
    spans = [
        (round(start * FRAMES_PER_SECOND), round(stop * FRAMES_PER_SECOND))
        for start, stop in places
    ]
    spans = [(start, stop) for start, stop in spans if stop + 1 < len(power)]
    length = spans[0][1] - spans[0][0] + 1 if spans else 1
    measures = {"step": _steps(power), "bulge": _bulges(power, length), "spike": bend}
    joined = np.zeros(len(power), bool)
    for start, stop in spans:
        joined[max(0, start - length - BESIDE) : stop + length + BESIDE + 1] = True
    limits = {name: _limit(name, values, ~joined) for name, values in measures.items()}
    return Joins(
        joins=tuple(_join(start, stop, measures, limits) for start, stop in spans),
        limits=limits,
        level_db=10 * np.log10(np.maximum(power, 1e-20)),
        bend=bend,
    )


def draw_joins(
    joins: Joins, original: Reader, extended: Reader, crossover_hz: float, title: str = ""
) -> bytes:
    """Level and bend over time, and the joins that show most, close up; a PNG."""
    figure = new_figure(15, 10, title)
    worst = sorted(joins.joins, key=lambda join: -_strength(join, joins.limits))[:CLOSE_UPS]
    places = figure.add_gridspec(3 if worst else 2, max(1, len(worst)))
    level, bend = figure.add_subplot(places[0, :]), figure.add_subplot(places[1, :])
    _curve(level, joins.level_db, np.mean)
    top = float(joins.level_db.max())
    level.set_ylim(max(float(joins.level_db.min()), top - 70) - 3, top + 5)
    level.set_title("Level of what was added, 10 ms", loc="left", fontsize=12, color=INK)
    level.set_ylabel("dB re full scale")
    _curve(bend, joins.bend, np.max)
    bend.set_title(
        "Greatest second difference against its surroundings, 10 ms",
        loc="left", fontsize=12, color=INK,
    )  # fmt: skip
    bend.set(ylabel="times the rms", xlabel="Time, s")
    if np.isfinite(joins.limits["spike"]):
        bend.axhline(joins.limits["spike"], color=FLAG_INK, lw=1, ls="--", label="limit")
        legend(bend)
    for axes in (level, bend):
        for join in joins.joins:
            ink = FLAG_INK if join.found else JOIN_INK
            axes.axvspan(join.start, join.stop, color=ink, alpha=0.3, lw=0, zorder=0)
            axes.axvline(join.start, color=ink, lw=0.8, alpha=0.6, zorder=0)
        for join in joins.showing:
            axes.plot(
                join.start, 1, "v", color=FLAG_INK, ms=10, clip_on=False,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    for place, join in enumerate(sorted(worst, key=lambda join: join.start)):
        picture, start = _close_up(original, extended, join)
        _draw_close(figure.add_subplot(places[2, place]), join, picture, start, crossover_hz)
    return png_of(figure)


def _plan_of(path: Path, info: FileInfo, input_rate: int) -> ChunkPlan:
    """The chunks that a file was made of, by its record."""
    record = provenance_of(path)
    try:
        settings = settings_from((record or {})["settings"])
        cutoff_hz = float((record or {})["cutoff_hz"])
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise UsageError(
            f"{path} carries no record of how it was made, so its chunks are not known;"
            " give --stride in seconds"
        ) from error
    cutoff = Cutoff(cutoff_hz, 1.0, False, "recorded")
    decision = Decision(info.sample_rate, cutoff, True, False, (), 0.0, "")
    return plan_for(Engine("cpu").model(settings), input_rate, decision, settings)


def _frames(original: Reader, extended: Reader) -> tuple[Array, Array]:
    """Power of what was added, and how sharply it bends, [frames of 10 ms]."""
    hop = max(1, round(extended.info.sample_rate / FRAMES_PER_SECOND))
    powers, peaks, means = [], [], []
    last = np.zeros((extended.info.num_channels, 2))
    for x, y in side_by_side(original, extended, PIECE_FRAMES * hop):
        whole = x.shape[1] // hop * hop
        if whole < 2:
            continue
        added = (y - x)[:, :whole]
        bends = np.diff(np.concatenate([last, added], axis=1), 2) ** 2
        last = added[:, -2:]
        powers.append((added**2).reshape(len(added), -1, hop).mean(axis=(0, 2)))
        bends = bends.reshape(len(added), -1, hop)
        peaks.append(bends.max(axis=(0, 2)))
        means.append(bends.mean(axis=(0, 2)))
    if not powers:
        raise AudioError("joins are looked for in frames of 10 ms, and these sounds are shorter")
    power, peak, mean = (np.concatenate(parts) for parts in (powers, peaks, means))
    around = uniform_filter1d(mean, 2 * BESIDE + 1, mode="nearest")
    return power, np.sqrt(peak / np.maximum(around, TINY))


def _steps(power: Array) -> Array:
    """dB from the frames before each frame to those after it; NaN where there are too few."""
    return _against(power, 1, lambda before, here, after: (after, before))


def _bulges(power: Array, length: int) -> Array:
    """dB of `length` frames from each frame on, against as many on both sides."""
    return _against(power, length, lambda before, here, after: (here, (before + after) / 2))


def _against(power: Array, length: int, pair: Any) -> Array:
    beside = max(BESIDE, length)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    found = np.full(len(power), np.nan)
    first = np.arange(beside, len(power) - length - beside + 1)
    before = (sums[first] - sums[first - beside]) / beside
    here = (sums[first + length] - sums[first]) / length
    after = (sums[first + length + beside] - sums[first + length]) / beside
    upper, lower = pair(before, here, after)
    faint = FAINT * float(power.mean()) + TINY
    found[first] = 10 * np.log10((upper + faint) / (lower + faint))
    return found


def _limit(name: str, values: Array, elsewhere: NDArray[np.bool_]) -> float:
    others = np.abs(values[elsewhere & np.isfinite(values)])
    if len(others) < MIN_PLACES:
        return float("inf")
    return max(LEAST[name], BEYOND[name] * float(np.percentile(others, USUAL)))


def _join(
    start: int, stop: int, measures: Mapping[str, Array], limits: Mapping[str, float]
) -> Join:
    edges = measures["step"][[start, stop]]
    values = {
        "step": float(np.nan_to_num(np.abs(edges)).max()),
        "bulge": float(np.nan_to_num(np.abs(measures["bulge"][start]))),
        "spike": float(measures["spike"][max(0, start - 1) : stop + 2].max()),
    }
    return Join(
        start=start / FRAMES_PER_SECOND,
        stop=stop / FRAMES_PER_SECOND,
        found=tuple(name for name, value in values.items() if value > limits[name]),
        **values,
    )


def _strength(join: Join, limits: Mapping[str, float]) -> float:
    values = {"step": join.step, "bulge": join.bulge, "spike": join.spike}
    return max(value / limits[name] for name, value in values.items())


def _close_up(original: Reader, extended: Reader, join: Join) -> tuple[Spectrogram, float]:
    """What was added around a join, and where that begins; all there is, where rates differ."""
    rate, total = extended.info.sample_rate, extended.info.num_samples
    subtracts = original.info.sample_rate == rate and original.info.num_samples == total
    start = max(0, round((join.start - CLOSE_SECONDS) * rate))
    stop = min(total, round((join.stop + CLOSE_SECONDS) * rate))

    def read(place: int, count: int) -> Samples:
        here = start + place, start + place + count
        return extended.read(*here) - (original.read(*here) if subtracts else 0)

    return spectrogram(read, stop - start, rate, CLOSE_WINDOW_SECONDS), start / rate


def _draw_close(
    axes: Any, join: Join, picture: Spectrogram, start: float, crossover_hz: float
) -> None:
    high = float(picture.db[picture.hz >= crossover_hz].max())
    paint(axes, picture, picture.db, "magma_r", high - CLOSE_RANGE_DB, high)
    what = ", ".join(join.found) or "nothing found"
    label(axes, f"{join.start:.2f} s: {what}", picture.sample_rate / 2, picture.duration)
    axes.set_ylim(bottom=crossover_hz / 1000)
    axes.set_xlabel(f"Time from {start:.2f} s")
    for edge in (join.start, join.stop):
        axes.axvline(edge - start, color=FLAG_INK if join.found else JOIN_INK, lw=1, ls="--")


def _curve(axes: Any, values: Array, of: Any) -> None:
    """A curve over time; a long one by what `of` makes of neighbours."""
    group = -(-len(values) // MAX_POINTS)
    whole = len(values) // group * group
    shown = of(values[:whole].reshape(-1, group), axis=1)
    seconds = (np.arange(len(shown)) + 0.5) * group / FRAMES_PER_SECOND
    axes.plot(seconds, shown, color=ORIGINAL_INK, lw=0.7)
    axes.set_xlim(0, len(values) / FRAMES_PER_SECOND)
    axes.grid(color="#dee2e6", lw=0.6)
