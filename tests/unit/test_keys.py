"""Only who is on the list comes in by TCP, under the right name, and not a second longer."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
import zmq

from audiosr_core.errors import UsageError
from bridge import keys
from bridge.connection import Connection, Endpoints
from bridge.errors import BridgeError
from bridge.keys import AllowList, Authenticator

HERE = Endpoints.listening("tcp://127.0.0.1:5570")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "config"


def test_a_client_gets_a_connection_and_the_daemon_keeps_no_secret_of_it(folder):
    text = keys.create(folder, "laptop", HERE)
    connection = Connection.parse(text)
    allowed = AllowList(folder)
    assert connection.key_name == "laptop"
    assert connection.pid is None
    assert connection.endpoints == HERE
    assert connection.curve.server == keys.server_keys(folder)[0]
    assert allowed.name_of(connection.curve.public) == "laptop"
    assert allowed.name_of(connection.curve.public.encode()) == "laptop"
    assert allowed.key_of("laptop") == connection.key_bytes
    assert connection.curve.secret not in (folder / "keys.json").read_text()
    assert (folder / "keys.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_keys_are_all_different_and_the_server_s_stay(folder):
    made = [Connection.parse(keys.create(folder, name, HERE)) for name in ("a", "b", "c")]
    assert len({one.key for one in made}) == 3
    assert len({one.curve.secret for one in made}) == 3
    assert len({one.curve.server for one in made}) == 1
    assert [one.name for one in keys.clients(folder)] == ["a", "b", "c"]


def test_a_revoked_client_is_off_the_list_at_once(folder):
    allowed = AllowList(folder)
    assert allowed.key_of("laptop") is None
    public = Connection.parse(keys.create(folder, "laptop", HERE)).curve.public
    assert allowed.name_of(public) == "laptop"
    keys.revoke(folder, "laptop")
    assert allowed.name_of(public) is None
    assert allowed.key_of("laptop") is None
    assert keys.clients(folder) == []
    again = Connection.parse(keys.create(folder, "laptop", HERE))
    assert again.curve.public != public
    assert allowed.name_of(public) is None


@pytest.mark.parametrize(
    "name", ["", "local", "Laptop", "-x", ".x", "a" * 33, "a b", "../a", "a/b", "ä", "a\n", "a\0"]
)
def test_a_name_that_is_none_is_refused(name, folder):
    with pytest.raises(UsageError):
        keys.create(folder, name, HERE)
    assert not folder.exists()


def test_what_cannot_be_done_is_told(folder):
    with pytest.raises(UsageError, match="there are: none"):
        keys.revoke(folder, "laptop")
    keys.create(folder, "laptop", HERE)
    with pytest.raises(UsageError, match="already"):
        keys.create(folder, "laptop", HERE)
    for nowhere in ("tcp://0.0.0.0:5570", "tcp://[::]:5570", "tcp://studio:0"):
        with pytest.raises(UsageError):
            keys.create(folder, "other", Endpoints.listening(nowhere))
    assert [one.name for one in keys.clients(folder)] == ["laptop"]


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.clear(),
        lambda value: value.update(schema=2),
        lambda value: value["server"].update(secret="short"),
        lambda value: value["clients"]["laptop"].update(key="00"),
        lambda value: value["clients"]["laptop"].update(public=7),
        lambda value: value["clients"].update({"../x": value["clients"]["laptop"]}),
        lambda value: value.update(clients=[]),
    ],
)
def test_a_damaged_file_lets_nobody_in_and_is_not_written_over(change, folder):
    public = Connection.parse(keys.create(folder, "laptop", HERE)).curve.public
    allowed = AllowList(folder)
    assert allowed.name_of(public) == "laptop"
    path = folder / "keys.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    damaged = path.read_bytes()
    assert allowed.name_of(public) is None
    for attempt in (
        lambda: keys.create(folder, "other", HERE),
        lambda: keys.revoke(folder, "laptop"),
        lambda: keys.server_keys(folder),
        lambda: keys.clients(folder),
    ):
        with pytest.raises(BridgeError, match="damaged"):
            attempt()
    assert path.read_bytes() == damaged


def test_a_file_that_others_may_read_lets_nobody_in(folder):
    public = Connection.parse(keys.create(folder, "laptop", HERE)).curve.public
    allowed = AllowList(folder)
    os.chmod(folder / "keys.json", 0o640)
    assert allowed.name_of(public) is None
    os.chmod(folder / "keys.json", 0o600)
    assert allowed.name_of(public) == "laptop"


@pytest.mark.timeout(60)
def test_no_client_is_lost_when_many_are_made_at_once(folder):
    names = [f"client-{number}" for number in range(16)]
    threads = [threading.Thread(target=keys.create, args=(folder, one, HERE)) for one in names]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert sorted(one.name for one in keys.clients(folder)) == sorted(names)


# ---- at the door


@pytest.fixture
def server(folder):
    """A CURVE server that knows the list: (its port, messages that arrived as (name, text))."""
    public, secret = keys.server_keys(folder)
    context = zmq.Context()
    door = Authenticator(context, AllowList(folder))
    door.start()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.curve_server = True
    socket.curve_secretkey, socket.curve_publickey = secret.encode(), public.encode()
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def received(seconds: float) -> list[tuple[str, bytes]]:
        found = []
        deadline = time.monotonic() + seconds
        while not found and socket.poll(max(0, int(1000 * (deadline - time.monotonic())))):
            _, body = socket.recv_multipart(copy=False)
            found.append((body.get("User-Id"), body.bytes))
        return found

    yield port, received
    socket.close()
    door.stop()
    context.term()


def knock(port: int, curve=None) -> zmq.Socket:
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 0
    if curve:
        socket.curve_serverkey = curve.server.encode()
        socket.curve_publickey, socket.curve_secretkey = (
            curve.public.encode(),
            curve.secret.encode(),
        )
    socket.connect(f"tcp://127.0.0.1:{port}")
    socket.send(b"hello")
    return socket


@pytest.mark.timeout(60)
def test_every_message_has_the_name_of_its_client(folder, server):
    port, received = server
    for name in ("laptop", "studio-2"):
        curve = Connection.parse(keys.create(folder, name, HERE)).curve
        with knock(port, curve):
            assert received(10) == [(name, b"hello")]


@pytest.mark.timeout(60)
def test_nobody_else_comes_in(folder, server):
    port, received = server
    curve = Connection.parse(keys.create(folder, "laptop", HERE)).curve
    made_up = zmq.curve_keypair()
    revoked = Connection.parse(keys.create(folder, "old", HERE)).curve
    keys.revoke(folder, "old")
    stranger = type(curve)(curve.server, *(one.decode() for one in made_up))
    thief = type(curve)(curve.server, curve.public, made_up[1].decode())
    wrong = type(curve)(made_up[0].decode(), curve.public, curve.secret)
    sockets = [knock(port, one) for one in (None, stranger, thief, wrong, revoked)]
    try:
        assert received(1.0) == []
        with knock(port, curve):  # while the door is still open to whom it knows
            assert received(10) == [("laptop", b"hello")]
    finally:
        for one in sockets:
            one.close()


@pytest.mark.timeout(60)
def test_a_client_that_is_revoked_while_the_daemon_runs_does_not_come_in_again(folder, server):
    port, received = server
    curve = Connection.parse(keys.create(folder, "laptop", HERE)).curve
    with knock(port, curve):
        assert received(10) == [("laptop", b"hello")]
    keys.revoke(folder, "laptop")
    with knock(port, curve):
        assert received(1.0) == []


@pytest.mark.timeout(30)
def test_the_door_takes_no_other_mechanism(folder):
    keys.server_keys(folder)
    context = zmq.Context()
    door = Authenticator(context, AllowList(folder))
    door.start()
    with context.socket(zmq.REQ) as asks:
        asks.linger = 0
        asks.connect("inproc://zeromq.zap.01")
        for mechanism in (b"NULL", b"PLAIN", b"GSSAPI"):
            asks.send_multipart([b"1.0", b"1", b"", b"127.0.0.1", b"", mechanism, b"x", b"y"])
            assert asks.poll(5000)
            assert asks.recv_multipart()[2] == b"400"
    door.stop()
    context.term()
