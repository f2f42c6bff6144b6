"""What is said of files that failed, and the exit code of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audiosr_core.errors import EXIT_FAILED, EXIT_OK, AudioSRError
from plugin_host.cli.terminal import emit, say


def exit_code(failures: Sequence[int], num_files: int) -> int:
    """Of a batch. All failed alike: that code (a model is missing for every file); else 1."""
    if not failures:
        return EXIT_OK
    alike = len(failures) == num_files and len(set(failures)) == 1
    return failures[0] if alike else EXIT_FAILED


def tell_failure(source: Path, error: AudioSRError, json: bool) -> None:
    text = str(error)
    named = str(source) in text
    say(f"error: {text}" if named else f"error: {source}: {text}", "red")
    if json:
        emit({"input": str(source), "error": text, "exit_code": error.exit_code})
