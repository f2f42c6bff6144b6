"""Bytes that no honest client sends: forged, replayed, torn, swapped, swollen, and without end."""

from __future__ import annotations

import contextlib
import secrets

import numpy as np
import pytest
import zmq

from bridge.protocol import Message, Outgoing, encode, session_keys
from tests.support.attack import (
    MIB,
    RawPeer,
    attacked,
    dial,
    endpoints,
    extend,
    name,
    noise,
    patient_wire,
    serves,
    wait_for,
)
from tests.support.bridge_engines import echo_of
from tests.support.wire import SUBMIT, Wire

pytestmark = pytest.mark.timeout(120)

POST = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://example.org\r\n"
    b"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s"
)


CEILING_OF_ENDLESS = 160 * MIB + 512 * MIB  # the limit, and what comes before it is noticed


def silent(wire: Wire, socket: str = "control", seconds: float = 0.3) -> bool:
    return wire.frames(socket, seconds) is None


def test_a_browser_posting_to_every_port_gets_nothing():
    with attacked("--listen", "tcp://127.0.0.1:0") as one:
        hello = encode(Message("hello", {"nonce": "0" * 32}), bytes(32))
        bodies = (b'{"type":"stop"}', b"\0".join(bytes(frame) for frame in hello), bytes(100_000))
        for endpoint in endpoints(one):
            for body in bodies:
                with dial(endpoint) as browser:
                    with contextlib.suppress(OSError):  # it may be hung up on while it talks
                        browser.sendall(POST % (len(body), body))
                    with RawPeer.__new__(RawPeer) as listener:
                        listener.socket = browser
                        heard = listener.heard(0.3)
                    assert b"HTTP" not in heard
                    assert len(heard) <= 64, heard  # a greeting of ZMTP, and no word of ours
        with Wire(one.connection()) as wire:
            assert len(wire.ask("status")["status"]["sessions"]) == 1


def test_a_hello_signed_with_another_key_gets_no_answer():
    with attacked() as one, Wire(one.connection(), hello=False) as wire:
        for key in (bytes(32), secrets.token_bytes(32), b"", one.connection().key_bytes[::-1]):
            wire.raw("control", encode(wire.hello_message(), key))
        wire.raw("control", encode(Message("hello", {}), bytes(32)))
        assert silent(wire)


def test_a_message_signed_with_any_key_but_its_own_changes_nothing():
    """Another session's, another direction's, another socket's, the connection's, the events'."""
    with attacked() as one, Wire(one.connection()) as victim, Wire(one.connection()) as other:
        base = one.connection().key_bytes
        up, down = victim.out["control"].key, victim.into["control"].key
        wrong = {
            "control": [
                other.out["control"].key, down, victim.out["work"].key, victim.into["work"].key,
                base, bytes.fromhex(victim.welcome["events_key"]), bytes(32),
                session_keys(base, victim.session, "0" * 32, "0" * 32).control_up,
            ],
            "work": [up, down, victim.into["work"].key, other.out["work"].key, base],
        }  # fmt: skip
        with Wire(one.connection(), hello=False) as thief:
            for socket, type, meta in [
                ("control", "stop", {}), ("work", "submit", SUBMIT | {"job": name()}),
            ]:  # fmt: skip
                for key in wrong[socket]:
                    for wire in (thief, victim):
                        wire.raw(socket, Outgoing(key, victim.session).frames(type, meta))
            assert silent(thief)
            assert silent(thief, "work")
        assert victim.ask("status")["status"]["refused"] >= sum(2 * len(k) for k in wrong.values())
        assert victim.ask("list_jobs")["jobs"] == []
        sound = noise(0.2)
        np.testing.assert_array_equal(extend(victim, sound)[0], echo_of(sound))


