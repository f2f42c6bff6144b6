"""Which output belongs to which input, decided before any work.

-o                       one input     many inputs
not given                beside it     beside each
an existing folder       into it       into it
ends in a slash          into it       into it       (made when missing)
anything else            that file     into it       (made when missing)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from audiosr_core.errors import FileError, UsageError

Namer = Callable[[Path, Path | None], Path]
"""The engine's `default_target`: source, folder or None → target."""


def output_folder(output: str | None, num_inputs: int) -> Path | None:
    """The folder that `-o` means, or None where it means a file or was not given."""
    if output is None:
        return None
    slash = output.endswith(("/", os.sep))
    path = Path(output)
    is_there, is_folder = os.path.exists(path), os.path.isdir(path)  # no name is too long for these
    if num_inputs == 1 and not slash and not is_folder:
        return None
    if is_there and not is_folder:
        raise UsageError(f"-o must be a folder for this, but {path} is a file")
    return path


def made_folder(output: str | None) -> Path | None:
    """The folder that `-o` means where it is one always, made if it is missing."""
    folder = output_folder(output, 2)
    if folder is not None:
        make_folder(folder)
    return folder


def check_distinct(sources: Sequence[Path]) -> None:
    """Raise UsageError if one file is given twice, under whatever names."""
    seen: dict[str, Path] = {}
    for source in sources:
        first = seen.setdefault(os.path.realpath(source), source)
        if first is not source:
            raise UsageError(f"{source} and {first} are the same file; give it once")


def check_report(path: Path | None, sources: Iterable[Path]) -> None:
    """Before any work: a report or picture can be written, and takes the place of no sound.

    Args:
        path: where it shall be; None for nowhere
        sources: what else it must not replace

    Raises:
        UsageError: it would replace a sound, or one of the sources
        FileError: nothing can be written there
    """
    from audiosr_core.containers.temporary import check_regular
    from audiosr_core.files import READ_ONLY_SUFFIXES, SUFFIXES, check_folder

    if path is None:
        return
    real = Path(os.path.realpath(path))
    sounds = {*SUFFIXES, *READ_ONLY_SUFFIXES}
    if not sounds.isdisjoint((path.suffix.lower(), real.suffix.lower())) or any(
        os.path.realpath(source) == str(real) for source in sources
    ):
        raise UsageError(f"a report must not take the place of {path}; choose another name for it")
    check_regular(path)
    check_folder(path)


def plan_targets(
    sources: Sequence[Path], output: str | None, name: Namer, *, make: bool = True
) -> list[Path | FileError]:
    """One target for each source, or the error that keeps that source from having one.

    Raises UsageError where two sources would have one target, or a target is a source.

    Args:
        make: make the folder, where it is missing and some source has a target in it
    """
    folder = output_folder(output, len(sources))
    if output is not None and folder is None:
        targets: list[Path | FileError] = [Path(output)]
    else:
        targets = [_named(source, folder, name) for source in sources]
    originals = {os.path.realpath(source): source for source in sources}
    taken: dict[str, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        if isinstance(target, FileError):
            continue
        real = os.path.realpath(target)
        if real in originals:
            raise UsageError(
                f"{target} is an input and originals are not written over; choose another -o,"
                " or say --in-place, which keeps a backup"
            )
        if real in taken:
            raise UsageError(
                f"{source} and {taken[real]} would both become {target}; extend them into"
                " different folders"
            )
        taken[real] = source
    if folder is not None and make and taken:
        make_folder(folder)
    return targets


def make_folder(folder: Path) -> None:
    """A folder and those above it, where they are missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror}") from error


def _named(source: Path, folder: Path | None, name: Namer) -> Path | FileError:
    try:
        return name(source, folder)
    except FileError as error:
        return error
