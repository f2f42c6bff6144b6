"""A whole file through a chain, from disk to disk, never the whole sound at once.

    source ─ plugins ─ spool ─┬─ analyse ─┐
                              └─ SuperResolution(decision) ─ plugins ─ ... ─ Writer

A SuperResolution decides over the whole sound before it gives a sample, so what plugins make in
front of it goes to a hidden file first, and every plugin runs once. Where it comes first itself,
the source is read twice. A chain of nothing else writes the very file that `extend_file` writes.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from pedalboard import Plugin

from audiosr_core import __version__
from audiosr_core.audio import Samples
from audiosr_core.containers.temporary import Temporary
from audiosr_core.decision import Decision
from audiosr_core.engine import EngineLike
from audiosr_core.errors import FileError, UsageError
from audiosr_core.evaluation.metrics import NullMeter
from audiosr_core.extend_file import (
    FIRST_PASS,
    coding_history,
    default_target,
    history_line,
    is_heard,
    record_of,
    same_format,
    sum_of,
    watched,
)
from audiosr_core.files import (
    Reader,
    SoundOutput,
    Writer,
    check_folder,
    check_target,
    copy_file,
    output_format,
)
from audiosr_core.resample import output_length
from audiosr_core.settings import Settings
from audiosr_core.splice import crossover_hz
from plugin_host.chain import Chain, Group
from plugin_host.errors import ChainError
from plugin_host.loudness import LoudnessMeter
from plugin_host.plugin_stage import PluginStage
from plugin_host.stage import Stage, Step
from plugin_host.super_resolution import SuperResolution, SuperResolutionStage

Piece = tuple[Samples, NDArray[np.bool_]]
"""Samples, and where integers want them dithered."""

MAX_TAIL_SECONDS = 600.0
SPOOL_PASS = 0.2  # its share of the progress, beside one last pass of 1


@dataclass(frozen=True)
class RenderReport:
    """What was done to one file."""

    input: str
    output: str  # where it is, or would be after a dry run
    steps: tuple[str, ...]
    sample_rate: int  # of the output, Hz
    num_samples: int  # of the output, with its tail
    num_channels: int
    input_sample_rate: int
    input_num_samples: int
    tail_samples: int
    sample_format: str  # of the output, libsndfile's name: PCM_16, PCM_24, FLOAT, ...
    loudness_before_lufs: float
    loudness_after_lufs: float | None  # None after a dry run
    true_peak_before_db: float
    true_peak_after_db: float | None
    overs: int
    seconds: float  # the work took
    real_time_factor: float
    cutoff_hz: float | None = None  # of the last SuperResolution; None without one
    crossover_hz: float | None = None
    null_residual_db: float | None = None  # what it changed below its crossover
    full_band: bool = False
    notes: tuple[str, ...] = ()
    backup: str | None = None
    dry_run: bool = False
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def render(
    chain: Chain,
    source: Path,
    target: Path | None = None,
    *,
    tail_seconds: float = 0.0,
    dither: bool = True,
    overwrite: bool = False,
    in_place: bool = False,
    subtype: str | None = None,
    dry_run: bool = False,
    on_progress: Callable[[float], None] = lambda fraction: None,
    engine: EngineLike | None = None,
) -> RenderReport:
    """Render one file: its length, depth, container and metadata are kept.

    Args:
        target: None for NAME.rendered.EXT beside the source, or the source itself with `in_place`
        tail_seconds: how much of what sounds on after the end is written
        dither: integers are dithered wherever something changed; else rounded
        in_place: replace the source, keeping a backup
        subtype: another sample format, by libsndfile's name
        dry_run: decide and measure; write nothing
        on_progress: told the fraction done; raise from it to cancel
        engine: where every SuperResolution computes, instead of where it says itself

    Raises:
        AudioSRError: see `errors`; nothing is left half written
    """
    began = time.monotonic()
    source = Path(source)
    if not 0 <= tail_seconds <= MAX_TAIL_SECONDS:
        raise UsageError(
            f"a tail has 0 to {MAX_TAIL_SECONDS:g} s, got {tail_seconds:g} s; give one in between"
        )
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(Reader(source))
        info = reader.info
        own = source if in_place else None
        goal = Path(target) if target else own or default_target(source, word="rendered")
        check_target(goal, source, overwrite, in_place)  # before the work, and in a dry run too
        check_folder(goal, dry_run)
        _, sample_format, _ = output_format(info, goal, subtype=subtype)
        walk = _Walk(chain, reader, goal, tail_seconds, dry_run, engine, stack, on_progress)
        keeps = same_format(info, goal, walk.sample_rate) and sample_format == info.subtype
        outcome = _Outcome()
        if dry_run:
            walk.measure()
        elif keeps and not walk.changes:
            walk.measure()
            copy_file(source, goal, overwrite, in_place)
            outcome.after = walk.before
        else:
            with Writer(
                goal,
                info,
                sample_rate=walk.sample_rate,
                subtype=subtype,
                overwrite=overwrite,
                in_place=in_place,
                provenance=walk.record(),
                coding_history=walk.history(),
                dither_seed=walk.seed,
                num_samples=walk.num_samples,
            ) as writer:
                outcome.after = _write(walk, writer, dither)
                outcome.overs, outcome.notes = writer.overs, tuple(writer.notes)
                outcome.backup = writer.backup
    on_progress(1.0)
    elapsed = time.monotonic() - began
    duration = info.num_samples / info.sample_rate
    last = walk.extended[-1] if walk.extended else None
    after = outcome.after
    return RenderReport(
        input=str(source),
        output=str(goal),
        steps=walk.names,
        sample_rate=walk.sample_rate,
        num_samples=walk.num_samples,
        num_channels=info.num_channels,
        input_sample_rate=info.sample_rate,
        input_num_samples=info.num_samples,
        tail_samples=walk.tail_samples,
        sample_format=sample_format,
        loudness_before_lufs=round(walk.before.integrated_lufs, 2),
        loudness_after_lufs=None if after is None else round(after.integrated_lufs, 2),
        true_peak_before_db=round(walk.before.true_peak_db, 2),
        true_peak_after_db=None if after is None else round(after.true_peak_db, 2),
        overs=outcome.overs,
        seconds=round(elapsed, 3),
        real_time_factor=round(elapsed / duration, 4) if duration else 0.0,
        cutoff_hz=None if last is None else round(last.decision.cutoff.hz, 1),
        crossover_hz=None if last is None else round(last.crossover_hz, 1),
        null_residual_db=None if last is None or dry_run else round(last.null_residual_db, 1),
        full_band=last is not None and last.decision.full_band,
        notes=(*dict.fromkeys(walk.notes), *outcome.notes),
        backup=str(outcome.backup) if outcome.backup else None,
        dry_run=dry_run,
    )


def _write(walk: _Walk, writer: Writer, dither: bool) -> LoudnessMeter:
    """Everything that comes out of the chain, and how loud it is."""
    after = LoudnessMeter(walk.sample_rate, walk.num_channels)
    for samples, wants_dither in walk.pieces():
        writer.write(samples, wants_dither & dither)
        after.push(samples)
    if writer.num_samples != walk.num_samples:
        raise ChainError(
            f"the chain must give {walk.num_samples} samples for {writer.target}, but gave"
            f" {writer.num_samples}; leave out the step that keeps or adds some"
        )
    writer.commit()
    return after


@dataclass
class _Outcome:
    """What became of the output."""

    after: LoudnessMeter | None = None
    overs: int = 0
    notes: tuple[str, ...] = ()
    backup: Path | None = None


class _Plugged:
    """Plugins, or another step, at work: every sample may be new."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def pieces(self, blocks: Iterable[Samples], tail_samples: int) -> Iterator[Piece]:
        for block in blocks:
            samples = self._stage.push(block)
            yield samples, is_heard(samples)
        samples = self._stage.flush(tail_samples)
        yield samples, is_heard(samples)


