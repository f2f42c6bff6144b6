"""LV2 on the command line: a file in, a file out.

None of these says that it renders offline, so Auto has to find out by their pace. None compensates
the latency, so the sounds end in silence that is as long. lv2apply calls with one sample at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from audiosr_core.audio import Samples
from tests.hosts import bench as at
from tests.hosts.bench import FREEWHEEL, LV2, NEVER_WAIT, RENDER_MODE, WAIT, Bench, Check
from tests.support.shim import bundles, parameters

NAME = "lilv, lv2apply, lv2proc, lv2file, ffmpeg, ecasound"
PACKAGES = {
    "lv2ls": "lilv-utils", "lv2apply": "lilv-utils", "lv2proc": "lv2proc", "lv2file": "lv2file",
    "ffmpeg": "ffmpeg", "ecasound": "ecasound", "lv2_validate": "lv2-dev and sordi",
}  # fmt: skip

Controls = Mapping[str, float]
Command = Callable[[str, Path, Path, Controls], list[object]]


def missing() -> str:
    lacking = [package for tool, package in PACKAGES.items() if not shutil.which(tool)]
    return f"install {', '.join(sorted(set(lacking)))}" if lacking else ""


def run(bench: Bench) -> Iterator[Check]:
    yield from _described(bench)
    for name in TOOLS:
        yield from _extends(bench, name)
    with bench.without_daemon():
        for name in TOOLS:
            yield from _fails_loudly(bench, name)
    yield from _killed(bench, "lv2apply")


def _described(bench: Bench) -> Iterator[Check]:
    listed = bench.run(["lv2ls"]).stdout.split()
    yield Check("lilv", "LV2", "loads", set(LV2.values()) <= set(listed), "lv2ls lists it")
    for channels, uri in LV2.items():
        said = bench.run(["lv2info", uri])
        ok = said.returncode == 0 and "Has latency:       yes" in said.stdout
        yield Check("lilv", "LV2", _column(channels), ok, "lv2info describes it, with a latency")
    told = bench.run(["lv2_validate", *sorted(bench.lv2.glob("*.ttl"))])
    said = told.stdout + told.stderr
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    valid = "Found 0 errors" in said
    yield Check("lilv", "LV2", "loads", valid, f"lv2_validate: {' / '.join(errors[:3])}")


def _extends(bench: Bench, name: str) -> Iterator[Check]:
    for channels in LV2:
        y, x, said = _through(bench, name, channels)
        where = at.placed(y, at.expected(x))
        detail = said if said else at.how(y, at.late(at.expected(x)))
        column = _column(channels)
        yield Check(name, "LV2", "loads", y.shape == x.shape, f"{column}: {list(y.shape)} samples")
        yield Check(name, "LV2", column, bool(where), f"Auto, which it never tells: {detail}")
        yield Check(name, "LV2", "latency", bool(where), where, where)
    yield Check(name, "LV2", "offline flag", True, "", "no")
    for what, controls in {"Wait": {RENDER_MODE: WAIT}, "freewheel": {FREEWHEEL: 1}}.items():
        y, x, said = _through(bench, name, 2, controls)
        wet = bool(at.placed(y, at.expected(x)))
        detail = f"{what}: {said or at.how(y, at.late(at.expected(x)))}"
        yield Check(name, "LV2", "wet bounce", wet, detail)


def _fails_loudly(bench: Bench, name: str) -> Iterator[Check]:
    y, x, said = _through(bench, name, 2)
    silent = y.shape == x.shape and not y.any()
    detail = said or str(at.shares(y, at.late(x)))
    yield Check(name, "LV2", "daemon killed", silent, f"absent: {detail}")
    y, x, said = _through(bench, name, 2, {RENDER_MODE: NEVER_WAIT})
    dry, detail = bool(at.placed(y, x)), said or at.how(y, at.late(x))
    yield Check(name, "LV2", "daemon killed", dry, f"absent, never wait: dry: {detail}")


def _killed(bench: Bench, name: str) -> Iterator[Check]:
    with bench.killed_in_the_middle():
        y, x, said = _through(bench, name, 2)
    shares = at.shares(y, at.late(x))
    ok = bool(shares["wet"] and shares["silent"] and not shares["other"])
    yield Check(name, "LV2", "daemon killed", ok, f"in the middle: {said or shares}")


def _through(
    bench: Bench, name: str, channels: int, controls: Controls | None = None
) -> tuple[Samples, Samples, str]:
    """What came out, what went in, and what the tool complained of."""
    source, x = bench.sound(channels, silence=at.LATENCY / at.RATE + 0.1)
    out = bench.out()
    plugin = bundles() / "plain" if name in PLAIN else bench.lv2.parent
    command = TOOLS[name](LV2[channels], source, out, controls or {})
    done = bench.run(command, LV2_PATH=f"{plugin}:{bench.specifications}")
    said = (done.stderr or done.stdout).strip()[-200:] if done.returncode else ""
    return at.read(out), x, said


def _column(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"


def _lv2apply(uri: str, source: Path, out: Path, controls: Controls) -> list[object]:
    given = [word for name, value in controls.items() for word in ("-c", name, value)]
    return ["lv2apply", "-i", source, "-o", out, *given, uri]


def _lv2proc(uri: str, source: Path, out: Path, controls: Controls) -> list[object]:
    given = [word for name, value in controls.items() for word in ("-c", f"{name}:{value}")]
    return ["lv2proc", "-i", source, "-o", out, *given, uri]


def _lv2file(uri: str, source: Path, out: Path, controls: Controls) -> list[object]:
    given = [word for name, value in controls.items() for word in ("-p", f"{name}:{value:.1f}")]
    return ["lv2file", "-i", source, "-o", out, *given, uri]


def _ffmpeg(uri: str, source: Path, out: Path, controls: Controls) -> list[object]:
    escaped = uri.replace(":", "\\\\:")
    given = "|".join(f"{name}={value}" for name, value in controls.items())
    graph = f"lv2=p={escaped}" + (f":c={given}" if given else "")
    return ["ffmpeg", "-y", "-v", "error", "-i", source, "-af", graph, "-c:a", "pcm_f32le", out]


def _ecasound(uri: str, source: Path, out: Path, controls: Controls) -> list[object]:
    """It takes all controls, in their order, or zeros."""
    channels = 1 if uri == LV2[1] else 2
    values = {
        one["lv2_symbol"]: 1 if one["lv2_symbol"] == "enabled" else one["initial"]
        for one in parameters().values()
        if not one["output"]
    }
    given = ",".join(f"{value:g}" for value in {**values, FREEWHEEL: 0, **controls}.values())
    return ["ecasound", "-q", f"-f:f32_le,{channels},{at.RATE}", "-i", source, "-o", out,
            f"-elv2:{uri},{given}"]  # fmt: skip


TOOLS: Mapping[str, Command] = {
    "lv2apply": _lv2apply, "lv2proc": _lv2proc, "lv2file": _lv2file, "ffmpeg": _ffmpeg,
    "ecasound": _ecasound,
}  # fmt: skip
PLAIN = (
    "lv2proc",
)  # refuse a plugin with a port for the song's time, and need the other description
