"""The published way with long sounds: chunks, each a run of its own, each at its own level.

    chunk 0  |--------------\\            each at the peak of what went in: the level jumps
    chunk 1             /--------------\\      a new filter and new noise each
    chunk 2                        /--------------|
                        overlap    Hann halves; their sum is divided out

Chunks start every (chunk − overlap) seconds while there is sound; the last may be shorter.
"""

from __future__ import annotations

import numpy as np
import scipy.signal

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.reference.draws import Draws
from audiosr_core.reference.front import fit, to_rate
from audiosr_core.reference.pipeline import OnStage, _ignore, run_reference

TINY = 1e-8  # so that silence is not divided by nothing


def run_reference_long(
    networks: AudioSR,
    wave: Samples,
    sample_rate: int,
    *,
    draws: Draws,
    steps: int = 50,
    guidance_scale: float = 3.5,
    eta: float = 1.0,
    chunk_seconds: float = 15.0,
    overlap_seconds: float = 2.0,
    on_stage: OnStage = _ignore,
) -> Samples:
    """What the published code makes of a long sound, float32 at the model's rate, [samples].

    Args as of `run_reference`; all channels are heard, as their mean, and the draws run on from
    chunk to chunk.

    Raises:
        AudioError: as `run_reference`, for any chunk; and a last chunk shorter than the overlap
    """
    rate = networks.config.mel.sample_rate
    sound = to_rate(wave.mean(axis=0, dtype=np.float32), sample_rate, rate)
    chunk, overlap = int(chunk_seconds * rate), int(overlap_seconds * rate)
    stride = chunk - overlap
    starts = range(0, len(sound), max(stride, 1))  # no stride is refused below
    shortest = min(chunk, len(sound) - starts[-1])
    if not 0 < overlap <= min(shortest, stride):
        raise AudioError(
            f"reference mode cannot join chunks of {chunk_seconds:g} s: the last one has"
            f" {shortest / rate:g} s, and the overlap is {overlap_seconds:g} s;"
            " use another length, or the product mode"
        )
    hann = scipy.signal.windows.hann(2 * overlap).astype(np.float32)
    out, total = np.zeros_like(sound), np.zeros_like(sound)
    for start in starts:
        piece = sound[start : start + chunk]
        draws.unused()
        made = run_reference(
            networks,
            fit(piece, chunk)[None],
            rate,
            draws=draws,
            steps=steps,
            guidance_scale=guidance_scale,
            eta=eta,
            on_stage=on_stage,
        )[: len(piece)]
        made = made * (np.abs(piece).max() / (np.abs(made).max() + TINY))
        weight = np.ones_like(made)
        if start > 0:
            weight[:overlap] = hann[:overlap]
        if start + chunk < len(sound):
            weight[-overlap:] = hann[overlap:]
        out[start : start + len(made)] += made * weight
        total[start : start + len(made)] += weight
    return np.asarray(np.clip(out / np.maximum(total, TINY), -1, 1), np.float32)
