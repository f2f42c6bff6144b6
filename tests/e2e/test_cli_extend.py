"""`extend` as a subprocess, with the real engine."""

from __future__ import annotations

import os
import signal
import time
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile

from tests.support import command

KEYS = [
    "input",
    "output",
    "sample_rate",
    "num_samples",
    "num_channels",
    "cutoff_hz",
    "cutoff_confidence",
    "full_band",
    "model",
    "seed",
    "overs",
    "seconds",
    "real_time_factor",
]

pytestmark = pytest.mark.skipif(
    find_spec("audiosr_core.extend_file") is None, reason="the engine is not in this tree yet"
)


def start(folder, *arguments):
    return command.start(folder, "extend", *arguments)


def extend(folder, *arguments):
    return command.ended(start(folder, *arguments), 240)


@pytest.fixture
def sound(tmp_path):
    """Write half a second of noise at 16 kHz under a name; bytes are a raw file name."""

    def make(name, seconds=0.5):
        path = os.fsencode(tmp_path) + b"/" + os.fsencode(name)
        x = np.random.default_rng(0).normal(0, 0.1, int(16_000 * seconds))
        with open(path, "wb") as file:
            soundfile.write(file, x, 16_000, format="WAV", subtype="PCM_16")
        return os.fsdecode(name)

    return make


def test_one_file_gives_one_object_with_every_key(tmp_path, sound):
    code, [report], _ = extend(tmp_path, sound("a b.wav"), "--json", "-o", "out.wav")
    assert code == 0
    assert set(KEYS) <= set(report)
    assert soundfile.info(tmp_path / "out.wav").frames == report["num_samples"]


def test_names_that_bite(tmp_path, sound):
    names = [sound("-x.wav"), sound("[red].wav"), sound(b"\xff.wav")]
    code, reports, err = extend(tmp_path, "--json", "-o", "out/", "--", *names)
    assert code == 0, err
    assert [r["input"] for r in reports] == names
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_one_failure_stops_no_other(tmp_path, sound):
    (tmp_path / "bad.wav").write_bytes(b"not a sound")
    names = [sound("a.wav"), "bad.wav", "missing.wav", sound("b.wav")]
    code, reports, err = extend(tmp_path, *names, "--json", "-o", "out")
    assert code == 1
    assert len(reports) == 4
    assert ["error" in r for r in reports] == [False, True, True, False]
    assert err.count("error: ") == 2


def test_an_existing_output_and_a_missing_model(tmp_path, sound):
    name = sound("a.wav")
    (tmp_path / "out.wav").write_bytes(b"mine")
    code, [report], _ = extend(tmp_path, name, "-o", "out.wav", "--json")
    assert code == report["exit_code"] == 2
    assert (tmp_path / "out.wav").read_bytes() == b"mine"
    code, [report], _ = extend(tmp_path, name, "--model", "nope", "--json")
    assert code == report["exit_code"] == 4


def test_a_dry_run_writes_nothing(tmp_path, sound):
    name = sound("a.wav")
    code, [report], _ = extend(tmp_path, name, "--dry-run", "--json")
    assert code == 0
    assert report["input"] == name
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_is_130_and_leaves_nothing(tmp_path, sound, number):
    process = start(tmp_path, sound("long.wav", 300))
    limit = time.monotonic() + 60
    while len(os.listdir(tmp_path)) == 1 and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)  # until the temporary output is there
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert os.listdir(tmp_path) == ["long.wav"]
