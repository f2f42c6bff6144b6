"""Which models there are, where their weights lie, and whether these are what they claim to be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from audiosr_core.errors import ModelError

if TYPE_CHECKING:
    from audiosr_core.families import Model

EMBEDDED = Path(__file__).parent / "weights"


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

    def verify(self) -> None:
        """Raise ModelError unless the file is the one that its card was written for."""
        if hash_file(self.path) != self.sha256:
            raise ModelError(
                f"the weights of {self.id!r} must have SHA-256 {self.sha256[:16]}…, but the file"
                f" differs; reinstall audiosr-bridge"
            )


def hash_file(path: Path) -> str:
    """SHA-256 of a file; ModelError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror}; reinstall audiosr-bridge"
        ) from error


def list_models() -> list[ModelInfo]:
    """Every model that can be used now, the embedded one first."""
    return [_read_card(card) for card in sorted(EMBEDDED.glob("*.json"))]


def model_info(id: str) -> ModelInfo:
    """The model of this name; ModelError says which there are."""
    models = {one.id: one for one in list_models()}
    if id not in models:
        raise ModelError(
            f"there is no model {id!r}; installed: {', '.join(models) or 'none'};"
            " see 'audiosr-bridge models list'"
        )
    return models[id]


def _read_card(card: Path) -> ModelInfo:
    try:
        values = json.loads(card.read_text())
        return ModelInfo(
            id=card.stem,
            family=values["family"],
            description=values["description"],
            licence=values["licence"],
            sha256=values["sha256"],
            size_bytes=values["size_bytes"],
            num_parameters=values["num_parameters"],
            embedded=True,
            path=card.with_suffix(".safetensors"),
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the model card {card.name} is damaged; reinstall audiosr-bridge"
        ) from error


@lru_cache(maxsize=2)
def load_model(id: str) -> Model:
    """Load a model, verified, onto the CPU. This is where torch begins."""
    info = model_info(id)
    info.verify()
    if info.family != "lite":
        raise ModelError(f"the family {info.family!r} of model {id!r} is not known to this version")
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
        raise ModelError(f"the weights of {id!r} do not fit: {error}") from error
    return LiteModel(network, id)
