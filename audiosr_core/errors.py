"""Everything that can go wrong, as a tree; each leaf knows its exit code.

    AudioSRError              1
    ├─ UsageError             2   the request makes no sense
    │  ├─ SettingsError           a knob out of range, an unknown preset
    │  └─ RegionError             a region outside the sound
    ├─ AudioError             1   the sound cannot be used
    │  ├─ NotFiniteError          NaN or Inf, with its place
    │  └─ FileError               the file cannot be read, kept or written
    │     └─ OutputExistsError    would overwrite
    ├─ ModelError             4   a model is missing or broken
    └─ DeviceError            5   the device or memory gave up

A message says what was wanted, what came, and what to do, in one sentence.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DAEMON = 3
EXIT_MODEL = 4
EXIT_DEVICE = 5
EXIT_INTERRUPTED = 130


class AudioSRError(Exception):
    """The root: whatever this package raises on purpose."""

    exit_code = EXIT_FAILED


class UsageError(AudioSRError):
    """What was asked for makes no sense."""

    exit_code = EXIT_USAGE


class SettingsError(UsageError):
    """A knob is out of range or unknown."""


class RegionError(UsageError):
    """A region is empty or outside the sound."""


class AudioError(AudioSRError):
    """The sound itself cannot be used."""


class NotFiniteError(AudioError):
    """A sample is NaN or infinite."""

    def __init__(self, channel: int, sample: int, sample_rate: int) -> None:
        super().__init__(
            f"samples must be finite, but channel {channel + 1} is not at sample {sample}"
            f" ({sample / sample_rate:.6f} s); repair the file and try again"
        )
        self.channel = channel
        self.sample = sample


class FileError(AudioError):
    """A file cannot be read, kept whole or written."""


class OutputExistsError(FileError):
    """The output is there already and nobody said to replace it."""

    exit_code = EXIT_USAGE


class ModelError(AudioSRError):
    """A model is missing, damaged or not what it claims to be."""

    exit_code = EXIT_MODEL


class DeviceError(AudioSRError):
    """The device or its memory gave up."""

    exit_code = EXIT_DEVICE
