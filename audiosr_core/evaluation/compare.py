"""Two files side by side: what changed below the crossover, and how far apart they are.

    a, the original ──(soxr VHQ, if its rate is another)──┐
                                                          ├── pieces of equal length ──▶ null, LSD
    b, the extended ──────────────────────────────────────┘

Both are read in pieces, so memory does not grow with duration. Nothing is aligned and no level is
matched before the null: a moved or louder file is what it should show. The null leaves out half a
filter's length at both ends (some 15 ms for a cutoff of 8 kHz), where a cut-off high band or a
resampler's first samples would count as a change of the low band. The LSD is the mean over
pieces of `PIECE_SECONDS`, so for a longer file a few frames in a thousand see a piece's edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError
from audiosr_core.evaluation.metrics import NullMeter, low_pass, lsd_apbwe_bands, lsd_ssr_bands
from audiosr_core.evaluation.plots import Spectrogram, draw, spectrogram
from audiosr_core.files import Reader
from audiosr_core.settings import KNOBS

Array = NDArray[np.float64]

BLOCK = 65_536
PIECE_SECONDS = 10.0
MIN_PIECE = 2_048  # shorter rests have no LSD frame of their own
EXCERPT_SECONDS = 10.0  # what the time offset is measured on
MIN_NULL_FILTERS = 4  # a shorter sound is nulled with its ends, see NullMeter
TRANSITION: float = KNOBS["transition"].default
UNKNOWN_EDGE = 0.9  # of the lower Nyquist frequency, when rates differ and no cutoff is given


@dataclass(frozen=True)
class FileFacts:
    """What one file is."""

    path: str
    sample_rate: int  # Hz
    num_samples: int
    num_channels: int
    peak_db: float  # dBFS; −inf for silence
    overs: int  # samples beyond full scale


@dataclass(frozen=True)
class Comparison:
    """File b against file a. dB values are −inf for a perfect null and NaN in silence."""

    a: FileFacts
    b: FileFacts
    cutoff_hz: float | None  # as given
    null_below_hz: float  # edge of the null test
    null_residual_db: float  # (b − a) relative to a, below that edge
    null_peak_db: float  # largest sample of it, dBFS
    level_difference_db: float  # b − a, same band
    lsd_ssr: float
    lsd_ssr_low: float  # up to the cutoff; NaN without one
    lsd_ssr_high: float
    lsd_apbwe: float
    offset_samples: int  # b later than a, at b's rate
    same_length: bool  # round(n · rate_b / rate_a) samples
    png: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: infinities and NaN become text, since JSON has none."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def compare_files(
    a: Path,
    b: Path,
    *,
    cutoff_hz: float | None = None,
    png: Path | None = None,
    transition: float = TRANSITION,
) -> Comparison:
    """Compare an extended file with its original; at any rates, equal channel counts.

    Args:
        a: the original
        b: the extended file
        cutoff_hz: where the original ends; without it the null is of the whole common band
        png: where to draw the four panels, or None
        transition: width of the crossover, as a fraction of the cutoff: the null is below it
    """
    with _opened(a) as first, _opened(b) as second:
        channels = (first.info.num_channels, second.info.num_channels)
        if channels[0] != channels[1]:
            raise AudioError(
                f"both files must have the same channels, got {channels[0]} in {a}"
                f" and {channels[1]} in {b}; compare a channel at a time"
            )
        rates = (first.info.sample_rate, second.info.sample_rate)
        below_hz = _null_edge(rates, cutoff_hz, transition)
        null, lsd = _measure(first, second, below_hz, cutoff_hz)
        residual_db = null.finish()
        offset = _offset(first, second, min(below_hz, 0.45 * min(rates)))
        if png is not None:
            pictures = [picture_of(f) for f in (first, second)]
            draw(pictures[0], pictures[1], cutoff_hz, png, title=f"{a.name}  →  {b.name}",
                 names=(a.name, b.name))  # fmt: skip
        facts = (_facts(a, first), _facts(b, second))
    expected = round(facts[0].num_samples * rates[1] / rates[0])
    return Comparison(
        a=facts[0],
        b=facts[1],
        cutoff_hz=cutoff_hz,
        null_below_hz=below_hz,
        null_residual_db=residual_db,
        null_peak_db=_db(null.peak),
        level_difference_db=null.level_difference_db,
        lsd_ssr=lsd.mean(0),
        lsd_ssr_low=lsd.mean(1) if cutoff_hz is not None else math.nan,
        lsd_ssr_high=lsd.mean(2) if cutoff_hz is not None else math.nan,
        lsd_apbwe=lsd.mean(3),
        offset_samples=offset,
        same_length=expected == facts[1].num_samples,
        png=None if png is None else str(png),
    )


class _Means:
    """Means of several columns, weighted, each over the rows that have it."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def add(self, weight: float, *values: float) -> None:
        self._rows.append((weight, *values))

    def mean(self, column: int) -> float:
        known = [(r[0], r[1 + column]) for r in self._rows if not math.isnan(r[1 + column])]
        return sum(w * v for w, v in known) / sum(w for w, _ in known) if known else math.nan


