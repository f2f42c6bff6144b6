"""A connection file says the truth or is refused; a lock has one holder, and none when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.connection import (
    Connection,
    Curve,
    DaemonLock,
    Endpoints,
    Holder,
    is_stale,
    running,
)
from bridge.errors import BridgeError

ROOT = Path(__file__).parents[2]
KEY = "5a" * 32
Z85 = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

HOLD = """
import sys
from pathlib import Path
from bridge.connection import DaemonLock
lock = DaemonLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def local(folder: Path = Path("/run/user/1/audiosr-bridge"), **other) -> Connection:
    fields = {"version": "0.1", "protocol": (1, 0), "pid": 7, "start_time": 1.25, **other}
    return Connection(endpoints=Endpoints.local(folder), key=KEY, **fields)


def remote() -> Connection:
    return Connection(
        endpoints=Endpoints.listening("tcp://studio.example:5570"),
        key=KEY,
        version="0.1",
        protocol=(1, 0),
        key_name="laptop",
        curve=Curve(Z85, Z85, Z85),
    )


@pytest.mark.parametrize(
    "connection", [local(), remote(), local(tcp=Endpoints.listening("tcp://[::1]:1"), osc_port=9)]
)
def test_a_connection_comes_back_as_it_was(connection, tmp_path):
    assert Connection.parse(connection.text()) == connection
    connection.write_atomic(tmp_path / "daemon.json")
    assert Connection.read(tmp_path / "daemon.json") == connection
    assert (tmp_path / "daemon.json").stat().st_mode & 0o777 == 0o600


def test_a_connection_shows_no_key():
    assert KEY not in repr(remote())
    assert f"secret={Z85!r}" not in repr(remote())


def test_what_a_newer_daemon_adds_is_ignored():
    fields = json.loads(remote().text())
    fields["colour"] = "blue"
    fields["curve"]["colour"] = "blue"
    fields["endpoints"]["colour"] = "blue"
    assert Connection.parse(json.dumps(fields)) == remote()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    name=st.sampled_from([*json.loads(remote().text()), "curve.secret", "endpoints.work"]),
    value=_JSON,
)
def test_any_field_may_be_anything_and_nothing_but_an_error_comes_of_it(name, value):
    fields = json.loads(remote().text())
    place, _, inner = name.partition(".")
    if inner:
        fields[place][inner] = value
    else:
        fields[place] = value
    with contextlib.suppress(BridgeError):
        assert Connection.parse(json.dumps(fields)).key_bytes


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_garbage_is_an_error_and_nothing_else(data):
    with pytest.raises(BridgeError):
        Connection.parse(data)


@pytest.mark.parametrize("missing", ["endpoints", "key", "version", "protocol", "curve"])
def test_what_is_needed_is_asked_for(missing):
    fields = json.loads(remote().text())
    del fields[missing]
    with pytest.raises(BridgeError, match="CURVE" if missing == "curve" else rf"lacks {missing}$"):
        Connection.parse(json.dumps(fields))


@pytest.mark.parametrize("name", ["endpoints.work", "curve.secret"])
def test_what_is_needed_within_is_asked_for(name):
    fields = json.loads(remote().text())
    place, _, missing = name.partition(".")
    del fields[place][missing]
    with pytest.raises(BridgeError, match=rf"lacks {missing}$"):
        Connection.parse(json.dumps(fields))


def test_another_schema_says_what_to_do():
    fields = json.loads(remote().text()) | {"schema": 2}
    with pytest.raises(BridgeError, match="daemon restart"):
        Connection.parse(json.dumps(fields))


@pytest.mark.parametrize(
    "text",
    ["tcp://*:5570", "tcp://h", "tcp://h:65534", "ipc:///x", "tcp://:1", "tcp://h:1/..", "http://h:1"],
)  # fmt: skip
def test_what_cannot_be_listened_on_is_refused(text):
    with pytest.raises(BridgeError):
        Endpoints.listening(text)


