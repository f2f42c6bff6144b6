"""What was computed once is not computed again: chunks on disk, named by what they depend on.

    key    SHA-256 of the input chunk and everything else that its samples depend on
    file   magic │ channels │ samples │ float32, little endian │ SHA-256 of all before it

A file is written under another name and renamed, so it is whole or not there; one that is damaged
all the same is a miss, and removed. Several daemons may share the folder: whatever vanishes under
our hands is a miss too. The least recently used files go first. A full disk or a folder that cannot
be written turns the cache off for writing, and never fails a job.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audiosr_core import __version__
from audiosr_core.audio import Samples
from audiosr_core.chunking import ChunkPlan
from audiosr_core.settings import Settings

if TYPE_CHECKING:
    from audiosr_core.decision import Decision
    from audiosr_core.stream import Compute

MAGIC = b"ASC1"
HEAD = struct.Struct("<4sIQ")  # magic, channels, samples
DIGEST_BYTES = 32
NEW = ".new-"
NEW_SECONDS = 600  # an unfinished file this old was left by a kill
KEPT = 0.9  # of the bound, after files had to go
STORE_SECONDS = 30.0  # a disk that takes longer for a chunk is not waited for
SLACK = 16  # after this fraction of the bound was written, the folder is counted again

_OURS = re.compile(rf"[0-9a-f]{{64}}|{re.escape(NEW)}[0-9a-f]{{16}}")

HighBand = NDArray[np.float32]


def chunk_key(
    piece: Samples,
    plan: ChunkPlan,
    index: int,
    decision: Decision,
    settings: Settings,
    model_sha256: str,
    place: str,
) -> str:
    """The name of what `high_band` makes of these: 64 hex digits.

    Args:
        place: kind of device and precision, for they round differently
    """
    depends: Mapping[str, Any] = {
        "plan": asdict(plan),
        "index": index,
        "decision": {
            "cutoff_hz": decision.cutoff.hz,
            "extends": decision.extends,
            "follow": decision.follow,
            "skipped": list(decision.skipped),
            "gain_db": decision.gain_db,
            "peak": decision.peak,
        },
        "settings": settings.as_dict(),
        "model_sha256": model_sha256,
        "place": place,
        "version": __version__,
    }
    return _digest(depends, piece)


def sound_key(
    samples: Samples, sample_rate: int, settings: Settings, model_sha256: str, place: str
) -> str:
    """The name of what becomes of a whole sound at once: reference mode."""
    depends: Mapping[str, Any] = {
        "sample_rate": sample_rate,
        "settings": settings.as_dict(),
        "model_sha256": model_sha256,
        "place": place,
        "version": __version__,
    }
    return _digest(depends, samples)


def _digest(depends: Mapping[str, Any], samples: Samples) -> str:
    described = {**depends, "dtype": samples.dtype.str, "shape": list(samples.shape)}
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(text.encode())
    if samples.size:
        digest.update(np.ascontiguousarray(samples).data.cast("B"))
    return digest.hexdigest()


class ChunkCache:
    """A bounded folder of chunks.

    Args:
        max_bytes: of all files together; 0 keeps nothing
        on_trouble: told once, in one sentence, when nothing can be stored any more
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        on_trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._on_trouble = on_trouble
        self._stores = max_bytes > 0
        self._total = 0  # at the last count, and what we have written since
        self._since = max_bytes  # bytes written since the last count: at first it is due
        self._writer = ThreadPoolExecutor(1, "cache")  # its thread comes with the first chunk
        self._writing: Future[None] | None = None

    def get(self, key: str) -> HighBand | None:
        """The chunk of this name, the caller's own; None if it is not there, whole."""
        path = self.folder / key
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with open(descriptor, "rb", buffering=0) as file:
            try:
                samples = _read(file.fileno())
            except OSError:
                return None
            if samples is not None:
                with contextlib.suppress(OSError):
                    os.utime(descriptor)
                return samples
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def put(self, key: str, samples: HighBand) -> None:
        """Keep a chunk, if it can be kept."""
        planar = np.ascontiguousarray(samples, "<f4")
        size = HEAD.size + planar.nbytes + DIGEST_BYTES
        if not self._stores or size > self.max_bytes:
            return
        try:
            self._write(self.folder / key, planar)
        except OSError as error:
            self._stores = False
            self._on_trouble(
                f"nothing more is kept in {self.folder}: {error.strerror or error};"
                " jobs go on without it"
            )
            return
        self._total += size
        self._since += size
        if self._total > self.max_bytes or self._since > self.max_bytes // SLACK:
            self.trim()

    def put_soon(self, key: str, samples: HighBand) -> None:
        """As `put`, while the caller hands the chunk on; it waits with `settle`."""
        self.settle()
        self._writing = self._writer.submit(self.put, key, samples.copy())

    def settle(self) -> None:
        """Wait until what was put is there."""
        if self._writing is not None:
            wait([self._writing], STORE_SECONDS)
            self._writing = None

    def trim(self) -> None:
        """Count what is there, and let the least recently used go where it is too much."""
        files = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if not _OURS.fullmatch(entry.name):
                    continue
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    files.append((found.st_mtime_ns, found.st_size, entry.name))
        self._total = sum(size for _, size, _ in files)
        self._since = 0
        old = time.time_ns() - NEW_SECONDS * 10**9
        too_much = self._total > self.max_bytes
        for modified, size, name in sorted(files):
            if name.startswith(NEW):
                goes = modified < old
            else:
                goes = too_much and self._total > KEPT * self.max_bytes
            if goes and self._gone(name):
                self._total -= size

    def _gone(self, name: str) -> bool:
        """Remove one file; another daemon may have been faster."""
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _write(self, path: Path, planar: NDArray[np.float32]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        head = HEAD.pack(MAGIC, *planar.shape)
        data = planar.data.cast("B") if planar.size else memoryview(b"")
        digest = hashlib.sha256(head)
        digest.update(data)
        new = path.with_name(f"{NEW}{secrets.token_hex(8)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with open(os.open(new, flags, 0o600), "wb", buffering=0) as file:
                for part in (head, data, digest.digest()):
                    view = memoryview(part)
                    while view:
                        view = view[file.write(view) :]
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise


def _read(descriptor: int) -> HighBand | None:
    """The samples of an open file; None if it is damaged."""
    size = os.fstat(descriptor).st_size
    head = os.read(descriptor, HEAD.size)
    if len(head) < HEAD.size:
        return None
    magic, channels, count = HEAD.unpack(head)
    if magic != MAGIC or size != HEAD.size + 4 * channels * count + DIGEST_BYTES:
        return None
    samples = np.empty((channels, count), "<f4")
    data = samples.data.cast("B") if samples.size else memoryview(bytearray())
    view = data
    while view:
        got = os.readv(descriptor, [view])
        if not got:
            return None
        view = view[got:]
    digest = hashlib.sha256(head)
    digest.update(data)
    return samples if os.read(descriptor, DIGEST_BYTES) == digest.digest() else None


class CachedCompute:
    """`compute` behind a cache, for `Stream(compute=...)`; it counts, and remembers the last.

    Args:
        place: asked before and after, so that what was moved elsewhere is not kept under this name
    """

    def __init__(
        self,
        cache: ChunkCache,
        compute: Compute,
        model_sha256: str,
        place: Callable[[], str],
    ) -> None:
        self._cache, self._compute = cache, compute
        self._model_sha256, self._place = model_sha256, place
        self.hits = 0
        self.last_cached = False

    def __call__(
        self,
        model: Any,
        plan: ChunkPlan,
        index: int,
        piece: Samples,
        decision: Decision,
        settings: Settings,
        on_step: Callable[[], None] = lambda: None,
    ) -> HighBand:
        self.last_cached = False
        if not decision.extends:  # nothing is added, which is sooner done than read
            return self._compute(model, plan, index, piece, decision, settings, on_step)
        place = self._place()
        key = chunk_key(piece, plan, index, decision, settings, self._model_sha256, place)
        found = self._cache.get(key)
        if found is not None:
            self.hits += 1
            self.last_cached = True
            return found
        made = self._compute(model, plan, index, piece, decision, settings, on_step)
        if self._place() == place:
            self._cache.put_soon(key, made)
        return made


def cached(
    cache: ChunkCache, compute: Compute, model_sha256: str, place: Callable[[], str]
) -> CachedCompute:
    """`compute`, asked only for what the cache does not have."""
    return CachedCompute(cache, compute, model_sha256, place)
