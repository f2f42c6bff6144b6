"""Albums to extend: songs of stems, played by fluidsynth from MIDI or made of tones and noise.

folder/Song 1/Drums.wav  Bass.wav  Piano.wav …     24 bits, nothing above the cutoff
       Song 2/…
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy import signal

SOUND_FONTS = [
    Path("/usr/share/sounds/sf2") / name
    for name in ("TimGM6mb.sf2", "default-GM.sf2", "FluidR3_GM.sf2")
]
PARTS = {  # name: program of General MIDI, the notes it plays; None for the drum kit
    "Drums": (None, (36, 42, 38, 42)),
    "Bass": (33, (28, 28, 31, 33)),
    "Piano": (0, (60, 64, 67, 72)),
    "Strings": (48, (67, 71, 74, 76)),
    "Guitar": (25, (52, 59, 64, 56)),
    "Lead": (81, (79, 76, 83, 81)),
}
TICKS = 480  # a beat
BEAT_SECONDS = 0.5
DRUM_CHANNEL = 9
RATE = 44_100
CUTOFF_HZ = 8_000.0

Samples = NDArray[np.float64]


def sound_font() -> Path | None:
    return next((one for one in SOUND_FONTS if one.exists()), None)


def has_fluidsynth() -> bool:
    return bool(shutil.which("fluidsynth") and sound_font())


needs_fluidsynth = pytest.mark.skipif(
    not has_fluidsynth(), reason="fluidsynth and a sound font are not installed (apt)"
)


@functools.cache
def played_album(num_songs: int = 3, num_stems: int = 6, seconds: float = 3.0) -> Path:
    """A folder to read from; played once in a process, and left to the system's clean-up."""
    folder = Path(tempfile.mkdtemp(prefix="album-"))
    for number in range(num_songs):
        song = folder / f"Song {number + 1}"
        song.mkdir()
        for name in list(PARTS)[:num_stems]:
            x = _played(name, transpose=number, seconds=seconds, work=folder)
            soundfile.write(song / f"{name}.wav", lowpassed(0.5 * x).T, RATE, "PCM_24")
    return folder


def noise_stems(count: int, seconds: float, channels: int = 2, seed: int = 0) -> list[Samples]:
    """Bursts of noise, each stem in its own rhythm and level, nothing above the cutoff."""
    rng = np.random.default_rng(seed)
    stems = []
    for i in range(count):
        x = rng.normal(0, 0.05 / (1 + i), (channels, round(seconds * RATE)))
        beat = np.arange(x.shape[1]) * (i + 1.5) / RATE % 1.0
        stems.append(lowpassed(x * np.exp(-3 * beat)))
    return stems


def write_song(folder: Path, stems: list[Samples], subtype: str = "PCM_24") -> list[Path]:
    """Stems as files, `1.wav` first; the same on disk as in memory up to their format."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i + 1}.wav" for i in range(len(stems))]
    for path, x in zip(paths, stems, strict=True):
        soundfile.write(path, x.T, RATE, subtype)
    return paths


def lowpassed(x: Samples, cutoff_hz: float = CUTOFF_HZ) -> Samples:
    """Nothing above the cutoff, as what a low rate or a codec leaves."""
    taps = signal.firwin(1023, cutoff_hz - 200, fs=RATE, window=("kaiser", 14.0))
    low: Samples = signal.oaconvolve(x, taps[None], mode="same", axes=1)
    return low


def _played(name: str, transpose: int, seconds: float, work: Path) -> Samples:
    """One part, played by fluidsynth, [2, samples]."""
    midi, wave = work / "part.mid", work / "part.wav"
    _score(name, transpose, seconds).save(midi)
    command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-r", str(RATE), "-F", str(wave)]
    subprocess.run(
        [*command, str(sound_font()), str(midi)], check=True, capture_output=True, timeout=60
    )
    x, _ = soundfile.read(wave, always_2d=True)
    midi.unlink()
    wave.unlink()
    length = round(seconds * RATE)
    return np.pad(x.T, ((0, 0), (0, max(0, length - len(x)))))[:, :length]


def _score(name: str, transpose: int, seconds: float):  # type: ignore[no-untyped-def]
    """A MIDI file: one note a beat, drums two."""
    import mido

    program, notes = PARTS[name]
    channel = DRUM_CHANNEL if program is None else 0
    track = mido.MidiTrack()
    if program is not None:
        track.append(mido.Message("program_change", channel=channel, program=program))
    length = TICKS // 2 if program is None else TICKS
    for i in range(round(seconds / BEAT_SECONDS * TICKS / length)):
        note = notes[i % len(notes)] + (0 if program is None else transpose)
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=100))
        track.append(mido.Message("note_off", channel=channel, note=note, time=length))
    score = mido.MidiFile(ticks_per_beat=TICKS)
    score.tracks.append(track)
    return score
