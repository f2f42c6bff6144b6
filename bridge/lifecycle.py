"""How a daemon is found, how it comes to be, and how it goes.

    client          python -m bridge.daemon --detach
      │ start_detached     │ reset_inherited, detach
      ├───────────────────>├──────fork, new session, fork────> daemon
      │                    │ waits                               │ takes the lock, binds,
      │                    │<───────────── ready ────────────────┤ writes its connection file
      │<──── exit 0 ───────┘                                     │

Whoever comes first starts it; all who come meanwhile wait for its connection file. Should two be
started after all, the lock of `bridge.connection` decides and the loser ends quietly with 0. The
daemon is nobody's child and has nothing of the host that happened to start it: no real-time
scheduling, no blocked signals, no limits, no open files.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from audiosr_core.errors import EXIT_DAEMON, EXIT_OK, AudioSRError
from bridge.connection import Connection, DaemonLock, running
from bridge.errors import BridgeError, NoDaemonError
from bridge.runtime_dir import LOCK, STARTER, private_folder, runtime_folder

MODULE = "bridge.daemon"
START_SECONDS = 20.0
STOP_SECONDS = 5.0  # when asked: jobs are checkpointed
TERM_SECONDS = 2.0  # after SIGTERM, and after SIGKILL
LOOK_SECONDS = 0.02
OPEN_FILES = 8192
MAX_TEXT_BYTES = 4096


def find() -> Connection | None:
    """The daemon of this user, if one runs."""
    folder = runtime_folder()
    if not os.path.lexists(folder):
        return None
    return running(private_folder(folder))


def connect_or_start(
    timeout: float = START_SECONDS, arguments: Sequence[str] = (), module: str = MODULE
) -> Connection:
    """The daemon of this user; one is started with these arguments if none runs.

    Raises:
        NoDaemonError: none came up in time, with its own reason if it gave one
    """
    folder = private_folder(runtime_folder())
    lock = DaemonLock(folder / LOCK)
    deadline = time.monotonic() + timeout
    while (connection := running(folder)) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _too_late(lock, timeout)
        if lock.held_by() is None:
            with DaemonLock(folder / STARTER) as starter:  # one client starts, the others wait
                if starter.acquire(0) and lock.held_by() is None:
                    start_detached(arguments, left, module)
                    continue
        time.sleep(min(LOOK_SECONDS, left))
    return connection


def start_detached(
    arguments: Sequence[str] = (), timeout: float = START_SECONDS, module: str = MODULE
) -> None:
    """Start a daemon that outlives us; back when it is ready or another one runs.

    Raises:
        NoDaemonError: it could not start, with its own reason
    """
    if "py" not in Path(sys.executable or "").name.lower():
        raise NoDaemonError(
            f"a daemon cannot be started from inside {sys.executable or 'this program'!r};"
            " run: audiosr-bridge daemon start"
        )
    # -P: what lies in the folder where we happen to be is never imported
    command = [sys.executable, "-P", "-m", module, "--detach", *arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise NoDaemonError(f"a daemon cannot be started: {error.strerror}") from error
    with process:
        try:
            _, said = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise NoDaemonError(
                f"the daemon was not ready within {timeout:.3g} s; see: audiosr-bridge daemon logs"
            ) from error
    if process.returncode != EXIT_OK:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else f"it ended with {process.returncode}"
        raise NoDaemonError(f"the daemon could not start: {reason.removeprefix('error: ')}")


def _environment() -> dict[str, str]:
    """Ours; with the place of this package, if a Python would not find it by itself."""
    place = str(Path(__file__).parents[1])
    if place in sysconfig.get_paths().values():
        return dict(os.environ)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{others}" if others else place}


# ---- inside the daemon


class Announcement:
    """Tells the process that waits for the daemon how the start went; once, and then no more."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """It can be reached, or another one can; systemd is told as well."""
        sd_notify("READY=1")
        self._say(b"ready")

    def failed(self, text: str) -> None:
        """It cannot start, and why."""
        self._say(text.encode("utf-8", "replace")[:MAX_TEXT_BYTES] or b"no reason was given")

    def _say(self, data: bytes) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # it waits no longer
                os.write(self._descriptor, data)
            os.close(self._descriptor)
            self._descriptor = None


def detach(timeout: float = START_SECONDS) -> Announcement:
    """Go on as nobody's child, in a session of our own, without terminal.

    Call it before any thread, socket or lock is made. The process that was started waits and
    leaves with 0 when `ready` is said, else with the reason on standard error.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os._exit(_wait_for_announcement(reader, timeout))
    os.close(reader)
    os.setsid()
    if os.fork():  # the daemon leads no session, so that no terminal becomes its own
        os._exit(EXIT_OK)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
    return Announcement(writer)


