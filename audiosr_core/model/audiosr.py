"""The four networks of one AudioSR checkpoint, and the keys under which their weights lie.

    first_stage_model.{encoder, decoder, quant_conv, post_quant_conv}.*   autoencoder
    model.diffusion_model.*                                               unet
    first_stage_model.vocoder.*                                           vocoder

Liu et al. 2023 (arXiv 2309.07314).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from audiosr_core.errors import ModelError
from audiosr_core.model.autoencoder import Autoencoder
from audiosr_core.model.config import AudioSRConfig
from audiosr_core.model.unet import Unet
from audiosr_core.model.vocoder import Vocoder

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
VOCODER = "first_stage_model.vocoder."
NAMED = 3  # how many keys an error names


class AudioSR(nn.Module):
    """Networks only; what is done with them stands in `reference` and `families.audiosr`."""

    def __init__(self, config: AudioSRConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = Autoencoder(config.autoencoder)
        self.unet = Unet(config.unet)
        self.vocoder = Vocoder(config.vocoder)

    def official_state(self) -> dict[str, Tensor]:
        """The weights under their official keys."""
        parts = ((UNET, self.unet), (AUTOENCODER, self.autoencoder), (VOCODER, self.vocoder))
        return {
            prefix + key: tensor
            for prefix, part in parts
            for key, tensor in part.state_dict().items()
        }


def channels_last(networks: AudioSR) -> AudioSR:
    """The same weights, each `laid_out`; in place."""
    for weight in networks.parameters():
        weight.data = laid_out(weight.data)
    return networks


def laid_out(weight: Tensor) -> Tensor:
    """A copy that lies so that convolutions run over channels first.

    The same numbers up to rounding, and on CPUs about half the time (docs/performance.md).
    """
    if weight.ndim == 3:  # of a one-dimensional convolution, which is a plane of height 1
        plane = weight[:, :, None]
        return plane.clone(memory_format=torch.channels_last)[:, :, 0]
    if weight.ndim == 4:
        return weight.clone(memory_format=torch.channels_last)
    return weight.clone()


def layout(config: AudioSRConfig) -> dict[str, tuple[int, ...]]:
    """Official key → shape, of every tensor that a checkpoint of these sizes must have."""
    with torch.device("meta"):
        empty = AudioSR(config)
    return {key: tuple(tensor.shape) for key, tensor in empty.official_state().items()}


def build(config: AudioSRConfig, tensors: Mapping[str, Tensor]) -> AudioSR:
    """The networks with these weights, which are taken as they are, not copied.

    Args:
        tensors: official key → tensor, floating point; others are ignored

    Raises:
        ModelError: a key is missing or has another shape
    """
    wanted = layout(config)
    check_layout(wanted, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    with torch.device("meta"):
        networks = AudioSR(config)
    for prefix, part in (
        (UNET, networks.unet),
        (AUTOENCODER, networks.autoencoder),
        (VOCODER, networks.vocoder),
    ):
        part.load_state_dict({key: tensors[prefix + key] for key in part.state_dict()}, assign=True)
    return networks.eval().requires_grad_(False)


def check_layout(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise ModelError unless every wanted key is there in its shape."""
    missing = [key for key in wanted if key not in found]
    if missing:
        raise ModelError(
            f"an audiosr checkpoint must have {len(wanted)} tensors, but {len(missing)} are"
            f" missing: {_some(missing)}"
        )
    wrong = [key for key, shape in wanted.items() if found[key] != shape]
    if wrong:
        key = wrong[0]
        raise ModelError(
            f"{len(wrong)} tensors have another shape than this model: {key} must be"
            f" {list(wanted[key])}, got {list(found[key])}"
        )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:NAMED]) + (", …" if len(keys) > NAMED else "")
