"""official_run*.npz: one run of the published code with the published weights, elsewhere.

The recorded wave is in the files, so anybody can check the front end, and who has the weights the
networks. What the run was is in the description: seed, steps, guidance, filter, bins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from audiosr_core.families.weights import read_networks
from audiosr_core.lowpass import FILTER_KINDS
from audiosr_core.reference import Draws, run_reference
from audiosr_core.reference.back import replace_low_mel
from audiosr_core.reference.front import prepare
from tests.parity.e2e import Heard
from tests.parity.recorded import AbsentError, Array, ParitySet, Recording, channels_of, kept
from tests.parity.tally import EXACT, Tally
from tests.parity.tolerances import log_mel_rounding, tolerance

FILES = "official_run*.npz"
X_AFTER = r"x_after_step_(\d+)_of_0_to_(\d+)"
FRONT = {"lowpass_wave": "low_wave", "log_mel": "log_mel", "lowpass_mel": "low_mel"}
LATENTS = {"cond_latent": "condition", "final_latent": "final_latent", "decoded_mel": "decoded_mel"}
WAVES = {"vocoder_wave": "vocoder_wave", "post_wave": "spliced_wave", "final_wave": "final_wave"}


@dataclass(frozen=True)
class Run:
    """The settings of the recorded run."""

    seed: int
    steps: int
    guidance_scale: float
    eta: float
    kind: str
    sample_rate: int


def _run(words: str) -> Run:
    return Run(
        seed=int(_number(r"seed (\d+)", words)),
        steps=int(_number(r"(\d+) steps", words)),
        guidance_scale=_number(r"guidance ([\d.]+\d|\d+)", words),
        eta=_number(r"eta ([\d.]+\d|\d+)", words),
        kind=next(kind for kind in FILTER_KINDS if f"'{kind}'" in words),
        sample_rate=int(1000 * _number(r"([\d.]+) kHz", words)),
    )


def _number(pattern: str, words: str) -> float:
    if not (match := re.search(pattern, words)):
        raise AbsentError(f"{pattern!r} in the description of the official run is not there")
    return float(match[1])


def _words(parity: ParitySet) -> str:
    names = (path.name for path in sorted(parity.folder.glob(FILES)))
    return next((words for name in names if (words := parity.description(name))), "")


def front_end(parity: ParitySet, tally: Tally) -> None:
    """Low-pass and mels of the recorded wave, and the mel that the vocoder was given."""
    file, words = parity.recording(FILES), _words(parity)
    run = _run(words)
    pcm16 = file["pcm16"]
    for name, match in file.matching(r"pcm16_first_(\d+)"):
        tally.compare(name, pcm16.ravel()[: int(match[1])], file[name], EXACT)
    wave = channels_of(pcm16)[0]
    front = prepare(wave, run.sample_rate, parity.mel, run.kind)  # type: ignore[arg-type]
    tally.agree("filter of the seed", Draws(run.seed).filter_kind(), run.kind)
    tally.compare("cutoff bin", front.cutoff_bin, _number(r"stft cutoff bin (\d+)", words), EXACT)
    bands = parity.mel.bands.cpu().numpy()
    for recorded_name, ours_name in FRONT.items():
        ours = getattr(front, ours_name)
        wave_of = front.low_wave if ours_name == "low_mel" else front.wave
        for name, _ in file.matching(recorded_name + r"(?:_(?:every|first|frames).+)?"):
            if ours_name == "low_wave":
                tally.compare(name, kept(name, ours), file[name], tolerance(parity, "lowpass"))
                continue
            magnitude = parity.mel.magnitude(parity.tensor(wave_of)).cpu().numpy()
            doubt = kept(name, log_mel_rounding(magnitude, bands)[: len(ours)])
            allowed = tolerance(parity, "official log mel")
            tally.compare(name, kept(name, ours), file[name], allowed, doubt)
    _vocoder_mel(parity, tally, file, front.low_mel, int(_number(r"mel cutoff bin (\d+)", words)))


def _vocoder_mel(parity: ParitySet, tally: Tally, file: Recording, low: Array, cutoff: int) -> None:
    """Below the rolloff it is the low-passed mel, above it the recorded decoder's."""
    ours_cutoff = replace_low_mel(np.zeros_like(low), low).cutoff_bin
    tally.compare("mel cutoff bin", ours_cutoff, cutoff, EXACT)
    allowed = tolerance(parity, "official log mel")
    for name, _ in file.matching(r"mel_into_vocoder.*"):
        recorded = file[name]
        tally.compare(name, kept(name, low)[:, :cutoff], recorded[:, :cutoff], allowed)
        frames = kept(name, np.arange(len(low))[:, None])[:, 0]
        for decoded, _ in file.matching(r"decoded_mel.*"):
            rows = kept(decoded, np.arange(len(low))[:, None])[:, 0]
            both, here, there = np.intersect1d(frames, rows, return_indices=True)
            if len(both):
                made = file[decoded][there, cutoff:]
                tally.compare(decoded, made, recorded[here, cutoff:], tolerance(parity, "schedule"))


def networks(parity: ParitySet, tally: Tally) -> None:
    """The whole run again, given the published weights."""
    file, words = parity.recording(FILES), _words(parity)
    if parity.official_weights is None:
        raise AbsentError("give --weights FILE, which 'audiosr-bridge models import' makes")
    run, heard = _run(words), Heard()
    pcm16 = file["pcm16"]
    run_reference(
        read_networks(parity.official_weights).to(parity.device),
        channels_of(pcm16),
        run.sample_rate,
        draws=Draws(run.seed),
        steps=run.steps,
        guidance_scale=run.guidance_scale,
        eta=run.eta,
        on_stage=heard,
    )
    for stages, kind in ((LATENTS, "latents"), (WAVES, "waves")):
        for recorded_name, stage in stages.items():
            for name, _ in file.matching(recorded_name + r"(?:_(?:every|first|frames).+)?"):
                ours, recorded = kept(name, heard.last(stage)), file[name]
                ours = ours.reshape(recorded.shape) if ours.size == recorded.size else ours
                tally.compare(name, ours, recorded, tolerance(parity, kind))
    after = [*heard.all["x"][1:], heard.last("final_latent")]
    for name, match in file.matching(X_AFTER):
        recorded = file[name]
        ours = after[int(match[1])].reshape(recorded.shape)
        tally.compare(name, ours, recorded, tolerance(parity, "latents"))
    for pattern, stage in (
        (r"waveform replacement index (\d+)", "wave_cutoff_bin"),
        (r"mel cutoff bin (\d+)", "mel_cutoff_bin"),
    ):
        tally.compare(stage, heard.last(stage), _number(pattern, words), EXACT)
