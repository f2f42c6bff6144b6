"""A short soak; the long one is `python -m tests.bench.bridge soak`."""

from __future__ import annotations

import pytest

from tests.support.daemon import daemon
from tests.support.soak import KINDS, memory, soak

JOBS = 500
CLIENTS = 20


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_many_clients_get_what_is_theirs_and_leave_nothing_behind() -> None:
    with daemon(engine="tests.support.bridge_engines:echo") as running:
        tally = soak(running.connection(), range(JOBS), CLIENTS)

        assert tally.wrong == []
        assert tally.ended.total() == JOBS
        assert set(tally.ended) == set(KINDS)
        assert memory(running)["daemon"] < 200 << 20
