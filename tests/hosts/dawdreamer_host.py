"""DawDreamer: VST3 by its path, LV2 by its URI; offline, and says so; tells the latency."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from audiosr_core.audio import Samples
from tests.hosts import bench as at
from tests.hosts.bench import RATE, Bench, Check

NAME = "DawDreamer"
BLOCK = 512


def missing() -> str:
    return "" if importlib.util.find_spec("dawdreamer") else "install dawdreamer"


def run(bench: Bench) -> Iterator[Check]:
    for format, path in (("VST3", str(bench.vst3)), ("LV2", at.LV2[2])):
        yield from _extends(bench, format, path)
        yield from _keeps_state(bench, format, path)
        yield from _fails_loudly(bench, format, path)


def _extends(bench: Bench, format: str, path: str) -> Iterator[Check]:
    x = bench.sound(2)[1]
    before = bench.chunks()
    y, plugin = _render(path, x)
    latency = plugin.get_latency_samples()
    yield Check(NAME, format, "loads", True, plugin.get_name())
    yield Check(NAME, format, "latency", latency == at.LATENCY, f"{latency} samples", "told")
    wet = at.same(y, at.expected(x)) and bench.chunks() > before
    for what in ("wet bounce", "stereo", "offline flag"):
        yield Check(NAME, format, what, wet, at.how(y, at.expected(x)))


def _keeps_state(bench: Bench, format: str, path: str) -> Iterator[Check]:
    kept = bench.folder / "state"
    plugin = _engine(path, bench.sound(2, 0.1)[1])[1]
    index = next(
        one["index"] for one in plugin.get_parameters_description() if one["name"] == "Mix"
    )
    plugin.set_parameter(index, 0.25)
    plugin.save_state(str(kept))
    again = _engine(path, bench.sound(2, 0.1)[1])[1]
    again.load_state(str(kept))
    mix = again.get_parameter(index)
    yield Check(NAME, format, "state", abs(mix - 0.25) < 1e-6, f"mix 0.25 came back as {mix}")


def _fails_loudly(bench: Bench, format: str, path: str) -> Iterator[Check]:
    x = bench.sound(2)[1]
    with bench.killed_in_the_middle():
        shares = at.shares(_render(path, x)[0], x)
    loud = bool(shares["wet"] and shares["silent"] and not shares["other"])
    yield Check(NAME, format, "daemon killed", loud, f"in the middle: {shares}")
    x = bench.sound(2)[1]
    with bench.without_daemon():
        y = _render(path, x)[0]
        shares = at.shares(y, x)
    yield Check(NAME, format, "daemon killed", not y.any(), f"absent: {shares}")


def _render(path: str, x: Samples) -> tuple[Samples, Any]:
    """What comes out, followed for as long as the latency and shifted by it."""
    engine, plugin = _engine(path, x)
    engine.render((x.shape[1] + at.LATENCY + BLOCK) / RATE)
    y = engine.get_audio()[:, at.LATENCY : at.LATENCY + x.shape[1]]
    return y, plugin


def _engine(path: str, x: Samples) -> tuple[Any, Any]:
    import dawdreamer

    engine = dawdreamer.RenderEngine(RATE, BLOCK)
    source = engine.make_playback_processor("source", x)
    plugin = engine.make_plugin_processor("plugin", path)
    engine.load_graph([(source, []), (plugin, ["source"])])
    return engine, plugin
