"""One song: all of its stems extended by one plan, so that their sum stays the mix.

    stems ── sum ── first pass ── one Decision: cutoff, gain law
      │       └──── second pass ── new band of the mix ──────────┐
      └──────────── in lockstep ── each alone, by a small model ─┴─ shared out ── Writers ── rename
    written ─────── third pass ── what the low band of the sum lost or gained

Memory is that of a chunk of every stem, whatever the length of the song.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiosr_core import __version__
from audiosr_core.audio import Samples
from audiosr_core.decision import Decision
from audiosr_core.engine import Engine, EngineLike, Parts
from audiosr_core.errors import UsageError
from audiosr_core.evaluation.metrics import NullMeter
from audiosr_core.extend_file import FAINT, FIRST_PASS, record_of, same_format
from audiosr_core.files import (
    Writer,
    check_folder,
    check_target,
    copy_file,
    output_format,
)
from audiosr_core.resample import output_length
from audiosr_core.settings import Settings
from audiosr_core.spectrum import SpectrumMeter
from audiosr_core.splice import crossover_hz, end_fade, width_hz
from audiosr_core.stream import fade_at
from bridge.runtime_dir import cache_folder
from plugin_host.stems.album import Song, Stem
from plugin_host.stems.lockstep import Lockstep, Settled, energy, gets_all
from plugin_host.stems.mix import StemsReader
from plugin_host.stems.streams import CachedStreams

GUIDE = "lite"  # extends each stem alone
LAST_PASS = 0.05  # its share of the progress
SILENCE_DB = -300.0  # less is said to be this

OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class StemReport:
    """What became of one stem."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    extended: bool
    overs: int = 0
    solo_db: float | None = None  # level of its new band, re what it would get alone
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SongReport:
    """What was done to one song. What was not measured is None."""

    song: str
    stems: tuple[StemReport, ...]
    extended: bool
    cutoff_hz: float
    crossover_hz: float
    gain_law_db: float
    sample_rate: int  # of the outputs, Hz
    duration: float  # of the longest stem, s
    seconds: float = 0.0  # the work took
    chunks: int = 0  # computed in this process, or found in the cache
    cached_chunks: int = 0  # the latter
    sum_residual_db: float | None = None  # of what was written, below the crossover; re the sum
    sum_high_db: float | None = None  # level of the summed new bands, re that of the extended mix
    sum_error_db: float | None = None  # level of their difference, likewise
    model: str = ""
    model_sha256: str = ""
    seed: int = 0
    note: str = ""
    dry_run: bool = False
    engine: str = "in-process"
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def extend_song(
    song: Song,
    settings: Settings,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    cache: Path | None = None,
    on_progress: OnProgress = lambda fraction: None,
    engine: EngineLike | None = None,
) -> SongReport:
    """Extend the stems of a song, so that they sum to their extended mix.

    Args:
        dry_run: measure and decide, write nothing
        cache: of chunks computed here, with which a song that was killed goes on where it was;
            None for the folder that the daemon uses too
        on_progress: told the fraction done; raise from it to cancel
        engine: where the mix is extended; None for this process and the default device

    Raises:
        AudioSRError: see `errors`; no target is half written
    """
    began = time.monotonic()
    if settings.mode != "product":
        raise UsageError("reference mode takes one file at a time; use product mode for stems")
    if settings.cutoff == "follow":
        raise UsageError("the stems of a song share one cutoff, but 'follow' has many; use auto")
    engine = engine or Engine()
    with StemsReader(song) as stems, engine.on_file(None, None, dry_run, lambda _: None) as here:
        _check_targets(song, stems, overwrite, dry_run)
        decision, idle = _analyse(here, stems, settings, on_progress)
        report = SongReport(
            song=song.name,
            stems=(),
            extended=decision.extends,
            cutoff_hz=round(decision.cutoff.hz, 1),
            crossover_hz=round(crossover_hz(decision.cutoff.hz, settings.transition), 1),
            gain_law_db=round(decision.gain_db, 2),
            sample_rate=decision.rate_out,
            duration=round(stems.num_samples / stems.sample_rate, 3),
            model=settings.model,
            model_sha256=here.model_sha256(settings),
            seed=settings.seed,
            note=decision.note,
            dry_run=dry_run,
            engine=engine.name,
        )
        streams = CachedStreams(
            cache or cache_folder() / "chunks", stems.sample_rate, stems.num_samples
        )
        walk = _Walk(song, stems, settings, decision, idle, here, streams, on_progress)
        if not dry_run:
            report = walk.write(report, overwrite)
        report = dataclasses.replace(report, stems=tuple(walk.stem_reports()))
    on_progress(1.0)
    return dataclasses.replace(report, seconds=round(time.monotonic() - began, 3))


