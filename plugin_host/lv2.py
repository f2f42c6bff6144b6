"""LV2 plugins as steps of a chain, hosted by minihost (the extra `lv2`).

    sound    |--------|--------|-----          cut into blocks of one size, whatever comes
    plugin      |--------|--------|--------|   late by its latency, known after its first block
    given    |--------|--------|-----          so that much is dropped, and as much silence pushed

A mono plugin has one instance for each channel of the sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from plugin_host import probe
from plugin_host.errors import PluginError
from plugin_host.parameter import Parameter

if TYPE_CHECKING:
    from minihost import Plugin

BLOCK = 512  # samples
MAX_LATENCY_SECONDS = 60
SYMBOL = "sym:"  # minihost's prefix of an LV2 port

Value = float | bool | str


class Lv2Plugin:
    """An LV2 effect.

    Args:
        uri: its name in LV2, as `lv2ls` lists it
        parameters: by the symbols of its ports, in the units of the plugin

    Raises:
        PluginError: it is missing, crashes, hangs, or has no such parameter or value
    """

    def __init__(
        self,
        uri: str,
        parameters: Mapping[str, Value] | None = None,
        *,
        timeout_seconds: float = probe.SECONDS,
    ) -> None:
        _import()
        self.uri = uri
        probe.prove(
            "plugin_host.lv2", {"uri": uri}, uri,
            library="minihost", timeout_seconds=timeout_seconds,
        )  # fmt: skip
        plugin = _load(uri)
        self._positions = {
            name: _position(plugin, uri, name, value) for name, value in (parameters or {}).items()
        }
        self._parameters = dict(parameters or {})
        self._num_inputs, self._num_outputs = plugin.num_input_channels, plugin.num_output_channels

    @property
    def name(self) -> str:
        """The URI."""
        return self.uri

    @property
    def parameters(self) -> dict[str, Value]:
        """Those that were given."""
        return dict(self._parameters)

    def all_parameters(self) -> list[Parameter]:
        """What `parameters` may hold, in the order of the plugin."""
        plugin = _load(self.uri)
        return [_described(plugin, index) for index in range(plugin.num_params)]

    def __repr__(self) -> str:
        turned = "".join(f" {name}={value!r}" for name, value in self._parameters.items())
        return f"<Lv2Plugin {self.uri}{turned}>"

    def open(self, sample_rate: int, num_channels: int) -> Lv2Stage:
        """A stage for one sound.

        Raises:
            PluginError: the plugin is for another number of channels
        """
        return Lv2Stage(
            [(self._instance(sample_rate), lane) for lane in self._lanes(num_channels)],
            self.uri,
            sample_rate,
            num_channels,
        )

    def _instance(self, sample_rate: int) -> Plugin:
        plugin = _load(self.uri, sample_rate)
        for index, position in self._positions.values():
            plugin.set_param(index, position)
        return plugin

    def _lanes(self, num_channels: int) -> list[list[int]]:
        """For each instance, which channel of the sound goes to which of its inputs."""
        if self._num_inputs >= self._num_outputs:
            if self._num_outputs == 1:
                return [[channel] for channel in range(num_channels)]
            if num_channels == 1:
                return [[0] * self._num_outputs]
            if num_channels == self._num_outputs:
                return [list(range(num_channels))]
        raise PluginError(
            f"{self.uri} takes {self._num_inputs} channels and gives {self._num_outputs}, but the"
            f" sound has {num_channels}; choose a plugin for so many, or a mono one"
        )


class Lv2Stage:
    """One sound on its way through one LV2 plugin."""

    def __init__(
        self,
        instances: Sequence[tuple[Plugin, list[int]]],
        name: str,
        sample_rate: int,
        num_channels: int,
    ) -> None:
        self._instances, self._name, self._sample_rate = instances, name, sample_rate
        self._waiting = np.zeros((num_channels, 0), np.float32)
        self._late: int | None = None  # samples still to be dropped
        self._received = self._given = 0

    @property
    def sample_rate_out(self) -> int:
        """Hz."""
        return self._sample_rate

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Take a block, [channels, samples]; give what has settled."""
        self._received += samples.shape[1]
        waiting = np.concatenate([self._waiting, samples], axis=1, dtype=np.float32)
        ready = waiting.shape[1] // BLOCK * BLOCK
        self._waiting = waiting[:, ready:].copy()
        made = [self._run(waiting[:, at : at + BLOCK]) for at in range(0, ready, BLOCK)]
        return np.concatenate([waiting[:, :0], *made], axis=1)

    def flush(self, tail_samples: int = 0) -> NDArray[np.float32]:
        """Give the rest, and this much of what sounds on after the end; the stage is over."""
        missing = self._received + tail_samples - self._given
        block = np.pad(self._waiting, ((0, 0), (0, BLOCK - self._waiting.shape[1])))
        made = [block[:, :0]]
        while missing > 0:
            made.append(self._run(block)[:, :missing])
            missing -= made[-1].shape[1]
            block = np.zeros_like(block)
        return np.concatenate(made, axis=1)

    def _run(self, block: Samples) -> NDArray[np.float32]:
        out = np.empty_like(block)
        for plugin, lane in self._instances:
            given = np.zeros((plugin.num_input_channels, BLOCK), np.float32)
            given[: len(lane)] = block[lane]
            made = np.empty((plugin.num_output_channels, BLOCK), np.float32)
            plugin.process(given, made)
            out[lane] = made[: len(set(lane))]
        if self._late is None:
            self._late = self._latency()
        dropped = min(self._late, BLOCK)
        self._late -= dropped
        self._given += BLOCK - dropped
        return out[:, dropped:]

    def _latency(self) -> int:
        """Samples; many plugins tell it with their first block only."""
        latency = max(plugin.latency_samples for plugin, _ in self._instances)
        if not 0 <= latency <= MAX_LATENCY_SECONDS * self._sample_rate:
            raise PluginError(
                f"{self._name} must be late by at most {MAX_LATENCY_SECONDS} s, but says"
                f" {latency} samples; leave it out"
            )
        return latency


