"""e2e.npz and long.npz: a file in, a wave out, and all that is recorded on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from audiosr_core.diffusion import cosine_schedule, steps_reference
from audiosr_core.reference import Draws, run_reference, run_reference_long
from audiosr_core.reference.front import fit_frames
from tests.parity.recorded import Array, ParitySet, Recording, base_name, channels_of, kept
from tests.parity.tally import EXACT, Tally, Tolerance
from tests.parity.tolerances import log_mel_rounding, tolerance

FILE = "e2e.npz"
LONG_FILE = "long.npz"

# recorded name: what `run_reference` calls it, and its kind of tolerance
STAGES = {
    "wave48k_normalized": ("wave", "level"),
    "log_mel": ("log_mel", "log mel"),
    "lowpass_mel": ("low_mel", "log mel"),
    "stft_mag": ("stft", "stft"),
    "lowpass_wave": ("low_wave", "lowpass"),
    "noise_first_stage_sample": ("noise_discarded", "schedule"),
    "noise_cond_sample": ("noise_condition", "schedule"),
    "x_T": ("x_T", "schedule"),
    "cond_latent": ("condition", "latents"),
    "final_latent": ("final_latent", "latents"),
    "decoded_mel": ("decoded_mel", "latents"),
    "mel_into_vocoder": ("vocoder_mel", "latents"),
    "mel_cutoff_bin": ("mel_cutoff_bin", ""),
    "vocoder_wave": ("vocoder_wave", "waves"),
    "post_cutoff_index": ("wave_cutoff_bin", ""),
    "post_energy_ratio_raw": ("wave_ratio", "waves"),
    "post_wave": ("spliced_wave", "waves"),
    "final_wave": ("final_wave", "waves"),
}


class Heard:
    """Everything that a run tells on the way, each name in the order told."""

    def __init__(self) -> None:
        self.all: dict[str, list[Any]] = {}

    def __call__(self, name: str, value: Any) -> None:
        self.all.setdefault(name, []).append(value)

    def last(self, name: str) -> Any:
        return self.all[name][-1]


def whole_run(parity: ParitySet, tally: Tally) -> None:
    """One sound, compared at every recorded place."""
    file, info, heard = parity.recording(FILE), parity.info("e2e_info"), Heard()
    final = run_reference(
        parity.networks(),
        channels_of(file["pcm16"]),
        int(info["sample_rate"]),
        draws=Draws(int(info["seed"])),
        steps=int(info["ddim_steps"]),
        guidance_scale=float(info["guidance_scale"]),
        eta=float(info.get("eta", 1.0)),
        on_stage=heard,
    )
    compare_stages(parity, tally, file, heard)
    steps = steps_reference(cosine_schedule(), int(info["ddim_steps"]))
    after = np.concatenate([*heard.all["x"][1:], heard.last("final_latent")])
    for name, match in file.matching(r"(step_noise|ddim_timesteps|x_prev_selected)(?:_.*\d)?"):
        recorded = file[name]
        if match[1] == "step_noise":
            noises = np.stack(heard.all["step_noise"]).reshape(len(steps), -1)
            count = re.search(r"first_?(\d+)", name)
            ours = noises[:, : int(count[1])] if count else noises.reshape(recorded.shape)
            tally.compare(name, ours, recorded, tolerance(parity, "schedule"))
        elif match[1] == "ddim_timesteps":
            tally.compare(name, [step.t for step in steps], recorded, EXACT)
        else:
            chosen = after[file["x_prev_selected_index"]].reshape(recorded.shape)
            tally.compare(name, chosen, recorded, tolerance(parity, "latents"))
    _numbers(parity, tally, info, heard, final)


def compare_stages(parity: ParitySet, tally: Tally, file: Recording, heard: Heard) -> None:
    """All recorded arrays that a run tells by one name."""
    for name in file:
        stage, kind = STAGES.get(base_name(name), ("", ""))
        if stage in heard.all:
            recorded = file[name]
            ours = np.asarray(heard.last(stage))
            if base_name(name) == name:
                ours = ours.reshape(recorded.shape)
            allowed = tolerance(parity, kind) if kind else EXACT
            doubt = kept(name, _rounding(parity, heard, stage)) if kind == "log mel" else 0.0
            tally.compare(name, kept(name, ours), recorded, _scalar(recorded, allowed), doubt)


def _rounding(parity: ParitySet, heard: Heard, stage: str) -> Array:
    """Of a log-mel of the front end, by the wave that it is of."""
    wave = heard.last("wave" if stage == "log_mel" else "low_wave")
    magnitude = parity.mel.magnitude(parity.tensor(wave)).cpu().numpy()
    doubt = log_mel_rounding(magnitude, parity.mel.bands.cpu().numpy())
    return fit_frames(torch.from_numpy(doubt), len(heard.last(stage))).numpy()


def _scalar(recorded: Array, allowed: Tolerance) -> Tolerance:
    """One number correlates with nothing."""
    return allowed if recorded.size > 1 else Tolerance(allowed.largest, allowed.relative)


def _numbers(
    parity: ParitySet, tally: Tally, info: dict[str, Any], heard: Heard, final: Array
) -> None:
    """What e2e_info says beside the settings."""
    stats = info.get("stats", {})
    latent, decoded = heard.last("final_latent"), heard.last("decoded_mel")
    generated = heard.last("vocoder_wave").astype(np.float64)
    latents, waves = tolerance(parity, "latents"), tolerance(parity, "waves")
    ours: dict[str, tuple[Callable[[], Any], Tolerance]] = {
        "padded_seconds": (lambda: len(heard.last("wave")) / parity.config.mel.sample_rate, EXACT),
        "stft_cutoff_bin": (lambda: heard.last("cutoff_bin"), EXACT),
        "output_samples": (lambda: len(final), EXACT),
        "final_peak": (lambda: np.abs(final).max(), waves),
        "final_mean": (lambda: final.mean(dtype=np.float64), waves),
        "v_or_latent_final_std": (lambda: torch.from_numpy(latent).std(), latents),
        "decoded_mel_mean": (lambda: decoded.mean(dtype=np.float64), latents),
        "decoded_mel_std": (lambda: decoded.std(dtype=np.float64), latents),
        "vocoder_rms": (lambda: np.sqrt(np.mean(generated**2)), waves),
    }
    for name, value in {**info, **stats}.items():
        if name in ours:
            measure, allowed = ours[name]
            tally.compare(f"e2e_info: {name}", measure(), value, allowed)
    if "filter_choice" in info:
        kinds = heard.all["filter_kind"]
        tally.agree("e2e_info: filter_choice", kinds, list(info["filter_choice"]))
    if "output_dtype" in info:
        tally.agree("e2e_info: output_dtype", str(final.dtype), info["output_dtype"])


def long_run(parity: ParitySet, tally: Tally) -> None:
    """The chunked way: the whole in samples, its start and its joins densely."""
    file, info, heard = parity.recording(LONG_FILE), parity.info("long_info"), Heard()
    chunk, overlap = float(info["chunk_seconds"]), float(info["overlap_seconds"])
    out = run_reference_long(
        parity.networks(),
        channels_of(file["pcm16"]),
        int(info["sample_rate"]),
        draws=Draws(int(info["seed"])),
        steps=int(info["ddim_steps"]),
        guidance_scale=float(info["guidance_scale"]),
        eta=float(info.get("eta", 1.0)),
        chunk_seconds=chunk,
        overlap_seconds=overlap,
        on_stage=heard,
    )
    waves, rate = tolerance(parity, "waves"), parity.config.mel.sample_rate
    for name, match in file.matching(r"out(?:_join(\d+))?(?:_.*\d)?"):
        recorded = file[name]
        if match[1] is None:
            tally.compare(name, kept(name, out), recorded, waves)
            continue
        every = re.search(r"every(\d+)", name)
        length = len(recorded) * (int(every[1]) if every else 1)
        start = round(int(match[1]) * (chunk - overlap) * rate)
        tally.compare(name, kept(name, out[start : start + length]), recorded, waves)
    if "output_samples" in info:
        tally.compare("long_info: output_samples", len(out), info["output_samples"], EXACT)
    if "filter_choices_per_chunk" in info:
        kinds = heard.all["filter_kind"]
        tally.agree("long_info: filters", kinds, list(info["filter_choices_per_chunk"]))
