"""`audiosr-bridge daw`: what is put into a DAW's folders, and that nothing else is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from plugin_host.cli.app import run
from plugin_host.daw import DAWS, ardour, files

LUA = shutil.which("lua5.3") or shutil.which("lua5.4")
OURS = ["audiosr-bridge/actions.lua", "audiosr-bridge/command.lua", "audiosr-bridge/regions.lua",
        "scripts/audiosr-extend.lua", "scripts/audiosr-render.lua"]  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Ardour's folder as Ardour leaves it, with a script of the user's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("AUDIOSR_BRIDGE_CONFIG_DIR", str(tmp_path / "ours"))
    folder = tmp_path / "ardour7"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "mine.lua").write_text("-- mine\n")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def test_what_is_installed_is_all_there_and_goes_again_without_a_trace(home, capsys):
    before = tree(home)
    assert run(["daw", "status", "ardour"]) == 1
    assert run(["daw", "install", "ardour"]) == 0
    assert sorted(tree(home)) == sorted([*before, *OURS])
    assert run(["daw", "status", "ardour"]) == 0
    assert run(["daw", "uninstall", "ardour"]) == 0
    assert tree(home) == before
    assert not (home / "audiosr-bridge").exists()


def test_json_says_the_same(home, capsys):
    assert run(["daw", "install", "ardour", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["written"]) == len(OURS)
    run(["daw", "status", "ardour", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["current"] for line in lines] == [True] * len(OURS)


@pytest.mark.parametrize("name", OURS)
def test_a_file_of_somebody_else_is_never_replaced(home, capsys, name):
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_text("-- somebody's own\n")
    before = tree(home)
    assert run(["daw", "install", "ardour"]) == 2
    assert name in capsys.readouterr().err
    assert tree(home) == before


@pytest.mark.parametrize("name", OURS)
def test_what_somebody_changed_since_stays(home, capsys, name):
    run(["daw", "install", "ardour"])
    (home / name).write_text("-- changed\n")
    assert run(["daw", "install", "ardour"]) == 2
    assert run(["daw", "status", "ardour"]) == 1
    assert run(["daw", "uninstall", "ardour"]) == 0
    assert "was changed" in capsys.readouterr().err
    assert sorted(tree(home)) == sorted(["scripts/mine.lua", name])


def test_a_link_is_not_ours(home):
    target = home / "scripts" / "mine.lua"
    (home / "scripts" / "audiosr-extend.lua").symlink_to(target)
    assert run(["daw", "install", "ardour"]) == 2
    assert target.read_text() == "-- mine\n"


def test_an_earlier_version_is_replaced_and_what_it_had_more_goes(home, monkeypatch):
    now = ardour.files()
    old = dict.fromkeys(now, b"-- older\n") | {home / "scripts" / "audiosr-old.lua": b"--\n"}
    monkeypatch.setattr(files, "daw", lambda name: files.Daw("", lambda: old, list, ""))
    files.install("ardour")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home.parent))
    monkeypatch.setenv("AUDIOSR_BRIDGE_CONFIG_DIR", str(home.parent / "ours"))
    assert run(["daw", "install", "ardour"]) == 0
    assert tree(home).keys() == {"scripts/mine.lua", *OURS}
    assert run(["daw", "status", "ardour"]) == 0


@pytest.mark.parametrize("failing", range(len(OURS)))
def test_all_or_none(home, monkeypatch, failing):
    run(["daw", "install", "ardour"])
    before = tree(home)
    wanted = {path: content + b"--\n" for path, content in ardour.files().items()}
    monkeypatch.setattr(files, "daw", lambda name: files.Daw("", lambda: wanted, list, ""))
    count, write = iter(range(100)), files.write_whole

    def written(path: Path, content: bytes, *, overwrite: bool) -> None:
        if next(count) == failing:
            raise OSError("the disk is full")
        write(path, content, overwrite=overwrite)

    monkeypatch.setattr(files, "write_whole", written)
    with pytest.raises(OSError):
        files.install("ardour")
    assert tree(home) == before


def test_where_ardour_never_ran_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("AUDIOSR_BRIDGE_CONFIG_DIR", str(tmp_path / "ours"))
    assert run(["daw", "install", "ardour"]) == 1
    assert "start Ardour 7 once" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_daw_is_a_matter_of_usage(capsys):
    assert run(["daw", "install", "cubase"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in DAWS)


@pytest.mark.skipif(LUA is None, reason="install lua5.3: it reads what Ardour would")
@pytest.mark.parametrize("name", OURS)
def test_lua_takes_every_file(home, name):
    run(["daw", "install", "ardour"])
    said = subprocess.run(
        [LUA, "-e", f"assert(loadfile('{home / name}'))"], capture_output=True, timeout=20
    )
    assert said.returncode == 0, said.stderr


@pytest.mark.skipif(LUA is None, reason="install lua5.3: it reads what Ardour would")
def test_a_command_of_any_bytes_arrives_in_lua(tmp_path):
    words = ["/home/b \"o\\b'/py\nthon1", "a\u00e9\u2028", "\udcff9", "%s"]
    (tmp_path / "command.lua").write_bytes(ardour.command_lua(words))
    show = f"io.write(table.concat(dofile('{tmp_path}/command.lua'), '\\0'))"
    said = subprocess.run([LUA, "-e", show], capture_output=True, timeout=20)
    assert said.stdout.split(b"\0") == [word.encode("utf-8", "surrogateescape") for word in words]
