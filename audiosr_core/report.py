"""What was done to one file, as a value: printed, logged, sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from audiosr_core import __version__
from audiosr_core.settings import Settings


@dataclass(frozen=True)
class Report:
    """What was done to one file."""

    input: str
    output: str  # where it is, or would be after a dry run
    sample_rate: int  # of the output, Hz
    num_samples: int  # of the output
    num_channels: int
    cutoff_hz: float
    cutoff_confidence: float
    full_band: bool
    model: str
    seed: int
    overs: int
    seconds: float  # the work took
    real_time_factor: float
    extended: bool
    crossover_hz: float
    gain_law_db: float
    input_sample_rate: int
    input_num_samples: int
    note: str
    notes: list[str] = field(default_factory=list)
    backup: str | None = None
    region: tuple[int, int] | None = None
    model_sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    sample_format: str = ""  # of the output, libsndfile's name: PCM_16, PCM_24, FLOAT, ...
    version: str = __version__
    dry_run: bool = False
    engine: str = "in-process"  # or "daemon": the samples are the same
    delta: bool = False  # only what was added

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def provenance(settings: Settings, model_sha256: str, cutoff_hz: float) -> dict[str, Any]:
    """What a file is told about how it was made."""
    return {
        "software": "audiosr-bridge",
        "version": __version__,
        "model": settings.model,
        "model_sha256": model_sha256,
        "seed": settings.seed,
        "settings": settings.as_dict(),
        "cutoff_hz": round(cutoff_hz, 1),
    }
