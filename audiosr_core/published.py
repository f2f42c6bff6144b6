"""Checkpoints that others have published: where they lie, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One checkpoint on the model hub. Nothing here is fetched before the user asks."""

    id: str  # its name in the store
    repository: str
    file: str
    revision: str
    sha256: str | None  # of the file, where it is known
    description: str
    licence: str


_MIT_CODE = "code MIT"

PUBLISHED = {
    one.id: one
    for one in (
        Published(
            "audiosr-basic",
            "haoheliu/audiosr_basic",
            "pytorch_model.bin",
            "main",
            "8a3506b9619ed32435ce2c115604750c7bdbb5ad8502be7b1a3131bde878aa01",
            "AudioSR (Liu et al. 2023): any sound, diffusion in four networks",
            f"apache-2.0 (tag of the hub repository), {_MIT_CODE}",
        ),
        Published(
            "audiosr-speech",
            "haoheliu/audiosr_speech",
            "pytorch_model.bin",
            "main",
            None,
            "AudioSR (Liu et al. 2023): speech, diffusion in four networks",
            f"unknown (the hub repository states none), {_MIT_CODE}",
        ),
    )
}


def how_to_install(id: str) -> str:
    """The two commands that bring a published model, as part of a sentence."""
    return (
        f"'audiosr-bridge models install {id}' (online) or"
        f" 'audiosr-bridge models import FILE --as {id}' (offline)"
    )


def published_by_hash(sha256: str) -> Published | None:
    """The published checkpoint with this SHA-256, if there is one."""
    return next((one for one in PUBLISHED.values() if one.sha256 == sha256), None)
