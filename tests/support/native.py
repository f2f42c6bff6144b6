"""Programs of tests/native, compiled when a test wants them and kept by what they are made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "plugin_host" / "shim" / "src"
PROGRAMS = ROOT / "tests" / "native"
FLAGS = ("-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build(
    program: str,
    *parts: str,
    sanitize: bool = False,
    flags: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
) -> Path:
    """tests/native/<program>.cpp linked with these sources of the shim; skips without a compiler.

    Args:
        parts: file names in plugin_host/shim/src, without `.cpp`
        beside: likewise, of tests/native
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is here; install g++")
    programs = [PROGRAMS / f"{name}.cpp" for name in (program, *beside)]
    files = [*programs, *(SOURCES / f"{part}.cpp" for part in parts)]
    options = [*FLAGS, *(SANITIZE if sanitize else ()), *flags]
    digest = hashlib.sha256(" ".join([compiler, *options, *map(str, files)]).encode())
    for path in sorted([*files, *SOURCES.glob("*.h"), *PROGRAMS.glob("*.h")]):
        digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"audiosr-bridge-native-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{program}-{digest.hexdigest()[:32]}"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            new = made.with_suffix(".new")
            command = [compiler, *options, f"-I{SOURCES}", *map(str, files), "-o", str(new), "-ldl"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, done.stderr
            new.rename(made)
    return made
