"""Try a plugin in a child process, which crashes or hangs in our stead.

    this process                               python -m plugin_host.plugins
    prove(…)  ──── JSON, standard input ────▶  answer(load): loads it as we would
              ◀─── JSON, standard output ────  null, or what is wrong; or nothing: it crashed

What came through is remembered until one of its files or the hosting library changes: in this
process, and in the user's cache folder where its files are known.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from plugin_host.child import ending
from plugin_host.errors import PluginError

SECONDS = 30.0
"""How long a plugin may take to load; some ask a licence server."""

_proven: set[str] = set()


def prove(
    module: str,
    request: Mapping[str, Any],
    name: str,
    *,
    library: str,
    files: Iterable[Path] = (),
    timeout_seconds: float = SECONDS,
) -> None:
    """Return when `request` has been loaded in a child, now or before.

    Args:
        module: run in the child, where it calls `answer`
        request: what the child's `load` is called with
        name: the plugin in the words of a message
        library: the distribution that hosts it
        files: a plugin that changed in one of these is tried again; a folder stands for all in it;
            without any it is tried again in the next process

    Raises:
        PluginError: it crashed, hung, or cannot be loaded
    """
    stats = _stats(files)
    facts = [module, dict(request), library, metadata.version(library), stats]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    mark = folder() / key
    if key in _proven or (stats and mark.exists()):
        return
    _try(module, request, name, timeout_seconds)
    _proven.add(key)
    if stats:
        with contextlib.suppress(OSError):  # it will be tried again
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def folder() -> Path:
    """One empty file for each plugin that came through."""
    return platformdirs.user_cache_path("audiosr-bridge", appauthor=False) / "plugins"


def answer(load: Callable[..., object]) -> None:
    """In the child: try what standard input asks for, and say how it went."""
    request = json.load(sys.stdin)
    faulthandler.dump_traceback_later(request.pop("seconds"), exit=True)  # if nobody waits for us
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # plugins print what they like
    wrong = None
    try:
        load(**request)
    except PluginError as error:
        wrong = str(error)
    json.dump(wrong, reply)
    reply.flush()
    os._exit(0)  # whatever still runs in there


def _try(module: str, request: Mapping[str, Any], name: str, seconds: float) -> None:
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", module],
            input=json.dumps({**request, "seconds": seconds + 5}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise PluginError(
            f"{name} must load within {seconds:g} s and did not; open it in another host to see"
            " what it waits for"
        ) from None
    except OSError as error:
        raise PluginError(f"{name} cannot be tried in a child process: {error.strerror}") from error
    try:
        wrong = json.loads(child.stdout)
    except ValueError:
        raise PluginError(
            f"{name} crashed while it was loaded ({ending(child.returncode)}); update it, or take"
            " it out of the chain"
        ) from None
    if wrong:
        raise PluginError(wrong)


def _stats(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """What tells that a file is another one: its path, size and time."""
    found = [(os.fspath(path), path.stat()) for path in _every_file(paths)]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in found]


def _every_file(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
