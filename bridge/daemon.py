"""The daemon: holds the lock, binds the sockets, runs two threads and a worker until it is told.

    python -m bridge.daemon [--detach] ...      what `audiosr-bridge daemon start` runs

Torch is the worker's business: nothing here imports it, so a daemon answers in a third of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import psutil
import zmq

from audiosr_core import __version__
from audiosr_core.errors import EXIT_DAEMON, EXIT_OK, AudioSRError
from bridge import runtime_dir
from bridge.connection import Connection, DaemonLock, Endpoints
from bridge.keys import AllowList, Authenticator, server_keys
from bridge.lifecycle import Announcement, detach, reset_inherited, sd_notify
from bridge.log import logging_to
from bridge.protocol import VERSION
from bridge.server.control import Control
from bridge.server.shared import Options, Shared
from bridge.server.sockets import TOPIC_BYTES, Curve, Listener, Sockets
from bridge.server.work import Work

if TYPE_CHECKING:
    from bridge.osc import OscServer

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005  # for which one thread may keep the other waiting
JOIN_SECONDS = 1.5
LOCK_WATCH_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a daemon, or leave quietly because one runs already."""
    given = _parser().parse_args(arguments)
    reset_inherited()
    sys.setswitchinterval(SWITCH_SECONDS)
    announcement = detach() if given.detach else Announcement()
    code = EXIT_OK
    try:
        options = _options(given)
        if options.upstream is not None:
            Connection.read_remote(options.upstream)  # what is wrong with it is told now
        for folder in (options.runtime, options.cache, options.state):
            runtime_dir.private_folder(folder)
        with (
            logging_to(options.state, also_to=None if given.detach else sys.stderr),
            DaemonLock(options.runtime / runtime_dir.LOCK) as lock,
        ):
            if lock.acquire():  # else somebody was faster, and serves us all
                _run(options, lock, announcement)
        announcement.ready()
    except AudioSRError as error:
        announcement.failed(str(error))
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error: {error}\n")
        code = EXIT_DAEMON
    except Exception as error:
        announcement.failed(f"this is a bug: {type(error).__name__}: {error}")
        raise
    logging.shutdown()
    os._exit(code)  # whatever a library still has running is not waited for


def _run(options: Options, lock: DaemonLock, announcement: Announcement) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        Daemon(options, context, lock).run(announcement)
    except AudioSRError as error:
        log.error("cannot start: %s", error)
        raise
    except Exception:
        log.exception("the daemon failed")
        raise
    finally:
        context.destroy(linger=0)


