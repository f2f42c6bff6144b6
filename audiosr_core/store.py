"""Which models there are, where their weights lie, and whether these are what they claim to be.

    audiosr_core/weights/lite.{json, safetensors}         embedded: part of the installation
    <models folder>/audiosr-basic/card.json               installed: one folder a model, whole
                                  model.safetensors       or not there at all
                                  verified.json           the file as it was when last hashed
    <models folder>/.new-3f9c81d2/                        one being made, or what a kill left

A model becomes visible by one rename, and goes by one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from filelock import FileLock, Timeout

from audiosr_core.containers.temporary import sync_folder
from audiosr_core.device import choose_device, choose_precision
from audiosr_core.errors import ModelError, UsageError
from audiosr_core.published import PUBLISHED, how_to_install

if TYPE_CHECKING:
    from audiosr_core.families import Model

EMBEDDED = Path(__file__).parent / "weights"
FOLDER_VARIABLE = "AUDIOSR_BRIDGE_MODELS"
WEIGHTS, CARD, STAMP = "model.safetensors", "card.json", "verified.json"
LOCK, NEW, OLD = ".lock", ".new-", ".old-"
ID = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9_-])?")
MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelInfo:
    """One model, without loading it."""

    id: str
    family: str
    description: str
    licence: str
    sha256: str  # of the weights file
    size_bytes: int
    num_parameters: int
    embedded: bool
    path: Path
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def verify(self, *, trust_stamp: bool = False) -> None:
        """Raise ModelError unless the file is the one that its card was written for.

        Args:
            trust_stamp: a file that has not changed since it was last hashed is not hashed again
        """
        if trust_stamp and self._is_stamped():
            return
        if hash_file(self.path) != self.sha256:
            raise ModelError(
                f"the weights of {self.id!r} must have SHA-256 {self.sha256[:16]}…, but the file"
                f" differs; {_repair(self.id, self.embedded)}"
            )
        self._stamp()

    def _is_stamped(self) -> bool:
        if self.embedded:
            return False
        try:
            stamp = json.loads((self.path.parent / STAMP).read_text())
            return bool(stamp == self._stamp_now())
        except (OSError, ValueError):
            return False

    def _stamp(self) -> None:
        if not self.embedded:
            with contextlib.suppress(OSError):  # where nothing can be written, it is hashed again
                _replace_json(self.path.parent / STAMP, self._stamp_now())

    def _stamp_now(self) -> dict[str, Any]:
        status = self.path.stat()
        return {
            "sha256": self.sha256,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "inode": status.st_ino,
        }


@dataclass(frozen=True)
class BrokenModel:
    """A folder of the store that should hold a model and does not."""

    id: str
    reason: str  # one sentence


def models_folder() -> Path:
    """Where installed models lie; it need not exist."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given).expanduser().absolute()
    return platformdirs.user_data_path("audiosr-bridge", appauthor=False) / "models"


