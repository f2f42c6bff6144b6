"""Sounds that arrived, on disk: what a kill at any moment leaves usable.

    <folder>/<job>.f4.part     its sound is arriving; its size says how much is there
             <job>.f4          complete: one rename
             <job>.f4.0 …      a stream, in segments; see `StreamSpool`

Raw frames, [samples, channels], float32 (f4) or float64 (f8), little endian. The daemon writes
with `Spool` or `StreamSpool`, the worker reads with `SpoolReader` or `StreamReader`, also while
more comes.
"""

from __future__ import annotations

import contextlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audiosr_core.errors import FileError
from bridge.errors import BusyError, CodedError, JobError
from bridge.protocol import DTYPES

PART = ".part"
SEGMENT_BYTES = 1 << 20  # of a stream: what of it is let go of at once
_JOB = re.compile(r"[A-Za-z0-9_-]{1,64}")


def spool_path(folder: Path, job: str, dtype: str = "f4") -> Path:
    """The file of a complete sound; JobError where a job's name could lead elsewhere."""
    if not _JOB.fullmatch(job):
        raise JobError(
            f"a job's name must be up to 64 letters, digits, - and _, got {job[:80]!r};"
            " take the one that job_id makes"
        )
    return folder / f"{job}.{dtype}"


def used_bytes(folder: Path) -> int:
    """What all sounds of this folder take."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # gone meanwhile
                total += entry.stat(follow_symlinks=False).st_size
    return total


class Arriving(ABC):
    """The daemon's side of one sound: appended to, completed, removed.

    Attributes:
        received: the sample that comes next
        complete: nothing comes any more
    """

    def __init__(self, path: Path, num_channels: int, dtype: str) -> None:
        self.path, self.num_channels, self.dtype = path, num_channels, DTYPES[dtype]
        self.received, self.complete = 0, False
        self._frame = num_channels * self.dtype.itemsize

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, samples: NDArray[np.floating], start: int) -> None:
        """The next samples, [channels, samples], the first of which is number `start`.

        Raises:
            CodedError: E_SEQUENCE, they do not follow what is there, or the sound is complete
            BusyError: the disk is full; what was there before is still there
        """
        if self.complete or start != self.received:
            raise CodedError(
                "E_SEQUENCE",
                f"sample {self.received} must follow, got {start}"
                if not self.complete
                else f"the sound is complete with {self.received} samples, more came",
            )
        if samples.ndim != 2 or samples.shape[0] != self.num_channels:
            raise CodedError(
                "E_PROTOCOL",
                f"a block must be [{self.num_channels}, samples], got {list(samples.shape)}",
            )
        frames = np.empty((samples.shape[1], self.num_channels), self.dtype)
        if not frames.size:
            return
        for i, channel in enumerate(samples):  # much faster than a transposed copy
            frames[:, i] = channel
        try:
            self._write(frames.data.cast("B"), self.received * self._frame)
        except OSError as error:
            raise BusyError(
                "the sound cannot be kept in the daemon's cache folder:"
                f" {error.strerror or error}; free some space there, or choose another folder with"
                " AUDIOSR_BRIDGE_CACHE_DIR"
            ) from error
        self.received += samples.shape[1]

    @abstractmethod
    def finish(self) -> None:
        """The sound is complete."""

    @abstractmethod
    def remove(self) -> None:
        """Close and forget the sound."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _write(self, view: memoryview, place: int) -> None:
        """All of these bytes, or OSError and none of them."""


class Spool(Arriving):
    """A whole sound, in one file.

    What an earlier process left is taken up where it ends; a torn last frame is cut.

    Raises:
        JobError: the job's name is none
        FileError: the folder cannot be written
    """

    def __init__(self, folder: Path, job: str, num_channels: int, dtype: str = "f4") -> None:
        super().__init__(spool_path(folder, job, dtype), num_channels, dtype)
        self._part = self.path.with_name(self.path.name + PART)
        self._file = -1
        try:
            self.complete = self.path.is_file()
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            if self.complete:
                self._file = os.open(self.path, flags)
            else:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = os.open(self._part, flags | os.O_CREAT, 0o600)
            self.received = os.fstat(self._file).st_size // self._frame
            self._cut()
        except OSError as error:
            self.close()
            raise _unwritable(self.path, error) from error

    @property
    def size_bytes(self) -> int:
        return self.received * self._frame

    def finish(self) -> None:
        """The sound is complete; that outlives this process."""
        if not self.complete:
            try:
                os.replace(self._part, self.path)
            except OSError as error:
                raise _unwritable(self.path, error) from error
            self.complete = True

    def remove(self) -> None:
        """Close and forget the sound."""
        self.close()
        for path in (self._part, self.path):
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, view: memoryview, place: int) -> None:
        try:
            _write_all(self._file, view, place)
        except OSError:
            with contextlib.suppress(OSError):
                self._cut()
            raise

    def _cut(self) -> None:
        os.ftruncate(self._file, self.received * self._frame)


