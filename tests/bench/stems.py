"""What songs of stems cost, and what they sum to.

    python -m tests.bench.stems            songs a minute: processes, Ray; start-up apart
    python -m tests.bench.stems --memory   the most memory that one song takes, by its length
    python -m tests.bench.stems --sharing  the table of docs/stems.md: this way, and others

Everything with the model lite and one thread a process, on sounds made here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from scipy import ndimage, signal

from audiosr_core.decision import Decision
from audiosr_core.engine import Engine
from audiosr_core.settings import Settings
from plugin_host.place import Where
from plugin_host.stems.album import read_album
from plugin_host.stems.batch import SongResult, run_batch
from plugin_host.stems.local import LocalCrew
from plugin_host.stems.ray_crew import RayCrew
from plugin_host.stems.seat import Crew, extending
from plugin_host.stems.song import extend_song
from tests.bench.extend import make_sound, peak_mb
from tests.support import album
from tests.support.stem_work import opened

ROOT = Path(__file__).parents[2]
ENGINE = Engine("cpu")
HERE = Where(device="cpu", daemon=False)
SECONDS = 4.0  # of the sounds that are shared out
FRAME, HOP = 1024, 256  # of the STFT in which masks are made
SMOOTH = (1, 9, 5)  # channels, bins and frames over which a power is a mean

Samples = album.Samples


class Watch:
    """An audience with a clock; a failure is no measurement."""

    def __init__(self) -> None:
        self.began, self.start = time.monotonic(), 0.0

    def progress(self, name: str, fraction: float, whole: float) -> None:
        """The first news from a process ends the start-up."""
        if fraction and not self.start:
            self.start = time.monotonic() - self.began

    def ended(self, song: SongResult) -> None:
        assert song.state == "done", song.error

    def seconds(self) -> float:
        return time.monotonic() - self.began


def batches(songs: int, stems: int, seconds: float, copy: bool) -> None:
    """One album again and again, by one process and by two, here and on Ray."""
    opener = opened if copy else extending
    crews: dict[str, Callable[[], Crew]] = {
        "local, 1 job": lambda: LocalCrew(1, HERE, opener),
        "local, 2 jobs": lambda: LocalCrew(2, HERE, opener),
        "ray, 1 job": lambda: RayCrew(1, HERE, None, opener),
        "ray, 2 jobs": lambda: RayCrew(2, HERE, None, opener),
    }
    print(f"{songs} songs, {stems} stereo stems, {seconds:g} s each\n")
    print("| engine | start, s | songs, s | all, s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AUDIOSR_BRIDGE_CACHE_DIR"] = str(Path(folder) / "cache")
        top = Path(folder) / "album"
        for number in range(songs):
            made = album.noise_stems(stems, seconds, seed=number)
            album.write_song(top / f"song {number}", made)
        (top / "album.txt").touch()
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come
        for seed, (name, crew) in enumerate(crews.items()):  # no chunk of one serves another
            out, watch = Path(folder) / name, Watch()
            found = read_album(top, out, recursive=True)
            run_batch(found, out, Settings(seed=seed), crew, watch)
            whole = watch.seconds()
            print(f"| {name} | {watch.start:.1f} | {whole - watch.start:.1f} | {whole:.1f} |")


def memory(minutes: Sequence[float]) -> None:
    """Each length in a process of its own."""
    print("| 3 stereo stems, minutes | peak memory, MB | took, s |\n|---|---|---|")
    for length in minutes:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.stems", "--one", str(length)],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True,
            stdout=subprocess.PIPE, text=True, timeout=7200,
        )  # fmt: skip
        found = json.loads(done.stdout)
        print(f"| {length:g} | {found['peak_mb']:.0f} | {found['seconds']:.0f} |")


def one(minutes: float) -> None:
    """Extend one song; its peak of memory as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        top, out = Path(folder) / "song", Path(folder) / "out"
        top.mkdir()
        out.mkdir()
        for number in range(3):
            make_sound(top / f"{number}.wav", 44_100, round(60 * minutes))
        (song,) = read_album(top, out).songs
        report = extend_song(song, Settings(), cache=Path(folder) / "cache")
    print(json.dumps({"peak_mb": peak_mb(), "seconds": report.seconds}))


