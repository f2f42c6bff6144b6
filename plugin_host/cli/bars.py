"""Progress on the terminal, with what is left of the time."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from bridge.jobs import Eta
from plugin_host.cli.terminal import console


def bars(quiet: bool) -> Progress:
    """Progress of several tasks, each with `left=Left(...)`; nothing without a terminal."""
    terminal = console()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        _LeftColumn(),
        console=terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=quiet or not terminal.is_terminal,
    )


class Left:
    """How long one row will still take; counted down where nothing new is known.

    Args:
        since: the fraction from which on the speed is that of the rest
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self._eta = Eta()
        self._told = -1.0  # the fraction that was known last, and when
        self._told_at = 0.0

    def seconds(self, fraction: float, now: float) -> float | None:
        """Args: fraction: done; now: monotonic seconds."""
        if fraction < self._since:
            return None
        if fraction != self._told:
            self._told, self._told_at = fraction, now
        then = self._eta.seconds(fraction, self._told_at)
        return None if then is None else max(0.0, then - (now - self._told_at))


class _LeftColumn(ProgressColumn):
    """What is left of the time, as 0:01:23."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        total = task.total or 1.0
        left = task.fields["left"].seconds(task.completed / total, time.monotonic())
        text = "-:--:--" if left is None else str(timedelta(seconds=round(left)))
        return Text(text, style="progress.remaining")
