"""What a network loses in bfloat16 and float16, and whether it gains speed; against float32.

one network     the same input; the error of what it gives
a precision     encode, sample, decode, vocoder as `families.audiosr.PRECISIONS` has them;
                the error of everything on the way
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audiosr_core.diffusion import SAMPLERS, cosine_schedule, guided
from audiosr_core.families.audiosr import PRECISIONS, SAMPLER, STEPS, Precision
from audiosr_core.mel import LogMel
from audiosr_core.model.audiosr import AudioSR
from tests.bench.audiosr.subject import Subject, sound
from tests.bench.audiosr.tables import Table
from tests.bench.audiosr.timing import Difference, race

GUIDANCE = 3.5
RESULTS = ("condition", "latent", "log-mel", "wave")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Calls = dict[str, Callable[[nn.Module, torch.dtype], Tensor]]


@torch.inference_mode()
def measure(
    subject: Subject,
    latent_frames: int,
    rounds: int,
    names: Sequence[str],
    device: str = "cpu",
    timed: bool = True,
) -> Iterator[Table]:
    """Errors on short inputs of `latent_frames`, and times on them.

    Args:
        names: of PRECISIONS; float32 is what they are compared with
        timed: whether to race, `rounds` times, or to run once and show no time
    """
    networks = subject.ours().to(device)
    low_mel = _low_mel(networks, latent_frames, device)
    exact = chain(networks, Precision(), low_mel)
    calls = _calls(networks, low_mel, exact)
    rows: list[tuple[Any, ...]] = []
    for part, ways in calls.items():
        original = getattr(networks, part)
        for name, dtype in DTYPES.items():
            if name not in names:
                continue
            rounded = copy.deepcopy(original).to(dtype)
            for what, call in ways.items():
                plain, less = _both(call, original, rounded, dtype, rounds if timed else 1)
                gap = Difference.between(less.result, plain.result)
                ratio = plain.seconds / less.seconds if timed else None
                rows.append((what, name, gap.rms, gap.largest, gap.snr_db, ratio))
            del rounded
    columns = ("result of one network", "in", "RMS", "largest", "SNR, dB", "times faster")
    title = f"Networks in fewer bits, {subject.id}, {device}"
    note = (
        f"{latent_frames} latent frames; weights and inputs rounded, results compared in float32."
    )
    yield Table(title, columns, rows, note)

    rows = []
    for name, precision in PRECISIONS.items():
        if name == "fp32" or name not in names:
            continue
        got = chain(networks, precision, low_mel)
        for stage in RESULTS:
            gap = Difference.between(got[stage], exact[stage])
            rows.append((stage, name, gap.rms, gap.largest, gap.snr_db))
    columns = ("on the way", "precision", "RMS", "largest", "SNR, dB")
    title = f"The whole at each precision, {subject.id}, {device}"
    note = f"{SAMPLER}, {STEPS} steps, guidance {GUIDANCE}; no low band is put back."
    yield Table(title, columns, rows, note)


def _both(call: Any, original: nn.Module, rounded: nn.Module, dtype: torch.dtype, rounds: int):
    timed = race(
        {
            "plain": lambda: call(original, torch.float32),
            "less": lambda: call(rounded, dtype),
        },
        rounds,
    )
    return timed["plain"], timed["less"]


def _calls(networks: AudioSR, low_mel: Tensor, exact: dict[str, Tensor]) -> dict[str, Calls]:
    """Part → what it gives → how it is asked for it."""
    scale = networks.config.scale_factor
    x, condition = exact["start"], exact["condition"] * scale
    both = torch.cat([x, condition], dim=1).repeat(2, 1, 1, 1)  # a batch as guidance makes it
    times = torch.full((2,), 500, device=x.device)
    return {
        "unet": {"v": lambda part, dtype: part(both.to(dtype), times)},
        "autoencoder": {
            "condition": lambda part, dtype: part.encode(low_mel.to(dtype))[0],
            "log-mel": lambda part, dtype: part.decode((exact["latent"] / scale).to(dtype)),
        },
        "vocoder": {"wave": lambda part, dtype: part(exact["log-mel"][:, 0].mT.to(dtype))},
    }


def _low_mel(networks: AudioSR, latent_frames: int, device: str) -> Tensor:
    config = networks.config
    seconds = latent_frames * config.latent_hop / config.mel.sample_rate
    wave = torch.from_numpy(sound(seconds, 1, config.mel.sample_rate))
    return LogMel(config.mel)(wave)[:, None].to(device)


def chain(networks: AudioSR, precision: Precision, low_mel: Tensor) -> dict[str, Tensor]:
    """Everything on the way from a mel to a wave, float32."""
    unet, autoencoder, vocoder = (
        _in(part, dtype)
        for part, dtype in (
            (networks.unet, precision.unet),
            (networks.autoencoder, precision.autoencoder),
            (networks.vocoder, precision.vocoder),
        )
    )
    config = networks.config
    condition = autoencoder.encode(low_mel.to(precision.autoencoder))[0].float()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(condition.shape, generator=random).to(condition)

    def predict(x: Tensor, t: int, given: Tensor) -> Tensor:
        both = torch.cat([x, given], dim=1).to(precision.unet)
        return unet(both, torch.full((len(x),), t, device=x.device)).float()

    sampler = SAMPLERS[SAMPLER]
    steps = sampler.steps(cosine_schedule(), STEPS)
    nothing = config.unconditional * config.scale_factor
    predict_v = guided(predict, condition * config.scale_factor, nothing, GUIDANCE)
    latent = sampler.sample(predict_v, x, steps, lambda i: torch.zeros_like(x), 0.0)
    z = (latent / config.scale_factor).to(precision.autoencoder)
    mel = autoencoder.decode(z).float()
    wave = vocoder(mel[:, 0].mT.to(precision.vocoder)).float()
    return {"start": x, "condition": condition, "latent": latent, "log-mel": mel, "wave": wave}


def _in(part: nn.Module, dtype: torch.dtype) -> Any:
    return part if dtype == torch.float32 else copy.deepcopy(part).to(dtype)
