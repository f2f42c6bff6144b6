"""The daemon, its protocol and its clients.

from bridge import connect              what talks to a daemon; it is loaded when first used
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.aio import AsyncClient
    from bridge.client import Client, connect
    from bridge.client_job import Job
    from bridge.remote import RemoteEngine
    from bridge.surface import Instance

__all__ = ["AsyncClient", "Client", "Instance", "Job", "RemoteEngine", "connect"]

_HOMES = {
    "AsyncClient": "bridge.aio",
    "Client": "bridge.client",
    "Instance": "bridge.surface",
    "Job": "bridge.client_job",
    "RemoteEngine": "bridge.remote",
    "connect": "bridge.client",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