def test_what_came_once_does_nothing_when_it_comes_again():
    with attacked() as one, Wire(one.connection(), hello=False) as wire:
        recorded = encode(wire.hello_message(), wire.connection.key_bytes)
        with Wire(one.connection(), hello=False) as thief:
            wire.raw("control", recorded)
            wire.frames("control")  # nobody goes on with it
            for _ in range(20):
                thief.raw("control", recorded)
            seen = [thief.frames("control", 1) for _ in range(20)]
            assert all(b"this hello came before" in frames[3] for frames in seen if frames)
            assert silent(thief)
    with attacked() as one, Wire(one.connection()) as wire, Wire(one.connection()) as thief:
        ping = wire.out["control"].frames("ping")
        wire.send("control", "ping")
        assert wire.receive("control").type == "pong"
        job, sound = name(), noise(0.5)
        submit = wire.out["work"].frames("submit", SUBMIT | {"job": job, "num_samples": 24_000})
        wire.submit(job, num_samples=24_000)
        for _ in range(10):
            for each in (wire, thief):
                each.raw("control", ping)
                each.raw("work", submit)
        assert silent(thief)
        assert silent(thief, "work")
        wire.upload(job, sound)
        np.testing.assert_array_equal(wire.result(job)[0], echo_of(sound))


def test_what_is_torn_or_altered_anywhere_gets_no_answer():
    with attacked() as one, Wire(one.connection()) as wire:
        good = [bytes(f) for f in wire.out["control"].frames("cancel", {"job": "x" * 32})]
        with Wire(one.connection(), hello=False) as thief:
            for i, frame in enumerate(good):
                thief.raw("control", good[:i] or [b""])
                thief.raw("control", [*good[:i], frame[:-1], *good[i + 1 :]])
                thief.raw("control", [*good[:i], frame + b" ", *good[i + 1 :]])
                for place in range(0, len(frame), 7):
                    flipped = bytearray(frame)
                    flipped[place] ^= 1
                    thief.raw("control", [*good[:i], bytes(flipped), *good[i + 1 :]])
            thief.raw("control", [*good, b""])
            thief.raw("control", [good[0], good[1], good[3], good[2]])
            thief.raw("control", good[::-1])
            for socket in ("control", "work"):
                for size in (0, 1, 4, 5, 6, 7, 100, 1000):
                    thief.raw(socket, [b""] * size or [b""])
                    thief.raw(socket, [b"ASB1"] * max(1, size))
            assert silent(thief)
            assert silent(thief, "work")
        assert wire.ask("ping").type == "pong"


def test_messages_in_another_order_end_the_session_and_not_the_daemon():
    with attacked() as one, Wire(one.connection()) as wire:
        first = wire.out["control"].frames("ping")
        wire.out["control"].sent()
        second = wire.out["control"].frames("status")
        wire.raw("control", second)
        answer = wire.receive("control")
        assert (answer.type, answer["code"]) == ("error", "E_SEQUENCE")
        wire.raw("control", first)
        assert wire.receive("control").type == "pong"
    with attacked() as one, Wire(one.connection()) as wire:
        job, out = name(), wire.out["work"]
        wire.submit(job, num_samples=9600)
        out.sent()  # as if a message were lost
        wire.audio(job, noise(0.1))
        assert wire.until("error")["code"] == "E_SEQUENCE"


def test_frames_that_are_too_big_and_too_many_end_the_connection_at_most():
    with attacked() as one:
        for endpoint in endpoints(one):
            with RawPeer(endpoint) as peer, contextlib.suppress(OSError):
                peer.socket.sendall(b"\x02" + (1 << 62).to_bytes(8, "big") + bytes(1000))
                peer.heard(0.2)
            with RawPeer(endpoint) as peer, contextlib.suppress(OSError):
                peer.frame(bytes(9 << 20), more=False)
                peer.heard(0.2)
            with RawPeer(endpoint) as peer, contextlib.suppress(OSError):
                for _ in range(5000):
                    peer.frame(b"ASB1")
                peer.frame(b"", more=False)
                peer.heard(0.2)


