"""Seats on this machine: a process each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Self, cast

from plugin_host.child import Child, Died, Outcome, Work
from plugin_host.place import Where
from plugin_host.stems.seat import Lost, Opener, Order, carry_out, extending, share_threads


class LocalCrew:
    """Processes of this machine; see `Crew`."""

    def __init__(self, jobs: int, where: Where, opener: Opener = extending) -> None:
        self._jobs = jobs
        self._arguments = (opener, where, jobs)
        self._idle: list[Child] = []
        self._busy: dict[Connection, tuple[Child, Order]] = {}

    @property
    def num_free(self) -> int:
        return self._jobs - len(self._busy)

    def give(self, order: Order) -> None:
        seat = self._idle.pop() if self._idle else Child(_seated, *self._arguments)
        self._busy[seat.pipe] = seat, order
        seat.give(order)

    def hear(self, seconds: float) -> list[tuple[Order, float | Outcome | Lost]]:
        return [self._hear(cast(Connection, pipe)) for pipe in wait([*self._busy], seconds)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        seats = [*self._idle, *(seat for seat, _ in self._busy.values())]
        for seat in seats:
            seat.leave(at_once=kind is not None)
        for seat in seats:
            seat.join()

    def _hear(self, pipe: Connection) -> tuple[Order, float | Outcome | Lost]:
        seat, order = self._busy[pipe]
        try:
            news = seat.hear()
        except Died as died:
            del self._busy[pipe]
            return order, Lost(_how(str(died)))
        if isinstance(news, Outcome):
            del self._busy[pipe]
            self._idle.append(seat)
        return order, news


@contextlib.contextmanager
def _seated(opener: Opener, where: Where, jobs: int) -> Iterator[Work]:
    """In the process of a seat."""
    share_threads(jobs)
    with opener(where) as work:
        yield partial(carry_out, work)


def _how(ending: str) -> str:
    why = ", as the system does when memory runs out" if ending == "SIGKILL" else ""
    return f"its process was ended by {ending}{why}"
