"""Authentic messages that ask for what cannot be: absurd, lying, greedy, and without end."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import zmq

from bridge.errors import CODES
from bridge.protocol import MAGIC, Message, Outgoing, audio_frame
from tests.support.attack import (
    MIB,
    RATE,
    attacked,
    extend,
    name,
    noise,
    patient_wire,
    serves,
    snapshot,
    wait_for,
)
from tests.support.bridge_engines import echo_of
from tests.support.wire import SUBMIT, Wire

pytestmark = pytest.mark.timeout(120)

HUGE = 10**400
DEEP = "[" * 5000 + "]" * 5000


def said(wire: Wire, timeout: float = 10.0, **changes: Any) -> str:
    """What becomes of a submit: the code of its error, or `accepted`."""
    answer = wire.submit(name(), **changes)
    return answer["code"] if answer.type == "error" else answer.type


def code(wire: Wire, **changes: Any) -> str:
    """The error that a job ends with, at once or once it is looked at."""
    job = name()
    answer = wire.submit(job, **changes)
    while answer.type != "error":
        assert answer.type != "final", "nothing was wrong with it"
        answer = wire.until("error", "final")
    text = answer["text"]
    assert 0 < len(text) <= 4096
    assert "\n" not in text
    assert answer["code"] in CODES
    return answer["code"]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"settings": {"seed": HUGE}}, "E_SETTINGS"),
        ({"settings": {"seed": -HUGE, "steps": HUGE}}, "E_SETTINGS"),
        ({"settings": {"mix": 1e308}}, "E_SETTINGS"),
        ({"settings": {"mix": "nan", "cutoff": "inf"}}, "E_SETTINGS"),
        ({"settings": {"mix": None}}, "E_SETTINGS"),
        ({"settings": {"mix": [1]}}, "E_SETTINGS"),
        ({"settings": {"mode": {"a": 1}}}, "E_SETTINGS"),
        ({"settings": {"model": 7}}, "E_SETTINGS"),
        ({"settings": {"model": "x" * 30_000}}, "E_SETTINGS"),
        ({"settings": {"self": 1}}, "E_SETTINGS"),
        ({"settings": {"__class__": "os.system"}}, "E_SETTINGS"),
        ({"settings": {"a" * 60_000: 1}}, "E_SETTINGS"),
        ({"settings": []}, "E_PROTOCOL"),
        ({"settings": {"mix": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}}, "E_PROTOCOL"),
        ({"decision": {"note": "x" * 60_000}}, "E_SETTINGS"),
        ({"decision": []}, "E_PROTOCOL"),
        ({"region": [1]}, "E_PROTOCOL"),
        ({"region": [-1, 5]}, "E_PROTOCOL"),
        ({"region": ["a", "b"]}, "E_PROTOCOL"),
        ({"region": [0, HUGE]}, "E_PROTOCOL"),
        ({"num_channels": 0}, "E_PROTOCOL"),
        ({"num_channels": 65}, "E_PROTOCOL"),
        ({"num_channels": True}, "E_PROTOCOL"),
        ({"num_samples": -1}, "E_PROTOCOL"),
        ({"num_samples": HUGE}, "E_PROTOCOL"),
        ({"num_samples": 1.5}, "E_PROTOCOL"),
        ({"num_samples": 2**53}, "E_BUSY"),
        ({"sample_rate": 1}, "E_PROTOCOL"),
        ({"sample_rate": HUGE}, "E_PROTOCOL"),
        ({"credit_bytes": -1}, "E_PROTOCOL"),
        ({"dtype": "O"}, "E_PROTOCOL"),
        ({"priority": "realtime"}, "E_PROTOCOL"),
        ({"on_disconnect": "explode"}, "E_PROTOCOL"),
        ({"start": HUGE}, "E_PROTOCOL"),
        ({"instance": "../../x"}, "E_PROTOCOL"),
        ({"source": "path"}, "E_USAGE"),
        ({"source": "path", "path": "relative.wav"}, "E_USAGE"),
        ({"source": "path", "path": ""}, "E_PROTOCOL"),
        ({"source": "path", "path": "/" + "x" * 5000}, "E_PROTOCOL"),
        ({"source": "http"}, "E_PROTOCOL"),
    ],
    ids=lambda one: None if isinstance(one, str) else json.dumps(one)[:40],
)
def test_what_makes_no_sense_gets_its_code(changes, wanted, shared):
    with Wire(shared.connection()) as wire:
        for _ in range(2):
            assert said(wire, **{"num_samples": 10, **changes}) == wanted
        assert wire.ask("list_jobs")["jobs"] == []


@pytest.fixture(scope="module")
def shared():
    with attacked() as one:
        yield one


@pytest.mark.parametrize(
    "job",
    ["", "/", "..", "../x", "a/b", "/etc/passwd", "a\0b", "a\nb", ".hidden", "x" * 65, "é", "a b"],
)
def test_a_name_of_a_job_leads_nowhere(job, shared):
    before = snapshot(shared.folder / "cache")
    with Wire(shared.connection()) as wire:
        for source in ("inline", "path", "stream"):
            answer = wire.submit(job, source=source, num_samples=10, path="/tmp/x.wav")
            assert answer["code"] == "E_PROTOCOL"
        number = wire.send("control", "cancel", {"job": job})
        answer = wire.receive("control")
        assert (answer["code"], answer.answers) == ("E_PROTOCOL", number)
    assert snapshot(shared.folder / "cache") == before


def test_json_that_is_deep_long_doubled_or_none_at_all(shared):
    class Forger(Outgoing):
        """Signs whatever stands in the meta frame."""

        def forged(self, type: str, meta: bytes) -> list[bytes]:
            from bridge.protocol import _mac

            _, _, header, *_ = [bytes(one) for one in self.frames(type)]
            self.sent()
            return [MAGIC, _mac(self.key, [MAGIC, header, meta]), header, meta]

    texts = [
        DEEP, f'{{"job":{DEEP}}}', '{"job":1e999}', '{"job":NaN}', '{"job":-Infinity}',
        '{"job":"a","job":"b"}', '{"job":"\\ud800"}', '{"job":"a"', "", "null", "[]", '"job"',
        "\ufeff{}", '{"job":' + "9" * 5000 + "}", "{" + '"a":1,' * 9000 + '"b":1}',
        '{"job":"a"}\0', "\xff\xfe", "{'job':'a'}", '{"job":' * 5000 + "1" + "}" * 5000,
    ]  # fmt: skip
    with Wire(shared.connection()) as wire:
        for socket, type in (("control", "cancel"), ("work", "submit"), ("work", "close")):
            out = Forger(wire.out[socket].key, wire.session)
            out.sequence = wire.out[socket].sequence
            for text in texts:
                wire.raw(socket, out.forged(type, text.encode("latin-1", "replace")))
                answer = wire.receive(socket)
                assert (answer.type, answer["code"]) == ("error", "E_PROTOCOL"), text[:40]
                assert len(answer["text"]) < 500
            wire.out[socket].sequence = out.sequence


def test_decisions_and_regions_that_cannot_be_end_the_job_and_nothing_else(shared):
    with Wire(shared.connection()) as wire:
        for changes, wanted in [
            ({"decision": {}}, "E_SETTINGS"),
            ({"decision": {"rate_out": -1}}, "E_SETTINGS"),
            ({"decision": {"rate_out": HUGE, "cutoff": None}}, "E_SETTINGS"),
            ({"decision": {"rate_out": "48000"}}, "E_SETTINGS"),
            ({"region": [5, 5]}, "E_REGION"),
            ({"region": [9, 3]}, "E_REGION"),
            ({"region": [2**52, 2**53]}, "E_REGION"),
        ]:
            job, sound = name(), noise(0.01)
            wire.submit(job, num_samples=480, **changes)
            wire.upload(job, sound)
            assert wire.until("error", "final")["code"] == wanted, changes


def test_counts_that_lie_are_found_out(shared):
    with Wire(shared.connection()) as wire:
        sound = noise(0.1)
        job = name()
        wire.submit(job, num_samples=4801)  # fewer come than were announced
        wire.audio(job, sound)
        assert wire.until("error")["code"] == "E_PROTOCOL"
        job = name()
        wire.submit(job, num_samples=4799)  # more come
        wire.audio(job, sound)
        assert wire.until("error")["code"] == "E_PROTOCOL"
        job = name()
        wire.submit(job, num_samples=4800)
        for start in (1, 4800, 2**53):  # a hole
            wire.audio(job, sound[:, :10], start)
            assert wire.until("error")["code"] in ("E_SEQUENCE", "E_PROTOCOL", "E_JOB")
        for channels, dtype in ((1, "f4"), (3, "f4"), (2, "f8")):  # not as was said
            job = name()
            wire.submit(job, num_samples=10)
            kind = np.float32 if dtype == "f4" else np.float64
            wire.audio(job, np.zeros((channels, 10), kind))
            assert wire.until("error")["code"] == "E_PROTOCOL"
        frame, _ = audio_frame(sound)
        meta = {
            "job": name(), "start": 0, "num_channels": 2, "num_samples": 4800, "dtype": "f4",
            "last": True,
        }  # fmt: skip
        for frames, changes in [
            ([], {}), ([frame, frame], {}), ([frame[:-4]], {}), ([frame], {"num_samples": 2**50}),
            ([frame], {"num_channels": 64}), ([b""], {}),
        ]:  # fmt: skip
            wire.send("work", "audio", meta | changes, frames)
            assert wire.until("error")["code"] == "E_PROTOCOL"


def test_what_is_no_number_is_refused_with_its_place(shared):
    with Wire(shared.connection()) as wire:
        for bad in (np.nan, np.inf, -np.inf):
            sound = noise(0.1)
            sound[1, 77] = bad
            job = name()
            wire.submit(job, num_samples=4800)
            wire.upload(job, sound)
            assert wire.until("error", "final")["code"] == "E_NOT_FINITE"
        job = name()
        wire.submit(job, num_samples=4800)
        wire.upload(job, np.full((2, 4800), np.float32(3.4e38)))
        assert wire.until("error", "final").type in ("error", "final")


def test_who_sends_without_credit_loses_the_job():
    """Credit comes back by messages; who does not read them has none, and sends all the same."""
    with attacked() as one, Wire(one.connection(), hello=False) as wire:
        wire.sockets["work"].close(0)
        wire.sockets["work"] = wire.context.socket(zmq.DEALER)
        wire.sockets["work"].setsockopt(zmq.LINGER, 0)
        wire.sockets["work"].setsockopt(zmq.RCVHWM, 1)
        wire.sockets["work"].connect(one.connection().endpoints.work)
        wire.hello()
        job = name()
        wire.submit(job, source="stream", num_samples=None)
        bad = SUBMIT | {"job": name(), "settings": {"x" * 3_900: 1}}
        for _ in range(150):  # their long answers find no room where nobody reads
            wire.send("work", "submit", bad)
        for i in range(4):
            wire.audio(job, np.zeros((2, MIB), np.float32), i * MIB, last=False)
        wait_for(lambda: wire.ask("list_jobs")["jobs"][0]["state"] == "failed")  # before it reads
        codes = [wire.until("error")["code"] for _ in range(152)]
        assert codes == ["E_SETTINGS"] * 150 + ["E_CREDIT", "E_JOB"]
        assert wire.ask("list_jobs")["jobs"][0]["state"] == "failed"


def test_who_sends_faster_than_is_written_waits_in_the_socket():
    with attacked() as one, Wire(one.connection()) as wire:
        job, block = name(), np.zeros((2, MIB), np.float32)
        wire.submit(job, num_samples=60 * MIB)
        for i in range(60):
            wire.audio(job, block, i * MIB, last=False)
        assert sum(wire.until("granted", "error")["bytes"] for _ in range(60)) == 60 * 8 * MIB


def test_clients_that_never_read_take_no_memory_and_hold_up_nobody():
    with attacked() as one, contextlib.ExitStack() as stack:
        sound = noise(2.0)
        lazy = [stack.enter_context(Wire(one.connection())) for _ in range(4)]
        for wire in lazy:
            for i in range(16):
                job = f"{name()[:20]}{i}"
                wire.send("work", "submit", SUBMIT | {"job": job, "num_samples": sound.shape[1]})
                frame, _ = audio_frame(sound)
                meta = {
                    "job": job, "start": 0, "num_channels": 2, "num_samples": sound.shape[1],
                    "dtype": "f4", "last": True,
                }  # fmt: skip
                wire.send("work", "audio", meta, [frame])
        for wire in lazy:
            for _ in range(200):
                wire.send("control", "status")
        serves(one)


def test_a_flood_of_jobs_ends_at_the_limit():
    with attacked() as one, Wire(one.connection()) as wire:
        codes = [said(wire, num_samples=1000) for _ in range(70)]
        assert codes == ["accepted"] * 64 + ["E_BUSY"] * 6
        with Wire(one.connection()) as other:
            sound = noise(0.1)
            np.testing.assert_array_equal(extend(other, sound)[0], echo_of(sound))
            assert other.ask("list_jobs").type == "jobs_are"


def test_a_list_of_jobs_fits_a_message_whatever_they_are_called():
    with attacked() as one, contextlib.ExitStack() as stack:
        for _ in range(5):
            wire = stack.enter_context(Wire(one.connection()))
            for _ in range(64):
                settings = {"model": "\u2603" * 600}
                assert said(wire, num_samples=10, settings=settings) == "accepted"
        answer = wire.ask("list_jobs")
        assert answer["left_out"] > 0
        assert len(answer["jobs"]) + answer["left_out"] == 320


def test_a_flood_of_tiny_blocks_starves_nobody():
    with attacked() as one, Wire(one.connection()) as wire:
        job = name()
        wire.submit(job, source="stream", num_samples=None)
        block = np.zeros((2, 1), np.float32)
        stop = threading.Event()
        served: list[float] = []

        def honest() -> None:
            while not stop.is_set():
                began = time.monotonic()
                serves(one)
                served.append(time.monotonic() - began)

        thread = threading.Thread(target=honest)
        thread.start()
        for i in range(10_000):
            wire.audio(job, block if i % 2 else block[:, :0], (i // 2), last=False)
        stop.set()
        thread.join(60)
        assert served
        assert max(served) < 20


def test_audio_for_what_has_ended_is_an_error_and_no_more():
    with attacked() as one, Wire(one.connection()) as wire:
        job = name()
        wire.submit(job, source="stream", num_samples=None, dry_run=True)
        wire.until("final")
        wire.audio(job, np.zeros((2, 10), np.float32))
        assert wire.until("error")["code"] == "E_JOB"
        job = name()
        wire.submit(job, num_samples=4800)
        wire.ask("cancel", job=job)
        for _ in range(3):
            wire.audio(job, noise(0.1))
            assert wire.until("error")["code"] in ("E_CANCELLED", "E_JOB")
        for type, meta in (("credit", {"bytes": 2**53}), ("close", {})):
            wire.send("work", type, {"job": name(), **meta})
            assert wire.until("error")["code"] == "E_JOB"


def test_a_client_that_leaves_just_before_the_end_is_no_trouble():
    """Held while the worker still says that the job has ended."""
    with (
        attacked(engine="slow", BRIDGE_TEST_STEP_SECONDS=0.05, BRIDGE_TEST_STEPS=4) as one,
        Wire(one.connection()) as other,
    ):
        for wait in (0.1, 0.3, 0.45, 0.6):
            job = name()
            with Wire(one.connection()) as wire:
                sound = noise(0.1)
                wire.submit(job, num_samples=4800, on_disconnect="hold", dry_run=wait == 0.1)
                wire.upload(job, sound)
                wire.until("decided", "progress")
                threading.Event().wait(wait)
                wire.send("control", "goodbye")
                threading.Event().wait(0.05)

            def ended(job: str = job) -> bool:
                views = {view["job"]: view for view in other.ask("list_jobs")["jobs"]}
                return views[job]["state"] in ("done", "held")

            wait_for(ended)


# ---- paths


@pytest.fixture
def zoo(tmp_path):
    """Things that are no sound files, and one that is."""
    good = tmp_path / "good.wav"
    soundfile.write(good, noise(0.3).T, RATE, subtype="DOUBLE")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.wav").symlink_to(good)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("secret: 1234\n" * 100)
    with (tmp_path / "sparse.wav").open("wb") as file:
        file.truncate(1 << 40)
    with (tmp_path / "sparse_riff.wav").open("wb") as file:
        file.write(good.read_bytes()[:44])
        file.truncate(1 << 38)
    (tmp_path / os.fsdecode(b"\xff\xfe.wav")).write_bytes(b"no sound")
    return tmp_path


def test_paths_that_are_no_sounds_are_refused_and_nothing_of_them_is_told(zoo):
    before = snapshot(zoo)
    bad = [
        "fifo", "folder", "link.wav", "empty.wav", "text.wav", "sparse.wav", "missing.wav",
        "folder/../good.wav", "good.wav/x", os.fsdecode(b"\xff\xfe.wav"), "\udcff\udc80.wav",
        "line\nbreak\x1b[31m.wav", "x" * 300,
    ]  # fmt: skip
    devices = [
        "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/stdin", "/dev/fd/0",
        "/proc/self/mem", "/proc/self/environ", "/proc/self/maps", "/proc/kmsg",
        "/sys/kernel/notes", "/etc/shadow",
        "/proc/self/root/etc/passwd", "/", "//", "/dev/../etc/passwd",
    ]  # fmt: skip
    with attacked() as one, Wire(one.connection()) as wire:
        for path in [*(f"{zoo}/{each}" for each in bad), *devices]:
            job = name()
            answer = wire.submit(job, source="path", path=path, num_samples=None)
            if answer.type != "error":
                answer = wire.until("error", "final")
            assert answer.type == "error", path
            assert answer["code"] in ("E_FILE", "E_AUDIO", "E_USAGE"), (path, dict(answer.meta))
            assert "secret" not in answer["text"]
            assert "root:" not in answer["text"]
        job = name()
        wire.submit(job, source="path", path=f"{zoo}/good.wav")
        made, _ = wire.result(job)
        np.testing.assert_array_equal(made, echo_of(noise(0.3).astype(np.float64)))
        log = one.log()
        assert str(zoo) not in log
        assert "secret" not in log
    assert snapshot(zoo) == before


def test_a_header_that_promises_hundreds_of_gigabytes_takes_no_memory(zoo):
    with attacked() as one, Wire(one.connection()) as wire:
        job = name()
        answer = wire.submit(job, source="path", path=f"{zoo}/sparse_riff.wav")
        with contextlib.suppress(AssertionError):
            answer = wire.until("error", "final", timeout=3)
        if answer.type == "accepted":  # it is read, and may be told to stop
            wire.ask("cancel", job=job)
            assert wire.until("error")["code"] == "E_CANCELLED"


def test_a_file_that_becomes_a_link_while_it_is_opened_leads_nowhere(zoo):
    """Only the sound that really lies there is ever read; /etc/passwd never is."""
    place, aside = zoo / "racing.wav", zoo / "aside"
    good = (zoo / "good.wav").read_bytes()
    (zoo / "other.wav").write_bytes(good)
    over = threading.Event()

    def race() -> None:
        while not over.is_set():
            aside.write_bytes(good)
            os.replace(aside, place)
            aside.symlink_to("/etc/passwd")
            os.replace(aside, place)
            aside.symlink_to(zoo / "fifo")
            os.replace(aside, place)

    thread = threading.Thread(target=race)
    thread.start()
    try:
        with attacked() as one, Wire(one.connection()) as wire:
            outcomes = set()
            for _ in range(150):
                job = name()
                wire.submit(job, source="path", path=str(place))
                answer = wire.until("error", "final")
                outcomes.add(answer["code"] if answer.type == "error" else "final")
                if answer.type == "error":
                    assert "root:" not in answer["text"]
                else:
                    wire.send("work", "close", {"job": job})
            assert outcomes <= {"E_FILE", "final"}, outcomes
            assert "E_FILE" in outcomes
    finally:
        over.set()
        thread.join(5)


def test_what_the_client_calls_itself_reaches_no_terminal_unfiltered(shared):
    with Wire(shared.connection(), client="\x1b]0;owned\x07\u202e") as wire:
        shown = wire.ask("status")["status"]["sessions"]
        assert all(" " <= c <= "~" for name in shown for c in name)


def test_every_type_of_message_on_every_socket_is_answered_or_refused(shared):
    """Also those that only a daemon may send."""
    from bridge.protocol import TYPES

    with Wire(shared.connection()) as wire:
        for socket in ("control", "work"):
            for type, kind in TYPES.items():
                if type in ("stop", "goodbye", "unload"):
                    continue
                if kind.socket == socket and kind.sender == "client":
                    continue
                wire.send(socket, type, {})
                answer = wire.receive(socket)
                assert (answer.type, answer["code"]) == ("error", "E_PROTOCOL"), type
        assert Path(shared.folder).exists()
        assert Message("ping").type == "ping"
    with patient_wire(shared) as wire:
        assert wire.ask("ping").type == "pong"
