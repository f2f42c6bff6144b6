"""What OSC may do with the daemon: turn knobs of open instances, press buttons, look, cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from audiosr_core.settings import Settings
from bridge.instances import MONITORS, Instances
from bridge.jobs import State
from bridge.server.shared import Shared


class Jobs(Protocol):
    """What it asks of the work thread."""

    def views(self) -> list[dict[str, Any]]: ...
    def cancel(self, job: str) -> State: ...


class Surface:
    """The service behind `OscServer`; what changes is told to the instance's owner as an event."""

    def __init__(self, shared: Shared, jobs: Jobs, status: Callable[[], dict[str, Any]]) -> None:
        self._shared, self._jobs, self._status = shared, jobs, status

    @property
    def instances(self) -> Instances:
        return self._shared.instances

    def info(self) -> Mapping[str, Any]:
        """Device, model, jobs that wait, memory."""
        status = self._status()
        worker = status["worker"]
        waiting = sum(n for name, n in status["jobs"].items() if name in ("queued", "running"))
        return {
            "version": status["version"],
            "device": worker.get("device", "none"),
            "model": worker.get("model", "none"),
            "models": sorted({Settings().model, *([worker["model"]] if "model" in worker else [])}),
            "jobs": waiting,
            "memory_bytes": status["memory_bytes"],
        }

    def set_setting(self, name: str, knob: str, value: Any) -> None:
        one = self.instances.change(name, {knob: value})
        meta = {"name": name, "settings": one.settings.as_dict()}
        self._shared.publish(f"instance.{name}", "instance_changed", meta)

    def action(self, name: str, action: str, value: float) -> None:
        """Tell the owner; a monitor mode is kept, and a cancel of its job is done at once."""
        one = self.instances.get(name)
        if action in MONITORS:
            self.instances.monitor(name, action, value != 0)
        elif action == "cancel" and one is not None and one.job is not None:
            self._jobs.cancel(str(one.job["job"]))
        meta = {"name": name, "action": action, "value": value}
        self._shared.publish(f"instance.{name}", "instance_action", meta)

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        return self._jobs.views()

    def cancel(self, job: str) -> None:
        self._jobs.cancel(job)
