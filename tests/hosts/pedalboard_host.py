"""Spotify's pedalboard: VST3, always offline and says so, compensates unless it streams."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.hosts import bench as at
from tests.hosts.bench import NEVER_WAIT, RATE, RENDER_MODE, Bench, Check

NAME = "pedalboard"


def missing() -> str:
    return "" if importlib.util.find_spec("pedalboard") else "install pedalboard"


def run(bench: Bench) -> Iterator[Check]:
    yield from _loads(bench)
    plugin = _load(bench)
    for channels in (1, 2):
        yield from _extends(bench, plugin, channels)
    yield from _any_blocks(bench, plugin)
    yield from _streams(bench)
    yield from _other_widths(bench, plugin)
    yield from _state(bench)
    yield from _killed(bench)


def _loads(bench: Bench) -> Iterator[Check]:
    """A host that looks at a plugin plays silence and noise to it: nothing may come of that."""
    started = bench.folder / "started"
    config = bench.folder / "config" / "plugin.json"
    config.parent.mkdir(mode=0o700, exist_ok=True)
    config.write_text(json.dumps({"start": ["/usr/bin/touch", str(started)], "cache_bytes": 0}))
    config.chmod(0o600)
    before = bench.chunks()
    with bench.without_daemon():
        plugin = _load(bench)
        del plugin
        at.wait_until(started.exists, 0.5)
    config.unlink()
    plugin = _load(bench)
    yield _check("loads", plugin.is_effect, f"{plugin.name}, an effect")
    idle = not started.exists() and bench.chunks() == before
    yield _check("loads", idle, "loading starts no daemon and asks it for nothing")
    latency = plugin.reported_latency_samples
    yield _check("latency", latency > 0, f"told: {latency} samples")
    yield _check("offline flag", True, "always")


def _extends(bench: Bench, plugin: Any, channels: int) -> Iterator[Check]:
    column = "mono" if channels == 1 else "stereo"
    for num_samples in (RATE, 10_000, 100):
        x = bench.sound(channels, num_samples / RATE)[1]
        before = bench.chunks()
        y = plugin.process(x, RATE, reset=True)
        wet = at.same(y, at.expected(x))
        asked = bench.chunks() > before
        yield _check(column, wet and asked, f"{num_samples} samples: {at.how(y, at.expected(x))}")
    yield _check("latency", wet, "after a reset, nothing moves", cell="compensated")


def _any_blocks(bench: Bench, plugin: Any) -> Iterator[Check]:
    for size in (1, 64, 777, 8192, 100_000):
        x = bench.sound(2, 0.3 if size == 1 else 1.0)[1]
        y = plugin.process(x, RATE, buffer_size=size)
        detail = f"blocks of {size}: {at.how(y, at.expected(x))}"
        yield _check("wet bounce", at.same(y, at.expected(x)), detail)


def _streams(bench: Bench) -> Iterator[Check]:
    """With reset=False it leaves out some of the latency's silence, and gives no tail."""
    plugin = _load(bench)
    x = bench.sound(2, 1.0, silence=at.LATENCY / RATE)[1]
    blocks = range(0, x.shape[1], 4800)
    y = [plugin.process(x[:, i : i + 4800], RATE, reset=False) for i in blocks]
    whole = np.concatenate(y, axis=1)
    wanted = at.late(at.expected(x))[:, -whole.shape[1] :]
    complete = whole.shape[1] >= RATE and at.same(whole, wanted)
    yield _check("wet bounce", complete, f"in pieces: {at.how(whole, wanted)}")


def _other_widths(bench: Bench, plugin: Any) -> Iterator[Check]:
    try:
        plugin.process(bench.sound(3, 0.1)[1], RATE)
        refused = ""
    except ValueError as error:
        refused = str(error)
    yield _check("loads", bool(refused), f"3 channels are refused: {refused[:80]}")


def _state(bench: Bench) -> Iterator[Check]:
    plugin, again = _load(bench), _load(bench)
    plugin.mix = plugin.parameters["mix"].min_value
    x = bench.sound(2, 1.0)[1]
    y = plugin.process(x, RATE)
    yield _check("state", at.same(y, x), f"mix 0 is dry: {at.how(y, x)}")
    again.raw_state = plugin.raw_state
    yield _check("state", again.mix == plugin.mix, "raw_state carries the parameters")
    for path in _presets(bench):
        again.load_preset(str(path))
        y = again.process(x, RATE)
        yield _check("state", y.shape == x.shape, f"{path.name} is taken")


def _presets(bench: Bench) -> list[Path]:
    return sorted(bench.vst3.parent.glob("presets/**/*.vstpreset"))[:3]


def _killed(bench: Bench) -> Iterator[Check]:
    plugin = _load(bench)
    x = bench.sound(2, 3.0)[1]
    with bench.killed_in_the_middle():
        shares = at.shares(plugin.process(x, RATE), x)
    loud = shares["wet"] and shares["silent"] and not shares["other"]
    yield _check("daemon killed", bool(loud), f"in the middle: {shares}")
    y = plugin.process(x, RATE)
    detail = f"back again: {at.how(y, at.expected(x))}"
    yield _check("daemon killed", at.same(y, at.expected(x)), detail)
    with bench.without_daemon():
        x = bench.sound(2)[1]
        y = plugin.process(x, RATE)
        yield _check("daemon killed", not y.any(), f"absent: {at.shares(y, x)}")
        setattr(plugin, RENDER_MODE, plugin.parameters[RENDER_MODE].valid_values[NEVER_WAIT])
        y = plugin.process(x, RATE)
        yield _check("daemon killed", at.same(y, x), f"absent, never wait: dry: {at.how(y, x)}")


def _load(bench: Bench) -> Any:
    from pedalboard import load_plugin

    return load_plugin(str(bench.vst3), plugin_name=at.NAME)


def _check(what: str, ok: bool, detail: str, cell: str = "yes") -> Check:
    return Check(NAME, "VST3", what, ok, detail, cell)
