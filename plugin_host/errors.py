"""What can go wrong with plugins and chains, beside the errors of the core.

AudioSRError              1
├─ UsageError             2
│  └─ ChainError              a chain, or a file of one, that makes no sense
├─ FileError              1
│  └─ ChangedError            somebody else changed a file that was edited
├─ PluginError            1   a plugin is missing, unknown, or crashed
└─ WindowError            1   there is no display, or nothing to draw windows with
"""

from __future__ import annotations

from audiosr_core.errors import AudioSRError, FileError, UsageError


class ChainError(UsageError):
    """A chain that cannot be built or run as it was described."""


class PluginError(AudioSRError):
    """A plugin cannot be loaded, or did not survive being tried."""


class ChangedError(FileError):
    """A file is not as an edit left it, and going on would lose what somebody did."""


class WindowError(AudioSRError):
    """No window can be opened here."""
