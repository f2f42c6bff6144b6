"""The worker process: real pipes, real processes, the samples of the engine in-process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray

from bridge.errors import WorkerError
from bridge.pipe import PipeMessage
from bridge.spool import Spool
from bridge.worker_link import WorkerArguments, WorkerLink
from tests.support.bridge_engines import MODEL_SHA256, echo_of

pytestmark = pytest.mark.timeout(120)

RATE = 16_000
CHUNK = RATE // 10
ROOT = Path(__file__).parents[2]
FAKES = "tests.support.bridge_engines:"

Sound = NDArray[np.floating]


class Talk:
    """A worker, and whoever speaks with it."""

    def __init__(self, link: WorkerLink) -> None:
        self.link = link
        self.heard: list[PipeMessage] = []  # all that came

    def say(self, do: str, job: str = "j", **values: Any) -> None:
        self.link.send({"do": do, "job": job, **values})

    def hear(self, *kinds: str, job: str | None = None, seconds: float = 60) -> PipeMessage:
        """The next message of one of these kinds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            message = self.link.receive()
            if message is None:
                select.select([self.link], [], [], left)
                continue
            self.heard.append(message)
            if message["is"] in kinds and (job is None or message["job"] == job):
                return message
        raise AssertionError(f"none of {kinds} in {seconds} s, but {self.kinds()}")

    def kinds(self) -> list[str]:
        return [one["is"] for one in self.heard]

    def open(self, source: dict[str, Any], job: str = "j", **values: Any) -> None:
        values = {
            "sample_rate": RATE, "num_channels": 2, "settings": {}, "want": "sound", **values,
        }  # fmt: skip
        self.say("open", job, source=source, **values)

    def rest(self, job: str = "j") -> tuple[list[PipeMessage], dict[str, Any]]:
        """All pieces that are left, and the report."""
        pieces: list[PipeMessage] = []
        while True:
            if not pieces or not pieces[-1]["more"]:
                self.say("next", job, received=0, complete=True)
            message = self.hear("made", "ended", "error", job=job)
            if message["is"] == "ended":
                return pieces, message["report"]
            assert message["is"] == "made", message.values
            pieces.append(message)

    def run(self, job: str = "j") -> tuple[Sound, dict[str, Any]]:
        """Analyse and compute: the sound and the report."""
        self.say("analyse", job)
        answer = self.hear("decided", "error", job=job)
        assert answer["is"] == "decided", answer.values
        pieces, report = self.rest(job)
        return joined(pieces), report


def samples_of(message: PipeMessage, part: int = 0) -> Sound:
    dtype = {"f4": np.float32, "f8": np.float64}[message["dtype"]]
    flat: Sound = np.frombuffer(message.audio[part], dtype)
    return flat.reshape(message["num_channels"], message["num_samples"])


def joined(pieces: list[PipeMessage], part: int = 0) -> Sound:
    place = pieces[0]["start"]
    for one in pieces:  # contiguous and in order
        assert one["start"] == place
        place += one["num_samples"]
    return np.concatenate([samples_of(one, part) for one in pieces], axis=1)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    links = []

    def start(engine: str = "echo", **values: Any) -> Talk:
        name = FAKES + engine if engine else ""
        arguments = WorkerArguments(tmp_path / "cache", 1 << 30, engine=name, **values)
        links.append(WorkerLink(arguments))
        links[-1].start()
        return Talk(links[-1])

    yield start
    for link in links:
        link.kill()


def noise(num_samples: int, num_channels: int = 2, dtype: Any = np.float32) -> Sound:
    random = np.random.default_rng(num_samples)
    return (random.standard_normal((num_channels, num_samples)) / 8).astype(dtype)


def spooled(folder: Path, x: Sound, job: str = "j") -> dict[str, Any]:
    """The source of a sound that has arrived."""
    dtype = "f8" if x.dtype == np.float64 else "f4"
    Spool(folder, job, x.shape[0], dtype).remove()
    with Spool(folder, job, x.shape[0], dtype) as spool:
        spool.append(x, 0)
        spool.finish()
        return {"kind": "spool", "path": str(spool.path), "dtype": dtype, "num_samples": None}


