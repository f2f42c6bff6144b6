"""Audacity's pipe, with somebody else at its other end who is late, lost, or gone."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiosr_core.errors import UsageError
from plugin_host.daw.audacity import batch, pipe
from plugin_host.daw.audacity.pipe import AudacityError, Pipe, line

pytestmark = pytest.mark.timeout(30)

OK = "BatchCommand finished: OK\n\n"


def echo(command: str) -> str:
    """As Audacity answers `Message`."""
    return command.partition('"')[2].rstrip('"') + "\n" + OK


@contextlib.contextmanager
def audacity(folder: Path, answer: Callable[[str], str | None]) -> Iterator[None]:
    """Reads lines and answers; None ends it."""
    ours, theirs = (folder / f"audacity_script_pipe.{end}.{os.getuid()}" for end in ("to", "from"))
    for fifo in (ours, theirs):
        os.mkfifo(fifo)

    def serve() -> None:
        with open(ours) as commands, open(theirs, "w") as replies:
            for command in commands:
                reply = answer(command.rstrip("\n"))
                if reply is None:
                    return
                with contextlib.suppress(BrokenPipeError):
                    replies.write(reply)
                    replies.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _own_pipes(tmp_path, monkeypatch):
    monkeypatch.setattr(pipe, "FOLDER", tmp_path)
    monkeypatch.setattr(pipe, "ASK_AGAIN_SECONDS", 0.1)


def test_a_command_has_its_reply(tmp_path):
    def answer(command: str) -> str:
        return echo(command) if command.startswith("Message") else f"did {command}\nthat\n{OK}"

    with audacity(tmp_path, answer), Pipe(5) as one:
        for name in ("SelectAll:", "Undo:"):
            assert one.do(name, 5) == f"did {name}\nthat"


def test_commands_before_the_window_is_up_are_lost(tmp_path):
    heard = []

    def answer(command: str) -> str:
        heard.append(command)
        return "" if len(heard) < 3 else echo(command)

    with audacity(tmp_path, answer), Pipe(5) as one:
        assert one.do(line("Message", Text="here"), 5) == "here"
    assert len(set(heard)) == len(heard)


def test_a_late_reply_is_for_nobody(tmp_path):
    late = threading.Event()

    def answer(command: str) -> str:
        if command == "Slow:":
            late.wait(10)
            return f"slow\n{OK}"
        return echo(command) if command.startswith("Message") else f"{command}\n{OK}"

    with audacity(tmp_path, answer), Pipe(5) as one:
        with pytest.raises(AudacityError, match="must answer Slow within"):
            one.do("Slow:", 0.1)
        late.set()
        assert one.do("Quick:", 5) == "Quick:"


def test_it_says_what_failed(tmp_path):
    def answer(command: str) -> str:
        failed = "no such file\nBatchCommand finished: Failed!\n\n"
        return echo(command) if command.startswith("Message") else failed

    with (
        audacity(tmp_path, answer),
        Pipe(5) as one,
        pytest.raises(AudacityError, match="could not do Import2: no such file"),
    ):
        one.do(line("Import2", Filename="a.wav"), 5)


def test_one_that_ends_is_noticed_at_once(tmp_path):
    def answer(command: str) -> str | None:
        return echo(command) if command.startswith("Message") else None

    with (
        audacity(tmp_path, answer),
        Pipe(5) as one,
        pytest.raises(AudacityError, match="ended meanwhile"),
    ):
        one.do("Exit:", 20)


def test_nobody_there(tmp_path):
    with pytest.raises(AudacityError, match="mod-script-pipe"):
        Pipe(0.1)
    for end in ("to", "from"):  # left behind by one that is gone
        os.mkfifo(tmp_path / f"audacity_script_pipe.{end}.{os.getuid()}")
    with pytest.raises(AudacityError, match="mod-script-pipe"):
        Pipe(0.1)


def test_a_name_is_quoted_or_refused():
    assert line("Import2", Filename='a "b" \\c') == 'Import2: Filename="a \\"b\\" \\\\c"'
    with pytest.raises(UsageError):
        line("Import2", Filename="a\nExit:")


@pytest.mark.parametrize("block", [37, 1000, 1 << 20])
def test_a_hole_is_found_wherever_it_lies(tmp_path, monkeypatch, block):
    monkeypatch.setattr(batch, "BLOCK", block)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1, (5000, 2))
    x[1000:2000] = 0
    paths = tmp_path / "x.wav", tmp_path / "y.wav"
    soundfile.write(paths[0], x, 48_000, subtype="FLOAT")
    for begin, end, found in [(1000, 2000, None), (2900, 2999, None), (2900, 3000, 2900),
                              (4900, 5000, 4900), (0, 100, 0), (1000, 2100, 2000)]:  # fmt: skip
        y = x.copy()
        y[begin:end] = 0
        soundfile.write(paths[1], y, 48_000, subtype="FLOAT")
        assert batch._hole(*paths, 100) == found
