"""The command line and a daemon that somebody kills, fills, cancels or hides."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from bridge.connection import running as find
from bridge.jobs import ENDED
from plugin_host.cli.bars import Left
from tests.support.daemon import ENGINES, ROOT, RunningDaemon, daemon
from tests.support.fake_daemon import wait_until

pytestmark = pytest.mark.timeout(180)
RATE = 48_000


@pytest.fixture
def slow() -> Iterator[RunningDaemon]:
    with daemon(engine=f"{ENGINES}:slow", BRIDGE_TEST_STEP_SECONDS=0.05) as one:
        yield one


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Noise without a high band, so long that a daemon can be killed over it."""
    x = np.random.default_rng(0).standard_normal((2, 40 * RATE))
    spectrum = np.fft.rfft(x, axis=1)
    spectrum[:, np.fft.rfftfreq(x.shape[1], 1 / RATE) > 8_000] = 0
    path = tmp_path / "in.wav"
    soundfile.write(path, 0.1 * np.fft.irfft(spectrum, x.shape[1], axis=1).T, RATE, "PCM_24")
    return path


def start(running: RunningDaemon, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "plugin_host.cli", *map(str, words)],
        env=running.environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err


def run(running: RunningDaemon, *words: object) -> tuple[int, str, str]:
    return ended(start(running, *words))


def at_work(running: RunningDaemon) -> None:
    """Wait until a job is under way."""
    with running.client() as client:
        wait_until(lambda: any(one["state"] == "running" for one in client.jobs()), 60)


@pytest.mark.parametrize("flags", [[], ["--daemon"]], ids=["by itself", "asked for"])
def test_a_batch_goes_on_when_its_daemon_is_killed(slow, source, tmp_path, flags):
    second = tmp_path / "second.wav"
    second.write_bytes(source.read_bytes())
    (tmp_path / "here").mkdir()
    assert run(slow, "extend", source, "--no-daemon", "-o", tmp_path / "here/")[0] == 0

    process = start(slow, "extend", source, second, "-o", tmp_path / "out/", "--json", *flags)
    at_work(slow)
    slow.kill()
    try:
        code, out, err = ended(process)
    finally:
        if another := find(slow.runtime):
            psutil.Process(another.pid).terminate()
            psutil.wait_procs([psutil.Process(another.pid)], 10)
    assert code == 0, err
    assert err.count("note: the daemon went away") == 1, err
    place = "daemon" if flags else "in-process"
    assert [json.loads(line)["engine"] for line in out.splitlines()] == [place] * 2
    assert (another is not None) == bool(flags)
    expected = (tmp_path / "here" / "in.wav").read_bytes()
    for name in ("in.wav", "second.wav"):
        assert (tmp_path / "out" / name).read_bytes() == expected


def test_a_daemon_that_was_named_is_never_replaced(slow, source, tmp_path):
    target = tmp_path / "out.wav"
    process = start(
        slow, "extend", source, "-o", target, "--connection", slow.connection_file
    )  # fmt: skip
    at_work(slow)
    slow.kill()
    code, _, err = ended(process)
    assert code == 3
    assert "the daemon went away" in err
    assert list(tmp_path.iterdir()) == [source]


def test_a_job_that_somebody_cancels_is_told_of_once(slow, source, tmp_path):
    process = start(slow, "extend", source, "-o", tmp_path / "out.wav")
    at_work(slow)
    code, out, _ = run(slow, "jobs")
    assert code == 0
    assert " running " in out
    assert "lite, 40.0 s of sound" in out
    assert run(slow, "cancel", "all")[0] == 0
    code, _, err = ended(process)
    assert code == 130
    assert err.splitlines() == [f"error: {source}: the job was cancelled"]
    assert " cancelled " in run(slow, "jobs")[1]
    assert list(tmp_path.iterdir()) == [source]


def test_a_failed_job_says_why_in_the_list(slow, tmp_path):
    source = tmp_path / "broken.wav"
    soundfile.write(source, np.full((30 * RATE, 1), np.nan), RATE, "FLOAT")
    code, _, err = run(slow, "extend", source, "-o", tmp_path / "out.wav")
    assert code == 1
    assert "sample 0" in err
    _, out, _ = run(slow, "jobs")
    assert " failed " in out
    assert "sample 0" in out
    assert " left" not in out


