"""`audiosr-bridge jobs` and `cancel`: what the daemon works on, and how to stop it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiosr_core.errors import UsageError
from plugin_host.cli.commands.daemon import NONE_RUNS
from plugin_host.cli.terminal import emit, say, write

if TYPE_CHECKING:
    from bridge.client import Client

SHOWN_DIGITS = 12  # of a job's id
MIN_DIGITS = 4  # that name a job

Json = Annotated[bool, typer.Option("--json", help="One JSON object a job.")]
ConnectionFile = Annotated[
    Path | None,
    typer.Option("--connection", metavar="FILE", help="Of a daemon on another machine."),
]


def jobs(
    json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with every change, until interrupted.")
    ] = False,
    connection: ConnectionFile = None,
) -> None:
    """List the daemon's jobs."""
    with _connected(connection) as client:
        found = client.jobs()
        for job in found:
            _show(job, json)
        if not found and not json and not watch:
            say("there are no jobs")
        if watch:
            for message in client.events(["job."]):
                _show(message.meta, json)


def cancel(
    job: Annotated[
        str, typer.Argument(metavar="JOB|all", help="The first digits of a job's name, or all.")
    ],
    json: Json = False,
    connection: ConnectionFile = None,
) -> None:
    """Cancel a job of the daemon, or all of them."""
    from bridge.errors import JobError
    from bridge.jobs import ENDED

    with _connected(connection) as client:
        known = [one for one in client.jobs() if one.get("state") not in ENDED]
        if job != "all":
            known = [_named(job, known)]
        for one in known:
            try:
                state = client.cancel(one["job"])
            except JobError:
                if job != "all":
                    raise
                continue  # it has just ended by itself
            if json:
                emit({"job": one["job"], "state": state})
            else:
                say(f"cancelled {one['job'][:SHOWN_DIGITS]}")
        if not known and not json:
            say("there are no jobs to cancel")


def _connected(connection: Path | None) -> Client:
    from bridge.client import CONNECTION_VARIABLE, connect
    from bridge.errors import NoDaemonError
    from bridge.lifecycle import find

    named = connection or os.environ.get(CONNECTION_VARIABLE)
    if not named and find() is None:
        raise NoDaemonError(NONE_RUNS)
    return connect(connection, name="audiosr-bridge jobs")


def _named(text: str, known: list[dict[str, Any]]) -> dict[str, Any]:
    """The one job whose id begins so."""
    if len(text) < MIN_DIGITS:
        raise UsageError(f"a job is named by at least {MIN_DIGITS} digits, got {text!r}")
    found = [one for one in known if str(one["job"]).startswith(text)]
    if len(found) != 1:
        what = "no job that can be cancelled begins" if not found else f"{len(found)} jobs begin"
        raise UsageError(f"{what} with {text!r}; see `audiosr-bridge jobs`")
    return found[0]


def _show(job: Mapping[str, Any], json: bool) -> None:
    if json:
        emit(dict(job))
        return
    fraction, eta, length = (job.get(one) for one in ("fraction", "eta_seconds", "seconds"))
    error = job.get("error") or ()
    rest = [
        str(job.get("model") or ""),
        "" if length is None else f"{length:.1f} s of sound",
        f"{_clock(eta)} left" if eta is not None and job.get("state") == "running" else "",
        str(error[-1]) if error and job.get("state") == "failed" else "",
    ]
    write(
        f"{str(job['job'])[:SHOWN_DIGITS]}  {job.get('state', ''):11}"
        f" {'' if fraction is None else f'{fraction:4.0%}':5}"
        f" {', '.join(filter(None, rest))}".rstrip()
    )


def _clock(seconds: float) -> str:
    """As minutes and seconds, or hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
