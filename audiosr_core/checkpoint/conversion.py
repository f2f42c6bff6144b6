"""From a foreign checkpoint to our safetensors, tensor by tensor.

mapped source ── one tensor ── compared with its copy ── another dtype? ── finite? ── written
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiosr_core.checkpoint.keys import SCALE_FACTOR, Match, match, shown
from audiosr_core.checkpoint.reading import Source, let_go, open_source
from audiosr_core.checkpoint.writing import Entry, write_safetensors
from audiosr_core.errors import ModelError
from audiosr_core.model.audiosr import layout
from audiosr_core.model.config import AudioSRConfig, config_from

WEIGHTS = "model.safetensors"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
KEPT = (torch.float32, torch.float16, torch.bfloat16)
WIDENED = {  # what we store → what holds every value of it
    torch.float8_e4m3fn: torch.float16,
    torch.float8_e5m2: torch.float16,
    torch.float64: torch.float32,  # nobody trained in it: a float32 in disguise
}


@dataclass(frozen=True)
class Converted:
    """What was written, and what there is to say about it."""

    sha256: str
    size_bytes: int
    num_parameters: int
    config: AudioSRConfig
    source_format: str
    notes: list[str]


def convert(
    path: Path, folder: Path, config: dict[str, Any] | None = None, dtype: str | None = None
) -> Converted:
    """Write `folder`/model.safetensors with what inference needs of the checkpoint at `path`.

    Args:
        config: sizes as of `AudioSRConfig.as_dict`; None: those in the file, or the published ones
        dtype: ``fp32``, ``fp16`` or None: as in the file

    Raises:
        ModelError: the file is no checkpoint, does not fit or could harm
        OSError: it cannot be read, or the result not written
    """
    with open_source(path) as source:
        sizes = _sizes(source, config)
        found = match(layout(sizes), source.shapes)
        scale, notes = _scale_factor(source, found)
        sizes = replace(sizes, scale_factor=scale)
        entries = {
            key: Entry(_stored_dtype(key, source.get(name).dtype, dtype), source.shapes[name])
            for key, name in found.keys.items()
        }
        num_parameters = sum(math.prod(entry.shape) for entry in entries.values())
        notes = [*found.notes, *notes, *_dtype_notes(source, found, entries)]
        entries[SCALE_FACTOR] = Entry(torch.float32, ())
        _check_space(folder, sum(entry.nbytes for entry in entries.values()))
        tensors = _Tensors(source, found, entries, scale)
        metadata = {"format": "pt", "family": "audiosr", "config": json.dumps(sizes.as_dict())}
        sha256, size_bytes = write_safetensors(folder / WEIGHTS, entries, tensors.get, metadata)
        notes += tensors.notes()
        if replace(sizes, scale_factor=AudioSRConfig.scale_factor) != AudioSRConfig():
            notes.append("sizes other than the published ones")
        return Converted(sha256, size_bytes, num_parameters, sizes, source.format, notes)


class _Tensors:
    """The tensors to be written, each checked as it is asked for."""

    def __init__(
        self, source: Source, found: Match, entries: dict[str, Entry], scale: float
    ) -> None:
        self.source = source
        self.found = found
        self.entries = entries
        self.scale = scale
        self.different: list[str] = []  # keys whose second copy is not the first

    @contextlib.contextmanager
    def get(self, key: str) -> Iterator[Tensor]:
        if key == SCALE_FACTOR:
            yield torch.tensor(self.scale, dtype=torch.float32)
            return
        tensor = self.source.get(self.found.keys[key])
        self._compare(key, tensor)
        made = tensor.to(self.entries[key].dtype)
        if not torch.isfinite(made).all():
            raise ModelError(
                f"the values of {key} must be finite as {_short(made.dtype)}, but are not;"
                " import an undamaged file, or keep its dtype"
            )
        yield made
        let_go(tensor)

    def _compare(self, key: str, tensor: Tensor) -> None:
        if key in self.found.copies:
            copy = self.source.get(self.found.copies[key])
            if not torch.equal(tensor, copy):
                self.different.append(key)
            let_go(copy)

    def notes(self) -> list[str]:
        if not self.different:
            return []
        return [
            f"warning: the conditioner's copy differs in {len(self.different)} tensors"
            f" ({self.different[0]} …); first_stage_model is used"
        ]


def _sizes(source: Source, config: dict[str, Any] | None) -> AudioSRConfig:
    """The sizes: as given, or as a file of our own says, or the published ones."""
    if config is None and "config" in source.metadata:
        try:
            config = json.loads(source.metadata["config"])
        except (ValueError, RecursionError) as error:
            raise ModelError("the config in the file's metadata is no JSON; get it again") from (
                error
            )
    if config is None:
        return AudioSRConfig()
    if not isinstance(config, dict):
        raise ModelError(f"a config must be an object of sizes, got {shown(str(config))}")
    return config_from(config)


def _scale_factor(source: Source, found: Match) -> tuple[float, list[str]]:
    """The file's own factor; the published one if it has none, or a rounded one."""
    published = AudioSRConfig.scale_factor
    if found.scale_factor is None:
        return published, ["scale_factor: the published one, for the file has none"]
    tensor = source.get(found.scale_factor)
    if tensor.numel() != 1 or not tensor.dtype.is_floating_point:
        raise ModelError(
            f"scale_factor must be one number, got {list(tensor.shape)} of {_short(tensor.dtype)}"
        )
    value = float(tensor)
    if not (math.isfinite(value) and value > 0):
        raise ModelError(f"scale_factor must be positive, got {value}; get the file again")
    if tensor.dtype.itemsize < 4 and float(torch.tensor(published).to(tensor.dtype)) == value:
        return published, [f"scale_factor: the published one, rounded in the file to {value}"]
    return value, []


def _stored_dtype(key: str, dtype: torch.dtype, wanted: str | None) -> torch.dtype:
    kept = dtype if dtype in KEPT else WIDENED.get(dtype)
    if kept is None:
        raise ModelError(
            f"weights must be floating point, but {key} is {_short(dtype)};"
            " import a file that is not quantised"
        )
    return kept if wanted is None else DTYPES[wanted]


def _dtype_notes(source: Source, found: Match, entries: dict[str, Entry]) -> list[str]:
    pairs = {(source.get(name).dtype, entries[key].dtype) for key, name in found.keys.items()}
    return sorted(f"{_short(a)} stored as {_short(b)}" for a, b in pairs if a != b)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise ModelError(
            f"the model needs {wanted / 1e9:.2f} GB on the disk, but {free / 1e9:.2f} GB are free;"
            " free some space and try again"
        )
