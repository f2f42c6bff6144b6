"""The plugin, built from this checkout and kept by what it is made of."""

from __future__ import annotations

import json
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

from audiosr_core.audio import Samples
from tests.support.native import PROGRAMS, ROOT, build, compiler, digest_of, kept

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
    if cmake is None:
        pytest.skip("no cmake is here; install cmake")
    files = [path for path in SHIM.rglob("*") if path.suffix in (".cpp", ".h", ".map", ".txt")]
    files += [ROOT / "audiosr_core" / "__init__.py", *([effect] if effect else [])]
    digest = digest_of(files, compiler(), str(effect))
    return kept("bundles", digest, lambda to: _build(cmake, to, effect))


def _build(cmake: str, made: Path, effect: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        configure = [cmake, "-S", str(SHIM), "-B", folder]
        if effect:
            configure.append(f"-DAUDIOSR_EFFECT={effect}")
        for command in (configure, [cmake, "--build", folder, "--parallel", "2"]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            assert done.returncode == 0, done.stdout + done.stderr
        (Path(folder) / "bundles").rename(made)


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