def _measure(
    first: Reader,
    second: Reader,
    below_hz: float,
    cutoff_hz: float | None,
) -> tuple[NullMeter, _Means]:
    rate, num_channels = second.info.sample_rate, second.info.num_channels
    null = NullMeter(rate, below_hz, num_channels, ends=False)
    if second.info.num_samples < MIN_NULL_FILTERS * null.num_taps:
        null = NullMeter(rate, below_hz, num_channels)
    lsd = _Means()
    for x, y in side_by_side(first, second, round(PIECE_SECONDS * rate)):
        null.push(x, y)
        if x.shape[1] >= MIN_PIECE:
            ssr = lsd_ssr_bands(x, y, rate, cutoff_hz or 0.0, skip_silent=True)
            apbwe = lsd_apbwe_bands(x, y, rate, cutoff_hz or 0.0)
            lsd.add(x.shape[1], ssr.full, ssr.low, ssr.high, apbwe.full)
    return null, lsd


def _null_edge(rates: tuple[int, int], cutoff_hz: float | None, transition: float) -> float:
    nyquist = min(rates) / 2
    if cutoff_hz is not None:
        return min((1 - transition) * cutoff_hz, nyquist)
    return nyquist if rates[0] == rates[1] else UNKNOWN_EDGE * nyquist


@contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    with Reader(path) as file:
        if file.info.num_samples == 0:
            raise AudioError(f"a sound is needed to compare, but {path} holds no samples")
        yield file


def side_by_side(first: Reader, second: Reader, size: int) -> Iterator[tuple[Array, Array]]:
    """Both sounds at the rate of the second, `size` samples at a time, until one ends."""
    blocks = _at_rate(first, second.info.sample_rate)
    return _together(blocks, second.blocks(BLOCK), size)


def _at_rate(file: Reader, rate: int) -> Iterator[Array]:
    """The same at another rate, by soxr VHQ in float64; the place of every sample is kept."""
    info = file.info
    if info.sample_rate == rate:
        yield from file.blocks(BLOCK)
        return
    stream = soxr.ResampleStream(
        info.sample_rate, rate, info.num_channels, dtype="float64", quality="VHQ"
    )
    for block in file.blocks(BLOCK):
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    yield stream.resample_chunk(np.zeros((0, info.num_channels)), last=True).T


def _together(
    first: Iterator[Array], second: Iterator[Array], size: int
) -> Iterator[tuple[Array, Array]]:
    """Pieces of equal length of both, until the shorter one ends."""
    queues: tuple[list[Array], list[Array]] = ([], [])
    while True:
        for queue, source in zip(queues, (first, second), strict=True):
            while sum(x.shape[1] for x in queue) < size and (x := next(source, None)) is not None:
                queue.append(x)
        if not queues[0] or not queues[1]:
            return
        x, y = (np.concatenate(queue, axis=1) for queue in queues)
        n = min(size, x.shape[1], y.shape[1])
        if n == 0:
            return
        yield x[:, :n], y[:, :n]
        if n < size:
            return
        queues[0][:] = [x[:, n:]]
        queues[1][:] = [y[:, n:]]


def _offset(first: Reader, second: Reader, edge_hz: float) -> int:
    """How many samples b lies later than a: the peak of the low bands' cross-correlation.

    Measured on the loudest 10 s of a; 0 when either is silent there, and 0 where it is as good.
    """
    rate = second.info.sample_rate
    start = _loudest(first, EXCERPT_SECONDS)
    x = _excerpt(first, start)
    if first.info.sample_rate != rate:
        x = soxr.resample(x.T, first.info.sample_rate, rate, quality="VHQ").T
    y = _excerpt(second, start)
    n = min(x.shape[1], y.shape[1])
    if n == 0:
        return 0
    x, y = (low_pass(z[:, :n], rate, edge_hz).mean(axis=0) for z in (x, y))
    correlation = np.abs(signal.correlate(y, x, mode="full", method="fft"))
    best = int(correlation.argmax())
    if correlation[best] == 0 or correlation[n - 1] >= correlation[best] * (1 - 1e-9):
        return 0
    return best - int(n) + 1


def _loudest(file: Reader, seconds: float) -> float:
    """Where the loudest stretch of this length starts, in seconds."""
    energies = [float(np.sum(block**2)) for block in file.blocks(BLOCK)]
    span = min(len(energies), math.ceil(seconds * file.info.sample_rate / BLOCK))
    sums = np.convolve(energies, np.ones(span), mode="valid")
    return int(sums.argmax()) * BLOCK / file.info.sample_rate


def _excerpt(file: Reader, start_seconds: float) -> Array:
    return _read(
        file,
        round(start_seconds * file.info.sample_rate),
        round(EXCERPT_SECONDS * file.info.sample_rate),
    )


def picture_of(file: Reader) -> Spectrogram:
    """The whole sound as a spectrogram."""

    def read(start: int, count: int) -> Samples:
        return _read(file, start, count)

    return spectrogram(read, file.info.num_samples, file.info.sample_rate)


def _facts(path: Path, file: Reader) -> FileFacts:
    peak, overs, count = 0.0, 0, 0
    for block in file.blocks(BLOCK):
        size = np.abs(block)
        peak = max(peak, float(size.max()))
        overs += int(np.count_nonzero(size > 1.0))
        count += block.shape[1]
    return FileFacts(
        str(path), file.info.sample_rate, count, file.info.num_channels, _db(peak), overs
    )


def _read(file: Reader, start: int, count: int) -> Array:
    """Samples from `start`, as many as there are up to `count`."""
    end = file.info.num_samples
    return file.read(min(start, end), min(start + count, end))


def _db(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
