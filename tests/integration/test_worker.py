"""The worker process: real pipes, real processes, the samples of the engine in-process."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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
        pieces = []
        while True:
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


def spooled(folder: Path, x: Sound, job: str = "j", whole: bool = True) -> dict[str, Any]:
    dtype = "f8" if x.dtype == np.float64 else "f4"
    with Spool(folder, job, x.shape[0], dtype) as spool:
        spool.append(x, spool.received)
        if whole:
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
        "latency_samples": CHUNK,
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


def test_it_ends_when_the_other_side_is_gone(start, tmp_path):
    """Also in the middle of a computation that never asks whether to go on."""
    os.environ["BRIDGE_TEST_AT"] = "0"
    try:
        talk = start("stuck")
    finally:
        del os.environ["BRIDGE_TEST_AT"]
    talk.open(spooled(tmp_path, noise(CHUNK)))
    talk.say("analyse")
    talk.hear("decided")
    talk.say("next")
    began = time.monotonic()
    talk.link.stop(seconds=1)
    assert talk.link.exit_status == 0
    assert time.monotonic() - began < 1


def test_a_dead_worker_is_an_error_with_its_signal(start):
    talk = start()
    talk.hear("ready")
    os.kill(talk.link.pid, 9)
    with pytest.raises(WorkerError, match="signal 9"):
        talk.hear("nothing")


@pytest.mark.parametrize("seconds", [0.5, 20])
def test_a_file_gives_the_samples_of_the_engine(start, tmp_path, seconds):
    from audiosr_core.audio import Audio
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    x = noise(int(seconds * RATE), dtype=np.float64)
    path = tmp_path / "x.wav"
    soundfile.write(path, x.T, RATE, "DOUBLE")
    expected = Engine().extend(Audio(x, RATE), Settings())

    talk = start("")
    talk.open({"kind": "file", "path": str(path)})
    sound, _ = talk.run()

    np.testing.assert_array_equal(sound, expected.samples)
