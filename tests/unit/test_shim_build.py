"""What is built: small, whole, alone, and of one table; and an installation has it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess

import pytest

import audiosr_core
from plugin_host import shim as product
from plugin_host.errors import PluginError
from tests.support import shim
from tests.support.native import build

MAX_BYTES = 300_000
ENTRIES = {
    "vst3": {"GetPluginFactory", "ModuleEntry", "ModuleExit"},
    "clap": {"clap_entry"},
    "lv2": {"lv2_descriptor"},
}
SYSTEM = ("linux-vdso", "libc.so", "libm.so", "libpthread.so", "ld-linux")
pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="the plugin is for Linux")


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt install {package})")
    return found


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bundles_are_laid_out_as_hosts_want_them():
    files = {str(path.relative_to(shim.bundles())) for path in shim.bundles().rglob("*.*")
             if path.is_file()}  # fmt: skip
    assert files == {
        f"AudioSRBridge.vst3/Contents/{platform.machine()}-linux/AudioSRBridge.so",
        "AudioSRBridge.clap",
        "audiosr-bridge.lv2/manifest.ttl",
        "audiosr-bridge.lv2/audiosr-bridge.ttl",
        "audiosr-bridge.lv2/audiosr-bridge.so",
        "plain/audiosr-bridge.lv2/manifest.ttl",
        "plain/audiosr-bridge.lv2/audiosr-bridge.ttl",
        "parameters.json",
    }


@pytest.mark.parametrize("kind", shim.FORMATS)
def test_a_binary_is_small_exports_its_entry_and_needs_the_system_alone(kind):
    binary = shim.library(kind)
    assert binary.stat().st_size <= MAX_BYTES
    exported = _said(_tool("nm", "binutils"), "-D", "--defined-only", str(binary))
    assert {line.split()[-1] for line in exported.splitlines()} == ENTRIES[kind]
    for line in _said(_tool("ldd", "libc-bin"), str(binary)).splitlines():
        assert any(name in line.split()[0] for name in SYSTEM), line


def test_the_description_of_the_lv2_is_valid():
    bundle = shim.bundles() / "audiosr-bridge.lv2"
    plain = shim.bundles() / "plain" / "audiosr-bridge.lv2"
    validate = _tool("lv2_validate", "lv2-dev sordi")
    _tool("sord_validate", "sordi")
    for folder in (bundle, plain):
        done = subprocess.run(
            [validate, *map(str, folder.glob("*.ttl"))],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Found 0 errors" in done.stdout + done.stderr, done.stdout + done.stderr


def test_lv2_hosts_read_it(monkeypatch):
    info = _tool("lv2info", "lilv-utils")
    variants = json.loads((shim.bundles() / "parameters.json").read_text())["variants"]
    assert len(variants) == 4
    for folder in (shim.bundles(), shim.bundles() / "plain"):
        monkeypatch.setenv("LV2_PATH", str(folder))
        for variant in variants:
            said = _said(info, variant["lv2_uri"])
            assert variant["name"] in said
            assert "Has latency:       yes" in said
            assert said.count("AudioPort") == 2 * variant["num_channels"]
            assert ("AtomPort" in said) == (folder == shim.bundles())


def test_one_table_describes_the_parameters():
    described = json.loads((shim.bundles() / "parameters.json").read_text())
    assert described["version"] == audiosr_core.__version__
    parameters = described["parameters"]
    assert [one["id"] for one in parameters] == list(range(len(parameters)))
    assert len({one["symbol"] for one in parameters}) == len(parameters)
    for one in parameters:
        assert one["minimum"] <= one["initial"] <= one["maximum"]
        if one["kind"] == "choice":
            assert len(one["choices"]) == one["maximum"] + 1


@pytest.mark.parametrize(
    ("program", "parts"),
    [("parameters", ("parameters",)), ("state", ("state", "parameters", "json")),
     ("lv2_time", ("lv2_time",))],
)  # fmt: skip
def test_whatever_comes_from_a_host_is_taken_or_refused(program, parts):
    """Laws of numbers, texts, states and atoms, under address and undefined sanitizers."""
    done = subprocess.run(
        [build(program, *parts, sanitize=True)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_installation_has_the_plugin_where_a_compiler_is():
    try:
        importlib.metadata.distribution("audiosr-bridge")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("audiosr-bridge is not installed here")
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler is here")
    folder = product.bundles()
    described = json.loads((folder / "parameters.json").read_text())
    assert described["version"] == audiosr_core.__version__


def test_without_bundles_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv(product.VARIABLE, str(tmp_path))
    with pytest.raises(PluginError, match="bundles are not there"):
        product.bundles()
    monkeypatch.delenv(product.VARIABLE)
    monkeypatch.setattr(product, "__path__", [str(tmp_path)])
    with pytest.raises(PluginError, match=r"install g\+\+"):
        product.bundles()


def test_bundles_are_where_the_environment_says(monkeypatch):
    monkeypatch.setenv(product.VARIABLE, str(shim.bundles()))
    assert product.bundles() == shim.bundles()
