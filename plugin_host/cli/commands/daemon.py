"""`audiosr-bridge daemon`: the process that holds the model, from its start to its end."""

from __future__ import annotations

import json as json_text
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from audiosr_core.device import PRECISIONS
from audiosr_core.errors import EXIT_DAEMON, FileError, UsageError
from plugin_host.cli.commands import keys
from plugin_host.cli.flags import Json
from plugin_host.cli.terminal import emit, say, write

if TYPE_CHECKING:
    from bridge.client import Client
    from bridge.connection import Connection

app = typer.Typer(
    help="Start, stop and look at the daemon.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys.app, name="keys")

ASK_SECONDS = 3.0
FOLLOW_SECONDS = 0.2
NEVER = -1.0
NONE_RUNS = "no daemon runs; start one with: audiosr-bridge daemon start"

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

Device = Annotated[
    str | None, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where large models run.")
]
Precision = Annotated[
    str | None,
    typer.Option(metavar="auto|fp32|bf16|fp16", help="In which numbers they compute."),
]
KeepAlive = Annotated[
    str | None, typer.Option(metavar="5m|0|never", help="Keep an idle model in memory this long.")
]
IdleExit = Annotated[
    str | None, typer.Option(metavar="30m|never", help="End when there was nothing to do so long.")
]
Listen = Annotated[
    list[str] | None,
    typer.Option(
        metavar="tcp://HOST:PORT",
        help="Also be there for clients of `daemon keys`, on PORT and the two after it.",
    ),
]
Osc = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST:]PORT", help="Take OSC, from this machine only unless a HOST is given."
    ),
]
Upstream = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Let another daemon compute: its file of `daemon keys create`."
    ),
]
CacheSize = Annotated[
    str | None, typer.Option(metavar="20G", help="How large the cache of chunks may become.")
]


@app.command()
def start(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in this terminal, or under systemd.")
    ] = False,
    device: Device = None,
    precision: Precision = None,
    keep_alive: KeepAlive = None,
    idle_exit: IdleExit = None,
    listen: Listen = None,
    osc: Osc = None,
    cache_size: CacheSize = None,
    upstream: Upstream = None,
) -> None:
    """Start the daemon, unless one runs."""
    from bridge import lifecycle

    flags = daemon_flags(
        device, precision, keep_alive, idle_exit, listen, osc, cache_size, upstream
    )
    if running := lifecycle.find():
        say(f"a daemon runs already (pid {running.pid})")
        if flags:
            say("note: its flags stay as they are; to change them: audiosr-bridge daemon restart")
        return
    if foreground:
        os.execv(sys.executable, [sys.executable, "-P", "-m", lifecycle.MODULE, *flags])
    _tell(lifecycle.connect_or_start(arguments=flags, module=lifecycle.MODULE))


@app.command()
def stop() -> None:
    """Stop the daemon; its jobs go on when they are submitted again."""
    from bridge import lifecycle

    running = lifecycle.find()
    if running is None:
        say("no daemon runs")
        return
    lifecycle.stop(running, ask=lambda: _ask_to_stop(running))
    say(f"the daemon (pid {running.pid}) has ended")


@app.command()
def restart(
    device: Device = None,
    precision: Precision = None,
    keep_alive: KeepAlive = None,
    idle_exit: IdleExit = None,
    listen: Listen = None,
    osc: Osc = None,
    cache_size: CacheSize = None,
    upstream: Upstream = None,
) -> None:
    """Stop the daemon and start one; with the flags it had, if none are given."""
    from bridge import lifecycle

    flags = daemon_flags(
        device, precision, keep_alive, idle_exit, listen, osc, cache_size, upstream
    )
    running = lifecycle.find()
    if running is not None:
        flags = flags or lifecycle.arguments_of(running)
        lifecycle.stop(running, ask=lambda: _ask_to_stop(running))
    _tell(lifecycle.connect_or_start(arguments=flags, module=lifecycle.MODULE))


@app.command()
def status(json: Json = False) -> None:
    """Show what the daemon does; exit 3 if none runs."""
    from bridge import lifecycle
    from bridge.errors import NoDaemonError

    running = lifecycle.find()
    if running is None and json:
        emit({"running": False})
        raise typer.Exit(EXIT_DAEMON)
    if running is None:
        raise NoDaemonError(NONE_RUNS)
    with _client(running) as client:
        found: dict[str, Any] = {"running": True, "pid": running.pid, **client.status()}
    if json:
        emit(found)
        return
    for name, value in found.items():
        if shown := _shown(name, value):
            write(f"{name.removesuffix('_bytes').removesuffix('_seconds'):18} {shown}")


@app.command()
def logs(
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="And what comes.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As they are written.")] = False,
) -> None:
    """Show the end of the daemon's log."""
    from bridge.runtime_dir import LOG, state_folder

    path = state_folder() / LOG
    if not path.exists() and not follow:
        say(f"there is no log yet at {path}")
        return
    for line in _lines(path, lines, follow):
        write(line if json else readable(line))


@app.command()
def unit(
    device: Device = None,
    precision: Precision = None,
    keep_alive: KeepAlive = None,
    idle_exit: IdleExit = "never",
    listen: Listen = None,
    osc: Osc = None,
    cache_size: CacheSize = None,
    upstream: Upstream = None,
) -> None:
    """Print a systemd user unit that runs this installation's daemon."""
    from importlib.resources import files

    flags = daemon_flags(
        device, precision, keep_alive, idle_exit, listen, osc, cache_size, upstream
    )
    command = [sys.executable, "-P", "-m", "bridge.daemon", *flags]
    line = "ExecStart=" + " ".join(_quoted(one) for one in command)
    text = files("bridge").joinpath("audiosr-bridge.service").read_text("utf-8")
    write(re.sub(r"^ExecStart=.*$", lambda _: line, text, count=1, flags=re.MULTILINE).rstrip("\n"))


