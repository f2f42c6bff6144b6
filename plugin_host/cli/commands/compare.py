"""`audiosr-bridge compare`: what changed between two files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audiosr_core.errors import UsageError
from plugin_host.cli.flags import Json
from plugin_host.cli.targets import check_report
from plugin_host.cli.terminal import emit, write


def compare(
    original: Annotated[Path, typer.Argument(metavar="A", help="The original.")],
    extended: Annotated[Path, typer.Argument(metavar="B", help="What became of it.")],
    cutoff: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            min=1.0,
            help="Where the original ends; without it the whole band is compared.",
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw both spectrograms here.")
    ] = None,
    joins: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw how the chunks of B meet; bad joins stand out."),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="From one chunk to the next, for --joins where B has no record of it.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare two files: residual below the crossover, distance, level, length, joins."""
    from audiosr_core.evaluation.compare import compare_files

    if stride is not None and joins is None:
        raise UsageError("--stride says where the joins are; give --joins too")
    for path in (png, joins):
        check_report(path, [original, extended])
    found = compare_files(original, extended, cutoff_hz=cutoff, png=png).as_dict()
    if joins is not None:
        found["joins"] = _inspect(original, extended, cutoff, stride, joins)
    if json:
        emit(found)
        return
    for line in _lines(found):
        write(line)


def _inspect(
    original: Path, extended: Path, cutoff: float | None, stride: float | None, png: Path
) -> dict[str, Any]:
    """The joins of the extended file, drawn; those that show, and what they are measured by."""
    from audiosr_core.containers.temporary import write_whole
    from audiosr_core.files import Reader, provenance_of
    from plugin_host.pictures import draw_joins, inspect_joins, joins_of

    with Reader(original) as first, Reader(extended) as second:
        places = joins_of(extended, first.info.sample_rate, stride)
        found = inspect_joins(first, second, places)
        record = provenance_of(extended) or {}
        from_hz = cutoff or float(record.get("cutoff_hz", 0.0))
        picture = draw_joins(found, first, second, from_hz, f"Joins of {extended.name}")
    write_whole(png, picture, overwrite=True)
    return {
        "count": len(found.joins),
        "limits": found.limits,
        "showing": [asdict(join) for join in found.showing],
        "png": str(png),
    }


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The comparison for people; what was not measured is left out."""
    for name in ("a", "b"):
        file = found[name]
        yield (
            f"{name}: {file['path']}: {file['sample_rate']} Hz, {file['num_channels']} channels,"
            f" {file['num_samples']} samples, peak {_number(file['peak_db'])} dBFS,"
            f" {file['overs']} over full scale"
        )
    below = f"below {found['null_below_hz']:.0f} Hz"
    yield f"residual {below}: {_number(found['null_residual_db'])} dB of the original"
    yield f"residual's peak: {_number(found['null_peak_db'])} dBFS"
    yield f"level {below}: {_number(found['level_difference_db'])} dB re the original"
    yield f"LSD (ssr_eval): {_number(found['lsd_ssr'])}"
    if found["cutoff_hz"] is not None:
        cutoff = f"{found['cutoff_hz']:.0f} Hz"
        yield f"  up to {cutoff}: {_number(found['lsd_ssr_low'])}"
        yield f"  above {cutoff}: {_number(found['lsd_ssr_high'])}"
    yield f"LSD (AP-BWE): {_number(found['lsd_apbwe'])}"
    yield f"offset: {found['offset_samples']} samples"
    yield f"length: {'the same' if found['same_length'] else 'NOT the same'}"
    if found["png"] is not None:
        yield f"picture: {found['png']}"
    if "joins" in found:
        joins = found["joins"]
        yield f"joins: {joins['count']}, of which {len(joins['showing'])} show: {joins['png']}"
        for join in joins["showing"]:
            yield (
                f"  {join['start']:.2f} s: {', '.join(join['found'])} (step {join['step']:.1f} dB,"
                f" bulge {join['bulge']:.1f} dB, spike {join['spike']:.1f})"
            )


def _number(value: float | str) -> str:
    """Three decimals, a zero without a sign; infinities and NaN come as text already."""
    return value if isinstance(value, str) else f"{round(value, 3) + 0.0:.3f}"
