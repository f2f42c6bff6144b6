"""minihost of PyPI: VST3 and LV2, block by block, in real time or not as its user says."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from audiosr_core.audio import Samples
from tests.hosts import bench as at
from tests.hosts.bench import RATE, Bench, Check

NAME = "minihost (PyPI)"
BLOCK = 512


def missing() -> str:
    return "" if importlib.util.find_spec("minihost") else "install minihost"


def run(bench: Bench) -> Iterator[Check]:
    vst3 = str(bench.vst3)
    for format, by_channels in (("VST3", {1: vst3, 2: vst3}), ("LV2", at.LV2)):
        for channels, path in by_channels.items():
            yield from _extends(bench, format, path, channels)
        yield from _keeps_state(bench, format, by_channels[2])
        yield from _fails_loudly(bench, format, by_channels[2])


def _extends(bench: Bench, format: str, path: str, channels: int) -> Iterator[Check]:
    column = "mono" if channels == 1 else "stereo"
    plugin = _open(path, channels)
    yield Check(NAME, format, "loads", True, f"in {column}")
    for offline in (True, False):
        x = bench.sound(channels)[1]
        plugin.reset()
        plugin.non_realtime = offline
        y = _through(plugin, x)
        said = "offline" if offline else "as fast as it can, saying that it is real time"
        for what in (column, *(["wet bounce", "offline flag"] if offline else [])):
            detail = f"{said}: {at.how(y, at.expected(x))}"
            yield Check(NAME, format, what, at.same(y, at.expected(x)), detail)
    latency = plugin.latency_samples
    yield Check(NAME, format, "latency", latency == at.LATENCY, f"{latency} samples", "told")


def _keeps_state(bench: Bench, format: str, path: str) -> Iterator[Check]:
    x = bench.sound(2, 0.1)[1]
    plugin, again = _open(path, 2), _open(path, 2)
    mix = plugin.find_param("Mix")
    plugin.set_param(mix, 0.25)
    for one in (plugin, again):  # LV2 has its values with its first block
        _through(one, x)
    again.set_state(plugin.get_state())
    came = again.get_param(mix)
    yield Check(NAME, format, "state", abs(came - 0.25) < 1e-6, f"mix 0.25 came back as {came}")


def _fails_loudly(bench: Bench, format: str, path: str) -> Iterator[Check]:
    plugin = _open(path, 2)
    plugin.non_realtime = True
    x = bench.sound(2)[1]
    with bench.killed_in_the_middle():
        shares = at.shares(_through(plugin, x), x)
    loud = bool(shares["wet"] and shares["silent"] and not shares["other"])
    yield Check(NAME, format, "daemon killed", loud, f"in the middle: {shares}")
    plugin.reset()
    x = bench.sound(2)[1]
    with bench.without_daemon():
        y = _through(plugin, x)
    yield Check(NAME, format, "daemon killed", not y.any(), f"absent: {at.shares(y, x)}")


def _through(plugin: Any, x: Samples) -> Samples:
    """The whole sound, followed for as long as the latency and shifted by it."""
    num_blocks = -(-(x.shape[1] + at.LATENCY) // BLOCK)
    padded = np.zeros((len(x), num_blocks * BLOCK), np.float32)
    padded[:, : x.shape[1]] = x
    y = np.empty_like(padded)
    for i in range(0, padded.shape[1], BLOCK):
        block = np.empty((len(x), BLOCK), np.float32)
        plugin.process(np.ascontiguousarray(padded[:, i : i + BLOCK]), block)
        y[:, i : i + BLOCK] = block
    return y[:, at.LATENCY : at.LATENCY + x.shape[1]]


def _open(path: str, channels: int) -> Any:
    from minihost import Plugin

    if path.startswith("urn:"):
        descriptor = f'<PLUGIN name="" format="LV2" file="{path}" uniqueId="0" uid="0"/>'
        return Plugin.from_descriptor(descriptor, sample_rate=RATE, max_block_size=BLOCK)
    return Plugin(path, RATE, BLOCK, channels, channels)
