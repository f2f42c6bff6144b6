"""The plugin's link, compiled, against a real daemon, and against peers that are none."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiosr_core.settings import Settings
from bridge.protocol import VERSION
from tests.support.bridge_engines import gain_of
from tests.support.daemon import RunningDaemon, daemon
from tests.support.fake_daemon import FakeDaemon, high_of
from tests.support.native import build

ENGINES = "tests.support.bridge_engines"
PARTS = ("link", "wire", "zmtp", "json", "sha256", "places")

pytestmark = pytest.mark.timeout(90)


def noise(num_channels: int, num_samples: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((num_channels, num_samples))
    return (0.1 * made).astype(np.float32)


class Linked:
    """One run of the program; lines of what it was told."""

    def __init__(self, runtime: Path, x: np.ndarray | None = None, **words: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="asb"))
        self.x = np.zeros((1, 0), np.float32) if x is None else x
        if x is not None:
            (self.folder / "in").write_bytes(x.tobytes())
            words = {"rate": 48_000, "channels": x.shape[0], **words}
        words |= {"in": self.folder / "in", "out": self.folder / "out"}
        program = build("link", *PARTS, sanitize=True)
        self.process = subprocess.Popen(
            [program, runtime, *(f"{name}={value}" for name, value in words.items())],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Linked:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.folder)

    def until(self, event: str) -> dict[str, Any]:
        """The next event of this kind, waited for."""
        assert self.process.stdout
        for line in self.process.stdout:
            told = json.loads(line)
            if told.get("event") == event:
                return dict(told)
        raise AssertionError(f"{event} never came: {self.process.communicate()}")

    def ended(self, timeout: float = 60) -> tuple[int, list[dict[str, Any]]]:
        out, error = self.process.communicate(timeout=timeout)
        assert "Sanitizer" not in error, error[-4000:]
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]

    def high(self, job: int = 0) -> np.ndarray:
        made = np.frombuffer((self.folder / f"out.{job}").read_bytes(), np.float32)
        return made.reshape(self.x.shape[0], -1)


@pytest.fixture(scope="module")
def echo() -> Iterator[RunningDaemon]:
    with daemon(engine=f"{ENGINES}:echo") as one:
        yield one


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [one["event"] for one in events]


@pytest.mark.parametrize(
    ("rate", "num_channels", "blocks"),
    [
        (44_100, 1, "1,7,4093"),
        (48_000, 2, "64,65536,3"),
        (48_000, 1, "1000000"),
        (96_000, 2, "577"),
    ],
)
def test_a_stream_is_what_the_client_gets(echo, rate, num_channels, blocks):
    x = noise(num_channels, 20 * rate + 13, rate)
    asked = json.dumps({"seed": 7})
    with Linked(echo.runtime, x, rate=rate, settings=asked, blocks=blocks) as link:
        code, events = link.ended()
        assert code == 0, events
        high = link.high()
    assert np.array_equal(high, x * gain_of(7))

    starts = [(one["start"], one["size"]) for one in events if one["event"] == "partial"]
    assert [a + n for a, n in starts] == [a for a, _ in starts[1:]] + [x.shape[1]]
    decided = next(one for one in events if one["event"] == "decided")
    assert decided["stride"] == decided["latency"] == round(0.1 * rate)
    assert decided["model_sha256"] == "0" * 64
    with echo.client() as client, client.open(rate, num_channels, Settings(seed=7)) as stream:
        theirs = np.concatenate([stream.push(x, wait=None), stream.flush()], axis=1)
    assert np.array_equal(x + high, theirs)


@pytest.mark.skipif(VERSION < (1, 1), reason="streams of this daemon begin at 0")
@pytest.mark.parametrize("origin", [0, 1, 4800, 3 * 4800 + 17, 48_000 * 3600 * 24])
@pytest.mark.parametrize("live", [0, 1])
def test_a_stream_that_begins_anywhere(echo, origin, live):
    x = noise(2, 50_000)
    with Linked(echo.runtime, x, origin=origin, live=live, blocks="1000,77") as link:
        code, events = link.ended()
        assert code == 0, events
        high = link.high()
    start = next(one["start"] for one in events if one["event"] == "partial")
    assert start == (origin if live else origin // 4800 * 4800)
    assert not high[:, : origin - start].any()
    assert np.array_equal(high[:, origin - start :], x * gain_of(0))


@pytest.mark.skipif(VERSION < (1, 1), reason="streams of this daemon begin at 0")
def test_chunks_before_the_start_are_not_sent(echo):
    x = noise(1, 48_000)
    with Linked(echo.runtime, x, origin=4800, start=9600) as link:
        assert link.ended()[0] == 0
        assert np.array_equal(link.high(), x[:, 4800:] * gain_of(0))


def test_nothing_at_all_ends_too(echo):
    with Linked(echo.runtime, noise(2, 0)) as link:
        code, events = link.ended()
    assert code == 0, events
    assert "partial" not in kinds(events)


@pytest.mark.parametrize("credit", [1, 50_000])
def test_any_credit_gets_on(echo, credit):
    x = noise(2, 100_000)
    with Linked(echo.runtime, x, credit=credit) as link:
        assert link.ended()[0] == 0
        assert np.array_equal(link.high(), x * gain_of(0))


def test_a_slow_reader_gets_all(echo):
    x = noise(2, 30 * 4800)
    with Linked(echo.runtime, x, credit=40_000, pause=30) as link:
        assert link.ended()[0] == 0
        assert np.array_equal(link.high(), x * gain_of(0))


def test_jobs_beside_one_another(echo):
    x = noise(2, 100_000)
    with Linked(echo.runtime, x, jobs=5, blocks="333,4096") as link:
        assert link.ended()[0] == 0
        for job in range(5):
            assert np.array_equal(link.high(job), x * gain_of(0))


def test_a_cancelled_job_is_heard_of_no_more():
    with daemon(engine=f"{ENGINES}:slow") as one:
        with Linked(one.runtime, noise(1, 30_000), jobs=2, cancel=2) as link:
            code, events = link.ended()
            assert code == 0, events
        names = [told.get("job") for told in events]
        gone = next(told["job"] for told in events if told["event"] == "accepted")
        told = [i for i, event in enumerate(events) if event["event"] == "partial"]
        assert gone not in names[told[1] + 1 :]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_daemon_that_ends_is_lost_at_once(how):
    with daemon(engine=f"{ENGINES}:slow") as one:
        with Linked(one.runtime, noise(2, 480_000)) as link:
            link.until("decided")
            getattr(one, how)()
            code, events = link.ended(timeout=6)
        assert code == 3
        assert events[-1]["retryable"]
        assert events[-1]["code"] in ("E_NO_DAEMON", "E_STOPPING")


def test_a_daemon_that_falls_silent_is_lost():
    with daemon(engine=f"{ENGINES}:slow", BRIDGE_TEST_STEP_SECONDS=30) as one:
        with Linked(one.runtime, noise(2, 480_000)) as link:
            link.until("accepted")
            os.kill(one.pid(), signal.SIGSTOP)
            try:
                code, events = link.ended(timeout=15)
            finally:
                os.kill(one.pid(), signal.SIGCONT)
        assert code == 3
        assert events[-1]["code"] == "E_TIMEOUT"


def test_an_error_of_the_engine_is_the_jobs():
    with daemon(engine=f"{ENGINES}:nan") as one, Linked(one.runtime, noise(1, 48_000)) as link:
        code, events = link.ended()
        assert code == 5
        assert events[-1]["code"] == "E_MODEL"
        assert "chunk 1" in events[-1]["text"]


@pytest.mark.parametrize("asked", ['{"model":"missing"}', '{"stepz":1}', '{"steps":"many"}'])
def test_settings_that_cannot_be(echo, asked):
    with Linked(echo.runtime, noise(1, 48_000), settings=asked) as link:
        code, events = link.ended()
    assert code == 5
    assert events[-1]["code"] in ("E_MODEL", "E_SETTINGS")
    assert events[-1]["text"]


# ---- daemons that are not there, or not ours


def refused(runtime: Path, **words: Any) -> dict[str, Any]:
    with Linked(runtime, **words) as link:
        code, (told,) = link.ended(20)
        assert code == 4
    assert told["text"]
    return told


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="asb") as name:
        yield Path(name)


def write(folder: Path, text: str) -> None:
    (folder / "daemon.json").write_text(text)
    (folder / "daemon.json").chmod(0o600)


def test_no_daemon(folder):
    assert refused(folder)["code"] == "E_NO_DAEMON"
    assert refused(folder / "nowhere")["code"] == "E_NO_DAEMON"


def test_a_daemon_that_was_killed(folder):
    with daemon() as one:
        text = one.connection_file.read_text()
        one.kill()
        write(one.runtime, text)
        assert refused(one.runtime)["code"] == "E_NO_DAEMON"


def test_a_connection_file_that_is_none(echo, folder):
    good = json.loads(echo.connection_file.read_text())
    away = {"control": "tcp://127.0.0.1:9", "work": "tcp://127.0.0.1:9", "events": "tcp://x:9"}
    for text in (
        "", "[]", "{}", "nonsense", json.dumps({**good, "key": "00"}),
        json.dumps({**good, "endpoints": None}), json.dumps({**good, "endpoints": away}),
        json.dumps({**good, "endpoints": {**good["endpoints"], "control": "ipc://" + "x" * 200}}),
    ):  # fmt: skip
        write(folder, text)
        assert refused(folder)["code"] == "E_NO_DAEMON", text
    write(folder, json.dumps({**good, "schema": 2}))
    assert refused(folder)["code"] == "E_VERSION"


def test_a_connection_file_that_others_may_read(echo, folder):
    write(folder, echo.connection_file.read_text())
    (folder / "daemon.json").chmod(0o644)
    assert refused(folder)["code"] == "E_NO_DAEMON"


def test_a_daemon_that_hangs():
    with daemon() as one:
        os.kill(one.pid(), signal.SIGSTOP)
        try:
            assert refused(one.runtime, timeout=300)["code"] == "E_TIMEOUT"
        finally:
            os.kill(one.pid(), signal.SIGCONT)


def test_a_wrong_key(echo, folder):
    write(folder, json.dumps({**json.loads(echo.connection_file.read_text()), "key": "ab" * 32}))
    assert refused(folder, timeout=500)["code"] == "E_TIMEOUT"


def test_somebody_who_wants_it_to_stop_need_not_wait(echo):
    assert refused(echo.runtime, stop=1, timeout=60_000)["code"]


@contextlib.contextmanager
def fake(folder: Path, **ways: Any) -> Iterator[FakeDaemon]:
    with FakeDaemon(folder, **ways) as one:
        one.connection.write_atomic(folder / "daemon.json")
        yield one


def test_another_major_version(folder):
    text = "this daemon speaks 2.x, the plugin 1.1; update the plugin"
    with fake(folder, refuse=("E_VERSION", text)):
        told = refused(folder)
    assert told == {"code": "E_VERSION", "text": text}


@pytest.mark.parametrize("ways", [{"silent": True}, {"wrong_key": True}])
def test_a_daemon_that_cannot_be_believed(folder, ways):
    with fake(folder, **ways):
        assert refused(folder, timeout=500)["code"] == "E_TIMEOUT"


def test_a_daemon_before_streams_had_an_origin(folder):
    with fake(folder), Linked(folder, noise(1, 1000), origin=4800) as link:
        code, events = link.ended()
        assert code == 5
        assert events[-1]["code"] == "E_VERSION"


def test_input_by_single_samples_and_forged_results(folder):
    x = noise(2, 700)
    with fake(folder, grant=11, forge=True), Linked(folder, x) as link:
        assert link.ended()[0] == 0
        assert np.array_equal(link.high(), high_of(x))


def test_no_room_for_a_sample_hangs_nobody(folder):
    with fake(folder, grant=1) as one, Linked(folder, noise(2, 700)) as link:
        link.until("accepted")
        one.stop()
        assert link.ended(timeout=6)[0] == 3


def test_a_message_that_is_missing_is_a_lost_daemon(folder):
    with fake(folder, skip_partial=True), Linked(folder, noise(2, 5000)) as link:
        code, events = link.ended()
        assert code == 3
        assert events[-1]["code"] == "E_SEQUENCE"


class Odd(FakeDaemon):
    """Says it a little differently."""

    def __init__(self, folder: Path, changes: dict[str, Any], **ways: Any) -> None:
        super().__init__(folder, **ways)
        self.changes = changes

    def _say(self, session, name, type, meta, audio=(), answers=None):
        change = self.changes.get(type, {})
        if type == "decided":
            meta, change = {**meta, "plan": {**meta["plan"], **change}}, {}
        super()._say(session, name, "new_in_1_9", {"job": None})
        super()._say(session, name, type, {**meta, **change}, audio, answers)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"progress": {"fraction": 7, "new": [1]}}, ""),
        ({"granted": {"job": "another"}, "partial": {"job": "another"}}, ""),
        ({"decided": {"stride_in": 0}}, "E_UNSUPPORTED"),
        ({"decided": {"past_in": -1}}, "E_UNSUPPORTED"),
        ({"decided": {"rate_out": 96_000}}, "E_UNSUPPORTED"),
        ({"partial": {"start": 5}}, "E_PROTOCOL"),
        ({"partial": {"parts": ["sound"]}}, "E_PROTOCOL"),
        ({"partial": {"num_channels": 1, "num_samples": 2 * 256}}, "E_PROTOCOL"),
        ({"partial": {"dtype": "f8", "num_samples": 128}}, "E_PROTOCOL"),
    ],
)
def test_a_daemon_that_is_a_little_odd(folder, changes, code):
    with Odd(folder, changes) as one:
        one.connection.write_atomic(folder / "daemon.json")
        with Linked(folder, noise(2, 2560)) as link:
            ended, events = link.ended()
        assert (ended, events[-1].get("code", "")) == (5 if code else 0, code)
        assert ("cancel" in one.types("control")) == bool(code)


# ---- peers that speak something else

GREETING = b"\xff" + b"\0" * 8 + b"\x7f\3\1NULL" + b"\0" * 48
READY = b"\4\x1a\5READY\x0bSocket-Type\0\0\0\6ROUTER"
PING = b"\4\7\4PING\0\1"


@contextlib.contextmanager
def peer(folder: Path, says: bytes, in_pieces: int = 0) -> Iterator[None]:
    """Says this to whoever connects, whatever comes; and hangs up."""
    path = folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        listener.settimeout(20)

        def serve() -> None:
            one, _ = listener.accept()
            with one, contextlib.suppress(OSError):
                one.settimeout(5)
                for at in range(0, len(says), in_pieces or len(says) or 1):
                    one.sendall(says[at : at + (in_pieces or len(says))])
                one.shutdown(socket.SHUT_WR)
                while one.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(25)
            path.unlink()


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9,
        GREETING[:63],
        GREETING,
        GREETING.replace(b"NULL", b"CURV"),
        GREETING + b"\6" + b"\xff" * 8,
        GREETING + READY + b"\2" + b"\x7f" + b"\0" * 7,
        GREETING + READY + b"\3" + (9 << 20).to_bytes(8, "big") + b"\0" * 100,
        GREETING + READY + b"\1\0" * 50,
        GREETING + READY + PING * 50 + b"\0\0" * 50,
        GREETING + READY + b"\1\4ASB1\1\0\1\2{}\0\2{}" * 20,
    ],
)
def test_a_peer_that_is_no_daemon(folder, says):
    text = {"endpoints": {n: f"ipc://{folder}/{n}.sock" for n in ("control", "work", "events")}}
    write(folder, json.dumps({**text, "key": "00" * 32}))
    with peer(folder, says):
        assert refused(folder, timeout=5000)["code"] in ("E_NO_DAEMON", "E_TIMEOUT")


def test_peers_that_say_anything(folder):
    text = {"endpoints": {n: f"ipc://{folder}/{n}.sock" for n in ("control", "work", "events")}}
    write(folder, json.dumps({**text, "key": "00" * 32}))
    dice = random.Random(3)
    for _ in range(15):
        says = bytearray(GREETING + READY + b"\1\4ASB1\1\x20" + bytes(32) + b"\1\2{}\0\2{}" * 3)
        for _ in range(dice.randrange(1, 6)):
            says[dice.randrange(12, len(says))] = dice.randrange(256)
        with peer(folder, bytes(says), in_pieces=dice.randrange(1, 9)):
            refused(folder, timeout=5000)
