"""A daemon that only remembers what OSC asked of it, and a control surface."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pythonosc.osc_message import OscMessage

from bridge.errors import JobError
from bridge.instances import MONITORS, Instances
from bridge.osc import packet_of


class FakeService:
    """A `bridge.osc.Service`."""

    def __init__(self) -> None:
        self._instances = Instances()
        self.asked: list[tuple[Any, ...]] = []
        self.known_jobs: list[dict[str, Any]] = []
        self.broken = False

    @property
    def instances(self) -> Instances:
        return self._instances

    def info(self) -> Mapping[str, Any]:
        if self.broken:
            raise ZeroDivisionError("a bug")
        return {
            "device": "cpu", "model": "lite", "models": ["lite", "audiosr-basic"],
            "jobs": len(self.known_jobs), "memory_bytes": 123e6,
        }  # fmt: skip

    def set_setting(self, name: str, knob: str, value: Any) -> None:
        self.asked.append(("set", name, knob, value))
        self._instances.change(name, {knob: value})

    def action(self, name: str, action: str, value: float) -> None:
        self.asked.append((action, name, value))
        if action in MONITORS:
            self._instances.monitor(name, action, bool(value))

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        return list(self.known_jobs)

    def cancel(self, job: str) -> None:
        if job not in [one["job"] for one in self.known_jobs]:
            raise JobError(f"there is no job {job}; see 'audiosr-bridge jobs'")
        self.asked.append(("cancel job", job))


class Surface:
    """A UDP socket with faders."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.port = self.socket.getsockname()[1]

    @property
    def peer(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def __enter__(self) -> Surface:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, address: str, *arguments: Any) -> None:
        self.raw(packet_of(address, *arguments))

    def raw(self, packet: bytes) -> None:
        self.socket.sendto(packet, self._to)

    def next(self) -> tuple[str, list[Any]]:
        message = OscMessage(self.socket.recv(65_536))
        return message.address, list(message.params)

    def wait(self, address: str, seconds: float = 5.0) -> list[Any]:
        """The arguments of the next message at this address; others are skipped."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            came, arguments = self.next()
            if came == address:
                return arguments
        raise TimeoutError(address)

    def until(self, address: str, *arguments: Any, seconds: float = 10.0) -> None:
        """Wait for these words, whatever comes before them."""
        end, came = time.monotonic() + seconds, None
        while time.monotonic() < end:
            came = self.next()
            if came == (address, list(arguments)):
                return
        raise TimeoutError(f"{address} {arguments}, last came {came}")

    def ask(self, address: str, *arguments: Any) -> list[Any]:
        self.send(address, *arguments)
        return self.wait(address)

    def waiting(self) -> list[tuple[str, list[Any]]]:
        """What has come already."""
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.next())
        except BlockingIOError:
            return found
        finally:
            self.socket.settimeout(5)
