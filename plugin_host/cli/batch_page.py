"""The page of a batch: what was done to every file, with pictures before and after."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiosr_core.errors import AudioSRError
from audiosr_core.evaluation.compare import picture_of
from audiosr_core.files import Reader, check_folder
from plugin_host.cli.terminal import counted, note, printable
from plugin_host.page import Item, write_page
from plugin_host.pictures import grid, spectra


def check_page(path: Path) -> None:
    """Before the work: FileError if it cannot be written there; and a note on what it will lack."""
    check_folder(path)
    if importlib.util.find_spec("matplotlib") is None:
        note("the page will have no pictures; for those run: pip install 'audiosr-bridge[plots]'")


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


def write_stems_page(path: Path, title: str, songs: Sequence[Mapping[str, Any]]) -> None:
    """A page of these songs, in place of an older one; as the report has them."""
    write_page(path, title, [_song_item(song) for song in songs])


def song_facts(song: Mapping[str, Any]) -> dict[str, str]:
    """What people want to know of a song that was done, in words."""

    def in_db(value: float | None) -> str:
        return "" if value is None else f"{value:.1f} dB"

    return {
        "Stems": str(len(song["stems"])),
        "Rate": f"{song['sample_rate']} Hz",
        "Length": f"{song['duration']:.2f} s",
        "Cutoff": f"{song['cutoff_hz'] / 1000:.2f} kHz",
        "Sum, low band": in_db(song["sum_residual_db"]),
        "Sum, new band": in_db(song["sum_high_db"]),
        "Model": song["model"],
        "Seed": str(song["seed"]),
        "Time taken": f"{song['seconds']:.1f} s",
    }


def _song_item(song: Mapping[str, Any]) -> Item:
    name, notes = printable(song["name"]), [*map(printable, song["notes"])]
    if "stems" not in song:
        notes += [printable(song["error"])] if "error" in song else []
        return Item(name, {"Result": song["state"]}, notes=notes)
    notes += [printable(f"{stem['name']}: {text}") for stem in song["stems"] for text in _of(stem)]
    pictures: list[bytes] = []
    try:
        pictures = _stem_pictures(song)
    except AudioSRError as error:  # an output that has gone, a missing matplotlib
        notes.append(str(error))
    return Item(name, {"Result": song["state"], **song_facts(song)}, pictures, notes)


def _of(stem: Mapping[str, Any]) -> list[str]:
    """What there is to say of one stem."""
    told = list(stem["notes"])
    if stem["solo_db"] is not None:
        told.append(f"new band {stem['solo_db']:+.1f} dB re the stem extended alone")
    if stem["overs"]:
        told.append(f"{counted(stem['overs'], 'sample')} over full scale")
    return told


def _stem_pictures(song: Mapping[str, Any]) -> list[bytes]:
    """The stems that got a new band, side by side."""
    shown = {}
    for stem in song["stems"]:
        if stem["extended"]:
            with Reader(stem["outputs"][0]) as reader:
                shown[stem["name"]] = picture_of(reader)
    return [grid(shown, song["cutoff_hz"])] if shown else []


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
