"""The log is JSON by the line, private and bounded; it holds no sound and no folder of a user."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import log as bridge_log
from bridge.errors import BridgeError
from bridge.log import JsonLines, logging_to

LOG = logging.getLogger("bridge.test")


def written(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "daemon.log").read_text().splitlines()]


def test_a_line_says_when_what_and_with_what(tmp_path):
    with logging_to(tmp_path / "state"):
        LOG.info(
            "job %s", "done", extra={"job": "3f9c", "chunks": 7, "file": Path("/music/a b.wav")}
        )
        LOG.debug("not at this level")
    (line,) = written(tmp_path / "state")
    assert line["event"] == "job done"
    assert line["level"] == "info"
    assert line["from"] == "bridge.test"
    assert (line["job"], line["chunks"], line["file"]) == ("3f9c", 7, "a b.wav")
    assert line["time"].endswith("Z")


def test_a_sound_is_never_written(tmp_path):
    sound = np.full((2, 500), 0.123456789)
    with logging_to(tmp_path, "debug"):
        extra = {"a": sound, "b": sound.tobytes(), "c": sound.tolist(), "d": memoryview(b"0.1234"),
                 "e": {"deep": [sound]}, "f": sound.tolist()[0]}  # fmt: skip
        LOG.error("it came", extra=extra)
    text = (tmp_path / "daemon.log").read_text()
    assert "0.1234" not in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "cannot read /home/ann/My Songs (new)/secret plan.wav: no such file",
        "cannot read '/home/ann/secret/x.wav'; check /home/ann/secret/y.wav",
        "~/secret/ann/x.wav",
        'File "/home/ann/secret/x.py", line 3',
    ],
)
def test_of_a_file_only_the_name_is_written_unless_one_debugs(text, tmp_path):
    record = logging.makeLogRecord({"msg": text, "levelno": 40, "levelname": "ERROR"})
    record.why = ValueError(text)
    short = JsonLines().format(record)
    for folder in ("/home", "ann/", "My Songs", "secret/"):
        assert folder not in short
    assert json.loads(JsonLines(whole_names=True).format(record))["event"] == text


@pytest.mark.parametrize(
    "text", ["ipc:///run/user/1/c.sock", "tcp://127.0.0.1:5570", "1/2 done", "and/or", "a / b"]
)
def test_what_is_no_file_name_stays(text):
    record = logging.makeLogRecord({"msg": text})
    assert json.loads(JsonLines().format(record))["event"] == text


_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(event=st.text(), value=_VALUE)
def test_whatever_is_logged_is_one_line_of_json(event, value):
    record = logging.makeLogRecord({"msg": "%s", "args": (event,), "thing": value})
    line = JsonLines().format(record)
    assert "\n" not in line
    assert line.isascii()

    def no_constant(name: str) -> None:
        raise AssertionError(name)

    json.loads(line, parse_constant=no_constant)


def test_a_traceback_is_one_line(tmp_path):
    with logging_to(tmp_path):
        try:
            raise ValueError("why\nnot")
        except ValueError:
            LOG.exception("it failed")
    (line,) = written(tmp_path)
    assert "ValueError: why\nnot" in line["traceback"]


@pytest.mark.timeout(60)
def test_the_log_is_bounded_private_and_whole_lines_whoever_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(bridge_log, "MAX_BYTES", 20_000)

    def write() -> None:
        for number in range(500):
            LOG.info("event %d %s", number, "x" * 100)

    with logging_to(tmp_path):
        threads = [threading.Thread(target=write) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(50)
    files = list(tmp_path.iterdir())
    assert len(files) == bridge_log.KEPT + 1
    for one in files:
        assert one.stat().st_size <= 20_000
        assert one.stat().st_mode & 0o777 == 0o600
        for line in one.read_text().splitlines():
            assert json.loads(line)["event"].startswith("event ")


def test_a_log_that_is_closed_is_written_no_more_and_may_be_opened_again(tmp_path):
    for _ in range(3):
        with logging_to(tmp_path):
            LOG.info("inside")
        LOG.warning("outside")
    assert [line["event"] for line in written(tmp_path)] == ["inside"] * 3
    assert not LOG.parent.handlers


def test_a_log_is_never_a_link_and_never_in_a_folder_of_others(tmp_path):
    (tmp_path / "victim").write_text("precious")
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / "daemon.log").symlink_to(tmp_path / "victim")
    with pytest.raises(BridgeError), logging_to(state):
        pass
    assert (tmp_path / "victim").read_text() == "precious"
    (state / "daemon.log").unlink()
    state.chmod(0o755)
    with pytest.raises(BridgeError, match="chmod 700"), logging_to(state):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_stops_nobody(tmp_path, capsys):
    with logging_to(tmp_path) as handler:
        own, handler.baseFilename = handler.baseFilename, "/dev/full"
        handler.setStream(handler._open()).close()
        for _ in range(10):
            LOG.error("x" * 10_000)
        handler.baseFilename = own
        handler.setStream(handler._open()).close()
        LOG.info("there is room again")
    assert [line["event"] for line in written(tmp_path)] == ["there is room again"]
    assert capsys.readouterr() == ("", "")
