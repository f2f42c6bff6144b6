"""A file nobody sees until it is whole.

open     .song.wav.3f9c.part   hidden, beside the target, so that a rename is one step
write    ...
publish  fsync → link or rename to song.wav → fsync of the folder
discard  unlink; also whenever the `with` is left early

Whoever writes one holds a lock on it. What a killed process left is locked by nobody, and goes
when the same target is written again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from audiosr_core.containers.chunks import Piece, Span
from audiosr_core.errors import FileError, OutputExistsError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

COPY_BYTES = 1 << 20

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and try again",
    errno.EDQUOT: "the disk quota is used up; free some space and try again",
    errno.EFBIG: "it would be larger than the file system or a limit allows; choose another place",
    errno.EACCES: "permission denied; change its rights or choose another place",
    errno.EPERM: "permission denied; change its rights or choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOENT: "there is no such file or folder; check the name",
    errno.ENOTDIR: "there is no such folder; check the name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "its symbolic links go round in a circle; check the name",
}


@contextlib.contextmanager
def translated(path: Path | str, what: str) -> Iterator[None]:
    """OSError becomes FileError: "PATH cannot be `what`: reason; what to do"."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise FileError(f"{path} cannot be {what}: {reason}") from error


class Temporary:
    """A hidden file beside `target`; gone unless it is published."""

    def __init__(self, target: Path) -> None:
        self.target = target
        discard_orphans(target)
        with translated(target, "written"):
            self.path, self._file = _made(target)
            self._lock = os.dup(self._file.fileno())  # until it has its name

    def write(self, data: bytes) -> None:
        """All of it, or FileError."""
        view = memoryview(data)
        with translated(self.target, "written"):
            while view:
                view = view[self._file.write(view) :]

    def write_pieces(self, pieces: list[Piece], source: BinaryIO | None) -> None:
        """Bytes as they are, spans copied from the source."""
        for piece in pieces:
            if isinstance(piece, bytes):
                self.write(piece)
                continue
            assert source is not None
            place = piece.start
            while place < piece.stop:
                with translated(self.target, "written"):
                    source.seek(place)
                    data = source.read(min(COPY_BYTES, piece.stop - place))
                if not data:
                    raise FileError(f"{self.target} cannot be written: its source became shorter")
                self.write(data)
                place += len(data)

    def rewrite_pieces(self, pieces: list[Piece]) -> None:
        """From the beginning again: what was made anew; what was copied is there already."""
        place = 0
        for piece in pieces:
            if isinstance(piece, Span):
                place += piece.size
                continue
            self.seek(place)
            self.write(piece)
            place += len(piece)

    def seek(self, place: int) -> None:
        self._file.seek(place)

    @property
    def file(self) -> BinaryIO:
        return self._file

    def discard(self) -> None:
        """Close and remove; harmless after publishing."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._unlock()

    def publish(self, replace: bool, backup: Path | None = None) -> Path | None:
        """Give the file its name in one step; the backup's path, if one was asked for.

        Without `replace` a target that appeared meanwhile is left alone: OutputExistsError. With
        it, the new file takes over the mode and owner of the old one. `backup` is the first name
        to try; a backup that exists is never overwritten.
        """
        with translated(self.target, "written"):
            if replace:
                self._take_over_mode()
            os.fsync(self._file.fileno())
            self._file.close()
            kept = _back_up(self.target, backup) if backup else None
            try:
                if replace:
                    os.replace(self.path, self.target)
                else:
                    _rename_new(self.path, self.target)
            except FileExistsError as error:
                raise exists(self.target) from error
            except OSError:
                if kept and self.path.exists():  # else it was renamed, whatever a server says
                    kept.unlink()
                raise
            sync_folder(self.target.parent)
        self._unlock()
        return kept

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_over_mode(self) -> None:
        try:
            old = os.stat(self.target)
        except FileNotFoundError:
            return
        with contextlib.suppress(OSError, AttributeError):
            os.fchown(self._file.fileno(), old.st_uid, old.st_gid)
        with contextlib.suppress(OSError, AttributeError):
            os.fchmod(self._file.fileno(), old.st_mode & 0o7777)


def write_whole(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """These bytes as a file, all of them or none; OutputExistsError if it may not be replaced.

    A link stays one; a device, a pipe or a folder is never replaced.
    """
    if not overwrite and path.exists():
        raise exists(path)
    check_regular(path)
    temporary = Temporary(Path(os.path.realpath(path)))
    try:
        temporary.write(data)
        temporary.publish(replace=overwrite)
    finally:
        temporary.discard()


def check_regular(path: Path) -> None:
    """FileError if there is something that is no file, which a rename would replace."""
    with translated(path, "written"), contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileError(f"{path} is no regular file; choose another name")


def discard_orphans(target: Path) -> None:
    """Remove what processes that were killed left of a target."""
    real = Path(os.path.realpath(target))
    orphan = re.compile(re.escape(f".{real.name[:40]}.") + r"[0-9a-f]{8}\.part")
    with contextlib.suppress(OSError):
        for name in os.listdir(real.parent):
            if orphan.fullmatch(name):
                _discard_orphan(real.with_name(name))


def _discard_orphan(path: Path) -> None:
    """Unless somebody is writing it, or nobody can say."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            _take(descriptor)
            path.unlink()
        finally:
            os.close(descriptor)


def _made(target: Path) -> tuple[Path, FileIO]:
    """A new hidden file, locked."""
    while True:
        path = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        # 0o666: the kernel takes the user's umask off, as for any new file
        file = open(os.open(path, flags, 0o666), "w+b", buffering=0)  # noqa: SIM115
        taken = False  # for an orphan, before it was locked
        try:
            _take(file.fileno())
        except BlockingIOError:
            taken = True
        except OSError:  # no locks here, so nobody takes anything
            pass
        if not taken and path.exists():
            return path, file
        file.close()


def _take(descriptor: int) -> None:
    """Lock a file; BlockingIOError if somebody else has it, OSError where there are no locks."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, "no locks")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def exists(path: Path) -> OutputExistsError:
    return OutputExistsError(
        f"{path} exists already; choose another name or allow it to be replaced (--overwrite)"
    )


def sync_folder(folder: Path) -> None:
    """Make a rename last, where the system knows how."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rename_new(old: Path, new: Path) -> None:
    """Rename without replacing: FileExistsError if `new` is there, whoever made it and when."""
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name, then fill it
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(old, new)
    else:
        os.unlink(old)


def _back_up(path: Path, backup: Path) -> Path:
    """Keep `path` under the first free name of backup, backup 2, ...; a link, not a copy."""
    number = 1
    while True:
        name = backup if number == 1 else backup.with_stem(f"{backup.stem}.{number}")
        try:
            os.link(path, name)
            return name
        except FileExistsError:
            number += 1
        except OSError:  # a file system without links
            try:
                _copy_new(path, name)
                return name
            except FileExistsError:
                number += 1


def _copy_new(path: Path, name: Path) -> None:
    """Whole before it has its name, or a kill would leave a backup that is none."""
    copy = Temporary(name)
    try:
        with open(path, "rb") as old:
            while data := old.read(COPY_BYTES):
                copy.write(data)
        copy.publish(replace=False)
    except OutputExistsError as error:
        raise FileExistsError(name) from error
    finally:
        copy.discard()