def _check_targets(song: Song, stems: StemsReader, overwrite: bool, dry_run: bool) -> None:
    """Before the work: everything can be written where it shall be."""
    for stem, readers in zip(song.stems, stems.readers, strict=True):
        for target, reader in zip(stem.targets, readers, strict=True):
            check_target(target, reader.info.path, overwrite, in_place=False)
            check_folder(target, dry_run)
            output_format(reader.info, target)


def _analyse(
    engine: EngineLike, stems: StemsReader, settings: Settings, on_progress: OnProgress
) -> tuple[Decision, list[tuple[bool, ...]]]:
    """The decision for the mix, and which channels of each stem have nothing to extend."""
    meters = [SpectrumMeter(stems.sample_rate, width) for width in stems.widths]
    done = 0

    def tell() -> None:
        on_progress(FIRST_PASS * done / max(stems.num_samples, 1))

    def mixes() -> Iterator[Samples]:
        nonlocal done
        for block, mix in stems.blocks():
            for meter, one in zip(meters, block, strict=True):
                meter.push(one)
            yield mix
            done += mix.shape[1]
            tell()

    decision = engine.analyse(
        mixes(), stems.read_mix, stems.sample_rate, stems.mix_channels, settings, tell
    )
    return decision, [tuple(map(bool, meter.spectrum().low_only)) for meter in meters]


class _Output:
    """One stem on its way into its files.

    Args:
        writers: none where the stem is copied
        num_samples: of the stem, which may end before its song does
        fade: for the end of its new band, where the song goes on; else empty
    """

    def __init__(self, writers: Sequence[Writer], num_samples: int, fade: Samples) -> None:
        self.writers = writers
        self._num_samples, self._fade = num_samples, fade
        self._done = 0

    def write(self, original: Samples, share: Samples, resampled: bool) -> Samples:
        """The next samples; the new band as it went in, silent after the end of the stem."""
        left = max(0, self._num_samples - self._done)
        if self._fade.size:
            start = self._num_samples - self._fade.size - self._done
            share = share * fade_at(self._fade[::-1], start, share.shape[1])
            share[:, left:] = 0
        samples = np.where(share != 0, original + share, original)[:, :left]
        made = samples if resampled else share[:, :left]  # what has a new fraction of a step
        for writer, side, new in zip(
            self.writers, _sides(samples, self.writers), _sides(made, self.writers), strict=True
        ):
            writer.write(side, np.abs(new) > FAINT)
        self._done += original.shape[1]
        return share


def _sides(samples: Samples, files: Sequence[Writer]) -> Sequence[Samples]:
    """All channels for one file, or one for each of two."""
    return [samples] if len(files) == 1 else [samples[i : i + 1] for i in range(len(files))]


