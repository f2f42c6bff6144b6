"""Our own small host (tests/native/minihost.cpp): VST3, LV2 and CLAP, for what no other one does.

It compensates nothing, tells offline or not as it is asked to, and runs under valgrind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

from audiosr_core.audio import Samples
from tests.hosts import bench as at
from tests.hosts.bench import RATE, Bench, Check
from tests.support.shim import FORMATS, MiniHost, Rendered, parameters

NAME = "minihost (own)"
VALGRIND = ("valgrind", "-q", "--error-exitcode=9", "--errors-for-leak-kinds=definite",
            "--leak-check=full")  # fmt: skip
SHOWN = {"vst3": "VST3", "lv2": "LV2", "clap": "CLAP"}


def missing() -> str:
    lacking = [tool for tool in ("cmake", "g++") if not shutil.which(tool)]
    return f"install {' and '.join(lacking)}" if lacking else ""


def run(bench: Bench) -> Iterator[Check]:
    hosts = [MiniHost(kind, environment=bench.environment) for kind in FORMATS]
    for host in hosts:
        yield from _loads(host)
        yield from _extends(bench, host)
        yield from _keeps_state(bench, host)
        yield from _killed(bench, host)
        if not bench.quick:
            yield from _under_valgrind(bench, host)
            yield from _in_real_time(bench, host)
    with bench.without_daemon():
        for host in hosts:
            yield from _alone(bench, host)


def _loads(host: MiniHost) -> Iterator[Check]:
    seen = json.loads(host.run("cycle", times=100).stdout)
    idle = seen == {"files": 0, "threads": 1}
    yield _check(host, "loads", idle, f"made and destroyed 100 times, what is left: {seen}")
    for command in ("misuse", "texts"):
        done = host.run(command)
        yield _check(host, "loads", not done.returncode, f"{command}: {done.stderr.strip()[-200:]}")


def _extends(bench: Bench, host: MiniHost) -> Iterator[Check]:
    for channels, column in ((1, "mono"), (2, "stereo")):
        for blocks in ("9000,1,64",) if bench.quick else ("512", "1", "777", "9000,1,64"):
            rendered, x = _rendered(bench, host, channels, offline=1, blocks=blocks)
            y, wanted = rendered.samples, at.late(at.expected(x))
            for what in (column, "wet bounce", "offline flag"):
                detail = f"offline, blocks of {blocks}: {at.how(y, wanted)}"
                yield _check(host, what, at.same(y, wanted), detail)
            told = rendered.seen["latency"]
            yield _check(host, "latency", told == at.LATENCY, f"{told} samples", "told")
        rendered, x = _rendered(bench, host, channels, offline=0)
        y, wanted = rendered.samples, at.late(at.expected(x))
        detail = f"says real time, goes as fast as it can: {at.how(y, wanted)}"
        yield _check(host, column, at.same(y, wanted), detail)


def _keeps_state(bench: Bench, host: MiniHost) -> Iterator[Check]:
    """In LV2 it is the host that keeps the controls, so only the text is looked at there."""
    kept, again, garbage = (bench.folder / name for name in ("kept", "again", "garbage"))
    mix = parameters()["mix"]["id"]
    x = bench.sound(2, silence=at.LATENCY / RATE)[1]
    host.render(x, bench.folder, f"set={mix}:0", offline=1, state_out=kept)
    if host.kind != "lv2":
        y = host.render(x, bench.folder, offline=1, state_in=kept).samples
        detail = f"mix 0 is kept: {at.how(y, at.late(x))}"
        yield _check(host, "state", at.same(y, at.late(x)), detail)
    host.run("load", state_in=kept, state_out=again)
    same = again.exists() and again.read_bytes() == kept.read_bytes()
    yield _check(host, "state", same, "the same text comes back")
    garbage.write_bytes(b"\x00{garbage" * 9)
    refused = host.run("load", state_in=garbage).returncode == 3
    yield _check(host, "state", refused, "garbage is refused")


def _killed(bench: Bench, host: MiniHost) -> Iterator[Check]:
    with bench.killed_in_the_middle():
        rendered, x = _rendered(bench, host, 2, offline=1)
    shares, failed = at.shares(rendered.samples, at.late(x)), rendered.seen["chunks_failed"]
    loud = bool(shares["wet"] and shares["silent"] and not shares["other"] and failed)
    yield _check(host, "daemon killed", loud, f"in the middle: {shares}, {failed:g} chunks failed")


def _alone(bench: Bench, host: MiniHost) -> Iterator[Check]:
    rendered, x = _rendered(bench, host, 2, offline=1)
    failed, state = rendered.seen["chunks_failed"], rendered.seen["state"]
    silent = bool(not rendered.samples.any() and failed)
    yield _check(host, "daemon killed", silent, f"absent: {failed:g} chunks failed: {state}")
    never = f"set={parameters()[at.RENDER_MODE]['id']}:{at.NEVER_WAIT}"
    rendered, x = _rendered(bench, host, 2, never, offline=1)
    dry = at.same(rendered.samples, at.late(x))
    detail = f"absent, never wait: dry: {at.how(rendered.samples, at.late(x))}"
    yield _check(host, "daemon killed", dry, detail)


def _under_valgrind(bench: Bench, host: MiniHost) -> Iterator[Check]:
    if not shutil.which("valgrind"):
        return
    slow = MiniHost(host.kind, environment=bench.environment, wrapper=VALGRIND)
    x = bench.sound(2, 0.5, silence=0.1)[1]
    slow.render(x, bench.folder, offline=1, unload=0)  # fails where valgrind finds anything
    done = slow.run("misuse", unload=0)
    yield _check(host, "loads", not done.returncode, f"valgrind: {done.stderr.strip()[-300:]}")


def _in_real_time(bench: Bench, host: MiniHost) -> Iterator[Check]:
    rendered, x = _rendered(bench, host, 2, offline=0, pace=1)
    wet = at.same(rendered.samples, at.late(at.expected(x)))
    detail = f"real time: {at.how(rendered.samples, at.late(at.expected(x)))}"
    yield _check(host, "wet bounce", wet, detail)


def _rendered(
    bench: Bench, host: MiniHost, channels: int, *lines: str, **options: object
) -> tuple[Rendered, Samples]:
    x = bench.sound(channels, silence=at.LATENCY / RATE)[1]
    return host.render(x, bench.folder, *lines, **options), x


def _check(host: MiniHost, what: str, ok: bool, detail: str, cell: str = "yes") -> Check:
    return Check(NAME, SHOWN[host.kind], what, ok, detail, cell)
