"""A checkpoint file as names and shapes now, and values one at a time.

    PK…     torch's zip: a pickle of names, and raw tensors      mapped, `weights_only`
    N {…    safetensors: N bytes of JSON, and raw tensors        mapped

Runs in the confined child only (see `child`). Nothing here trusts the file: whatever a library
says against it becomes a ModelError.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import mmap
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from audiosr_core.checkpoint.keys import Shape, shown
from audiosr_core.errors import ModelError

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
MAX_MEMBERS = 100_000  # of a zip; the published file has 3750
MAX_HEADER = 100_000_000  # bytes, safetensors' own limit
MADV_PAGEOUT = 21  # Linux 5.4; a hint that loses nothing, whatever the memory is


@dataclass(frozen=True)
class Source:
    """A checkpoint file, open."""

    format: str
    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]
    get: Callable[[str], Tensor]  # mapped, not copied


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a checkpoint; ModelError if it is none, or one that could harm."""
    with path.open("rb") as file:
        start = file.read(9)
    try:
        if start.startswith(ZIP):
            yield _open_zip(path)
        elif start[8:] == b"{":
            with _open_safetensors(path) as source:
                yield source
        else:
            raise ModelError(_not_a_checkpoint(start))
    except (ModelError, MemoryError, OSError):
        raise
    except Exception as error:  # a hostile file may make a library raise anything
        reason = shown(" ".join(str(error).split("\n")[0].split()))
        raise ModelError(
            f"the file cannot be read as a checkpoint ({type(error).__name__}: {reason});"
            " it is damaged or no checkpoint"
        ) from error


def _not_a_checkpoint(start: bytes) -> str:
    if start.startswith(PICKLE):
        return (
            "this is a checkpoint of torch's old format, which is not read;"
            " save it anew with torch.save of torch 1.6 or later"
        )
    return (
        "this is no checkpoint: a torch file starts with PK, a safetensors file with its header,"
        f" but this one with {start[:4].hex(' ') or 'nothing'}"
    )


# ---- torch's zip


def _open_zip(path: Path) -> Source:
    _check_zip(path)
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if "weights_only" in text or "Weights only" in text or "Unsupported" in text:
            raise ModelError(
                "the file holds more than tensors, and code in it could run, so it is refused;"
                " nothing of it was run; import the published file or a safetensors copy"
            ) from error
        raise
    tensors = _tensors_of(content)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Source("torch zip", shapes, {}, tensors.__getitem__)


def _check_zip(path: Path) -> None:
    """Only stored members that lie inside the file, each once: what is mapped is what was saved."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"the checkpoint is cut off or damaged ({shown(str(error))}); get it again"
        ) from error
    if len(members) > MAX_MEMBERS:
        raise ModelError(f"a checkpoint has at most {MAX_MEMBERS} members, got {len(members)}")
    if len({member.filename for member in members}) != len(members):
        raise ModelError("the checkpoint's zip has a member twice; get it again")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ModelError(
                f"members of a checkpoint's zip must be stored, but {shown(member.filename)} is"
                " compressed; save it anew with torch.save"
            )
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ModelError("the members of the checkpoint's zip overlap; get it again")


def _tensors_of(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the dict that holds one."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ModelError(
            f"a checkpoint must be a dict of tensors, got {type(content).__name__};"
            " import the published file"
        )
    return {
        name: value.detach()
        for name, value in content.items()
        if isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    }


# ---- safetensors


@contextlib.contextmanager
def _open_safetensors(path: Path) -> Iterator[Source]:
    _check_header(path)
    with safe_open(path, "pt") as file:
        shapes = {
            name: tuple(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118  (not a mapping)
        }
        yield Source("safetensors", shapes, file.metadata() or {}, file.get_tensor)


def _check_header(path: Path) -> None:
    """What the library does not refuse: a name given twice, sizes that are no sizes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, size - 8):
            raise ModelError(
                f"the safetensors header claims {length} bytes of a file of {size}; get it again"
            )
        header = file.read(length)
    try:
        entries = json.loads(header, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the safetensors header is not JSON that can be trusted ({shown(str(error))});"
            " get it again"
        ) from error
    for name, entry in entries.items():
        shape = entry.get("shape", []) if isinstance(entry, dict) else []
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ModelError(f"the tensor {shown(name)} has no shape: {shown(str(shape))}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is given twice")
    return made


# ---- memory


def let_go(tensor: Tensor) -> None:
    """Tell the system that these pages are not needed soon: a mapped file stays out of memory."""
    if not sys.platform.startswith("linux"):
        return
    page = mmap.PAGESIZE
    start = tensor.data_ptr() // page * page
    stop = math.ceil((tensor.data_ptr() + tensor.nbytes) / page) * page
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), MADV_PAGEOUT)