class _Walk:
    """One song from its stems to its targets."""

    def __init__(
        self,
        song: Song,
        stems: StemsReader,
        settings: Settings,
        decision: Decision,
        idle: Sequence[tuple[bool, ...]],
        engine: EngineLike,
        streams: CachedStreams,
        on_progress: OnProgress,
    ) -> None:
        self._song, self._stems, self._settings = song, stems, settings
        self._decision, self._idle = decision, idle
        self._engine, self._streams, self._on_progress = engine, streams, on_progress
        self._sounding = [i for i, rows in enumerate(idle) if decision.extends and not all(rows)]
        self._total = output_length(stems.num_samples, stems.sample_rate, decision.rate_out)
        self._done = 0
        self._outputs: list[_Output] = []
        self._alone = np.zeros(len(song.stems))  # energies of the new bands
        self._shared = np.zeros(len(song.stems))
        self._mix = self._sum = self._error = 0.0

    def write(self, report: SongReport, overwrite: bool) -> SongReport:
        """All targets, or none; the report with what was measured on the way."""
        stems = range(len(self._song.stems))
        copied = [i for i in stems if self._stays(i)]
        with contextlib.ExitStack() as stack:
            self._outputs = [
                self._output(i, [] if i in copied else self._writers(i, overwrite, stack))
                for i in stems
            ]
            if len(copied) < len(stems):
                self._extend()
            for output in self._outputs:
                for writer in output.writers:
                    writer.commit()
        for i in copied:
            stem = self._song.stems[i]
            for source, target in zip(stem.files, stem.targets, strict=True):
                copy_file(source, target, overwrite, in_place=False)
        self._streams.settle()
        return dataclasses.replace(
            report,
            chunks=self._streams.num_chunks,
            cached_chunks=self._streams.num_cached,
            sum_residual_db=self._residual_db() if self._sounding else None,
            sum_high_db=_ratio_db(self._sum, self._mix),
            sum_error_db=_ratio_db(self._error, self._mix),
        )

    def stem_reports(self) -> Iterator[StemReport]:
        for i, stem in enumerate(self._song.stems):
            writers = self._outputs[i].writers if self._outputs else []
            notes = [note for writer in writers for note in writer.notes]
            if self._decision.extends and i not in self._sounding:
                notes.append("nothing above 200 Hz; nothing was added")
            yield StemReport(
                name=stem.name,
                inputs=tuple(map(str, stem.files)),
                outputs=tuple(map(str, stem.targets)),
                extended=i in self._sounding,
                overs=sum(writer.overs for writer in writers),
                solo_db=_ratio_db(self._shared[i], self._alone[i]),
                notes=tuple(dict.fromkeys(notes)),
            )

    def _stays(self, i: int) -> bool:
        """A stem that stays byte for byte what it is."""
        files = zip(self._stems.readers[i], self._song.stems[i].targets, strict=True)
        return i not in self._sounding and all(
            same_format(reader.info, target, self._decision.rate_out) for reader, target in files
        )

    def _writers(self, i: int, overwrite: bool, stack: contextlib.ExitStack) -> list[Writer]:
        decision, settings, stem = self._decision, self._settings, self._song.stems[i]
        record = {
            **record_of(settings, self._engine.model_sha256(settings), decision),
            "stems": len(self._song.stems),
        }
        history = (
            f"A=PCM,F={decision.rate_out},T=audiosr-bridge {__version__}; its share of the mix's"
            f" high band above {decision.cutoff.hz:.0f} Hz generated by {settings.model}"
        )
        return [
            stack.enter_context(
                Writer(
                    target,
                    reader.info,
                    sample_rate=decision.rate_out,
                    overwrite=overwrite,
                    provenance=record,
                    coding_history=history,
                    dither_seed=_seed(settings, stem),
                )
            )
            for target, reader in zip(stem.targets, self._stems.readers[i], strict=True)
        ]

    def _output(self, i: int, writers: list[Writer]) -> _Output:
        decision = self._decision
        length = output_length(self._stems.lengths[i], self._stems.sample_rate, decision.rate_out)
        fade = np.zeros(0, np.float32)  # at the end of the song, its streams fade by themselves
        if length < self._total:
            width = width_hz(decision.cutoff.hz, self._settings.transition)
            fade = end_fade(width, decision.rate_out)
        return _Output(writers, length, fade)

    def _extend(self) -> None:
        stems = self._stems
        alone = [self._alone_stream(i) for i in range(len(stems.widths))]
        lockstep = Lockstep(
            alone,
            self._sounding,
            stems.widths,
            self._mix_stream(),
            stems.mix_channels,
            self._decision.rate_out,
        )
        for block, mix in stems.blocks():
            self._give(lockstep.push(block, mix))
        self._give(lockstep.flush())
        self._alone = lockstep.alone

    def _alone_stream(self, i: int) -> Parts:
        """A stem extended by the guide, with noise of its own; or only its original."""
        decision = dataclasses.replace(self._decision, skipped=self._idle[i])
        widths = [self._stems.widths[k] for k in self._sounding]
        if gets_all(widths, self._stems.mix_channels):
            decision = dataclasses.replace(decision, extends=False)
        seed = _seed(self._settings, self._song.stems[i])
        settings = self._settings.replace(model=GUIDE, seed=seed)
        return self._streams.open(Engine(), self._stems.widths[i], settings, decision, self._tell)

    def _mix_stream(self) -> Parts:
        engine, stems = self._engine, self._stems
        if isinstance(engine, Engine):
            return self._streams.open(
                engine, stems.mix_channels, self._settings, self._decision, self._tell
            )
        return engine.open(
            stems.sample_rate,
            stems.mix_channels,
            self._settings,
            self._decision,
            None,
            self._tell,
        )

    def _give(self, settled: Settled) -> None:
        """Write what has settled, and measure what it sums to."""
        resampled = self._decision.rate_out != self._stems.sample_rate
        shares = [
            output.write(original, share, resampled)
            for output, original, share in zip(
                self._outputs, settled.originals, settled.shares, strict=True
            )
        ]
        summed = self._stems.mixed(shares, settled.mix.shape[1])
        self._shared += [energy(share) for share in shares]
        self._mix += energy(settled.mix)
        self._sum += energy(summed)
        self._error += energy(summed - settled.mix)
        self._done += settled.mix.shape[1]
        self._tell()

    def _tell(self) -> None:
        done = self._done / max(self._total, 1)
        self._on_progress(FIRST_PASS + (1 - FIRST_PASS - LAST_PASS) * min(1.0, done))

    def _residual_db(self) -> float:
        """What was written against what was read: their sums, below the crossover."""
        stems, decision = self._stems, self._decision
        edge = crossover_hz(decision.cutoff.hz, self._settings.transition)
        meter = NullMeter(decision.rate_out, edge, stems.mix_channels)
        untouched = dataclasses.replace(decision, extends=False)
        stream = Engine().open(
            stems.sample_rate,
            stems.mix_channels,
            self._settings.replace(model=GUIDE),
            untouched,
        )
        written = dataclasses.replace(
            self._song,
            stems=tuple(dataclasses.replace(s, files=s.targets) for s in self._song.stems),
        )
        place = 0
        with StemsReader(written) as made:

            def compare(pieces: Iterable[tuple[Samples, Samples]]) -> None:
                nonlocal place
                for original, _ in pieces:
                    end = place + original.shape[1]
                    meter.push(original, made.read_mix(place, end))
                    place = end
                self._on_progress(1 - LAST_PASS * (1 - place / max(self._total, 1)))

            for _, mix in stems.blocks():
                compare(stream.push_split(mix))
            compare(stream.flush_split())
        return round(max(meter.finish(), SILENCE_DB), 1)


def _seed(settings: Settings, stem: Stem) -> int:
    """Noise and dither of its own for each stem, whatever the others are."""
    return (settings.seed + zlib.crc32(stem.files[0].name.encode())) % 2**32


def _ratio_db(energy: float, reference: float) -> float | None:
    if reference <= 0:
        return None
    return round(max(10 * math.log10(max(energy / reference, 1e-30)), SILENCE_DB), 2)
