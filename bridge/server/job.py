"""One job as the daemon knows it. Only the work thread changes it; `view` is for the others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import JobError
from bridge.jobs import ENDED, Eta, State, follows
from bridge.protocol import DTYPES, Frame

AHEAD = 2  # commands of one job that the worker may have, so that it never waits for us


@dataclass(frozen=True, eq=False)
class Output:
    """Something that waits for the client's credit: a part of the result, or its end."""

    type: str
    meta: Mapping[str, Any]
    audio: tuple[Frame, ...] = ()

    @property
    def num_bytes(self) -> int:
        return sum(len(one) for one in self.audio)


@dataclass(frozen=True)
class Plan:
    """What the daemon must know of the chunks of a sound; from the worker's `decided`."""

    rate_out: int
    stride_in: int
    stride_out: int
    first_end_in: int
    past_in: int
    num_chunks: int | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Plan:
        return cls(
            int(values["rate_out"]),
            int(values["stride_in"]),
            int(values["stride_out"]),
            int(values["first_end_in"]),
            int(values["past_in"]),
            None if values.get("num_chunks") is None else int(values["num_chunks"]),
        )

    def needs(self, chunk: int) -> int:
        """Input samples that must be there before this chunk can be computed."""
        return self.first_end_in + chunk * self.stride_in

    def needs_from(self, position: int) -> int:
        """Input sample from which on this output sample and all later ones depend on the input."""
        return max(0, position // self.stride_out * self.stride_in - self.past_in)


@dataclass(eq=False)
class Job:
    """One sound from first sample to last, with one `Settings`."""

    id: str
    spec: dict[str, Any]  # the meta of `submit`
    state: State = State.RECEIVING
    session: str | None = None  # of the client that is attached
    owner: str = ""  # its key's name: nobody else may attach or cancel
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)

    received: int = 0  # input samples
    complete: bool = False
    upload_credit: int = 0  # bytes the client may still send
    owed: int = 0  # bytes that came, and were not granted anew yet

    opened: str = ""  # the name under which the worker has it open
    asked: int = 0  # commands that the worker has not answered
    cancelling: float | None = None  # since, monotonic seconds
    deaths: int = 0  # of workers, one after the other, at the same chunk of it
    died_at: int = -1  # that chunk
    parked: bool = False  # the worker said it needs more input
    parked_at: int = 0  # how much there was then
    asked_at: int = 0  # of a live job: how much of its input the worker was told of

    decision: dict[str, Any] | None = None
    plan_values: dict[str, Any] | None = None
    plan: Plan | None = None
    model_sha256: str = ""
    chunks_done: int = 0
    chunks_cached: int = 0
    position: int = 0  # the next output sample that will be put into `outputs`

    credit: int = 0  # bytes of results the client takes
    outputs: deque[Output] = field(default_factory=deque)
    ended_at_worker: bool = False
    report: dict[str, Any] | None = None
    error: tuple[str, str] | None = None

    fraction: float = 0.0
    eta: Eta = field(default_factory=Eta)
    eta_seconds: float | None = None
    told: float = 0.0  # when progress was last told, monotonic seconds
    held_until: float | None = None

    @property
    def is_stream(self) -> bool:
        return bool(self.spec["source"] == "stream")

    @property
    def is_live(self) -> bool:
        return bool(self.spec.get("live"))

    @property
    def origin(self) -> int:
        """Its first sample."""
        return self.spec.get("origin") or 0

    def input_from(self, position: int) -> int:
        """Where a stream's input must begin to give its result from this output sample on."""
        if self.plan is None or not self.is_stream:
            return self.origin
        return max(self.origin, self.plan.needs_from(position))

    @property
    def undelivered(self) -> int:
        """The first output sample that its client has not been sent."""
        for output in self.outputs:
            if output.type == "partial":
                return int(output.meta["start"])
        return self.position

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def priority(self) -> str:
        return str(self.spec["priority"])

    @property
    def policy(self) -> str:
        return str(self.spec["on_disconnect"])

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel of the input."""
        return int(self.spec["num_channels"]) * DTYPES[self.spec["dtype"]].itemsize

    def move(self, state: State) -> None:
        """Into another state; JobError if that does not follow."""
        if state is self.state:
            return
        if not follows(self.state, state):
            raise JobError(f"a job that is {self.state} cannot become {state}")
        self.state = state
        self.updated = time.time()

    def wants_worker(self) -> bool:
        """Whether a command for it would be of use now."""
        if self.cancelling is not None or self.ended or self.ended_at_worker:
            return False
        if self.state is State.QUEUED:
            return self.asked == 0
        if self.state is not State.RUNNING or self.asked >= AHEAD:
            return False
        if self.session is not None and self.outputs:
            return False  # its client does not keep up, and memory is not for that
        return self._has_input()

    def _has_input(self) -> bool:
        if self.complete or not self.is_stream:
            return True
        if self.is_live:
            return self.received > self.asked_at
        if self.parked and self.received <= self.parked_at:
            return False
        return self.plan is None or self.received >= self.plan.needs(self.chunks_done + self.asked)

    def view(self) -> dict[str, Any]:
        """What others may see of it."""
        return {
            "job": self.id,
            "state": str(self.state),
            "fraction": round(self.fraction, 4),
            "eta_seconds": self.eta_seconds,
            "priority": self.priority,
            "policy": self.policy,
            "attached": self.session is not None,
            "model": str(self.spec["settings"].get("model", ""))[:64] or None,
            "seconds": self._seconds(),
            "chunks": self.chunks_done,
            "cached": self.chunks_cached,
            "created": self.created,
            "instance": self.spec.get("instance"),
            "error": [self.error[0], self.error[1][:300]] if self.error else None,
        }

    def _seconds(self) -> float | None:
        count = self.spec.get("num_samples") or self.received - self.origin or None
        return None if count is None else round(count / self.spec["sample_rate"], 3)
