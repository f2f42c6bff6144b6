"""Sounds that arrived, on disk: one file a job, that a kill at any moment leaves usable.

    <folder>/<job>.f4.part     its sound is arriving; its size says how much is there
             <job>.f4          complete: one rename

Raw frames, [samples, channels], float32 (f4) or float64 (f8), little endian. The daemon writes
with `Spool`, the worker reads with `SpoolReader`, also while the file grows.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiosr_core.errors import FileError
from bridge.errors import BusyError, CodedError, JobError
from bridge.protocol import DTYPES

PART = ".part"
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


class Spool:
    """The daemon's side of one sound: appended to, completed, removed.

    What an earlier process left is taken up where it ends; a torn last frame is cut.

    Raises:
        JobError: the job's name is none
        FileError: the folder cannot be written
    """

    def __init__(self, folder: Path, job: str, num_channels: int, dtype: str = "f4") -> None:
        self.path = spool_path(folder, job, dtype)
        self.num_channels, self.dtype = num_channels, DTYPES[dtype]
        self._frame = num_channels * self.dtype.itemsize
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

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        return self.received * self._frame

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
        view = frames.data.cast("B")
        place = self.size_bytes
        try:
            while view:
                count = os.pwrite(self._file, view, place)
                view, place = view[count:], place + count
        except OSError as error:
            with contextlib.suppress(OSError):
                self._cut()
            raise BusyError(
                "the sound cannot be kept in the daemon's cache folder:"
                f" {error.strerror or error}; free some space there, or choose another folder with"
                " AUDIOSR_BRIDGE_CACHE_DIR"
            ) from error
        self.received += samples.shape[1]

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

    def _cut(self) -> None:
        os.ftruncate(self._file, self.received * self._frame)


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
        view, place = frames.data.cast("B"), start * self._frame
        while view:
            count = os.preadv(self._file, [view], place)
            if count == 0:
                raise FileError(
                    f"samples {start} to {stop} of the spooled sound {self.path.name} must be"
                    f" there, it has {self.num_samples}; send it again"
                )
            view, place = view[count:], place + count
        return np.ascontiguousarray(frames.T)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


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
