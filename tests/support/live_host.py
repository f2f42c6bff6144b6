"""The plugin for listening in a host that plays by the clock (tests/native/live_host.cpp)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from tests.support.daemon import RunningDaemon
from tests.support.native import SOURCES, build

FRONTS = ("vst3", "clap", "lv2", "lv2_time", "terminate")
CUTOFF = 3  # number of the parameter
FADE_SECONDS = 0.005
AT_ONCE = 1 << 14
LEARNING_SECONDS = 2  # of a given cutoff; one that is followed depends on where the sound began
FIRST_SECONDS = 3600  # the place of the first sample


@dataclass(frozen=True, eq=False)
class Played:
    """What came out, and how it went."""

    sound: Samples  # that went in
    out: Samples
    ahead: NDArray[np.float32]  # seconds, for each block; below zero it is late
    took: NDArray[np.float32]  # likewise, in `process`
    woke_late: NDArray[np.float32]
    num_late: NDArray[np.float32]  # seconds of sound that were dry so far
    seen: dict[str, Any]

    @property
    def latency(self) -> int:
        return int(self.seen["latency"])

    @property
    def dry(self) -> Samples:
        return np.pad(self.sound, ((0, 0), (self.latency, 0)))[:, : self.out.shape[1]]

    @property
    def added(self) -> Samples:
        return np.asarray(self.out - self.dry)

    def late_after(self, seconds: float) -> int:
        """Blocks whose generated band was not there, from that moment on."""
        first = int(seconds * len(self.ahead) / self.seen["played"])
        return int(np.sum(self.ahead[first:] < 0))


def play(
    running: RunningDaemon,
    sound: Samples,
    folder: Path,
    *,
    sample_rate: int = 48_000,
    block: int = 512,
    seconds: float = 10,
    cutoff_hz: float = 0,
    prefix: Sequence[str] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> Played:
    """The sound again and again for so long, as the host hears it.

    Args:
        cutoff_hz: 0 to follow it
        prefix: what the host is started by
        meanwhile: called when it begins to play
    """
    parts = [path.stem for path in SOURCES.glob("*.cpp") if path.stem not in FRONTS]
    program = build("live_host", *sorted(parts), flags=("-O2",))
    there, back, blocks = (folder / name for name in ("in.f32", "out.f32", "blocks.f32"))
    np.ascontiguousarray(sound, np.float32).tofile(there)
    command = [
        *prefix, str(program), f"in={there}", f"out={back}", f"blocks={blocks}",
        f"rate={sample_rate}", f"channels={len(sound)}", f"block={block}", f"seconds={seconds}",
        f"set={CUTOFF}:{cutoff_hz}",
    ]  # fmt: skip
    environment = {**running.environment, "HOME": str(running.folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            assert host.stdout.readline() == "playing\n"
            meanwhile()
            said, _ = host.communicate(timeout=seconds + 60)
        finally:
            host.kill()
    assert host.returncode == 0
    out = np.fromfile(back, np.float32).reshape(len(sound), -1)
    marks = np.fromfile(blocks, np.float32).reshape(-1, 4)
    return Played(looped(sound, block, out.shape[1]), out, *marks.T, json.loads(said))


def looped(sound: Samples, block: int, num_samples: int) -> Samples:
    """As the host plays it: whole blocks, again and again."""
    period = sound.shape[1] // block * block
    return np.tile(sound[:, :period], -(-num_samples // period))[:, :num_samples]


def expected(
    played: Played, sample_rate: int, cutoff_hz: float, first: int = 0, last: int | None = None
) -> Samples:
    """The generated band of these samples of the output, from the engine in this process."""
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    settings = Settings(cutoff=cutoff_hz if cutoff_hz else "follow")
    last = played.out.shape[1] if last is None else last
    sound = played.sound
    begin = max(0, first - played.latency - LEARNING_SECONDS * sample_rate)
    place = FIRST_SECONDS * sample_rate + begin
    stream = Engine().open_live(sample_rate, len(sound), settings, place)
    high = [np.zeros((len(sound), played.latency), np.float32)]
    for at in range(begin, last, AT_ONCE):
        block = sound[:, at : min(at + AT_ONCE, last)]
        high += [made for _, made in stream.push_split(block)]
    return np.concatenate(high, axis=1)[:, first - begin : last - begin]


def warm(running: RunningDaemon, sample_rate: int = 48_000) -> None:
    """Back when the model is loaded for those who listen."""
    quiet = np.full((2, sample_rate), 0.01, np.float32)
    with running.client() as client, client.open(sample_rate, 2, live=True) as stream:
        stream.push(quiet, wait=None)
        stream.flush()


def share_of(added: Samples, high: Samples, audible: float = 1e-4) -> NDArray[np.float64]:
    """How much of the high band was heard, sample by sample; NaN where there is none."""
    strongest = np.argmax(np.abs(high), axis=0)[None]
    x, y = (np.take_along_axis(one, strongest, 0)[0] for one in (high, added))
    share = np.full(len(x), np.nan)
    heard = np.abs(x) > audible
    share[heard] = y[heard].astype(np.float64) / x[heard]
    return share


def steepest(share: NDArray[np.float64]) -> float:
    """The largest change a sample, over the samples in which something is to be heard."""
    known = np.flatnonzero(~np.isnan(share))
    return float(np.max(np.abs(np.diff(share[known])) / np.diff(known), initial=0))
