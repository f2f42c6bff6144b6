"""What pages tell of a batch: facts of every file or song, and pictures before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audiosr_core.errors import AudioSRError
from audiosr_core.evaluation.compare import picture_of
from audiosr_core.evaluation.plots import Spectrogram, spectrogram
from audiosr_core.files import Reader
from plugin_host.page import Item
from plugin_host.pictures import grid, spectra
from plugin_host.stems.album import Song, Stem
from plugin_host.stems.batch import SongResult
from plugin_host.stems.mix import StemsReader

Report = Mapping[str, Any]
"""As JSON has it; that of a file that failed has an "error"."""


def extended(report: Report) -> Item:
    """Of one file that was extended."""
    name = Path(report["input"]).name
    if "error" in report:
        return _failed(name, report["error"])
    facts = {
        "Result": "extended" if report["extended"] else "nothing to add",
        "Output": report["output"],
        "Rate": f"{report['input_sample_rate']} → {report['sample_rate']} Hz",
        "Channels": str(report["num_channels"]),
        "Length": f"{report['input_num_samples'] / report['input_sample_rate']:.2f} s",
        "Format": report["sample_format"],
        "Cutoff": f"{report['cutoff_hz'] / 1000:.2f} kHz",
        "Confidence": f"{report['cutoff_confidence']:.2f}",
        "Model": report["model"],
        "Seed": str(report["seed"]),
        "Gain law": f"{report['gain_law_db']:+.1f} dB",
        "Over full scale": str(report["overs"]),
        "Time taken": f"{report['seconds']:.1f} s",
    }
    notes = [note for note in (report["note"], *report["notes"]) if note]
    sounds = _of_files(report, "What was added" if report["delta"] else "Extended")
    return _item(name, facts, notes, sounds, _cutoff_hz(report))


def rendered(report: Report, facts: Callable[[Report], Mapping[str, str]]) -> Item:
    """Of one file that went through a chain."""
    if "error" in report:
        return _failed(report["input"], report["error"])
    sounds = _of_files(report, "Rendered")
    return _item(report["output"], facts(report), report["notes"], sounds, report["cutoff_hz"])


def song(result: SongResult) -> Item:
    """Of the stems of one song; the pictures are of their sums."""
    if result.state == "failed":
        return _failed(result.name, result.error)
    report = result.as_dict()
    facts: dict[str, str] = {"Result": result.state}
    notes = [note for note in (report.get("note"), *report["notes"]) if note]
    if not result.report:
        return Item(result.name, facts, notes=notes)
    stems = report["stems"]
    facts |= {
        "Stems": str(len(stems)),
        "Rate": f"{report['sample_rate']} Hz",
        "Length": f"{report['duration']:.2f} s",
        "Cutoff": f"{report['cutoff_hz'] / 1000:.2f} kHz",
        "Model": report["model"],
        "Seed": str(report["seed"]),
        "Gain law": f"{report['gain_law_db']:+.1f} dB",
        "Change of the sum's low band": _db(report["sum_residual_db"]),
        "Sum of the new bands": _db(report["sum_high_db"]),
        "Its error": _db(report["sum_error_db"]),
        "Over full scale": str(sum(one["overs"] for one in stems)),
        "Time taken": f"{report['seconds']:.1f} s",
    }
    sounds = {
        "Sum of the stems": partial(_of_sum, [one["inputs"] for one in stems]),
        "Sum of the extended": partial(_of_sum, [one["outputs"] for one in stems]),
    }
    return _item(result.name, facts, notes, sounds, _cutoff_hz(report))


def _failed(name: str, error: str) -> Item:
    return Item(name, {"Result": "failed"}, notes=[error])


def _item(
    name: str,
    facts: Mapping[str, str],
    notes: Sequence[str],
    sounds: Mapping[str, Callable[[], Spectrogram]],
    cutoff_hz: float | None,
) -> Item:
    """With spectrograms of the sounds side by side, and their long-term spectra."""
    if not sounds:
        return Item(name, facts, notes=notes)
    try:
        shown = {title: look() for title, look in sounds.items()}
        return Item(name, facts, [grid(shown, cutoff_hz), spectra(shown, cutoff_hz)], notes)
    except AudioSRError as error:  # an empty sound, one that has gone, a missing matplotlib
        return Item(name, facts, notes=[*notes, str(error)])


def _of_files(report: Report, after: str) -> dict[str, Callable[[], Spectrogram]]:
    """The original and what became of it; nothing after a dry run."""
    if report["dry_run"]:
        return {}
    before = report["backup"] or report["input"]
    return {"Original": partial(_of_file, before), after: partial(_of_file, report["output"])}


def _of_file(path: str) -> Spectrogram:
    with Reader(path) as reader:
        return picture_of(reader)


def _of_sum(stems: Sequence[Sequence[str]]) -> Spectrogram:
    """Args: stems: the files of each"""
    one_song = Song("", tuple(Stem("", tuple(map(Path, files)), ()) for files in stems))
    with StemsReader(one_song) as reader:
        return spectrogram(
            lambda start, count: reader.read_mix(start, start + count),
            reader.num_samples,
            reader.sample_rate,
        )


def _cutoff_hz(report: Report) -> float | None:
    """To be drawn, where something was added above it."""
    return report["cutoff_hz"] if report["extended"] else None


def _db(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"
