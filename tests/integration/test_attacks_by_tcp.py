"""Who comes from another machine: nobody without a key of its own, and with it not everywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from audiosr_core.errors import EXIT_DAEMON, UsageError
from bridge import keys
from bridge.connection import Connection, Curve
from bridge.errors import BridgeError, CodedError, ProtocolError
from bridge.server.sockets import Listener, Sockets
from tests.support.attack import RawPeer, attacked, extend, name, noise, serves, wait_for
from tests.support.bridge_engines import echo_of
from tests.support.daemon import ENGINES, RunningDaemon
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(120)

LISTEN = ("--listen", "tcp://127.0.0.1:0")


def key_for(one: RunningDaemon, who: str) -> Connection:
    tcp = one.connection().tcp
    assert tcp is not None
    return Connection.parse(keys.create(one.folder / "config", who, tcp))


def answered(connection: Connection, seconds: float = 1.0, **changes: Any) -> str | None:
    """What a hello is answered with."""
    with Wire(connection, hello=False) as wire:
        from bridge.protocol import decode, encode

        wire.raw("control", encode(wire.hello_message(**changes), connection.key_bytes))
        frames = wire.frames("control", seconds)
        try:
            return decode(frames, lambda *_: connection.key_bytes).type if frames else None
        except ProtocolError:
            return "something strange"


def test_a_key_lets_its_owner_in_and_the_sound_is_the_same():
    with attacked(*LISTEN) as one, Wire(key_for(one, "laptop")) as wire:
        sound = noise(0.5)
        np.testing.assert_array_equal(extend(wire, sound)[0], echo_of(sound))


def test_without_curve_there_is_no_answer_at_all():
    with attacked(*LISTEN) as one:
        connection = key_for(one, "laptop")
        for kind in ("control", "work", "events"):
            with RawPeer(getattr(connection.endpoints, kind)) as peer:
                with contextlib.suppress(OSError):  # hung up on while it talks
                    peer.frame(b"hello", more=False)
                heard = peer.heard(0.5)
                assert b"welcome" not in heard
                assert len(heard) < 200  # a greeting, a word that NULL is not wanted
        context = zmq.Context()
        plain = context.socket(zmq.DEALER)
        plain.connect(connection.endpoints.control)
        plain.send(b"hello")
        assert not plain.poll(500)
        plain.close(0)
        context.term()


def test_a_made_up_key_and_a_wrong_server_key_get_nothing():
    with attacked(*LISTEN) as one:
        good = key_for(one, "laptop")
        assert good.curve is not None
        public, secret = (each.decode() for each in zmq.curve_keypair())
        strangers = [Curve(good.curve.server, public, secret), Curve(public, *_pair(good))]
        for curve in strangers:
            assert answered(dataclasses.replace(good, curve=curve)) is None
        wrong = dataclasses.replace(good, key=secrets.token_hex(32))
        assert answered(wrong) is None
        local = dataclasses.replace(good, key=one.connection().key)
        assert answered(local) is None  # the key of this machine opens nothing from another one
        assert answered(local, key="local") is None
        assert answered(good) == "welcome"


def _pair(connection: Connection) -> tuple[str, str]:
    assert connection.curve is not None
    return connection.curve.public, connection.curve.secret


def test_a_key_under_another_name_gets_nothing():
    with attacked(*LISTEN) as one:
        laptop, studio = key_for(one, "laptop"), key_for(one, "studio")
        mixed = dataclasses.replace(laptop, key=studio.key, key_name="studio")
        assert answered(mixed) is None  # the pair of one, the secret of the other
        assert answered(laptop, key="studio") == "refused"
        assert answered(laptop, key="local") == "refused"


def test_revoking_takes_effect_within_a_second():
    with attacked(*LISTEN) as one, Wire(key_for(one, "studio")) as studio:
        laptop = key_for(one, "laptop")
        with Wire(laptop) as wire:
            job = name()
            wire.submit(job, source="stream", num_samples=None, on_disconnect="cancel")
            assert wire.ask("ping").type == "pong"
            keys.revoke(one.folder / "config", "laptop")
            began = time.monotonic()
            with Wire(one.connection()) as local:
                wait_for(lambda: views(local)[job] == "cancelled", 3)
                assert time.monotonic() - began < 1.5  # a second, and the round trips
            while wire.frames("work", 0.3) is not None:
                pass  # what was on its way
            for socket_name, type, meta in (
                ("control", "ping", {}), ("work", "credit", {"job": job, "bytes": 1}),
            ):  # fmt: skip
                wire.send(socket_name, type, meta)
                assert wire.frames(socket_name, 0.5) is None
            assert answered(laptop) is None
        wait_for(lambda: answered(studio.connection) == "welcome")  # others come again


def views(wire: Wire) -> dict[str, str]:
    return {view["job"]: view["state"] for view in wire.ask("list_jobs")["jobs"]}


def test_a_key_made_anew_under_the_same_name_is_another_key():
    with attacked(*LISTEN) as one:
        first = key_for(one, "laptop")
        assert answered(first) == "welcome"
        keys.revoke(one.folder / "config", "laptop")
        second = key_for(one, "laptop")
        assert answered(first) is None
        assert answered(second) == "welcome"


def test_another_machine_sees_and_touches_nothing_of_this_one(tmp_path):
    with attacked(*LISTEN) as one, Wire(one.connection(), client="secret name") as local:
        job, late = name(), name()
        local.submit(job, source="stream", num_samples=None)
        with Wire(key_for(one, "laptop")) as remote, Wire(key_for(one, "studio")) as other:
            other.submit(late, source="stream", num_samples=None)
            assert views(remote) == {}
            assert set(views(other)) == {late}
            assert set(views(local)) == {job, late}
            status = remote.ask("status")["status"]
            assert "secret name" not in str(status)
            assert str(one.folder) not in str(status)
            for each in (job, late):
                assert remote.ask("cancel", job=each)["code"] == "E_JOB"
                assert remote.submit(each, source="stream", num_samples=None)["code"] == "E_JOB"
            for type in ("stop", "unload"):
                assert remote.ask(type)["code"] == "E_USAGE"
            good = tmp_path / "good.wav"
            good.write_bytes(b"RIFF")
            for path in (good, Path("/etc/passwd")):
                answer = remote.submit(name(), source="path", path=str(path))
                assert answer["code"] == "E_USAGE"
            assert views(local)[job] in ("queued", "analysing", "running")
            heard = events(remote.connection)
            assert heard
            assert {topic for topic in heard if not topic.startswith(b"job.")} == {b"heartbeat"}
            assert not any(job.encode() in topic for topic in heard)


def events(connection: Connection, seconds: float = 2.5) -> list[bytes]:
    """The topics that come to a listener within some seconds."""
    assert connection.curve is not None
    context = zmq.Context()
    listener = context.socket(zmq.SUB)
    listener.setsockopt_string(zmq.CURVE_SERVERKEY, connection.curve.server)
    listener.setsockopt_string(zmq.CURVE_PUBLICKEY, connection.curve.public)
    listener.setsockopt_string(zmq.CURVE_SECRETKEY, connection.curve.secret)
    listener.subscribe(b"")
    listener.connect(connection.endpoints.events)
    heard = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if listener.poll(left * 1000):
            heard.append(listener.recv_multipart()[0])
    listener.close(0)
    context.term()
    return heard


def test_plain_tcp_cannot_be_had(tmp_path):
    context = zmq.Context()
    with pytest.raises(BridgeError, match="open to everybody"):
        Sockets(context, zmq.ROUTER, [Listener("tcp://127.0.0.1:0")], 1024)
    context.destroy(linger=0)
    for endpoint in ("tcp://*:5570", "udp://127.0.0.1:1", "tcp://127.0.0.1:99999", "ws://x:1"):
        one = RunningDaemon(tmp_path, "--listen", endpoint, engine=f"{ENGINES}:echo")
        with pytest.raises(AssertionError):
            one.start()
        assert one.process is not None
        assert one.process.returncode == EXIT_DAEMON


def test_a_damaged_list_lets_nobody_in_and_stops_nothing():
    with attacked(*LISTEN) as one:
        laptop = key_for(one, "laptop")
        path = one.folder / "config" / "keys.json"
        good = path.read_bytes()
        for damage in (b"", b"{}", b"\x80\x04.", b"[" * 100_000, good[:-9]):
            path.write_bytes(damage)
            assert answered(laptop, 0.6) is None
            serves(one)
        path.write_bytes(good)
        wait_for(lambda: answered(laptop) == "welcome")


def test_one_key_takes_no_more_than_its_share_of_the_house():
    with attacked(*LISTEN) as one:
        laptop, wires = key_for(one, "laptop"), []
        try:
            for _ in range(64):
                wires.append(Wire(laptop))
                for wire in (wires[0], wires[-1]):
                    assert wire.ask("ping").type == "pong"
                if len(wires) % 16 == 0:
                    assert all(wire.ask("ping").type == "pong" for wire in wires)
            assert answered(laptop) == "refused"
            serves(one)
        finally:
            for wire in wires:
                wire.close()


def test_names_that_lead_elsewhere_are_no_names(tmp_path):
    one = Connection.parse  # a connection is checked as it is read
    for who in ("", "../x", "local", "A", "a b", "a" * 33, "é", "a/b", "\n"):
        with pytest.raises(UsageError):
            keys.create(tmp_path, who, None)  # type: ignore[arg-type]
    with pytest.raises((BridgeError, CodedError)):
        one("[" * 100_000)


def test_osc_is_flooded_and_posted_to_and_the_daemon_goes_on():
    with attacked("--osc", "0") as one:
        port = one.connection().osc_port
        assert port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as surface:
            packets = [
                b"POST / HTTP/1.1\r\nHost: x\r\n\r\n/audiosr/ping", b"", b"#bundle\0" + bytes(8),
                b"#bundle\0" + bytes(8) + b"\xff" * 8, b"/audiosr/ping\0\0\0,\0\0\0",
                (b"#bundle\0" + bytes(8) + b"\x00\x00\x00\x10") * 400, b"/" + b"a" * 8000,
                secrets.token_bytes(1400), b"/audiosr/*/seed\0,i\0\0\0\0\0\1",
            ]  # fmt: skip
            for i in range(20_000):
                surface.sendto(packets[i % len(packets)], ("127.0.0.1", port))
            serves(one)
