"""`audiosr-bridge compat`: the flags of the official `audiosr` command, on this engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from audiosr_core.errors import AudioSRError, FileError, UsageError
from audiosr_core.settings import Settings
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.commands.extend import Request, extend_all
from plugin_host.cli.outcome import exit_code, tell_failure
from plugin_host.cli.targets import check_distinct, plan_targets
from plugin_host.cli.terminal import emit, interrupted, note, printable, say
from plugin_host.place import Where

MAX_LIST_BYTES = 16 << 20


@dataclass(frozen=True)
class Exact:
    """What all files of one call share, with the published pipeline."""

    model_name: str
    device: str
    settings: Settings
    suffix: str
    chunks: tuple[float, float] | None  # seconds of a chunk, and of its overlap
    json: bool
    quiet: bool


def compat(
    input_audio_file: Annotated[
        Path | None,
        typer.Option("-i", "--input_audio_file", metavar="FILE", help="A sound file."),
    ] = None,
    input_file_list: Annotated[
        Path | None,
        typer.Option("-il", "--input_file_list", metavar="FILE", help="A text, one path a line."),
    ] = None,
    save_path: Annotated[
        Path,
        typer.Option(
            "-s", "--save_path", metavar="DIR", help="A new folder named by the time comes here."
        ),
    ] = Path("./output"),
    model_name: Annotated[
        str, typer.Option("--model_name", metavar="basic|speech", help="Which weights.")
    ] = "basic",
    device: Annotated[
        str, typer.Option("-d", "--device", metavar="auto|cpu|cuda[:N]|mps", help="Where to run.")
    ] = "auto",
    ddim_steps: Annotated[
        int, typer.Option("--ddim_steps", metavar="N", help="Denoising steps.")
    ] = 50,
    guidance_scale: Annotated[
        float,
        typer.Option("-gs", "--guidance_scale", metavar="S", help="How closely to follow."),
    ] = 3.5,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Another seed, another sound.")
    ] = 42,
    suffix: Annotated[
        str, typer.Option("--suffix", metavar="TEXT", help="Comes after each file's name.")
    ] = "_AudioSR_Processed_48K",
    chunking: Annotated[
        bool,
        typer.Option("--chunking", help="Long sounds in chunks; needed with --compat-exact only."),
    ] = False,
    chunk_duration: Annotated[
        int, typer.Option("--chunk_duration", metavar="S", help="Seconds, with --compat-exact.")
    ] = 15,
    overlap_duration: Annotated[
        int, typer.Option("--overlap_duration", metavar="S", help="Seconds, with --compat-exact.")
    ] = 2,
    compat_exact: Annotated[
        bool,
        typer.Option(
            "--compat-exact",
            help="The published pipeline as it is: one channel, a peak of 0.5, 16 bits.",
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only errors.")] = False,
    daemon: Annotated[
        bool | None,
        typer.Option(
            "--daemon/--no-daemon",
            help="As for extend; --compat-exact always computes in this process.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Extend files by the flags of the official audiosr command (see docs/compat.md)."""
    from plugin_host.compat import MODEL_NAMES, checked_chunks, settings

    if model_name not in MODEL_NAMES:
        raise UsageError(f"--model_name must be {' or '.join(MODEL_NAMES)}, got {model_name!r}")
    if "/" in suffix or "\\" in suffix or "\0" in suffix:
        raise UsageError(f"--suffix is part of a file's name and holds no slash, got {suffix!r}")
    chunks = checked_chunks(chunk_duration, overlap_duration)
    knobs = settings(f"audiosr-{model_name}", seed, ddim_steps, guidance_scale, compat_exact)
    sources = _sources(input_audio_file, input_file_list)
    check_distinct(sources)
    folder = f"{save_path / time.strftime('%d_%m_%Y_%H_%M_%S')}/"
    if compat_exact:
        if daemon:
            raise UsageError("--compat-exact computes in this process; leave out --daemon")
        part = chunks if chunking else None
        exact = Exact(model_name, device, knobs, suffix, part, json, quiet)
        raise typer.Exit(_extend_exactly(sources, folder, exact))
    if chunking and not quiet:
        note("sounds of any length are extended as one; --chunking is for --compat-exact")
    request = Request(
        settings=knobs,
        region=None,
        overwrite=False,
        in_place=False,
        dry_run=False,
        json=json,
        quiet=quiet,
        where=Where(None if device == "auto" else device, None, daemon),
    )
    raise typer.Exit(extend_all(sources, folder, request, partial(_named, suffix=suffix)))


