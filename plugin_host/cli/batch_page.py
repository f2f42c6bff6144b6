"""The page of a batch: what was done to every file, with pictures before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiosr_core.errors import AudioSRError
from audiosr_core.evaluation.compare import picture_of
from audiosr_core.files import Reader
from plugin_host.page import Item, write_page
from plugin_host.pictures import grid, spectra


def write_batch_page(path: Path, reports: Sequence[Mapping[str, Any]]) -> None:
    """A page of these reports, in place of an older one.

    Args:
        reports: as JSON has them; one that failed has an "error"
    """
    failed = sum("error" in report for report in reports)
    title = f"{len(reports)} files extended" if not failed else (
        f"{len(reports) - failed} of {len(reports)} files extended"
    )  # fmt: skip
    write_page(path, title, [_item(report) for report in reports])


def _item(report: Mapping[str, Any]) -> Item:
    name = Path(report["input"]).name
    if "error" in report:
        return Item(name, {"Result": "failed"}, notes=[report["error"]])
    notes = [note for note in (report["note"], *report["notes"]) if note]
    pictures: list[bytes] = []
    if not report["dry_run"]:
        try:
            pictures = _pictures(report)
        except AudioSRError as error:  # an empty sound, a missing matplotlib
            notes.append(str(error))
    return Item(name, _facts(report), pictures, notes)


def _facts(report: Mapping[str, Any]) -> dict[str, str]:
    return {
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


def _pictures(report: Mapping[str, Any]) -> list[bytes]:
    """Both spectrograms side by side, and both long-term spectra."""
    after = "What was added" if report["delta"] else "Extended"
    shown = {}
    for name, path in (("Original", report["backup"] or report["input"]),
                       (after, report["output"])):  # fmt: skip
        with Reader(path) as reader:
            shown[name] = picture_of(reader)
    cutoff_hz = report["cutoff_hz"] if report["extended"] else None
    return [grid(shown, cutoff_hz), spectra(shown, cutoff_hz)]
