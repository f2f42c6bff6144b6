"""A folder of recorded numbers: manifest.json says what they are, npz files hold them.

    manifest.json          config, conventions, tolerances, what each file is
    schedule.npz  ...      name/of/case/value → array; suffixes say which part was kept:
                           *_everyN, *_everyN_frames, *_everyN_from_K, *_firstN, *_lastN,
                           *_frames_A_to_B

Every name that a stage asks for is remembered, so that what nobody asked for can be told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiosr_core.mel import LogMel
from audiosr_core.model.audiosr import AudioSR, build, channels_last
from audiosr_core.model.config import AudioSRConfig
from tests.parity.config import config_of

Array = np.ndarray[Any, np.dtype[Any]]

FULL_SCALE_PCM16 = 32768

PART = re.compile(
    r"(?P<base>.+?)_(?:"
    r"every(?P<every>\d+)(?P<of_frames>_frames)?(?:_from_(?P<offset>\d+))?"
    r"|first_?(?P<first>\d+)"
    r"|last_?(?P<last>\d+)"
    r"|frames_(?P<start>\d+)_to_(?P<end>\d+))"
)


class NotASetError(Exception):
    """The folder holds no manifest that can be read."""


class AbsentError(Exception):
    """Something that a stage needs is not in the set."""


class Recording:
    """The arrays of one npz file, or of several as if they were one."""

    def __init__(self, *paths: Path) -> None:
        self._files = [np.load(path) for path in paths]  # no pickles
        self.used: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return (name for file in self._files for name in file.files)

    def __contains__(self, name: str) -> bool:
        return any(name in file.files for file in self._files)

    def __getitem__(self, name: str) -> Array:
        self.used.add(name)
        for file in self._files:
            if name in file.files:
                array: Array = file[name]
                return array
        raise AbsentError(f"{name} is not there")

    def matching(self, pattern: str) -> Iterator[tuple[str, re.Match[str]]]:
        """Names that are all of a pattern, with what its groups found."""
        for name in self:
            if match := re.fullmatch(pattern, name):
                yield name, match

    def cases(self, pattern: str) -> list[str]:
        """The different first groups of a pattern among the names."""
        return list(dict.fromkeys(match[1] for _, match in self.matching(pattern)))


class ParitySet:
    """One folder, and the networks that its weights make.

    Raises:
        NotASetError: there is no manifest of this kind
    """

    def __init__(self, folder: Path, device: str = "cpu", weights: Path | None = None) -> None:
        self.folder = folder
        self.device = torch.device(device)
        self.official_weights = weights
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
            self.files: dict[str, Any] = self.manifest["files"]
            self.config: AudioSRConfig = config_of(self.manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotASetError(f"{folder} is not a parity set: {error!r}") from error
        self._recordings: dict[str, Recording] = {}
        self._networks: dict[bool, AudioSR] = {}

    def recording(self, pattern: str) -> Recording:
        """The npz files of a pattern, opened once."""
        if pattern not in self._recordings:
            paths = sorted(self.folder.glob(pattern))
            if not paths:
                raise AbsentError(f"{pattern} is not there")
            self._recordings[pattern] = Recording(*paths)
        return self._recordings[pattern]

    def not_compared(self) -> list[str]:
        """file: name of each array that is there and was never asked for."""
        used: dict[str, set[str]] = {}
        for pattern, recording in self._recordings.items():
            for path in self.folder.glob(pattern):
                used.setdefault(path.name, set()).update(recording.used)
        return [
            f"{path.name}: {name}"
            for path in sorted(self.folder.glob("*.npz"))
            for name in np.load(path).files
            if name not in used.get(path.name, set())
        ]

    def missing(self) -> list[str]:
        """file: name of each array that the manifest lists and that is not there."""
        found: list[str] = []
        for file, entry in self.files.items():
            if not (self.folder / file).is_file():
                found.append(file)
            elif file.endswith(".npz"):
                there = set(np.load(self.folder / file).files)
                found += [
                    f"{file}: {name}" for name in entry.get("arrays", {}) if name not in there
                ]
        return found

    def description(self, file: str) -> str:
        return str(self.files.get(file, {}).get("description", ""))

    def info(self, name: str) -> dict[str, Any]:
        """An object of the manifest."""
        if name not in self.manifest:
            raise AbsentError(f"manifest.json has no {name}")
        value: dict[str, Any] = self.manifest[name]
        return value

    def networks(self, planes: bool = True) -> AudioSR:
        """The networks with the recorded weights.

        Args:
            planes: channels last, as the product runs them; else as in the file
        """
        if planes not in self._networks:
            path = self.folder / "weights.safetensors"
            if not path.is_file():
                raise AbsentError("weights.safetensors is not there")
            tensors = {key: tensor.float() for key, tensor in load_file(path).items()}
            networks = build(self.config, tensors)
            self._networks[planes] = (channels_last(networks) if planes else networks).to(
                self.device
            )
        return self._networks[planes]

    @cached_property
    def mel(self) -> LogMel:
        return LogMel(self.config.mel).to(self.device)

    def tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def first_channel(pcm16: Array) -> Array:
    """Full-scale float32 [samples] of [samples] or [samples, channels]."""
    first: Array = channels_of(pcm16)[0]
    return first


def channels_of(pcm16: Array) -> Array:
    """Full-scale float32 [channels, samples] of [samples] or [samples, channels]."""
    columns = pcm16[:, None] if pcm16.ndim == 1 else pcm16
    return np.ascontiguousarray(columns.T.astype(np.float32) / np.float32(FULL_SCALE_PCM16))


def base_name(name: str) -> str:
    """A name without the suffix that says which part was kept."""
    match = PART.fullmatch(name)
    return match["base"] if match else name


def kept(name: str, value: Array) -> Array:
    """The part of a whole that a name's suffix says; all of it if it says nothing.

    Samples lie on the last axis, frames on the last but one; first and last count values.
    """
    match = PART.fullmatch(name)
    if not match:
        return value
    if match["every"]:
        step = slice(int(match["offset"] or 0), None, int(match["every"]))
        return value[..., step, :] if match["of_frames"] else value[..., step]
    if match["first"]:
        return value.ravel()[: int(match["first"])]
    if match["last"]:
        return value.ravel()[-int(match["last"]) :]
    return value[..., int(match["start"]) : int(match["end"]) + 1, :]


def thinned(whole: Array, like: Array, hint: str = "") -> Array:
    """Every n-th of the last axis of `whole`, as many as `like` has.

    Where the name is silent about n, the manifest's words ("every 7th") go before a search.
    """
    length, count = whole.shape[-1], like.shape[-1]
    strides = [int(word) for word in re.findall(r"every (\d+)(?:st|nd|rd|th)", hint)]
    for n in [1, *strides, *range(2, length + 1)]:
        if -(-length // n) == count:
            return whole[..., ::n]
    return whole
