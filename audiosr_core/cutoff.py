"""Where the original ends: the spectral edge of a sound.

    level   ______                     trend: a line over log frequency
            content\\____ slope
                        \\
                         |  edge: falls away from the trend
                         |
                          \\_______________  floor: dither, codec, stopband
    ------------------------------------------------> log frequency
                      hz

Two steps. A scan asks, for every frequency, how far the level just below it stands over *all*
that comes above: content never returns after the edge. Then one model, trend · low-pass + floor,
is fitted around the best place; its corner (−3 dB) is the cutoff, and its depth and steepness say
whether it is an edge at all or the natural slope of the sound. docs/cutoff.md has the measured
errors.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy  # its parts are loaded when first used: a client needs none of them
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from audiosr_core.spectrum import LOW_ONLY_HZ, LongTermSpectrum, SpectrumMeter

FULL_BAND_HZ = 19_800.0  # 20 kHz less the detector's own spread: nothing audible is missing
FULL_BAND_FRACTION = 0.9  # of Nyquist: the pass band of common anti-alias filters
TOP_HZ = 24_000.0  # nothing above is looked at: the converter's noise lives there
LOWEST_HZ = 700.0  # no edge is looked for below
FLOOR_DB = -84.0  # sounds whose loud frames stay below are dither (16 bits: −93 dBFS)
POINTS_PER_OCTAVE = 96
RANGE_DB = 115.0  # below the strongest bin, its own side lobes (−118 dB) are seen
MEDIAN_HZ = 150.0  # single lines, pilot tones too, are no content
NATURAL_DB_PER_OCTAVE = 12.0  # what a scan allows the sound itself to fall
KNEE_DB = 20.0  # how far down the corner is fitted
TREND_LIMIT = 18.0  # dB per octave: what falls faster is a skirt
BAND_END_DB = 12.0  # this far under the last half octave, the band has ended
DB = 10.0 / np.log(10.0)
DOUBT = 0.35  # an edge of less confidence is looked at again
DOUBT_HZ = 3_000.0  # and below this it is dropped, unless the floor bears it out
DOUBT_DEPTH_DB = 55.0  # an edge that low falls deeper, where a filter made it
CLIFF_DB = 30.0  # more than a natural slope falls in a third of an octave
CLIFF_SIZE = 8192
SHARES = (0.15, 0.02)  # of the active frames: what counts as content, and what is rare
# log-odds per feature, fitted by tests/bench/cutoff_report.py --fit
EVIDENCE_NEEDED = -0.3  # below 0: a lost job is as bad as a false edge of low confidence
EVIDENCE = (0.75, 1.2, 2.0, 0.09, 0.5, 0.47, -0.9, -1.09, -0.11)
CONFIDENCE = (-0.42, 1.14, 0.38, -0.24, -0.26, -0.39)

T = TypeVar("T")
Slices = Generator[None, None, T]
"""A search that stops every few milliseconds, for those who cannot wait for all of it at once."""


@dataclass(frozen=True)
class Cutoff:
    """A decision: the original is kept up to `hz`."""

    hz: float  # the edge; the Nyquist frequency where there is none
    confidence: float  # 0..1, calibrated in docs/cutoff.md
    full_band: bool  # nothing is missing: there is nothing to extend
    note: str  # one clause for a person


@dataclass(frozen=True)
class Edge:
    """The fitted model around one candidate."""

    hz: float  # the corner as its designer would name it
    slope: float  # of the low-pass alone, dB per octave
    trend: float  # of the content below, dB per octave
    depth_db: float  # from the content at the edge down to the floor
    score_db: float  # of the scan: fall beyond a natural slope
    residual_db: float  # mean absolute misfit


def cutoff_of(samples: Samples, sample_rate: int) -> Cutoff:
    """The cutoff of a whole sound, [channels, samples]."""
    meter = SpectrumMeter(sample_rate, samples.shape[0])
    meter.push(samples)
    return find_cutoff(meter.spectrum())


def find_cutoff(spectrum: LongTermSpectrum) -> Cutoff:
    """Decide where the original ends; also for the spectrum of a few seconds."""
    return _at_once(search_cutoff(spectrum))


def search_cutoff(spectrum: LongTermSpectrum) -> Slices[Cutoff]:
    """`find_cutoff` in slices."""
    nyquist = spectrum.sample_rate / 2
    if spectrum.silent:
        return Cutoff(nyquist, 0.0, True, "silence")
    if spectrum.loud_db < FLOOR_DB:
        return Cutoff(nyquist, 0.0, True, "nothing above the floor")
    if spectrum.low_only.all():
        return Cutoff(nyquist, 0.0, True, f"nothing above {LOW_ONLY_HZ:g} Hz")
    found = []
    for share in SHARES:
        edge = yield from _search_edge(spectrum, share)
        if edge is not None:
            found.append(edge)
    best = max(found, key=evidence, default=None)
    if best is None or evidence(best) <= EVIDENCE_NEEDED:
        doubt = _probability(evidence(best)) if best else 0.0
        end = _band_end(spectrum)
        whole = end >= FULL_BAND_FRACTION * min(nyquist, TOP_HZ)
        note = "full band" if whole else "no edge: the sound fades by itself"
        return Cutoff(end, 1.0 - doubt, True, note)
    features = confidence_features(best, found, evidence(best))
    confidence = _probability(float(np.dot(CONFIDENCE, features)))
    if best.hz < DOUBT_HZ and best.depth_db < DOUBT_DEPTH_DB:
        confidence = min(confidence, DOUBT - 0.05)  # what lies above is no floor: it is sound
    full_band = best.hz >= min(FULL_BAND_FRACTION * nyquist, FULL_BAND_HZ)
    note = "full band" if full_band else f"falls {best.depth_db:.0f} dB at {best.hz:.0f} Hz"
    return Cutoff(best.hz, confidence, full_band, note)


def second_look(found: Cutoff, pieces: Iterable[Samples], sample_rate: int) -> Cutoff:
    """Where the content said little, ask the noise floor: a filter cuts that off, too.

    A sound without highs of its own gives the detector nothing to hold on to. But a recording has
    a floor, and where a filter or a resampler worked on it in more than 16 bits, this floor ends in
    a cliff. A doubtful edge far down without such a cliff is taken for the sound's own slope.

    Args:
        found: by `find_cutoff`
        pieces: a few seconds from here and there of the same sound, [channels, samples]
    """
    doubtful = found.confidence < DOUBT and not found.full_band
    if not (doubtful or (found.full_band and found.confidence > 0.0)):
        return found
    cliff = _cliff(pieces, sample_rate)
    nyquist = sample_rate / 2
    if cliff is not None and cliff < min(FULL_BAND_FRACTION * nyquist, FULL_BAND_HZ):
        if found.full_band or cliff > found.hz:
            return Cutoff(cliff, 0.7, False, f"the noise floor ends at {cliff:.0f} Hz")
    elif doubtful and found.hz < min(DOUBT_HZ, 0.8 * nyquist):
        return Cutoff(nyquist, 0.5, True, "no clear edge: the sound fades by itself")
    return found


def _cliff(pieces: Iterable[Samples], sample_rate: int) -> float | None:
    """The end of the floor, Hz, where it falls off by CLIFF_DB at once and for good."""
    levels = []
    for piece in pieces:
        for x in np.asarray(piece, dtype=np.float64):
            steep = np.diff(x, 2)  # takes the strong lows away, whose side lobes hide the floor
            if len(steep) >= CLIFF_SIZE and steep.any():
                _, _, frames = scipy.signal.spectrogram(
                    steep, sample_rate, ("kaiser", 24.0), CLIFF_SIZE, CLIFF_SIZE // 2
                )
                heard = frames[:, frames.sum(axis=0) > 0]
                levels.append(10 * np.log10(np.median(heard, axis=1) + 1e-40))
    if not levels:
        return None
    f = np.fft.rfftfreq(CLIFF_SIZE, 1 / sample_rate)
    level = np.mean(levels, axis=0)
    level[1:] -= 40 * np.log10(2 * np.sin(np.pi * f[1:] / sample_rate))
    level = scipy.ndimage.median_filter(level, 2 * int(MEDIAN_HZ / f[1] / 2) + 1, mode="nearest")
    rest = np.maximum.accumulate(level[::-1])[::-1]
    places = np.flatnonzero((f >= LOWEST_HZ) & (f <= min(TOP_HZ, f[-1]) / 1.3))
    fall = np.array(
        [level[int(0.8 * i) : int(0.95 * i)].min() - rest[int(1.25 * i)] for i in places]
    )
    deep = np.flatnonzero(fall >= CLIFF_DB)
    if not len(deep):
        return None
    first = places[deep[0]]  # what else falls above is what the filter left over
    near = (places >= first) & (places <= 1.3 * first)
    place = int(places[near][np.argmax(fall[near])])
    usual = float(np.median(level[int(0.7 * place) : int(0.95 * place)]))
    inside = np.flatnonzero(level[: int(1.25 * place)] >= usual - 4.0)
    return float(f[inside[-1]])


def evidence(edge: Edge) -> float:
    """Log-odds that this is where a filter or codec ended the sound, not the sound itself.

    A logistic regression over filtered and untouched recordings (tests/bench/cutoff_report.py).
    """
    return float(np.dot(EVIDENCE, evidence_features(edge)))


def evidence_features(edge: Edge) -> NDArray[np.float64]:
    """What `evidence` weighs, [9]."""
    depth, score = min(edge.depth_db, 50.0), min(edge.score_db, 50.0)
    return np.array(
        [
            1.0,
            _steepness(edge),
            min(depth - 20.0, 0.0) / 10.0,
            max(depth - 20.0, 0.0) / 10.0,
            (score - 20.0) / 10.0,
            min(score - 10.0, 0.0) / 10.0,
            edge.residual_db,
            max(-edge.trend, 0.0) / 10.0,
            max(edge.trend, 0.0) / 10.0,
        ]
    )


def confidence_features(best: Edge, found: list[Edge], log_odds: float) -> NDArray[np.float64]:
    """What the confidence weighs, [6]; edges that disagree between shares are doubtful."""
    octaves = abs(np.log2(found[0].hz / found[-1].hz)) if len(found) == len(SHARES) else 0.5
    return np.array(
        [
            1.0,
            log_odds,
            _steepness(best),
            10.0 * min(octaves, 0.5),
            best.residual_db,
            min(best.depth_db, 50.0) / 10.0,
        ]
    )


def _steepness(edge: Edge) -> float:
    """Octaves of slope over 50 dB per octave, held between 6 and 500."""
    return float(np.log2(np.clip(edge.slope, 6.0, 500.0) / 50.0))


def _probability(log_odds: float) -> float:
    return float(scipy.special.expit(log_odds))


def _band_end(spectrum: LongTermSpectrum) -> float:
    """Where a sound without an edge ends, Hz: its anti-alias filter, or the Nyquist frequency."""
    octave, level = _log_levels(spectrum, SHARES[0])
    top = octave[-1]
    usual = float(np.median(level[(octave > top - 0.5) & (octave < top - 0.15)]))
    last = int(np.flatnonzero(level >= usual - BAND_END_DB)[-1])
    return spectrum.sample_rate / 2 if last >= len(level) - 2 else float(2.0 ** octave[last])


def find_edge(spectrum: LongTermSpectrum, share: float) -> Edge | None:
    """The best edge in the levels that this share of the active frames reaches."""
    return _at_once(_search_edge(spectrum, share))


def _search_edge(spectrum: LongTermSpectrum, share: float) -> Slices[Edge | None]:
    octave, level = _log_levels(spectrum, share)
    yield
    place, score = _scan(octave, level)
    return (yield from _fit(octave, level, place, score))


def _at_once(search: Slices[T]) -> T:
    while True:
        try:
            next(search)
        except StopIteration as done:
            found: T = done.value
            return found


def _log_levels(
    spectrum: LongTermSpectrum, share: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levels without single lines on a log grid: octaves over 1 Hz, and dB, [points]."""
    f = spectrum.frequencies
    width = 2 * int(MEDIAN_HZ / f[1] / 2) + 1
    level = spectrum.level_db(share)
    level = np.maximum(level, level.max() - RANGE_DB)
    level = scipy.ndimage.median_filter(level, width, mode="nearest")
    top = min(TOP_HZ, spectrum.sample_rate / 2)
    num = int(np.log2(top / 250.0) * POINTS_PER_OCTAVE)
    octave = np.log2(top) - np.arange(num)[::-1] / POINTS_PER_OCTAVE
    # each point is the mean over its own width, so no bin is lost at high frequencies
    total = np.concatenate([[0.0], np.cumsum(level)])
    edges = np.exp2(np.append(octave - 0.5 / POINTS_PER_OCTAVE, octave[-1]))
    at = np.interp(edges / f[1] + 0.5, np.arange(len(total)), total)
    span = np.maximum(np.diff(edges) / f[1], 1e-9)
    return octave, np.diff(at) / span


