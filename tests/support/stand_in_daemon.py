"""A daemon that does nothing but live: the lock, the connection file, and the end.

--detach      as the real one
--stubborn    ends by SIGKILL only
--mute        takes the lock, and never says where it listens
--broken      cannot start
--log FILE    a line for each one that got the lock
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import threading

import psutil

from bridge import lifecycle
from bridge.connection import Connection, DaemonLock, Endpoints
from bridge.errors import BridgeError
from bridge.runtime_dir import CONNECTION, LOCK, private_folder, runtime_folder


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--detach", "--stubborn", "--mute", "--broken"):
        parser.add_argument(flag, action="store_true")
    for flag in ("--keep-alive", "--idle-exit", "--osc", "--cache-bytes", "--device", "--listen"):
        parser.add_argument(flag)
    arguments = parser.parse_args()

    lifecycle.reset_inherited()
    announcement = lifecycle.detach() if arguments.detach else lifecycle.Announcement()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.SIG_IGN if arguments.stubborn else lambda *_: over.set()
        signal.signal(number, handler)
    try:
        folder = private_folder(runtime_folder())
        if arguments.broken:
            raise BridgeError("it is broken; mend it")
    except BridgeError as error:
        announcement.failed(str(error))
        return
    with DaemonLock(folder / LOCK) as lock:
        if not lock.acquire():
            announcement.ready()
            return
        connection = Connection(
            endpoints=Endpoints.local(folder),
            key=secrets.token_hex(32),
            version="0",
            protocol=(1, 0),
            pid=os.getpid(),
            start_time=psutil.Process().create_time(),
            tcp=Endpoints.listening(arguments.listen) if arguments.listen else None,
        )
        if not arguments.mute:
            connection.write_atomic(folder / CONNECTION)
        announcement.ready()
        while not over.wait(0.5):
            pass
        (folder / CONNECTION).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
