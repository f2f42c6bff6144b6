"""Standard output is for machines, standard error for people.

Either may be closed, broken, or no terminal at all; file names may hold anything.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from typing import Any

from rich.console import Console
from rich.text import Text

from audiosr_core.errors import FileError

interrupted = threading.Event()
"""Set by an interruption: one that fell into a library's callback comes back as its error."""


class _Stderr(Console):
    """A console whose reader may go away: the work goes on."""

    def on_broken_pipe(self) -> None:
        _to_nowhere(2)


def console() -> Console:
    """Standard error for people; no colour without a terminal or with NO_COLOR."""
    return _Stderr(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: str, style: str = "") -> None:
    """One line to people."""
    console().print(Text(printable(text), style=style))


def note(text: str) -> None:
    """Something people may want to know."""
    say(f"note: {text}")


def emit(value: dict[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    write(json.dumps(finite(value), default=str))


def write(text: str) -> None:
    """A line on standard output; a reader that has gone away is no error."""
    if sys.stdout is None:  # closed by the caller
        return
    try:
        print(printable(text), flush=True)
    except BrokenPipeError:
        _to_nowhere(1)
    except OSError as error:
        _to_nowhere(1)
        raise FileError(f"cannot write to standard output: {error.strerror}") from error


def printable(text: str) -> str:
    """Text that any terminal takes: undecodable bytes and control characters are escaped."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
                   for c in text)  # fmt: skip


def counted(count: int, what: str) -> str:
    """1 song, 2 songs."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def _to_nowhere(descriptor: int) -> None:
    """Point a descriptor at the null device, so that nothing later fails on it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
