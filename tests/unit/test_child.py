"""A process that works in our stead: what it says, what goes wrong in it, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from audiosr_core.errors import EXIT_DEVICE, EXIT_FAILED, EXIT_USAGE, UsageError
from plugin_host.child import Child, Died, Outcome

pytestmark = pytest.mark.timeout(60)
PATIENCE = 30  # seconds, for a process to say something


@contextlib.contextmanager
def opened(mark):
    """In the child: a file `mark` is there until it is left."""
    mark.touch()
    try:
        yield work
    finally:
        mark.unlink()


def work(order, tell):
    match order:
        case ("echo", text):
            tell(0.5)
            return {"said": text, "pid": os.getpid()}
        case ("usage", text):
            raise UsageError(text)
        case "memory":
            raise MemoryError
        case "disk":
            raise OSError(28, "no space left", "song.wav")
        case "bug":
            raise ZeroDivisionError("nobody saw it coming")
        case ("signal", number):
            os.kill(os.getpid(), number)
        case "exit":
            os._exit(3)
        case "hang":
            tell(0.0)
    threading.Event().wait(PATIENCE)
    raise AssertionError


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def child(mark):
    one = Child(opened, mark)
    yield one
    one.leave(at_once=True)
    one.join()


def heard(child):
    """Its next outcome, and the fractions before it."""
    fractions = []
    while child.pipe.poll(PATIENCE):
        if isinstance(news := child.hear(), Outcome):
            return news, fractions
        fractions.append(news)
    raise AssertionError("it says nothing")


def test_one_process_takes_order_after_order_and_errors_end_nothing(child, mark):
    pids = set()
    for order, error, code in [
        (("usage", "say it again"), "say it again", EXIT_USAGE),
        ("memory", "not enough memory", EXIT_DEVICE),
        ("disk", "song.wav: no space left", EXIT_FAILED),
        ("bug", "this is a bug: ZeroDivisionError: nobody saw it coming", EXIT_FAILED),
    ]:
        child.give(order)
        outcome, _ = heard(child)
        assert error in outcome.error
        assert outcome.exit_code == code
        child.give(("echo", "há"))
        outcome, _ = heard(child)
        assert (outcome.report["said"], outcome.error) == ("há", "")
        pids.add(outcome.report["pid"])
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert mark.exists()


@pytest.mark.parametrize(
    ("order", "how"),
    [(("signal", signal.SIGKILL), "SIGKILL"), (("signal", signal.SIGSEGV), "SIGSEGV"),
     ("exit", "exit code 3")],
)  # fmt: skip
def test_a_death_says_how(child, order, how):
    child.give(order)
    with pytest.raises(Died, match=how):
        heard(child)


@pytest.mark.parametrize("at_once", [False, True])
def test_what_it_opened_is_left_however_it_ends(child, mark, at_once):
    child.give("hang" if at_once else ("echo", "x"))
    child.hear()  # a fraction
    if not at_once:
        heard(child)
    assert mark.exists()
    child.leave(at_once=at_once)
    child.join()
    assert not mark.exists()
