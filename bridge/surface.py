"""An instance from its owner's side: knobs that an OSC surface may turn, buttons it may press.

    with connect(start=True) as client, Instance(client, "vox", Settings()) as vox:
        for action, value in vox.actions():
            if action == "render":
                extended = client.submit(audio, vox.settings, instance="vox").result()

The daemon keeps the knobs and shows the progress of jobs that carry the instance's name; what the
buttons mean is up to the owner, but for `cancel`, which ends such a job at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from audiosr_core.settings import Settings, settings_from
from bridge.session import Session

if TYPE_CHECKING:
    from bridge.client import Client

CHANGED = "changed"
"""The action that says that a knob was turned; its value is 0."""


class Instance:
    """A named set of knobs, open until closed or until its client goes away.

    Raises:
        SettingsError: the name cannot be
        BusyError: another client has it
    """

    def __init__(self, client: Client, name: str, settings: Settings | None = None) -> None:
        self.name = name
        self._session: Session = client.session  # a daemon that comes back knows no instance
        self._client = client
        self._settings = settings or Settings()
        self._heard = client.events((f"instance.{name}",))
        self._ask("open_instance", self._settings.as_dict())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def settings(self) -> Settings:
        """As last heard of."""
        return self._settings

    def turn(self, **knobs: Any) -> Settings:
        """Turn knobs from here; surfaces see it. SettingsError for a value out of range."""
        self._settings.replace(**knobs)
        return self._ask("set_instance", knobs)

    def actions(self) -> Iterator[tuple[str, float]]:
        """Whatever surfaces do, as it comes: `CHANGED`, buttons and monitor modes with a value.

        Ends with the client; NoDaemonError when the daemon goes away.
        """
        for message in self._heard:
            if message["name"] != self.name:
                continue
            if message.type == "instance_changed":
                self._settings = settings_from(message["settings"])
                yield CHANGED, 0.0
            elif message.type == "instance_action":
                yield message["action"], float(message["value"])

    def close(self) -> None:
        """Harmless when closed."""
        self._heard.close()
        if self._session.alive:
            self._session.ask("close_instance", {"name": self.name}, self._client.timeout_seconds)

    def _ask(self, type: str, settings: dict[str, Any]) -> Settings:
        meta = {"name": self.name, "settings": settings}
        answer = self._session.ask(type, meta, self._client.timeout_seconds)
        self._settings = settings_from(answer["settings"])
        return self._settings
