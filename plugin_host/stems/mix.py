"""The stems of a song, read in lockstep, and their sum: the mix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiosr_core.errors import AudioError, UsageError
from audiosr_core.extend_file import BLOCK_SECONDS
from audiosr_core.files import Reader
from plugin_host.stems.album import Song


class StemsReader:
    """The stems of a song, read in lockstep; a shorter one is silent after its end."""

    def __init__(self, song: Song) -> None:
        with contextlib.ExitStack() as stack:
            self.readers = [
                [stack.enter_context(Reader(path)) for path in stem.files] for stem in song.stems
            ]
            _check_alike(song, self.readers)
            infos = [files[0].info for files in self.readers]
            self.sample_rate = infos[0].sample_rate
            self.lengths = [info.num_samples for info in infos]
            self.num_samples = max(self.lengths)
            self.widths = [_width(files) for files in self.readers]
            self.mix_channels = max(self.widths)
            self._stack = stack.pop_all()

    def __enter__(self) -> StemsReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, start: int, stop: int) -> list[NDArray[np.float64]]:
        """Every stem, [channels, samples]."""
        return [
            np.concatenate([_padded(reader, start, stop) for reader in files])
            for files in self.readers
        ]

    def read_mix(self, start: int, stop: int) -> NDArray[np.float64]:
        return self.mixed(self.read(start, stop), stop - start)

    def mixed(self, stems: Iterable[NDArray[Any]], num_samples: int) -> NDArray[np.float64]:
        """Their sum; a mono stem is in every channel."""
        mix = np.zeros((self.mix_channels, num_samples))
        for stem in stems:
            mix += stem
        return mix

    def blocks(self) -> Iterator[tuple[list[NDArray[np.float64]], NDArray[np.float64]]]:
        """Stems and mix, from the start to the end of the longest."""
        size = BLOCK_SECONDS * self.sample_rate
        for start in range(0, self.num_samples, size):
            stop = min(start + size, self.num_samples)
            stems = self.read(start, stop)
            yield stems, self.mixed(stems, stop - start)


def _padded(reader: Reader, start: int, stop: int) -> NDArray[np.float64]:
    end = reader.info.num_samples
    x = reader.read(min(start, end), min(stop, end))
    return np.pad(x, ((0, 0), (0, stop - start - x.shape[1])))


def _width(files: Sequence[Reader]) -> int:
    return sum(reader.info.num_channels for reader in files)


def _check_alike(song: Song, readers: Sequence[Sequence[Reader]]) -> None:
    """AudioError unless the stems can be summed."""
    if not readers:
        raise UsageError(f"the song {song.name!r} has no stems; give it at least one file")
    widest = max(readers, key=_width)
    for files in readers:
        first = files[0].info
        for info, other, same in [
            (reader.info, readers[0][0].info, reader.info.sample_rate) for reader in files
        ]:
            if same != other.sample_rate:
                raise AudioError(
                    f"the stems of a song have one sample rate, but {other.path} has"
                    f" {other.sample_rate} Hz and {info.path} {same} Hz; convert one of them"
                )
        if any(reader.info.num_samples != first.num_samples for reader in files):
            raise AudioError(
                f"the two sides of a stem have one length, but those of {first.path} differ;"
                " export them again"
            )
        if _width(files) not in (1, _width(widest)):
            raise AudioError(
                "the stems of a song are mono or as wide as its widest, but"
                f" {widest[0].info.path} has {_width(widest)} channels and {first.path}"
                f" {_width(files)}; give it a song of its own"
            )
