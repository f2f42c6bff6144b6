"""Checkpoints of others become models of the store.

    FILE ──► child process: no network, few rights ──► model.safetensors ┐
                 (see `child`)                                           ├─► one rename ──► store
    what is known of it ───────────────────────────► card.json ──────────┘

The file is never opened for more than its size here: a pickle is a program, and what reads it has
nothing to lose. Importing this package loads no torch; neither does `import_model`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiosr_core import __version__, store
from audiosr_core.errors import ModelError, UsageError
from audiosr_core.published import PUBLISHED, published_by_hash

TIMEOUT_SECONDS = 3600
DTYPES = ("fp32", "fp16")
PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")  # what finding libraries takes
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from audiosr_core.checkpoint.child import main; main()"
)


@dataclass(frozen=True)
class Imported:
    """What an import made."""

    info: store.ModelInfo
    notes: list[str]


def import_model(
    source: Path,
    id: str | None = None,
    *,
    force: bool = False,
    dtype: str | None = None,
    config: Mapping[str, Any] | None = None,
    origin: str | None = None,
) -> Imported:
    """Convert a checkpoint and put it into the store, whole or not at all.

    Args:
        source: a torch zip or safetensors file
        id: the model's name; None: from the SHA-256 of a published file, else from the file's name
        force: replace a model of that name
        dtype: ``fp32``, ``fp16`` or None: as in the file
        config: sizes of the networks, as of `AudioSRConfig.as_dict`, if not the published ones
        origin: where it comes from, for the card: ``repository/file@revision``

    Raises:
        ModelError: the file is unfit, or cannot be read or stored
        UsageError: the id or dtype makes no sense
    """
    check_import(id, force=force, dtype=dtype)
    name = source.name
    source = _regular(source)
    with store.staging() as folder:
        request = {
            "source": str(source),
            "folder": str(folder),
            "config": None if config is None else dict(config),
            "dtype": dtype,
        }
        facts = _run_child(request, name)
        known = published_by_hash(facts["source_sha256"])
        id = id or (known.id if known else _id_from(name))
        notes = ["official file, verified", *facts["notes"]] if known else facts["notes"]
        if (claimed := PUBLISHED.get(id)) is not None and claimed.sha256 and known != claimed:
            notes = [f"not the published file of {id}: another SHA-256", *notes]
        card = _card(id, name, origin, facts, notes)
        return Imported(store.install(folder, card, force), notes)


def check_import(id: str | None, *, force: bool = False, dtype: str | None = None) -> None:
    """What can be said against an import before the file is there: UsageError."""
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"a dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if id is not None:
        store.check_new(id, force)


def _card(
    id: str, name: str, origin: str | None, facts: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    published = PUBLISHED.get(id)
    return {
        "id": id,
        "family": "audiosr",
        "description": published.description if published else f"AudioSR, from {name}",
        "licence": published.licence if published else "unknown (ask who gave you the file)",
        "sha256": facts["sha256"],
        "size_bytes": facts["size_bytes"],
        "num_parameters": facts["num_parameters"],
        "config": facts["config"],
        "provenance": {
            "source": name,
            "origin": origin,
            "source_sha256": facts["source_sha256"],
            "source_format": facts["source_format"],
            "converted_by": f"audiosr-bridge {__version__}",
            "confinement": facts["confinement"],
            "notes": notes,
        },
    }


def _regular(source: Path) -> Path:
    """The file itself, for the hub's own cache is made of links; only a regular file will do."""
    try:
        source = source.resolve(strict=True)
        mode = source.stat().st_mode
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"cannot read {source}: {reason}; check the name") from error
    if not stat.S_ISREG(mode):
        raise ModelError(f"a checkpoint must be a regular file, but {source} is not; give a file")
    return source


def _id_from(name: str) -> str:
    """An id like the file's name: ``My Model.ckpt`` → ``my-model``."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", Path(name).stem.lower())
    return plain.strip("-._")[:60].rstrip(".") or "model"


def _run_child(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Facts of the conversion; ModelError with the child's sentence, or with how it died."""
    path = [str(Path(place).resolve()) for place in sys.path if place]
    environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", START, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=request["folder"],
            env=environment | ONE_THREAD,
            text=True,
        )
    except OSError as error:
        raise ModelError(f"cannot start the conversion: {error.strerror}") from error
    with child:
        try:
            out, _ = child.communicate(json.dumps(request) + "\n", timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise ModelError(
                f"the conversion of {name} took more than {TIMEOUT_SECONDS} s and was stopped"
            ) from error
        except BaseException:
            child.kill()
            raise
    try:
        answer = json.loads(out.splitlines()[-1])
        if "error" in answer:
            raise ModelError(f"cannot import {name}: {answer['error']}")
        facts: dict[str, Any] = answer["facts"]
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"cannot import {name}: the conversion ended with {_ending(child.returncode)};"
            " the file is damaged, or there is too little memory"
        ) from error
    return facts


def _ending(code: int) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
