"""The heart of the plugin, with a daemon and a store in memory: laws, races, and real time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.native import build

pytestmark = [
    pytest.mark.timeout(300),  # a sanitized build takes most of it
    pytest.mark.skipif(sys.platform != "linux", reason="the plugin is for Linux"),
]
PARTS = (
    "effect", "playback", "queues", "pace", "renderer", "chunks", "live", "history", "daemon",
    "settings", "state", "parameters", "json",
)  # fmt: skip
LAWS = (
    "any_blocks", "any_start", "second_pass_needs_no_daemon", "silence_needs_no_daemon", "jumps",
    "failures", "one_line_a_trouble", "mute_daemon", "starts_the_daemon", "knobs", "automation",
    "another_plan", "reset_forgets", "deactivate_while_waiting", "wild_transport", "scanners",
    "live", "late_is_dry", "late_holds_up_nobody", "soak",
)  # fmt: skip
RACES = (
    "second_pass_needs_no_daemon", "jumps", "reset_forgets", "deactivate_while_waiting",
    "late_holds_up_nobody",
)  # fmt: skip


@pytest.fixture(scope="session")
def effect() -> Path:
    return build("effect", *PARTS, beside=("fakes",), sanitize=True)


@pytest.fixture(scope="session")
def effect_with_races_shown() -> Path:
    return build("effect", *PARTS, beside=("fakes",), flags=("-fsanitize=thread",))


def run(program: Path, *words: str) -> str:
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("law", LAWS)
def test_law(effect: Path, law: str):
    assert run(effect, law) == f"{law}\n"


@pytest.mark.parametrize("law", RACES)
def test_no_races(effect_with_races_shown: Path, law: str):
    run(effect_with_races_shown, law)


def test_the_queues_lose_nothing_and_race_not():
    run(build("queues", "queues", flags=("-fsanitize=thread",)))


def test_a_forked_host_hangs_nowhere():
    run(build("forked", *PARTS, beside=("fakes",)))


def test_who_renders_is_told_from_who_plays():
    run(build("pace", "pace", sanitize=True))


def test_the_audio_thread_calls_nothing_that_may_wait():
    said = run(build("realtime", *PARTS, beside=("fakes",)), "1000")
    assert said.count("p99.99") == 8  # printed for people; how fast is no matter of this test
