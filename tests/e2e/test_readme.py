"""The mastering chain of README.md, run as it stands in a folder with the examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
def test_the_mastering_chain_of_the_readme_runs_as_it_stands(tmp_path):
    text = (ROOT / "README.md").read_text("utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    [code] = [one for one in snippets if "import pedalboard" in one or "from pedalboard" in one]
    assert len(code.split("\n")) <= 11, "it is promised to be ten lines"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"loudness -\d+\.\d+ to -\d+\.\d+ LUFS", done.stdout), done.stdout
    before = soundfile.info(ROOT / "examples/guitar.flac")
    after = soundfile.info(tmp_path / "guitar.mastered.flac")
    assert (after.samplerate, after.channels) == (48_000, before.channels)
    assert after.frames == before.frames * 3
