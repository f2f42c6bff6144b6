"""Somebody was at our folders: squatters, links, other users, pickles, weights that lie."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from audiosr_core.errors import EXIT_DAEMON
from bridge.client import connect
from bridge.connection import Connection
from bridge.errors import BridgeError, NoDaemonError
from bridge.protocol import Message, encode
from tests.support.attack import (
    attacked,
    dial,
    extend,
    name,
    noise,
    patient_wire,
    serves,
    snapshot,
    until,
    wait_for,
)
from tests.support.bridge_engines import echo_of
from tests.support.daemon import ENGINES, RunningDaemon, daemon
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(180)

ECHO = f"{ENGINES}:echo"
SOCKETS = ("control.sock", "work.sock", "events.sock")
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="asb") as made:
        yield Path(made)


@contextlib.contextmanager
def started(folder: Path, *flags: str) -> Iterator[RunningDaemon]:
    one = RunningDaemon(folder, *flags, engine=ECHO).start()
    try:
        yield one
        serves(one)
    finally:
        one.stop()


def refused(folder: Path, *flags: str) -> str:
    """What a daemon says that does not start; it leaves with the code for it."""
    one = RunningDaemon(folder, *flags, engine=ECHO)
    with pytest.raises(AssertionError):
        one.start(timeout=20)
    assert one.process is not None
    assert one.process.wait(5) == EXIT_DAEMON
    said = (folder / "stderr").read_text()
    assert "Traceback" not in said
    return said


# ---- squatters


def _file(path: Path, outside: Path) -> None:
    path.write_text("not a socket")


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _link_to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def _fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("squat", [_file, _link, _link_to_nothing, _fifo])
def test_what_lies_on_a_sockets_path_before_the_start_gives_way(squat, folder):
    outside = folder / "outside"
    outside.write_text("precious")
    before = outside.stat()
    (folder / "run").mkdir(mode=0o700)
    for socket in SOCKETS:
        squat(folder / "run" / socket, outside)
    with started(folder) as one:
        for socket in SOCKETS:
            assert stat.S_ISSOCK(os.lstat(one.runtime / socket).st_mode)
    assert outside.read_text() == "precious"
    assert outside.stat().st_mtime_ns == before.st_mtime_ns
    assert outside.stat().st_mode == before.st_mode


def test_a_socket_of_another_process_before_the_start_gives_way(folder):
    (folder / "run").mkdir(mode=0o700)
    context = zmq.Context()
    squatter = context.socket(zmq.ROUTER)
    squatter.bind(f"ipc://{folder}/run/control.sock")
    with started(folder):
        assert not squatter.poll(0)
    squatter.close(0)
    context.term()


def test_a_folder_on_a_sockets_path_is_told(folder):
    (folder / "run" / "work.sock").mkdir(mode=0o700, parents=True)
    os.chmod(folder / "run", 0o700)
    assert "cannot listen on" in refused(folder)


def test_who_takes_a_sockets_place_later_is_believed_by_nobody_and_put_out():
    with attacked() as one:
        connection = one.connection()
        context = zmq.Context()
        squatter = context.socket(zmq.ROUTER)
        squatter.bind(connection.endpoints.control)
        over = threading.Event()
        heard: list[list[bytes]] = []

        def lie() -> None:
            while not over.is_set():
                if squatter.poll(20):
                    peer, *frames = squatter.recv_multipart()
                    heard.append(frames)
                    welcome = Message("welcome", {"session": "0" * 32})
                    for answer in (frames, encode(welcome, bytes(32)), [b""], [b"x"] * 9):
                        squatter.send_multipart([peer, *(bytes(part) for part in answer)])

        thread = threading.Thread(target=lie)
        thread.start()
        try:
            began = time.monotonic()
            with contextlib.suppress(NoDaemonError), connect(connection, timeout_seconds=2) as it:
                assert it.status()["pid"] == one.pid()  # it is the daemon, or nobody
            assert time.monotonic() - began < 4
            wait_for(lambda: answers(connection), 10)
        finally:
            over.set()
            thread.join(5)
            squatter.close(0)
            context.term()
        assert "taken our sockets' place" in one.log()
        for frames in heard:
            assert connection.key.encode() not in b"".join(frames)


def answers(connection: Connection) -> bool:
    with contextlib.suppress(NoDaemonError), connect(connection, timeout_seconds=1) as client:
        return client.ping() < 1
    return False


def test_removed_sockets_come_back():
    with attacked() as one:
        for socket in SOCKETS:
            (one.runtime / socket).unlink()
        wait_for(lambda: all((one.runtime / socket).exists() for socket in SOCKETS), 5)


# ---- folders


@pytest.mark.parametrize("which", ["run", "state", "cache"])
def test_a_folder_open_to_others_is_refused(which, folder):
    (folder / which).mkdir()
    os.chmod(folder / which, 0o777)
    assert "chmod 700" in refused(folder)
    assert list((folder / which).iterdir()) == []


@pytest.mark.parametrize("which", ["run", "state", "cache"])
def test_a_folder_that_is_a_link_is_refused(which, folder):
    (folder / "elsewhere").mkdir(mode=0o700)
    (folder / which).symlink_to(folder / "elsewhere")
    assert "symbolic link" in refused(folder)
    assert list((folder / "elsewhere").iterdir()) == []


def test_a_folder_that_anybody_may_rename_is_refused(folder):
    (folder / "run").mkdir(mode=0o700)
    os.chmod(folder, 0o777)
    assert "not safe" in refused(folder)


@pytest.mark.parametrize(
    "which", ["run/daemon.lock", "run/daemon.json", "state/daemon.log", "state/journal.sqlite"]
)
def test_a_link_in_place_of_a_file_is_not_followed(which, folder):
    outside = folder / "outside"
    outside.write_text("precious")
    path = folder / which
    path.parent.mkdir(mode=0o700)
    path.symlink_to(outside)
    if which == "run/daemon.json":  # written anew in one step
        with started(folder) as one:
            assert not one.connection_file.is_symlink()
    else:
        assert "cannot be" in refused(folder)
    assert outside.read_text() == "precious"


def test_nothing_is_open_to_anybody_else():
    with attacked("--listen", "tcp://127.0.0.1:0") as one:
        serves(one)
        for path in [path for path in one.folder.rglob("*") if path.name != "stderr"]:
            assert not os.lstat(path).st_mode & 0o077, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_nowhere():
    with attacked() as one:
        serves(one)
        os.chmod(one.folder, 0o755)  # what protects is the folder of the sockets itself
        key = one.connection().key
        files = [str(path) for path in one.folder.rglob("*")]
        found = as_nobody(lambda: reached(one, files))
        assert found == {"files": [], "folders": [], "sockets": []}, found
        assert key not in json.dumps(found)


def reached(one: RunningDaemon, files: list[str]) -> dict[str, list[str]]:
    """What this user can read, list, make or connect to."""
    found: dict[str, list[str]] = {"files": [], "folders": [], "sockets": []}
    for path in files:
        if path.endswith("/stderr"):  # of the test itself
            continue
        with contextlib.suppress(PermissionError), open(path, "rb") as file:
            found["files"].append(f"{path}: {file.read(10)!r}")
    for which in ("run", "cache", "state"):
        with contextlib.suppress(PermissionError):
            found["folders"].append(f"{which}: {os.listdir(one.folder / which)}")
        with contextlib.suppress(PermissionError), open(one.folder / which / "new", "w"):
            found["folders"].append(f"{which}: made a file")
        with contextlib.suppress(PermissionError):
            os.rename(one.folder / which, one.folder / "moved")
            found["folders"].append(f"{which}: moved")
    for socket in SOCKETS:
        with contextlib.suppress(PermissionError), dial_once(one.runtime / socket):
            found["sockets"].append(socket)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.kill(one.pid(), 0)
        found["sockets"].append("signal")
    return found


@contextlib.contextmanager
def dial_once(path: Path) -> Iterator[None]:
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
        yield


def as_nobody(what: Callable[[], dict[str, list[str]]]) -> dict[str, list[str]]:
    """What a function gives in a process of another user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, json.dumps(what()).encode())
        except BaseException as error:
            os.write(writer, json.dumps({"error": [repr(error)]}).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    os.waitpid(child, 0)
    return json.loads(text)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_folders_and_connections_of_another_user_are_not_used(folder):
    (folder / "run").mkdir(mode=0o700)
    os.chown(folder / "run", NOBODY, NOBODY)
    assert "must belong to user" in refused(folder)
    with daemon(engine=ECHO) as one:
        theirs = folder / "theirs.json"
        theirs.write_bytes(one.connection_file.read_bytes())
        os.chmod(theirs, 0o600)
        os.chown(theirs, NOBODY, NOBODY)
        with pytest.raises(BridgeError):
            connect(theirs)


# ---- pickles


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return Path.touch, (self.marker,)


def test_a_pickle_under_any_name_is_never_unpickled(folder):
    marker = folder / "ran"
    bomb = pickle.dumps(Bomb(marker))
    assert b"touch" in bomb
    for which in ("run", "state", "cache", "config", "cache/chunks", "cache/spool"):
        (folder / which).mkdir(mode=0o700)
    planted = ["run/daemon.json", "run/daemon.lock", "state/journal.sqlite", "state/daemon.log"]
    for path in planted:
        (folder / path).write_bytes(bomb)
        os.chmod(folder / path, 0o600)
    for number in range(20):
        (folder / "cache" / "chunks" / f"{number:064x}").write_bytes(bomb)
    sound, job, late = noise(1.0), name(), name()
    (folder / "cache" / "spool" / f"{job}.f4").write_bytes(bomb)
    (folder / "cache" / "spool" / f"{job}.f4.part").write_bytes(bomb)
    for end in ("wav", "safetensors", "bin", "pt", "ckpt", "flac", "toml", "npy"):
        (folder / f"sound.{end}").write_bytes(bomb)
    with started(folder) as one, Wire(one.connection()) as wire:
        for end in ("wav", "safetensors", "bin", "pt", "ckpt", "flac", "toml", "npy"):
            wire.submit(name(), source="path", path=f"{folder}/sound.{end}")
            assert wire.until("error")["code"] in ("E_FILE", "E_AUDIO")
        np.testing.assert_array_equal(extend(wire, sound)[0], echo_of(sound))
        chunks = list((folder / "cache" / "chunks").iterdir())
        assert len(chunks) == 30
        for path in chunks:  # now those that will be looked for
            path.write_bytes(bomb)
        (folder / "cache" / "spool" / f"{late}.f4").write_bytes(bomb)
        accepted = wire.submit(late, num_samples=sound.shape[1])
        assert accepted["received"] == 0
        wire.upload(late, sound)
        made, final = wire.result(late)
        np.testing.assert_array_equal(made, echo_of(sound))
        assert final["report"]["cached"] == 0
    assert not marker.exists()


def _weights(header: bytes | dict, data: bytes = bytes(8), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _tensor(*offsets: int, shape: tuple[int, ...] = (1,), dtype: str = "F32") -> dict:
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


LIES = {
    "longer-than-the-file": _weights(b"{}", length=1 << 20),
    "longer-than-memory": _weights(b"{}", length=1 << 62),
    "all-ones": b"\xff" * 64,
    "deep": _weights(b'{"a":' * 100_000),
    "overlap": _weights({**_tensor(0, 4), "b": _tensor(2, 6)["a"]}),
    "beyond": _weights(_tensor(0, 1 << 40, shape=(1 << 38,))),
    "negative": _weights(_tensor(-4, 0)),
    "dtype": _weights(_tensor(0, 4, dtype="OBJ")),
    "shape": _weights(_tensor(0, 8, shape=(1 << 62, 4))),
    "config": _weights({"__metadata__": {"config": '{"channels": 1000000000}'}, **_tensor(0, 8)}),
    "empty": b"",
}


def test_weights_that_lie_or_are_pickles_end_the_job_and_run_nothing(folder):
    """With the real engine, and cards that vouch for these files."""
    marker = folder / "ran"
    models = {**LIES, "pickle": pickle.dumps(Bomb(marker))}
    store = folder / "models"
    for id, content in models.items():
        for family in ("lite", "audiosr"):
            place = store / f"{id}-{family}"
            place.mkdir(parents=True)
            (place / "model.safetensors").write_bytes(content)
            (place / "model.bin").write_bytes(pickle.dumps(Bomb(marker)))
            card = {
                "family": family, "description": "", "licence": "", "num_parameters": 1,
                "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content),
            }  # fmt: skip
            (place / "card.json").write_text(json.dumps(card))
    (store / "card-pickle").mkdir()
    (store / "card-pickle" / "card.json").write_bytes(pickle.dumps(Bomb(marker)))
    before = snapshot(store)
    ids = [*(f"{id}-{family}" for id in models for family in ("lite", "audiosr")), "card-pickle"]
    environment = {"AUDIOSR_BRIDGE_MODELS": store, "OMP_NUM_THREADS": 1}
    with daemon(engine=None, **environment) as one, patient_wire(one) as wire:
        sound = noise(0.1)
        for id in [*ids, "../models/pickle-lite", "/etc", "missing", "x\0y"]:
            job = name()
            answer = wire.submit(job, num_samples=4800, settings={"model": id})
            if answer.type != "error":
                wire.upload(job, sound)
                answer = until(wire, "error", "final")
            assert answer.type == "error", id
            assert answer["code"] in ("E_MODEL", "E_DEVICE"), (id, dict(answer.meta))
            assert len(answer["text"]) < 1000
            assert wire.ask("ping").type == "pong"
        worker = one.family()[1:]
        assert sum(each.memory_info().rss for each in worker) < 3 << 30  # torch itself is large
        assert "Traceback" not in (one.folder / "stderr").read_text()
    assert not marker.exists()
    after = {path: seen[-1] for path, seen in snapshot(store).items()}
    assert {path: seen[-1] for path, seen in before.items()}.items() <= after.items()


def test_dialling_is_possible_for_the_owner():
    """Or the tests above would prove nothing."""
    with attacked() as one, dial(one.connection().endpoints.control) as peer:
        assert peer.fileno() > 0