class StreamSpool(Arriving):
    """A stream, in segments, of which `trim` removes those that nobody needs any more.

        sample     0          n          2n         3n
                   |··········|····┌─────|──────────|─────
                     segment 0   origin    segment 2        n = SEGMENT_BYTES of frames

    Segments lie on an absolute grid, so a stream that begins hours in has none before. Nothing of
    it outlives the daemon.
    """

    def __init__(
        self, folder: Path, job: str, num_channels: int, dtype: str = "f4", origin: int = 0
    ) -> None:
        super().__init__(spool_path(folder, job, dtype), num_channels, dtype)
        self.received = self.begins = origin
        self._segment_bytes = segment_bytes(self._frame)
        self._first = origin * self._frame // self._segment_bytes  # segment
        self._open, self._file = -1, -1  # the segment that is written, its descriptor
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def trim(self, before: int) -> None:
        """Let go of what lies before this sample, as far as whole segments go."""
        before = min(before, self.received)
        while (self._first + 1) * self._segment_bytes <= before * self._frame:
            with contextlib.suppress(OSError):
                segment_path(self.path, self._first).unlink()
            self._first += 1
            self.begins = self._first * self._segment_bytes // self._frame

    def finish(self) -> None:
        self.complete = True

    def remove(self) -> None:
        self.close()
        for index in range(self._first, self.received * self._frame // self._segment_bytes + 1):
            with contextlib.suppress(OSError):
                segment_path(self.path, index).unlink()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._open, self._file = -1, -1

    def _write(self, view: memoryview, place: int) -> None:
        for index, at, size in _segments(place, len(view), self._segment_bytes):
            if index != self._open:
                self.close()
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(segment_path(self.path, index), flags, 0o600)
                self._open = index
            _write_all(self._file, view[:size], at)
            view = view[size:]


class SpoolReader:
    """The worker's side: any place of what has arrived so far.

    Raises:
        FileError: there is no such sound
    """

    def __init__(self, path: Path, num_channels: int, dtype: str = "f4") -> None:
        self.path, self.num_channels, self.dtype = path, num_channels, DTYPES[dtype]
        self._frame = num_channels * self.dtype.itemsize
        self._file = _open(path)

    @property
    def num_samples(self) -> int:
        """How many are there now."""
        return os.fstat(self._file).st_size // self._frame

    def read(self, start: int, stop: int) -> NDArray[np.floating]:
        """Samples start to stop, [channels, stop - start]; FileError where they are not there."""
        frames = np.empty((stop - start, self.num_channels), self.dtype)
        if not frames.size:
            return frames.T
        if not _read_all(self._file, frames.data.cast("B"), start * self._frame):
            raise _missing(self.path, start, stop)
        return np.ascontiguousarray(frames.T)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class StreamReader:
    """The worker's side of a stream."""

    def __init__(self, path: Path, num_channels: int, dtype: str = "f4") -> None:
        self.path, self.num_channels, self.dtype = path, num_channels, DTYPES[dtype]
        self._frame = num_channels * self.dtype.itemsize
        self._segment_bytes = segment_bytes(self._frame)
        self._open, self._file = -1, -1

    @property
    def num_samples(self) -> int:
        """Where the stream ends now."""
        ends = [0]
        for one in self.path.parent.glob(f"{self.path.name}.*"):
            with contextlib.suppress(OSError):  # let go of meanwhile
                ends.append(int(one.suffix[1:]) * self._segment_bytes + one.stat().st_size)
        return max(ends) // self._frame

    def read(self, start: int, stop: int) -> NDArray[np.floating]:
        """As `SpoolReader.read`."""
        frames = np.empty((stop - start, self.num_channels), self.dtype)
        if not frames.size:
            return frames.T
        view = frames.data.cast("B")
        for index, at, size in _segments(start * self._frame, len(view), self._segment_bytes):
            if index != self._open:
                self.close()
                try:
                    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                    self._file = os.open(segment_path(self.path, index), flags)
                except OSError as error:
                    raise _missing(self.path, start, stop) from error
                self._open = index
            if not _read_all(self._file, view[:size], at):
                raise _missing(self.path, start, stop)
            view = view[size:]
        return np.ascontiguousarray(frames.T)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._open, self._file = -1, -1


def segment_path(path: Path, index: int) -> Path:
    return path.with_name(f"{path.name}.{index}")


def segment_bytes(frame_bytes: int) -> int:
    """Of one segment: whole frames."""
    return max(1, SEGMENT_BYTES // frame_bytes) * frame_bytes


def _segments(place: int, size: int, segment: int) -> Iterator[tuple[int, int, int]]:
    """Segment, place in it and size of each part of these bytes."""
    while size:
        index, at = divmod(place, segment)
        part = min(size, segment - at)
        yield index, at, part
        place, size = place + part, size - part


def _write_all(file: int, view: memoryview, place: int) -> None:
    while view:
        count = os.pwrite(file, view, place)
        view, place = view[count:], place + count


def _read_all(file: int, view: memoryview, place: int) -> bool:
    """Fill it; False where the file ends before."""
    while view:
        count = os.preadv(file, [view], place)
        if not count:
            return False
        view, place = view[count:], place + count
    return True


def _missing(path: Path, start: int, stop: int) -> FileError:
    return FileError(
        f"samples {start} to {stop} of the spooled sound {path.name} must be there, but are not;"
        " send it again"
    )


def _open(path: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    part = path.with_name(path.name + PART)
    for one in (path, part, path):  # it may be completed between the first two
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(one, flags)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise FileError(f"{one} cannot be read: {error.strerror}") from error
    raise FileError(f"the spooled sound {path.name} is not there; send it again")


def _unwritable(path: Path, error: OSError) -> FileError:
    return FileError(
        f"{path.parent} must take the sounds that arrive, but cannot: {error.strerror or error};"
        " free some space or check its rights"
    )
