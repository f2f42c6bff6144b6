"""Listen before committing: a few seconds in several ways, or a whole sound against itself.

    audition   whole sound ── analyse ── Decision ── only the chunks of the excerpt ── a file a way
    ab         original ─┬───────────────────────── A     as loud as each other, so that
                         └─ extended ── gain ────── B     the louder one is not the better one

An excerpt is the same place of the whole render, bit for bit.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from audiosr_core.containers.temporary import translated, write_whole
from audiosr_core.decision import Decision
from audiosr_core.engine import EngineLike, Parts
from audiosr_core.errors import FileError, RegionError
from audiosr_core.evaluation.compare import picture_of
from audiosr_core.extend_file import (
    BLOCK_SECONDS,
    FIRST_PASS,
    coding_history,
    default_target,
    is_heard,
    record_of,
    sum_of,
    watched,
)
from audiosr_core.files import Reader, Writer, check_target, probe
from audiosr_core.resample import output_length
from audiosr_core.settings import Settings
from plugin_host.loudness import LoudnessMeter
from plugin_host.pictures import grid
from plugin_host.place import Place, Where

CEILING = 10 ** (-0.01 / 20)  # leaves room for dither below full scale
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Take:
    """One way to extend the excerpt."""

    name: str  # seed-2, speech, speech.seed-2
    output: str
    cutoff_hz: float
    extended: bool
    overs: int
    seconds: float  # the work took
    note: str


@dataclass(frozen=True)
class Audition:
    """An excerpt, untouched and in several ways."""

    input: str
    start: float  # s
    stop: float
    original: str
    takes: tuple[Take, ...]
    png: str | None


@dataclass(frozen=True)
class Pair:
    """Two files of equal loudness."""

    input: str
    original: str
    extended: str
    lufs: tuple[float, float]  # integrated, before the gains: original, extended
    gains_db: tuple[float, float]
    note: str
    key: str | None  # of a blind pair, which says what the rest of this says


def ways(presets: Mapping[str, Settings], seeds: Sequence[int]) -> dict[str, Settings]:
    """Every preset with every seed, by the name that its file will have.

    Args:
        presets: one without a name is called after its seed alone
        seeds: none for the presets' own
    """
    return {
        ".".join(filter(None, [name, f"seed-{seed}" if seeds or not name else ""])): (
            settings.replace(seed=seed)
        )
        for name, settings in presets.items()
        for seed in (seeds or [settings.seed])
    }


def audition(
    source: Path,
    ways: Mapping[str, Settings],
    *,
    at_seconds: float,
    seconds: float = 6.0,
    folder: Path | None = None,
    png: Path | None = None,
    overwrite: bool = False,
    on_progress: Progress = lambda fraction: None,
    place: Place | None = None,
) -> Audition:
    """A few seconds around a point, untouched and in each of these ways.

    Args:
        ways: settings by name; see `ways`
        folder: where the files go; None for beside the source
        png: where all spectrograms are drawn side by side, or None
        place: where to compute; None for this process
    """
    info = probe(source)
    span = _around(at_seconds, seconds, info.num_samples, info.sample_rate)
    targets = {name: _beside(source, folder, f"audition.{name}") for name in ["original", *ways]}
    for target in [*targets.values(), *([png] if png else [])]:
        check_target(target, source, overwrite, False)
    _excerpt(source, span, targets["original"], overwrite)
    takes: list[Take] = []
    with contextlib.ExitStack() as stack:
        where = place or stack.enter_context(Place(Where(daemon=False), "audition"))
        for name, settings in ways.items():

            def tell(fraction: float) -> None:
                on_progress((len(takes) + fraction) / len(ways))

            def take(engine: EngineLike, name: str = name, settings: Settings = settings) -> Take:
                return _take(source, span, name, settings, targets[name], overwrite, tell, engine)

            takes.append(where.attempt(take))
    if png is not None:
        cutoffs = {take.cutoff_hz for take in takes}
        cutoff_hz = cutoffs.pop() if len(cutoffs) == 1 else None
        start, stop = (n / info.sample_rate for n in span)
        title = f"{source.name}, {start:.2f} to {stop:.2f} s"
        _draw(targets, cutoff_hz, title, png, overwrite)
    return Audition(
        input=str(source),
        start=span[0] / info.sample_rate,
        stop=span[1] / info.sample_rate,
        original=str(targets["original"]),
        takes=tuple(takes),
        png=None if png is None else str(png),
    )


def ab(
    source: Path,
    settings: Settings,
    *,
    folder: Path | None = None,
    blind: bool = False,
    overwrite: bool = False,
    on_progress: Progress = lambda fraction: None,
    place: Place | None = None,
) -> Pair:
    """The original and the extended sound in two files of equal loudness, neither over full scale.

    Args:
        blind: call them X and Y, in an order that only a key file knows
        place: where to compute; None for this process
    """
    names = ["A", "B"]
    if blind:
        names = secrets.SystemRandom().sample(["X", "Y"], 2)
    original, extended = (_beside(source, folder, name) for name in names)
    if blind and probe(source).container == "FLAC":  # whose size would tell which is which
        original, extended = (path.with_suffix(".wav") for path in (original, extended))
    key = original.with_name(f"{source.stem}.key") if blind else None
    for target in filter(None, (original, extended, key)):
        check_target(target, source, overwrite, False)
    with contextlib.ExitStack() as stack:
        where = place or stack.enter_context(Place(Where(daemon=False), "ab"))
        return where.attempt(
            lambda engine: _pair(
                source, settings, (original, extended), key, overwrite, on_progress, engine
            )
        )


def open_key(path: Path) -> dict[str, Any]:
    """What a blind pair's key says."""
    try:
        with translated(path, "read"):
            said = json.loads(base64.b64decode(path.read_bytes().strip(), validate=True))
        return dict(said)
    except (ValueError, TypeError) as error:
        raise FileError(f"{path} is no key of a blind pair; it is called NAME.key") from error