class _Extended:
    """One SuperResolution at work on this sound, and the null test of what it changed.

    Args:
        all_new: the samples were new before it, or are by their rate
    """

    def __init__(
        self,
        settings: Settings,
        decision: Decision,
        model_sha256: str,
        open_stage: Callable[[], SuperResolutionStage],
        num_channels: int,
        all_new: bool,
    ) -> None:
        self.settings, self.decision, self.model_sha256 = settings, decision, model_sha256
        self.crossover_hz = crossover_hz(decision.cutoff.hz, settings.transition)
        self._open_stage, self._num_channels, self._all_new = open_stage, num_channels, all_new
        below = min(max(20.0, self.crossover_hz), decision.rate_out / 2)
        self._null = NullMeter(decision.rate_out, below, num_channels)

    def pieces(self, blocks: Iterable[Samples], tail_samples: int) -> Iterator[Piece]:
        stage = self._open_stage()
        for block in blocks:
            yield from self._joined(stage.push_split(block))
        yield from self._joined(stage.flush_split())
        tail = np.zeros((self._num_channels, tail_samples))
        yield tail, is_heard(tail)

    @property
    def null_residual_db(self) -> float:
        return self._null.finish()

    def _joined(self, parts: Iterable[tuple[Samples, Samples]]) -> Iterator[Piece]:
        for original, high in parts:
            samples = sum_of(original, high)
            self._null.push(original, samples)
            yield samples, is_heard(samples if self._all_new else high)


