"""`edit` as a host calls it: a subprocess, the real engine, no display."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiosr_core.evaluation.compare import compare_files
from audiosr_core.files import probe
from plugin_host.edit import original_of
from tests.support.display import until

ROOT = Path(__file__).parents[2]
CUTOFF = ("--cutoff", "4000")

pytestmark = pytest.mark.timeout(120)


def start(file, *arguments):
    state = file.parent.parent
    environment = {
        **{k: v for k, v in os.environ.items() if k != "DISPLAY"},
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "AUDIOSR_BRIDGE_STATE_DIR": str(state / "state"),
        "AUDIOSR_BRIDGE_RUNTIME_DIR": str(state / "run"),
    }
    command = [sys.executable, "-m", "plugin_host.cli", "edit", str(file), *arguments]
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def edit(file, *arguments):
    process = start(file, *arguments)
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


@pytest.fixture
def song(tmp_path):
    """Stereo noise up to a third of the rate; of the full band at 16 kHz."""

    def make(seconds=1, rate=48_000):
        path = tmp_path / "music" / "song.wav"
        path.parent.mkdir(exist_ok=True)
        x = np.random.default_rng(0).normal(0, 0.05, (seconds * rate, 2))
        if rate > 16_000:
            x = np.repeat(x[: len(x) // 3], 3, axis=0)
        soundfile.write(path, x, rate, subtype="PCM_24")
        return path

    return make


def test_edit_undo_edit_confirm(song):
    path = song()
    before, info = path.read_bytes(), probe(path)
    code, [report], err = edit(path, *CUTOFF, "--json")
    assert code == 0, err
    assert report["backup"] == str(original_of(path))
    assert "the original is song.orig.wav" in err
    now = probe(path)
    assert (now.num_samples, now.sample_rate, now.subtype) == (
        info.num_samples,
        info.sample_rate,
        info.subtype,
    )
    found = compare_files(original_of(path), path, cutoff_hz=4_000)
    assert found.null_residual_db < -90  # P1
    once = path.read_bytes()
    assert edit(path, "--undo", "--json")[:2] == (
        0,
        [{"input": str(path), "undone": True, "confirmed": False}],
    )
    assert path.read_bytes() == before
    assert edit(path, "--undo")[0] == 1

    assert edit(path, *CUTOFF)[0] == 0
    assert path.read_bytes() == once
    assert edit(path, "--keep")[0] == 0
    assert [one.name for one in path.parent.iterdir()] == ["song.wav"]


def test_no_room_at_its_rate_is_an_error_and_the_file_is_left(song):
    path = song(rate=16_000)
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    code, _, err = edit(path)
    assert code == 1
    assert "16000 Hz has no room" in err
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stamp
    assert [one.name for one in path.parent.iterdir()] == ["song.wav"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--undo", "--confirm"),
        ("--undo", "--seed", "3"),
        ("--rate", "96000"),
        ("--ask",),
        ("--preset", "there is none"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(song, arguments):
    path = song()
    before = path.read_bytes()
    assert edit(path, *arguments)[0] == 2
    assert path.read_bytes() == before


def test_interrupted_is_130_and_the_file_as_it_was(song):
    path = song(200)
    before = path.read_bytes()
    process = start(path, *CUTOFF)
    until(lambda: any(path.parent.glob(".*.part")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["song.wav"]


def test_kill_9_at_random_moments_of_the_work(song):
    path = song(10)
    before = path.read_bytes()
    for seed in range(2):
        process = start(path, *CUTOFF)
        until(lambda: any(path.parent.glob(".*.part")) or original_of(path).exists())
        try:
            process.wait(random.Random(seed).uniform(0, 1.5))  # the random moment
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=60)
        if path.read_bytes() == before:
            continue
        assert probe(path).num_samples == 10 * 48_000
        assert original_of(path).read_bytes() == before
    assert edit(path, *CUTOFF)[0] == 0  # nothing that was left is in the way
    assert edit(path, "--undo")[0] == 0
    assert path.read_bytes() == before