def daemon_flags(
    device: str | None = None,
    precision: str | None = None,
    keep_alive: str | None = None,
    idle_exit: str | None = None,
    listen: list[str] | None = None,
    osc: str | None = None,
    cache_size: str | None = None,
    upstream: Path | None = None,
) -> list[str]:
    """What the daemon itself is told: only what was given, checked here where it can be."""
    from bridge.connection import Connection, Endpoints

    if device is not None and not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", device):
        raise UsageError(f"a device is auto, cpu, cuda, cuda:N or mps, got {device!r}")
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(f"a precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
    for endpoint in listen or ():
        Endpoints.listening(endpoint)
    if upstream is not None:
        Connection.read_remote(upstream)
    host, port = (None, None) if osc is None else osc_address(osc)
    given = {
        "--device": device,
        "--precision": precision,
        "--keep-alive": None if keep_alive is None else f"{seconds(keep_alive):g}",
        "--idle-exit": None if idle_exit is None else f"{seconds(idle_exit):g}",
        "--osc": port,
        "--osc-listen": host,
        "--cache-bytes": None if cache_size is None else num_bytes(cache_size),
        "--upstream": None if upstream is None else os.path.abspath(upstream),
    }
    # NAME=VALUE, for a value may begin with a dash
    flags = [f"{name}={value}" for name, value in given.items() if value is not None]
    return flags + [f"--listen={endpoint}" for endpoint in listen or ()]


def osc_address(text: str) -> tuple[str | None, int]:
    """HOST:PORT or PORT; a host means other machines, about which there is something to say."""
    host, _, port = text.strip().rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise UsageError(f"--osc must be a port of 0 to 65535, or HOST:PORT, got {text!r}")
    if host:
        say(
            f"note: OSC is not encrypted, and whoever reaches {host} may turn knobs and cancel"
            " jobs; set AUDIOSR_BRIDGE_OSC_TOKEN to ask for a token"
        )
    return host or None, int(port)


def seconds(text: str) -> float:
    """A duration: 300, 90s, 5m, 2h, 1d; "never" is -1."""
    if text.strip().lower() == "never":
        return NEVER
    return _number(text, _SECONDS, "a duration is like 300, 90s, 5m, 2h or never")


def num_bytes(text: str) -> int:
    """A size: 1000000, 500M, 20G; k, M, G and T are powers of 1024."""
    return int(_number(text, _BYTES, "a size is like 1000000, 500M or 20G"))


def readable(line: str) -> str:
    """A line of the log for people; as it is if it is none."""
    try:
        fields = json_text.loads(line)
        first = [str(fields.pop(name)) for name in ("time", "level", "event")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return line
    trace = fields.pop("traceback", None)
    rest = [
        f"{name}={json_text.dumps(value) if isinstance(value, dict | list) else value}"
        for name, value in fields.items()
        if name not in ("from", "pid")
    ]
    return " ".join([*first, *rest]) + (f"\n{trace.rstrip()}" if isinstance(trace, str) else "")


def _number(text: str, units: dict[str, Any], wanted: str) -> float:
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]?)", text.strip().lower())
    if not found or found[2] not in units:
        raise UsageError(f"{wanted}, got {text!r}")
    return float(found[1]) * float(units[found[2]])


def _client(connection: Connection) -> Client:
    from bridge.client import connect

    return connect(connection, timeout_seconds=ASK_SECONDS, name="command line")


def _ask_to_stop(connection: Connection) -> None:
    with _client(connection) as client:
        client.stop_daemon()


def _tell(connection: Connection) -> None:
    say(f"a daemon runs (pid {connection.pid})")
    if connection.tcp is not None:
        say(f"it listens at {connection.tcp.control}")
    if connection.osc_port is not None:
        say(f"it takes OSC at port {connection.osc_port}")


def _shown(name: str, value: Any) -> str:
    """One line of the status, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{one}: {_shown(one, inner)}" for one, inner in value.items()) or "none"
    if isinstance(value, list):
        return ("." if name == "protocol" else ", ").join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 1e6:.1f} MB"
    if name.endswith("_seconds") and isinstance(value, int | float):
        return "never" if value < 0 else f"{value:g} s"
    return str(value)


def _quoted(text: str) -> str:
    """A word of a systemd command line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", text) else escaped


def _lines(path: Path, count: int, follow: bool) -> Iterator[str]:
    """The last lines, over one rotation; then those that come, until an interruption."""
    file = _opened(path)
    try:
        *whole, part = (file.read() if file else "").split("\n")
        if older := _opened(path.with_name(f"{path.name}.1")):
            with older:
                whole = older.read().split("\n")[:-1] + whole
        yield from deque(whole, maxlen=count)
        while follow:
            time.sleep(FOLLOW_SECONDS)
            rotated = file is None or not _is_at(file, path)  # before the last look at the old one
            *whole, part = (part + (file.read() if file else "")).split("\n")
            yield from whole
            if rotated and (new := _opened(path)):
                if file:
                    file.close()
                file, part = new, ""
    finally:
        if file:
            file.close()


def _opened(path: Path) -> TextIO | None:
    try:
        return open(path, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
