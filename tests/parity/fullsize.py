"""full_config.npz and layout_full.json: the published sizes, without the published weights.

Tensors are made one by one, each laid out as the product runs it, so the peak of memory is little
more than the networks themselves.
"""

from __future__ import annotations

import json
import re

import torch

from audiosr_core.model.audiosr import AUTOENCODER, UNET, AudioSR, build, laid_out, layout
from audiosr_core.model.config import AudioSRConfig
from tests.parity.recipe import Recipe, read_recipe
from tests.parity.recorded import AbsentError, ParitySet, Recording
from tests.parity.tally import Tally
from tests.parity.tolerances import tolerance

FILE = "full_config.npz"
LAYOUT_FILE = "layout_full.json"


def layout_file(parity: ParitySet, tally: Tally) -> None:
    """Every tensor of the networks that the published file has, and no other, in its shape."""
    path = parity.folder / LAYOUT_FILE
    if not path.is_file():
        raise AbsentError(f"{LAYOUT_FILE} is not there")
    recorded = {
        key: tuple(shape)
        for key, (shape, *_) in json.loads(path.read_bytes()).items()
        if key.startswith((UNET, AUTOENCODER))
    }
    ours = layout(AudioSRConfig())
    tally.agree("keys", sorted(ours.keys() ^ recorded.keys()), [])
    for key in ours.keys() & recorded.keys():
        tally.agree(key, ours[key], recorded[key])


def first_values(parity: ParitySet, tally: Tally) -> None:
    """The recipe as the manifest checks it, and the recorded inputs by it."""
    recipe, shapes = read_recipe(parity.manifest), layout(AudioSRConfig())
    allowed = tolerance(parity, "schedule")
    for key, values in parity.manifest["full_config_recipe"].get("first_values", {}).items():
        ours = recipe.tensor(key, shapes[key]).ravel()[: len(values)]
        tally.compare(key, ours, values, allowed)
    file = parity.recording(FILE)
    for name, match in file.matching(r"in/(\w+)"):
        if match[1] in recipe.inputs:
            recorded = file[name]
            tally.compare(name, recipe.input(match[1], recorded.shape), recorded, allowed)


@torch.inference_mode()
def networks(parity: ParitySet, tally: Tally) -> None:
    """What every network makes of the recorded inputs."""
    file = parity.recording(FILE)
    made = _build(parity, read_recipe(parity.manifest))
    config, allowed = made.config, tolerance(parity, "full size")

    def given(name: str) -> torch.Tensor:
        return parity.tensor(file[f"in/{name}"])

    for name, match in file.matching(r"out/unet_v(?P<bare>_uncond)?_t(?P<t>\d+)"):
        x = given("unet_x")
        condition = given("unet_cond") if not match["bare"] else x * 0 + config.unconditional
        t = torch.full((len(x),), int(match["t"]), device=x.device)
        v = made.unet(torch.cat([x, condition * config.scale_factor], dim=1), t)
        tally.compare(name, v.cpu().numpy(), file[name], allowed)
    outs = {name for name, _ in file.matching(r"out/.+")}
    if outs & {"out/vae_mean", "out/vae_logvar"}:
        mean, logvar = made.autoencoder.encode(given("vae_mel"))
        _compare(tally, file, "out/vae_mean", mean, parity)
        _compare(tally, file, "out/vae_logvar", logvar, parity)
    if "out/vae_decoded_mel" in outs:
        mel = made.autoencoder.decode(given("vae_z_scaled") / config.scale_factor)
        _compare(tally, file, "out/vae_decoded_mel", mel, parity)
    if "out/vocoder_wave" in outs:
        _compare(tally, file, "out/vocoder_wave", made.vocoder(given("vocoder_mel")), parity)


def _compare(
    tally: Tally, file: Recording, name: str, ours: torch.Tensor, parity: ParitySet
) -> None:
    if name in file:
        recorded = file[name]
        array = ours.cpu().numpy()
        if array.size == recorded.size:  # a wave is recorded with an axis for its channel
            array = array.reshape(recorded.shape)
        tally.compare(name, array, recorded, tolerance(parity, "full size"))


def _build(parity: ParitySet, recipe: Recipe) -> AudioSR:
    """The published networks with the recipe's weights."""
    said = re.search(r"scale_factor = ([\d.]+\d)", parity.manifest["full_config_recipe"]["value"])
    config = AudioSRConfig(
        scale_factor=float(said[1]) if said else parity.config.scale_factor,
        unconditional=parity.config.unconditional,
    )
    tensors = {
        key: laid_out(torch.from_numpy(recipe.tensor(key, shape)))
        for key, shape in layout(config).items()
    }
    return build(config, tensors).to(parity.device)