def test_it_is_ready_at_once_and_says_who_it_is(start):
    talk = start()
    assert talk.hear("started")["pid"] == talk.link.pid
    assert talk.hear("ready")["pid"] == talk.link.pid


def test_a_sound_comes_back_chunk_by_chunk(start, tmp_path):
    talk = start()
    x = noise(CHUNK * 3 + 77)
    talk.open(spooled(tmp_path, x), settings={"seed": 5})

    talk.say("analyse")
    decided = talk.hear("decided")
    pieces, report = talk.rest()

    np.testing.assert_array_equal(joined(pieces), echo_of(x, 5))
    assert [one["chunk"] for one in pieces] == [0, 1, 2, 3]
    assert decided["model_sha256"] == MODEL_SHA256
    assert decided["plan"] == {
        "rate_in": RATE, "rate_out": RATE, "stride_in": CHUNK, "stride_out": CHUNK,
        "first_end_in": CHUNK, "num_chunks": 4, "num_samples_out": x.shape[1],
        "past_in": 0, "latency_samples": CHUNK,
    }  # fmt: skip
    assert report["chunks"] == 4
    assert report["cached"] == 0


def test_what_was_computed_comes_from_the_cache(start, tmp_path):
    x = noise(CHUNK * 4)
    talk = start()
    talk.open(spooled(tmp_path, x))
    first, _ = talk.run()
    talk.link.kill()

    again = start()
    again.open(spooled(tmp_path / "b", x))
    second, report = again.run()

    np.testing.assert_array_equal(first, second)
    assert report["cached"] == 4
    assert all(one["cached"] for one in again.heard if one["is"] == "made")


