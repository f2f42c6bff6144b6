"""Where the daemon's things lie, and who may touch them: nobody but this user.

    runtime   daemon.lock             held while a daemon runs
              daemon.json             where it listens, and the key
              control.sock work.sock events.sock
    cache     chunks/ spool/
    state     daemon.log journal.sqlite
    config    keys.json               of clients on other machines

What protects a socket is the folder it lies in: 0700, ours, not a link. A folder that is not so is
refused and never repaired, for somebody may have made it for us to walk into.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from audiosr_core.containers.temporary import sync_folder
from bridge.errors import BridgeError, NoDaemonError

RUNTIME_VARIABLE = "AUDIOSR_BRIDGE_RUNTIME_DIR"
CACHE_VARIABLE = "AUDIOSR_BRIDGE_CACHE_DIR"
STATE_VARIABLE = "AUDIOSR_BRIDGE_STATE_DIR"
CONFIG_VARIABLE = "AUDIOSR_BRIDGE_CONFIG_DIR"

LOCK, STARTER, CONNECTION = "daemon.lock", "start.lock", "daemon.json"
LOG, JOURNAL, KEYS = "daemon.log", "journal.sqlite", "keys.json"
SOCKETS = {"control": "control.sock", "work": "work.sock", "events": "events.sock"}
SUN_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # of a socket's path, without the zero


def runtime_folder() -> Path:
    """Sockets, lock and connection file; it need not exist."""
    chosen = _override(RUNTIME_VARIABLE)
    if chosen:
        return chosen
    session = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if session.is_absolute() and _is_our_folder(session):  # not that of the user before a `sudo`
        return session / "audiosr-bridge"
    return _dirs().user_cache_path / "run"


def cache_folder() -> Path:
    """Chunks and spooled sounds; it need not exist."""
    return _override(CACHE_VARIABLE) or _dirs().user_cache_path / "daemon"


def state_folder() -> Path:
    """Log and journal; it need not exist."""
    return _override(STATE_VARIABLE) or _dirs().user_state_path / "daemon"


def config_folder() -> Path:
    """Keys of clients; it need not exist."""
    return _override(CONFIG_VARIABLE) or _dirs().user_config_path / "daemon"


def private_folder(path: Path) -> Path:
    """The folder, made if need be, and nobody else's; BridgeError if it is anything else."""
    with _translated(path, "made"):
        _make(path)
        info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        raise BridgeError(f"{path} must be a folder, but is a symbolic link; remove the link")
    if not stat.S_ISDIR(info.st_mode):
        raise BridgeError(f"{path} must be a folder, but is a file; remove it")
    if os.name != "posix":
        return path
    if info.st_uid != os.geteuid():
        raise BridgeError(
            f"{path} must belong to user {os.geteuid()}, but belongs to {info.st_uid}; choose"
            " another folder"
        )
    if info.st_mode & 0o077:
        raise BridgeError(
            f"{path} must be closed to others, but its mode is {stat.S_IMODE(info.st_mode):04o};"
            f" run: chmod 700 {shlex.quote(str(path))}"
        )
    real = path.parent.resolve()
    for parent in (real, *real.parents):
        mode = parent.stat().st_mode
        if mode & 0o002 and not mode & stat.S_ISVTX:
            raise BridgeError(
                f"{path} is not safe: anybody may rename what lies in {parent}, whose mode is"
                f" {stat.S_IMODE(mode):04o}; choose another folder"
            )
    return path


def socket_paths(folder: Path) -> dict[str, Path]:
    """A path for each socket, short enough for the system."""
    paths = {name: folder / file for name, file in SOCKETS.items()}
    longest = max(len(os.fsencode(path)) for path in paths.values())
    if longest > SUN_PATH_BYTES:
        raise BridgeError(
            f"the path of a socket has at most {SUN_PATH_BYTES} bytes, but in {folder} it would"
            f" have {longest}; choose a shorter folder with {RUNTIME_VARIABLE}"
        )
    return paths


def write_private(path: Path, data: bytes, *, replace: bool = True) -> None:
    """A file that only this user can read, there whole or not at all.

    Args:
        replace: without it, FileExistsError if there is such a file
    """
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with _translated(path, "written"):
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_private(path: Path, max_bytes: int) -> bytes:
    """What lies in a file that nobody else can have written or read.

    Raises:
        NoDaemonError: there is no such file
        BridgeError: it is not a plain file, not ours, open to others, or too long
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        file = open(path, "rb", opener=lambda name, _: os.open(name, flags))  # noqa: SIM115
    except FileNotFoundError as error:
        raise NoDaemonError(f"there is no {path}; start a daemon or check the name") from error
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise BridgeError(f"{path} cannot be read: {reason}") from error
    with file, _translated(path, "read"):
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise BridgeError(f"{path} must be a plain file, but is none; remove it")
        if os.name == "posix" and info.st_uid != os.geteuid():
            raise BridgeError(
                f"{path} must belong to user {os.geteuid()}, but belongs to {info.st_uid}"
            )
        if os.name == "posix" and info.st_mode & 0o077:
            raise BridgeError(
                f"{path} holds a key and must be closed to others, but its mode is"
                f" {stat.S_IMODE(info.st_mode):04o}; run: chmod 600 {shlex.quote(str(path))}"
            )
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise BridgeError(f"{path} must have at most {max_bytes} bytes, but is longer")
    return data


def _dirs() -> platformdirs.PlatformDirs:
    return platformdirs.PlatformDirs("audiosr-bridge", appauthor=False)


def _override(variable: str) -> Path | None:
    text = os.environ.get(variable)
    if not text:
        return None
    if not Path(text).is_absolute():
        raise BridgeError(f"{variable} must be an absolute path, got {text!r}")
    return Path(text)


def _is_our_folder(path: Path) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        info = os.stat(path)
        return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()
    return False


def _make(path: Path) -> None:
    """A folder and those above it, closed to others from their first moment."""
    for one in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            if not one.is_dir():
                os.mkdir(one, 0o700)


@contextlib.contextmanager
def _translated(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise BridgeError(f"{path} cannot be {what}: {error.strerror}") from error
