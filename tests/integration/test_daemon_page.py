"""The Python of README.md, docs/daemon.md and docs/osc.md, run as it stands by a real daemon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import bridge
from audiosr_core.audio import Audio
from audiosr_core.settings import Settings
from tests.support.daemon import ROOT, RunningDaemon, daemon
from tests.support.osc import Surface

pytestmark = pytest.mark.timeout(120)
RATE = 48_000
PAGES = {"README.md": "bridge.connect", "docs/daemon.md": "bridge.connect", "docs/osc.md": "vox"}


def snippets(page: str) -> list[str]:
    """Those that talk to a daemon."""
    text = (ROOT / page).read_text("utf-8")
    found = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [one for one in found if PAGES[page] in one]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RunningDaemon]:
    with daemon("--osc", "0") as one:
        for name, value in one.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield one


def sound(seconds: float) -> Audio:
    x = np.random.default_rng(1).standard_normal((2, round(seconds * RATE)))
    return Audio((0.1 * x).astype(np.float32), RATE)


def test_the_snippets_of_the_pages_work(running):
    audio = sound(1)
    soundfile.write("long.wav", sound(12).samples.T, RATE, "FLOAT")
    for page in ("README.md", "docs/daemon.md"):
        [code] = snippets(page)
        names: dict[str, Any] = {
            "bridge": bridge, "Audio": Audio, "Settings": Settings,
            "audio": audio, "block": audio.samples,
        }  # fmt: skip
        exec(code, names)
        assert names["extended"].sample_rate == RATE
        assert names["extended"].samples.shape == audio.samples.shape
    assert names["job"].state == "done"
    assert names["start"] + names["samples"].shape[1] == 12 * RATE
    assert names["out"].shape == audio.samples.shape


def test_a_stream_with_the_decision_of_a_whole_sound_is_that_sound(running):
    """As the page promises."""
    audio = sound(12)
    with bridge.connect() as client:
        job = client.submit(audio, Settings())
        whole = job.result(60)
        with client.open(RATE, 2, Settings(), job.decision) as stream:
            blocks = np.array_split(audio.samples, 7, axis=1)
            out = [*(stream.push(np.ascontiguousarray(one)) for one in blocks), stream.flush(60)]
    np.testing.assert_array_equal(np.concatenate(out, axis=1), whole.samples)


def test_the_owner_of_an_instance_hears_the_surface(running):
    [code] = snippets("docs/osc.md")
    port = running.connection().osc_port
    assert port
    with Surface(port) as surface:
        names = {"bridge": bridge, "audio": sound(1)}
        opened = bridge.Instance.__enter__

        def pressed(self: Any) -> Any:
            vox = opened(self)
            surface.send("/audiosr/vox/mix", 0.5)
            surface.send("/audiosr/vox/render")
            return vox

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(bridge.Instance, "__enter__", pressed)
            patched.setattr(bridge.Instance, "actions", _until_render(bridge.Instance.actions))
            exec(code, names)
    assert names["vox"].settings.mix == 0.5
    assert names["extended"].sample_rate == RATE


def _until_render(actions: Any) -> Any:
    """The page's loop goes on for ever; this one ends behind the first render."""

    def some(self: Any) -> Iterator[tuple[str, float]]:
        for action, value in actions(self):
            yield action, value
            if action == "render":
                return

    return some


def test_every_snippet_is_tried():
    assert {page: len(snippets(page)) for page in PAGES} == dict.fromkeys(PAGES, 1)
