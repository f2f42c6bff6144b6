"""One daemon, whoever starts it and however often; nothing of its starter; gone when told so."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bridge import lifecycle
from bridge.connection import Connection, DaemonLock, is_stale
from bridge.errors import BridgeError, NoDaemonError

ROOT = Path(__file__).parents[2]
STAND_IN = "tests.support.stand_in_daemon"  # can be stubborn, mute or broken

pytestmark = pytest.mark.timeout(120)

CLIENT = """
import json, sys
from bridge import lifecycle
found = lifecycle.connect_or_start(60, (), sys.argv[1])
print(json.dumps([found.pid, found.key]), flush=True)
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory, monkeypatch):
    """A runtime folder of this test; whatever runs in it at the end is killed."""
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    monkeypatch.setenv("AUDIOSR_BRIDGE_RUNTIME_DIR", str(folder))
    for one in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"AUDIOSR_BRIDGE_{one}_DIR", str(folder.with_suffix("." + one.lower())))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield folder
    lifecycle.wait_until(lambda: not _kill_all(), 20)


@pytest.fixture(params=["bridge.daemon", STAND_IN])
def module(request) -> str:
    return request.param


def start(*arguments: str, module: str = STAND_IN, timeout: float = 40.0) -> Connection:
    return lifecycle.connect_or_start(timeout, arguments, module)


def client(module: str = STAND_IN, **other) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, module],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **other,
    )  # fmt: skip


def daemons(module: str) -> list[int]:
    """The pids of all that run in this test's folder."""
    found = []
    for process in _all():
        with contextlib.suppress(psutil.Error):
            if module in process.cmdline() and "-m" in process.cmdline():
                found.append(process.pid)
    return found


def _all() -> list[psutil.Process]:
    """Every process of this test but ourselves, those on their way to be a daemon too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mine = process.environ().get("AUDIOSR_BRIDGE_RUNTIME_DIR") == str(_folder())
            if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _kill_all() -> int:
    """How many there still were."""
    found = _all()
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(found)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_nothing_runs_until_it_is_started_and_asking_makes_nothing(runtime, monkeypatch, tmp_path):
    assert lifecycle.find() is None
    assert list(runtime.iterdir()) == []
    monkeypatch.setenv("AUDIOSR_BRIDGE_RUNTIME_DIR", str(tmp_path / "none"))
    assert lifecycle.find() is None
    assert not (tmp_path / "none").exists()


def test_a_daemon_is_started_once_and_found_ever_after(module):
    one = start(module=module)
    assert lifecycle.find() == one
    assert start(module=module) == one


def test_twenty_clients_at_once_give_one_daemon(module):
    clients = [client(module) for _ in range(20)]
    answers = [one.communicate(timeout=100) for one in clients]
    assert [one.returncode for one in clients] == [0] * 20, answers
    assert len({out for out, _ in answers}) == 1
    assert daemons(module) == [json.loads(answers[0][0])[0]]


def test_twenty_daemons_at_once_are_one_and_the_others_end_quietly(module):
    command = [sys.executable, "-m", module, "--detach"]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(20)]
    said = [one.communicate(timeout=100)[1] for one in started]
    assert [one.returncode for one in started] == [0] * 20
    assert said == [b""] * 20
    assert lifecycle.wait_until(lambda: daemons(module) == [lifecycle.find().pid], 20)


def test_after_any_death_the_next_client_gets_a_new_daemon(module):
    seen = set()
    for _ in range(5):
        connection = start(module=module)
        assert connection.key not in seen
        seen.add(connection.key)
        psutil.Process(connection.pid).kill()
        assert lifecycle.wait_until(lambda old=connection: is_stale(old, _folder()), 10)
        assert lifecycle.find() is None


def test_a_starter_that_is_killed_keeps_nobody_from_starting(runtime):
    first = client()
    starter = DaemonLock(runtime / "start.lock")
    assert lifecycle.wait_until(lambda: starter.held_by() is not None, 30)
    first.kill()
    first.communicate(timeout=20)
    assert start().pid is not None


def test_a_daemon_outlives_its_starter_and_the_whole_group_of_it(module):
    one = client(module, start_new_session=True)
    pid, _ = json.loads(one.stdout.readline())
    os.killpg(one.pid, signal.SIGKILL) if one.poll() is None else None
    one.communicate(timeout=20)
    daemon = psutil.Process(pid)
    assert daemon.is_running()
    assert daemon.ppid() != one.pid
    assert os.getsid(pid) != os.getsid(0)
    assert os.getsid(pid) != pid  # so no terminal can become its own


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_a_daemon_has_nothing_of_its_starter(module, tmp_path):
    def hostile() -> None:
        """As the audio thread of a host might be when it starts a program."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        os.umask(0)
        if os.geteuid() == 0:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        resource.setrlimit(resource.RLIMIT_RTTIME, (200_000, hard))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        os.setpriority(os.PRIO_PROCESS, 0, 3)

    with open(tmp_path / "project", "wb") as project:
        os.set_inheritable(project.fileno(), True)
        one = client(module, preexec_fn=hostile, cwd=tmp_path, close_fds=False)
        out, error = one.communicate(timeout=60)
    assert one.returncode == 0, error
    pid, _ = json.loads(out)
    found = status(pid)
    default = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # Python's own
    assert int(found["SigBlk"], 16) == 0
    assert int(found["SigIgn"], 16) & ~default == 0
    assert found["Umask"] == "0077"
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert psutil.Process(pid).nice() == 3
    for name in ("RTTIME", "FSIZE"):
        soft, hard = resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"))
        assert soft == hard, name
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    files = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
    assert [one for one in files if "project" in one] == []
    assert sorted(os.readlink(f"/proc/{pid}/fd/{one}") for one in "012") == ["/dev/null"] * 3
    psutil.Process(pid).terminate()  # the signal that was blocked and ignored
    assert lifecycle.wait_until(lambda: lifecycle.find() is None, 10)


