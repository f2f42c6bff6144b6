"""`audiosr-bridge daemon` and `daemon keys`, over a daemon that does nothing but live."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from audiosr_core.errors import UsageError
from bridge import lifecycle
from bridge.connection import Connection, DaemonLock
from bridge.errors import NoDaemonError
from bridge.keys import AllowList
from plugin_host.cli.app import run
from plugin_host.cli.commands import daemon
from plugin_host.cli.commands.daemon import daemon_flags, num_bytes, readable, seconds

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """Folders of this test; a daemon is the stand-in, which cannot be asked but told."""
    with tempfile.TemporaryDirectory(prefix="asb") as name:
        folder = Path(name)
        for one in ("RUNTIME", "CACHE", "STATE", "CONFIG"):
            monkeypatch.setenv(f"AUDIOSR_BRIDGE_{one}_DIR", str(folder / one.lower()))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setattr(lifecycle, "MODULE", "tests.support.stand_in_daemon")
        monkeypatch.setattr(daemon, "_ask_to_stop", _not_asked)
        yield folder
        while holder := DaemonLock(folder / "runtime" / "daemon.lock").held_by():
            if holder.pid:
                psutil.Process(holder.pid).kill()
            time.sleep(0.01)


def _not_asked(connection: Connection) -> None:
    raise NoDaemonError("it does not answer")


def flags_of_daemon() -> list[str]:
    found = lifecycle.find()
    assert found is not None
    return lifecycle.arguments_of(found)


def test_a_daemon_is_started_once_and_stopped_once(capsys):
    assert run(["daemon", "start"]) == 0
    one = lifecycle.find()
    assert run(["daemon", "start"]) == 0
    assert lifecycle.find() == one
    assert run(["daemon", "stop"]) == 0
    assert lifecycle.find() is None
    assert run(["daemon", "stop"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"a daemon runs (pid {one.pid})",
        f"a daemon runs already (pid {one.pid})",
        f"the daemon (pid {one.pid}) has ended",
        "no daemon runs",
    ]


def test_a_restart_keeps_the_flags_unless_others_are_given():
    assert run(["daemon", "restart", "--keep-alive", "2m", "--listen", "tcp://127.0.0.1:6000"]) == 0
    first, flags = lifecycle.find(), flags_of_daemon()
    assert flags == ["--keep-alive=120", "--listen=tcp://127.0.0.1:6000"]
    assert run(["daemon", "restart"]) == 0
    assert lifecycle.find().pid != first.pid
    assert flags_of_daemon() == flags
    assert run(["daemon", "restart", "--idle-exit", "never"]) == 0
    assert flags_of_daemon() == ["--idle-exit=-1"]


def test_a_daemon_in_the_foreground_is_the_process_itself():
    code = (
        "import sys; from bridge import lifecycle; from plugin_host.cli.app import run;"
        "lifecycle.MODULE = 'tests.support.stand_in_daemon';"
        "sys.exit(run(['daemon', 'start', '--foreground', '--device', 'cpu']))"
    )
    with _killed(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)) as process:
        assert lifecycle.wait_until(lambda: lifecycle.find() is not None, 30)
        assert lifecycle.find().pid == process.pid
        assert flags_of_daemon() == ["--device=cpu"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize("json_", [False, True])
def test_the_status_of_no_daemon_is_exit_3(json_, capsys):
    assert run(["daemon", "status", *(["--json"] if json_ else [])]) == 3
    out, error = capsys.readouterr()
    if json_:
        assert json.loads(out) == {"running": False}
    else:
        assert "daemon start" in error


class FakeClient:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def status(self):
        return {"version": "0.1", "models": ["lite"]}


def test_the_status_is_what_the_daemon_says(capsys, monkeypatch):
    assert run(["daemon", "start"]) == 0
    monkeypatch.setattr(daemon, "_client", lambda connection: FakeClient())
    pid = lifecycle.find().pid
    assert run(["daemon", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "running": True, "pid": pid, "version": "0.1", "models": ["lite"],
    }  # fmt: skip
    assert run(["daemon", "status"]) == 0
    assert "models             lite" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--keep-alive", "soon"],
        ["--idle-exit", "-5"],
        ["--cache-size", "20 GB"],
        ["--osc", "70000"],
        ["--osc", "x"],
        ["--device", "gpu"],
        ["--device", "cuda:x"],
        ["--precision", "fp8"],
    ],
)
def test_a_flag_that_makes_no_sense_starts_nothing(arguments, capsys):
    assert run(["daemon", "start", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert lifecycle.find() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5m", 300), ("300", 300), ("2h", 7200), ("0", 0), ("never", -1), ("1.5 s", 1.5)]
)  # fmt: skip
def test_a_duration_reads_as_written(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "m", "5 min", "-1", "1e3", "nan", "inf", "5g", "1:30", "٣"])
def test_any_other_duration_is_an_error(text):
    with pytest.raises(UsageError):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("20G", 20 << 30), ("500m", 500 << 20), ("1000", 1000), ("1.5k", 1536)]
)
def test_a_size_reads_as_written(text, expected):
    assert num_bytes(text) == expected
    assert daemon_flags(cache_size=text) == [f"--cache-bytes={expected}"]


# ---- the log


def log_line(number: int) -> str:
    fields = {"time": "T", "level": "info", "from": "bridge", "pid": 7, "event": f"e{number}"}
    return json.dumps(fields | {"job": number}) + "\n"


def test_the_end_of_the_log_goes_over_a_rotation(home, capsys):
    assert run(["daemon", "logs"]) == 0
    assert "no log yet" in capsys.readouterr().err
    (home / "state").mkdir()
    (home / "state" / "daemon.log.1").write_text("".join(log_line(n) for n in range(5)))
    (home / "state" / "daemon.log").write_text("".join(log_line(n) for n in range(5, 8)))
    assert run(["daemon", "logs", "-n", "4"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"T info e{n} job={n}" for n in range(4, 8)]
    assert run(["daemon", "logs", "-n", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["event"] == "e7"


@pytest.mark.parametrize("line", ["", "no json", "[]", "7", "{}", '{"time": 1}', "[" * 5000])
def test_a_line_that_is_no_event_is_shown_as_it_is(line):
    assert readable(line) == line


@contextlib.contextmanager
def _killed(process):
    """The process, which does not outlive the test."""
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("rotated_at_once", [False, True])
def test_a_log_is_followed_over_a_rotation(rotated_at_once, home):
    (home / "state").mkdir()
    path = home / "state" / "daemon.log"
    path.write_text(log_line(0))
    command = [sys.executable, "-m", "plugin_host.cli", "daemon", "logs", "-f"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as from a terminal
    )  # fmt: skip
    with _killed(process):
        assert process.stdout.readline() == "T info e0 job=0\n"
        with open(path, "a") as file:
            file.write(log_line(1)[:20])
            file.flush()
            file.write(log_line(1)[20:])
        if not rotated_at_once:
            assert process.stdout.readline() == "T info e1 job=1\n"
        os.replace(path, path.with_name("daemon.log.1"))
        path.write_text(log_line(2))
        if rotated_at_once:
            assert process.stdout.readline() == "T info e1 job=1\n"
        assert process.stdout.readline() == "T info e2 job=2\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


# ---- systemd


def test_the_unit_runs_this_installation(capsys):
    assert run(["daemon", "unit", "--device", "cuda:0", "--idle-exit", "1h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (started,) = [line for line in lines if line.startswith("ExecStart=")]
    assert started == (
        f"ExecStart={sys.executable} -P -m bridge.daemon --device=cuda:0 --idle-exit=3600"
    )
    assert "Type=notify" in lines


def test_a_path_with_anything_in_it_is_quoted(capsys, monkeypatch):
    monkeypatch.setattr(sys, "executable", '/opt/my "50%" $HOME/python')
    assert run(["daemon", "unit"]) == 0
    assert '"/opt/my \\"50%%\\" $$HOME/python" -P' in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_takes_the_unit(capsys, tmp_path):
    assert run(["daemon", "unit"]) == 0
    path = tmp_path / "audiosr-bridge.service"
    path.write_text(capsys.readouterr().out)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", path], capture_output=True, text=True, timeout=60,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# ---- keys


def test_a_client_is_made_listed_and_revoked(home, capsys, tmp_path):
    assert run(["daemon", "start", "--listen", "tcp://0.0.0.0:5570"]) == 0
    capsys.readouterr()
    assert run(["daemon", "keys", "create", "laptop"]) == 2
    assert "--host" in capsys.readouterr().err
    file = tmp_path / "laptop.json"
    assert run(["daemon", "keys", "create", "laptop", "--host", "studio.lan", "-o", str(file)]) == 0
    connection = Connection.read(file)
    assert connection.endpoints.work == "tcp://studio.lan:5571"
    assert connection.curve.secret not in "".join(capsys.readouterr())
    assert AllowList(home / "config").name_of(connection.curve.public) == "laptop"
    assert run(["daemon", "keys", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "laptop"
    assert run(["daemon", "keys", "revoke", "laptop"]) == 0
    assert AllowList(home / "config").name_of(connection.curve.public) is None
    assert run(["daemon", "keys", "revoke", "laptop"]) == 2


def test_a_client_can_be_made_before_the_daemon_is_there(capsys):
    assert run(["daemon", "keys", "create", "a"]) == 2
    assert "--listen" in capsys.readouterr().err
    assert run(["daemon", "keys", "create", "a", "--port", "5570"]) == 2
    assert run(["daemon", "keys", "create", "a", "--host", "fe80::1", "--port", "5570"]) == 0
    out = capsys.readouterr().out
    assert Connection.parse(out).endpoints.control == "tcp://[fe80::1]:5570"


def test_a_file_that_is_there_is_kept_and_no_key_is_left_behind(home, capsys, tmp_path):
    (tmp_path / "there").write_text("precious")
    create = ["daemon", "keys", "create", "a", "--host", "h", "--port", "5570", "-o"]
    assert run([*create, str(tmp_path / "there")]) == 2
    assert (tmp_path / "there").read_text() == "precious"
    assert run([*create, str(tmp_path / "missing" / "file")]) == 3
    assert run(["daemon", "keys", "list"]) == 0
    assert capsys.readouterr().out == ""
