"""Measure systems on a set: one row per system and input rate, the controls beside the models.

    item, 48 kHz ──degrade──▶ low band, at 48 kHz or as a true low-rate file ──system──▶ 48 kHz
         └──────────────────────────── compare ◀── level match in the low band ◀──────────┘

A table is the plain mean over the sounds; a score that a sound does not have (NaN) is left out of
its own mean, and the column of files counts the sounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol

import numpy as np

from audiosr_core.audio import Samples
from audiosr_core.errors import AudioError, UsageError
from audiosr_core.evaluation.controls import OUTPUT_RATE, copy_up, unprocessed
from audiosr_core.evaluation.degrade import degradation, degrade, to_rate
from audiosr_core.evaluation.metrics import (
    level_error_db,
    level_match,
    lsd_apbwe_bands,
    lsd_ssr_bands,
    visqol_audio,
)
from audiosr_core.evaluation.sets import Item

System = Callable[[Samples, int, float], Samples]
"""(samples [channels, samples], their sample_rate, cutoff_hz) → [channels, samples] at 48 kHz."""

InputKind = Literal["stored", "low-rate"]
METRICS = ("lsd_ssr", "lsd_apbwe", "lsd_lf", "lsd_hf", "level", "visqol")
CONTROLS: Mapping[str, System] = {"unprocessed": unprocessed, "naive copy-up": copy_up}

OnProgress = Callable[[int, int, str], None]


class Sounds(Protocol):
    """What can be measured on: an EvaluationSet, or anything like it."""

    @property
    def name(self) -> str: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Item]: ...


@dataclass(frozen=True)
class Row:
    """One system at one input rate. NaN where a score was not asked for or does not exist."""

    system: str
    input_rate: int  # Hz
    lsd_ssr: float
    lsd_apbwe: float
    lsd_lf: float  # ssr, bins up to the cutoff
    lsd_hf: float  # ssr, bins above it
    visqol: float  # MOS-LQO
    level_error_db: float  # mean of the absolute low band level error, before matching
    num_files: int
    num_visqol: int  # how many of them ViSQOL listened to


@dataclass(frozen=True)
class Table:
    """What was measured and how."""

    set_name: str
    degradation: str
    input_kind: InputKind
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes None."""
        rows = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            for row in map(asdict, self.rows)
        ]
        return {
            "set": self.set_name,
            "degradation": self.degradation,
            "input_kind": self.input_kind,
            "rows": rows,
        }

    def as_markdown(self) -> str:
        """A table for the model card."""
        head = (
            "| system | input | LSD (ssr) | LSD (AP-BWE) | LSD-LF | LSD-HF | ViSQOL | level, dB"
            " | files |"
        )
        lines = [head, "|" + " --- |" * 2 + " ---: |" * 7]
        for r in self.rows:
            files = f"{r.num_files}"
            if r.num_visqol and r.num_visqol != r.num_files:
                files += f" (ViSQOL {r.num_visqol})"
            lines.append(
                f"| {r.system} | {r.input_rate / 1000:g} → {OUTPUT_RATE / 1000:g} kHz"
                f" | {_cell(r.lsd_ssr, 3)} | {_cell(r.lsd_apbwe, 3)} | {_cell(r.lsd_lf, 3)}"
                f" | {_cell(r.lsd_hf, 3)} | {_cell(r.visqol, 2)} | {_cell(r.level_error_db, 2)}"
                f" | {files} |"
            )
        return "\n".join(lines) + "\n"


