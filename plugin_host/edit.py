"""The contract of an external editor: the same file again, with its missing high band.

The host that handed over a file reads it again when we have gone. So it keeps its name, container,
format, rate and channels, and its length to the sample; and whatever happens, it is the old file
or the new one, whole.

    song.wav ───────────── extend ──────────▶ .song.3f9c0d12.edit.wav   hidden, beside it
        │ link, unless it is there                       │ compared, then renamed
        ▼                                                ▼
    song.orig.wav   the first original               song.wav

    edit again   starts from song.orig.wav, so that edits do not pile up
    undo         song.orig.wav becomes song.wav again, bit for bit
    confirm      song.orig.wav is removed

That nobody else changed the file after an edit is known by its SHA-256, which is noted in the
state folder before the file gets its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from audiosr_core.containers.temporary import sync_folder, translated
from audiosr_core.errors import FileError, UsageError
from audiosr_core.files import FileInfo, check_folder, copy_file, output_format, probe
from audiosr_core.report import Report
from audiosr_core.settings import Settings
from bridge.runtime_dir import private_folder, runtime_folder, state_folder
from plugin_host.errors import ChangedError

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike


def original_of(path: Path) -> Path:
    """Where the original of an edited file lies, or would."""
    file = _real(path)
    return file.with_stem(f"{file.stem}.orig")


def edit_file(
    path: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    on_progress: Callable[[float], None] = lambda fraction: None,
    engine: EngineLike | None = None,
) -> Report:
    """Extend a file in its place; one that needs nothing is left as it is.

    Args:
        overwrite: start from the original though somebody changed the file after an edit
        on_progress: told the fraction done; raise from it to cancel, and nothing was changed
        engine: where to compute; None for this process and the default device

    Raises:
        ChangedError: somebody else changed the file after an edit
        FileError: somebody did so during this one, the file cannot be replaced, or it has no room
            for a new band at its rate
    """
    from audiosr_core.extend_file import extend_file  # loads torch, which undo has no use for

    _check_settings(settings)
    with _alone(path) as file:
        before = _stamp(file)
        _check_writable(file)
        source = _source(file, overwrite)
        info = probe(source)
        _check_format(file, info)
        staged = file.with_name(f".{file.stem[:40]}.{_key(file)[:8]}.edit{file.suffix}")
        try:
            _remove(staged)  # of an edit that was killed
            kept = settings.replace(rate="keep")
            report = extend_file(source, staged, kept, on_progress=on_progress, engine=engine)
            report = dataclasses.replace(report, input=str(path), output=str(path))
            if not report.extended:
                _remove(staged)
                free = settings.replace(rate="auto")
                freed = extend_file(source, staged, free, dry_run=True, engine=engine)
                _check_room(path, report, freed)
                return report
            _check_same(path, info, probe(staged))
            backup = _publish(staged, file, before)
        finally:
            _remove(staged)
    return dataclasses.replace(report, backup=str(backup))


def undo(path: Path, *, overwrite: bool = False) -> None:
    """The original again, bit for bit, with the time of now, so that hosts read it again.

    Args:
        overwrite: though somebody changed the file after the edit, which is then lost
    """
    with _alone(path) as file:
        original = _existing_original(path)
        if file.exists():
            _check_writable(file)
            if not overwrite and not _is_as_left(file, original):
                raise _changed(path, "--undo --overwrite loses that change")
        with translated(path, "written"):
            os.utime(original)
            if file.exists() and file.samefile(original):  # of these a rename would leave both
                original.unlink()
            else:
                os.replace(original, file)
            sync_folder(file.parent)


def confirm(path: Path) -> None:
    """Remove the original: the file as it is now is what stays."""
    with _alone(path):
        original = _existing_original(path)
        probe(path)  # no original goes while the file cannot be read
        with translated(original, "removed"):
            original.unlink()
            sync_folder(original.parent)


def _source(file: Path, overwrite: bool) -> Path:
    """What an edit starts from."""
    original = original_of(file)
    if not os.path.lexists(original):
        return file
    if not overwrite and not _is_as_left(file, original):
        raise _changed(
            file, "--confirm keeps the file as it is, and --overwrite starts from the original"
        )
    return original


def _changed(path: Path, choices: str) -> ChangedError:
    return ChangedError(
        f"{path} is not as an edit left it, and {original_of(path).name} is there: {choices}"
    )


def _existing_original(path: Path) -> Path:
    original = original_of(path)
    if not original.is_file():
        raise FileError(f"{path} has no original: there is no {original.name} beside it")
    return original


def _check_settings(settings: Settings) -> None:
    if settings.rate not in ("auto", "keep"):
        raise UsageError(f"an edit keeps the rate of its file, got rate {settings.rate}")
    if settings.mode != "product":
        raise UsageError(f"an edit keeps channels and level, which mode {settings.mode} does not")


def _check_writable(file: Path) -> None:
    """FileError if the file is write-protected, which a rename would not notice."""
    with translated(file, "written"):
        mode = os.stat(file).st_mode
        if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(file, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
    check_folder(file)


def _check_format(file: Path, info: FileInfo) -> None:
    """FileError if a file of this kind cannot be written again."""
    container, subtype, _ = output_format(info, file)
    if info.lossy or (container, subtype) != (info.container, info.subtype):
        raise FileError(
            f"{file} is {info.container} {info.subtype}, which an edit cannot write again;"
            " convert it to WAV, AIFF or FLAC first"
        )


def _check_same(path: Path, old: FileInfo, new: FileInfo) -> None:
    """FileError if the host would find another kind of file."""
    for name in ("container", "subtype", "sample_rate", "num_channels", "num_samples"):
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            raise FileError(
                f"{path} was left as it is: its {name.replace('_', ' ')} is {was} and would have"
                f" become {now}"
            )


def _check_room(path: Path, report: Report, freed: Report) -> None:
    """FileError if something is missing, but only a higher rate, as in `freed`, has room for it."""
    if freed.extended:
        raise FileError(
            f"{path} was left as it is: an edit keeps the rate, and {report.sample_rate} Hz has no"
            f" room above the {report.cutoff_hz / 1000:.1f} kHz that are there; let the host"
            f" convert it to {freed.sample_rate} Hz first, or use `audiosr-bridge extend`"
        )


def _publish(staged: Path, file: Path, before: tuple[int, ...]) -> Path:
    """Give the new file its name, in one step, and keep the original; its path."""
    original = original_of(file)
    with translated(file, "written"):
        shutil.copystat(file, staged)
        with contextlib.suppress(OSError, AttributeError):
            os.chown(staged, file.stat().st_uid, file.stat().st_gid)
        os.utime(staged)
        _note(staged)
        if _stamp(file) != before:
            raise FileError(
                f"{file} was changed by another program during the edit and is as that left it;"
                " try again"
            )
        made = _keep(file, original)
        try:
            os.replace(staged, file)
        except OSError:
            if made:
                original.unlink()
            raise
        sync_folder(file.parent)
    return original


def _keep(file: Path, original: Path) -> bool:
    """The file's bytes under the name of its original too; False if there is one already."""
    try:
        os.link(file, original)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        copy_file(file, original, overwrite=False, in_place=False)
    return True


def _stamp(file: Path) -> tuple[int, ...]:
    """What differs once somebody has written to the file."""
    with translated(file, "read"):
        now = os.stat(file)
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns


def _is_as_left(file: Path, original: Path) -> bool:
    """The file is what some edit made, or the original still."""
    with translated(file, "read"):
        if os.path.samefile(file, original):
            return True
        digest = _sha256(file)
        return (_notes() / digest).exists() or digest == _sha256(original)


def _note(made: Path) -> None:
    (private_folder(_notes()) / _sha256(made)).touch(mode=0o600)


def _notes() -> Path:
    """An empty file for each file that an edit made, under its SHA-256."""
    return state_folder() / "edits"


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """The file behind the name, while nobody else edits it; FileError if somebody does."""
    file = _real(path)
    lock = FileLock(private_folder(runtime_folder()) / f"edit-{_key(file)}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FileError(f"{path} is being edited already; wait for that, or cancel it") from error
    try:
        yield file
    finally:
        lock.release()


def _key(file: Path) -> str:
    return hashlib.sha256(os.fsencode(file)).hexdigest()[:32]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _remove(file: Path) -> None:
    with translated(file, "removed"):
        file.unlink(missing_ok=True)