# ---- the same samples as in-process


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def real(start: Any, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Talk:
    """A worker with the engine, on as many threads as this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return start("")


CASES = [  # sample rate, channels, seconds, settings, region in seconds
    (16_000, 2, 20.0, {}, None),  # to another rate
    (44_100, 1, 9.0, {"cutoff": 8_000, "seed": 7, "mix": 0.5}, None),
    (48_000, 3, 5.0, {"cutoff": "follow"}, None),
    (44_100, 2, 18.0, {"cutoff": 6_000}, (8.5, 10.25)),
    (22_050, 2, 0.3, {}, None),
    (44_100, 2, 0.0, {}, None),
]


@pytest.mark.parametrize(("rate", "channels", "seconds", "settings", "region"), CASES)
def test_a_path_gives_the_samples_of_extend_file(
    real, tmp_path, rate, channels, seconds, settings, region
):
    from audiosr_core.extend_file import extend_file
    from audiosr_core.settings import Settings

    x = noise(int(seconds * rate), channels, np.float64)
    path = tmp_path / "x.wav"
    soundfile.write(path, x.T, rate, "DOUBLE")
    report = extend_file(path, tmp_path / "y.wav", Settings(**settings), region=region)
    expected, _ = soundfile.read(tmp_path / "y.wav", always_2d=True)

    samples = [round(one * rate) for one in region] if region else None
    real.open({"kind": "file", "path": str(path)}, sample_rate=rate, num_channels=channels,
              settings=settings, region=samples)  # fmt: skip
    real.say("analyse")
    decided = real.hear("decided")
    pieces, told = real.rest()

    assert decided["decision"]["rate_out"] == report.sample_rate
    assert decided["plan"]["num_samples_out"] == report.num_samples
    assert decided["model_sha256"] == told["model_sha256"] == report.model_sha256
    assert told["cutoff_hz"] == report.cutoff_hz
    sound = joined(pieces) if pieces else np.zeros((channels, 0))
    np.testing.assert_array_equal(sound, expected.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_spooled_sound_gives_the_samples_of_extend(real, tmp_path, dtype):
    from audiosr_core.audio import Audio
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    x = noise(17 * RATE, 2, dtype)
    expected = Engine().extend(Audio(x, RATE), Settings(seed=3))
    real.open(spooled(tmp_path, x), settings={"seed": 3})
    sound, _ = real.run()
    assert sound.dtype == dtype
    np.testing.assert_array_equal(sound, expected.samples)


@pytest.mark.parametrize(("rate", "names"), [(16_000, ["original", "high"]), (48_000, ["high"])])
def test_parts_are_those_of_the_stream(real, tmp_path, rate, names):
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    values = {"cutoff": 5_000, "rate": 48_000}
    x, settings, engine = noise(10 * rate), Settings(**values), Engine()
    decision = engine.analyse([x], lambda a, b: x[:, a:b], rate, 2, settings)
    stream = engine.open(rate, 2, settings, decision)
    expected = [*stream.push_split(x), *stream.flush_split()]

    real.open(spooled(tmp_path, x), sample_rate=rate, settings=values, want="parts")
    real.say("analyse")
    real.hear("decided")
    pieces, _ = real.rest()

    for i, name in enumerate(names):
        got = joined(pieces, i)
        which = 0 if name == "original" else 1
        np.testing.assert_array_equal(got, np.concatenate([e[which] for e in expected], axis=1))
    assert all(one["parts"] == names for one in pieces)


def test_a_stream_decides_at_once_and_follows(real, tmp_path):
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings
    from bridge.worker_engine import decision_from, follow

    rate, engine = 48_000, Engine()
    x = noise(7 * rate)
    x = x + np.roll(x, 1) + np.roll(x, 2)
    settings, decision = follow(rate, 2, Settings())
    expected = engine.open(rate, 2, settings, decision)
    expected_sound = np.concatenate([expected.push(x), expected.flush()], axis=1)

    with Spool(tmp_path, "j", 2) as spool:
        source = {"kind": "spool", "path": str(spool.path), "dtype": "f4", "num_samples": None}
        real.open(source, sample_rate=rate, stream=True)
        real.say("analyse")
        decided = real.hear("decided")
        assert decision_from(decided["decision"], 2) == decision
        assert decided["decision"]["follow"]
        assert decided["plan"]["num_samples_out"] is None
        pieces, size = [], 10_000
        for start in range(0, x.shape[1], size):
            spool.append(x[:, start : start + size], start)
            while True:
                if not pieces or not pieces[-1]["more"]:
                    real.say("next", received=spool.received, complete=False)
                message = real.hear("made", "starved")
                if message["is"] == "starved":
                    break
                pieces.append(message)
        told = decided["plan"]
        count = max(0, (x.shape[1] - told["first_end_in"]) // told["stride_in"] + 1)
        whole = [one for one in pieces if not one["more"]]
        assert len(whole) == count  # as soon as there is enough for a chunk
        left, _ = real.rest()
    np.testing.assert_array_equal(joined(pieces + left), expected_sound)

    real.open(source, job="k", sample_rate=rate, stream=True, decision=decided["decision"])
    again, report = real.rest("k")  # as after the death of a worker: from its decision
    np.testing.assert_array_equal(joined(again), expected_sound)
    assert report["cached"] == report["chunks"]


def test_reference_mode_is_the_one_of_the_engine(start, tmp_path, monkeypatch, one_thread):
    from audiosr_core.audio import Audio
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings
    from tests.support.audiosr import install

    monkeypatch.setenv("AUDIOSR_BRIDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    install()
    x = noise(int(11.5 * RATE))
    settings = {"mode": "reference", "model": "audiosr-basic", "steps": 2}
    expected = Engine().extend(Audio(x, RATE), Settings(**settings))

    talk = start("")
    for cached in (0, 1):
        talk.open(spooled(tmp_path, x), settings=settings)
        talk.say("analyse")
        decided = talk.hear("decided", "error")
        assert decided["decision"]["rate_out"] == expected.sample_rate
        pieces, report = talk.rest()
        np.testing.assert_array_equal(joined(pieces), expected.samples)
        ends = [one for one in pieces if not one["more"]]
        assert len(ends) == decided["plan"]["num_chunks"] == 2
        assert report["cached"] == cached


# ---- going on where it stopped


@pytest.mark.parametrize("start_at", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 5, 3 * CHUNK + 9])
def test_results_are_given_from_any_place(start, tmp_path, start_at):
    talk, x = start(), noise(CHUNK * 3 + 10)
    talk.open(spooled(tmp_path, x), start=start_at)
    talk.say("analyse")
    talk.hear("decided")
    pieces, _ = talk.rest()
    wanted = [one for one in pieces if one["num_samples"]]
    assert wanted[0]["start"] == start_at
    assert [one["chunk"] for one in pieces] == [0, 1, 2, 3]
    np.testing.assert_array_equal(joined(wanted), echo_of(x)[:, start_at:])


def test_from_any_place_of_the_real_walk_too(real, tmp_path):
    """Where chunks overlap, the one before is computed as well, for the sake of the join."""
    x = noise(30 * RATE)
    real.open(spooled(tmp_path, x), job="whole")
    whole, _ = real.run("whole")
    for start in (1, 8 * 48_000, 8 * 48_000 + 100, 20 * 48_000):
        real.open(spooled(tmp_path / "b", x), job="part", start=start)
        real.say("analyse", "part")
        real.hear("decided")
        pieces, _ = real.rest("part")
        part = joined([one for one in pieces if one["num_samples"]])
        np.testing.assert_array_equal(part, whole[:, start:])


def test_after_a_crash_only_the_missing_chunks_are_computed(start, tmp_path, monkeypatch):
    monkeypatch.setenv("BRIDGE_TEST_AT", "3")
    monkeypatch.setenv("BRIDGE_TEST_FLAG", str(tmp_path / "crashed"))
    x = noise(CHUNK * 6)
    talk, pieces = start("crashing"), []
    talk.open(spooled(tmp_path, x))
    talk.say("analyse")
    decided = talk.hear("decided")
    for _ in range(3):
        talk.say("next")
        pieces.append(talk.hear("made"))
    talk.say("next")
    with pytest.raises(WorkerError, match="signal 9"):
        talk.hear("made")
    assert [one["chunk"] for one in pieces] == [0, 1, 2]

    again = start("crashing")
    start_at = pieces[-1]["start"] + pieces[-1]["num_samples"]
    again.open(spooled(tmp_path / "b", x), start=start_at, decision=decided["decision"])
    rest, report = again.rest()
    assert report["cached"] == 0
    np.testing.assert_array_equal(joined(pieces + rest[3:]), echo_of(x))

    again.open(spooled(tmp_path / "b", x))
    whole, report = again.run()
    assert report["cached"] == 6
    np.testing.assert_array_equal(whole, echo_of(x))


# ---- cancelling, and taking turns


def test_a_cancel_stops_a_chunk_at_its_next_step(start, tmp_path, monkeypatch):
    monkeypatch.setenv("BRIDGE_TEST_STEPS", "1000")
    talk = start("slow")
    x = noise(CHUNK)
    talk.open(spooled(tmp_path, x), decision={"rate_out": RATE})
    talk.say("next")
    talk.hear("loaded")
    talk.say("next")
    talk.say("next", job="other")
    began = time.monotonic()
    talk.link.cancel("j")
    talk.hear("cancelled")
    assert time.monotonic() - began < 1.0
    assert talk.hear("error")["job"] == "other"  # nobody opened it; the others lose nothing
    assert talk.kinds().count("cancelled") == 1
    assert "made" not in talk.kinds()

    monkeypatch.undo()
    talk.open(spooled(tmp_path, x), settings={"seed": 9})  # the name is free again
    talk.say("analyse")
    talk.link.cancel("j")
    talk.hear("cancelled")


def test_a_cancel_stops_an_analysis(start, tmp_path, monkeypatch):
    monkeypatch.setenv("BRIDGE_TEST_STEPS", "1000")
    talk = start("slow")
    talk.open(spooled(tmp_path, noise(10 * RATE)))
    talk.say("analyse")
    talk.hear("loaded")
    talk.link.cancel("j")
    talk.hear("cancelled", seconds=1)
    assert "decided" not in talk.kinds()


def test_every_cancel_has_one_answer_and_nothing_else_of_its_job_has(start, tmp_path):
    talk = start()
    x = noise(CHUNK * 3)
    for i in range(30):
        talk.open(spooled(tmp_path, x), job="j")
        talk.say("analyse")
        talk.say("next")
        talk.link.cancel("j")
        talk.open(spooled(tmp_path / "b", x), job=f"k{i}")
        sound, _ = talk.run(f"k{i}")
        np.testing.assert_array_equal(sound, echo_of(x))
        talk.say("close", f"k{i}")
    assert talk.kinds().count("cancelled") == 30
    assert "error" not in talk.kinds()


def test_a_cancel_of_nothing_is_answered_too(start):
    talk = start()
    talk.link.cancel("nobody")
    assert talk.hear("cancelled")["job"] == "nobody"


def test_other_jobs_have_their_turn_during_an_analysis(start, tmp_path, monkeypatch):
    monkeypatch.setenv("BRIDGE_TEST_STEP_SECONDS", "0.01")
    talk = start("slow")
    long, short = noise(2 * 20 * RATE), noise(CHUNK * 2)
    talk.open(spooled(tmp_path, short), job="short")
    talk.say("analyse", "short")
    talk.hear("decided")
    talk.open(spooled(tmp_path / "b", long), job="long")
    talk.say("analyse", "long")
    pieces, _ = talk.rest("short")
    assert not any(one["is"] == "decided" and one["job"] == "long" for one in talk.heard)
    np.testing.assert_array_equal(joined(pieces), echo_of(short))
    for i in range(6):  # more analyses than may wait for one another
        talk.open(spooled(tmp_path / f"c{i}", short), job=f"more{i}")
        talk.say("analyse", f"more{i}")
    for i in range(6):
        talk.hear("decided", job=f"more{i}")
    if not any(one["is"] == "decided" and one["job"] == "long" for one in talk.heard):
        talk.hear("decided", job="long")
    fractions = [one["fraction"] for one in talk.heard if one["is"] == "progress"]
    assert all(0 < one <= 1 for one in fractions)


# ---- what goes wrong


def wav(path: Path, x: Sound) -> Path:
    soundfile.write(path, x.T, RATE, "FLOAT")
    return path


def error_of(talk: Talk, source: dict[str, Any], **values: Any) -> tuple[str, str]:
    talk.open(source, **values)
    talk.say("analyse")
    message = talk.hear("error", "decided")
    if message["is"] == "decided":
        talk.say("next")
        message = talk.hear("error")
    return message["code"], message["text"]


def test_bad_requests_have_a_code_and_one_sentence(start, tmp_path):
    talk = start()
    x, good = noise(CHUNK * 2), {"kind": "file", "path": str(wav(tmp_path / "x.wav", noise(500)))}
    bad = x.copy()
    bad[1, 77] = np.nan
    sound = spooled(tmp_path / "a", x)
    cases: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("E_SETTINGS", "mix must be", sound, {"settings": {"mix": 7}}),
        ("E_SETTINGS", "unknown setting", sound, {"settings": {"knob": 7}}),
        ("E_SETTINGS", "rate_out", sound, {"decision": {"rate_out": 1}}),
        ("E_MODEL", "no model 'missing'", sound, {"settings": {"model": "missing"}}),
        ("E_NOT_FINITE", "channel 2", spooled(tmp_path / "b", bad), {}),
        ("E_REGION", "region", sound, {"region": [50, 10]}),
        ("E_REGION", "region", sound, {"region": [CHUNK * 9, CHUNK * 10]}),
        ("E_REGION", "keeps the rate", sound, {"region": [1, 9], "settings": {"rate": 48_000}}),
        ("E_AUDIO", "sample rate", sound, {"sample_rate": 1}),
        ("E_AUDIO", "must have 99 samples", {**sound, "num_samples": 99}, {}),
        ("E_FILE", "send it again", {**sound, "path": str(tmp_path / "gone.f4")}, {}),
        ("E_FILE", "as was said", good, {"sample_rate": 48_000}),
        ("E_FILE", "as was said", good, {"num_channels": 1}),
        ("E_USAGE", "cannot stream", sound, {"stream": True, "settings": {"mode": "reference"}}),
    ]
    for code, text, source, values in cases:
        talk.heard.clear()
        assert error_of(talk, source, **values)[0] == code, (code, text)
        assert text in talk.heard[-1]["text"]
        assert "\n" not in talk.heard[-1]["text"]
    talk.open(sound, job="good")
    result, _ = talk.run("good")
    np.testing.assert_array_equal(result, echo_of(x))
    assert talk.kinds().count("error") == 1  # of each request one


@pytest.mark.parametrize(
    ("engine", "code"), [("nan", "E_MODEL"), ("oom", "E_DEVICE"), ("buggy", "E_INTERNAL")]
)
def test_a_chunk_that_fails_takes_nothing_along(start, tmp_path, engine, code):
    """The other job, and the job's other chunks."""
    talk, x = start(engine), noise(CHUNK * 4)
    talk.open(spooled(tmp_path, x), start=0)
    talk.open(spooled(tmp_path / "b", x[:, :CHUNK]), job="other")
    talk.say("analyse")
    talk.hear("decided")
    talk.say("next")
    assert talk.hear("made")["chunk"] == 0
    talk.say("next")
    assert talk.hear("error")["code"] == code
    if engine == "oom":
        assert "2.0 GiB are needed and 1.0 GiB are free" in talk.heard[-1]["text"]
    sound, _ = talk.run("other")
    np.testing.assert_array_equal(sound, echo_of(x[:, :CHUNK]))


def test_memory_that_ran_out_once_costs_nothing(start, tmp_path, monkeypatch):
    monkeypatch.setenv("BRIDGE_TEST_FLAG", str(tmp_path / "once"))
    talk, x = start("oom"), noise(CHUNK * 4)
    talk.open(spooled(tmp_path, x))
    sound, _ = talk.run()
    assert (tmp_path / "once").exists()
    np.testing.assert_array_equal(sound, echo_of(x))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("fifo", "not a regular file"), ("folder", "not a regular file"), ("link", "symbolic link"),
        ("socket", "not a regular file"), ("empty", "empty"), ("text", "not audio"),
        ("missing", "No such file"), ("sub/../x.wav", "without '..'"),
        ("/dev/zero", "not a regular file"), ("/dev/stdin", "cannot|not|symbolic"),
        ("/proc/self/environ", "no file on a disk"), ("/proc/self/root/etc/passwd", "no file on"),
        ("/sys/kernel/notes", "no file on a disk"), ("x.wav\0", "absolute"), ("", "absolute"),
    ],
)  # fmt: skip
def test_a_path_that_is_no_sound_gets_nowhere(start, tmp_path, path, says):
    import re
    import socket

    os.mkfifo(tmp_path / "fifo")
    for name in ("folder", "sub"):
        (tmp_path / name).mkdir()
    wav(tmp_path / "x.wav", noise(500))
    (tmp_path / "link").symlink_to(tmp_path / "x.wav")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a sound")
    full = str(tmp_path / path) if path and not path.startswith("/") else path
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(tmp_path, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{here}/socket")  # the path itself may be too long for a socket
        os.close(here)
        talk = start()
        code, text = error_of(talk, {"kind": "file", "path": full})
    assert code == "E_FILE"
    assert re.search(says, text), text


def test_a_path_exchanged_after_opening_changes_nothing(start, tmp_path):
    talk, x = start(), noise(CHUNK * 4, dtype=np.float32)
    path = wav(tmp_path / "x.wav", x)
    talk.open({"kind": "file", "path": str(path)})
    talk.say("analyse")
    talk.hear("decided")
    path.rename(tmp_path / "away.wav")
    wav(path, np.zeros_like(x))
    pieces, _ = talk.rest()
    np.testing.assert_array_equal(joined(pieces), echo_of(x.astype(np.float64)))


# ---- the pipe, and the end


def test_big_messages_and_many_commands_at_once_do_not_wait_for_one_another(
    start, tmp_path, monkeypatch
):
    monkeypatch.setenv("BRIDGE_TEST_CHUNK_SECONDS", "10.24")
    talk = start()
    x = noise(3 * 491_520)
    talk.open(spooled(tmp_path, x), sample_rate=48_000)
    talk.say("analyse")
    for _ in range(4):
        talk.say("next", padding="x" * 100_000)
    for _ in range(20):  # nothing is read meanwhile: the worker waits with 3.9 MB in its hands
        talk.say("close", "nobody", padding="x" * 200_000)
    talk.hear("ended")
    pieces = [one for one in talk.heard if one["is"] == "made"]
    assert sum(not one["more"] for one in pieces) == 3
    np.testing.assert_array_equal(joined(pieces), echo_of(x))


def test_a_chunk_larger_than_a_frame_comes_in_pieces(start, tmp_path, monkeypatch):
    from bridge.protocol import LIMITS

    monkeypatch.setenv("BRIDGE_TEST_CHUNK_SECONDS", "100")
    talk, x = start(), noise(2_500_000)
    talk.open(spooled(tmp_path, x))
    talk.say("analyse")
    talk.hear("decided")
    pieces, report = talk.rest()
    assert [one["chunk"] for one in pieces if not one["more"]] == [0, 1]
    assert all(len(one.audio[0]) <= LIMITS.frame_bytes for one in pieces)
    assert report["chunks"] == 2
    np.testing.assert_array_equal(joined(pieces), echo_of(x))


def test_it_stops_in_the_middle_of_anything(start, tmp_path, monkeypatch):
    """Also of a computation that never asks whether to go on."""
    monkeypatch.setenv("BRIDGE_TEST_AT", "0")
    talk = start("stuck")
    talk.open(spooled(tmp_path, noise(CHUNK)))
    talk.say("analyse")
    talk.hear("decided")
    talk.say("next")
    talk.link.stop(seconds=5)
    assert talk.link.exit_status == 0


DAEMON = """
import sys, time
from pathlib import Path
from bridge.worker_link import WorkerArguments, WorkerLink
from tests.integration.test_worker import Talk
engine = sys.argv[4]
link = WorkerLink(WorkerArguments(Path(sys.argv[1]), 1 << 30, engine=engine))
link.start()
talk = Talk(link)
source = {"kind": "spool", "path": sys.argv[2], "dtype": "f4", "num_samples": None}
talk.open(source, settings={"model": sys.argv[3], "steps": 1000})
talk.say("analyse")
talk.hear("decided")
talk.say("next")
time.sleep(0.3)
print(link.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("engine", "model"), [(FAKES + "stuck", "lite"), ("", "lite"), ("", "audiosr-basic")]
)
def test_it_ends_with_the_daemon_whatever_it_is_doing(tmp_path, monkeypatch, engine, model):
    monkeypatch.setenv("AUDIOSR_BRIDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BRIDGE_TEST_AT", "0")
    if model != "lite":
        from tests.support.audiosr import install

        install()
    source = spooled(tmp_path, noise(60 * RATE))
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path / "c"), source["path"], model, engine],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert daemon.stdout is not None
    worker = psutil.Process(int(daemon.stdout.readline()))
    assert worker.is_running()
    daemon.kill()
    daemon.wait(10)
    daemon.stdout.close()
    _, alive = psutil.wait_procs([worker], timeout=1)
    if alive:  # nobody reaps it here but init
        assert worker.status() == psutil.STATUS_ZOMBIE


def test_a_dead_worker_is_an_error_with_its_signal(start):
    talk = start()
    talk.hear("ready")
    os.kill(talk.link.pid, 9)
    with pytest.raises(WorkerError, match="signal 9"):
        talk.hear("nothing")
    with pytest.raises(WorkerError):
        talk.say("next")
    assert not talk.link.alive


def test_a_worker_that_does_not_read_is_killed(start, monkeypatch):
    monkeypatch.setattr("bridge.worker_link.SEND_SECONDS", 0.3)
    talk = start()
    talk.hear("ready")
    os.kill(talk.link.pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match="takes no commands"):
        talk.say("close", padding="x" * 4_000_000)
    talk.link.kill()
    assert talk.link.exit_status == -9


def test_torch_comes_with_the_first_job(start, tmp_path):
    talk = start("")
    talk.hear("ready")
    maps = Path(f"/proc/{talk.link.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc here")
    assert "libtorch" not in maps.read_text()
    talk.open(spooled(tmp_path, noise(RATE)))
    talk.run()
    assert "libtorch" in maps.read_text()
    assert talk.kinds().index("loading") < talk.kinds().index("loaded")