def _sources(file: Path | None, list_file: Path | None) -> list[Path]:
    if (file is None) == (list_file is None):
        raise UsageError("give one of -i FILE and -il LIST")
    if file is not None:
        return [file]
    assert list_file is not None
    try:
        with list_file.open("rb") as opened:
            text = opened.read(MAX_LIST_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise FileError(f"cannot read the list {list_file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the list {list_file} must be UTF-8 text: {error.reason}") from error
    if len(text) > MAX_LIST_BYTES:
        raise UsageError(f"a list has at most {MAX_LIST_BYTES} bytes, {list_file} has more")
    sources = [Path(line.strip()) for line in text.splitlines() if line.strip()]
    if not sources:
        raise UsageError(f"the list {list_file} names no file; write one path a line")
    return sources


def _named(source: Path, folder: Path | None, suffix: str) -> Path:
    return (folder or source.parent) / f"{source.stem}{suffix}.wav"


def _extend_exactly(sources: Sequence[Path], folder: str, exact: Exact) -> int:
    """Each file by the published pipeline; one that fails stops no other."""
    targets = plan_targets(sources, folder, partial(_named, suffix=exact.suffix))
    failures: list[int] = []
    with bars(exact.quiet) as progress:
        for source, target in zip(sources, targets, strict=True):
            task = progress.add_task(printable(source.name), total=1.0, left=Left(0.0))
            began = time.monotonic()

            def tell(fraction: float, task: Any = task) -> None:
                progress.update(task, completed=fraction)

            try:
                if isinstance(target, FileError):
                    raise target
                num_samples = _extend_one(source, target, exact, tell)
            except AudioSRError as error:
                if interrupted.is_set():
                    raise KeyboardInterrupt from error
                failures.append(error.exit_code)
                tell_failure(source, error, exact.json)
            else:
                _tell(source, target, num_samples, time.monotonic() - began, exact)
            progress.remove_task(task)
    if len(sources) > 1 and failures:
        say(f"{len(failures)} of {len(sources)} files failed")
    return exit_code(failures, len(sources))


def _extend_one(source: Path, target: Path, exact: Exact, tell: Any) -> int:
    """The number of samples written."""
    from audiosr_core.files import probe
    from plugin_host import compat

    model = compat.build_model(device=exact.device, model_name=exact.model_name, exact=True)
    knobs = exact.settings
    assert isinstance(knobs.steps, int)
    of = (knobs.seed, knobs.steps, knobs.guidance_scale)
    if exact.chunks is None:
        wave = compat.super_resolution(model, source, *of, on_progress=tell)
    else:
        wave = compat.super_resolution_long_audio(
            model, source, *of, *exact.chunks, on_progress=tell
        )
    compat.save_wave(wave, source, target.parent, target.name, compat.SAMPLE_RATE, exact=True)
    return probe(target).num_samples


def _tell(source: Path, target: Path, num_samples: int, seconds: float, exact: Exact) -> None:
    if not exact.quiet:
        say(f"{source} -> {target}: {exact.settings.model} as published, {seconds:.1f} s")
    if exact.json:
        emit({
            "input": str(source),
            "output": str(target),
            "num_samples": num_samples,
            "exact": True,
            "seconds": round(seconds, 3),
            "settings": exact.settings.as_dict(),
        })  # fmt: skip
