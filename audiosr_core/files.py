"""Sounds in files: read any place of one, write one that stays the file it was.

    probe(path) → FileInfo          what it is, or one sentence why it cannot be used
    Reader(path).read(start, stop)  float64, exact, any place, memory of what was asked for
    Writer(target, like=info)       the source's container, coding and metadata, other samples

WAV, RF64, BW64, AIFF and AIFC are laid by `containers`, for libsndfile loses their chunks and does
not find the audio behind an odd chunk of an RF64; libsndfile decodes the samples, whatever holds
them, and encodes FLAC.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiosr_core.audio import check_finite, check_format
from audiosr_core.containers import aiff, flac, riff
from audiosr_core.containers.chunks import Layout, Piece, Span, Table, Target, Totals, read_span
from audiosr_core.containers.coding import BITS, FLOATS, Coding, quantise
from audiosr_core.containers.temporary import Temporary, exists, translated
from audiosr_core.errors import AudioError, FileError, OutputExistsError, RegionError

FAMILIES = {
    "WAV": "RIFF", "RF64": "RIFF", "BW64": "RIFF", "AIFF": "AIFF", "AIFC": "AIFF", "FLAC": "FLAC",
}  # fmt: skip
"""The containers that can be written; metadata survives within a family."""

SUFFIXES = {
    ".wav": "WAV", ".wave": "WAV", ".bwf": "WAV", ".rf64": "RF64", ".bw64": "BW64",
    ".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFC", ".flac": "FLAC",
}  # fmt: skip

READ_ONLY_SUFFIXES = frozenset(
    {".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".w64", ".caf", ".au", ".snd"}
)

ENCODED_SAMPLES = 1 << 16
"""How many samples are encoded at once, which bounds the memory of a write."""

_NEAREST = {
    "RIFF": {"PCM_S8": "PCM_U8"},
    "AIFF": {"PCM_U8": "PCM_S8"},
    "FLAC": {"PCM_U8": "PCM_S8", "PCM_32": "PCM_24", "FLOAT": "PCM_24", "DOUBLE": "PCM_24"},
}
_FLAC_SPEAKERS = {3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}  # RFC 9639, §9.1.3
_READABLE = "WAV, RF64, BW64, AIFF, FLAC, Ogg or MP3"


@dataclass(frozen=True)
class FileInfo:
    """What a file is."""

    path: Path
    sample_rate: int  # Hz
    num_channels: int
    num_samples: int
    container: str  # WAV, RF64, BW64, AIFF, AIFC, FLAC, OGG, MP3, or libsndfile's name
    subtype: str  # libsndfile's name: PCM_16, PCM_24, FLOAT, ...
    lossy: bool
    notes: tuple[str, ...] = ()  # what was found odd
    stamp: tuple[int, ...] = field(default=(), compare=False, repr=False)  # see `_stamp`


def probe(path: str | os.PathLike[str]) -> FileInfo:
    """What the file is; FileError says in one sentence why it cannot be used."""
    with Reader(path) as reader:
        return reader.info


class Reader:
    """An open sound file: any place of it, as float64 in [-1, 1) (floats as they are).

    Args:
        file: the file, where somebody has opened it already; it is closed with the reader
    """

    def __init__(self, path: str | os.PathLike[str], file: BinaryIO | None = None) -> None:
        self._path = Path(path)
        self._file, self._size = _open(self._path) if file is None else _checked(self._path, file)
        try:
            self.table: Table | flac.FlacTable | None = None
            self._sound: soundfile.SoundFile | None = None
            self._place = 0
            self.info = replace(self._inspect(), stamp=_stamp(os.fstat(self._file.fileno())))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        sound = getattr(self, "_sound", None)
        if sound is not None:
            sound.close()
        self._file.close()

    @property
    def file(self) -> BinaryIO:
        """The bytes themselves, for who copies chunks."""
        return self._file

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Samples start to stop, [channels, stop - start]; NotFiniteError at a NaN or Inf."""
        info = self.info
        if not 0 <= start <= stop <= info.num_samples:
            raise RegionError(
                f"{info.path}: samples {start} to {stop} were asked for,"
                f" it has 0 to {info.num_samples}; choose a region inside"
            )
        if start == stop or self._sound is None:
            return np.zeros((info.num_channels, 0))
        try:
            with translated(self._path, "read"):
                if start != self._place:
                    self._seek(self._sound, start)
                interleaved = self._sound.read(stop - start, dtype="float64", always_2d=True)
        except soundfile.LibsndfileError as error:
            self._place = -1
            raise FileError(
                f"{self._path} is damaged near sample {start}: {_reason(error)};"
                " copy or export it again"
            ) from error
        if len(interleaved) < stop - start:
            self._place = -1
            raise FileError(
                f"{self._path} is truncated: it promises {info.num_samples} samples and ends at"
                f" {start + len(interleaved)}; copy or export it again"
            )
        self._place = stop
        samples: NDArray[np.float64] = np.ascontiguousarray(interleaved.T)
        check_finite(samples, start, info.sample_rate)
        return samples

    def _seek(self, sound: soundfile.SoundFile, start: int) -> None:
        """To any sample; MP3 and Ogg by decoding up to it, for their seeks may land elsewhere."""
        if self.info.container not in ("MP3", "OGG"):
            sound.seek(start)
            return
        if not 0 <= self._place <= start:
            sound.seek(0)
            self._place = 0
        while self._place < start:
            n = len(sound.read(min(start - self._place, ENCODED_SAMPLES), dtype="float32"))
            if n == 0:
                break
            self._place += n

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float64]]:
        """The whole sound from its start, [channels, up to block_samples] at a time."""
        for start in range(0, self.info.num_samples, block_samples):
            yield self.read(start, min(start + block_samples, self.info.num_samples))

    def _inspect(self) -> FileInfo:
        with translated(self._path, "read"):
            self._file.seek(0)
            start = self._file.read(12)
        try:
            with translated(self._path, "read"):
                if riff.is_riff(start):
                    self.table = riff.read_table(self._file, self._size)
                elif aiff.is_aiff(start):
                    self.table = aiff.read_table(self._file, self._size)
                elif flac.flac_start(self._file, self._size) is not None:
                    self.table = flac.read_table(self._file, self._size)
        except FileError as error:
            raise FileError(_named(self._path, error)) from error
        if isinstance(self.table, Table):
            self._check(self.table.sample_rate, self.table.num_channels)
            if self.table.coding:
                return self._inspect_pcm(self.table, self.table.coding)
        if isinstance(self.table, flac.FlacTable) and self.table.frames.size == 0:
            return self._inspect_empty_flac(self.table)
        return self._inspect_decoded(start)

    def _inspect_empty_flac(self, table: flac.FlacTable) -> FileInfo:
        """A FLAC without frames, which libsndfile does not open."""
        stream = flac.stream_info(self._file, table)
        self._check(stream.sample_rate, stream.num_channels)
        if stream.num_samples:
            raise FileError(
                f"{self._path} is truncated: its header promises {stream.num_samples} samples and"
                " none is there; copy or export it again"
            )
        subtype = {8: "PCM_S8", 16: "PCM_16"}.get(stream.bits, "PCM_24")
        return FileInfo(
            self._path, stream.sample_rate, stream.num_channels, 0, "FLAC", subtype, lossy=False
        )

    def _inspect_pcm(self, table: Table, coding: Coding) -> FileInfo:
        if table.num_samples:
            size = table.num_samples * table.num_channels * coding.width
            window = _Window(self._file, table.samples.start, table.samples.start + size)
            self._sound = soundfile.SoundFile(
                window,
                format="RAW",
                subtype=coding.subtype,
                endian="BIG" if coding.big_endian else "LITTLE",
                samplerate=table.sample_rate,
                channels=table.num_channels,
            )
        return FileInfo(
            path=self._path,
            sample_rate=table.sample_rate,
            num_channels=table.num_channels,
            num_samples=table.num_samples,
            container=table.container,
            subtype=coding.subtype,
            lossy=False,
            notes=table.notes,
        )

    def _inspect_decoded(self, start: bytes) -> FileInfo:
        """What libsndfile decodes: FLAC, Ogg, MP3, compressed WAV and AIFC, and others."""
        window = _Window(self._file, 0, self._size)
        if isinstance(self.table, flac.FlacTable):  # libFLAC gives up on a picture it does not like
            bits = flac.stream_info(self._file, self.table).bits
            if bits not in (8, 16, 24):
                raise FileError(
                    f"{self._path} has {bits} bits per sample, of FLAC 8, 16 and 24 can be read;"
                    " convert it to WAV"
                )
            prefix = flac.bare_head(self._file, self.table)
            window = _Window(self._file, self.table.frames.start, self._size, prefix)
        try:
            self._sound = sound = soundfile.SoundFile(window)
        except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
            raise FileError(
                f"{self._path} is not audio that can be read ({_reason(error)});"
                f" {_READABLE} was wanted"
            ) from error
        self._check(sound.samplerate, sound.channels)
        container = "RIFX" if start[:4] == b"RIFX" else str(sound.format)
        if isinstance(self.table, Table):
            container = self.table.container
        if not 0 <= sound.frames < 1 << 48 or (sound.frames == 0 and container == "FLAC"):
            raise FileError(
                f"{self._path} does not say how many samples it holds; encode or export it again"
            )
        pcm = sound.subtype in BITS or sound.subtype in FLOATS or sound.subtype[:4] == "ALAC"
        lossy = container in ("OGG", "MP3") or not pcm
        num_samples = sound.frames
        if container == "FLAC" and sound.frames:
            self._check_end(sound)
        if container == "MP3" and not self._has_length(start):
            num_samples = _count(sound)
        return FileInfo(
            path=self._path,
            sample_rate=sound.samplerate,
            num_channels=sound.channels,
            num_samples=num_samples,
            container=container,
            subtype=sound.subtype.replace("ALAC", "PCM"),
            lossy=lossy,
            notes=self.table.notes if isinstance(self.table, Table) else (),
        )

    def _check(self, sample_rate: int, num_channels: int) -> None:
        try:
            check_format(sample_rate, num_channels)
        except AudioError as error:
            raise FileError(f"{self._path} cannot be used: {error}") from error

    def _has_length(self, start: bytes) -> bool:
        """Whether an MP3 says its length in its first frame; else libsndfile only guesses it."""
        place = 0
        if start[:3] == b"ID3":
            place = flac.id3_size(start)
        first = read_span(self._file, Span(place, place + 4096))
        return any(name in first for name in (b"Xing", b"Info", b"VBRI"))

    def _check_end(self, sound: soundfile.SoundFile) -> None:
        """The last sample of a FLAC is there; a search by halves, not a decode of the whole."""
        try:
            sound.seek(sound.frames - 1)
            whole = len(sound.read(1, dtype="float64", always_2d=True)) == 1
            sound.seek(0)
        except soundfile.LibsndfileError:
            whole = False
        if not whole:
            raise FileError(
                f"{self._path} is truncated: its header promises {sound.frames} samples and the"
                " last one is not there; copy or export it again"
            )