class _Walk:
    """One sound on its way through the steps of a chain, opened one after the other.

    on disk ─▶ opened steps ─▶ pieces      on disk again where a SuperResolution comes next
    """

    def __init__(
        self,
        chain: Chain,
        source: Reader,
        goal: Path,
        tail_seconds: float,
        dry_run: bool,
        engine: EngineLike | None,
        stack: contextlib.ExitStack,
        on_progress: Callable[[float], None],
    ) -> None:
        info = source.info
        self._source = self._sound = source  # the latest on disk
        self._opened: list[_Plugged | _Extended] = []  # what it has to pass yet
        self._goal, self._tail_seconds, self._dry_run = goal, tail_seconds, dry_run
        self._engine, self._stack = engine, stack
        groups = chain.groups()
        self._progress = _Progress(_passes(groups), on_progress)
        self._measured = False
        self.before = LoudnessMeter(info.sample_rate, info.num_channels)
        self.names = tuple(_names(groups))
        self.num_channels = info.num_channels
        self.sample_rate, self.num_samples = info.sample_rate, info.num_samples
        self.tail_samples = 0
        self.extended: list[_Extended] = []
        self._all_new = False  # a plugin has had its hands on every sample
        for index, group in enumerate(groups):
            if isinstance(group, SuperResolution):
                if self._opened:
                    self._spool()
                self._extend(group, last=index == len(groups) - 1)
            else:
                self._plug(group)

    @property
    def changes(self) -> bool:
        """The output is not the input again."""
        extends = any(one.decision.extends for one in self.extended)
        return extends or self._all_new or self.tail_samples > 0

    @property
    def notes(self) -> list[str]:
        return [one.decision.remark for one in self.extended if one.decision.remark]

    @property
    def seed(self) -> int:
        """Of the dither."""
        return self.extended[0].settings.seed if self.extended else 0

    def record(self) -> dict[str, Any]:
        """What the file is told about how it was made."""
        record: dict[str, Any] = {"software": "audiosr-bridge", "version": __version__}
        for one in self.extended:
            record |= record_of(one.settings, one.model_sha256, one.decision)
        return record if self._only_extends else {**record, "chain": list(self.names)}

    def history(self) -> str:
        """The line of its CodingHistory."""
        if self._only_extends:
            (one,) = self.extended
            return coding_history(one.settings, one.decision)
        return history_line(self.sample_rate, f"rendered through {' > '.join(self.names)}")

    def measure(self) -> None:
        """How loud the source is, where no pass has come by it."""
        if not self._measured:
            for _ in self._blocks():
                pass

    def pieces(self) -> Iterator[Piece]:
        """What comes out of the steps that are open, once."""
        pieces: Iterator[Piece] = ((x, np.zeros(x.shape, np.bool_)) for x in self._blocks())
        tail_samples = self.tail_samples if self._sound is self._source else 0
        for one in self._opened:
            blocks = (samples for samples, _ in pieces)
            pieces = one.pieces(blocks, tail_samples)
            tail_samples = 0  # to all others it is a part of the sound
        return pieces

    @property
    def _only_extends(self) -> bool:
        return len(self.names) == len(self.extended) == 1

    def _blocks(self) -> Iterator[Samples]:
        """The sound on disk, measured on its way where it is the source."""
        self._progress.begin()
        is_source = self._sound is self._source
        self._measured |= is_source
        for block in watched(self._sound, self._progress.tell):
            if is_source:
                self.before.push(block)
            yield block

    def _plug(self, group: list[Plugin] | Step) -> None:
        stage: Stage
        if isinstance(group, list):
            stage = PluginStage(group, self.sample_rate, self.num_channels)
        else:
            stage = group.open(self.sample_rate, self.num_channels)
        self._add(_Plugged(stage), stage.sample_rate_out)
        self._all_new = True

    def _extend(self, step: SuperResolution, last: bool) -> None:
        """Decide, over the sound on disk."""
        rate, num_channels, sound = self.sample_rate, self.num_channels, self._sound
        tell = self._progress
        tell.begin()
        here = self._stack.enter_context(
            step.on_file(sound.info, self._dry_run and last, tell.tell, self._engine)
        )
        decision = step.analyse(
            watched(sound, tell.tell), sound.read, rate, num_channels, tell.again
        )
        one = _Extended(
            step.settings,
            decision,
            here.model_sha256(step.settings),
            lambda: step.open(rate, num_channels, decision, tell.again),
            num_channels,
            all_new=self._all_new or decision.rate_out != rate,
        )
        self.extended.append(one)
        self._add(one, decision.rate_out)

    def _add(self, one: _Plugged | _Extended, rate_out: int) -> None:
        self.num_samples = output_length(self.num_samples, self.sample_rate, rate_out)
        if self._sound is self._source and not self._opened:
            self.tail_samples = round(self._tail_seconds * rate_out)
            self.num_samples += self.tail_samples
        self.sample_rate = rate_out
        self._opened.append(one)

    def _spool(self) -> None:
        """What has come out so far, in a hidden file: beside the target, where its room is."""
        folder = Path(tempfile.gettempdir()) if self._dry_run else self._goal.parent
        temporary = Temporary(folder / self._goal.name)
        self._stack.callback(temporary.discard)
        exact = isinstance(self._opened[-1], _Extended)  # of a plugin nothing is lost in float32
        output = SoundOutput(temporary)
        try:
            with soundfile.SoundFile(
                output, "w", self.sample_rate, self.num_channels,
                "DOUBLE" if exact else "FLOAT", format="RF64",
            ) as file:  # fmt: skip
                for samples, _ in self.pieces():
                    file.write(samples.T)
        except (soundfile.LibsndfileError, AssertionError) as error:
            output.check()
            raise FileError(f"{self._goal} cannot be written: {error}") from error
        output.check()
        self._sound = self._stack.enter_context(Reader(temporary.path))
        self._opened = []


