"""The window of the external editor on a real X server, with real clicks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.errors import CancelledError
from plugin_host.edit import original_of
from plugin_host.errors import WindowError
from plugin_host.window import ASKING, Window
from tests.support.display import Hand, screen, until

ROOT = Path(__file__).parents[2]
FIRST, SECOND, THIRD = 0.17, 0.5, 0.83  # where the three buttons of a question are

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool") and find_spec("_tkinter")),
        reason="needs Xvfb, xdotool and tkinter",
    ),
]


@pytest.fixture(scope="module")
def display():
    with screen() as name:
        yield name


@pytest.fixture
def hand(display, monkeypatch):
    monkeypatch.setenv("DISPLAY", display)
    return Hand(display)


def test_work_goes_on_in_one_other_thread_and_gives_what_it_gives(hand):
    with Window() as window:
        threads = {window.run(threading.get_ident) for _ in range(3)}
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        with pytest.raises(ZeroDivisionError):
            window.run(lambda: 1 // 0)


def _cancel_by_destroying(hand):
    hand.tool("windowclose", hand.window())


@pytest.mark.parametrize(
    "cancel", [Hand.cancel, lambda hand: hand.key("Escape"), _cancel_by_destroying]
)
def test_cancel_and_closing_end_the_work(hand, cancel):
    def work():
        window.begin("song.wav", "lite, seed 0", None)
        window.tell(0.25)
        cancel(hand)
        until(lambda: window.tell(0.5))

    with Window() as window, pytest.raises(CancelledError):
        window.run(work)


def test_a_question_waits_for_a_click_and_closing_is_no_answer(hand):
    choices = ("Keep", "Another seed", "Undo")
    answers = []
    with Window() as window:
        for act in (
            lambda: hand.choose(FIRST),
            lambda: hand.choose(SECOND),
            lambda: hand.choose(THIRD),
            lambda: hand.key("Return", ASKING),
            lambda: hand.key("Escape", ASKING),
        ):
            finger = threading.Thread(target=act)
            finger.start()
            answers.append(window.ask("a question of some length", choices))
            finger.join(60)
        assert window.run(lambda: window.tell(0.5)) is None  # no answer cancels nothing
    assert answers == [*choices, "Keep", None]


def test_without_a_server_there_is_no_window(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(WindowError, match="4711"):
        Window()


class Edit:
    """`edit` as a host starts it: a display, and nobody who reads standard error."""

    def __init__(self, folder, display, *arguments):
        environment = {
            **os.environ,
            "DISPLAY": display,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "AUDIOSR_BRIDGE_STATE_DIR": str(folder / "state"),
            "AUDIOSR_BRIDGE_RUNTIME_DIR": str(folder / "run"),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "plugin_host.cli", "edit", *map(str, arguments)],
            env=environment,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )

    def end(self):
        _, err = self._process.communicate(timeout=60)
        assert b"Traceback" not in err
        return self._process.returncode, err.decode()


@pytest.fixture
def song(tmp_path):
    def make(seconds):
        path = tmp_path / "music" / "song.wav"
        path.parent.mkdir()
        x = np.random.default_rng(0).normal(0, 0.1, 8_000 * seconds)
        soundfile.write(path, np.repeat(x, 3)[: 24_000 * seconds], 24_000)
        return path

    return make


def test_cancel_leaves_the_file_bit_for_bit(tmp_path, hand, display, song):
    path = song(300)
    before, stamp = path.read_bytes(), path.stat()
    edit = Edit(tmp_path, display, path, "--cutoff", "4000")
    until(lambda: any(path.parent.glob("*.part")) or any(path.parent.glob(".*.part")))
    hand.cancel()
    assert edit.end()[0] == 130
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stamp.st_mtime_ns
    assert [one.name for one in path.parent.iterdir()] == ["song.wav"]


def test_another_seed_and_undo(tmp_path, hand, display, song):
    path = song(1)
    before = path.read_bytes()
    edit = Edit(tmp_path, display, path, "--ask", "--cutoff", "4000")
    until(original_of(path).exists)
    first = path.read_bytes()
    hand.choose(SECOND)
    until(lambda: path.read_bytes() != first)
    hand.choose(THIRD)
    code, err = edit.end()
    assert code == 0, err
    assert "seed 0" in err
    assert "seed 1" in err
    assert path.read_bytes() == before
    assert not original_of(path).exists()


def test_trouble_is_shown_in_the_window_and_logged(tmp_path, hand, display):
    edit = Edit(tmp_path, display, tmp_path / "missing.wav")
    hand.key("Return", ASKING)
    code, err = edit.end()
    assert code == 1
    assert "no such file" in err
    [line] = (tmp_path / "state" / "edit.log").read_text().splitlines()
    assert "no such file" in json.loads(line)["why"]


def test_a_display_without_a_server_falls_back_to_the_terminal(tmp_path, song):
    path = song(1)
    code, err = Edit(tmp_path, ":4711", path, "--cutoff", "4000").end()
    assert code == 0, err
    assert "note: no window can be opened here" in err
    assert original_of(path).exists()
