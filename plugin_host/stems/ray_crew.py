"""Seats on a Ray cluster: an actor for each, on whatever machine has a GPU or a free core.

Every machine sees the same folders under the same names, and has this program installed. An actor
that dies, with its process or its machine, is replaced by a new one elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from types import ModuleType
from typing import Any, Self

from audiosr_core.errors import DeviceError, UsageError
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

END_SECONDS = 5.0
PROGRESS_SECONDS = 1.0  # for an answer to how far it is
START_SECONDS = 120.0  # for the first actor


class RayCrew:
    """Actors of a cluster; see `Crew`.

    Args:
        jobs: how many, where the cluster has no GPU; one for each GPU where it has
        address: of a cluster that runs, or "auto" for the one of this machine; None for one of
            our own, on this machine
    """

    def __init__(
        self, jobs: int, where: Where, address: str | None = None, opener: Opener = extending
    ) -> None:
        self._ray = check_installed()
        self._jobs, self._where, self._opener = jobs, where, opener
        self._address = address
        self._busy: dict[Any, tuple[Order, Any]] = {}  # reference → order, actor
        self._idle: list[Any] = []
        self._resources: dict[str, float] = {}
        self._size = jobs
        self._joined = False
        self._waiting_since = 0.0
        self._proven = False

    @property
    def num_free(self) -> int:
        return self._size - len(self._busy)

    def give(self, order: Order) -> None:
        actor = self._idle.pop() if self._idle else self._hire()
        if not self._proven and not self._busy:
            self._waiting_since = time.monotonic()
        self._busy[actor.extend.remote(order)] = (order, actor)

    def hear(self, seconds: float) -> list[tuple[Order, float | Outcome | Lost]]:
        ended, running = self._ray.wait([*self._busy], timeout=seconds)
        heard: list[tuple[Order, float | Outcome | Lost]] = []
        for reference in ended:
            order, actor = self._busy.pop(reference)
            heard.append((order, self._result(reference, actor)))
        asked = {self._busy[one][1].fraction.remote(): self._busy[one][0] for one in running}
        answers, _ = self._ray.wait([*asked], num_returns=len(asked), timeout=PROGRESS_SECONDS) \
            if asked else ([], [])  # fmt: skip
        for answer in answers:
            with contextlib.suppress(self._ray.exceptions.RayError):  # heard of by its reference
                heard.append((asked[answer], self._ray.get(answer)))
        self._proven = self._proven or bool(heard)
        if not self._proven and time.monotonic() - self._waiting_since > START_SECONDS:
            raise DeviceError(
                f"no actor of the Ray cluster started within {START_SECONDS:.0f} s;"
                " `ray status` may say why"
            )
        return heard

    def __enter__(self) -> Self:
        ray = self._ray
        cores = os.cpu_count() or 1
        own = {"num_cpus": max(self._jobs, cores), "include_dashboard": False,
               "_node_ip_address": "127.0.0.1"}  # fmt: skip
        if not ray.is_initialized():
            try:
                ray.init(
                    **({"address": self._address} if self._address else own),
                    configure_logging=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                place = self._address or "on this machine"
                raise UsageError(
                    f"there is no Ray cluster {place} to work with: {str(error).splitlines()[0]};"
                    " start one with `ray start --head`, or leave --address out"
                ) from error
            self._joined = True
        have = ray.cluster_resources()
        gpus = 0 if self._where.device == "cpu" else int(have.get("GPU", 0))
        self._size = gpus or min(self._jobs, max(1, int(have.get("CPU", 1))))
        self._resources = {"num_gpus": 1.0, "num_cpus": 0.0} if gpus else {"num_cpus": 1.0}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for actor in [*self._idle, *(actor for _, actor in self._busy.values())]:
            self._ray.kill(actor)
        if self._busy:  # a reference is there when its actor has ended
            self._ray.wait([*self._busy], num_returns=len(self._busy), timeout=END_SECONDS)
        if self._joined:
            self._ray.shutdown()

    def _hire(self) -> Any:
        options = {"max_concurrency": 2, "scheduling_strategy": "SPREAD", **self._resources}
        return self._ray.remote(_Actor).options(**options).remote(
            self._opener, self._where, self._size
        )  # fmt: skip

    def _result(self, reference: Any, actor: Any) -> Outcome | Lost:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._ray.kill(actor)
            return Lost(f"its Ray actor ended ({type(error).__name__})")
        self._idle.append(actor)
        return outcome


class _Actor:
    """A seat on some machine; progress is asked for while it works."""

    def __init__(self, opener: Opener, where: Where, size: int) -> None:
        share_threads(size)
        self._stack = contextlib.ExitStack()
        self._work = self._stack.enter_context(opener(where))
        self._fraction = 0.0

    def extend(self, order: Order) -> Outcome:
        self._fraction = 0.0
        return carry_out(self._work, order, self._tell)

    def fraction(self) -> float:
        return self._fraction

    def _tell(self, fraction: float) -> None:
        self._fraction = fraction


def check_installed() -> ModuleType:
    """Ray; UsageError if there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--engine ray needs Ray, which is not installed; run pip install 'audiosr-bridge[ray]'"
        ) from None
    return ray
