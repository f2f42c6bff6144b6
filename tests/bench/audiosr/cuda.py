"""The product's model on a CUDA device: seconds, real-time factor, arithmetic a second, parity.

Rows of a batch are channels of one sound, as the product feeds them. The arithmetic of a window
of 5.12 s was counted from the published sizes (GFLOP, multiply and add as two).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from audiosr_core.families import Condition
from audiosr_core.families.audiosr import WINDOW, AudioSRModel
from audiosr_core.settings import Settings
from tests.bench.audiosr import precision as in_fewer_bits
from tests.bench.audiosr.subject import EDGE_HZ, Subject, sound
from tests.bench.audiosr.tables import Table
from tests.bench.audiosr.timing import Difference, race

GFLOP = {"unet": 66.8, "encode": 786.0, "decode": 1723.0, "vocoder": 3541.0}
WINDOW_SECONDS = 5.12
WINDOWS = (1, 8)
STEPS = (50, 10)
GUIDANCE = 3.5
PEAK = 0.3  # of `sound`


def measure(
    subject: Subject,
    precisions: Sequence[str],
    rounds: int,
    peak_tflops: float,
    compile_mode: str | None,
) -> list[Table]:
    """Every table for each precision; nothing where there is no CUDA device."""
    if not torch.cuda.is_available():
        return []
    tables = [_parity(subject, tf32) for tf32 in (False, True)]
    tables += in_fewer_bits.measure(subject, 16, 1, precisions, "cuda", timed=False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    for name in precisions:
        model = AudioSRModel(subject.ours(), subject.id, "cuda", name, rows=2 * max(WINDOWS))
        if compile_mode:
            _compile(model, compile_mode)
        tables += [_stages(subject, model, name, rounds, peak_tflops)]
        tables += [_whole(subject, model, name, rounds, peak_tflops)]
        del model
        torch.cuda.empty_cache()
    return tables


def _compile(model: AudioSRModel, mode: str) -> None:
    """Compile what is called often; with "reduce-overhead" the calls become CUDA graphs."""
    networks = model.networks
    networks.unet.compile(mode=mode)
    networks.autoencoder.encoder.compile(mode=mode)
    networks.autoencoder.decoder.compile(mode=mode)
    networks.vocoder.compile(mode=mode)


def _title(what: str, subject: Subject, name: str) -> str:
    return f"{what}, {subject.id}, {torch.cuda.get_device_name()}, {name}"


@torch.inference_mode()
def _stages(
    subject: Subject, model: AudioSRModel, name: str, rounds: int, peak_tflops: float
) -> Table:
    """One network at a time; guidance doubles the rows of the U-Net."""
    config, networks = subject.config, model.networks
    dtype = model.precision
    rows: list[tuple[Any, ...]] = []
    for windows in WINDOWS:
        mel = torch.zeros(windows, 1, WINDOW * config.autoencoder.downsample, config.mel.mel_bins)
        mel = (mel - 6).to("cuda", dtype.autoencoder)
        z = torch.zeros(windows, config.autoencoder.embed_dim, WINDOW, config.latent_bins)
        z = z.to("cuda", dtype.autoencoder)
        both = torch.zeros(2 * windows, config.unet.in_channels, WINDOW, config.latent_bins)
        both = both.to("cuda", dtype.unet)
        times = torch.full((len(both),), 500, device="cuda")
        played = mel[:, 0].mT.to(dtype.vocoder)
        ways: dict[str, Callable[[], Any]] = {
            "encode": lambda mel=mel: networks.autoencoder.encode(mel),
            "unet": lambda both=both, times=times: networks.unet(both, times),
            "decode": lambda z=z: networks.autoencoder.decode(z),
            "vocoder": lambda played=played: networks.vocoder(played),
        }
        for way in ways.values():  # algorithms are chosen and kernels loaded on first use
            way()
            way()
        for stage, timed in race(ways, rounds).items():
            calls = 2 * windows if stage == "unet" else windows
            rate = GFLOP[stage] * calls / 1e3 / timed.seconds if subject.is_full else None
            share = rate / peak_tflops if rate else None
            rows.append((stage, windows, 1e3 * timed.seconds, rate, share))
    columns = ("stage", "windows", "ms", "TFLOP/s", f"share of {peak_tflops:g}")
    return Table(_title("Stages", subject, name), columns, rows, "U-Net: one step with guidance.")


def _whole(
    subject: Subject, model: AudioSRModel, name: str, rounds: int, peak_tflops: float
) -> Table:
    """`generate` from samples on the CPU to samples on the CPU."""
    rows: list[tuple[Any, ...]] = []
    for windows in WINDOWS:
        wave = np.repeat(sound(WINDOW_SECONDS), windows, axis=0)
        for steps in STEPS:
            condition = Condition(EDGE_HZ, Settings(steps=steps, guidance_scale=GUIDANCE), PEAK)
            way = {"": lambda w=wave, c=condition: model.generate(w, 0, c)}
            race(way, 1)
            torch.cuda.reset_peak_memory_stats()
            seconds = race(way, rounds)[""].seconds
            memory = torch.cuda.max_memory_allocated() / 2**30
            once = GFLOP["encode"] + GFLOP["decode"] + GFLOP["vocoder"]
            work = windows * (2 * steps * GFLOP["unet"] + once) / 1e3
            rate = work / seconds if subject.is_full else None
            factor = seconds / (windows * WINDOW_SECONDS)
            share = rate / peak_tflops if rate else None
            rows.append((windows, steps, 1e3 * seconds, factor, rate, share, memory))
    columns = (
        "windows", "steps", "ms", "real-time factor", "TFLOP/s", f"share of {peak_tflops:g}",
        "peak GiB",
    )  # fmt: skip
    return Table(_title("Whole windows of 5.12 s", subject, name), columns, rows)


@torch.inference_mode()
def _parity(subject: Subject, tf32: bool) -> Table:
    """Every stage on the device against the CPU, in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    exact = in_fewer_bits.PRECISIONS["fp32"]
    results = []
    for device in ("cpu", "cuda"):
        networks = subject.ours().to(device)
        low_mel = in_fewer_bits._low_mel(networks, 16, device)
        results.append(in_fewer_bits.chain(networks, exact, low_mel))
    gaps = {
        key: Difference.between(results[1][key], results[0][key]) for key in in_fewer_bits.RESULTS
    }
    rows = [(key, gap.rms, gap.largest, gap.snr_db) for key, gap in gaps.items()]
    columns = ("on the way", "RMS", "largest", "SNR, dB")
    name = "TF32 products" if tf32 else "float32 products"
    note = "16 latent frames, 10 steps: errors of the early stages grow in the later ones."
    return Table(_title("CUDA against the CPU", subject, name), columns, rows, note)
