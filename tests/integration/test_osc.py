"""OSC against real sockets and real peers: it answers, it is bounded, it does no harm."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pythonosc.udp_client import SimpleUDPClient

from audiosr_core.presets import list_presets
from audiosr_core.settings import KNOBS, Settings
from bridge import osc
from bridge.errors import CODES, ProtocolError, UnsupportedError
from bridge.instances import to_fader
from bridge.osc import ALIASES, Board, OscServer, messages_of, packet_of
from tests.support.osc import FakeService, Surface

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def service() -> FakeService:
    made = FakeService()
    made.instances.open("vox", {"seed": 7}, "session")
    return made


@pytest.fixture
def server(service: FakeService) -> Iterator[OscServer]:
    one = OscServer("127.0.0.1", 0, service)
    one.port = one.start()  # type: ignore[attr-defined]
    yield one
    one.stop()


@pytest.fixture
def surface(server: OscServer) -> Iterator[Surface]:
    with Surface(server.port) as one:  # type: ignore[attr-defined]
        yield one


class ByHand:
    """A server without a thread and with a clock: a test says what comes and when."""

    def __init__(self, service: FakeService, **more: Any) -> None:
        self.clock = Clock()
        self.server = OscServer("127.0.0.1", 0, service, clock=self.clock, **more)
        port = self.server.open()
        assert port is not None
        self.surfaces = [Surface(port)]

    def more(self) -> Surface:
        self.surfaces.append(Surface(self.surfaces[0]._to[1]))
        return self.surfaces[-1]

    def say(self, surface: Surface, address: str, *arguments: Any) -> list[tuple[str, list[Any]]]:
        self.server.take(packet_of(address, *arguments), surface.peer)
        return surface.waiting()

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        for _ in range(round(seconds / step)):
            self.clock.now += step
            self.server.tick()

    def close(self) -> None:
        self.server.stop()
        for one in self.surfaces:
            one.socket.close()


@pytest.fixture
def by_hand(service: FakeService) -> Iterator[ByHand]:
    one = ByHand(service)
    yield one
    one.close()


def until(done: Callable[[], bool], what: str) -> None:
    """Of another process, which cannot be waited for otherwise."""
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.01)


# ---- questions and answers


def test_ping_and_info(surface):
    surface.send("/audiosr/ping")
    assert [type(one) for one in surface.wait("/audiosr/pong")] == [str, str]
    device, model, jobs, megabytes, _ = surface.ask("/audiosr/info")
    assert (device, model, jobs, megabytes) == ("cpu", "lite", 0, 123.0)
    assert surface.ask("/audiosr/instance/list") == ["vox"]


@pytest.mark.parametrize("name", [*KNOBS, *ALIASES])
def test_every_knob_can_be_asked_for_and_turned(surface, service, name):
    knob = KNOBS[ALIASES.get(name, name)]
    address = f"/audiosr/vox/{name}"
    (value,) = surface.ask(address)
    assert value == pytest.approx(getattr(service.instances.get("vox").settings, knob.name))
    ends = knob.choices or (["lite", "audiosr-basic"] if knob.is_text else None)
    for wanted in ends or (knob.minimum, knob.maximum, *knob.words):
        surface.send(address, wanted)
        assert surface.ask(address)[0] == pytest.approx(wanted)  # after the first, in order
        kept = getattr(service.instances.get("vox").settings, knob.name)
        assert kept == wanted  # exactly, although a float32 came
        place = to_fader(knob, kept)
        if place is not None:
            surface.send(f"{address}/norm", place)
            assert surface.ask(f"{address}/norm")[0] == pytest.approx(place)
            assert getattr(service.instances.get("vox").settings, knob.name) == wanted
    assert surface.waiting() == []


@pytest.mark.parametrize(
    ("value", "kept"), [(1, 1.0), (1.0, 1.0), (True, 1.0), (False, 0.0), (0.1, 0.1), ("0.25", 0.25)]
)
def test_int_float_bool_and_text_are_all_numbers(surface, service, value, kept):
    typed = b"/audiosr/vox/mix\0\0\0\0"
    if isinstance(value, bool):
        surface.raw(typed + (b",T\0\0" if value else b",F\0\0"))
    else:
        surface.send("/audiosr/vox/mix", value)
    assert surface.ask("/audiosr/vox/mix")[0] == pytest.approx(kept)
    assert service.instances.get("vox").settings.mix == kept


def test_a_touch_surface_sends_one_on_press_and_zero_on_release(surface, service):
    for button in ("render", "audition", "cancel"):
        surface.send(f"/audiosr/vox/{button}", 1.0)
        surface.send(f"/audiosr/vox/{button}", 0.0)
    surface.send("/audiosr/vox/render")  # a script has nothing to release
    for value in (1.0, 0.0, 1, 0):
        surface.send("/audiosr/vox/bypass", value)
        assert surface.ask("/audiosr/vox/bypass") == [int(value)]
    assert service.asked == [
        *((button, "vox", 1.0) for button in ("render", "audition", "cancel", "render")),
        *(("bypass", "vox", float(on)) for on in (1, 0, 1, 0)),
    ]


def test_a_preset_sets_every_knob(surface, service):
    for preset in list_presets():
        if preset.settings().model in service.info()["models"]:
            surface.send("/audiosr/vox/preset", preset.name)
            surface.ask("/audiosr/vox/mix")
            assert service.instances.get("vox").settings == preset.settings(), preset.name
    assert service.instances.get("vox").settings != Settings()


def test_jobs(surface, service):
    service.known_jobs = [
        {"job": f"job{n}", "state": "running", "fraction": n / 100, "eta_seconds": None}
        for n in range(100)
    ]
    assert surface.ask("/audiosr/job/list") == [100]
    listed = [surface.next() for _ in range(osc.LISTED_JOBS)]
    assert listed[-1][0] == "/audiosr/job/job99/progress"
    assert listed[-1][1] == ["running", pytest.approx(0.99), -1.0]
    surface.send("/audiosr/job/job5/cancel", 0.0)
    surface.send("/audiosr/job/job5/cancel", 1.0)
    surface.send("/audiosr/job/job6/cancel")
    surface.send("/audiosr/ping")
    surface.wait("/audiosr/pong")
    assert service.asked == [("cancel job", "job5"), ("cancel job", "job6")]


@pytest.mark.parametrize(
    ("address", "arguments", "code"),
    [
        ("/", [], "E_UNSUPPORTED"),
        ("/audiosr", [], "E_UNSUPPORTED"),
        ("/other/thing", [1], "E_UNSUPPORTED"),
        ("/audiosr/nothing", [], "E_UNSUPPORTED"),
        ("/audiosr/vox/mix/norm/x", [1], "E_UNSUPPORTED"),
        ("/audiosr/*/mix", [1], "E_JOB"),
        ("/audiosr/bass/mix", [1], "E_JOB"),
        ("/audiosr/bass/render", [1], "E_JOB"),
        ("/audiosr/job/none/cancel", [1], "E_JOB"),
        ("/audiosr/vox/mix", [1.5], "E_SETTINGS"),
        ("/audiosr/vox/mix", ["loud"], "E_SETTINGS"),
        ("/audiosr/vox/mix", [float("nan")], "E_SETTINGS"),
        ("/audiosr/vox/mix", [float("inf")], "E_SETTINGS"),
        ("/audiosr/vox/mix", [0.1, 0.2], "E_USAGE"),
        ("/audiosr/vox/mix/norm", [1.5], "E_SETTINGS"),
        ("/audiosr/vox/mix/norm", ["x"], "E_USAGE"),
        ("/audiosr/vox/model/norm", [0.5], "E_SETTINGS"),
        ("/audiosr/vox/sampler", [99], "E_SETTINGS"),
        ("/audiosr/vox/loudness", [1], "E_SETTINGS"),
        ("/audiosr/vox/state", [1], "E_SETTINGS"),
        ("/audiosr/vox/bypass", ["x"], "E_USAGE"),
        ("/audiosr/vox/render", [float("nan")], "E_USAGE"),
        ("/audiosr/vox/model", ["audiosr-speech"], "E_MODEL"),
        ("/audiosr/vox/model", ["/etc/passwd"], "E_MODEL"),
        ("/audiosr/vox/model", [3], "E_SETTINGS"),
        ("/audiosr/vox/preset", ["../../etc/passwd"], "E_USAGE"),
        ("/audiosr/vox/preset", ["/tmp/x.toml"], "E_USAGE"),
        ("/audiosr/vox/preset", ["x.toml"], "E_USAGE"),
        ("/audiosr/vox/preset", [1], "E_USAGE"),
        ("/audiosr/vox/preset", ["nothing like it"], "E_SETTINGS"),
        ("/audiosr/vox/preset", ["audiosr-reference"], ""),
        ("/audiosr/subscribe", ["x"], "E_USAGE"),
        ("/audiosr/subscribe", [-1], "E_USAGE"),
        ("/audiosr/subscribe", [70_000], "E_USAGE"),
        ("/audiosr/subscribe", [0.5], "E_USAGE"),
        ("/audiosr/subscribe", [float("inf")], "E_USAGE"),
    ],
)
def test_what_is_refused_is_answered(surface, service, address, arguments, code):
    before = service.instances.get("vox").settings
    surface.send(address, *arguments)
    if not code:
        return
    told, text, where = surface.wait("/audiosr/error")
    assert (told, where) == (code, address)
    assert told in CODES
    assert 10 < len(text) < 400
    assert service.instances.get("vox").settings == before
    assert not service.asked


def test_a_bug_in_the_daemon_is_told_and_survived(surface, service):
    service.broken = True
    surface.send("/audiosr/info")
    assert surface.wait("/audiosr/error")[0] == "E_INTERNAL"
    service.broken = False
    assert surface.ask("/audiosr/info")


@pytest.mark.parametrize("address", ["/audiosr/error", "/audiosr/pong"])
def test_our_own_words_are_not_answered(by_hand, address):
    assert by_hand.say(by_hand.surfaces[0], address, "E_BUSY", "x", "y") == []


# ---- feedback


def test_feedback_comes_at_its_pace_and_the_last_word_always(by_hand, service):
    fast, slow = by_hand.surfaces[0], by_hand.more()
    by_hand.say(fast, "/audiosr/subscribe", 0, 1000.0)
    by_hand.say(slow, "/audiosr/subscribe", 0, 2.0)
    by_hand.pass_time(5)
    for one in (fast, slow):
        everything = dict(one.waiting())
        assert everything["/audiosr/vox/seed"] == [7]
        assert everything["/audiosr/vox/state"] == ["idle", 0.0, -1.0, ""]
        assert everything["/audiosr/vox/crossover"] == ["auto"]
    for n in range(400):  # ten seconds of a moving fader
        service.set_setting("vox", "mix", n / 399)
        by_hand.pass_time(0.025, step=0.025)
    by_hand.pass_time(1)
    for one, hertz in ((fast, osc.FEEDBACK_HZ), (slow, 2.0)):
        came = [arguments[0] for address, arguments in one.waiting() if address.endswith("/mix")]
        assert 0.5 * hertz * 10 <= len(came) <= hertz * 11 + 1
        assert came == sorted(came)
        assert came[-1] == 1.0
    by_hand.pass_time(1)
    assert fast.waiting() == slow.waiting() == []  # nothing new, nothing said


def test_a_lease_ends_unless_it_is_renewed(by_hand, service):
    kept, lost = by_hand.surfaces[0], by_hand.more()
    for one in (kept, lost):
        by_hand.say(one, "/audiosr/subscribe")
    by_hand.pass_time(50)
    by_hand.say(kept, "/audiosr/subscribe")
    by_hand.pass_time(15)
    kept.waiting(), lost.waiting()
    service.set_setting("vox", "mix", 0.5)
    by_hand.pass_time(1)
    assert ("/audiosr/vox/mix", [0.5]) in kept.waiting()
    assert lost.waiting() == []
    by_hand.say(kept, "/audiosr/unsubscribe")
    service.set_setting("vox", "mix", 0.25)
    by_hand.pass_time(1)
    assert kept.waiting() == []


def test_feedback_to_another_port_of_the_same_machine(by_hand, service):
    asks, hears = by_hand.surfaces[0], by_hand.more()
    assert by_hand.say(asks, "/audiosr/subscribe", hears.port, 5) == [
        ("/audiosr/subscribe", [hears.port, 5.0, 60.0])
    ]
    by_hand.pass_time(1)
    assert ("/audiosr/vox/seed", [7]) in hears.waiting()
    assert asks.waiting() == []
    by_hand.say(asks, "/audiosr/unsubscribe", hears.port)
    service.set_setting("vox", "mix", 0.25)
    by_hand.pass_time(1)
    assert hears.waiting() == []


def test_subscribers_are_counted(by_hand):
    asks = by_hand.surfaces[0]
    for port in range(20_000, 20_000 + osc.SUBSCRIBERS):
        assert by_hand.say(asks, "/audiosr/subscribe", port)[0][0] == "/audiosr/subscribe"
    assert by_hand.say(asks, "/audiosr/subscribe", 30_000)[0][1][0] == "E_BUSY"
    assert by_hand.say(asks, "/audiosr/subscribe", 20_000)[0][0] == "/audiosr/subscribe"
    by_hand.clock.now += 61
    assert by_hand.say(asks, "/audiosr/subscribe", 30_000)[0][0] == "/audiosr/subscribe"


def test_the_state_of_jobs_and_instances_is_told_to_the_end(by_hand, service):
    surface = by_hand.surfaces[0]
    service.known_jobs = [
        {"job": "old", "state": "done", "fraction": 1.0, "eta_seconds": None},
        {"job": "new", "state": "running", "fraction": 0.25, "eta_seconds": 9.5},
    ]
    service.instances.job_state("vox", {**service.known_jobs[1]})
    by_hand.say(surface, "/audiosr/subscribe")
    by_hand.pass_time(2)
    told = dict(surface.waiting())
    assert told["/audiosr/job/new/progress"] == ["running", 0.25, 9.5]
    assert told["/audiosr/vox/state"] == ["running", 0.25, 9.5, ""]
    assert "/audiosr/job/old/progress" not in told

    service.known_jobs[1] = {"job": "new", "state": "done", "fraction": 1.0, "eta_seconds": 0.0}
    service.instances.close("vox")
    by_hand.pass_time(1)
    told = dict(surface.waiting())
    assert told["/audiosr/job/new/progress"] == ["done", 1.0, 0.0]
    assert told["/audiosr/vox/state"] == ["closed", 0.0, -1.0, ""]

    service.instances.open("vox", {}, "another")
    by_hand.pass_time(1)
    assert dict(surface.waiting())["/audiosr/vox/state"][0] == "idle"


def test_the_board_does_not_grow_with_what_is_gone(by_hand, service):
    surface = by_hand.surfaces[0]
    for n in range(3000):
        if n % 500 == 0:
            by_hand.say(surface, "/audiosr/subscribe")
        name = f"i{n}"
        service.instances.open(name, {}, "session")
        service.known_jobs = [{"job": f"j{n}", "state": "running", "fraction": 0.0}]
        by_hand.pass_time(0.1, step=0.1)
        service.instances.close(name)
    assert len(by_hand.server._board._entries) < osc.LEAVING + 200
    assert len(by_hand.server._leaving) <= osc.LEAVING


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=50), st.data())
def test_a_board_tells_each_reader_the_last_word(words, data):
    board, latest, seen, heard = Board(), {}, 0, {}
    for address, value in words:
        board.put(address, value)
        latest[address] = (value,)
        if data.draw(st.booleans()):
            for at, told, arguments in board.since(seen, 2):
                heard[told], seen = arguments, at
    while news := board.since(seen, 2):
        for at, told, arguments in news:
            heard[told], seen = arguments, at
    assert heard == latest


# ---- garbage and floods


def bundle(*parts: bytes) -> bytes:
    return b"#bundle\0" + bytes(7) + b"\1" + b"".join(struct.pack(">i", len(p)) + p for p in parts)


PING = packet_of("/audiosr/ping")
SOME = st.binary(max_size=60) | st.sampled_from([PING, b"/a\0\0,i\0\0\0\0\0\1", b"/a\0\0,[]\0"])


@given(
    SOME
    | st.lists(SOME, max_size=40).map(lambda parts: bundle(*parts))
    | st.binary(max_size=99).map(lambda rest: b"#bundle\0" + rest)
    | st.binary(max_size=99).map(lambda rest: b"/a\0\0," + rest)
)
@settings(max_examples=1000, deadline=500)
def test_any_packet_is_messages_or_a_protocol_error(packet):
    try:
        found = messages_of(packet)
    except ProtocolError:
        return
    assert all(address.startswith("/") for address, _ in found)
    assert all(isinstance(one, int | float | str) for _, params in found for one in params)


@pytest.mark.parametrize("size", [0, -4, -8, 1, 3, 2**31 - 1, -(2**31), 1000])
def test_sizes_that_lie(size):
    packet = b"#bundle\0" + bytes(8) + struct.pack(">i", size) + PING
    with pytest.raises(ProtocolError):
        messages_of(packet)


@pytest.mark.parametrize(
    "packet",
    [
        bytes(osc.PACKET_BYTES + 4),
        bundle(bundle(PING)),
        bundle(*[PING] * (osc.BUNDLE_MESSAGES + 1)),
        b"/a\0\0,b\0\0\0\0\0\0",
        b"/a\0\0,[i]\0\0\0\0\0\0\0\0",
        b"/a\0\0,N\0\0",
    ],
    ids=["long", "nested", "many", "blob", "array", "nil"],
)
def test_too_much_is_refused_and_told(surface, packet):
    with pytest.raises(UnsupportedError):
        messages_of(packet)
    surface.raw(packet)
    assert surface.wait("/audiosr/error")[0] == "E_UNSUPPORTED"


def test_a_bundle_does_all_that_is_in_it(surface, service):
    parts = [packet_of("/audiosr/vox/seed", n) for n in range(osc.BUNDLE_MESSAGES)]
    surface.raw(bundle(*parts))
    assert surface.ask("/audiosr/vox/seed") == [osc.BUNDLE_MESSAGES - 1]
    assert len(service.asked) == osc.BUNDLE_MESSAGES


def test_malformed_packets_are_counted_and_neither_logged_nor_answered(by_hand, caplog):
    surface = by_hand.surfaces[0]
    caplog.set_level("DEBUG")
    junk = [b"", b"x", b"/", b"/a", b"/a\0\0,", b"/a\0\0,i\0\0", b"GET / HTTP/1.1\r\n\r\n",
            b"#bundle\0", bundle(b"xxxx"), b"/\xff\0\0,\0\0\0"]  # fmt: skip
    for packet in junk * 20:
        by_hand.server.take(packet, surface.peer)
    assert surface.waiting() == []
    assert by_hand.server.refused["malformed"] >= len(junk) * 20 - 20
    assert len(caplog.records) == 0
    by_hand.pass_time(0.1)
    assert len(caplog.records) <= 1


def test_a_flood_is_survived(server, surface, service):
    rss = psutil.Process().memory_info().rss
    packets = [
        packet_of("/audiosr/vox/mix", 0.5),
        packet_of("/audiosr/nothing"),
        b"junk",
        bundle(*[packet_of("/audiosr/vox/seed", 1)] * 32),
        bytes(osc.PACKET_BYTES + 100),
    ]
    for n in range(20_000):
        surface.raw(packets[n % len(packets)])
    assert psutil.Process().memory_info().rss - rss < 20 << 20
    with Surface(server.port) as other:  # another surface is not kept out
        other.socket.settimeout(0.5)
        for _ in range(20):
            other.send("/audiosr/ping")
            try:
                assert other.wait("/audiosr/pong")
                break
            except TimeoutError:  # the system's queue was full
                continue
        else:
            pytest.fail("no answer after a flood")
    assert sum(server.refused.values()) > 0


def test_a_sender_that_is_too_fast_is_told_once_a_second(by_hand):
    surface = by_hand.surfaces[0]
    for _ in range(3 * int(osc.SENDER_BURST)):
        by_hand.server.take(b"/audiosr/pong\0\0\0", surface.peer)
    assert [arguments[0] for _, arguments in surface.waiting()] == ["E_BUSY"]
    other = by_hand.more()
    assert by_hand.say(other, "/audiosr/ping")[0][0] == "/audiosr/pong"
    by_hand.clock.now += 10
    assert by_hand.say(surface, "/audiosr/ping")[0][0] == "/audiosr/pong"


def test_ten_thousand_senders_take_no_memory(by_hand):
    for n in range(10_000):
        by_hand.server.take(b"/audiosr/pong\0\0\0", ("127.0.0.1", 1024 + n))
    assert len(by_hand.server._senders) <= osc.SENDERS
    by_hand.clock.now += 10
    assert by_hand.say(by_hand.surfaces[0], "/audiosr/ping")[0][0] == "/audiosr/pong"


# ---- who may


def test_a_token_is_wanted_from_each_sender(service):
    one = ByHand(service, token="let me in, please")
    try:
        surface, other = one.surfaces[0], one.more()
        assert one.say(surface, "/audiosr/ping")[0][0] == "/audiosr/pong"
        assert one.say(surface, "/audiosr/vox/mix")[0][1][0] == "E_USAGE"
        assert one.say(surface, "/audiosr/auth", "let me in")[0][0] == "/audiosr/error"
        assert one.say(surface, "/audiosr/auth", "let me in, please") == [("/audiosr/auth", [1])]
        assert one.say(surface, "/audiosr/vox/mix") == [("/audiosr/vox/mix", [1.0])]
        assert one.say(other, "/audiosr/vox/mix")[0][0] == "/audiosr/error"
        for n in range(10):
            one.say(other, "/audiosr/auth", f"guess {n}")
        assert one.say(other, "/audiosr/auth", "let me in, please")[0][1][0] == "E_BUSY"
        one.clock.now += 2
        assert one.say(other, "/audiosr/auth", "let me in, please") == [("/audiosr/auth", [1])]
    finally:
        one.close()


def test_without_a_token_every_one_is_right(surface):
    assert surface.ask("/audiosr/auth", "anything") == [1]


# ---- life


def test_a_busy_port_is_no_error(service, caplog):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        one = OscServer("127.0.0.1", port, service)
        got = one.start()
        try:
            assert got not in (None, port)
            assert "port busy" in caplog.text
            with Surface(got) as surface:
                assert surface.ask("/audiosr/info")
        finally:
            one.stop()


def test_a_host_that_is_not_ours_is_no_error(service, caplog):
    assert OscServer("192.0.2.1", 9000, service).start() is None
    assert "no OSC" in caplog.text


def test_listening_to_everyone_warns(service, caplog):
    one = OscServer("0.0.0.0", 0, service)
    one.start()
    one.stop()
    assert "beyond this machine" in caplog.text


def test_stop_is_quick_even_in_a_flood_and_frees_the_port(service):
    one = OscServer("127.0.0.1", 0, service)
    port = one.start()
    with Surface(port) as surface:
        for _ in range(2000):
            surface.send("/audiosr/vox/mix", 0.5)
        began = time.monotonic()
        one.stop()
        assert time.monotonic() - began < osc.STOP_SECONDS
    one.stop()
    again = OscServer("127.0.0.1", port, service)
    assert again.start() == port
    again.stop()


# ---- other people's software


def test_python_osc_speaks_with_it(server, service):
    client = SimpleUDPClient("127.0.0.1", server.port)
    client.send_message("/audiosr/vox/mix", 0.25)
    client.send_message("/audiosr/vox/cutoff", "follow")
    client.send_message("/audiosr/vox/steps", 40)
    until(lambda: len(service.asked) == 3, "three knobs turned")
    assert service.instances.get("vox").settings == Settings(
        seed=7, mix=0.25, cutoff="follow", steps=40
    )


def test_liblo_speaks_with_it(server, service, tmp_path):
    if not (shutil.which("oscsend") and shutil.which("oscdump")):
        pytest.skip("oscsend and oscdump are not installed: apt install liblo-tools")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    heard = tmp_path / "heard"

    def send(*words: str) -> None:
        subprocess.run(["oscsend", "127.0.0.1", str(server.port), *words], check=True, timeout=10)

    with heard.open("w") as file:
        dump = subprocess.Popen(["oscdump", "-L", str(port)], stdout=file)
    try:
        until(lambda: _listens(port), "oscdump is there")
        send("/audiosr/subscribe", "if", str(port), "10")
        until(lambda: "/audiosr/vox/seed i 7" in heard.read_text(), "everything was told")
        send("/audiosr/vox/mix", "f", "0.125")
        send("/audiosr/vox/steps", "i", "30")
        send("/audiosr/vox/bypass", "T")
        send("/audiosr/vox/joins", "s", "joint")
        send("/audiosr/vox/transition/norm", "d", "1")
        for line in (
            "/audiosr/vox/mix f 0.125",
            "/audiosr/vox/steps i 30",
            "/audiosr/vox/bypass i 1",
            '/audiosr/vox/joins s "joint"',
            "/audiosr/vox/transition f 0.500",
        ):
            until(lambda line=line: line in heard.read_text(), line)
    finally:
        dump.kill()
        dump.wait(10)


def _listens(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


# ---- the page


def test_the_page_has_every_address_and_every_knob():
    page = (ROOT / "docs/osc.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in page.splitlines()
        if line.startswith("| `/audiosr/")
    ]
    assert rows == [[f"`{a.address}`", a.arguments, a.way, a.meaning] for a in osc.ADDRESSES]
    knobs = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    aliases = {knob: name for name, knob in ALIASES.items()}
    assert knobs == [
        (name, f"`{aliases[name]}`" if name in aliases else "", _values(KNOBS[name]))
        for name in KNOBS
    ]


def _values(knob: Any) -> str:
    if knob.choices:
        return ", ".join(f"{n} `{word}`" for n, word in enumerate(knob.choices))
    if knob.is_text:
        return "text"
    unit = f" {knob.unit}" if knob.unit else ""
    words = "".join(f", `{word}`" for word in knob.words)
    return f"{knob.minimum:.10g} … {knob.maximum:.10g}{unit}{words}"


@pytest.mark.parametrize("file", sorted((ROOT / "presets/osc").iterdir()), ids=lambda f: f.name)
def test_shipped_surfaces_use_only_addresses_there_are(file):
    """Every address in a layout is one of the table, with a knob or a button that exists."""
    found = re.findall(r"/audiosr/[\w/]+", file.read_text("utf-8"))
    assert found
    for address in found:
        assert _known(address), address


def _known(address: str) -> bool:
    for one in osc.ADDRESSES:
        pattern = re.escape(one.address).replace("<id>", r"[a-z0-9_-]+").replace("<job>", r"\w+")
        names = "|".join([*KNOBS, *ALIASES])
        if re.fullmatch(pattern.replace("<knob>", f"({names})"), address):
            return True
    return False
