"""The plugin in the hosts that need no screen: all that they do is checked in tests/hosts."""

from __future__ import annotations

import pytest

from tests.hosts import QUICK
from tests.hosts.matrix import matrix
from tests.hosts.one import checks, host

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("name", QUICK)
def test_a_host(name):
    if lacking := host(name).missing():
        pytest.skip(f"{host(name).NAME}: {lacking}")
    found = list(checks(name, quick=True, limit=150))
    failed = [f"{one.host} {one.format} {one.what}: {one.detail}" for one in found if not one.ok]
    assert found
    assert not failed
    assert len(matrix(found)) > 2