def hash_file(path: Path) -> str:
    """SHA-256 of a file; ModelError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror}; install the model again"
        ) from error


# ---- which there are


def list_models() -> list[ModelInfo]:
    """Every model that can be used now, the embedded one first."""
    return [one for one in _all() if isinstance(one, ModelInfo)]


def broken_models() -> list[BrokenModel]:
    """What lies in the store and cannot be used."""
    return [one for one in _all() if isinstance(one, BrokenModel)]


def model_info(id: str) -> ModelInfo:
    """The model of this name; ModelError says which there are, or how to get it."""
    models = {one.id: one for one in _all()}
    found = models.get(id)
    if isinstance(found, BrokenModel):
        raise ModelError(found.reason)
    if found is not None:
        return found
    if id in PUBLISHED:
        raise ModelError(f"the model {id!r} is not installed; run {how_to_install(id)}")
    usable = [one.id for one in models.values() if isinstance(one, ModelInfo)]
    raise ModelError(
        f"there is no model {id!r}; installed: {', '.join(usable) or 'none'};"
        " see 'audiosr-bridge models list'"
    )


def _all() -> Iterator[ModelInfo | BrokenModel]:
    for card in sorted(EMBEDDED.glob("*.json")):
        yield _read(card.stem, card, card.with_suffix(".safetensors"), embedded=True)
    try:
        folders = sorted(one for one in models_folder().iterdir() if ID.fullmatch(one.name))
    except OSError:
        return
    for folder in folders:
        if not _is_embedded(folder.name):
            yield _read(folder.name, folder / CARD, folder / WEIGHTS, embedded=False)


def _read(id: str, card: Path, weights: Path, embedded: bool) -> ModelInfo | BrokenModel:
    try:
        with card.open("rb") as file:
            values = json.loads(file.read(MAX_CARD_BYTES))
        info = ModelInfo(
            id=id,
            family=str(values["family"]),
            description=str(values["description"]),
            licence=str(values["licence"]),
            sha256=str(values["sha256"]),
            size_bytes=int(values["size_bytes"]),
            num_parameters=int(values["num_parameters"]),
            embedded=embedded,
            path=weights,
            config=dict(values.get("config") or {}),
            provenance=dict(values.get("provenance") or {}),
        )
        size = weights.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return BrokenModel(
            id, f"the model {id!r} is damaged: card or weights; {_repair(id, embedded)}"
        )
    if not embedded and size != info.size_bytes:
        return BrokenModel(
            id,
            f"the weights of {id!r} must have {info.size_bytes} bytes, but have {size};"
            f" {_repair(id, embedded)}",
        )
    return info


def _repair(id: str, embedded: bool) -> str:
    if embedded:
        return "reinstall audiosr-bridge"
    if id in PUBLISHED:
        return (
            f"run 'audiosr-bridge models install {id} --force', or"
            f" 'audiosr-bridge models import FILE --as {id} --force'"
        )
    return f"run 'audiosr-bridge models import FILE --as {id} --force'"


def _is_embedded(id: str) -> bool:
    return (EMBEDDED / f"{id}.json").exists()


# ---- coming and going


def check_new(id: str, replace: bool = False) -> None:
    """Raise unless a model of this name may be installed now."""
    if not ID.fullmatch(id):
        raise UsageError(
            f"a model's name must be up to 64 of a-z 0-9 . _ -, begin with a letter or digit and"
            f" not end with a point, got {id!r}"
        )
    if _is_embedded(id):
        raise UsageError(f"{id!r} is the embedded model's name; choose another one")
    if not replace and os.path.lexists(models_folder() / id):
        raise UsageError(
            f"the model {id!r} is installed already; choose another name or replace it with --force"
        )


@contextlib.contextmanager
def staging() -> Iterator[Path]:
    """An empty folder beside the models, for one that is being made; gone afterwards.

    One process at a time makes models; whatever earlier ones left when killed is removed.
    """
    folder = models_folder()
    with _translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        with _translated(folder):
            _sweep(folder)
            new = folder / f"{NEW}{secrets.token_hex(4)}"
            new.mkdir()
        try:
            yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)


def install(folder: Path, card: Mapping[str, Any], replace: bool = False) -> ModelInfo:
    """Make a staged folder with its weights a model: write the card, then one rename."""
    id = card["id"]
    check_new(id, replace)
    target = models_folder() / id
    with _translated(target):
        _replace_json(folder / CARD, card)
        sync_folder(folder)
        if os.path.lexists(target):
            os.rename(target, target.parent / f"{OLD}{secrets.token_hex(4)}")
        os.rename(folder, target)
        sync_folder(target.parent)
        _sweep(target.parent)
    return model_info(id)


def remove_model(id: str) -> None:
    """Remove an installed model, broken or not; never the embedded one."""
    if _is_embedded(id):
        raise UsageError(f"the model {id!r} is part of audiosr-bridge and stays")
    target = models_folder() / id
    if not ID.fullmatch(id) or not os.path.lexists(target):
        raise ModelError(f"there is no model {id!r} to remove; see 'audiosr-bridge models list'")
    with _locked(target.parent), _translated(target):
        os.rename(target, target.parent / f"{OLD}{secrets.token_hex(4)}")
        _sweep(target.parent)


def _sweep(folder: Path) -> None:
    """Remove what was replaced and what a kill left; only under the lock."""
    for one in folder.iterdir():
        if one.name.startswith((NEW, OLD)):
            if one.is_symlink() or not one.is_dir():
                one.unlink()
            else:
                shutil.rmtree(one, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        with _translated(folder):
            lock.acquire()
    except Timeout as error:
        raise ModelError(
            "another audiosr-bridge is installing or removing a model; wait until it is done"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise ModelError(
            f"cannot write {path}: {error.strerror or error}; check its rights and free space,"
            f" or choose another folder with {FOLDER_VARIABLE}"
        ) from error


def _replace_json(path: Path, value: Mapping[str, Any]) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with new.open("x") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


# ---- loading


def load_model(id: str, device: str = "cpu", precision: str = "auto") -> Model:
    """Load a model, verified, onto a device; the last one stays. This is where torch begins.

    Args:
        device, precision: see `device`; `lite` is small and stays on the CPU
    """
    info, place = model_info(id), choose_device(device)
    return _load(info, place, choose_precision(place, precision))


@lru_cache(maxsize=2)
def _load(info: ModelInfo, device: str, precision: str) -> Model:
    load = _FAMILIES.get(info.family)
    if load is None:
        raise ModelError(
            f"the family {info.family!r} of model {info.id!r} is not known to this version"
        )
    info.verify(trust_stamp=True)
    return load(info, device, precision)


def _load_lite(info: ModelInfo, device: str, precision: str) -> Model:
    from safetensors import SafetensorError, safe_open

    from audiosr_core.families.lite import LiteModel
    from audiosr_core.model.lite import Lite, LiteConfig

    try:
        with safe_open(info.path, "pt") as file:
            config = LiteConfig(**json.loads(file.metadata()["config"]))
            weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        network = Lite(config)
        network.load_state_dict(weights)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the weights of {info.id!r} do not fit: {error}") from error
    return LiteModel(network, info.id)


def _load_audiosr(info: ModelInfo, device: str, precision: str) -> Model:
    from audiosr_core.families.audiosr import load

    return load(info.path, info.id, device, precision)


_FAMILIES: dict[str, Callable[[ModelInfo, str, str], Model]] = {
    "lite": _load_lite,
    "audiosr": _load_audiosr,
}
