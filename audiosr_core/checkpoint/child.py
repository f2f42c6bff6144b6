"""The confined process that reads a checkpoint and writes safetensors.

    parent                     child
    Request, one line  ─────►  give up rights → hash → open → match → convert → fsync
    answer, one line   ◄─────  {"facts": {…}} or {"error": "one sentence"}

It is started with next to nothing in its environment and writes into one empty folder. The order
counts: no network before torch starts its threads, no files but these before the source is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audiosr_core import confine
from audiosr_core.errors import AudioSRError, ModelError

GIB = 1 << 30
MEMORY_BYTES = 4 * GIB  # beside the mapped source; the largest tensor is 0.2 GB
CPU_SECONDS = 1800
SPARE_BYTES = 16 << 20
LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")
PROCESSOR = ("/proc/cpuinfo", "/sys/devices/system/cpu")  # kernels are chosen at their first use


@dataclass(frozen=True)
class Request:
    """What the parent asks for."""

    source: str  # a regular file, no link
    folder: str  # empty, to be written into
    config: dict[str, Any] | None = None  # sizes of the networks, if not the published ones
    dtype: str | None = None  # fp32, fp16, or None: as in the source


@dataclass(frozen=True)
class Facts:
    """What the child found and made."""

    sha256: str  # of what was written
    size_bytes: int
    num_parameters: int
    config: dict[str, Any]
    source_sha256: str
    source_format: str
    notes: list[str]
    confinement: list[str]


def main() -> None:
    """Read a request from standard input, answer on standard output."""
    try:
        request = Request(**json.loads(sys.stdin.readline()))
        answer: dict[str, Any] = {"facts": asdict(_work(request))}
    except AudioSRError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "the file asks for more memory than a checkpoint needs; get it again"}
    except OSError as error:
        answer = {"error": f"it cannot be converted: {error.strerror or error}"}
    print(json.dumps(answer), flush=True)


def _work(request: Request) -> Facts:
    """Do what is asked for, confined from here to the end of the process."""
    source, folder = Path(request.source), Path(request.folder)
    size = _regular_size(source)
    confinement = confine.isolate()

    import torch

    from audiosr_core.checkpoint.conversion import convert

    torch.set_num_threads(1)
    limits = confine.Limits(MEMORY_BYTES + 2 * size, CPU_SECONDS, 4 * size + SPARE_BYTES)
    confinement += confine.limit(limits)
    confinement += confine.restrict_files([source, *_installation()], folder)

    sha256 = _hash(source)
    made = convert(source, folder, request.config, request.dtype)
    return Facts(
        made.sha256,
        made.size_bytes,
        made.num_parameters,
        made.config.as_dict(),
        sha256,
        made.source_format,
        made.notes,
        confinement,
    )


def _regular_size(path: Path) -> int:
    """Bytes of a regular file; opening it follows no link and waits for no pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    at = os.open(path, flags)
    try:
        status = os.fstat(at)
    finally:
        os.close(at)
    if not stat.S_ISREG(status.st_mode):
        raise ModelError("a checkpoint must be a regular file; give a file")
    return status.st_size


def _installation() -> list[Path]:
    """Where Python and its packages lie: libraries import parts of themselves late."""
    places = [*sys.path, *sysconfig.get_paths().values(), sys.prefix]
    places += [*LIBRARIES, *PROCESSOR, "/dev/null"]
    return [Path(place) for place in dict.fromkeys(places) if place]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
