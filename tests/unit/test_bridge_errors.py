"""An error that crosses the wire is the same error: class, sentence, exit code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from audiosr_core.errors import AudioSRError, NotFiniteError
from bridge.errors import CODES, BridgeError, CodedError, code_of, error_from
from bridge.protocol import SequenceError

pytestmark = pytest.mark.timeout(20)


def tree(root: type[AudioSRError]) -> Iterator[type[AudioSRError]]:
    yield root
    for one in root.__subclasses__():
        if one.__module__ in ("audiosr_core.errors", "bridge.errors"):
            yield from tree(one)


@pytest.mark.parametrize("kind", [k for k in tree(AudioSRError) if k is not CodedError])
def test_every_class_comes_back(kind):
    made = kind(0, 48_000, 48_000) if kind is NotFiniteError else kind("what, what came; do this")
    back = error_from(code_of(made), str(made))
    assert (type(back), str(back), back.exit_code) == (kind, str(made), kind.exit_code)
    assert code_of(back) == code_of(made)


@pytest.mark.parametrize("code", CODES)
def test_every_code_comes_back(code):
    back = error_from(code, "why")
    assert (code_of(back), str(back), back.exit_code) == (code, "why", CODES[code].exit_code)
    assert isinstance(back, CODES[code].raises)
    said = CodedError(code, "why")
    assert (code_of(said), said.exit_code) == (code, CODES[code].exit_code)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SequenceError(3, 5), "E_SEQUENCE"),
        (MemoryError(), "E_DEVICE"),
        (ZeroDivisionError(), "E_INTERNAL"),
        (BridgeError("x"), "E_INTERNAL"),
        (type("Later", (NotFiniteError,), {})(0, 1, 2), "E_NOT_FINITE"),
    ],
)
def test_others(error, code):
    assert code_of(error) == code


def test_a_code_of_a_later_version_is_an_error_with_its_text():
    back = error_from("E_TELEPATHY", "thoughts were lost")
    assert type(back) is BridgeError
    assert str(back) == "thoughts were lost (E_TELEPATHY)"


def test_a_foreign_code_does_not_travel():
    error = ValueError("x")
    error.code = 42  # type: ignore[attr-defined]
    assert code_of(error) == "E_INTERNAL"
    assert all(one.name == name and one.meaning for name, one in CODES.items())
