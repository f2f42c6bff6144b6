"""A chain: pedalboard plugins, super-resolution and other steps, in one list.

    Chain([plugin, plugin, SuperResolution(), plugin])
           └──── one Pedalboard ───┘    │          │
           groups()  [plugin, plugin]   it      [plugin]      each on the sound in turn

With plugins only it gives what `pedalboard.Pedalboard` gives, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from typing import Any, Self, overload

import numpy as np
import pedalboard

from audiosr_core.audio import Samples
from plugin_host.arrays import BUFFER_SIZE, ArrayProcessor
from plugin_host.errors import ChainError
from plugin_host.plugin_stage import PluginStage, run_plugins
from plugin_host.stage import Stage, Step
from plugin_host.super_resolution import SuperResolution

Element = pedalboard.Plugin | SuperResolution | Step
Group = list[pedalboard.Plugin] | SuperResolution | Step


class Chain(ArrayProcessor, MutableSequence[Element]):
    """Steps one after the other; a list of them, and a plugin itself.

    A plugin serves one sound at a time, so do not put one into two chains that run at once.
    """

    name = "Chain"

    def __init__(self, steps: Iterable[Element] = ()) -> None:
        self._steps = [_checked(step) for step in steps]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what its steps hold; they open it again."""
        for step in self._laid_open():
            if isinstance(step, SuperResolution):
                step.close()

    @overload
    def __getitem__(self, index: int) -> Element: ...
    @overload
    def __getitem__(self, index: slice) -> Chain: ...
    def __getitem__(self, index: int | slice) -> Element | Chain:
        """A step; or a chain of some of them, which are the same objects."""
        return Chain(self._steps[index]) if isinstance(index, slice) else self._steps[index]

    @overload
    def __setitem__(self, index: int, step: Element) -> None: ...
    @overload
    def __setitem__(self, index: slice, step: Iterable[Element]) -> None: ...
    def __setitem__(self, index: int | slice, step: Any) -> None:
        if isinstance(index, slice):
            self._steps[index] = [_checked(one) for one in step]
        else:
            self._steps[index] = _checked(step)

    def __delitem__(self, index: int | slice) -> None:
        del self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def insert(self, index: int, step: Element) -> None:
        self._steps.insert(index, _checked(step))

    def __repr__(self) -> str:
        count = len(self)
        return f"<Chain with {count} step{'' if count == 1 else 's'}: {self._steps}>"

    def groups(self) -> list[Group]:
        """What runs as one: consecutive plugins, and every other step; inner chains laid open.

        Raises:
            ChainError: a step is there twice, and would be given two sounds at once
        """
        groups: list[Group] = []
        seen: set[int] = set()
        for step in self._laid_open():
            if id(step) in seen:
                raise ChainError(f"{step!r} is twice in the chain; make another one like it")
            seen.add(id(step))
            if not isinstance(step, pedalboard.Plugin):
                groups.append(step)
            elif groups and isinstance(groups[-1], list):
                groups[-1].append(step)
            else:
                groups.append([step])
        return groups

    def open(
        self, sample_rate: int, num_channels: int, buffer_size: int = BUFFER_SIZE
    ) -> ChainStage:
        """A stage for one sound that comes in blocks; nothing of it is measured beforehand."""
        stages: list[Stage] = []
        rate = sample_rate
        for group in self.groups():
            if isinstance(group, list):
                stages.append(PluginStage(group, rate, num_channels, buffer_size))
            else:
                stages.append(group.open(rate, num_channels))
            rate = stages[-1].sample_rate_out
        return ChainStage(stages or [PluginStage([], rate, num_channels, buffer_size)])

    def stage(self, sample_rate: int, num_channels: int, buffer_size: int) -> ChainStage:
        """As `open`."""
        return self.open(sample_rate, num_channels, buffer_size)

    def whole(self, samples: Samples, sample_rate: int, buffer_size: int) -> tuple[Samples, int]:
        """A whole sound through all steps, each of which gets all of it at once."""
        rate = sample_rate
        for group in self.groups() or [[]]:
            if isinstance(group, list):
                samples = run_plugins(group, samples, rate, buffer_size)
            elif isinstance(group, SuperResolution):
                samples, rate = group.whole(samples, rate, buffer_size)
            else:
                stage = group.open(rate, len(samples))
                samples = np.concatenate([stage.push(samples), stage.flush()], axis=1)
                rate = stage.sample_rate_out
        return samples, rate

    def reset(self) -> None:
        """Forget the sound that was under way, in all steps."""
        super().reset()
        for step in self._laid_open():
            if isinstance(step, pedalboard.Plugin | SuperResolution):
                step.reset()

    def _laid_open(self, around: tuple[Chain, ...] = ()) -> list[Element]:
        if any(one is self for one in around):
            raise ChainError("a chain must not hold itself; take it out")
        steps: list[Element] = []
        for step in self._steps:
            steps += step._laid_open((*around, self)) if isinstance(step, Chain) else [step]
        return steps


class ChainStage:
    """Stages one after the other: a stage itself."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    @property
    def sample_rate_out(self) -> int:
        """Hz."""
        return self._stages[-1].sample_rate_out

    def push(self, samples: Samples) -> Samples:
        """Take a block, [channels, samples]; give what has settled."""
        for stage in self._stages:
            samples = stage.push(samples)
        return samples

    def flush(self, tail_samples: int = 0) -> Samples:
        """Give the rest and a tail, in samples of the output; the stage is over."""
        first = self._stages[0]
        tail = tail_samples * first.sample_rate_out // self.sample_rate_out
        samples = first.flush(tail)  # the later ones sound on while they get it
        for stage in self._stages[1:]:
            samples = np.concatenate([stage.push(samples), stage.flush()], axis=1)
        return samples


def _checked(step: Any) -> Element:
    if isinstance(step, pedalboard.Plugin):
        if not step.is_effect:
            raise ChainError(f"{step!r} is an instrument; a chain holds effects only")
        return step
    if isinstance(step, SuperResolution | Step) and not isinstance(step, type):
        return step
    raise ChainError(
        "a chain holds pedalboard plugins, SuperResolution and steps with a name and open(),"
        f" got {step!r:.80}"
    )
