"""`render` as a subprocess, with real plugins and the real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from plugin_host.cli.app import run

ROOT = Path(__file__).parents[2]
VST3 = Path("/usr/lib/vst3/ZamCompX2.vst3")
PATIENCE = 60  # seconds, for a process to get somewhere

pytestmark = pytest.mark.timeout(200)
needs_vst3 = pytest.mark.skipif(not VST3.exists(), reason=f"{VST3} is not installed")

CHAIN = """
schema = 1
[[step]]
plugin = "HighpassFilter"
cutoff_frequency_hz = 20
[[step]]
super_resolution = true
"""
FOREIGN = f"""
schema = 1
[[step]]
vst3 = "{VST3}"
[[step]]
super_resolution = true
"""


def start(folder, *arguments):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "plugin_host.cli", "render", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=pipe, stderr=pipe, preexec_fn=_hear_interrupts
    )


def _hear_interrupts():
    """As from a terminal: a suite started in the background inherits SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process):
    out, err = process.communicate(timeout=150)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


@pytest.fixture
def render(folder, monkeypatch, capfd):
    """The command in this process, for what needs no process of its own."""
    monkeypatch.chdir(folder)

    def call(*arguments):
        code = run(["render", *arguments])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return call


@pytest.fixture
def folder(tmp_path):
    """Two chains, and a second of noise that ends at 8 kHz."""
    (tmp_path / "chain.toml").write_text(CHAIN)
    (tmp_path / "foreign.toml").write_text(FOREIGN)
    sound(tmp_path / "a.wav", 1)
    return tmp_path


def sound(path, seconds):
    n = 44_100
    spectrum = np.fft.rfft(0.1 * np.random.default_rng(0).standard_normal((2, n)))
    x = np.fft.irfft(spectrum * (np.fft.rfftfreq(n, 1 / 44_100) < 8_000), n)
    with soundfile.SoundFile(path, "w", 44_100, 2, "PCM_24") as file:
        for _ in range(seconds):
            file.write(x.T)


def part_of(folder, process):
    """The hidden output, as soon as it is there and has a beginning."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit and process.poll() is None:
        for part in folder.glob(".*.part"):
            if part.stat().st_size > 100_000:
                return part
        time.sleep(0.02)
    raise AssertionError(f"no output was begun: {process.communicate()[1].decode()}")


def test_a_batch_with_a_failure_in_its_middle(folder, render):
    (folder / "bad.wav").write_bytes(b"not a sound")
    sound(folder / "b.wav", 1)
    code, reports, err = render(
        "chain.toml", "a.wav", "bad.wav", "b.wav", "-o", "out", "--json",
        "--report", "report.json", "--html", "report.html",
    )  # fmt: skip
    assert code == 1
    assert ["error" in report for report in reports] == [False, True, False]
    assert "1 of 3 files failed" in err
    assert sorted(os.listdir(folder / "out")) == ["a.wav", "b.wav"]
    assert soundfile.info(folder / "out" / "a.wav").frames == reports[0]["num_samples"] == 44_100
    assert reports[0]["null_residual_db"] < -90
    assert reports[0]["steps"] == ["HighpassFilter", "SuperResolution"]
    assert json.loads((folder / "report.json").read_text())["files"] == reports
    page = (folder / "report.html").read_text()
    assert all(word in page for word in ("out/a.wav", "bad.wav", "LUFS", "dBTP"))
    assert page.count("data:image/png;base64,") == 4  # spectrograms and spectra of two files


def test_usage(folder, render):
    for arguments in (
        ["chain.toml", "a.wav", "-o", "a.wav"],
        ["chain.toml", "a.wav", "--in-place", "-o", "b.wav"],
        ["chain.toml", "a.wav", "--tail", "-1"],
        ["missing.toml", "a.wav"],
    ):
        code, _, err = render(*arguments)
        assert code == 2, (arguments, err)
        assert err.startswith("error: ")
    code, [report], _ = render("chain.toml", "a.wav", "--dry-run", "--json")
    assert code == 0
    assert report["dry_run"]
    assert sorted(os.listdir(folder)) == ["a.wav", "chain.toml", "foreign.toml"]


def test_in_place_keeps_a_backup(folder, render):
    original = (folder / "a.wav").read_bytes()
    code, _, _ = render("chain.toml", "a.wav", "--in-place", "--tail", "0.5")
    assert code == 0
    assert (folder / "a.orig.wav").read_bytes() == original
    assert soundfile.info(folder / "a.wav").frames == 66_150


@pytest.mark.slow
@needs_vst3
def test_a_crash_in_the_middle_of_a_render_fails_that_file_alone(folder):
    sound(folder / "long.wav", 240)
    (folder / "out").mkdir()
    process = start(folder, "foreign.toml", "long.wav", "a.wav", "-o", "out", "--json")
    part_of(folder / "out", process)
    (worker,) = [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in str(child.cmdline())
    ]
    worker.send_signal(signal.SIGSEGV)
    code, reports, err = ended(process)
    assert code == 1
    assert "SIGSEGV" in reports[0]["error"], err
    assert reports[1]["num_samples"] == 44_100
    assert os.listdir(folder / "out") == ["a.wav"]


@needs_vst3
def test_interrupted_in_the_child_is_130_and_leaves_nothing(folder):
    _interrupted(folder, "foreign.toml")


def test_interrupted_is_130_and_leaves_nothing(folder):
    _interrupted(folder, "chain.toml")


def _interrupted(folder, chain):
    (folder / "out").mkdir()
    sound(folder / "long.wav", 240)
    process = start(folder, chain, "long.wav", "a.wav", "-o", "out")
    part_of(folder / "out", process)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130, err
    assert os.listdir(folder / "out") == []
