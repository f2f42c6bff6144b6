"""A surface, a daemon and the owner of an instance: what one does the others hear."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from audiosr_core.errors import SettingsError
from audiosr_core.settings import Settings
from bridge.protocol import Message
from bridge.surface import CHANGED, Instance
from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.osc import Surface
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def running() -> Iterator[RunningDaemon]:
    with daemon("--osc", "0", engine=f"{ENGINES}:slow", BRIDGE_TEST_STEP_SECONDS=0.02) as one:
        yield one


def opened(running: RunningDaemon, wire: Wire) -> Surface:
    """An instance, and a surface that hears of it."""
    assert wire.ask("open_instance", name="vox", settings={"seed": 7})["open"]
    port = running.connection().osc_port
    assert port
    surface = Surface(port)
    assert surface.ask("/audiosr/instance/list") == ["vox"]
    surface.send("/audiosr/subscribe")
    assert surface.wait("/audiosr/vox/seed") == [7]
    return surface


def test_a_knob_that_is_turned_is_heard_by_the_owner_and_the_surface(running):
    heard: queue.Queue[Message] = queue.Queue()
    with (
        Wire(running.connection()) as wire,
        opened(running, wire) as surface,
        running.client() as client,
    ):
        listening = threading.Event()

        def listen() -> None:
            for event in client.events(["heartbeat", "instance.vox"]):
                listening.set()
                if event.type.startswith("instance"):
                    heard.put(event)
                    if event.get("action") == "render":
                        return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        assert listening.wait(10)
        surface.send("/audiosr/vox/mix", 0.25)
        surface.until("/audiosr/vox/mix", 0.25)
        changed = heard.get(timeout=10)
        assert (changed["name"], changed["settings"]["mix"]) == ("vox", 0.25)
        surface.send("/audiosr/vox/render", 1.0)
        surface.send("/audiosr/vox/render", 0.0)
        pressed = heard.get(timeout=10)
        assert (pressed.type, pressed["action"], pressed["value"]) == (
            "instance_action", "render", 1.0,
        )  # fmt: skip
        thread.join(10)

        wire.ask("set_instance", name="vox", settings={"mix": 0.75})
        surface.until("/audiosr/vox/mix", 0.75)
        surface.send("/audiosr/vox/preset", "subtle-air")
        surface.send("/audiosr/vox/model", "audiosr-basic")
        assert surface.wait("/audiosr/error")[0] == "E_MODEL"
        wire.send("control", "goodbye")
        surface.until("/audiosr/vox/state", "closed", 0.0, -1.0, "")


def test_progress_is_shown_and_a_button_cancels(running):
    sound: Any = np.full((2, 480_000), 0.1, np.float32)
    with Wire(running.connection()) as wire, opened(running, wire) as surface:
        wire.submit("a-job", num_samples=sound.shape[1], instance="vox")
        wire.upload("a-job", sound)
        while True:
            state, fraction, _, _ = surface.wait("/audiosr/vox/state", 30)
            if state == "running" and fraction > 0:
                break
        listed = surface.wait("/audiosr/job/a-job/progress")
        assert listed[0] in ("receiving", "queued", "analysing", "running")
        surface.send("/audiosr/vox/cancel", 1.0)
        surface.send("/audiosr/vox/cancel", 0.0)
        assert wire.until("error")["code"] == "E_CANCELLED"
        while surface.wait("/audiosr/job/a-job/progress")[0] != "cancelled":
            pass


def test_a_flood_of_osc_leaves_the_daemon_alone(running):
    with Wire(running.connection()) as wire, opened(running, wire) as surface:
        before = wire.ask("status")["status"]["memory_bytes"]
        for n in range(20_000):
            surface.send("/audiosr/vox/mix", (n % 100) / 100)
            if n % 5000 == 0:
                wire.ask("ping")
        assert wire.ask("status")["status"]["memory_bytes"] - before < 32 << 20
        assert wire.ask("ping").type == "pong"


def test_the_owner_hears_what_a_surface_does_and_a_surface_what_the_owner_does(running):
    with running.client() as client, Instance(client, "vox", Settings(seed=7)) as vox:
        port = running.connection().osc_port
        assert port
        surface = Surface(port)
        surface.send("/audiosr/subscribe")
        assert surface.wait("/audiosr/vox/seed") == [7]
        heard: queue.Queue[tuple[str, float]] = queue.Queue()
        thread = threading.Thread(target=lambda: [heard.put(one) for one in vox.actions()])
        thread.start()
        surface.send("/audiosr/vox/mix", 0.25)
        assert heard.get(timeout=10) == (CHANGED, 0.0)
        assert vox.settings == Settings(seed=7, mix=0.25)
        surface.send("/audiosr/vox/delta", 1.0)
        assert heard.get(timeout=10) == ("delta", 1.0)
        surface.send("/audiosr/vox/render", 1.0)
        assert heard.get(timeout=10) == ("render", 1.0)
        vox.turn(mix=0.75)
        surface.until("/audiosr/vox/mix", 0.75)
        with pytest.raises(SettingsError):
            vox.turn(mix=2.0)
        client.close()
        thread.join(10)
        assert not thread.is_alive()