def test_why_a_daemon_could_not_start_is_told_to_who_started_it():
    with pytest.raises(NoDaemonError, match="it is broken; mend it"):
        start("--broken")
    with pytest.raises(NoDaemonError, match="unrecognized arguments: --nonsense"):
        start("--nonsense")
    with pytest.raises(NoDaemonError, match="No module named"):
        lifecycle.connect_or_start(20, (), "bridge.no_such")


def test_a_daemon_that_never_says_where_it_listens_is_waited_for_until_the_limit():
    began = time.monotonic()
    with pytest.raises(NoDaemonError, match="has not said within 3 s"):
        start("--mute", timeout=3.0)
    assert time.monotonic() - began < 10


def test_no_daemon_is_started_in_a_folder_that_is_not_safe(runtime):
    runtime.chmod(0o755)
    for attempt in (start, lifecycle.find):
        with pytest.raises(BridgeError, match="chmod 700"):
            attempt()
    runtime.chmod(0o700)


def test_a_host_that_is_no_python_is_never_started_as_one(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/daw/reaper")
    with pytest.raises(NoDaemonError, match="audiosr-bridge daemon start"):
        lifecycle.start_detached()


def test_a_daemon_finds_the_package_where_its_starter_found_it(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.chdir(tmp_path)
    assert start().pid


def test_what_lies_where_we_are_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "bridge").mkdir()
    (tmp_path / "bridge" / "__init__.py").write_text("raise SystemExit('fell for it')")
    (tmp_path / "psutil.py").write_text("raise SystemExit('fell for it')")
    monkeypatch.chdir(tmp_path)
    assert start().pid


# ---- the end


def _folder() -> Path:
    return Path(os.environ["AUDIOSR_BRIDGE_RUNTIME_DIR"])


def test_a_daemon_ends_in_time_when_it_is_told(module):
    connection = start(module=module)
    began = time.monotonic()
    lifecycle.stop(connection)
    assert time.monotonic() - began < lifecycle.TERM_SECONDS
    assert lifecycle.find() is None
    assert not (_folder() / "daemon.json").exists()
    lifecycle.stop(connection)  # it is gone already


def test_a_daemon_is_asked_before_it_is_told():
    connection = start()
    asked = []

    def ask() -> None:
        asked.append(True)
        psutil.Process(connection.pid).terminate()

    lifecycle.stop(connection, 10, ask)
    assert asked
    assert lifecycle.find() is None


def test_a_daemon_that_cannot_be_asked_is_told():
    connection = start()

    def ask() -> None:
        raise NoDaemonError("it does not answer")

    began = time.monotonic()
    lifecycle.stop(connection, 60, ask)
    assert time.monotonic() - began < 10
    assert lifecycle.find() is None


def test_a_daemon_that_does_not_listen_is_killed():
    connection = start("--stubborn")
    lifecycle.stop(connection)
    assert lifecycle.find() is None
    assert start().key != connection.key


def test_a_process_that_has_the_daemon_s_pid_by_chance_is_left_alone():
    victim = subprocess.Popen(["sleep", "60"])
    connection = start()
    try:
        other = Connection(
            endpoints=connection.endpoints, key=connection.key, version="0", protocol=(1, 0),
            pid=victim.pid, start_time=connection.start_time,
        )  # fmt: skip
        lifecycle.stop(other)
        assert victim.poll() is None
        assert lifecycle.find() == connection
    finally:
        victim.kill()
        victim.wait(10)


# ---- systemd


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_if_it_wants_to_know(abstract, tmp_path, monkeypatch):
    if abstract and sys.platform != "linux":
        pytest.skip("names without a file are of Linux")
    name = f"audiosr-bridge-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        assert lifecycle.sd_notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
    if not abstract:
        assert not lifecycle.sd_notify("READY=1")  # nobody there: no error
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not lifecycle.sd_notify("READY=1")
