"""What is to be done: an album is songs, a song is stems, a stem is one file or a pair of them.

    Album/Intro/Kick%L.wav ┐ mono, of equal rate and length
    Album/Intro/Kick%R.wav ┴▶ stem "Kick"   ┐
    Album/Intro/Vox.wav    ─▶ stem "Vox"    ┴▶ song "Intro"           ─▶ OUT/Intro/…
    Album/Intro/Loop.wav   ─▶ stem "Loop"   ─▶ song "Intro (44100 Hz)"   another rate
    Album/Intro/notes.txt     left out, and counted

What earlier runs wrote is never taken for a source.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audiosr_core.errors import AudioSRError, FileError, UsageError
from audiosr_core.files import READ_ONLY_SUFFIXES, SUFFIXES, FileInfo, probe
from plugin_host.stems.journal import JOURNAL

SOUNDS = frozenset(SUFFIXES) | READ_ONLY_SUFFIXES

_SIDE = re.compile(r"(?P<name>.+)(?P<mark>[%.])(?P<side>[LR])")
_MADE = re.compile(r"(?P<name>.+)\.(extended|orig(\.\d+)?)")  # by `extend`, beside its source


@dataclass(frozen=True)
class Stem:
    """One sound of a song: a file, or the two mono files of a `%L`/`%R` pair."""

    name: str  # without suffix and side
    files: tuple[Path, ...]  # one, or left and right
    targets: tuple[Path, ...]  # where each of them goes


@dataclass(frozen=True)
class Song:
    """Stems that belong together: their sum is the mix."""

    name: str  # its folder within the album
    stems: tuple[Stem, ...]
    notes: tuple[str, ...] = ()  # what was found odd

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for stem in self.stems for file in stem.files)

    @property
    def targets(self) -> tuple[Path, ...]:
        return tuple(target for stem in self.stems for target in stem.targets)

    def numbered(self, number: int) -> Song:
        """The same song with other targets: `Kick.wav` → `Kick.2.wav`."""
        return replace(self, stems=tuple(_numbered(stem, number) for stem in self.stems))


@dataclass(frozen=True)
class Unusable:
    """A song that cannot be begun."""

    name: str
    error: AudioSRError


@dataclass(frozen=True)
class Album:
    """Songs, and what was found on the way to them."""

    folder: Path
    songs: tuple[Song, ...]
    unusable: tuple[Unusable, ...] = ()
    notes: tuple[str, ...] = ()


def read_album(
    folder: Path,
    out: Path,
    *,
    recursive: bool = False,
    each: bool = False,
    exclude: Sequence[str] = (),
) -> Album:
    """The songs in a folder.

    Args:
        out: where the outputs go, in the same structure; may be inside
        recursive: every folder with sounds is a song, not only this one
        each: every file or pair is a song by itself: a folder of mixes
        exclude: patterns of names, or of paths within the folder
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name the folder that holds the stems")
    if os.path.realpath(folder) == os.path.realpath(out):
        raise UsageError(f"{out} holds the originals; choose another folder for the outputs")
    search = _Search(folder, out, recursive, tuple(exclude))
    songs: list[Song] = []
    unusable: list[Unusable] = []
    for here, files in search.folders():
        _read_folder(here, files, folder, out, each, songs, unusable)
    songs = _distinct(songs, unusable)
    return Album(folder, tuple(songs), (*search.unusable, *unusable), search.notes())


def is_sound(path: Path) -> bool:
    """By its name: no hidden file, nothing that is half written."""
    return path.suffix.lower() in SOUNDS and not path.name.startswith(".")


def made_by_extend(path: Path, siblings: Sequence[str]) -> bool:
    """Whether `extend` made this file, or kept it as a backup, beside one of the siblings."""
    made = _MADE.fullmatch(path.stem)
    return made is not None and any(
        Path(one).stem == made["name"] and is_sound(Path(one)) for one in siblings
    )


@dataclass
class _Search:
    """A walk through folders: each once, in the order of their names, and never into outputs."""

    root: Path
    out: Path
    recursive: bool
    exclude: tuple[str, ...]
    others: int = 0  # files that are no sounds
    made: int = 0  # files of earlier runs
    unusable: list[Unusable] = field(default_factory=list)
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def folders(self) -> Iterator[tuple[Path, list[Path]]]:
        self._enters(self.root)
        for here, folders, names in os.walk(self.root, followlinks=True, onerror=self._failed):
            place = Path(here)
            inside = sorted(folders) if self.recursive else []
            folders[:] = [name for name in inside if self._enters(place / name)]
            sounds = [path for name in sorted(names) if self._takes(path := place / name, names)]
            if sounds:
                yield place, sounds

    def notes(self) -> tuple[str, ...]:
        found = [
            (self.others, "are no sounds and were left out"),
            (self.made, "were made by an earlier run and were left out"),
        ]
        return tuple(f"{count} files {what}" for count, what in found if count)

    def _enters(self, folder: Path) -> bool:
        if folder != self.root and (
            folder.name.startswith(".") or self._excluded(folder) or (folder / JOURNAL).exists()
        ):
            return False
        try:
            status = os.stat(folder)
        except OSError as error:
            self._failed(error)
            return False
        identity = (status.st_dev, status.st_ino)
        is_out = os.path.realpath(folder) == os.path.realpath(self.out)
        if is_out or identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def _takes(self, path: Path, siblings: Sequence[str]) -> bool:
        if path.name.startswith(".") or self._excluded(path):
            return False
        if not is_sound(path):
            self.others += 1
            return False
        if made_by_extend(path, siblings):
            self.made += 1
            return False
        return True

    def _excluded(self, path: Path) -> bool:
        within = path.relative_to(self.root)
        return any(within.match(pattern) for pattern in self.exclude)

    def _failed(self, error: OSError) -> None:
        name = str(error.filename)
        failure = FileError(f"{name} cannot be read: {error.strerror}; change its rights")
        self.unusable.append(Unusable(name, failure))