def _wait_for_announcement(reader: int, timeout: float) -> int:
    text = b"it was not ready in time"
    if select.select([reader], [], [], timeout)[0]:
        text = os.read(reader, MAX_TEXT_BYTES) or b"it ended without a word; see its log"
    if text == b"ready":
        return EXIT_OK
    os.write(2, b"error: " + text + b"\n")
    return EXIT_DAEMON


def reset_inherited() -> None:
    """Put away what a host handed down: the first thing that a daemon does."""
    import resource

    os.umask(0o077)
    os.chdir("/")
    for number in signal.valid_signals():
        # what Python itself ignores stays so: a write to nobody is an error and no death
        if number not in (signal.SIGPIPE, getattr(signal, "SIGXFSZ", None)):
            with contextlib.suppress(OSError, ValueError):
                if signal.getsignal(number) is signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) not in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    for name in ("RTTIME", "RTPRIO", "CPU", "FSIZE", "DATA", "AS", "RSS", "NPROC", "NOFILE"):
        limit = getattr(resource, f"RLIMIT_{name}", None)
        if limit is None:
            continue
        with contextlib.suppress(OSError, ValueError):
            soft, hard = resource.getrlimit(limit)
            if name != "NOFILE":
                resource.setrlimit(limit, (hard, hard))
            elif soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
                most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
                resource.setrlimit(limit, (max(soft, most), hard))


def sd_notify(state: str) -> bool:
    """Tell systemd, if it wants to know: "READY=1", "STOPPING=1", "STATUS=…"."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.settimeout(1.0)
        notify.connect("\0" + address[1:] if address[0] == "@" else address)
        notify.send(state.encode())
        return True
    return False


# ---- the end


def stop(
    connection: Connection,
    timeout: float = STOP_SECONDS,
    ask: Callable[[], object] | None = None,
) -> None:
    """Stop a daemon of this machine; back when it has let go of its lock.

    Args:
        timeout: how long it may take when it was asked, before it is told by signals
        ask: asks it to stop, by the control socket; its failure is no failure yet
    """
    if connection.pid is None:
        raise BridgeError("a daemon on another machine is stopped there, not from here")
    lock = DaemonLock(runtime_folder() / LOCK)
    holder = (connection.pid, connection.start_time)

    def gone() -> bool:
        return lock.held_by() != holder

    if ask is not None:
        asked = False
        with contextlib.suppress(AudioSRError):
            ask()
            asked = True
        if wait_until(gone, timeout if asked else 0):
            return
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not gone():
            _signal(connection, number)
        if wait_until(gone, TERM_SECONDS):
            return
    raise BridgeError(f"the daemon (pid {connection.pid}) does not end; it hangs in the kernel")


def arguments_of(connection: Connection) -> list[str]:
    """The flags that this daemon was started with; none if they cannot be seen."""
    with contextlib.suppress(psutil.Error):
        words = psutil.Process(connection.pid).cmdline()
        if MODULE in words:
            flags = words[words.index(MODULE) + 1 :]
            return [one for one in flags if one != "--detach"]
    return []


def wait_until(condition: Callable[[], bool], timeout: float, every: float = LOOK_SECONDS) -> bool:
    """Look until it is so; whether it was so in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(every, left))
    return True


def _signal(connection: Connection, number: signal.Signals) -> None:
    """To that very process: in a sandbox another one may have its pid."""
    try:
        process = psutil.Process(connection.pid)
        if abs(process.create_time() - (connection.start_time or 0)) < 5:  # clocks are set
            process.send_signal(number)
            return
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    raise BridgeError(
        f"the daemon (pid {connection.pid}) runs where it cannot be seen from here, perhaps"
        " outside of a sandbox; stop it there"
    )


def _too_late(lock: DaemonLock, timeout: float) -> NoDaemonError:
    holder = lock.held_by()
    if holder is None:
        return NoDaemonError(
            f"no daemon came up within {timeout:.3g} s; see: audiosr-bridge daemon logs"
        )
    return NoDaemonError(
        f"a daemon (pid {holder.pid}) runs but has not said within {timeout:.3g} s where it"
        " listens; see: audiosr-bridge daemon logs"
    )