class _Sink(Protocol):
    """Where encoded samples go."""

    def write(self, values: NDArray[Any]) -> None: ...
    def finish(self, totals: Totals) -> Temporary: ...
    def discard(self) -> None: ...


class Writer:
    """A new file that stays the file `like` is: its container, coding and every chunk.

    Nothing is seen at `target` before `commit`; leaving the `with` without it removes what was
    written. `overs` counts samples over full scale (clipped in integers, kept in floats); `notes`
    says what could not be kept.

    Args:
        like: the source, whose metadata is carried over
        sample_rate: of the new file in Hz; positions in metadata follow it
        container, subtype: other than the target's suffix and the source say
        overwrite: an existing target may be replaced
        in_place: the target is the source itself; a backup NAME.orig.EXT is kept
        provenance: our record; an earlier one is replaced
        coding_history: a line for the CodingHistory of a `bext` chunk
        dither_seed: the same seed gives the same dither at the same place
        start: the place of its first sample in the whole sound, where it is an excerpt: its dither
            and its time reference are those of the whole
        num_samples: how many are expected; chooses RF64 beforehand, corrected at the end
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        like: FileInfo,
        *,
        sample_rate: int | None = None,
        container: str | None = None,
        subtype: str | None = None,
        overwrite: bool = False,
        in_place: bool = False,
        provenance: Mapping[str, Any] | None = None,
        coding_history: str | None = None,
        dither_seed: int = 0,
        start: int = 0,
        num_samples: int | None = None,
    ) -> None:
        self.overs = 0
        self.num_samples = 0
        self.backup: Path | None = None
        self.target = Path(target)
        self._replace, self._is_source = check_target(self.target, like.path, overwrite, in_place)
        self.container, self.subtype, self.notes = output_format(
            like, self.target, container, subtype
        )
        self.sample_rate = sample_rate or like.sample_rate
        check_format(self.sample_rate, like.num_channels)
        self._num_channels = like.num_channels
        self._seed, self._start = dither_seed, start
        self._peaks = [(0.0, 0)] * like.num_channels
        self._committed = False
        if num_samples is None:
            num_samples = round(like.num_samples * self.sample_rate / like.sample_rate)
        self._cleanup = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(Reader(like.path))
            self._coding = _coding(self.container, self.subtype, source.table)
            mask = _FLAC_SPEAKERS.get(like.num_channels, 0) if like.container == "FLAC" else 0
            wanted = Target(
                container=self.container,
                sample_rate=self.sample_rate,
                num_channels=like.num_channels,
                coding=self._coding,
                record=None if provenance is None else canonical_json(provenance),
                coding_history=coding_history,
                channel_mask=mask,
                start=start,
            )
            real = Path(os.path.realpath(self.target))
            sink: type[_FlacSink] | type[_PcmSink]
            sink = _FlacSink if self.container == "FLAC" else _PcmSink
            self._sink: _Sink = sink(real, wanted, source, num_samples, self.notes)
            stack.callback(self._sink.discard)
            self._like, self._source = like, source
            self._cleanup = stack.pop_all()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def write(self, samples: NDArray[np.floating], added: NDArray[np.bool_] | bool) -> None:
        """The next samples.

        Args:
            samples: full scale is ±1, [channels, n]
            added: True where new content was added, [channels, n] or [n]: integers are dithered
                there, and rounded exactly elsewhere
        """
        if samples.ndim != 2 or samples.shape[0] != self._num_channels:
            raise AudioError(
                f"samples must be [{self._num_channels}, n] for {self.target},"
                f" got {list(samples.shape)}"
            )
        mask = np.broadcast_to(np.asarray(added, dtype=bool), samples.shape)
        check_finite(samples, self.num_samples, self.sample_rate)
        for i in range(0, samples.shape[1], ENCODED_SAMPLES):
            part = np.asarray(samples[:, i : i + ENCODED_SAMPLES], dtype=np.float64)
            self._note_peaks(part)
            if self._coding.is_float:
                self.overs += int(np.count_nonzero(np.abs(part) > 1))
                self._sink.write(part)
            else:
                here = mask[:, i : i + ENCODED_SAMPLES]
                place = self._start + self.num_samples
                whole, overs = quantise(part, here, self._coding.bits, self._seed, place)
                self.overs += overs
                self._sink.write(whole)
            self.num_samples += part.shape[1]

    def commit(self) -> Path:
        """Finish the file and give it its name, in one step; its path.

        Raises:
            FileError: another program changed the source meanwhile, or it cannot be written
        """
        self._check_source()
        temporary = self._sink.finish(Totals(self.num_samples, tuple(self._peaks)))
        real = temporary.target
        backup = real.with_stem(f"{real.stem}.orig") if self._is_source else None
        self.backup = temporary.publish(self._replace, backup)
        return self.target

    def _check_source(self) -> None:
        path = self._like.path
        with translated(path, "read"):
            now = [_stamp(os.fstat(self._source.file.fileno()))]
            if self._is_source:  # or what somebody put in its place would be replaced
                now.append(_stamp(os.stat(path)))
        if any(one != self._like.stamp for one in now):
            raise FileError(
                f"{path} was changed by another program while it was read, and nothing was"
                " written; try again"
            )

    def _note_peaks(self, samples: NDArray[np.float64]) -> None:
        for channel, row in enumerate(np.abs(samples)):
            place = int(row.argmax())
            if row[place] > self._peaks[channel][0]:
                self._peaks[channel] = (float(row[place]), self.num_samples + place)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """What differs once somebody has written to a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_target(target: Path, source: Path, overwrite: bool, in_place: bool) -> tuple[bool, bool]:
    """Whether a file is replaced, and whether it is the source; OutputExistsError if it may not."""
    with translated(target, "written"):
        try:
            there = os.stat(target)
        except FileNotFoundError:
            return False, False
        if stat.S_ISDIR(there.st_mode):
            raise FileError(f"{target} is a folder; name a file in it")
        if not stat.S_ISREG(there.st_mode):
            raise FileError(f"{target} is no regular file; choose another name")
        if os.path.samestat(there, os.stat(source)):
            if in_place:
                return True, True
            raise OutputExistsError(
                f"{target} is the source itself; choose another name, or ask for it to be"
                " replaced in place, which keeps a backup"
            )
    if not overwrite:
        raise exists(target)
    return True, False