def _import() -> Any:
    try:
        import minihost
    except ImportError as error:
        raise PluginError(
            "an LV2 plugin needs minihost, which is not installed; run:"
            " pip install 'audiosr-bridge[lv2]'"
        ) from error
    return minihost


def _load(uri: str, sample_rate: int = 48_000) -> Plugin:
    minihost = _import()
    descriptor = f'<PLUGIN name="" format="LV2" file={quoteattr(uri)} uniqueId="0" uid="0"/>'
    try:
        plugin: Plugin = minihost.Plugin.from_descriptor(
            descriptor, sample_rate=sample_rate, max_block_size=BLOCK
        )
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise PluginError(
            f"{uri!r} must be the URI of an LV2 plugin, as lv2ls lists them: {reason}"
        ) from error
    plugin.non_realtime = True
    return plugin


def _position(plugin: Plugin, uri: str, name: str, value: Value) -> tuple[int, float]:
    """The parameter's index, and where `value` lies on minihost's scale from 0 to 1."""
    parameters = [plugin.get_param_info(index) for index in range(plugin.num_params)]
    symbols = [one["id"].removeprefix(SYMBOL) for one in parameters]
    if name not in symbols:
        raise PluginError(f"{uri} has no parameter {name!r}; there are: {', '.join(symbols)}")
    index = symbols.index(name)
    low, high = _ends(plugin, index)
    places = _words(plugin, index)
    if places:
        if parameters[index]["is_boolean"] and value in (0, 1):
            return index, float(value)
        if value not in places:
            raise PluginError(f"{uri} takes {name} as one of {', '.join(places)}, got {value!r}")
        return index, places[str(value)]
    if isinstance(value, bool | str) or not float(low) <= value <= float(high):
        raise PluginError(f"{uri} takes {name} from {low} to {high}, got {value!r}")
    return index, plugin.param_from_text(index, f"{value:.10g}")


def _described(plugin: Plugin, index: int) -> Parameter:
    info = plugin.get_param_info(index)
    name, value = info["id"].removeprefix(SYMBOL), info["current_value_str"]
    words = tuple(_words(plugin, index))
    if words:
        return Parameter(name, value, unit=info["label"], words=words)
    low, high = _ends(plugin, index)
    return Parameter(name, float(value), float(low), float(high), info["label"])


def _ends(plugin: Plugin, index: int) -> tuple[str, str]:
    return plugin.param_to_text(index, 0.0), plugin.param_to_text(index, 1.0)


def _words(plugin: Plugin, index: int) -> dict[str, float]:
    """The values of a parameter that has no numbers, and where each lies; else nothing."""
    steps = plugin.get_param_info(index)["num_steps"]
    if steps < 2 or _is_number(plugin.param_to_text(index, 0.0)):
        return {}
    places = [step / (steps - 1) for step in range(steps)]
    return {plugin.param_to_text(index, place): place for place in places}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _try(uri: str) -> None:
    """Load it and let it run once."""
    plugin = _load(uri)
    silence = np.zeros((plugin.num_input_channels, BLOCK), np.float32)
    plugin.process(silence, np.empty((plugin.num_output_channels, BLOCK), np.float32))


if __name__ == "__main__":
    probe.answer(_try)