@pytest.mark.parametrize("size", [1 << 20, 64])
@pytest.mark.parametrize("which", ["control", "work", "events"])
def test_a_message_that_never_ends_is_cut_off(which, size):
    """libzmq keeps all frames of it: memory is watched, and what fills it is dropped."""
    limit = 160 * MIB
    with attacked("--memory-bytes", str(limit), ceiling=CEILING_OF_ENDLESS) as one:
        endpoint = getattr(one.connection().endpoints, which)
        kind = b"SUB" if which == "events" else b"DEALER"
        sent, dropped = 0, 0
        block = (b"\x03" + size.to_bytes(8, "big") + bytes(size)) * max(1, (1 << 18) // size)
        while dropped < 3 and sent < 20_000 * MIB:
            with RawPeer(endpoint, kind) as peer:
                try:
                    while sent < 20_000 * MIB:
                        peer.socket.sendall(block)
                        sent += len(block)
                except OSError:
                    dropped += 1
            if which == "events" and dropped:
                break
        assert dropped
        wait_for(lambda: one.family()[0].memory_info().rss < limit)
        serves(one)


def test_subscriptions_without_end_are_cut_off():
    """A publisher keeps every prefix that a listener names."""
    limit = 160 * MIB
    with attacked("--memory-bytes", str(limit), ceiling=CEILING_OF_ENDLESS) as one:
        endpoint, sent = one.connection().endpoints.events, 0
        with RawPeer(endpoint, b"SUB") as peer:
            try:
                while sent < 3_000_000:
                    topics = (b"\x01" + secrets.token_bytes(200) for _ in range(1000))
                    peer.socket.sendall(b"".join(b"\x00\xc9" + one for one in topics))
                    sent += 1000
            except OSError:
                pass
        assert sent < 3_000_000
        wait_for(lambda: one.family()[0].memory_info().rss < limit)


def test_a_flood_of_hellos_locks_nobody_out_for_long():
    with attacked() as one, Wire(one.connection()) as honest:
        assert honest.ask("ping").type == "pong"
        with contextlib.ExitStack() as stack:
            flood = [stack.enter_context(Wire(one.connection(), hello=False)) for _ in range(4)]
            for wire in flood:
                for _ in range(300):
                    wire.raw("control", encode(wire.hello_message(), wire.connection.key_bytes))
            assert honest.ask("ping").type == "pong"
            with patient_wire(one, 5) as wire:  # while all of these are there
                assert wire.ask("ping").type == "pong"
                assert len(wire.ask("status")["status"]["sessions"]) <= 256
            assert honest.ask("ping").type == "pong"


def test_a_full_house_is_busy_and_empties_by_itself():
    with attacked() as one:
        with contextlib.ExitStack() as stack:
            guests = []
            for i in range(256):
                wire = stack.enter_context(Wire(one.connection(), client=f"{i} \u2603" * 20))
                wire.send("control", "ping")
                wire.receive("control")
                guests.append(wire)
                if i % 32 == 0:
                    for guest in guests:
                        guest.send("control", "ping")
            late = stack.enter_context(Wire(one.connection(), hello=False))
            refused = late.hello()
            assert (refused.type, refused["code"]) == ("refused", "E_BUSY")
            assert len(guests[-1].ask("status")["status"]["sessions"]) == 256
        serves(one)


def test_a_replier_that_is_not_read_is_dropped_and_others_are_served():
    """Status replies and events that nobody takes: bounded by what a socket may queue."""
    with attacked() as one, Wire(one.connection()) as lazy:
        context = zmq.Context()
        listener = context.socket(zmq.SUB)
        listener.setsockopt(zmq.RCVHWM, 1)
        listener.subscribe(b"")
        listener.connect(one.connection().endpoints.events)
        for _ in range(20_000):
            lazy.send("control", "status")
        for i in range(200):
            lazy.send("work", "submit", SUBMIT | {"job": f"{i}", "source": "stream"})
        serves(one)
        listener.close(0)
        context.term()
