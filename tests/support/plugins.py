"""Plugins for tests: real ones where they are installed, and ones that do what no plugin should."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

COMPRESSOR = "ZamComp"  # mono, no latency, in the zam-plugins of Debian
MAXIMIZER = "ZaMaximX2"  # stereo, late
LV2_COMPRESSOR = "urn:zamaudio:ZamComp"
LV2_MAXIMIZER = "urn:zamaudio:ZaMaximX2"  # tells its latency with its first block only
LV2_LIMITER = "http://plugin.org.uk/swh-plugins/fastLookaheadLimiter"
LV2_CRASHING = "http://plugin.org.uk/swh-plugins/allpass_c"  # in this host

CRASHES = "*(volatile int *)0 = 1;"
ABORTS = "abort();"
EXITS = "_exit(3);"
HANGS = "for (;;) sleep(1);"


@cache
def vst3(name: str) -> Path:
    """A VST3 plugin that is installed; the test is skipped without it."""
    path = Path("/usr/lib/vst3") / f"{name}.vst3"
    if not path.exists():
        pytest.skip(f"{path} is not installed (apt install zam-plugins)")
    return path


@cache
def lv2(uri: str) -> str:
    """An LV2 plugin that is installed; the test is skipped without it, or without its host."""
    if importlib.util.find_spec("minihost") is None:
        pytest.skip("minihost is not installed (the extra lv2)")
    if shutil.which("lv2ls") is None:
        pytest.skip("lv2ls is not installed (apt install lilv-utils)")
    there = subprocess.run(["lv2ls"], capture_output=True, text=True, timeout=60).stdout.split()
    if uri not in there:
        pytest.skip(f"{uri} is not installed (apt install zam-plugins swh-lv2)")
    return uri


def make_broken_vst3(folder: Path, does: str, name: str = "Broken") -> Path:
    """A VST3 bundle that does this as soon as a host enters it."""
    compiler = shutil.which("gcc")
    if compiler is None or platform.system() != "Linux":
        pytest.skip("a broken plugin is made with gcc, on Linux")
    bundle = folder / f"{name}.vst3"
    binary = bundle / "Contents" / f"{platform.machine()}-linux" / f"{name}.so"
    binary.parent.mkdir(parents=True)
    source = folder / f"{name}.c"
    source.write_text(
        "#include <stdlib.h>\n#include <unistd.h>\n"
        f"int ModuleEntry(void *module) {{ {does} return 1; }}\n"
        "int ModuleExit(void) { return 1; }\n"
        "void *GetPluginFactory(void) { return 0; }\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", binary, source], check=True, timeout=60)
    return bundle


def counting(function: Callable[..., object], calls: list[object]) -> Callable[..., object]:
    """`function`, which notes its calls."""

    def called(*args: object, **kwargs: object) -> object:
        calls.append(args)
        return function(*args, **kwargs)

    return called
