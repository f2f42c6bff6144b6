"""The plugin, built from this checkout and kept by what it is made of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from audiosr_core.audio import Samples
from tests.support.native import PROGRAMS, ROOT, build

SHIM = ROOT / "plugin_host" / "shim"
STUB = PROGRAMS / "stub_effect.cpp"
SECONDS = 120  # a build, or a run of the small host
FORMATS = ("vst3", "clap", "lv2")


@cache
def bundles(effect: Path | None = None) -> Path:
    """The folder with the three bundles; skips without cmake or a compiler.

    Args:
        effect: a source to put in the place of effect.cpp
    """
    cmake = shutil.which("cmake")
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if cmake is None or compiler is None:
        pytest.skip("no cmake or no C++ compiler is here; install cmake and g++")
    digest = hashlib.sha256(f"{compiler} {effect}".encode())
    files = [path for path in SHIM.rglob("*") if path.suffix in (".cpp", ".h", ".map", ".txt")]
    version = ROOT / "audiosr_core" / "__init__.py"
    for path in sorted([*files, version, *([effect] if effect else [])]):
        digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"audiosr-bridge-native-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"bundles-{digest.hexdigest()[:32]}"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _build(cmake, Path(work), effect)
                (Path(work) / "bundles").rename(made)
    return made


def _build(cmake: str, folder: Path, effect: Path | None) -> None:
    configure = [cmake, "-S", str(SHIM), "-B", str(folder)]
    if effect:
        configure.append(f"-DAUDIOSR_EFFECT={effect}")
    for command in (configure, [cmake, "--build", str(folder), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr


def library(kind: str, effect: Path | None = None) -> Path:
    """What a host loads of a format: vst3, clap or lv2."""
    folder = bundles(effect)
    if kind == "clap":
        return folder / "AudioSRBridge.clap"
    if kind == "lv2":
        return folder / "audiosr-bridge.lv2" / "audiosr-bridge.so"
    [found] = (folder / "AudioSRBridge.vst3" / "Contents").glob("*/AudioSRBridge.so")
    return found


def parameters() -> dict[str, dict[str, Any]]:
    """parameters.json by symbol."""
    described = json.loads((bundles() / "parameters.json").read_text())
    return {one["symbol"]: one for one in described["parameters"]}


@dataclass(frozen=True, eq=False)
class Rendered:
    samples: Samples
    seen: dict[str, Any]  # latency, tail, longest_seconds, state, and every parameter by symbol


class MiniHost:
    """Our own small host (tests/native/minihost.cpp) with a format of the plugin.

    Args:
        kind: vst3, clap or lv2
        environment: of the host, in place of this process's
    """

    def __init__(
        self,
        kind: str,
        *,
        effect: Path | None = None,
        environment: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.library = library(kind, effect)
        self.program = build("minihost", "parameters")
        self.environment = dict(environment) if environment is not None else None
        self.wrapper = wrapper

    def run(
        self, command: str, *lines: str, timeout_seconds: float = SECONDS, **options: object
    ) -> subprocess.CompletedProcess[str]:
        """One command of the host; `lines` are options that may come several times."""
        return subprocess.run(
            [
                *self.wrapper, str(self.program), str(self.library), self.kind, command, *lines,
                *(f"{name}={value}" for name, value in options.items()),
            ],
            env=self.environment, capture_output=True, text=True, timeout=timeout_seconds,
        )  # fmt: skip

    def render(self, sound: Samples, folder: Path, *lines: str, **options: object) -> Rendered:
        """Through the plugin: as long as the sound, and late by the latency.

        Args:
            lines: `set=ID:PLAIN`, `at=SAMPLE:ID:PLAIN`, `song=SAMPLE:FRAME`, `song=SAMPLE`
            options: profile, rate, blocks ("512,1,77"), offline (0, 1), pace (0, 1), ...
        """
        there, back = folder / "in.f32", folder / "out.f32"
        np.ascontiguousarray(sound, np.float32).tofile(there)
        done = self.run(
            "render", *lines, channels=len(sound), **{"in": there, "out": back}, **options
        )
        assert done.returncode == 0, done.stderr
        samples = np.fromfile(back, np.float32).reshape(sound.shape)
        return Rendered(samples, json.loads(done.stdout))
