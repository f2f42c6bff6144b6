"""A process of our own, for work that may crash, hang or take all the memory.

    this process                   its child
    give(order)  ──── pipe ────▶   work(order, tell)
    hear()       ◀─── pipe ─────   fractions, then an Outcome; or it `Died`

No lock is shared, so a child that is killed at any moment hurts no other; and when the parent is
killed, it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from audiosr_core.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, AudioSRError
from plugin_host.errors import in_our_words

LEAVE_SECONDS = 5.0
TELL_SECONDS = 0.1  # between two fractions

Tell = Callable[[float], None]
"""Told the fraction done."""

Work = Callable[[Any, Tell], Mapping[str, Any]]
"""Order, progress → report."""

OpenWork = Callable[..., AbstractContextManager[Work]]
"""Called once in the child; importable there, as orders and arguments are picklable."""


@dataclass(frozen=True)
class Outcome:
    """What became of an order: a report, or an error."""

    report: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    exit_code: int = EXIT_OK


class Died(Exception):
    """The child ended under its work; says by what: SIGKILL, exit code 3."""


class Child:
    """The near end of a process, which takes one order at a time.

    Args:
        open_work: called in it, with the arguments
    """

    def __init__(self, open_work: OpenWork, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far, open_work, arguments), daemon=True
        )
        self._process.start()
        far.close()

    def give(self, order: Any) -> None:
        with contextlib.suppress(OSError):  # it died idle; `hear` finds out
            self.pipe.send(order)

    def hear(self) -> float | Outcome:
        """The next that it says, waited for; Died if it never will."""
        try:
            news: float | Outcome = self.pipe.recv()
        except (EOFError, OSError):
            self.leave(at_once=True)
            self.join()
            raise Died(ending(self._process.exitcode)) from None
        return news

    def leave(self, *, at_once: bool) -> None:
        """It ends when it has nothing to do, or at once."""
        self.pipe.close()
        if at_once and self._process.is_alive():
            self._process.terminate()

    def join(self) -> None:
        """Wait until it has ended, and see to it."""
        self._process.join(LEAVE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(LEAVE_SECONDS)


def outcome_of(work: Callable[[], Mapping[str, Any]]) -> Outcome:
    """What became of it, whatever went wrong."""
    try:
        with in_our_words():
            return Outcome(work())
    except AudioSRError as error:
        return Outcome(error=str(error), exit_code=error.exit_code)
    except Exception as error:
        text = f"this is a bug: {type(error).__name__}: {error}; please report it"
        return Outcome(error=text, exit_code=EXIT_FAILED)


def ending(exit_code: int | None) -> str:
    """How a process ended: by which signal, or with which code."""
    with contextlib.suppress(ValueError):
        return signal.Signals(-(exit_code or 0)).name
    return f"exit code {exit_code}"


def _serve(pipe: Connection, open_work: OpenWork, arguments: tuple[Any, ...]) -> None:
    """The life of the child: orders in, fractions and outcomes out, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends this
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that every `with` is left
    sys.unraisablehook = _unraisable
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = 0.0

    def send(news: float | Outcome) -> None:
        try:
            pipe.send(news)
        except OSError:  # nobody is there any more
            os._exit(1)

    def tell(fraction: float) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            send(float(fraction))

    try:
        with open_work(*arguments) as work:
            while True:
                try:
                    order = pipe.recv()
                except (EOFError, OSError):
                    return
                send(outcome_of(lambda order=order: work(order, tell)))  # type: ignore[misc]
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)


def _unraisable(problem: sys.UnraisableHookArgs) -> None:
    """An end that fell into a library's callback is no news."""
    if not isinstance(problem.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(problem)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