class _Progress:
    """One fraction out of several passes, each with its weight."""

    def __init__(self, weights: Sequence[float], on_progress: Callable[[float], None]) -> None:
        self._weights = iter(weights)
        self._total = sum(weights)
        self._on_progress = on_progress
        self._done = self._weight = self._fraction = 0.0

    def begin(self) -> None:
        """The next pass."""
        self._done += self._weight
        self._weight = next(self._weights, 0.0)
        self.tell(0.0)

    def tell(self, fraction: float) -> None:
        """This much of the pass is done."""
        self._fraction = fraction
        self._on_progress(min(1.0, (self._done + self._weight * fraction) / self._total))

    def again(self) -> None:
        """Nothing new, but a chance to cancel."""
        self.tell(self._fraction)


def _names(groups: Sequence[Group]) -> Iterator[str]:
    """What reports and files call the steps: a plugin by its own name, or that of its class."""
    for group in groups:
        for step in group if isinstance(group, list) else [group]:
            yield str(getattr(step, "name", type(step).__name__))


def _passes(groups: Sequence[Group]) -> list[float]:
    """The weights of all passes over the sound."""
    weights = []
    for index, group in enumerate(groups):
        if isinstance(group, SuperResolution):
            weights += [SPOOL_PASS] * (index > 0) + [FIRST_PASS]
    return [*weights, 1.0]
