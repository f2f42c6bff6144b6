"""Seats on a Ray cluster: an actor for each, on whatever machine has a GPU or a free core.

Every machine sees the same folders under the same names, and has this program installed. An actor
that dies, with its process or its machine, is replaced by a new one elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
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
LOOPBACK = ("127.0.0.1", "localhost")
PROGRESS_SECONDS = 1.0  # for an answer to how far it is
REACH_SECONDS = 5.0
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
        self._ray = check_installed(address)
        self._jobs, self._where, self._opener = jobs, where, opener
        self._address = address
        self._busy: dict[Any, tuple[Order, Any]] = {}  # reference → order, actor
        self._idle: list[Any] = []
        self._resources: dict[str, float] = {}
        self._size = jobs
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
        if self._address is None:
            cores = max(self._jobs, os.cpu_count() or 1)
            options: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False}
        else:
            _check_reachable(self._address)
            options = {"address": self._address}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                **options, configure_logging=False, logging_level=logging.ERROR, log_to_driver=False
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise _no_cluster(self._address, str(error).partition("\n")[0]) from error
        finally:  # Ray takes the signal, and it is ours
            signal.signal(signal.SIGTERM, handler)
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


def check_installed(address: str | None = None) -> ModuleType:
    """Ray, which sends nothing home and, for a cluster of this machine, stays on it.

    Raises:
        UsageError: it is not installed
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    if address is None or address.partition(":")[0] in LOOPBACK:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's word for loopback only
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--engine ray needs Ray, which is not installed; run pip install 'audiosr-bridge[ray]'"
        ) from None
    return ray


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACH_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, why: str) -> UsageError:
    where = "on this machine" if address in (None, "auto") else f"at {address}"
    return UsageError(
        f"there is no Ray cluster {where} to work with: {why}; start one with `ray start --head`"
        " and give its HOST:PORT, or leave --address out"
    )