@pytest.mark.parametrize("words", [["jobs"], ["cancel", "all"], ["daemon", "status"]])
def test_without_a_daemon_the_sentence_is_for_people(slow, words):
    slow.stop()
    code, out, err = run(slow, *words)
    assert (code, out) == (3, "")
    assert err == "error: no daemon runs; start one with: audiosr-bridge daemon start\n"


def test_another_machine_that_is_silent_is_looked_for_over_there(slow, source):
    endpoints = {name: f"tcp://127.0.0.1:{9 + i}" for i, name in enumerate(
        ("control", "work", "events"))}  # fmt: skip
    path = source.parent / "there.json"
    path.touch(0o600)
    path.write_text(json.dumps({
        "endpoints": endpoints, "key": "0" * 64, "version": "0.1.0", "protocol": [1, 0],
        "key_name": "laptop",
        "curve": dict.fromkeys(
            ("server", "public", "secret"), "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
        ),
    }))  # fmt: skip
    code, _, err = run(slow, "jobs", "--connection", path)
    assert code == 3
    assert "nobody answers at tcp://127.0.0.1:9" in err
    assert "--listen" in err
    assert "daemon start`" not in err


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit")
def test_a_disk_that_is_full_is_named_and_the_next_sound_is_tried(source, tmp_path):
    small = tmp_path / "small.wav"
    audio, rate = soundfile.read(source, frames=RATE // 10)
    soundfile.write(small, audio, rate, "PCM_24")
    big = tmp_path / "big.wav"
    soundfile.write(big, np.tile(audio, (20, 1)), rate, "PCM_24")
    with tempfile.TemporaryDirectory(prefix="asb") as name:
        one = RunningDaemon(Path(name))
        try:
            one.start(["prlimit", "--fsize=1000000"])
            code, _, err = run(one, "extend", big, small, "-o", tmp_path / "out/")
            assert code == 1
            assert "the daemon's cache folder: File too large" in err
            assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["small.wav"]
            with one.client() as client:
                assert [job["error"] and job["error"][0] for job in client.jobs()] == [
                    "E_BUSY", None,
                ]  # fmt: skip
        finally:
            one.stop()


def test_the_status_is_readable(slow):
    code, out, err = run(slow, "daemon", "status")
    assert code == 0, err
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["running"] == "yes"
    assert lines["keep_alive"] == "300 s"
    assert lines["memory"].endswith(" MB")
    assert not set('[]{}"') & set(out)


# ---- the time that is left


def test_the_daemon_says_how_long_only_while_it_computes(source, tmp_path):
    """What the analysis has done says nothing of how long a model takes."""
    with (
        daemon(engine=f"{ENGINES}:slow", BRIDGE_TEST_STEP_SECONDS=0.001) as quick,
        quick.client() as client,
    ):
        events = client.events(["job."])
        process = start(quick, "extend", source, "-o", tmp_path / "out.wav")
        heard = []
        for event in events:
            heard.append((event["state"], event["eta_seconds"]))
            if event["state"] in ENDED:
                break
        assert ended(process)[0] == 0
    assert {state for state, eta in heard if eta is not None} == {"running", "done"}
    assert heard[-1] == ("done", 0.0)


@given(
    speed=st.floats(0.001, 1.0),
    since=st.sampled_from([0.0, 0.1]),
    stalls=st.lists(st.floats(0.0, 5.0), min_size=2, max_size=20),
)
def test_what_is_left_is_right_at_an_even_speed_and_counts_down_in_between(speed, since, stalls):
    """The first part, `since`, is done at once: it must not be taken for the speed of the rest."""
    left, now, fraction = Left(since), 1000.0, since
    assert left.seconds(since / 2, now) is None or since == 0
    left = Left(since)
    assert left.seconds(fraction, now) is None
    for stall in stalls:
        now += stall
        fraction = since + speed * (now - 1000.0)
        if fraction > 1 or now - 1000.0 < 1e-3:
            return
        then = left.seconds(fraction, now)
        assert then == pytest.approx((1 - fraction) / speed, rel=1e-3, abs=1e-3)
        assert left.seconds(fraction, now + 1.0) == pytest.approx(max(0.0, then - 1.0), abs=1e-6)


def test_nothing_is_known_before_the_first_step():
    left = Left(0.1)
    began = time.monotonic()
    assert [left.seconds(f, began + f) for f in (0.0, 0.05, 0.1)] == [None] * 3
