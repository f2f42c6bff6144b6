"""docs/protocol.md and the code say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bridge.errors import CODES
from bridge.jobs import TRANSITIONS, State
from bridge.protocol import LIMITS, ON_BOTH, STATES, TYPES, VERSION
from tests.support.protocol_doc import field_text, rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/protocol.md").read_text("utf-8")
GOLDEN = json.loads((ROOT / "tests/unit/golden/protocol_1_0.json").read_text("utf-8"))

pytestmark = pytest.mark.timeout(20)


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_version():
    assert f"# The protocol of the bridge, version {VERSION[0]}.{VERSION[1]}\n" in PAGE
    major, minor = GOLDEN["version"]  # its messages stay valid within a major version
    assert (major, minor) <= VERSION < (major + 1, 0)


def test_limits():
    told = {code_spans(name)[0]: int(value) for name, value, _ in rows(PAGE, "## Limits")}
    assert told == vars(LIMITS)


def test_codes():
    told = [(code_spans(r[0])[0], int(r[1]), r[2], r[3]) for r in rows(PAGE, "## Errors")]
    assert told == [
        (c.name, c.exit_code, "yes" if c.retryable else "no", c.meaning) for c in CODES.values()
    ]


def test_life_of_a_job():
    told = {
        code_spans(state)[0]: set(code_spans(then))
        for state, then, _ in rows(PAGE, "## The life of a job")
    }
    assert told == {s.value: {t.value for t in then} for s, then in TRANSITIONS.items()}
    assert tuple(told) == STATES == tuple(State)


def test_every_message_has_its_section_in_order():
    assert re.findall(r"^#### (\w+)$", PAGE, re.MULTILINE) == sorted(
        TYPES, key=lambda name: ("control", "work", "events").index(TYPES[name].socket)
    )


@pytest.mark.parametrize("name", TYPES)
def test_message(name):
    kind = TYPES[name]
    section = PAGE.split(f"\n#### {name}\n", 1)[1].split("\n#")[0]
    socket = "control and work" if name in ON_BOTH else kind.socket
    answer = f"answered by `{kind.answer}`" if kind.answer else "no answer"
    audio = " · audio" if kind.audio else ""
    assert section.strip().splitlines()[0] == f"{socket} · from the {kind.sender} · {answer}{audio}"
    told = [(r[0], r[1], r[2]) for r in rows(PAGE, f"#### {name}")] if kind.fields else []
    assert told == [
        (f"`{field}`", field_text(one), "required" if one.required else "optional")
        for field, one in kind.fields.items()
    ]
    assert kind.answer in ("", *TYPES)


def test_examples_are_the_golden_bytes():
    joined = re.sub(r"\n    ", "", PAGE)
    for name in ("hello", "audio"):
        mac, header, meta = next(m for m in GOLDEN["messages"] if m["type"] == name)["frames"][1:4]
        for text in (mac, bytes.fromhex(header).decode(), bytes.fromhex(meta).decode()):
            assert text in joined, (name, text)
    assert all(value in PAGE for value in GOLDEN["derivation"].values())
