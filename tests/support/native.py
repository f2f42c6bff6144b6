"""Programs of tests/native, compiled when a test wants them and kept by what they are made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "plugin_host" / "shim" / "src"
PROGRAMS = ROOT / "tests" / "native"
FLAGS = (
    "-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread",
    '-DAUDIOSR_VERSION="0.0.0"',
)  # fmt: skip
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SECONDS = 240  # to compile or to link


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
    options = (*FLAGS, *(SANITIZE if sanitize else ()), *flags)
    sources = [PROGRAMS / f"{name}.cpp" for name in (program, *beside)]
    sources += [SOURCES / f"{part}.cpp" for part in parts]
    objects = [_object(source, options) for source in sources]
    names = [str(one) for one in objects]
    digest = digest_of([], *options, *names)
    return kept(program, digest, lambda to: _run(*options, *names, "-o", str(to), "-ldl"))


def _object(source: Path, options: tuple[str, ...]) -> Path:
    """A source, compiled: programs share most of theirs."""
    headers = [*SOURCES.glob("*.h"), *PROGRAMS.glob("*.h")]
    digest = digest_of([source, *headers], compiler(), *options)
    command = (*options, f"-I{SOURCES}", "-c", str(source), "-o")
    return kept(source.stem, digest, lambda to: _run(*command, str(to)))


def _run(*command: str) -> None:
    done = subprocess.run([compiler(), *command], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


@cache
def compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler is here; install g++")
    return found


def digest_of(files: Iterable[Path], *words: str) -> str:
    found = hashlib.sha256(repr(words).encode())
    for path in sorted(files):
        found.update(path.read_bytes())
    return found.hexdigest()


def kept(name: str, digest: str, make: Callable[[Path], object]) -> Path:
    """What is made of this, made by the first process that wants it."""
    folder = Path(tempfile.gettempdir()) / f"audiosr-bridge-native-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{name}-{digest[:32]}"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            new = made.with_suffix(".new")
            make(new)
            new.rename(made)
    return made