def check_folder(target: Path, dry_run: bool = False) -> None:
    """FileError unless a file can be made where `target` will be; a dry run would make a folder."""
    folder = Path(os.path.realpath(target)).parent
    with translated(target, "written"):
        try:
            os.stat(folder)
        except FileNotFoundError:
            if not dry_run:
                raise
            return
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "permission denied")


def copy_file(source: Path, target: Path, overwrite: bool, in_place: bool) -> None:
    """The same bytes under another name, whole or not at all; in place, nothing to do."""
    replaces, is_source = check_target(target, source, overwrite, in_place)
    if is_source:
        return
    file, size = _open(source)
    with file, contextlib.ExitStack() as stack:
        temporary = Temporary(Path(os.path.realpath(target)))
        stack.callback(temporary.discard)
        temporary.write_pieces([Span(0, size)], file)
        temporary.publish(replaces)


def output_format(
    like: FileInfo, target: Path, container: str | None = None, subtype: str | None = None
) -> tuple[str, str, list[str]]:
    """Container and subtype of a new file, and what of the source they cannot hold.

    By default those of the source; WAV with PCM_24 where that is lossy or cannot be written. The
    target's suffix may name another container, and `container` and `subtype` overrule it.
    """
    suffix = target.suffix.lower()
    if container is None and suffix in READ_ONLY_SUFFIXES:
        raise FileError(f"{target} cannot be written: {suffix} is only read; choose .wav or .flac")
    own = like.container if like.container in FAMILIES else "WAV"
    chosen = container or SUFFIXES.get(suffix, own)
    if chosen not in FAMILIES:
        raise FileError(f"{chosen} cannot be written; choose one of {', '.join(FAMILIES)}")
    family = FAMILIES[chosen]
    if container is None and FAMILIES[own] == family and suffix not in (".rf64", ".bw64"):
        chosen = own
    kind = subtype or ("PCM_24" if like.lossy else like.subtype)
    if kind not in BITS and kind not in FLOATS:
        raise FileError(f"{kind} cannot be written; choose one of {', '.join([*BITS, *FLOATS])}")
    notes = []
    if not (chosen == like.container == "AIFC" and kind == "PCM_U8"):
        nearest = _NEAREST[family].get(kind, kind)
        if nearest != kind:
            notes.append(f"{chosen} cannot hold {kind}; {nearest} was written")
        kind = nearest
    if chosen == "AIFF" and kind in FLOATS:
        chosen = "AIFC"
    if FAMILIES.get(like.container) != family:
        notes.append(
            f"tags and markers of the {like.container} source are not carried into {chosen}"
        )
    if like.lossy and subtype is None:
        notes.append(f"{like.container} {like.subtype} is lossy; {chosen} {kind} was written")
    if family == "FLAC" and like.num_channels > 8:
        raise FileError(f"FLAC holds 8 channels, {like.path} has {like.num_channels}; choose WAV")
    return chosen, kind, notes


