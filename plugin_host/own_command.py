"""What runs `audiosr-bridge` of this very installation, in whatever environment a host has."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

OF_THE_HOST = ("LD_LIBRARY_PATH", "PYTHONPATH")  # hosts bring their own: ours are said anew


def own_command() -> list[str]:
    """Words to put before those of a sub-command."""
    environment = {name: os.environ[name] for name in OF_THE_HOST if os.environ.get(name)}
    place = str(Path(__file__).parents[1])
    others = environment.get("PYTHONPATH", "").split(os.pathsep)
    if place not in (*sysconfig.get_paths().values(), *others):
        environment["PYTHONPATH"] = os.pathsep.join([place, *filter(None, others)])
    given = [f"{name}={value}" for name, value in environment.items()]
    python = [sys.executable, "-P", "-m", "plugin_host.cli"]
    return ["/usr/bin/env", *given, *python] if given else python
