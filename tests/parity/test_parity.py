"""Every stage of the published pipeline against its recorded numbers; see `check`."""

from __future__ import annotations

import pytest

from tests.parity.check import STAGES, Stage, run
from tests.parity.recorded import ParitySet
from tests.support.parity import parity_folder


@pytest.fixture(scope="module")
def parity() -> ParitySet:
    return ParitySet(parity_folder())


@pytest.fixture(scope="module")
def ran() -> set[str]:
    """Names of the stages that ran so far."""
    return set()


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.slow else [])
        for one in STAGES
    ],
)
def test_stage_is_as_recorded(parity: ParitySet, ran: set[str], stage: Stage) -> None:
    result = run(parity, stage)
    ran.add(stage.name)
    if result.state == "absent":
        pytest.skip(result.said)
    assert result.state == "ok", result.line()


def test_every_recorded_array_is_compared(parity: ParitySet, ran: set[str]) -> None:
    """But for those that take the official weights."""
    if ran != {stage.name for stage in STAGES}:
        pytest.skip("all stages must have run before")
    assert [name for name in parity.not_compared() if not name.startswith("official_run")] == []