def _take(
    source: Path,
    span: tuple[int, int],
    name: str,
    settings: Settings,
    target: Path,
    overwrite: bool,
    tell: Progress,
    engine: EngineLike,
) -> Take:
    """One way, computed where it is needed and nowhere else."""
    began = time.monotonic()
    with Reader(source) as reader:
        info = reader.info
        with engine.on_file(info, None, True, lambda done: tell(FIRST_PASS * done)) as here:
            decision = _analyse(here, reader, settings, lambda done: tell(FIRST_PASS * done))
            inside = [output_length(n, info.sample_rate, decision.rate_out) for n in span]
            stream = here.open(
                info.sample_rate, info.num_channels, settings, decision, span, lambda: None
            )
            with Writer(
                target,
                info,
                sample_rate=decision.rate_out,
                overwrite=overwrite,
                provenance=record_of(settings, here.model_sha256(settings), decision),
                coding_history=coding_history(settings, decision),
                dither_seed=settings.seed,
                start=inside[0],
                num_samples=inside[1] - inside[0],
            ) as writer:
                for original, high in _within(stream, reader, inside):
                    samples = sum_of(original, high)
                    resampled = decision.rate_out != info.sample_rate
                    writer.write(samples, is_heard(samples if resampled else high))
                    share = writer.num_samples / max(1, inside[1] - inside[0])
                    tell(FIRST_PASS + (1 - FIRST_PASS) * share)
                writer.commit()
    return Take(
        name=name,
        output=str(target),
        cutoff_hz=decision.cutoff.hz,
        extended=decision.extends,
        overs=writer.overs,
        seconds=round(time.monotonic() - began, 3),
        note=decision.remark,
    )


def _pair(
    source: Path,
    settings: Settings,
    targets: tuple[Path, Path],
    key: Path | None,
    overwrite: bool,
    on_progress: Progress,
    engine: EngineLike,
) -> Pair:
    def analysed(fraction: float) -> None:
        on_progress(FIRST_PASS * fraction)

    with Reader(source) as reader, _spool(targets[0].parent) as spool:
        info = reader.info
        with engine.on_file(info, None, False, analysed) as here:
            decision = _analyse(here, reader, settings, analysed)
            stream = here.open(
                info.sample_rate, info.num_channels, settings, decision, None, lambda: None
            )
            meters = [LoudnessMeter(decision.rate_out, info.num_channels) for _ in targets]
            total = output_length(info.num_samples, info.sample_rate, decision.rate_out)
            done = 0
            for original, high in _pieces(stream, reader, 0):
                with translated(targets[0], "written"):
                    np.save(spool, original)
                    np.save(spool, high)
                for meter, samples in zip(meters, (original, sum_of(original, high)), strict=True):
                    meter.push(samples)
                done += original.shape[1]
                on_progress(FIRST_PASS + (0.9 - FIRST_PASS) * done / total)
            record = record_of(settings, here.model_sha256(settings), decision)
        gains_db = _gains_db(meters)
        if key is not None:  # an old one, which says what holds no more
            with translated(key, "removed"):
                key.unlink(missing_ok=True)
        for number in sorted((0, 1), key=lambda number: targets[number].name):
            told = number == 1 and key is None  # else the files would tell which is which
            with Writer(
                targets[number],
                info,
                sample_rate=decision.rate_out,
                overwrite=overwrite,
                provenance=record if told else None,
                coding_history=coding_history(settings, decision) if told else None,
                dither_seed=settings.seed,
                num_samples=total,
            ) as writer:
                for original, high in _spooled(spool):
                    samples = sum_of(original, high) if number else original
                    made = high if number else np.zeros_like(high)
                    if gains_db[number] or decision.rate_out != info.sample_rate:
                        made = samples
                    writer.write(samples * 10 ** (gains_db[number] / 20), is_heard(made))
                writer.commit()
    pair = Pair(
        input=str(source),
        original=str(targets[0]),
        extended=str(targets[1]),
        lufs=(meters[0].integrated_lufs, meters[1].integrated_lufs),
        gains_db=gains_db,
        note=decision.remark,
        key=None if key is None else str(key),
    )
    if key is not None:
        write_whole(key, _sealed(pair), overwrite=overwrite)
    on_progress(1.0)
    return pair


