"""The whole plugin in hosts that lack something or do too much, with a real daemon."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.native import build

pytestmark = [
    pytest.mark.timeout(300),  # a build takes most of it
    pytest.mark.skipif(platform.system() != "Linux", reason="the plugin is for Linux"),
]
PARTS = (
    "effect", "playback", "queues", "pace", "renderer", "chunks", "live", "history", "daemon",
    "settings", "state", "parameters", "json", "link", "wire", "zmtp", "sha256", "places",
    "starter", "store",
)  # fmt: skip
SETTLED = 24 << 10  # kB that the allocator may keep after the first of many


@pytest.fixture(scope="module")
def echo() -> Iterator[RunningDaemon]:
    with daemon(engine=f"{ENGINES}:echo", BRIDGE_TEST_CHUNK_SECONDS=0.5) as running:
        yield running


@pytest.mark.parametrize(
    ("command", "number", "wet", "silent"),
    [
        ("closed", 1, 6, 0),
        ("files", 1, 0, 2),
        ("memory", 1, 0, 0),  # counted in processes of their own
        ("many", 12, 24, 0),
        ("cycles", 40, 80, 0),
        ("busy", 10, 0, 0),
        ("denormals", 1, 2, 0),
    ],
)
def test_it_is_wet_or_says_so_and_keeps_nothing(command, number, wet, silent, echo):
    program = build("odd_host", *PARTS)
    done = subprocess.run(
        [program, command, str(number)],
        env=echo.environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["wet"], seen["silent"], seen["other"]) == (wet, silent, 0), done.stderr
    assert (seen["failed"] > 0) == (silent > 0)
    assert seen["files"] <= 0
    assert seen["threads"] == 0
    if command == "cycles":
        assert seen["kilobytes"] < SETTLED
