"""Seats on this machine: a process each, with a pipe of its own.

No lock is shared, so a process that is killed at any moment hurts no other; and when the parent
is killed, all of them end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Self, cast

from plugin_host.place import Where
from plugin_host.stems.seat import (
    Lost,
    Opener,
    Order,
    Outcome,
    carry_out,
    extending,
    share_threads,
)

LEAVE_SECONDS = 5.0
TELL_SECONDS = 0.1  # between two fractions


class LocalCrew:
    """Processes of this machine; see `Crew`."""

    def __init__(self, jobs: int, where: Where, opener: Opener = extending) -> None:
        self._jobs = jobs
        self._arguments = (opener, where, jobs)
        self._seats: list[_Seat] = []

    @property
    def num_free(self) -> int:
        return self._jobs - sum(one.order is not None for one in self._seats)

    def give(self, order: Order) -> None:
        seat = next((one for one in self._seats if one.order is None), None)
        if seat is None:
            seat = _Seat(self._arguments)
            self._seats.append(seat)
        seat.take(order)

    def hear(self, seconds: float) -> list[tuple[Order, float | Outcome | Lost]]:
        busy = {one.pipe: one for one in self._seats if one.order is not None}
        heard: list[tuple[Order, float | Outcome | Lost]] = []
        for pipe in wait([*busy], seconds):
            seat = busy[cast(Connection, pipe)]
            order, news = seat.hear()
            if isinstance(news, Lost):
                self._seats.remove(seat)
            heard.append((order, news))
        return heard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for seat in self._seats:
            seat.leave(at_once=kind is not None)
        for seat in self._seats:
            seat.join()


class _Seat:
    """The near end of a process."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.order: Order | None = None
        self.pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, *arguments), daemon=True)
        self._process.start()
        far.close()

    def take(self, order: Order) -> None:
        self.order = order
        with contextlib.suppress(OSError):  # it died idle; `hear` finds out
            self.pipe.send(order)

    def hear(self) -> tuple[Order, float | Outcome | Lost]:
        order = self.order
        assert order is not None
        try:
            news: float | Outcome = self.pipe.recv()
        except (EOFError, OSError):
            self.leave(at_once=True)
            self.join()
            return order, Lost(_how(self._process.exitcode))
        if isinstance(news, Outcome):
            self.order = None
        return order, news

    def leave(self, at_once: bool) -> None:
        self.pipe.close()
        if at_once and self._process.is_alive():
            self._process.kill()

    def join(self) -> None:
        self._process.join(LEAVE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(LEAVE_SECONDS)


def _serve(pipe: Connection, opener: Opener, where: Where, jobs: int) -> None:
    """The life of a process: orders in, fractions and outcomes out, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    share_threads(jobs)
    told = 0.0

    def tell(news: float | Outcome) -> None:
        try:
            pipe.send(news)
        except OSError:  # nobody is there any more
            os._exit(1)

    def on_progress(fraction: float) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            tell(float(fraction))

    with opener(where) as work:
        while True:
            try:
                order = pipe.recv()
            except (EOFError, OSError):
                return
            tell(carry_out(work, order, on_progress))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        why = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{why}"
    return f"its process ended by itself with {exit_code}"
