"""What the threads of a daemon share, and how they wake each other."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from bridge.instances import Instances
from bridge.protocol import LIMITS, Limits
from bridge.server.sessions import Sessions, new_key

log = logging.getLogger("bridge.daemon")


@dataclass(frozen=True)
class Options:
    """How a daemon runs."""

    runtime: Path
    cache: Path
    state: Path
    device: str = "auto"
    precision: str = "auto"
    allow_cpu: bool = False
    keep_alive_seconds: float = 300.0  # −1: the model stays
    idle_exit_seconds: float = 1800.0  # −1: the daemon stays
    hold_seconds: float = 60.0
    cache_bytes: int = 4 << 30
    listen: tuple[str, ...] = ()  # tcp endpoints, with keys
    osc_port: int | None = None
    osc_host: str = "127.0.0.1"
    osc_token: str | None = None
    engine: str | None = None  # module:factory, for tests
    upstream: Path | None = None  # connection file of the daemon that computes in our place
    memory_bytes: int = 768 << 20  # of the daemon process; beyond it peers are dropped
    limits: Limits = LIMITS


class Wake:
    """Wakes a thread that polls `receiver`; any thread may call."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], name: str) -> None:
        self._address = f"inproc://wake-{name}"
        self._context = context
        self.receiver = context.socket(zmq.PULL)
        self.receiver.bind(self._address)
        self._local = threading.local()
        self._senders: list[zmq.Socket[bytes]] = []
        self._lock = threading.Lock()

    def __call__(self) -> None:
        sender = getattr(self._local, "sender", None)
        if sender is None:
            sender = self._context.socket(zmq.PUSH)
            sender.setsockopt(zmq.LINGER, 0)
            sender.connect(self._address)
            self._local.sender = sender
            with self._lock:
                self._senders.append(sender)
        try:
            sender.send(b"", zmq.NOBLOCK)
        except zmq.ZMQError:  # it is awake anyhow, or gone
            return

    def clear(self) -> None:
        while True:
            try:
                self.receiver.recv(zmq.NOBLOCK)
            except zmq.ZMQError:
                return

    def close(self) -> None:
        self.receiver.close(linger=0)
        with self._lock:
            for one in self._senders:
                one.close(linger=0)


@dataclass(eq=False)
class Shared:
    """Everything that more than one thread touches; each part is safe by itself."""

    options: Options
    context: zmq.Context[zmq.Socket[bytes]]
    key: bytes = field(default_factory=new_key)  # of the connection file
    events_key: bytes = field(default_factory=new_key)
    stopping: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)
    events: deque[tuple[str, str, dict[str, Any], bool]] = field(default_factory=deque)
    refused: Counter[str] = field(default_factory=Counter)  # what came and was no message of ours

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.options.limits)
        self.instances = Instances()
        self.wake_control = Wake(self.context, "control")
        self.wake_work = Wake(self.context, "work")
        self.rebinds = 0  # counted up by control when memory is full; work follows
        self.remote_rebinds = 0  # when a remote client was revoked
        self._refusals_told = 0.0

    @property
    def uptime(self) -> float:
        return time.monotonic() - self.began

    def publish(self, topic: str, type: str, meta: dict[str, Any], only_local: bool = True) -> None:
        """An event to all who listen; what is of this machine stays on it."""
        self.events.append((topic, type, meta, only_local))
        self.wake_control()

    def refuse(self, why: str) -> None:
        """Count what deserves no answer; told once a second at most, for it may be a flood."""
        self.refused[why[:80]] += 1
        if len(self.refused) > 100:  # texts may hold what the peer sent
            self.refused = Counter({"other": sum(self.refused.values())})
        now = time.monotonic()
        if now - self._refusals_told > 1:
            self._refusals_told = now
            log.warning("refused", extra={"why": why, "so_far": sum(self.refused.values())})
