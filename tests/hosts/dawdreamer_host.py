"""DawDreamer: VST3 by its path, LV2 by its URI; offline, and says so; tells the latency."""

from __future__ import annotations

import contextlib
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
    vst3 = str(bench.vst3)
    for format, by_channels in (("VST3", {1: vst3, 2: vst3}), ("LV2", at.LV2)):
        for channels, path in by_channels.items():
            yield from _extends(bench, format, path, channels)
        yield from _keeps_state(bench, format, by_channels[2])
        yield from _fails_loudly(bench, format, by_channels[2])


def _extends(bench: Bench, format: str, path: str, channels: int) -> Iterator[Check]:
    x = bench.sound(channels)[1]
    before = bench.chunks()
    engine, plugin = _engine(path, x)
    y = _render(engine, x)
    wet = at.same(y, at.expected(x)) and bench.chunks() > before
    column = "mono" if channels == 1 else "stereo"
    yield Check(NAME, format, "loads", True, f"in {column}")
    for what in (column, "wet bounce", "offline flag"):
        yield Check(NAME, format, what, wet, at.how(y, at.expected(x)))
    latency = plugin.get_latency_samples()
    yield Check(NAME, format, "latency", latency == at.LATENCY, f"{latency} samples", "told")


def _keeps_state(bench: Bench, format: str, path: str) -> Iterator[Check]:
    kept = bench.folder / "kept"
    x = bench.sound(2, 0.1)[1]
    (one, plugin), (other, again) = _engine(path, x), _engine(path, x)
    described = plugin.get_parameters_description()
    mix = next(parameter["index"] for parameter in described if parameter["name"] == "Mix")
    plugin.set_parameter(mix, 0.25)
    for engine in (one, other):
        engine.render(0.1)
    plugin.save_state(str(kept))
    with contextlib.suppress(RuntimeError):  # it has loaded, and then misses an editor
        again.load_state(str(kept))
    came = again.get_parameter(mix)
    yield Check(NAME, format, "state", abs(came - 0.25) < 1e-6, f"mix 0.25 came back as {came}")


def _fails_loudly(bench: Bench, format: str, path: str) -> Iterator[Check]:
    x = bench.sound(2)[1]
    engine, _plugin = _engine(path, x)
    with bench.killed_in_the_middle():
        shares = at.shares(_render(engine, x), x)
    loud = bool(shares["wet"] and shares["silent"] and not shares["other"])
    yield Check(NAME, format, "daemon killed", loud, f"in the middle: {shares}")
    x = bench.sound(2)[1]
    engine, _plugin = _engine(path, x)
    with bench.without_daemon():
        y = _render(engine, x)
    yield Check(NAME, format, "daemon killed", not y.any(), f"absent: {at.shares(y, x)}")


def _render(engine: Any, x: Samples) -> Samples:
    """What comes out, followed for as long as the latency and shifted by it."""
    engine.render((x.shape[1] + at.LATENCY + BLOCK) / RATE)
    y: Samples = engine.get_audio()[:, at.LATENCY : at.LATENCY + x.shape[1]]
    return y


def _engine(path: str, x: Samples) -> tuple[Any, Any]:
    """Lives as long as its plugin is asked for anything."""
    import dawdreamer

    engine = dawdreamer.RenderEngine(RATE, BLOCK)
    source = engine.make_playback_processor("source", x)
    plugin = engine.make_plugin_processor("plugin", path)
    plugin.set_bus(len(x), len(x))
    engine.load_graph([(source, []), (plugin, ["source"])])
    return engine, plugin
