"""SECURITY.md names tests; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

from bridge.log import KEPT, MAX_BYTES
from bridge.protocol import LIMITS
from bridge.server.sessions import REMOTE_SHARE
from bridge.server.shared import Options
from tests.support.attack import CEILING, MIB

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()


def test_every_promise_has_a_test_that_exists():
    rows = [line for line in PAGE.splitlines() if "::" in line]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            text = (ROOT / "tests" / "integration" / file).read_text()
            assert f"def {test}(" in text, test


def test_every_attack_is_promised_against_or_is_a_detail():
    """What is tested as an attack on the wire or by TCP stands on the page."""
    for file in ("test_attacks_on_the_wire.py",):
        text = (ROOT / "tests" / "integration" / file).read_text()
        for test in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE):
            assert test in PAGE, test


def test_the_figures_are_those_of_the_code():
    assert CEILING == 512 * MIB
    assert f"{Options.memory_bytes // MIB} MiB" in PAGE
    assert f"{LIMITS.spool_bytes >> 30} GiB" in PAGE
    assert f"{MAX_BYTES * (KEPT + 1) // MIB} MiB" in PAGE
    assert REMOTE_SHARE == 4