def sharing() -> None:
    """Levels in dB; of sums re the band of the mix, of stems re their bands when alone."""
    print("| stems | alone, shared noise: sum | alone, own noise: sum | mix's band, masked: solo"
          " | **this way: sum** | **solo** |\n|---|---|---|---|---|---|")  # fmt: skip
    for name, stems in songs():
        shared, own, masked, whole, solo = ways(stems)
        print(f"| {name} | {signed(shared, 2)} dB | {signed(own, 2)} dB | {span(masked)} dB"
              f" | {signed(whole, 2)} dB | {span(solo)} dB |")  # fmt: skip


def songs() -> Iterator[tuple[str, list[Samples]]]:
    for count in (2, 4, 8):
        rng = np.random.default_rng(0)
        size = (1, round(SECONDS * album.RATE))
        yield (
            f"{count} of equal noise",
            [album.lowpassed(rng.normal(0, 0.05, size)) for _ in range(count)],
        )
    yield "6 of noise bursts, each softer", album.noise_stems(6, SECONDS, channels=1)
    if album.has_fluidsynth():
        for song in sorted(album.played_album().iterdir()):
            files = sorted(song.iterdir())
            yield f"6 played from MIDI, {song.name}", [soundfile.read(file)[0].T for file in files]


def ways(stems: Sequence[Samples]) -> tuple[float, float, list[float], float, list[float]]:
    """Of one song: the sums alone, solo by masks; sum and solo by the product."""
    mix = sum(stems)
    decision = ENGINE.analyse(
        [mix], lambda start, stop: mix[:, start:stop], album.RATE, len(mix), Settings()
    )
    target = band(mix, 0, decision)
    shared = [band(stem, 0, decision) for stem in stems]
    own = [band(stem, 1 + i, decision) for i, stem in enumerate(stems)]
    masked = [level_db(a, b) for a, b in zip(masks(target, own), own, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        top, out = Path(folder) / "song", Path(folder) / "out"
        album.write_song(top, list(stems))
        out.mkdir()
        (song,) = read_album(top, out).songs
        report = extend_song(song, Settings(), cache=Path(folder) / "cache")
    return (
        level_db(sum(shared), target),
        level_db(sum(own), target),
        masked,
        report.sum_high_db or 0.0,
        [stem.solo_db or 0.0 for stem in report.stems],
    )


def band(x: Samples, seed: int, decision: Decision) -> Samples:
    """The new band of a sound by itself."""
    stream = ENGINE.open(album.RATE, len(x), Settings(seed=seed), decision)
    pieces = [*stream.push_split(x), *stream.flush_split()]
    return np.concatenate([high for _, high in pieces], axis=1)


def masks(whole: Samples, parts: Sequence[Samples]) -> list[Samples]:
    """A band cut into parts that are as loud to each other as these, cell by cell of an STFT."""
    stft = signal.ShortTimeFFT(np.hanning(FRAME), HOP, album.RATE)
    levels = [ndimage.uniform_filter(stft.spectrogram(one), SMOOTH) ** 0.5 for one in parts]
    total = np.maximum(sum(levels), 1e-12)
    cells = stft.stft(whole)
    return [stft.istft(cells * one / total, k1=whole.shape[1]) for one in levels]


def level_db(x: Samples, reference: Samples) -> float:
    return float(10 * np.log10(np.sum(x**2) / np.sum(reference**2)))


def span(values: Sequence[float]) -> str:
    """From the least to the most; one figure where they are alike."""
    low, high = signed(min(values), 1), signed(max(values), 1)
    return low if low == high else f"{low} to {high}"


def signed(value: float, digits: int) -> str:
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--songs", type=int, default=6)
    parser.add_argument("--stems", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--copy", action="store_true", help="copy instead of extending")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--sharing", action="store_true")
    parser.add_argument("--one", type=float, metavar="MINUTES", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one)
    elif options.memory:
        memory(options.minutes)
    elif options.sharing:
        sharing()
    else:
        batches(options.songs, options.stems, options.seconds, options.copy)


if __name__ == "__main__":
    main()
