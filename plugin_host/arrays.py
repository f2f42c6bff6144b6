"""`process(array, sample_rate, reset=...)` as pedalboard has it, over stages.

reset=True    the array is a whole sound: as long out as in, on its samples
reset=False   it is the next block of a sound: what has settled; `flush()` gives the rest

An array comes back in the layout in which it came.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples, check_format
from audiosr_core.errors import AudioError
from plugin_host.errors import ChainError
from plugin_host.stage import Stage

BUFFER_SIZE = 8192  # pedalboard's default

Array = NDArray[Any]
Layout = Literal["channels_first", "channels_last"]


@dataclass(frozen=True)
class Form:
    """How an array lies: one channel, channels first or channels last."""

    dimensions: int
    channels_last: bool = False

    @classmethod
    def of(cls, array: Array, layout: Layout | None) -> Form:
        """Of a whole sound: the smaller side is the channels, unless `layout` says it.

        Raises:
            AudioError: nobody can say
        """
        if array.ndim == 1:
            return cls(1)
        if array.ndim != 2:
            raise AudioError(
                f"an array must be [samples], [channels, samples] or [samples, channels],"
                f" got {list(array.shape)}"
            )
        if layout not in (None, "channels_first", "channels_last"):
            raise ChainError(f"layout must be 'channels_first' or 'channels_last', got {layout!r}")
        rows, columns = array.shape
        if layout is None and rows == columns > 1:
            raise AudioError(
                f"[{rows}, {columns}] can be read both ways;"
                " say layout='channels_first' or 'channels_last'"
            )
        if layout is None:
            return cls(2, 0 < columns < rows or rows == 0)
        return cls(2, layout == "channels_last")

    def planar(self, array: Array) -> Samples:
        """[channels, samples] of an array that lies so."""
        if array.ndim != self.dimensions:
            raise AudioError(
                f"the blocks of a sound must have {self.dimensions} dimensions like its first,"
                f" got {list(array.shape)}"
            )
        if array.ndim == 1:
            return array[None]
        return array.T if self.channels_last else array

    def back(self, samples: Samples) -> Array:
        """An array that lies so."""
        if self.dimensions == 1:
            return samples.reshape(-1)
        return samples.T if self.channels_last else samples


@dataclass(frozen=True)
class _Running:
    """A sound on its way."""

    form: Form
    sample_rate: int
    num_channels: int
    stage: Stage


class ArrayProcessor(ABC):
    """What takes arrays as a pedalboard plugin does."""

    sample_rate_out: int | None = None
    """Hz, of what the last call gave."""

    _running: _Running | None = None

    @abstractmethod
    def whole(self, samples: Samples, sample_rate: int, buffer_size: int) -> tuple[Samples, int]:
        """A whole sound, [channels, samples], through all there is; and its rate in Hz."""

    @abstractmethod
    def stage(self, sample_rate: int, num_channels: int, buffer_size: int) -> Stage:
        """For one sound that comes in blocks."""

    def process(
        self,
        input_array: Array,
        sample_rate: float,
        buffer_size: int = BUFFER_SIZE,
        reset: bool = True,
        *,
        layout: Layout | None = None,
    ) -> Array:
        """A whole sound, or with `reset=False` the next block of one.

        Args:
            input_array: floating point, [samples], [channels, samples] or [samples, channels]
            sample_rate: Hz, a whole number
            buffer_size: samples that plugins see at once
            reset: begin anew, and take the array for all there is
            layout: "channels_first" or "channels_last" where the shape can be read both ways;
                the blocks of a sound lie as its first one did
        """
        array = _floating(input_array)
        rate = int(sample_rate)
        if rate != sample_rate or buffer_size < 1:
            raise ChainError(
                "sample_rate and buffer_size must be whole numbers above 0,"
                f" got {sample_rate} and {buffer_size}"
            )
        if not reset:
            return self._next(array, rate, buffer_size, layout)
        self._running = None
        form = Form.of(array, layout)
        samples = form.planar(array)
        check_format(rate, len(samples))
        made, self.sample_rate_out = self.whole(samples, rate, buffer_size)
        return form.back(made)

    __call__ = process

    def flush(self, tail_seconds: float = 0.0) -> Array:
        """The rest of a sound that came in blocks, and so much of what sounds on after its end.

        All that `process(..., reset=False)` gave and this, joined, is as long as the sound.
        """
        running = self._running
        if running is None:
            raise ChainError(
                "there is no sound to flush; give its blocks to process(..., reset=False) first"
            )
        self._running = None
        tail = round(tail_seconds * running.stage.sample_rate_out)
        return running.form.back(running.stage.flush(tail))

    def reset(self) -> None:
        """Forget the sound that was under way."""
        self._running = None

    def _next(self, array: Array, rate: int, buffer_size: int, layout: Layout | None) -> Array:
        running = self._running
        if running is None:
            form = Form.of(array, layout)
            num_channels = len(form.planar(array))
            check_format(rate, num_channels)
            stage = self.stage(rate, num_channels, buffer_size)
            running = self._running = _Running(form, rate, num_channels, stage)
            self.sample_rate_out = stage.sample_rate_out
        samples = running.form.planar(array)
        if (rate, len(samples)) != (running.sample_rate, running.num_channels):
            raise ChainError(
                f"this sound has {running.num_channels} channels at {running.sample_rate} Hz, got"
                f" {len(samples)} at {rate} Hz; flush() or reset() before another one"
            )
        try:
            return running.form.back(running.stage.push(samples))
        except BaseException:
            self._running = None
            raise


def _floating(input_array: Any) -> Array:
    array = np.asarray(input_array)
    if array.dtype not in (np.float32, np.float64):
        raise AudioError(f"samples must be float32 or float64, got {array.dtype}")
    return array