def evaluate(
    sounds: Sounds,
    systems: Mapping[str, System],
    input_rates: Sequence[int] = (16_000, 32_000),
    *,
    metrics: Iterable[str] = METRICS[:-1],
    degradation_name: str = "polyphase",
    input_kind: InputKind = "stored",
    controls: bool = True,
    visqol_files: int | None = None,
    on_progress: OnProgress = lambda done, total, name: None,
) -> Table:
    """Measure every system on every sound at every input rate.

    Args:
        sounds: the set
        systems: name → system
        input_rates: in Hz; the cutoff is half of each
        metrics: some of METRICS; ViSQOL is slow and only measured when named
        degradation_name: how the high band is taken away, a name of degrade.DEGRADATIONS
        input_kind: "stored" is 48 kHz material with an edge, "low-rate" a true low-rate file
        controls: put the two controls first
        visqol_files: ViSQOL on that many sounds only, spread evenly over the set
        on_progress: told (pairs done, pairs in all, what) before each; raise from it to cancel
    """
    wanted = frozenset(metrics)
    _check_request(wanted, input_rates, degradation_name, input_kind)
    table = {**CONTROLS, **systems} if controls else dict(systems)
    scores: dict[tuple[str, int], list[dict[str, float]]] = {
        (name, rate): [] for rate in input_rates for name in table
    }
    total = len(sounds) * len(scores)
    listened = _spread(visqol_files, len(sounds))
    done = 0
    for index, item in enumerate(sounds):
        if item.sample_rate != OUTPUT_RATE:
            raise UsageError(
                f"evaluation is at {OUTPUT_RATE} Hz, got {item.name!r} at {item.sample_rate} Hz;"
                " resample it first"
            )
        for rate in input_rates:
            given = make_input(item.samples, rate, degradation_name, input_kind)
            for name, system in table.items():
                on_progress(done, total, f"{item.name}, {rate / 1000:g} kHz, {name}")
                output = system(given, OUTPUT_RATE if input_kind == "stored" else rate, rate / 2)
                chosen = wanted if index in listened else wanted - {"visqol"}
                scores[name, rate].append(
                    score(item.samples, _same_length(output, item, name), rate / 2, chosen)
                )
                done += 1
    on_progress(total, total, "")
    rows = (_row(name, rate, found) for (name, rate), found in scores.items())
    return Table(sounds.name, degradation_name, input_kind, tuple(rows))


def make_input(
    samples: Samples, input_rate: int, degradation_name: str, input_kind: InputKind
) -> Samples:
    """What a system is given of a 48 kHz sound."""
    if input_kind == "low-rate":
        return to_rate(samples, OUTPUT_RATE, input_rate, degradation_name)
    return degrade(samples, OUTPUT_RATE, input_rate / 2, degradation_name)


def score(
    reference: Samples, output: Samples, cutoff_hz: float, metrics: frozenset[str]
) -> dict[str, float]:
    """The scores of one output at 48 kHz, level matched; silent frames are left out of ssr."""
    matched = level_match(reference, output, OUTPUT_RATE, cutoff_hz)
    found: dict[str, float] = {}
    if metrics & {"lsd_ssr", "lsd_lf", "lsd_hf"}:
        ssr = lsd_ssr_bands(reference, matched, OUTPUT_RATE, cutoff_hz, skip_silent=True)
        found |= {"lsd_ssr": ssr.full, "lsd_lf": ssr.low, "lsd_hf": ssr.high}
    if "lsd_apbwe" in metrics:
        found["lsd_apbwe"] = lsd_apbwe_bands(reference, matched, OUTPUT_RATE, cutoff_hz).full
    if "level" in metrics:
        found["level_error_db"] = abs(level_error_db(reference, output, OUTPUT_RATE, cutoff_hz))
    if "visqol" in metrics:
        found["visqol"] = visqol_audio(reference, matched, OUTPUT_RATE)
    return found


def _check_request(
    metrics: frozenset[str], input_rates: Sequence[int], degradation_name: str, input_kind: str
) -> None:
    degradation(degradation_name)
    unknown = sorted(metrics - set(METRICS))
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}; there are: {', '.join(METRICS)}")
    if input_kind not in ("stored", "low-rate"):
        raise UsageError(f"the input kind must be stored or low-rate, got {input_kind!r}")
    for rate in input_rates:
        if not 1_000 <= rate < OUTPUT_RATE:
            raise UsageError(f"an input rate must be 1000 to {OUTPUT_RATE - 1} Hz, got {rate} Hz")


def _same_length(output: Samples, item: Item, name: str) -> Samples:
    """The output cut or padded by the one sample that rounding may cost; else AudioError."""
    channels, wanted = item.samples.shape
    came = np.atleast_2d(output)
    if came.shape[0] != channels or abs(came.shape[1] - wanted) > OUTPUT_RATE // 1000:
        raise AudioError(
            f"system {name!r} must give {[channels, wanted]} for {item.name!r},"
            f" got {list(came.shape)}; it loses length or channels"
        )
    missing = max(0, wanted - came.shape[1])
    return np.pad(came[:, :wanted], ((0, 0), (0, missing)))


def _spread(some: int | None, total: int) -> frozenset[int]:
    """This many indices out of so many, evenly; all of them for None."""
    if some is None or some >= total:
        return frozenset(range(total))
    return frozenset(i * total // some for i in range(some))


def _row(name: str, rate: int, found: Sequence[Mapping[str, float]]) -> Row:
    scores = [f.name for f in fields(Row) if f.type == "float"]
    means = {s: _mean(d.get(s, math.nan) for d in found) for s in scores}
    listened = sum(not math.isnan(d.get("visqol", math.nan)) for d in found)
    return Row(system=name, input_rate=rate, num_files=len(found), num_visqol=listened, **means)


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def _cell(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