def canonical_json(record: Mapping[str, Any]) -> bytes:
    """The same record gives the same bytes: sorted keys, no spaces, ASCII."""
    text = json.dumps(dict(record), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def provenance_of(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record that a Writer left in the file; None if there is none that can be read."""
    with Reader(path) as reader:
        body = None
        with translated(Path(path), "read"):
            if isinstance(reader.table, flac.FlacTable):
                body = flac.provenance(reader.file, reader.table)
            elif isinstance(reader.table, Table):
                family = FAMILIES[reader.table.container]
                of = riff.provenance if family == "RIFF" else aiff.provenance
                body = of(reader.file, reader.table)
    try:
        record = json.loads(body) if body else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class _PcmSink:
    """Samples laid straight into the new file; only sizes and peaks are filled in at the end."""

    def __init__(
        self, target: Path, wanted: Target, source: Reader, expected: int, notes: list[str]
    ) -> None:
        self._wanted = wanted
        self._family = FAMILIES[wanted.container]
        same = isinstance(source.table, Table) and (
            FAMILIES[source.table.container] == self._family
        )
        self._source = source.file if same else None
        self._table = source.table if same and isinstance(source.table, Table) else None
        self._align = wanted.coding.width * wanted.num_channels
        self._num_samples = 0
        layout = self._layout(wide=False)
        if self._size(layout, expected) > self._limit:
            self._refuse_aiff(target)
            layout = self._layout(wide=True)
        notes += layout.notes
        self._notes = notes
        self._layout_now = layout
        self._temporary = Temporary(target)
        try:
            self._temporary.write_pieces(layout.head(Totals(0)), self._source)
        except BaseException:
            self._temporary.discard()
            raise

    def write(self, values: NDArray[Any]) -> None:
        self._num_samples += values.shape[1]
        if self._family == "AIFF" and self._num_samples * self._align > self._limit:
            self._refuse_aiff(self._temporary.target)
        self._temporary.write(self._wanted.coding.encode(values))

    def finish(self, totals: Totals) -> Temporary:
        layout = self._layout_now
        if self._size(layout, totals.num_samples) > self._limit and not self._is_wide(layout):
            layout = self._relay(totals)
        elif self._family == "AIFF" and self._size(layout, totals.num_samples) > self._limit:
            self._refuse_aiff(self._temporary.target)
        self._temporary.write_pieces(layout.tail(totals), self._source)
        self._temporary.rewrite_pieces(layout.head(totals))
        if self._is_wide(layout) and self._wanted.container == "WAV":
            self._notes.append("more than 4 GB do not fit a WAV file; it was written as RF64")
        return self._temporary

    def discard(self) -> None:
        self._temporary.discard()

    @property
    def _limit(self) -> int:
        return riff.MAX_RIFF_BYTES if self._family == "RIFF" else aiff.MAX_AIFF_BYTES

    def _layout(self, wide: bool) -> Layout:
        if self._family == "RIFF":
            return riff.RiffLayout(self._wanted, wide, self._source, self._table)
        return aiff.AiffLayout(self._wanted, self._source, self._table)

    @staticmethod
    def _is_wide(layout: Layout) -> bool:
        return not isinstance(layout, riff.RiffLayout) or layout.wide

    def _size(self, layout: Layout, num_samples: int) -> int:
        totals = Totals(num_samples)
        pieces = [*layout.head(totals), *layout.tail(totals)]
        around = sum(p.size if isinstance(p, Span) else len(p) for p in pieces)
        return around + num_samples * self._align

    def _refuse_aiff(self, target: Path) -> None:
        if self._family == "AIFF":
            raise FileError(
                f"{target} cannot be written: AIFF holds at most 4 GB; choose WAV, which grows to"
                " RF64"
            )

    def _relay(self, totals: Totals) -> Layout:
        """More samples came than were expected: make room for RF64's sizes."""
        narrow, wide = self._layout_now, self._layout(wide=True)
        none = Totals(0)
        start = sum(p.size if isinstance(p, Span) else len(p) for p in narrow.head(none))
        old = self._temporary
        self._temporary = Temporary(old.target)
        try:
            self._temporary.write_pieces(wide.head(none), self._source)
            audio = Span(start, start + totals.num_samples * self._align)
            self._temporary.write_pieces([audio], old.file)
        finally:
            old.discard()
        self._layout_now = wide
        return wide


class _FlacSink:
    """libsndfile encodes into one hidden file; its frames are joined to the old metadata."""

    def __init__(
        self, target: Path, wanted: Target, source: Reader, expected: int, notes: list[str]
    ) -> None:
        self._wanted = wanted
        self._notes = notes
        self._source = source.file
        self._old_rate = source.info.sample_rate
        self._table = source.table if isinstance(source.table, flac.FlacTable) else None
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self._encoded = Temporary(target)
            stack.callback(self._encoded.discard)
            self._output = SoundOutput(self._encoded)
            try:
                self._sound = soundfile.SoundFile(
                    self._output,
                    "w",
                    samplerate=wanted.sample_rate,
                    channels=wanted.num_channels,
                    subtype=wanted.coding.subtype,
                    format="FLAC",
                )
            except soundfile.LibsndfileError as error:
                self._output.check()
                raise FileError(
                    f"{target} cannot be written as FLAC: {_reason(error)}; choose WAV"
                ) from error
            stack.callback(self._close)
            self._stack = stack.pop_all()

    def write(self, values: NDArray[Any]) -> None:
        shift = 32 - self._wanted.coding.bits
        interleaved = np.ascontiguousarray(values.T.astype(np.int32) << shift)
        try:
            self._sound.write(interleaved)
        except (soundfile.LibsndfileError, AssertionError) as error:
            self._output.check()
            raise FileError(f"{self._encoded.target} cannot be written: {error}") from error
        self._output.check()

    def finish(self, totals: Totals) -> Temporary:
        try:
            self._sound.close()
        except (soundfile.LibsndfileError, RuntimeError) as error:
            self._output.check()
            raise FileError(f"{self._encoded.target} cannot be written: {error}") from error
        self._output.check()
        encoded = self._encoded.file
        frames: list[Piece] = []
        if totals.num_samples:
            with translated(self._encoded.target, "written"):
                new = flac.read_table(encoded, encoded.seek(0, io.SEEK_END))
                stream_info = read_span(encoded, new.blocks[0].body)
            frames = [new.frames]
        else:  # libsndfile writes nothing then
            wanted = self._wanted
            stream_info = flac.StreamInfo(
                wanted.sample_rate, wanted.num_channels, wanted.coding.bits, 0
            ).encode()
        head, notes = flac.new_head(
            stream_info, self._wanted, self._source, self._table, self._old_rate
        )
        self._notes += notes
        final = Temporary(self._encoded.target)
        self._stack.callback(final.discard)
        final.write_pieces(head, self._source)
        final.write_pieces(frames, encoded)
        return final

    def discard(self) -> None:
        self._stack.close()

    def _close(self) -> None:
        with contextlib.suppress(soundfile.LibsndfileError, RuntimeError):
            self._sound.close()


class _Window:
    """A prefix, then bytes start to stop of an open file, as one file for libsndfile to read."""

    def __init__(self, file: BinaryIO, start: int, stop: int, prefix: bytes = b"") -> None:
        self._file, self._start, self._prefix = file, start, prefix
        self._size = len(prefix) + stop - start
        self._place = 0

    def read(self, size: int) -> bytes:
        size = max(0, min(size, self._size - self._place))
        data = self._prefix[self._place : self._place + size]
        if len(data) < size:
            self._file.seek(self._start + self._place + len(data) - len(self._prefix))
            data += self._file.read(size - len(data))
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}
        self._place = max(0, base[whence] + offset)
        return self._place

    def tell(self) -> int:
        return self._place


class SoundOutput:
    """A Temporary for libsndfile to write; an error waits for `check`, for C cannot carry it."""

    def __init__(self, temporary: Temporary) -> None:
        self._temporary = temporary
        self._error: FileError | None = None

    def write(self, data: bytes) -> int:
        try:
            self._temporary.write(data)
        except FileError as error:
            self._error = error
            return 0
        return len(data)

    def read(self, size: int) -> bytes:
        return self._temporary.file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._temporary.file.seek(offset, whence)

    def tell(self) -> int:
        return self._temporary.file.tell()

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def _open(path: Path) -> tuple[BinaryIO, int]:
    """A regular file and its size in bytes; a FIFO or device is refused without opening it."""
    with translated(path, "read"):
        _check_regular(path, os.stat(path))
        # between the two calls a FIFO may have come: then O_NONBLOCK keeps us from waiting for it
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = open(os.open(path, flags), "rb")  # noqa: SIM115
    return _checked(path, file)


def _checked(path: Path, file: BinaryIO) -> tuple[BinaryIO, int]:
    try:
        now = os.fstat(file.fileno())
        _check_regular(path, now)
        if now.st_size == 0:
            raise FileError(f"{path} is empty (0 bytes); {_READABLE} was wanted")
    except BaseException:
        file.close()
        raise
    return file, now.st_size


def _check_regular(path: Path, now: os.stat_result) -> None:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(now.st_mode))
    if kind:
        raise FileError(f"{path} is {kind}; a sound file was wanted: {_READABLE}")


def _count(sound: soundfile.SoundFile) -> int:
    """Samples of a sound that does not say so, by decoding it once."""
    count = 0
    while n := len(sound.read(ENCODED_SAMPLES, dtype="float32")):
        count += n
    sound.seek(0)
    return count


def _named(path: Path, error: FileError) -> str:
    text = str(error)
    return text if text.startswith(str(path)) else f"{path} {text}"


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return str(text).strip().rstrip(".")


def _coding(container: str, subtype: str, table: Table | flac.FlacTable | None) -> Coding:
    """How samples lie in the new file: as in the source where that is of the same kind."""
    family = FAMILIES[container]
    if isinstance(table, Table) and table.coding and FAMILIES[table.container] == family:
        kept = container == table.container or family == "RIFF"
        if table.coding.subtype == subtype and kept:
            return table.coding
    return Coding(subtype, big_endian=family == "AIFF")
