"""nets.npz: each network by itself, and the sampler around one of them.

unet/v_t1_981              rows of the batch at their own times
unet/uncond_v_T24_t451     of the inputs with the suffix T24, at one time, without a condition
unet/model_direct_out_t77  of an input that has the condition in it
ddim/steps10_eta1_cfg3.5   a walk
"""

from __future__ import annotations

import numpy as np
import torch

from audiosr_core.diffusion import cosine_schedule, sample_ddim, steps_reference
from audiosr_core.diffusion.samplers import split
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.model.autoencoder import LOGVAR_RANGE
from audiosr_core.reference.pipeline import guided_network
from tests.parity.recorded import Array, ParitySet, Recording, kept
from tests.parity.tally import EXACT, Tally
from tests.parity.tolerances import tolerance

FILE = "nets.npz"
TIMES = r"_t(?P<times>\d+(?:_\d+)*)"
WALK = r"(ddim/steps(?P<steps>\d+)_eta(?P<eta>[\d.]+)_cfg(?P<scale>[\d.]+)[^/]*)/x_T"


@torch.inference_mode()
def unet(parity: ParitySet, tally: Tally, planes: bool) -> None:
    """v of every recorded input and time."""
    file, networks = parity.recording(FILE), parity.networks(planes)
    allowed = tolerance(parity, "networks")
    for name, match in file.matching(
        rf"unet/(?P<bare>uncond_)?v(?P<inputs>(?:_(?!t\d)[^_]+)*){TIMES}"
    ):
        x, times = file[f"unet/x{match['inputs']}"], _times(match["times"])
        if match["bare"]:
            condition = np.full_like(x, networks.config.unconditional)
        else:
            condition = file[f"unet/cond{match['inputs']}"]
        scaled = condition * np.float32(networks.config.scale_factor)
        both = np.concatenate([x, scaled], axis=1)
        tally.compare(name, _v(parity, networks, both, times), file[name], allowed)
    for name, match in file.matching(
        rf"unet/model_direct_out(?P<inputs>(?:_(?!t\d)[^_]+)*){TIMES}"
    ):
        inputs = match["inputs"]
        whole = next(n for n, _ in file.matching(rf"unet/model_direct_in\d*{inputs}"))
        ours = _v(parity, networks, file[whole], _times(match["times"]))
        tally.compare(name, ours, file[name], allowed)


def _times(words: str) -> list[int]:
    return [int(word) for word in words.split("_")]


def _v(parity: ParitySet, networks: AudioSR, both: Array, times: list[int]) -> Array:
    t = torch.tensor(times * (len(both) if len(times) == 1 else 1), device=parity.device)
    v: Array = networks.unet(parity.tensor(both), t).cpu().numpy()
    return v


@torch.inference_mode()
def encode(parity: ParitySet, tally: Tally, planes: bool) -> None:
    """The posterior of the mels, also before its log-variance is limited."""
    file, networks = parity.recording(FILE), parity.networks(planes)
    allowed = tolerance(parity, "networks")
    for name, match in file.matching(r"vae/mel(.*)"):
        mel = parity.tensor(file[name])
        mean, logvar = networks.autoencoder.encode(mel)
        coder = networks.autoencoder
        moments = coder.quant_conv(coder.encoder(mel))
        ours = {"mean": mean, "logvar": logvar, "moments": moments}
        for value, tensor in ours.items():
            if (key := f"vae/{value}{match[1]}") in file:
                tally.compare(key, tensor.cpu().numpy(), file[key], allowed)
        limited = moments.chunk(2, dim=1)[1].clamp(*LOGVAR_RANGE)
        tally.agree("logvar is the limited half of moments", bool((limited == logvar).all()), True)


@torch.inference_mode()
def decode(parity: ParitySet, tally: Tally, planes: bool) -> None:
    file, networks = parity.recording(FILE), parity.networks(planes)
    for name, match in file.matching(r"vae/decoded_mel(.*)"):
        z = parity.tensor(file[f"vae/z_scaled{match[1]}"]) / networks.config.scale_factor
        ours = networks.autoencoder.decode(z).cpu().numpy()
        tally.compare(name, kept(name, ours), file[name], tolerance(parity, "networks"))


@torch.inference_mode()
def vocoder(parity: ParitySet, tally: Tally, planes: bool) -> None:
    file, networks = parity.recording(FILE), parity.networks(planes)
    for name, match in file.matching(r"vocoder/wave(.*)"):
        mel = parity.tensor(_vocoder_mel(file, match[1]))
        recorded = file[name]
        ours = networks.vocoder(mel).cpu().numpy()
        ours = kept(name, ours).reshape(-1, ours.shape[-1])
        tally.compare(
            name, ours, recorded.reshape(-1, recorded.shape[-1]), tolerance(parity, "networks")
        )


def _vocoder_mel(file: Recording, suffix: str) -> Array:
    whole = f"vocoder/mel_bins_by_frames{suffix}"
    if whole in file:
        return file[whole]
    names = [name for name, _ in file.matching(r"vocoder/mel.*")]
    mel = file[names[0] if len(names) == 1 else whole]
    return mel if "bins_by_frames" in names[0] else np.swapaxes(mel, -1, -2)


@torch.inference_mode()
def walks(parity: ParitySet, tally: Tally, planes: bool) -> None:
    """DDIM from recorded noise: where it is after every step, and what it then takes for x_0."""
    file, networks = parity.recording(FILE), parity.networks(planes)
    schedule = cosine_schedule(parity.info("config")["diffusion"]["steps"])
    for name, match in file.matching(WALK):
        walk = match[1]
        steps = steps_reference(schedule, int(match["steps"]))
        own = f"{walk}/cond"
        condition = parity.tensor(file[own if own in file else "ddim/cond"])
        predict = guided_network(networks, condition, float(match["scale"]))
        alphas = {step.t: step.alpha for step in steps}
        seen: list[Array] = []
        guesses: list[Array] = []

        def predict_v(x: torch.Tensor, t: int) -> torch.Tensor:
            v = predict(x, t)  # noqa: B023
            seen.append(x.cpu().numpy())  # noqa: B023
            guesses.append(split(x, v, alphas[t])[0].cpu().numpy())  # noqa: B023
            return v

        noises = file[f"{walk}/step_noise"] if float(match["eta"]) else None

        def noise(i: int) -> torch.Tensor:
            assert noises is not None  # noqa: B023
            return parity.tensor(noises[i]).reshape(condition.shape)  # noqa: B023

        x_T = parity.tensor(file[name])
        final = sample_ddim(predict_v, x_T, steps, noise, float(match["eta"])).cpu().numpy()
        ours = {
            "timesteps_in_order": [step.t for step in steps],
            "x_prev": np.concatenate([*seen[1:], final]),
            "pred_x0": np.concatenate(guesses),
            "final": final,
        }
        for value, array in ours.items():
            if (key := f"{walk}/{value}") in file:
                allowed = EXACT if value.startswith("timesteps") else tolerance(parity, "ddim")
                recorded = file[key]
                tally.compare(key, np.asarray(array).reshape(recorded.shape), recorded, allowed)
