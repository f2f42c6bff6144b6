"""The daemon's folders are ours alone, or they are refused; they are never repaired."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bridge import runtime_dir
from bridge.errors import BridgeError, NoDaemonError
from bridge.runtime_dir import private_folder, read_private, socket_paths, write_private

FOLDERS = {
    "AUDIOSR_BRIDGE_RUNTIME_DIR": runtime_dir.runtime_folder,
    "AUDIOSR_BRIDGE_CACHE_DIR": runtime_dir.cache_folder,
    "AUDIOSR_BRIDGE_STATE_DIR": runtime_dir.state_folder,
    "AUDIOSR_BRIDGE_CONFIG_DIR": runtime_dir.config_folder,
}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch, tmp_path):
    for name in FOLDERS:
        monkeypatch.delenv(name, raising=False)
    for name in ("RUNTIME_DIR", "CACHE_HOME", "STATE_HOME", "CONFIG_HOME"):
        monkeypatch.delenv(f"XDG_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.mark.parametrize("variable", FOLDERS)
def test_a_folder_is_where_the_variable_says(variable, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    assert FOLDERS[variable]() == tmp_path / "there"
    monkeypatch.setenv(variable, "there")
    with pytest.raises(BridgeError, match="absolute"):
        FOLDERS[variable]()


def test_no_folder_is_shared_and_none_lies_bare_in_a_temporary_one(monkeypatch, tmp_path):
    for session in (None, str(tmp_path / "missing"), "relative", ""):
        if session is not None:
            monkeypatch.setenv("XDG_RUNTIME_DIR", session)
        found = [folder() for folder in FOLDERS.values()]
        assert len(set(found)) == len(found)
        assert all(one.is_relative_to(tmp_path) for one in found)
        assert not (tmp_path / ".cache").exists()  # asking makes nothing


def test_the_runtime_folder_lies_in_that_of_the_session(monkeypatch, tmp_path):
    (tmp_path / "session").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "session"))
    assert runtime_dir.runtime_folder() == tmp_path / "session" / "audiosr-bridge"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away, which only root may")
def test_the_session_of_another_user_is_not_used(monkeypatch, tmp_path):
    (tmp_path / "session").mkdir()
    os.chown(tmp_path / "session", 12345, -1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "session"))
    assert runtime_dir.runtime_folder() == tmp_path / ".cache" / "audiosr-bridge" / "run"


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_folder_is_made_for_us_alone(umask, tmp_path):
    old = os.umask(umask)
    try:
        assert private_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    finally:
        os.umask(old)
    assert mode(tmp_path / "a" / "b") == 0o700
    assert mode(tmp_path / "a") == 0o700
    private_folder(tmp_path / "a" / "b")  # again


@pytest.mark.parametrize("bits", [0o777, 0o755, 0o750, 0o701, 0o770, 0o720, 0o1777])
def test_a_folder_open_to_others_is_refused_and_left_as_it_is(bits, tmp_path):
    folder = tmp_path / "has a blank"
    folder.mkdir()
    folder.chmod(bits)
    with pytest.raises(BridgeError, match=rf"chmod 700 '{folder}'"):
        private_folder(folder)
    assert mode(folder) == bits


@pytest.mark.parametrize("target", ["there", "missing"])
def test_a_link_is_refused(target, tmp_path):
    (tmp_path / "there").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(BridgeError, match="symbolic link"):
        private_folder(tmp_path / "link")
    assert not (tmp_path / "missing").exists()


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BridgeError, match="is a file"):
        private_folder(tmp_path / "file")
    with pytest.raises(BridgeError, match="cannot be made"):
        private_folder(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away, which only root may")
def test_the_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir(0o700)
    os.chown(tmp_path / "theirs", 12345, -1)
    with pytest.raises(BridgeError, match="12345"):
        private_folder(tmp_path / "theirs")


def test_a_folder_that_anybody_could_swap_is_refused(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for folder in (open_to_all / "ours", open_to_all / "deep" / "ours"):
        with pytest.raises(BridgeError, match="anybody may rename"):
            private_folder(folder)
    open_to_all.chmod(0o1777)
    private_folder(open_to_all / "deep" / "ours")


@pytest.mark.parametrize("length", [50, 94, 95, 96, 200])
def test_a_path_too_long_for_a_socket_is_told_before_it_is_bound(length):
    folder = Path("/" + "x" * (length - 1))
    limit = runtime_dir.SUN_PATH_BYTES
    if length + len("/control.sock") <= limit:
        assert all(len(str(one)) <= limit for one in socket_paths(folder).values())
    else:
        with pytest.raises(BridgeError, match=str(limit)):
            socket_paths(folder)


def test_the_limit_counts_bytes_and_not_letters():
    with pytest.raises(BridgeError, match="bytes"):
        socket_paths(Path("/" + "ü" * 50))


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_private_file_comes_back_and_is_ours_alone(umask, tmp_path):
    old = os.umask(umask)
    try:
        write_private(tmp_path / "file", b"one")
        write_private(tmp_path / "file", b"two")
    finally:
        os.umask(old)
    assert mode(tmp_path / "file") == 0o600
    assert read_private(tmp_path / "file", 3) == b"two"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "file", b"three", replace=False)
    assert (tmp_path / "file").read_bytes() == b"two"


def test_what_others_could_have_written_is_not_read(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(NoDaemonError):
        read_private(path, 10)
    write_private(path, b"x" * 11)
    with pytest.raises(BridgeError, match="at most 10"):
        read_private(path, 10)
    for bits in (0o644, 0o640, 0o602, 0o610):
        path.chmod(bits)
        with pytest.raises(BridgeError, match="chmod 600"):
            read_private(path, 20)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(BridgeError, match="symbolic link"):
        read_private(tmp_path / "link", 20)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for odd in (tmp_path / "fifo", tmp_path, Path("/dev/null")):
        with pytest.raises(BridgeError):
            read_private(odd, 20)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        with pytest.raises(BridgeError, match="12345"):
            read_private(path, 20)
