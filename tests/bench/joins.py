"""How chunks of `audiosr` meet, for every way to join them: the table of docs/joins.md.

    python -m tests.bench.joins [--chunks 8] [--parity DIR] [--steps 10]

    chunk k     ...─────────|==overlap==|
    chunk k+1               |==overlap==|─────────...       two versions of the same stretch

The networks are small ones with arithmetic weights, or those of a parity set; official weights
would say more. What is joined is the band above the cutoff, at the end of the walk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from audiosr_core.chunking import ChunkPlan
from audiosr_core.crossfade import join
from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision
from audiosr_core.families import audiosr
from audiosr_core.families.audiosr import AudioSRModel
from audiosr_core.model.audiosr import build
from audiosr_core.noise import latent_noise
from audiosr_core.settings import Settings
from audiosr_core.stream import high_band, plan_for
from tests.parity.config import config_of
from tests.support.audiosr import muffled, small_model

RATE = 48_000
CUTOFF = 4_000.0
PEAK = 0.3
HOP = 3_840  # samples a latent frame

Band = NDArray[np.float64]


@dataclass(frozen=True)
class Chunks:
    """The first chunks of a sound, before they meet."""

    plan: ChunkPlan
    bands: list[Band]  # what is added, core and overlap, each [samples]
    latents: list[Band]  # what it was decoded from, margins and all, each [16, frames, bins]


@dataclass(frozen=True)
class Joins:
    """All joins of one kind in a sound."""

    count: int
    latent: float | None  # correlation of the two versions' latents, mean over the joins
    correlation: float | None  # of the two versions of the sound
    energy_db: float | None  # of the join, against the two versions faded into each other
    level_db: float  # of the join, against the stretches beside it
    spread_db: float | None  # the same of places where nothing is joined: what chance does
    spike: float  # greatest bend in a join, against the greatest beside it


def chunks_of(model: AudioSRModel, settings: Settings, count: int) -> Chunks:
    """The first chunks of a noise."""
    decision = Decision(
        RATE, Cutoff(CUTOFF, 1.0, False, "given"), True, False, (False,), 0.0, "", PEAK
    )
    plan = plan_for(model, RATE, decision, settings)
    _, end = (plan.at(tick, RATE) for tick in plan.slice(count - 1))
    lead = -plan.at(plan.slice(0)[0], RATE)
    x = muffled(1, lead + end, CUTOFF, RATE)
    bands: list[Band] = []
    latents: list[Band] = []
    sample = model._sample

    def spied(*args: Any) -> Tensor:
        z = sample(*args)
        latents.append(z[0].double().numpy())
        return z

    with mock.patch.object(model, "_sample", spied):
        for k in range(count):
            a, b = (plan.at(tick, RATE) + lead for tick in plan.slice(k))
            made = high_band(model, plan, k, x[:, a:b], decision, settings)
            bands.append(made[0].astype(float))
    return Chunks(plan, bands, latents)


@contextlib.contextmanager
def independent_noise() -> Iterator[None]:
    """Every chunk starts from noise of its own, as published."""

    def forgetful(seed: int, first_frame: int, *rest: int) -> NDArray[np.float32]:
        return latent_noise(seed + 1 + abs(first_frame), first_frame, *rest)

    with mock.patch.object(audiosr, "latent_noise", forgetful):
        yield


def crossfaded(chunks: Chunks, *, linear: bool = False) -> Joins:
    """Measure the joins between chunks, faded as the walk does it, or linearly."""
    plan, bands = chunks.plan, chunks.bands
    stride, size = plan.at(plan.stride, RATE), plan.at(plan.overlap, RATE)
    up = (np.arange(size) + 0.5) / size
    joined = [band[:stride].copy() for band in bands]
    alike, expected = [], []
    for k, (before, after) in enumerate(pairwise(bands)):
        early, late = before[stride:], after[:size]
        made = early * (1 - up) + late * up if linear else join(early[None], late[None])[0]
        joined[k + 1][:size] = made
        alike.append(_correlation(early, late))
        expected.append(_decibel(made**2, early**2 * (1 - up) + late**2 * up))
    measured = _measured(np.concatenate(joined), [k * stride for k in range(1, len(bands))], size)
    return replace(
        measured,
        latent=float(np.mean(_latents_alike(chunks))),
        correlation=float(np.mean(alike)),
        energy_db=float(np.mean(expected)),
    )


def denoised_together(chunks: Chunks) -> Joins:
    """Measure the joins of windows inside chunks, where there is one latent and no crossfade."""
    size = (audiosr.WINDOW - audiosr.JOINT_STRIDE) * HOP
    inside = [
        (i * audiosr.JOINT_STRIDE - audiosr.MARGIN) * HOP for i in range(1, audiosr.JOINT_WINDOWS)
    ]
    stride = chunks.plan.at(chunks.plan.stride, RATE)
    whole = np.concatenate([band[:stride] for band in chunks.bands])
    places = [k * stride + place for k in range(len(chunks.bands)) for place in inside]
    return _measured(whole, [p for p in places if p + 2 * size < len(whole)], size)


def _latents_alike(chunks: Chunks) -> list[float]:
    """Correlation of what differs from frame to frame, in every overlap."""
    mean = np.mean([z.mean(axis=1, keepdims=True) for z in chunks.latents], axis=0)
    first = audiosr.MARGIN + chunks.plan.at(chunks.plan.stride, RATE) // HOP
    return [
        _correlation(
            (a - mean)[:, first : first + audiosr.OVERLAP],
            (b - mean)[:, audiosr.MARGIN : audiosr.MARGIN + audiosr.OVERLAP],
        )
        for a, b in pairwise(chunks.latents)
    ]


def _correlation(a: Band, b: Band) -> float:
    return float(np.vdot(a, b) / np.sqrt(np.vdot(a, a) * np.vdot(b, b)))


def _measured(x: Band, places: list[int], size: int) -> Joins:
    beside = [p + side for p in places for side in (-size, size)]

    def level(place: int) -> float:
        around = [x[place + side : place + side + size] for side in (-size, size)]
        return _decibel(x[place : place + size] ** 2, np.concatenate(around) ** 2)

    def bend(place: int) -> float:
        return float(np.abs(np.diff(x[place : place + size], 2)).max())

    middles = [(a + b) // 2 for a, b in pairwise(places)]
    chance = [level(p + side) for p in middles for side in (-size, 0, size)]
    return Joins(
        count=len(places),
        latent=None,
        correlation=None,
        energy_db=None,
        level_db=float(np.mean([level(p) for p in places])),
        spread_db=float(np.std(chance)) if chance else None,
        spike=max(bend(p) for p in places) / max(bend(p) for p in beside),
    )


def _decibel(part: Band, whole: Band) -> float:
    return float(10 * np.log10(part.mean() / whole.mean()))


def measure(model: AudioSRModel, settings: Settings, count: int) -> dict[str, Joins]:
    """Every way to join, by name."""
    with independent_noise():
        apart = chunks_of(model, settings, count)
    shared = chunks_of(model, settings, count)
    windows = max(2, -(-count // audiosr.JOINT_WINDOWS))
    joint = chunks_of(model, settings.replace(joins="joint"), windows)
    return {
        "linear crossfade, independent noise": crossfaded(apart, linear=True),
        "crossfade, independent noise": crossfaded(apart),
        "crossfade, shared noise": crossfaded(shared),
        "joint, between chunks": crossfaded(joint),
        "joint, inside a chunk": denoised_together(joint),
    }


def table(rows: dict[str, Joins]) -> list[str]:
    """The measurement in Markdown."""
    lines = [
        "| way | joins | latents alike | sounds alike | energy | level | level by chance | spike |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in rows.items():
        cells = [
            name,
            str(one.count),
            _cell(one.latent, ".2f"),
            _cell(one.correlation, ".2f"),
            _cell(one.energy_db, "+.2f"),
            _cell(one.level_db, "+.2f"),
            _cell(one.spread_db, "±.2f"),
            _cell(one.spike, ".2f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return ""
    return "±" + format(value, form[1:]) if form.startswith("±") else format(value, form)


def parity_model(folder: Path) -> AudioSRModel:
    """The networks of a parity set."""
    from safetensors.torch import load_file

    config = config_of(json.loads((folder / "manifest.json").read_text()))
    weights = load_file(folder / "weights.safetensors")
    return AudioSRModel(build(config, {k: v.float() for k, v in weights.items()}), "parity")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--parity", type=Path, help="a parity set, whose networks are measured")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance-scale", type=float, default=3.5)
    options = parser.parse_args()
    model = parity_model(options.parity) if options.parity else small_model()
    settings = Settings(steps=options.steps, guidance_scale=options.guidance_scale)
    print("\n".join(table(measure(model, settings, options.chunks))))


if __name__ == "__main__":
    main()
