"""What a confined process says is in force, is in force."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
import json, os, socket, subprocess, sys
from pathlib import Path
from audiosr_core import confine

source, folder, secret = map(Path, sys.argv[1:])
force = confine.isolate()
force += confine.limit(confine.Limits(1 << 30, 60, 1 << 20))
force += confine.restrict_files([source, *map(Path, sys.path)], folder)

def tried(action):
    try:
        action()
    except (OSError, MemoryError):
        return False
    return True

def fill():
    (folder / "large").write_bytes(bytes(1 << 21))

def connect():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 1).close()

print(json.dumps({
    "force": " ".join(force),
    "read source": tried(source.read_bytes),
    "write folder": tried(lambda: (folder / "new").write_bytes(b"x")),
    "write source": tried(lambda: source.write_bytes(b"x")),
    "read secret": tried(secret.read_bytes),
    "start program": tried(lambda: subprocess.run([sys.executable, "-c", ""])),
    "memory": tried(lambda: bytearray(2 << 30)),
    "large file": tried(fill),
    "network": tried(connect),
}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_what_is_said_to_be_in_force_is(tmp_path):
    source, folder, secret = tmp_path / "source", tmp_path / "folder", tmp_path / "secret"
    source.write_bytes(b"x")
    folder.mkdir()
    secret.write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-c", CODE, source, folder, secret],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout)
    force = tried.pop("force")
    assert tried["read source"]
    assert tried["write folder"]
    assert "RLIMIT_AS" in force
    assert not tried["memory"]
    assert not tried["large file"]
    if "files:" in force:
        assert not tried["write source"]
        assert not tried["read secret"]
        assert not tried["start program"]
    if "no network" in force or "no TCP" in force:
        assert not tried["network"]