@pytest.mark.parametrize(
    ("text", "work", "everywhere"),
    [
        ("tcp://127.0.0.1:5570", "tcp://127.0.0.1:5571", False),
        ("tcp://0.0.0.0:0", "tcp://0.0.0.0:0", True),
        ("tcp://[::]:5570", "tcp://[::]:5571", True),
        ("tcp://studio:65533", "tcp://studio:65534", False),
    ],
)
def test_one_endpoint_stands_for_three(text, work, everywhere):
    endpoints = Endpoints.listening(text)
    assert (endpoints.control, endpoints.work) == (text, work)
    assert endpoints.is_everywhere == everywhere
    assert endpoints.at("fe80::1").events.startswith("tcp://[fe80::1]:")


# ---- the lock


def test_a_lock_has_one_holder(tmp_path):
    one, two = DaemonLock(tmp_path / "lock"), DaemonLock(tmp_path / "lock")
    assert one.held_by() is None
    assert one.acquire()
    assert one.acquire()
    assert not two.acquire()
    me = psutil.Process()
    assert two.held_by() == one.held_by() == Holder(me.pid, me.create_time())
    one.release()
    one.release()
    assert two.held_by() is None
    assert two.acquire()
    assert not one.acquire()
    two.release()


@pytest.mark.timeout(60)
def test_many_looks_at_a_lock_do_not_keep_anybody_from_it(tmp_path):
    over = threading.Event()

    def look() -> None:
        lock = DaemonLock(tmp_path / "lock")
        while not over.wait(0.002):  # ten times as often as those who wait for a daemon
            lock.held_by()

    threads = [threading.Thread(target=look) for _ in range(20)]
    for one in threads:
        one.start()
    try:
        for _ in range(20):
            with DaemonLock(tmp_path / "lock") as lock:
                assert lock.acquire()
    finally:
        over.set()
        for one in threads:
            one.join(10)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_lock_is_free_however_its_holder_dies(number, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "True\n"
        lock = DaemonLock(tmp_path / "lock")
        start_time = psutil.Process(holder.pid).create_time()
        assert lock.held_by() == Holder(holder.pid, start_time)
        assert not lock.acquire()
        holder.send_signal(number)
        holder.wait(20)
    assert lock.held_by() is None
    assert lock.acquire()
    lock.release()


def test_a_program_that_the_holder_starts_does_not_hold_the_lock(tmp_path):
    lock = DaemonLock(tmp_path / "lock")
    assert lock.acquire()
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        lock.release()
        try:
            assert lock.held_by() is None
        finally:
            child.kill()


def test_a_lock_that_was_swept_away_is_known_to_be_gone(tmp_path):
    lock = DaemonLock(tmp_path / "lock")
    assert not lock.in_place()
    assert lock.acquire()
    assert lock.in_place()
    (tmp_path / "lock").unlink()
    assert not lock.in_place()
    (tmp_path / "lock").touch()
    assert not lock.in_place()
    lock.release()


def test_a_lock_is_never_a_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(BridgeError):
        DaemonLock(tmp_path / "lock").acquire()
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_connection_is_true_while_its_writer_holds_the_lock(tmp_path):
    me = psutil.Process()
    mine = local(tmp_path, pid=me.pid, start_time=me.create_time())
    assert running(tmp_path) is None
    mine.write_atomic(tmp_path / "daemon.json")
    assert running(tmp_path) is None
    with DaemonLock(tmp_path / "daemon.lock") as lock:
        assert lock.acquire()
        assert running(tmp_path) == mine
        for other in ({"pid": me.pid + 1}, {"start_time": me.create_time() - 1}):
            connection = local(tmp_path, **{"pid": me.pid, "start_time": me.create_time(), **other})
            assert is_stale(connection, tmp_path)
            connection.write_atomic(tmp_path / "daemon.json")
            assert running(tmp_path) is None
    assert is_stale(mine, tmp_path)
    assert not is_stale(remote(), tmp_path)


def test_a_connection_that_others_may_read_is_refused(tmp_path):
    local().write_atomic(tmp_path / "daemon.json")
    os.chmod(tmp_path / "daemon.json", 0o644)
    assert running(tmp_path) is None
    with DaemonLock(tmp_path / "daemon.lock") as lock:
        assert lock.acquire()
        with pytest.raises(BridgeError, match="chmod 600"):
            running(tmp_path)
