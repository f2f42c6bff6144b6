"""Write safetensors one tensor at a time, so that memory holds one and not all.

    | 8 bytes: N | N bytes of JSON: name → dtype, shape, place | raw values, little-endian … |

The library's own writer takes all tensors as bytes at once: 2.7 GB for a published checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiosr_core.checkpoint.keys import Shape

ALIGNMENT = 8  # of the first value
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class Entry:
    """A tensor to come."""

    dtype: torch.dtype
    shape: Shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(
    path: Path,
    entries: Mapping[str, Entry],
    get: Callable[[str], AbstractContextManager[Tensor]],
    metadata: Mapping[str, str],
) -> tuple[str, int]:
    """Write a new file; its SHA-256 and size in bytes. It is on the disk when this returns.

    Args:
        entries: key → what `get` will give for it
        get: entered once a key, in the order of the file; left when it is written

    Raises:
        OSError: the disk is full, or the file is there already
    """
    if sys.byteorder != "little":
        raise NotImplementedError("safetensors are written on little-endian machines only")
    order = sorted(entries, key=lambda key: (-entries[key].dtype.itemsize, key))
    digest = hashlib.sha256()
    with path.open("xb") as file:

        def write(data: bytes | memoryview) -> None:
            file.write(data)
            digest.update(data)

        write(_header(order, entries, metadata))
        for key in order:
            with get(key) as tensor:
                assert Entry(tensor.dtype, tuple(tensor.shape)) == entries[key]
                write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
        return digest.hexdigest(), file.tell()


def _header(order: list[str], entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    for key in order:
        entry = entries[key]
        header[key] = {
            "dtype": NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [place, place + entry.nbytes],
        }
        place += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
