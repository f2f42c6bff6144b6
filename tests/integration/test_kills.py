"""A few kills; two hundred are `python -m tests.bench.bridge kills`."""

from __future__ import annotations

import pytest

from tests.support.kills import kills


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_kill_at_any_moment_loses_nothing_but_the_running_chunk() -> None:
    outcome = kills(10, seed=1)

    assert outcome.wrong == []
    assert outcome.jobs >= 4
    assert outcome.lost <= outcome.kills