def _read_folder(
    here: Path,
    files: Sequence[Path],
    root: Path,
    out: Path,
    each: bool,
    songs: list[Song],
    unusable: list[Unusable],
) -> None:
    """Add the songs of one folder, or why they cannot be begun."""
    within = here.relative_to(root)
    name = root.resolve().name if within == Path() else within.as_posix()
    infos: dict[Path, FileInfo] = {}
    failures: dict[Path, AudioSRError] = {}
    for file in files:
        try:
            infos[file] = probe(file)
        except AudioSRError as error:
            failures[file] = error
    if each:
        unusable.extend(
            Unusable(file.relative_to(root).with_suffix("").as_posix(), error)
            for file, error in failures.items()
        )
    elif failures:
        broken = FileError(
            f"{'; '.join(map(str, failures.values()))}; a song needs all its stems:"
            " repair them, or leave them out with --exclude"
        )
        unusable.append(Unusable(name, broken))
        return
    folder = out / within
    if each:
        for stem, notes in _stems(infos, folder):
            one = stem.name if within == Path() else f"{name}/{stem.name}"
            songs.append(Song(one, (stem,), notes))
        return
    rates = Counter(info.sample_rate for info in infos.values())
    usual = max(rates, key=lambda rate: (rates[rate], rate))
    for rate in sorted(rates, key=lambda rate: (rate != usual, rate)):
        found = _stems({f: i for f, i in infos.items() if i.sample_rate == rate}, folder)
        stems = tuple(stem for stem, _ in found)
        notes = tuple(note for _, some in found for note in some)
        if rate == usual:
            songs.append(Song(name, stems, notes))
            continue
        odd = f"{rates[rate]} files of {rate} Hz are a song of their own, the others have {usual}"
        songs.append(Song(f"{name} ({rate} Hz)", stems, (odd, *notes)))


def _stems(infos: dict[Path, FileInfo], folder: Path) -> list[tuple[Stem, tuple[str, ...]]]:
    """Stems with notes, in the order of their files."""
    found: list[tuple[Stem, tuple[str, ...]]] = []
    taken: set[Path] = set()
    for file in infos:
        if file in taken:
            continue
        side = _SIDE.fullmatch(file.stem)
        if side is None:
            found.append((_stem(file.stem, [infos[file]], folder), ()))
            continue
        left, right = (
            file.with_name(f"{side['name']}{side['mark']}{one}{file.suffix}") for one in "LR"
        )
        reason = _no_pair(infos.get(left), infos.get(right))
        if reason is None:
            taken |= {left, right}
            found.append((_stem(side["name"], [infos[left], infos[right]], folder), ()))
        else:
            note = f"{file.name} is taken for a mono stem: {reason}"
            found.append((_stem(file.stem, [infos[file]], folder), (note,)))
    return found


def _no_pair(left: FileInfo | None, right: FileInfo | None) -> str | None:
    """Why two files are not the sides of one stem; None if they are."""
    if left is None or right is None:
        return "its other side is missing"
    if left.num_channels != 1 or right.num_channels != 1:
        return "the two sides are not both mono"
    if left.sample_rate != right.sample_rate:
        return f"the sides have {left.sample_rate} and {right.sample_rate} Hz"
    if left.num_samples != right.num_samples:
        return f"the sides have {left.num_samples} and {right.num_samples} samples"
    return None


def _stem(name: str, infos: Sequence[FileInfo], folder: Path) -> Stem:
    """Lossy sources, which cannot be written, become WAV."""
    names = (i.path.with_suffix(".wav").name if i.lossy else i.path.name for i in infos)
    return Stem(name, tuple(i.path for i in infos), tuple(folder / one for one in names))


def _numbered(stem: Stem, number: int) -> Stem:
    end = len(stem.name)
    targets = (t.with_name(f"{t.name[:end]}.{number}{t.name[end:]}") for t in stem.targets)
    return replace(stem, targets=tuple(targets))


def _distinct(songs: Sequence[Song], unusable: list[Unusable]) -> list[Song]:
    """Those whose targets are nobody else's, and no originals."""
    originals = {os.path.realpath(file) for song in songs for file in song.files}
    taken: dict[str, Path] = {}
    kept = []
    for song in songs:
        error = None
        for file, target in zip(song.files, song.targets, strict=True):
            real = os.path.realpath(target)
            if real in originals:
                error = UsageError(f"{target} is an original; choose another folder for outputs")
            elif real in taken:
                error = UsageError(
                    f"{file} and {taken[real]} would both become {target}; rename one of them,"
                    " or leave it out with --exclude"
                )
            taken.setdefault(real, file)
        if error is None:
            kept.append(song)
        else:
            unusable.append(Unusable(song.name, error))
    return kept
