"""What every host is tried with: a home of its own with the plugin in it, a daemon, and sounds.

The daemon's engine is quick and known to the bit (`tests.support.bridge_engines`): what a host
writes is compared with `expected` of what it read, and no tolerance is needed.

    bench.sound(2)  →  in.wav  →  the host with the plugin in it  →  out.wav  →  bench.read
                                      │ ipc
                                  bench.daemon
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from audiosr_core.audio import Samples
from tests.support.bridge_engines import echo_of
from tests.support.daemon import ENGINES, RunningDaemon
from tests.support.shim import bundles

COLUMNS = (
    "loads", "offline flag", "latency", "mono", "stereo", "state", "wet bounce", "daemon killed",
)  # fmt: skip

RATE = 48_000
LATENCY = round(5.12 * RATE)
LV2 = {1: "urn:audiosr-bridge:bridge#mono", 2: "urn:audiosr-bridge:bridge#stereo"}
LV2_NAMES = {1: "AudioSR Bridge Mono", 2: "AudioSR Bridge Stereo"}
CLAP = {1: "org.audiosr-bridge.bridge.mono", 2: "org.audiosr-bridge.bridge.stereo"}
NAME = "AudioSR Bridge"
RENDER_MODE_NAME = "Render mode"
RENDER_MODE, WAIT, NEVER_WAIT = "render_mode", 1, 2  # symbol and values of the parameter
FREEWHEEL = "freewheel"  # symbol of the port by which LV2 hosts say that they render offline
PLUGIN_TIMEOUT_SECONDS = 10  # until the plugin gives up a daemon that says nothing


@dataclass(frozen=True)
class Check:
    """One thing that was tried in one host."""

    host: str
    format: str  # VST3, LV2, CLAP
    what: str  # of COLUMNS
    ok: bool
    detail: str = ""  # what exactly, and what came
    cell: str = "yes"  # in the matrix, where it is ok


class Bench:
    """Owns a temporary folder, and the daemon in it. Nothing of it is the real user's."""

    def __init__(self, quick: bool = False, within: Path | None = None) -> None:
        self.quick, self._within = quick, within
        self._sounds = 0

    def __enter__(self) -> Bench:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="asb", dir=self._within)
            )
            self.folder = Path(folder)
            self.home = self.folder / "home"
            self._install(bundles())
            self._count = self.folder / "chunks"
            self.daemon = RunningDaemon(
                self.folder, engine=f"{ENGINES}:counted", BRIDGE_TEST_COUNT=self._count
            )
            stack.callback(self.kill)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def vst3(self) -> Path:
        return self.home / ".vst3" / "AudioSRBridge.vst3"

    @property
    def vst3_binary(self) -> Path:
        return next(self.vst3.glob("Contents/*/*.so"))

    @property
    def lv2(self) -> Path:
        return self.home / ".lv2" / "audiosr-bridge.lv2"

    @property
    def clap(self) -> Path:
        return self.home / ".clap" / "AudioSRBridge.clap"

    @property
    def specifications(self) -> Path:
        """What LV2 itself is, without the plugins of this machine: some hosts load every one."""
        return self.folder / "lv2"

    @property
    def environment(self) -> dict[str, str]:
        """Of a host: the bench's home, and where the daemon is."""
        ours = {name: text for name, text in self.daemon.environment.items() if "BRIDGE_" in name}
        return {
            **os.environ,
            **ours,
            "AUDIOSR_BRIDGE_PLUGIN_TIMEOUT": str(PLUGIN_TIMEOUT_SECONDS),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_DATA_HOME": str(self.home / ".local" / "share"),
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
            "LV2_PATH": f"{self.home}/.lv2:{self.specifications}",
            "VST3_PATH": str(self.home / ".vst3"),
            "CLAP_PATH": str(self.home / ".clap"),
            "LC_ALL": "C.UTF-8",
        }

    # The daemon

    def start(self, chunk_takes_seconds: float = 0.0) -> None:
        """A daemon; first the end of the one that runs."""
        self.kill()
        self.daemon.environment |= {
            "BRIDGE_TEST_STEPS": "1",
            "BRIDGE_TEST_STEP_SECONDS": str(chunk_takes_seconds),
        }
        self.daemon.start()

    def kill(self) -> None:
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            self.daemon.kill()

    @contextlib.contextmanager
    def killed_in_the_middle(self, after_chunks: int = 8) -> Iterator[None]:
        """A slow daemon, killed once it has begun so many chunks; afterwards a quick one runs."""
        self.start(chunk_takes_seconds=0.05)
        enough = self.chunks() + after_chunks
        over = threading.Event()

        def kill() -> None:
            while self.chunks() < enough and not over.wait(0.005):
                pass
            self.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            yield
        finally:
            over.set()
            killer.join()
            self.start()

    @contextlib.contextmanager
    def without_daemon(self) -> Iterator[None]:
        self.kill()
        try:
            yield
        finally:
            self.start()

    def chunks(self) -> int:
        """How many the daemon has begun, since the bench is there."""
        return self._count.read_bytes().count(b"\n") if self._count.exists() else 0

    def jobs(self) -> int:
        """How many the daemons have had: one for all that was played without a jump."""
        return self.daemon.log().count('"state": "queued"')

    # Sounds and programs

    def sound(
        self, channels: int, seconds: float = 2.0, silence: float = 0.0, rate: int = RATE
    ) -> tuple[Path, Samples]:
        """A WAV of float32 noise such as never was, so that no cache knows it, and its samples.

        Args:
            silence: seconds of it after the noise, for hosts that give no tail
        """
        self._sounds += 1
        noise = np.random.default_rng([os.getpid(), self._sounds])
        x = np.zeros((channels, round((seconds + silence) * rate)), np.float32)
        heard = round(seconds * rate)
        x[:, :heard] = 0.1 * noise.standard_normal((channels, heard))
        path = self.folder / f"in{self._sounds}.wav"
        soundfile.write(path, x.T, rate, subtype="FLOAT")
        return path, x

    def out(self) -> Path:
        """Where a host may write; nothing is there."""
        path = self.folder / "out.wav"
        path.unlink(missing_ok=True)
        return path

    def run(
        self,
        command: Sequence[object],
        timeout: float = 60,
        text: str = "",
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """A program in the bench's home.

        Args:
            text: its standard input
        """
        return subprocess.run(
            [str(word) for word in command], env={**self.environment, **environment},
            cwd=self.folder, input=text, capture_output=True, text=True, errors="replace",
            timeout=timeout,
        )  # fmt: skip

    def _install(self, built: Path) -> None:
        self.specifications.mkdir()
        for manifest in Path("/usr/lib/lv2").glob("*/manifest.ttl"):
            if "lv2:Specification" in manifest.read_text(errors="replace"):
                bundle = manifest.parent
                shutil.copytree(bundle, self.specifications / bundle.name)
        for place in (self.vst3, self.lv2, self.clap):
            place.parent.mkdir(parents=True)
            if (built / place.name).is_dir():
                shutil.copytree(built / place.name, place)
            else:
                shutil.copy2(built / place.name, place)


def read(path: Path) -> Samples:
    """[channels, samples] of what a host wrote; none where it wrote nothing."""
    if not path.exists():
        return np.zeros((0, 0), np.float32)
    return np.ascontiguousarray(soundfile.read(path, dtype="float32", always_2d=True)[0].T)


def expected(x: Samples, seed: int = 0) -> Samples:
    """What the plugin makes of a sound with the bench's daemon, to the bit."""
    return echo_of(x, seed)


def late(x: Samples, samples: int = LATENCY) -> Samples:
    """As it leaves a host that does not compensate the latency: shifted, and cut at its end."""
    shifted = np.zeros_like(x)
    shifted[:, samples:] = x[:, : max(0, x.shape[1] - samples)]
    return shifted


def same(y: Samples, wanted: Samples) -> bool:
    return y.shape == wanted.shape and bool(np.array_equal(y, wanted))


def placed(y: Samples, wanted: Samples) -> str:
    """Whether it is this to the bit, and where; "" if it is not."""
    if same(y, wanted):
        return "compensated"
    return "not compensated" if same(y, late(wanted)) else ""


def how(y: Samples, wanted: Samples) -> str:
    """What is wrong with it, for people."""
    if y.shape != wanted.shape:
        return f"{list(y.shape)} samples, wanted {list(wanted.shape)}"
    wrong = np.flatnonzero((y != wanted).any(axis=0))
    if not len(wrong):
        return "equal to the bit"
    largest = np.abs(y - wanted).max()
    return f"{len(wrong)} samples differ, from {wrong[0]} to {wrong[-1]}, by up to {largest:.3g}"


def shares(y: Samples, x: Samples, seed: int = 0) -> Mapping[str, int]:
    """How many samples are extended, silent, or anything else: dry ones above all."""
    if y.shape != x.shape:
        return {"wet": 0, "silent": 0, "other": x.shape[1]}
    heard = (x != 0).any(axis=0)
    wet = (y == expected(x, seed)).all(axis=0)
    silent = (y == 0).all(axis=0) & ~wet
    return {
        "wet": int((wet & heard).sum()),
        "silent": int((silent & heard).sum()),
        "other": int((~wet & ~silent).sum()),
    }


def wait_until(so: Callable[[], bool], seconds: float) -> bool:
    """Whether it became so in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if so():
            return True
        time.sleep(0.02)
    return so()
