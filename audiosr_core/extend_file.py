"""The door for files: read, walk, write; from disk to disk, never the whole file at once.

    source ── first pass ── Decision                       nothing is written yet
       └───── second pass ── Stream ── Writer ── rename    or nothing is left behind

A sound that needs nothing is copied byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiosr_core import __version__
from audiosr_core.audio import Samples
from audiosr_core.decision import Decision
from audiosr_core.engine import Engine, EngineLike
from audiosr_core.errors import RegionError, UsageError
from audiosr_core.extend_published import extend_as_published
from audiosr_core.files import (
    FileInfo,
    Reader,
    Writer,
    check_folder,
    check_target,
    copy_file,
    output_format,
    probe,
)
from audiosr_core.report import Report, provenance
from audiosr_core.resample import output_length
from audiosr_core.settings import Settings, keep_rate
from audiosr_core.splice import crossover_hz

BLOCK_SECONDS = 2
FIRST_PASS = 0.1  # its share of the progress
LOSSY_SUFFIX = ".wav"
FAINT = 2.0**-24  # half a step of 24 bits: the tails of filters are no reason to dither silence


def default_target(source: Path, folder: Path | None = None, word: str = "extended") -> Path:
    """`song.wav` → `song.extended.wav`, or another word; into another folder → `song.wav`."""
    suffix = LOSSY_SUFFIX if probe(source).lossy else source.suffix
    if folder is None:
        return source.with_name(f"{source.stem}.{word}{suffix}")
    return folder / f"{source.stem}{suffix}"


def extend_file(
    source: Path,
    target: Path | None,
    settings: Settings,
    *,
    region: tuple[float, float] | None = None,
    overwrite: bool = False,
    in_place: bool = False,
    dry_run: bool = False,
    delta: bool = False,
    on_progress: Callable[[float], None] = lambda fraction: None,
    engine: EngineLike | None = None,
) -> Report:
    """Extend one file.

    Args:
        target: None for the default name beside the source, or the source itself with `in_place`
        region: seconds start, end; every sample outside stays bit-equal, so the rate is kept
        in_place: replace the source, keeping a backup
        delta: write only what is added, which with the original makes the extended file
        on_progress: told the fraction done; raise from it to cancel
        engine: where to compute; None for this process and the default device

    Raises:
        AudioSRError: see `errors`; nothing is left half written
    """
    began = time.monotonic()
    engine = engine or Engine()
    if delta and in_place:
        raise UsageError("a delta replaces no original; leave out one of the two")
    word = "delta" if delta else "extended"
    if settings.mode == "reference":
        if delta:
            raise UsageError("reference mode has no delta, for it keeps nothing of the original")
        if region is not None:
            raise RegionError("reference mode takes a whole file; leave the region out")
        return extend_as_published(
            engine,
            source,
            target or (source if in_place else default_target(source)),
            settings,
            overwrite=overwrite,
            in_place=in_place,
            dry_run=dry_run,
            on_progress=on_progress,
        )
    if region is not None:
        settings = keep_rate(settings)
    with Reader(source) as reader:
        info = reader.info
        goal = target or (source if in_place else default_target(source, word=word))
        span = _region_samples(region, info)
        check_target(goal, source, overwrite, in_place)  # before the work, and in a dry run too
        check_folder(goal, dry_run)
        _, sample_format, _ = output_format(info, goal)

        share = 0.0  # of the first pass

        def analysed(fraction: float) -> None:
            nonlocal share
            share = fraction
            on_progress(FIRST_PASS * fraction)

        with engine.on_file(info, span, dry_run, analysed) as here:
            decision = here.analyse(
                watched(reader, analysed),
                reader.read,
                info.sample_rate,
                info.num_channels,
                settings,
                lambda: analysed(share),
            )
            model_sha256 = here.model_sha256(settings)
            total = output_length(info.num_samples, info.sample_rate, decision.rate_out)
            record = record_of(settings, model_sha256, decision)
            if delta:
                record["delta"] = True
            outcome = _Outcome()
            if not dry_run:
                same = same_format(info, goal, decision.rate_out)
                if not delta and not decision.extends and same:
                    copy_file(source, goal, overwrite, in_place)
                else:
                    outcome = _render(
                        here, reader, goal, settings, decision, span, total, record,
                        overwrite, in_place, delta, on_progress,
                    )  # fmt: skip
    on_progress(1.0)
    elapsed = time.monotonic() - began
    duration = info.num_samples / info.sample_rate
    return Report(
        input=str(source),
        output=str(goal),
        sample_rate=decision.rate_out,
        num_samples=total,
        num_channels=info.num_channels,
        cutoff_hz=round(decision.cutoff.hz, 1),
        cutoff_confidence=round(decision.cutoff.confidence, 3),
        full_band=decision.full_band,
        model=settings.model,
        seed=settings.seed,
        overs=outcome.overs,
        seconds=round(elapsed, 3),
        real_time_factor=round(elapsed / duration, 4) if duration else 0.0,
        extended=decision.extends,
        crossover_hz=round(crossover_hz(decision.cutoff.hz, settings.transition), 1),
        gain_law_db=round(decision.gain_db, 2),
        input_sample_rate=info.sample_rate,
        input_num_samples=info.num_samples,
        note=decision.remark,
        notes=outcome.notes,
        backup=str(outcome.backup) if outcome.backup else None,
        region=span,
        model_sha256=model_sha256,
        settings=settings.as_dict(),
        sample_format=sample_format,
        dry_run=dry_run,
        engine=engine.name,
        delta=delta,
    )


@dataclass(frozen=True)
class _Outcome:
    overs: int = 0
    notes: list[str] = field(default_factory=list)
    backup: Path | None = None


def _render(
    engine: EngineLike,
    reader: Reader,
    goal: Path,
    settings: Settings,
    decision: Decision,
    span: tuple[int, int] | None,
    total: int,
    record: Mapping[str, Any],
    overwrite: bool,
    in_place: bool,
    delta: bool,
    on_progress: Callable[[float], None],
) -> _Outcome:
    info = reader.info
    done = 0

    def tell() -> None:
        on_progress(FIRST_PASS + (1 - FIRST_PASS) * min(1.0, done / max(total, 1)))

    stream = engine.open(info.sample_rate, info.num_channels, settings, decision, span, tell)
    with Writer(
        goal,
        info,
        sample_rate=decision.rate_out,
        overwrite=overwrite,
        in_place=in_place,
        provenance=record,
        coding_history=coding_history(settings, decision, delta),
        dither_seed=settings.seed,
    ) as writer:
        dithers_all = decision.rate_out != info.sample_rate and not delta

        def write(parts: Iterator[tuple[Samples, Samples]]) -> None:
            nonlocal done
            for original, high in parts:
                samples = high if delta else sum_of(original, high)
                made = samples if dithers_all else high
                writer.write(samples, is_heard(made))
                done += original.shape[1]
                tell()

        for block in reader.blocks(BLOCK_SECONDS * info.sample_rate):
            write(stream.push_split(block))
        write(stream.flush_split())
        writer.commit()
        return _Outcome(writer.overs, list(writer.notes), writer.backup)


def sum_of(original: Samples, high: Samples) -> Samples:
    """The extended sound; where nothing is added, the original to the bit (−0.0 included)."""
    return np.where(high != 0, original + high, original)


def is_heard(made: Samples) -> NDArray[np.bool_]:
    """Where something new has a fraction of a step, which integers want dithered."""
    return np.abs(made) > FAINT


def coding_history(settings: Settings, decision: Decision, delta: bool = False) -> str:
    """The line that a `bext` chunk is given: what was added, and by what."""
    what = "only the high band" if delta else "high band"
    return history_line(
        decision.rate_out, f"{what} above {decision.cutoff.hz:.0f} Hz generated by {settings.model}"
    )


def history_line(sample_rate: int, what: str) -> str:
    """The line that a `bext` chunk is given, of whatever was done."""
    return f"A=PCM,F={sample_rate},T=audiosr-bridge {__version__}; {what}"


def watched(reader: Reader, tell: Callable[[float], None]) -> Iterator[NDArray[np.float64]]:
    """The whole sound in blocks; `tell` hears the fraction after each of them."""
    info, done = reader.info, 0
    for block in reader.blocks(BLOCK_SECONDS * info.sample_rate):
        yield block
        done += block.shape[1]
        tell(done / max(info.num_samples, 1))


def record_of(settings: Settings, model_sha256: str, decision: Decision) -> dict[str, Any]:
    """What the file is told about how it was extended."""
    return {
        **provenance(settings, model_sha256, decision.cutoff.hz),
        "gain_law_db": round(decision.gain_db, 3),
    }


def same_format(info: FileInfo, goal: Path, rate_out: int) -> bool:
    """The output would be the input again: same container, same rate."""
    same_kind = goal.suffix.lower() == info.path.suffix.lower()
    return same_kind and not info.lossy and rate_out == info.sample_rate


def _region_samples(region: tuple[float, float] | None, info: FileInfo) -> tuple[int, int] | None:
    if region is None:
        return None
    start, stop = (round(seconds * info.sample_rate) for seconds in region)
    if not 0 <= start < stop or start >= info.num_samples:
        duration = info.num_samples / info.sample_rate
        raise RegionError(
            f"a region must lie inside the sound, 0 to {duration:.3f} s, and end after it starts;"
            f" got {region[0]:g} to {region[1]:g} s"
        )
    return start, min(stop, info.num_samples)
