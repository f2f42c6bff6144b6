"""What loads what at run time: a linter does not see torch arriving through an `__init__`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "scipy", "zmq", "pedalboard", "matplotlib")


@pytest.mark.parametrize(
    "code",
    [
        "import audiosr_core",
        "import audiosr_core.presets, audiosr_core.settings",
        "import bridge",
        "import bridge.runtime_dir, bridge.connection, bridge.lifecycle",
        "import bridge.journal, bridge.log",
        "import plugin_host.cli",
        "from plugin_host.cli.app import run; run(['extend', '--help'])",
        "from plugin_host.cli.app import run; run(['presets', 'list'])",
        "import plugin_host.compat",
        "from plugin_host.cli.app import run; run(['compat', '--help'])",
    ],
)
def test_the_light_stays_light(code):
    code += f"\nimport sys; sys.stderr.write(','.join(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
