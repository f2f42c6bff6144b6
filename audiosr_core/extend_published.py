"""The door for files in reference mode: the published AudioSR on one file, read and written whole.

It breaks promises on purpose, for it is there to be compared with: one channel, another level, a
low band that is not the original. The container, the metadata and the sample format stay.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audiosr_core import __version__
from audiosr_core.audio import Audio
from audiosr_core.engine import EngineLike
from audiosr_core.files import Reader, Writer, check_folder, check_target, output_format
from audiosr_core.report import Report, provenance
from audiosr_core.settings import Settings

NOTE = (
    "reference mode: one channel, a peak of 0.5 and the published low band;"
    " for comparison, not for work"
)


def extend_as_published(
    engine: EngineLike,
    source: Path,
    target: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    in_place: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Report:
    """One file through the published pipeline; see `Engine.extend_as_published` for its errors."""
    began = time.monotonic()
    check_target(target, source, overwrite, in_place)
    check_folder(target, dry_run)
    found: dict[str, float] = {"cutoff_hz": 0.0}

    def on_stage(name: str, value: Any) -> None:
        on_progress(float(value) if name == "progress" else 0.0)
        if name == "cutoff_hz":
            found[name] = max(found[name], float(value))

    with Reader(source) as reader:
        info = reader.info
        _, sample_format, _ = output_format(info, target)
        samples = np.concatenate(list(reader.blocks(info.sample_rate)), axis=1)
        sound = Audio(samples.astype(np.float32), info.sample_rate)
        made = sound if dry_run else engine.extend_as_published(sound, settings, on_stage)
        model_sha256 = engine.model_sha256(settings)
        overs, notes, backup = 0, [NOTE], None
        if not dry_run:
            with Writer(
                target,
                dataclasses.replace(info, num_channels=1),
                sample_rate=made.sample_rate,
                overwrite=overwrite,
                in_place=in_place,
                provenance=provenance(settings, model_sha256, found["cutoff_hz"]),
                coding_history=f"A=PCM,F={made.sample_rate},M=mono,T=audiosr-bridge {__version__};"
                f" {settings.model} as published",
                dither_seed=settings.seed,
            ) as writer:
                writer.write(made.samples, np.ones(made.samples.shape, bool))
                writer.commit()
                overs, backup = writer.overs, writer.backup
                notes += writer.notes
    on_progress(1.0)
    elapsed = time.monotonic() - began
    return Report(
        input=str(source),
        output=str(target),
        sample_rate=made.sample_rate,
        num_samples=made.num_samples,
        num_channels=1,
        cutoff_hz=round(found["cutoff_hz"], 1),
        cutoff_confidence=0.0,
        full_band=False,
        model=settings.model,
        seed=settings.seed,
        overs=overs,
        seconds=round(elapsed, 3),
        real_time_factor=round(elapsed / max(sound.seconds, 1e-9), 4),
        extended=True,
        crossover_hz=0.0,
        gain_law_db=0.0,
        input_sample_rate=info.sample_rate,
        input_num_samples=info.num_samples,
        note="",
        notes=notes,
        backup=str(backup) if backup else None,
        model_sha256=model_sha256,
        settings=settings.as_dict(),
        sample_format=sample_format,
        dry_run=dry_run,
        engine=engine.name,
    )
