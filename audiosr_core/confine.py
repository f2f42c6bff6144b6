"""Give up rights that a process does not need, before it opens a file that nobody vouches for.

    isolate        no network, no new privileges, no life after the parent     before any thread
    limit          memory, processor time, sizes, open files, processes
    restrict_files what may be read, and the one folder that may be written    before the file

Each takes away what this system can take away, raises nothing, and says what is now in force. What
is taken away stays so for the life of the process. Linux gives all of it (namespaces(7), prctl(2),
landlock(7)), other systems part of it or nothing: this is the second wall, not the first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# linux/sched.h
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

# linux/landlock.h; the system calls have these numbers on every architecture
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
WRITE_FILE, READ_FILE, READ_DIR, MAKE_REG, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 8, 1 << 14
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # interface version → how many rights it knows
NEWEST_FILE_RIGHTS = 16
NETWORK_SINCE = 4
BIND_AND_CONNECT_TCP = 0b11


@dataclass(frozen=True)
class Limits:
    """What the work may use."""

    memory_bytes: int  # beyond what is mapped already
    cpu_seconds: int
    file_bytes: int  # size of any file written
    open_files: int = 256


def isolate() -> list[str]:
    """No network, no new privileges, and no life after the parent; what is in force.

    Must come before the process has a second thread.
    """
    if not sys.platform.startswith("linux"):
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    done = []
    if any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET)):
        done.append("no network")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        done.append("no new privileges")
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0:
        done.append("ends with its parent")
    return done


def limit(limits: Limits) -> list[str]:
    """Resource limits of this process (setrlimit(2)); what is in force."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    wanted = {
        "RLIMIT_AS": _mapped_bytes() + limits.memory_bytes,
        "RLIMIT_CPU": limits.cpu_seconds,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
    }
    done = []
    for name, value in wanted.items():
        if (number := getattr(resource, name, None)) is None:
            continue
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (value, value))
            done.append(name)
    return [f"limits: {' '.join(done)}"] if done else []


def restrict_files(readable: Iterable[Path], writable: Path) -> list[str]:
    """Only these files and folders may be read, only one folder written, no program started.

    What is open already stays open. What is in force comes back.
    """
    if not sys.platform.startswith("linux"):
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return []
    handled = (1 << FILE_RIGHTS.get(version, NEWEST_FILE_RIGHTS)) - 1
    attributes = struct.pack("=Q", handled)
    if version >= NETWORK_SINCE:
        attributes += struct.pack("=Q", BIND_AND_CONNECT_TCP)
    rules = libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return []
    try:
        for path in readable:
            _allow(libc, rules, path, READ_FILE | READ_DIR)
        _allow(libc, rules, writable, handled & (READ_DIR | WRITE_FILE | MAKE_REG | TRUNCATE))
        if libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0) != 0:
            return []
    finally:
        os.close(rules)
    done = ["files: reads the source and the installation, writes one folder, starts no program"]
    return [*done, "no TCP"] if version >= NETWORK_SINCE else done


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    """Below `path` (or to it, if it is a file) these rights stay; no such path: no rights."""
    with contextlib.suppress(OSError):
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not path.is_dir():
                rights &= READ_FILE | WRITE_FILE | TRUNCATE
            rule = struct.pack("=Qi", rights, at)
            libc.syscall(LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(at)


def _mapped_bytes() -> int:
    """Address space in use; libraries alone may map many gigabytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 1 << 36
    return pages * os.sysconf("SC_PAGE_SIZE")
