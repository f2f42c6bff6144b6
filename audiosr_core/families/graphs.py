"""CUDA graphs: a network's kernels recorded once per shape, then replayed with one launch.

One U-Net call is some 1300 kernels of a few microseconds each, so at one window a GPU waits for
the CPU most of the time. Shapes are few (windows are all alike), so each is recorded once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # calls before the recording, in which libraries choose their kernels
MAX_SHAPES = 8  # beyond it calls run unrecorded: each recording holds memory of its own

Network = Callable[..., Tensor]


class Recorded:
    """A network of tensors to a tensor, replayed; for CUDA tensors and inference only.

    Calls take turns: a recording has one place for its inputs and one for its output.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._recordings: dict[tuple[object, ...], _Recording] = {}
        self._turn = threading.Lock()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """As the network; the result is the caller's own."""
        key = tuple((tuple(x.shape), x.dtype, x.device) for x in inputs)
        with self._turn:
            if key not in self._recordings:
                if len(self._recordings) >= MAX_SHAPES:
                    return self._network(*inputs)
                self._recordings[key] = _Recording(self._network, inputs)
            return self._recordings[key].replay(inputs)

    def forget(self) -> None:
        """Give back the memory of all recordings; what is asked for again is recorded again."""
        with self._turn:
            self._recordings.clear()


class _Recording:
    def __init__(self, network: Network, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(x.clone() for x in inputs)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                network(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = network(*self._inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for place, x in zip(self._inputs, inputs, strict=True):
            place.copy_(x)
        self._graph.replay()
        return self._output.clone()