def _scan(octave: NDArray[np.float64], level: NDArray[np.float64]) -> tuple[float, float]:
    """The place (octaves) with the greatest fall beyond a natural slope, and that fall in dB."""
    p = POINTS_PER_OCTAVE
    num = len(level)
    smooth = scipy.ndimage.uniform_filter1d(level, p // 12, mode="nearest")
    above = np.maximum.accumulate(smooth[::-1])[::-1]  # the most that ever comes at or above
    total = np.concatenate([[0.0], np.cumsum(level)])
    first = max(int((np.log2(LOWEST_HZ) - octave[0]) * p), p // 2)
    best = (float(octave[-1]), 0.0)
    for width in (1 / 24, 1 / 12, 1 / 6, 1 / 3, 2 / 3, 1.0):
        step = int(width * p) + p // 24
        i = np.arange(first, num - step)
        if not len(i):
            continue
        below = (total[i] - total[i - p // 4]) / (p // 4)
        natural = NATURAL_DB_PER_OCTAVE * (width + 1 / 6)
        score = below - above[i + step] - natural
        k = int(np.argmax(score))
        if score[k] > best[1]:
            best = (float(octave[i[k]] + width / 3), float(score[k]))
    return best


def _fit(
    octave: NDArray[np.float64], level: NDArray[np.float64], place: float, score: float
) -> Slices[Edge | None]:
    """Fit trend · low-pass + floor around a place; None where there is nothing to fit.

    First over the whole skirt, which finds the filter; then only over its first KNEE_DB, which
    finds the corner: skirts of filters differ, and far down they would pull it along.
    """
    if score <= 0.0:
        return None
    floor = float(np.percentile(level[octave >= place], 20))
    best, depth = None, 0.0
    for knee in (np.inf, KNEE_DB, KNEE_DB):
        near = (octave > place - 1.5) & (octave < place + 0.8)
        x, y = octave[near] - place, level[near]
        if (x > 0.0).sum() < 3 or (x < 0.0).sum() < POINTS_PER_OCTAVE // 3:
            return None
        if best is None:
            below = float(np.median(y[x < 0.0]))
            starts = [[below, -6.0, 0.0, np.log(order), floor] for order in (4.0, 60.0)]
        else:
            a, b, x0, log_order, floor = best
            corner = a + b * x0
            if not depth:
                depth = max(corner - max(floor, float(np.min(y[x > -0.1]))), 0.1)
            floor = max(floor, corner - knee)
            y = np.maximum(y, corner - knee)
            starts = [[corner, b, 0.0, log_order + more, floor] for more in (0.0, 1.5)]
        best = yield from _least_squares(x, y, starts)
        place += best[2]
    assert best is not None
    _, b, x0, log_order, _ = best
    order = float(np.exp(log_order))
    near = np.abs(x - x0) < 0.5
    return Edge(
        hz=float(2.0**place) * _corner(order),
        slope=6.02 * order,
        trend=b,
        depth_db=depth,
        score_db=score,
        residual_db=float(np.mean(np.abs(_model(np.array(best), x) - y)[near])),
    )


def _corner(order: float) -> float:
    """From the −3 dB point of a skirt to the frequency its designer named, as a ratio.

    That is −3 dB for a gentle filter (Butterworth) and the end of a flat pass band for a steep one
    (Chebyshev, elliptic, resamplers), taken as −0.5 dB.
    """
    steep = float(np.clip(np.log(order / 9.0) / np.log(14.0 / 9.0), 0.0, 1.0))
    drop_db = 3.01 - 2.51 * steep
    return float((10.0 ** (drop_db / 10.0) - 1.0) ** (0.5 / order))


def _model(p: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level, dB, at x octaves: a line, a Butterworth-like corner, a floor added in power."""
    a, b, x0, log_order, floor = p
    fall = np.logaddexp(0.0, 2.0 * np.exp(log_order) * np.log(2.0) * (x - x0)) * DB
    return np.asarray(np.logaddexp((a + b * x - fall) / DB, floor / DB) * DB)


def _jacobian(p: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The model's derivatives, [points, parameters]."""
    a, b, x0, log_order, floor = p
    rate = 2.0 * np.exp(log_order) * np.log(2.0)
    t = rate * (x - x0)
    s = scipy.special.expit(t)
    content = scipy.special.expit((a + b * x - np.logaddexp(0.0, t) * DB - floor) / DB)
    ds = content * DB * s
    return np.stack([content, content * x, ds * rate, -ds * t, 1.0 - content], axis=1)


def _least_squares(
    x: NDArray[np.float64], y: NDArray[np.float64], starts: list[list[float]]
) -> Slices[list[float]]:
    """The model's parameters that fit y best, from any of these starts."""
    weight = np.where(x < -0.75, 0.4, 1.0)
    lower = [-250.0, -TREND_LIMIT, -0.7, 0.0, -260.0]
    upper = [100.0, 12.0, 0.7, np.log(1500.0), 60.0]
    usual = np.array([[0.0, 1 / 3, 0.0, 0.0, 0.0]])

    def misfit(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append((_model(p, x) - y) * weight, (p[1] + 6.0) / 3.0)  # −6 dB/octave is usual

    def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([_jacobian(p, x) * weight[:, None], usual])

    best, cost = starts[0], np.inf
    for start in starts:
        fit = scipy.optimize.least_squares(
            misfit,
            np.clip(start, lower, upper),
            jac=jacobian,
            bounds=(lower, upper),
            loss="soft_l1",
            f_scale=2.0,
            max_nfev=30,
        )
        if fit.cost < cost:
            best, cost = [float(v) for v in fit.x], float(fit.cost)
        yield
    return best
