"""Consecutive pedalboard plugins as one stage: latency compensated, the tail given on request.

    sound    |--------|--------|--------|---···     cut into blocks of one size, whatever comes
    plugins       |--------|--------|--------|      give fewer samples at first: their latency
    given         |--------|--------|--------|      so silence is pushed until the rest is out

Blocks of one size, the last filled up with silence, give to the bit what one call with the whole
sound gives; blocks of changing sizes make some plugins begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pedalboard
from numpy.typing import NDArray

from audiosr_core.audio import MAX_CHANNELS, Samples
from plugin_host.errors import PluginError

BLOCK = 8192  # samples: pedalboard's own default
PATIENCE_SECONDS = 30.0  # a plugin that gives less than it got for so long gives no more

_FORGETFUL = (pedalboard.GSMFullRateCompressor, pedalboard.PitchShift)
_LATENT = (
    *_FORGETFUL,
    pedalboard.BrickwallLimiter,
    pedalboard.MP3Compressor,
    pedalboard.Resample,
    pedalboard.ExternalPlugin,
)


class PluginStage:
    """One sound on its way through plugins. A plugin serves one sound at a time.

    A few plugins of pedalboard lose samples between calls; with one of them (`forgets`) the whole
    sound is kept, and everything is given by `flush`.
    """

    def __init__(
        self,
        plugins: Sequence[pedalboard.Plugin],
        sample_rate: int,
        num_channels: int,
        block: int = BLOCK,
    ) -> None:
        self._plugins = list(plugins)
        self._sample_rate, self._num_channels = sample_rate, num_channels
        self._block = max(block, MAX_CHANNELS + 1)  # so that nobody takes samples for channels
        self._whole = any(map(forgets, plugins))
        self._pending = [np.zeros((num_channels, 0), np.float32)]
        self._received = self._given = 0
        for plugin in plugins:
            plugin.reset()

    @property
    def sample_rate_out(self) -> int:
        """Hz."""
        return self._sample_rate

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Take a block, [channels, samples]; give what has settled."""
        self._pending.append(samples.astype(np.float32))  # a copy: the block is the caller's
        self._received += samples.shape[1]
        num_pending = sum(block.shape[1] for block in self._pending)
        if self._whole or num_pending < self._block:
            return self._pending[0][:, :0]
        pending = np.concatenate(self._pending, axis=1)
        ready = num_pending // self._block * self._block
        self._pending = [pending[:, ready:]]
        return self._run(pending[:, :ready])

    def flush(self, tail_samples: int = 0) -> NDArray[np.float32]:
        """Give the rest, and this much of what sounds on after the end; the stage is over.

        Raises:
            PluginError: the plugins keep samples for themselves
        """
        missing = self._received + tail_samples - self._given
        pending = np.concatenate(self._pending, axis=1)
        if self._whole:
            silence = np.zeros((self._num_channels, tail_samples), np.float32)
            pending = np.concatenate([pending, silence], axis=1)
            return run_plugins(self._plugins, pending, self._sample_rate, self._block)
        made = []
        patience = missing + int(PATIENCE_SECONDS * self._sample_rate)
        while missing > 0:
            if patience <= 0:
                raise PluginError(
                    f"{names(self._plugins)} should give {missing} more samples, but"
                    f" {PATIENCE_SECONDS:.0f} s of silence brought none; leave it out"
                )
            made.append(self._run(_filled(pending, self._block))[:, :missing])
            missing -= made[-1].shape[1]
            patience -= self._block
            pending = pending[:, :0]
        return np.concatenate([pending[:, :0], *made], axis=1)

    def _run(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Whole blocks, one call each: pedalboard mixes up latencies of several in one call."""
        made = [
            run_plugins(self._plugins, block, self._sample_rate, self._block, reset=False)
            for block in np.split(samples, samples.shape[1] // self._block, axis=1)
        ]
        out = np.concatenate(made, axis=1)
        self._given += out.shape[1]
        return out


class EachChannel:
    """A plugin with an instance for each channel of the sound; a `Step`.

    So a plugin for mono takes any sound. One that takes nothing but stereo gets its channel
    twice, and its left output is given.

    Args:
        make: gives a new instance, always turned alike
    """

    def __init__(self, make: Callable[[], pedalboard.Plugin]) -> None:
        self._make, self._instances = make, [make()]

    @property
    def name(self) -> str:
        return names(self._instances[:1])

    def open(self, sample_rate: int, num_channels: int) -> EachChannelStage:
        """A stage for one sound.

        Raises:
            PluginError: it takes neither mono nor stereo
        """
        while len(self._instances) < num_channels:
            self._instances.append(self._make())
        return EachChannelStage(self._instances[:num_channels], sample_rate)


class EachChannelStage:
    """One sound on its way through the instances of a plugin, a channel each."""

    def __init__(self, instances: Sequence[pedalboard.Plugin], sample_rate: int) -> None:
        self.sample_rate_out = sample_rate
        self._width = 1 if _takes(instances[0], sample_rate, 1) else 2
        self._stages = [PluginStage([one], sample_rate, self._width) for one in instances]

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Take a block, [channels, samples]; give what has settled."""
        rows = zip(self._stages, samples, strict=True)
        return np.stack([stage.push(np.stack([row] * self._width))[0] for stage, row in rows])

    def flush(self, tail_samples: int = 0) -> NDArray[np.float32]:
        """Give the rest, and this much of what sounds on after the end; the stage is over."""
        return np.stack([stage.flush(tail_samples)[0] for stage in self._stages])


def run_plugins(
    plugins: Sequence[pedalboard.Plugin],
    samples: Samples,
    sample_rate: int,
    buffer_size: int,
    reset: bool = True,
) -> NDArray[np.float32]:
    """What pedalboard makes of [channels, samples].

    Raises:
        PluginError: a plugin cannot do it; pedalboard says why
    """
    num_channels, num_samples = samples.shape
    if not num_samples:
        return samples.astype(np.float32)
    if num_samples <= num_channels:  # pedalboard takes the larger side for time
        samples = _filled(samples, num_channels + 1)
    board = pedalboard.Pedalboard(list(plugins))  # type: ignore[attr-defined]
    interleaved = samples.flags.f_contiguous and not samples.flags.c_contiguous
    given = (
        samples.T if interleaved else samples
    )  # it reads both, and a copy costs more than a gain
    try:
        made: NDArray[np.float32] = board.process(given, sample_rate, buffer_size, reset)
    except (RuntimeError, ValueError) as error:
        raise PluginError(
            f"{names(plugins)} cannot take {num_channels} channels at {sample_rate} Hz: {error}"
            f"{_advice(plugins, sample_rate, num_channels)}"
        ) from error
    return (made.T if interleaved else made)[:, :num_samples]


def forgets(plugin: pedalboard.Plugin) -> bool:
    """Whether it loses samples between two calls of one sound, as a few of pedalboard's do."""
    if isinstance(plugin, pedalboard.Mix):  # delays its branches alike, anew in every call
        return any(isinstance(leaf, _LATENT) for leaf in _leaves(plugin))
    if isinstance(plugin, pedalboard.PluginContainer):
        return any(map(forgets, plugin))
    return isinstance(plugin, _FORGETFUL)


def names(plugins: Iterable[pedalboard.Plugin]) -> str:
    """For messages."""
    return ", ".join(getattr(plugin, "name", type(plugin).__name__) for plugin in plugins)


def _advice(plugins: Sequence[pedalboard.Plugin], sample_rate: int, num_channels: int) -> str:
    """Which of them it is, where several are in a row, and what helps."""
    for plugin in plugins:
        if not _takes(plugin, sample_rate, num_channels):
            which = names([plugin])
            return (
                f" Say each_channel = true for {which} in the chain file, or EachChannel in Python;"
                " or take another plugin."
            )
    return ""


def _takes(plugin: pedalboard.Plugin, sample_rate: int, num_channels: int) -> bool:
    """Whether it takes so many channels."""
    try:
        plugin.process(np.zeros((num_channels, MAX_CHANNELS + 1), np.float32), sample_rate)
    except (RuntimeError, ValueError):
        return False
    return True


def _leaves(plugin: pedalboard.Plugin) -> Iterator[pedalboard.Plugin]:
    if isinstance(plugin, pedalboard.PluginContainer):
        for inner in plugin:
            yield from _leaves(inner)
    else:
        yield plugin


def _filled(samples: Samples, length: int) -> Samples:
    """With silence, up to a length."""
    return np.pad(samples, ((0, 0), (0, length - samples.shape[1])))
