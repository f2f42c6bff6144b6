"""Files through our effect in Audacity, one after the other, by its script pipe.

    empty project ─▶ import ─▶ effect ─▶ export beside the target ─▶ checked ─▶ target
          ▲                                                            │
          └──────────────────── tracks removed ◀───────────────────────┘

Nothing of a project of the user's is touched: one that holds tracks is refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiosr_core.errors import FileError, OutputExistsError, UsageError
from plugin_host.daw.audacity.pipe import AudacityError, Pipe, line

EFFECTS = {1: "AudioSR Bridge Mono", 2: "AudioSR Bridge Stereo"}
BLOCK = 65536  # samples
SILENT_SECONDS = 0.02  # and longer is a hole, where the source has sound
EXPORT_SECONDS = 600.0


def extend(
    pipe: Pipe, source: Path, target: Path, *, replace: bool = False, timeout_seconds: float = 3600
) -> None:
    """One file; `target` is a WAV of the kind that Audacity's export is set to.

    Args:
        timeout_seconds: for the effect

    Raises:
        UsageError: the project is not empty, or the sound is neither mono nor stereo
        AudacityError: it could not, or what could not be extended is silent: nothing is written
    """
    if target.exists() and not replace:
        raise OutputExistsError(f"{target} is there already; choose another folder, or --replace")
    info = _described(source)
    effect = _effect(pipe, info.channels)
    _check_empty(pipe)
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.part.wav")
    pipe.do(line("SetProject", Rate=info.samplerate))
    try:
        pipe.do(line("Import2", Filename=source.absolute()), EXPORT_SECONDS)
        pipe.do("SelectAll:")
        pipe.do(f"{effect}:", timeout_seconds)
        pipe.do("SelectAll:")
        exported = line("Export2", Filename=temporary.absolute(), NumChannels=info.channels)
        pipe.do(exported, EXPORT_SECONDS)
        _check(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(AudacityError):
            pipe.do("SelectAll:")
            pipe.do("RemoveTracks:")


def _described(source: Path) -> Any:
    try:
        info = soundfile.info(str(source))
    except soundfile.LibsndfileError as error:
        raise FileError(f"{source} must be a sound: {error.error_string}") from error
    if info.channels not in EFFECTS or not info.frames:
        raise UsageError(
            f"{source} must be mono or stereo and not empty, but has {info.channels} channels of"
            f" {info.frames} samples; run audiosr-bridge extend"
        )
    return info


def _effect(pipe: Pipe, channels: int) -> str:
    """The command that applies it."""
    name = EFFECTS[channels]
    commands = json.loads(pipe.do("GetInfo: Type=Commands Format=JSON"))
    for command in commands:
        if _letters(str(command["id"])) == _letters(name):
            return str(command["id"])
    raise AudacityError(
        f"Audacity has no effect {name!r}; run audiosr-bridge plugin install, start Audacity"
        " again, and enable it in Tools > Add / Remove Plug-ins"
    )


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _check_empty(pipe: Pipe) -> None:
    try:
        tracks = json.loads(pipe.do("GetInfo: Type=Tracks Format=JSON"))
    except (AudacityError, ValueError) as error:
        raise AudacityError("Audacity must have a project open; choose File > New") from error
    if tracks:
        raise UsageError(
            f"Audacity's project must be empty, but has {len(tracks)} tracks; save it and choose"
            " File > New"
        )


def _check(source: Path, made: Path) -> None:
    """As long as its source, and silent only where that is."""
    if not made.exists():
        raise AudacityError(f"Audacity exported nothing for {source}; look what it says")
    wanted, came = soundfile.info(str(source)), soundfile.info(str(made))
    if (came.samplerate, came.frames) != (wanted.samplerate, wanted.frames):
        raise AudacityError(
            f"{source} has {wanted.frames} samples at {wanted.samplerate} Hz, but Audacity exported"
            f" {came.frames} at {came.samplerate} Hz"
        )
    hole = _hole(source, made, math.ceil(SILENT_SECONDS * wanted.samplerate))
    if hole is not None:
        raise AudacityError(
            f"{source} could not be extended at {hole / wanted.samplerate:.2f} s, and would be"
            " silent there; run audiosr-bridge daemon status"
        )


def _hole(source: Path, made: Path, least: int) -> int | None:
    """Where so many samples of sound in a row are silent in what was made of them."""
    lost = start = 0
    for x, y in zip(_blocks(source), _blocks(made), strict=True):
        silent = (y == 0).all(axis=1)
        total = lost + np.cumsum(silent & (x != 0).any(axis=1))
        in_a_row = total - np.maximum.accumulate(np.where(silent, 0, total))
        if (in_a_row >= least).any():
            return start + int(np.argmax(in_a_row >= least)) - least + 1
        lost, start = int(in_a_row[-1]), start + len(x)
    return None


def _blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    """[samples, channels]."""
    yield from soundfile.blocks(str(path), BLOCK, dtype="float32", always_2d=True)
