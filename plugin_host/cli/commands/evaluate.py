"""`audiosr-bridge evaluate`: a model against held-out sounds, beside the controls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from audiosr_core.audio import Audio, Samples
from audiosr_core.errors import UsageError
from audiosr_core.settings import Settings
from plugin_host.cli.flags import Json
from plugin_host.cli.terminal import emit, write

OUTPUT_RATE = 48_000  # Hz, of every evaluation


def evaluate(
    name: Annotated[str, typer.Option("--set", metavar="NAME", help="Which sounds.")],
    folder: Annotated[
        Path | None, typer.Option("--set-dir", metavar="DIR", help="Where they lie.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="Which model.")] = "lite",
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most this many sounds.")
    ] = None,
    no_visqol: Annotated[bool, typer.Option("--no-visqol", help="Leave ViSQOL out.")] = False,
    visqol_files: Annotated[
        int | None,
        typer.Option("--visqol-files", min=1, metavar="N", help="ViSQOL on so many sounds only."),
    ] = None,
    rates: Annotated[
        str, typer.Option("--rates", metavar="HZ,...", help="Input rates to extend from.")
    ] = "16000,32000",
    low_rate: Annotated[
        bool, typer.Option("--low-rate", help="Inputs at their own rate, not stored at 48 kHz.")
    ] = False,
    given_cutoff: Annotated[
        bool, typer.Option("--given-cutoff", help="Tell the model the cutoff; else it is measured.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure a model on a set of sounds, with the controls in the same table."""
    from audiosr_core.evaluation.run import METRICS
    from audiosr_core.evaluation.run import evaluate as measure
    from audiosr_core.evaluation.sets import open_set

    table = measure(
        open_set(name, folder, max_files=limit),
        {model: _system(model, given_cutoff)},
        _rates(rates),
        metrics=METRICS[:-1] if no_visqol else METRICS,
        input_kind="low-rate" if low_rate else "stored",
        visqol_files=visqol_files,
    )
    if json:
        emit(table.as_dict())
    else:
        write(table.as_markdown())


def _rates(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--rates must be whole numbers of Hz and commas, got {text!r}") from None


def _system(model: str, given_cutoff: bool) -> Callable[[Samples, int, float], Samples]:
    """The whole walk as the runner calls it: samples, their rate, the cutoff → 48 kHz samples."""
    from audiosr_core.engine import Engine

    def extended(samples: Samples, sample_rate: int, cutoff_hz: float) -> Samples:
        settings = Settings(model=model, rate=OUTPUT_RATE)
        if given_cutoff:
            settings = settings.replace(cutoff=cutoff_hz)
        audio: Audio = Engine().extend(Audio(samples, sample_rate), settings)
        return audio.samples

    return extended