class Daemon:
    """Everything of one daemon, put together."""

    def __init__(
        self, options: Options, context: zmq.Context[zmq.Socket[bytes]], lock: DaemonLock
    ) -> None:
        self.options, self._lock = options, lock
        allowed = AllowList(runtime_dir.config_folder())
        self.shared = Shared(options, context)
        curve = None
        self._authenticator = None
        if options.listen:
            public, secret = server_keys(runtime_dir.config_folder())
            curve = Curve(public.encode(), secret.encode())
            self._authenticator = Authenticator(context, allowed)
            self._authenticator.start()
        local = Endpoints.local(options.runtime)
        tcp = [Endpoints.listening(one) for one in options.listen]

        def listeners(kind: str) -> list[Listener]:
            found = [Listener(getattr(local, kind))]
            return found + [Listener(getattr(one, kind), curve) for one in tcp]

        limits = options.limits
        control = Sockets(context, zmq.ROUTER, listeners("control"), limits.meta_bytes)
        work = Sockets(context, zmq.ROUTER, listeners("work"), limits.frame_bytes)
        events = Sockets(context, zmq.PUB, listeners("events"), TOPIC_BYTES)
        self.work = Work(self.shared, work)
        self.control = Control(self.shared, control, events, self.work, allowed)
        bound = [sockets.endpoints for sockets in (control, work, events)]
        self._local = Endpoints(*(one[0] for one in bound))
        self._tcp = Endpoints(*(one[1] for one in bound)) if tcp else None
        self._osc: OscServer | None = None

    def run(self, announcement: Announcement) -> None:
        """Until somebody says stop: a message, a signal, or nobody for a long time."""
        stopping = self.shared.stopping
        signal.signal(signal.SIGTERM, self._signalled)
        signal.signal(signal.SIGINT, self._signalled)
        connection = self.options.runtime / runtime_dir.CONNECTION
        osc_port = self._start_osc()
        self.work.start()
        self.control.start()
        try:
            self._connection(osc_port).write_atomic(connection)
            log.info(
                "started",
                extra={"version": __version__, "control": self._local.control, "osc": osc_port},
            )
            announcement.ready()
            while not stopping.wait(LOCK_WATCH_SECONDS):
                if not self._lock.in_place():  # somebody cleared the folder: nobody can find us
                    log.error("the lock file is gone; stopping")
                    stopping.set()
        finally:
            self._stop(connection)

    def _connection(self, osc_port: int | None) -> Connection:
        me = psutil.Process()
        return Connection(
            endpoints=self._local,
            key=self.shared.key.hex(),
            version=__version__,
            protocol=VERSION,
            pid=me.pid,
            start_time=me.create_time(),
            osc_port=osc_port,
            tcp=self._tcp,
        )

    def _start_osc(self) -> int | None:
        if self.options.osc_port is None:
            return None
        from bridge.osc import OscServer
        from bridge.server.surface import Surface

        surface = Surface(self.shared, self.work, self.control.status)
        self._osc = OscServer(
            self.options.osc_host, self.options.osc_port, surface, token=self.options.osc_token
        )
        return self._osc.start()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """Once: end well. Twice: end now."""
        if self.shared.stopping.is_set():
            os._exit(128 + number)
        log.info("signal", extra={"number": number})
        self.shared.stopping.set()

    def _stop(self, connection: Path) -> None:
        self.shared.stopping.set()
        sd_notify("STOPPING=1")
        self.shared.wake_control()
        self.shared.wake_work()
        with contextlib.suppress(OSError):
            connection.unlink()
        if self._osc is not None:
            self._osc.stop()
        for thread in (self.work, self.control):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(JOIN_SECONDS)
        if self._authenticator is not None:
            self._authenticator.stop()
        self.shared.wake_control.close()
        self.shared.wake_work.close()
        log.info("stopped")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bridge.daemon")
    defaults = Options(runtime_dir.runtime_folder(), runtime_dir.cache_folder(),
                       runtime_dir.state_folder())  # fmt: skip
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--device", default=defaults.device)
    parser.add_argument("--precision", default=defaults.precision)
    parser.add_argument("--allow-cpu", action="store_true")
    parser.add_argument("--keep-alive", type=float, default=defaults.keep_alive_seconds)
    parser.add_argument("--idle-exit", type=float, default=defaults.idle_exit_seconds)
    parser.add_argument("--hold", type=float, default=defaults.hold_seconds)
    parser.add_argument("--cache-bytes", type=int, default=defaults.cache_bytes)
    parser.add_argument("--memory-bytes", type=int, default=defaults.memory_bytes)
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--osc", type=int, default=None)
    parser.add_argument("--osc-listen", default=defaults.osc_host)
    parser.add_argument("--engine", default=None)
    parser.add_argument("--upstream", type=Path, default=None)
    return parser


def _options(given: argparse.Namespace) -> Options:
    return Options(
        runtime=runtime_dir.runtime_folder(),
        cache=runtime_dir.cache_folder(),
        state=runtime_dir.state_folder(),
        device=given.device,
        precision=given.precision,
        allow_cpu=given.allow_cpu,
        keep_alive_seconds=given.keep_alive,
        idle_exit_seconds=given.idle_exit,
        hold_seconds=given.hold,
        cache_bytes=given.cache_bytes,
        memory_bytes=given.memory_bytes,
        listen=tuple(given.listen),
        osc_port=given.osc,
        osc_host=given.osc_listen,
        osc_token=os.environ.get("AUDIOSR_BRIDGE_OSC_TOKEN"),
        engine=given.engine,
        upstream=given.upstream,
    )


if __name__ == "__main__":
    main()
