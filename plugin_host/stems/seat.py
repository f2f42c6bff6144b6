"""Where one song at a time is extended, in a process of its own, and what is said there.

    Order ──▶ seat ──▶ Outcome       whatever goes wrong is an outcome
                └────▶ fractions     how far it is

A crew is seats, here or on other machines: `local`, `ray_crew`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from audiosr_core.errors import EXIT_DEVICE, EXIT_FAILED, EXIT_OK, AudioSRError
from audiosr_core.settings import Settings
from plugin_host.place import Place, Where
from plugin_host.stems.album import Song

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike

Work = Callable[[Song, Settings, bool, Callable[[float], None]], Mapping[str, Any]]
"""Song, settings, whether outputs may be replaced, progress → the song's report."""

Opener = Callable[[Where], AbstractContextManager[Work]]
"""Called once in the process of a seat; importable there."""


@dataclass(frozen=True)
class Order:
    """A song to be extended."""

    index: int
    key: str
    song: Song
    settings: Settings
    overwrite: bool
    size: int  # bytes of its sources


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    report: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    exit_code: int = EXIT_OK


@dataclass(frozen=True)
class Lost:
    """The process of the seat died under it."""

    how: str


class Crew(Protocol):
    """Seats. Left by an error, a `with` ends their processes at once."""

    @property
    def num_free(self) -> int:
        """Seats that have nothing to do."""

    def give(self, order: Order) -> None:
        """To a free seat."""

    def hear(self, seconds: float) -> list[tuple[Order, float | Outcome | Lost]]:
        """What there is to say, after this long at most: fractions done, and how songs ended."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


@contextlib.contextmanager
def extending(where: Where) -> Iterator[Work]:
    """What a seat does: the engine is opened with the first song, and kept."""
    with contextlib.ExitStack() as stack:
        places: list[Place] = []

        def work(
            song: Song, settings: Settings, overwrite: bool, on_progress: Callable[[float], None]
        ) -> Mapping[str, Any]:
            if not places:
                places.append(stack.enter_context(Place(where, "audiosr-bridge stems")))
            return places[0].attempt(
                lambda engine: _extend(song, settings, overwrite, on_progress, engine)
            )

        yield work


def _extend(
    song: Song,
    settings: Settings,
    overwrite: bool,
    on_progress: Callable[[float], None],
    engine: EngineLike,
) -> Mapping[str, Any]:
    from plugin_host.stems.song import extend_song

    return extend_song(
        song, settings, engine=engine, overwrite=overwrite, on_progress=on_progress
    ).as_dict()


def carry_out(work: Work, order: Order, on_progress: Callable[[float], None]) -> Outcome:
    """The order, with every error as an outcome."""
    try:
        for folder in {target.parent for target in order.song.targets}:
            folder.mkdir(parents=True, exist_ok=True)
        return Outcome(work(order.song, order.settings, order.overwrite, on_progress))
    except AudioSRError as error:
        return Outcome(error=str(error), exit_code=error.exit_code)
    except MemoryError:
        text = "there is not enough memory; close other programs, or take fewer --jobs"
        return Outcome(error=text, exit_code=EXIT_DEVICE)
    except OSError as error:
        text = f"{error.filename or order.song.name}: {error.strerror or error}"
        return Outcome(error=text, exit_code=EXIT_FAILED)
    except Exception as error:
        text = f"this is a bug: {type(error).__name__}: {error}; please report it"
        return Outcome(error=text, exit_code=EXIT_FAILED)


def share_threads(num_seats: int) -> None:
    """Take this process's share of the cores; before torch is imported, which then keeps to it."""
    share = max(1, (os.cpu_count() or 1) // num_seats)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
