"""Files one after the other, with bars on the terminal: one that fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audiosr_core.errors import AudioSRError, FileError
from plugin_host.child import Tell
from plugin_host.cli.bars import Left, bars
from plugin_host.cli.outcome import exit_code, tell_failure
from plugin_host.cli.terminal import interrupted, printable, say
from plugin_host.errors import in_our_words

Report = dict[str, Any]
"""As JSON has it; that of a file that failed has an "error"."""


def for_each(
    sources: Sequence[Path],
    targets: Sequence[Path | FileError],
    work: Callable[[Path, Path, Tell], Report],
    told: Callable[[Report], None],
    *,
    json: bool,
    quiet: bool,
    since: float = 0.0,
) -> tuple[list[Report], int]:
    """The report of every file, and the exit code of all.

    Args:
        targets: of each source, or what keeps it from having one
        work: source, target, progress → report
        told: of every report, when it is there
        since: the fraction of a file from which on the speed is that of its rest
    """
    failures: list[int] = []
    reports: list[Report] = []
    with bars(quiet) as progress:
        batch = progress.add_task(
            "all", total=len(sources), visible=len(sources) > 1, left=Left(0.0)
        )
        for done, (source, target) in enumerate(zip(sources, targets, strict=True)):
            task = progress.add_task(printable(source.name), total=1.0, left=Left(since))

            def tell(fraction: float, task: Any = task, done: int = done) -> None:
                progress.update(task, completed=fraction)
                progress.update(batch, completed=done + fraction)

            try:
                if isinstance(target, FileError):
                    raise target
                with in_our_words(source):
                    report = work(source, target, tell)
            except AudioSRError as error:
                if interrupted.is_set():
                    raise KeyboardInterrupt from error
                failures.append(error.exit_code)
                reports.append(
                    {"input": str(source), "error": str(error), "exit_code": error.exit_code}
                )
                tell_failure(source, error, json)
            else:
                reports.append(report)
                told(report)
            progress.remove_task(task)
            progress.update(batch, completed=done + 1)
    if len(sources) > 1 and failures:
        say(f"{len(failures)} of {len(sources)} files failed")
    return reports, exit_code(failures, len(sources))
