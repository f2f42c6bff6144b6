"""Hosts: the command line, and what wraps files, folders and plugins.

from plugin_host import Chain, SuperResolution      what they need is loaded when first used
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugin_host.chain import Chain
    from plugin_host.chain_file import load_chain
    from plugin_host.plugin_stage import EachChannel
    from plugin_host.plugins import load_plugin
    from plugin_host.render_file import render
    from plugin_host.super_resolution import SuperResolution

__all__ = ["Chain", "EachChannel", "SuperResolution", "load_chain", "load_plugin", "render"]

_HOMES = {
    "Chain": "plugin_host.chain",
    "EachChannel": "plugin_host.plugin_stage",
    "SuperResolution": "plugin_host.super_resolution",
    "load_chain": "plugin_host.chain_file",
    "load_plugin": "plugin_host.plugins",
    "render": "plugin_host.render_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
