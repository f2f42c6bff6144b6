"""`audiosr-bridge plugin`: what is ours comes and goes, and what is not stays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.errors import FileError, OutputExistsError, SettingsError
from audiosr_core.presets import Preset, list_presets, save_preset
from audiosr_core.settings import Settings
from bridge.runtime_dir import config_folder, state_folder
from plugin_host import plugin_files
from plugin_host.errors import PluginError
from plugin_host.host_presets import CLASS_ID, URIS, host_preset, lv2_presets, vst3_preset
from tests.support.command import ended, start

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="the plugin is for Linux"),
]
BUNDLES = (".vst3/AudioSRBridge.vst3", ".lv2/audiosr-bridge.lv2", ".clap/AudioSRBridge.clap")
PRESETS = ".vst3/presets/audiosr-bridge/AudioSR Bridge"


def make_bundles(folder: Path, version: str = "1") -> Path:
    for name in ("AudioSRBridge.vst3/Contents/x86_64-linux/AudioSRBridge.so",
                 "audiosr-bridge.lv2/manifest.ttl", "audiosr-bridge.lv2/audiosr-bridge.so",
                 "AudioSRBridge.clap"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} {version}")
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's home, with the bundles of an installation beside it."""
    for name in [one for one in os.environ if one.startswith(("XDG_", "AUDIOSR_BRIDGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AUDIOSR_BRIDGE_PLUGINS", str(make_bundles(tmp_path / "bundles")))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below, by name; folders are None. Locks are nobody's."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.suffix != ".lock"
    }


def config() -> dict[str, Any]:
    path = config_folder() / "plugin.json"
    assert path.stat().st_mode & 0o777 == 0o600
    return dict(json.loads(path.read_text()))


def test_what_was_installed_is_there_and_goes_again(home):
    (home / ".vst3").mkdir()
    (home / ".vst3" / "Other.vst3").write_text("not ours")
    done = plugin_files.install()
    for name in BUNDLES:
        assert tree(home / name) == tree(home.parent / "bundles" / Path(name).name)
    assert (home / ".lv2" / "audiosr-bridge-presets.lv2" / "manifest.ttl").is_file()
    assert all(path.exists() for path in done.paths)
    assert not list(home.rglob(".audiosr-bridge"))  # nothing is left beside

    removed = plugin_files.uninstall().removed

    assert sorted(removed) == sorted(done.paths)
    assert [name for name, data in tree(home).items() if data is not None] == [".vst3/Other.vst3"]
    assert not (home / ".vst3" / "presets" / "audiosr-bridge").exists()
    assert plugin_files.uninstall().removed == []


def test_a_newer_one_replaces_an_older_one_and_again_changes_nothing(home):
    plugin_files.install()
    first = tree(home)
    plugin_files.install()
    assert tree(home) == first
    make_bundles(home.parent / "bundles", "2")
    (home.parent / "bundles" / "audiosr-bridge.lv2" / "manifest.ttl").unlink()
    plugin_files.install()
    for name in BUNDLES:
        assert tree(home / name) == tree(home.parent / "bundles" / Path(name).name)


def as_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("somebody's own")


def as_folder(path: Path) -> None:
    as_file(path / "readme")


def as_link(path: Path) -> None:
    as_file(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def as_broken_link(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere")


def as_pipe(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize("make", [as_file, as_folder, as_link, as_broken_link, as_pipe])
@pytest.mark.parametrize("name", [*BUNDLES, ".lv2/audiosr-bridge-presets.lv2"])
def test_what_is_not_ours_is_never_replaced(make: Callable[[Path], None], name, home):
    make(home / name)
    before = tree(home)
    with pytest.raises(OutputExistsError, match="not ours"):
        plugin_files.install()
    after = {name: data for name, data in tree(home).items() if not name.startswith(".config")}
    assert after == before


def test_what_was_changed_since_is_neither_replaced_nor_removed(home):
    plugin_files.install()
    changed = home / BUNDLES[2]
    changed.write_text("built by hand")
    with pytest.raises(OutputExistsError):
        plugin_files.install()
    done = plugin_files.uninstall()
    assert any(str(changed) in text for text in done.notes)
    assert changed.read_text() == "built by hand"
    assert not (home / BUNDLES[0]).exists()


def test_a_preset_of_the_hosts_user_stays(home):
    own = home / PRESETS / "phone.vstpreset"
    as_file(own)
    done = plugin_files.install()
    assert own not in done.paths
    assert any(str(own) in text for text in done.notes)
    plugin_files.uninstall()
    assert own.read_text() == "somebody's own"


def test_a_preset_that_is_gone_goes_from_the_hosts_as_well(home):
    path = save_preset(Preset("mine", overrides={"mix": 0.5}))
    plugin_files.install()
    assert (home / PRESETS / "mine.vstpreset").exists()
    path.unlink()
    assert home / PRESETS / "mine.vstpreset" in plugin_files.install().removed
    assert not (home / PRESETS / "mine.vstpreset").exists()


@pytest.mark.parametrize("step", range(0, 46, 2))
def test_a_failure_at_any_step_leaves_what_was_there(step, home, monkeypatch):
    """Renames and the record fail, one after the other."""
    plugin_files.install()
    make_bundles(home.parent / "bundles", "2")
    before = tree(home)
    count = 0

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            nonlocal count
            count += 1
            if count == step + 1:
                raise OSError(28, "No space left on device", str(words[-1]))
            return real(*words)

        return call

    monkeypatch.setattr(plugin_files.os, "rename", failing(os.rename))
    monkeypatch.setattr(plugin_files.shutil, "copytree", failing(shutil.copytree))
    monkeypatch.setattr(plugin_files.shutil, "copy", failing(shutil.copy))
    monkeypatch.setattr(plugin_files, "_write", failing(plugin_files._write))
    with contextlib.suppress(FileError):
        plugin_files.install()
    assert tree(home) == before if count > step else tree(home) != before


@pytest.mark.parametrize("step", range(0, 40, 3))
def test_after_a_kill_at_any_step_the_next_installation_is_whole(step, home, monkeypatch):
    plugin_files.install()
    make_bundles(home.parent / "bundles", "2")
    if not (child := os.fork()):
        left = step

        def rename(old: str | Path, new: str | Path) -> None:
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= 1
            os.replace(old, new)

        monkeypatch.setattr(plugin_files.os, "rename", rename)
        plugin_files.install()
        os._exit(0)
    os.waitpid(child, 0)
    plugin_files.install()
    for name in BUNDLES:
        assert tree(home / name) == tree(home.parent / "bundles" / Path(name).name)
    assert not list(home.rglob(".audiosr-bridge"))
    assert plugin_files.uninstall().notes == []


def test_the_plugin_may_start_the_daemon_unless_it_was_forbidden(home, tmp_path):
    plugin_files.install()
    command = config()["start"]
    done = subprocess.run(
        [*command, "--help"], env={"HOME": str(home), "PYTHONPATH": str(tmp_path)},
        cwd="/", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "daemon start" in done.stdout
    assert os.path.isabs(command[0])
    plugin_files.install(may_start=False)
    assert config()["start"] is None


def test_the_start_command_carries_what_this_installation_needs(monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/cuda/lib")
    assert "LD_LIBRARY_PATH=/opt/cuda/lib" in plugin_files.start_command()


def test_the_bound_of_renders_that_somebody_set_stays(home):
    plugin_files.install()
    path = config_folder() / "plugin.json"
    path.write_text(path.read_text().replace(str(4 << 30), "1000"))
    plugin_files.install()
    assert config()["cache_bytes"] == 1000


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"files": 1}', '{"start": "x"}', '{"cache_bytes": -1}']
)
def test_a_record_that_is_none_is_told_with_what_to_do(text, home):
    plugin_files.install()
    (config_folder() / "plugin.json").write_text(text)
    for what in (plugin_files.install, plugin_files.uninstall):
        with pytest.raises(Exception, match=r"plugin\.json cannot be read.*remove it"):
            what()
    assert plugin_files.status().notes


def test_an_installation_without_plugin_says_so(home, monkeypatch):
    monkeypatch.setenv("AUDIOSR_BRIDGE_PLUGINS", str(home))
    with pytest.raises(PluginError):
        plugin_files.install()
    assert tree(home / ".vst3") == {}
    assert [bundle.current for bundle in plugin_files.status().bundles] == [None] * 3


def test_the_status_tells_what_is_where(home):
    before = plugin_files.status()
    assert [one.installed for one in before.bundles] == [False] * 3
    assert not config_folder().exists()  # looking makes nothing
    plugin_files.install()
    state_folder().mkdir(parents=True, mode=0o700)
    log = state_folder() / "plugin.log"
    log.write_text("".join(f"line {i}\n" for i in range(9)))
    log.chmod(0o600)
    found = plugin_files.status()
    assert all(one.installed and one.ours and one.current for one in found.bundles)
    assert found.log == [f"line {i}" for i in range(4, 9)]
    assert found.daemon_pid is None
    make_bundles(home.parent / "bundles", "2")
    assert [one.current for one in plugin_files.status().bundles] == [False] * 3


def test_the_command_by_command_line(home, tmp_path):
    environment = {"HOME": str(home), "AUDIOSR_BRIDGE_PLUGINS": str(tmp_path / "bundles")}

    def run(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        return ended(start(tmp_path, "plugin", *words, **environment), 60)

    code, (done,), said = run("install", "--no-start", "--json")
    assert code == 0
    assert str(home / BUNDLES[0]) in done["paths"]
    assert "presets in" in said
    code, (found,), _ = run("status", "--json")
    assert code == 0
    assert found["start"] is None
    assert [one["current"] for one in found["bundles"]] == [True] * 3
    code, lines, said = run("uninstall")
    assert (code, lines) == (0, [])
    assert "removed" in said
    as_file(home / BUNDLES[0])
    code, _, said = run("install")
    assert code == 2
    assert "not ours" in said


# ---- presets


@given(
    mix=st.floats(0, 1), gain=st.floats(-24, 12), ceiling=st.floats(2000, 24000),
    cutoff=st.one_of(st.sampled_from(["auto", "follow"]), st.floats(500, 24000)),
    seed=st.integers(0, 65535), transition=st.floats(0.02, 0.5),
    rate=st.sampled_from(["auto", "keep", 8000, 48000]), steps=st.sampled_from(["auto", 10]),
)  # fmt: skip
def test_a_preset_is_the_state_that_says_the_same(
    mix, gain, ceiling, cutoff, seed, transition, rate, steps
):
    preset = Preset("one", overrides={
        "mix": mix, "gain_hf_db": gain, "ceiling_hz": ceiling, "cutoff": cutoff, "seed": seed,
        "transition": transition, "rate": rate, "steps": steps,
    })  # fmt: skip
    state = json.loads(host_preset(preset).state)
    values = state["parameters"]
    assert (values["mix"], values["gain_hf"], values["ceiling"]) == (mix, gain, ceiling)
    assert values["cutoff"] == (0 if isinstance(cutoff, str) else cutoff)
    assert (values["seed"], values["model"]) == (seed, 0)
    wanted = {"transition": transition, "steps": steps}
    defaults = Settings().as_dict()
    assert state["settings"] == {k: v for k, v in wanted.items() if v != defaults[k]}
    assert (state["audiosr_bridge_plugin"], state["model"]) == (1, "lite")


@pytest.mark.parametrize(
    "overrides", [{"mode": "reference"}, {"rate": 96_000}, {"seed": 65_536}, {"rate": 48_001}]
)
def test_a_preset_that_cannot_be_had_says_why(overrides):
    with pytest.raises(SettingsError, match="'one'"):
        host_preset(Preset("one", overrides=overrides))


def test_of_the_factory_only_the_published_pipeline_is_left_out():
    left = []
    for preset in list_presets():
        try:
            host_preset(preset)
        except SettingsError:
            left.append(preset.name)
    assert left == ["audiosr-reference"]


def test_a_vst3_preset_is_what_its_list_says():
    preset = host_preset(Preset("one", overrides={"model": "audiosr-basic", "steps": 10}))
    data = vst3_preset(preset)
    magic, version, class_id, place = struct.unpack_from("<4si32sq", data)
    assert (magic, version, class_id.decode()) == (b"VST3", 1, CLASS_ID)
    assert data[place : place + 8] == b"List" + struct.pack("<i", 1)
    name, start_, size = struct.unpack_from("<4sqq", data, place + 8)
    assert name == b"Comp"
    assert data[start_ : start_ + size].decode() == preset.state
    assert len(data) == place + 8 + 20


def bundle_of(presets: list[Preset], folder: Path) -> Path:
    """The bundle of these presets, and beside it a description of the plugin that has them."""
    (folder / "presets.lv2").mkdir(parents=True)
    for name, text in lv2_presets(map(host_preset, presets)).items():
        (folder / "presets.lv2" / name).write_text(text, "utf-8")
    return folder


HARD = 'quoted " and \\ and newline\n and tab\t, 𝄞 and é, <uri> and """'


PLUGIN = """@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix doap: <http://usefulinc.com/ns/doap#> .
<{uri}> a lv2:Plugin ; lv2:binary <none.so> ; doap:name "one" ; lv2:port [
    a lv2:InputPort, lv2:ControlPort ; lv2:index 0 ; lv2:symbol "mix" ; lv2:name "mix" ] .
"""


@pytest.mark.skipif(shutil.which("lv2_validate") is None, reason="wants lv2_validate (lv2-dev)")
def test_the_lv2_presets_are_valid(tmp_path):
    presets = [*list_presets(), Preset("a b.c_d-e", HARD)]
    presets = [one for one in presets if one.settings().mode == "product"]
    folder = bundle_of(presets, tmp_path)
    for number, uri in enumerate(URIS):
        (folder / f"{number}.ttl").write_text(PLUGIN.format(uri=uri))
    done = subprocess.run(
        ["lv2_validate", *map(str, sorted(folder.rglob("*.ttl")))],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "Found 0 errors" in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("lv2info") is None, reason="wants lv2info (lilv-utils)")
@pytest.mark.parametrize("uri", URIS)
def test_a_host_lists_the_lv2_presets(uri, tmp_path):
    bundle_of([Preset("phone"), Preset("a b.c", HARD)], tmp_path)
    (tmp_path / "plugin.lv2").mkdir()
    (tmp_path / "plugin.lv2" / "manifest.ttl").write_text(PLUGIN.format(uri=uri))
    done = subprocess.run(
        ["lv2info", uri], env={**os.environ, "LV2_PATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    listed = done.stdout.partition("Presets:")[2].split("\n\n")[0]
    assert sorted(line.strip() for line in listed.split("\n") if line.strip()) == [
        "a b.c", "phone",
    ], done.stdout + done.stderr  # fmt: skip


def test_a_preset_loads_in_pedalboard(tmp_path):
    shim = pytest.importorskip("tests.support.shim", reason="wants the built plugin")
    pedalboard = pytest.importorskip("pedalboard")
    plugin = pedalboard.load_plugin(
        str(shim.bundles() / "AudioSRBridge.vst3"), plugin_name="AudioSR Bridge"
    )
    path = tmp_path / "one.vstpreset"
    path.write_bytes(vst3_preset(host_preset(Preset("one", overrides={"mix": 0.25}))))
    plugin.load_preset(str(path))
    plugin.raw_state = plugin.raw_state  # JUCE reads the values again
    assert plugin.mix == pytest.approx(25, abs=0.1)  # shown in per cent
