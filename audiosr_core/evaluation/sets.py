"""The sounds a system is measured on: named sets with a licence and one protocol.

Nothing is ever downloaded; a set that is not on this machine says what to install.

The protocol, the same for every set:
    mono            the mean of the channels
    44.1 kHz        taken sample by sample and called 48 kHz where the set says so (Sonic Pi): the
                    spectrum is then full to 24 kHz; resampling would leave an empty band on top
    length          at most `max_seconds` from the first sound on; files under 0.5 s (3 s in
                    sonic-pi-long) are left out
    digital silence cut at both ends, because there the ssr distance is 12 whatever was done
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from audiosr_core.errors import FileError, UsageError

EVALUATION_RATE = 48_000
MIN_SECONDS = 0.5
SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".ogg", ".opus", ".wav", ".mp3", ".w64", ".caf"})


@dataclass(frozen=True, eq=False)
class Item:
    """One sound of a set."""

    name: str
    samples: NDArray[np.float64]  # [channels, samples]; one channel unless the set keeps them
    sample_rate: int  # Hz


@dataclass(frozen=True)
class EvaluationSet:
    """Files of one folder under one protocol; iterating reads one file at a time."""

    name: str
    description: str
    licence: str
    files: tuple[Path, ...]
    rate_as_48k: bool = False  # call whatever rate 48 kHz, sample by sample
    max_seconds: float | None = None
    mono: bool = True

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Item]:
        for path in self.files:
            item = self._read(path)
            if item is not None:
                yield item

    def _read(self, path: Path) -> Item | None:
        """The sound under the protocol, or None where too little is left of it."""
        try:
            data, rate = soundfile.read(path, dtype="float64", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise _unreadable(self.name, path, error) from error
        samples = data.T
        if self.mono:
            samples = samples.mean(axis=0, keepdims=True)
        if not self.rate_as_48k and rate != EVALUATION_RATE:
            samples = soxr.resample(samples.T, rate, EVALUATION_RATE, quality="VHQ").T
        loud = np.flatnonzero(np.any(samples != 0, axis=0))
        if loud.size == 0:
            return None
        samples = samples[:, loud[0] : loud[-1] + 1]
        if self.max_seconds is not None:
            samples = samples[:, : round(self.max_seconds * EVALUATION_RATE)]
        if samples.shape[1] < MIN_SECONDS * EVALUATION_RATE:
            return None
        return Item(path.stem, samples, EVALUATION_RATE)


@dataclass(frozen=True)
class SetKind:
    """What is known of a set before its folder is found."""

    description: str
    licence: str
    folders: tuple[str, ...]  # where its package puts it
    install: str  # what to do when it is not there
    accept: Callable[[Path], bool]
    rate_as_48k: bool = False
    max_seconds: float | None = None
    min_seconds: float = MIN_SECONDS


def _any(path: Path) -> bool:
    return True


def _is_fold_4(path: Path) -> bool:
    """ESC-10 names: CLASS_FOLD-CLIP-TAKE or FOLD-CLIP-TAKE."""
    return path.stem.split("_")[-1].startswith("4-")


SONIC_PI_FOLDERS = ("/usr/share/sonic-pi/samples", "/usr/share/sonic-pi/etc/samples")
SONIC_PI_INSTALL = (
    "install the Debian package sonic-pi-samples (apt install sonic-pi-samples),"
    " or name its folder with --set-dir"
)

KINDS: dict[str, SetKind] = {
    "sonic-pi": SetKind(
        "loops, drums, ambiences and instruments; 44.1 kHz played as 48 kHz",
        "CC0 1.0",
        SONIC_PI_FOLDERS,
        SONIC_PI_INSTALL,
        _any,
        rate_as_48k=True,
        max_seconds=4.0,
    ),
    "sonic-pi-long": SetKind(
        "the sonic-pi files of 3 s and more, whole: closest to the selection of the survey's pilot",
        "CC0 1.0",
        SONIC_PI_FOLDERS,
        SONIC_PI_INSTALL,
        _any,
        rate_as_48k=True,
        min_seconds=3 * 44_100 / 48_000,
    ),
    "speech48": SetKind(
        "VCTK excerpts, read English speech at 48 kHz",
        "CC BY 4.0 (VCTK Corpus, CSTR, University of Edinburgh)",
        (),
        "name the folder of the excerpts with --set-dir",
        _any,
        max_seconds=4.0,
    ),
    "esc10-fold4": SetKind(
        "ESC-10 fold 4, environmental sounds, lossy; 44.1 kHz played as 48 kHz",
        "CC BY 3.0 (K. J. Piczak; each clip by its author)",
        (),
        "name the folder of ESC-10 with --set-dir",
        _is_fold_4,
        rate_as_48k=True,
        max_seconds=5.0,
    ),
    "folder": SetKind(
        "a folder of your own full-band sounds, resampled to 48 kHz where they are not",
        "yours",
        (),
        "name the folder with --set-dir",
        _any,
        max_seconds=10.0,
    ),
}


def open_set(
    name: str, folder: Path | None = None, *, max_files: int | None = None
) -> EvaluationSet:
    """The set of this name from its usual folder or from `folder`, files in order of name.

    `max_files` takes that many, spread evenly over the set.
    """
    if name not in KINDS:
        raise UsageError(f"unknown evaluation set {name!r}; there are: {', '.join(KINDS)}")
    kind = KINDS[name]
    found = folder or next((Path(f) for f in kind.folders if Path(f).is_dir()), None)
    if found is None or not found.is_dir():
        where = f"in {folder}" if folder else "on this machine"
        raise FileError(f"the evaluation set {name!r} is not {where}; {kind.install}")
    files = sorted(p for p in found.rglob("*") if p.suffix.lower() in SUFFIXES and kind.accept(p))
    files = [p for p in files if _is_long_enough(p, kind, name)]
    if not files:
        raise FileError(
            f"the evaluation set {name!r} needs sounds of {kind.min_seconds:.2g} s or more,"
            f" found none in {found}; {kind.install}"
        )
    if max_files is not None and max_files < len(files):
        files = [files[i * len(files) // max_files] for i in range(max_files)]
    return EvaluationSet(
        name, kind.description, kind.licence, tuple(files), kind.rate_as_48k, kind.max_seconds
    )


def _is_long_enough(path: Path, kind: SetKind, name: str) -> bool:
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(name, path, error) from error
    rate = EVALUATION_RATE if kind.rate_as_48k else info.samplerate
    return bool(info.frames >= kind.min_seconds * rate)


def _unreadable(name: str, path: Path, error: Exception) -> FileError:
    return FileError(
        f"set {name!r} needs readable sounds, but {path} is not: {error}; replace or remove it"
    )


def manifest(chosen: EvaluationSet) -> str:
    """The set as JSON: what was measured on, for the record."""
    return json.dumps(
        {
            "name": chosen.name,
            "licence": chosen.licence,
            "max_seconds": chosen.max_seconds,
            "files": [p.name for p in chosen.files],
        },
        indent=1,
    )
