"""For tests of the external editor: sounds, engines that take no time, and sudden death."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiosr_core.audio import Samples
from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision

TOUCHES = frozenset(
    {"open", "os.rename", "os.link", "os.remove", "os.utime", "os.chmod", "os.chown", "os.truncate"}
)


def sound(
    path: Path,
    num_samples: int = 4_000,
    num_channels: int = 2,
    rate: int = 48_000,
    *,
    seed: int = 0,
    container: str = "WAV",
    subtype: str = "PCM_16",
) -> Path:
    x = np.random.default_rng(seed).uniform(-0.5, 0.5, (num_samples, num_channels))
    soundfile.write(path, x, rate, format=container, subtype=subtype)
    return path


@dataclass
class _Engine:
    """Adds a little of the sound to itself where it extends."""

    extends: bool
    unless: str = ""  # extends if the rate is this

    name = "test"

    def on_file(self, *_: Any) -> AbstractContextManager[_Engine]:
        return nullcontext(self)

    def analyse(
        self, blocks: Any, read: Any, rate: int, channels: int, settings: Any, on_step: Any
    ) -> Decision:
        for _ in blocks:
            on_step()
        extends = self.extends or settings.rate == self.unless
        cutoff = Cutoff(rate / 4, 1.0, False, "")
        note = "" if extends else "nothing is missing"
        return Decision(rate, cutoff, extends, False, (False,) * channels, 0.0, note)

    def open(
        self, rate: int, channels: int, settings: Any, decision: Any, region: Any, on_step: Any
    ) -> _Stream:
        return _Stream((settings.seed + 1) / 64)

    def model_sha256(self, settings: Any) -> str:
        return "0" * 64


@dataclass
class _Stream:
    gain: float

    def push_split(self, samples: Samples) -> Iterator[tuple[Samples, Samples]]:
        yield samples, samples * self.gain

    def flush_split(self) -> Iterator[tuple[Samples, Samples]]:
        return iter(())


def adding() -> Any:
    return _Engine(extends=True)


def nothing(unless: str = "") -> Any:
    return _Engine(extends=False, unless=unless)


def die_at(moment: int) -> None:
    """SIGKILL this process at the moment-th time that it touches a file."""
    left = moment

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in TOUCHES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