def _gains_db(meters: Sequence[LoudnessMeter]) -> tuple[float, float]:
    """The extended as loud as the original; both lower by the same where one is over full scale."""
    first, second = meters
    match_db = first.integrated_lufs - second.integrated_lufs
    if not math.isfinite(match_db):
        match_db = 0.0
    peak = max(first.sample_peak, second.sample_peak * 10 ** (match_db / 20))
    down_db = 20 * math.log10(CEILING / peak) if peak > 1.0 else 0.0
    return down_db, match_db + down_db


def _sealed(pair: Pair) -> bytes:
    """Text that an eye passing over it does not read."""
    said = {
        "original": Path(pair.original).name,
        "extended": Path(pair.extended).name,
        "lufs": [level if math.isfinite(level) else None for level in pair.lufs],
        "gains_db": pair.gains_db,
    }
    return base64.b64encode(json.dumps(said).encode()) + b"\n"


def _analyse(engine: EngineLike, reader: Reader, settings: Settings, tell: Progress) -> Decision:
    info = reader.info
    return engine.analyse(
        watched(reader, tell),
        reader.read,
        info.sample_rate,
        info.num_channels,
        settings,
        lambda: None,
    )


def _pieces(stream: Parts, reader: Reader, begin: int) -> Iterator[tuple[Samples, Samples]]:
    """The original and what is added, from input sample `begin` to the end of the sound."""
    total, size = reader.info.num_samples, BLOCK_SECONDS * reader.info.sample_rate
    for start in range(begin, total, size):
        yield from stream.push_split(reader.read(start, min(start + size, total)))
    yield from stream.flush_split()


def _within(
    stream: Parts, reader: Reader, inside: Sequence[int]
) -> Iterator[tuple[Samples, Samples]]:
    """What lies inside these output samples, with no more read than it takes."""
    begin, place = stream.skip()
    start, stop = inside
    for original, high in _pieces(stream, reader, begin):
        here = slice(max(0, start - place), max(0, stop - place))
        if original[:, here].shape[1]:
            yield original[:, here], high[:, here]
        place += original.shape[1]
        if place >= stop:
            return


def _excerpt(source: Path, span: tuple[int, int], target: Path, overwrite: bool) -> None:
    """The same samples as they are."""
    with (
        Reader(source) as reader,
        Writer(
            target, reader.info, overwrite=overwrite, start=span[0], num_samples=span[1] - span[0]
        ) as writer,
    ):
        writer.write(reader.read(*span), False)
        writer.commit()


def _around(at: float, seconds: float, num_samples: int, sample_rate: int) -> tuple[int, int]:
    """Samples start to stop of so many seconds around a point, moved to lie inside the sound."""
    size = min(round(seconds * sample_rate), num_samples)
    point = round(at * sample_rate)
    if size < 1 or not 0 <= point <= num_samples:
        raise RegionError(
            f"an audition needs a point inside the sound, 0 to {num_samples / sample_rate:.3f} s,"
            f" and some length; got {seconds:g} s at {at:g} s"
        )
    start = min(max(0, point - size // 2), num_samples - size)
    return start, start + size


def _beside(source: Path, folder: Path | None, word: str) -> Path:
    """`song.WORD.wav`, in the folder or beside the source."""
    name = default_target(source, word=word).name
    return (folder or source.parent) / name


def _draw(
    targets: Mapping[str, Path], cutoff_hz: float | None, title: str, png: Path, overwrite: bool
) -> None:
    pictures = {}
    for name, path in targets.items():
        with Reader(path) as reader:
            pictures[name] = picture_of(reader)
    write_whole(png, grid(pictures, cutoff_hz, title), overwrite=overwrite)


@contextlib.contextmanager
def _spool(folder: Path) -> Iterator[BinaryIO]:
    """A file without a name, on the disk that the results go to."""
    with translated(folder, "written"):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    with file:
        yield file


def _spooled(file: BinaryIO) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]:
    """The pieces again, from the first."""
    end = file.seek(0, 2)
    file.seek(0)
    while file.tell() < end:
        original = np.load(file, allow_pickle=False)
        yield original, np.load(file, allow_pickle=False)
