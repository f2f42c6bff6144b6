"""The wheel holds what it should and nothing else; the README and CI say the same."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = {"audiosr_core", "bridge", "plugin_host"}


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> set[str]:
    pytest.importorskip("build", reason="needs build to build a wheel")
    pytest.importorskip("scikit_build_core", reason="needs scikit-build-core to build a wheel")
    tree = tmp_path_factory.mktemp("tree")
    for name in [*TOP, "presets"]:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree)
    weights = tree / "audiosr_core" / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "any.safetensors").write_bytes(b"x")
    build = [sys.executable, "-m", "build", "--wheel", "-n", "-x", "-o", "out"]
    subprocess.run(build, cwd=tree, check=True, capture_output=True, timeout=240)
    [wheel] = (tree / "out").glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_top_level_is_the_three_packages(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == TOP
    assert {f"{top}/py.typed" for top in TOP} <= names


def test_presets_and_weights_are_inside(names):
    factory = {f"audiosr_core/factory_presets/{p.name}" for p in (ROOT / "presets").glob("*.toml")}
    assert factory
    assert factory <= names
    assert "audiosr_core/weights/any.safetensors" in names


@pytest.mark.skipif(
    not (shutil.which("g++") and shutil.which("cmake")), reason="needs g++ and cmake"
)
def test_the_plugin_is_inside_and_its_sources_are_not(names):
    shim = {name.removeprefix("plugin_host/shim/") for name in names if "/shim/" in name}
    binary = f"AudioSRBridge.vst3/Contents/{platform.machine()}-linux/AudioSRBridge.so"
    for inside in (binary, "AudioSRBridge.clap", "audiosr-bridge.lv2/manifest.ttl"):
        assert f"bundles/{inside}" in shim
    assert {name for name in shim if not name.startswith("bundles/")} == {"__init__.py"}


def test_the_second_command_is_what_ci_runs():
    assert "\ntests/run\n" in (ROOT / "README.md").read_text()
    assert "\ntests/run\n" in (ROOT / ".ci" / "run").read_text()
