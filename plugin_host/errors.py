"""What can go wrong with plugins and chains, beside the errors of the core.

AudioSRError              1
├─ UsageError             2
│  └─ ChainError              a chain, or a file of one, that makes no sense
└─ PluginError            1   a plugin is missing, unknown, or crashed
"""

from __future__ import annotations

from audiosr_core.errors import AudioSRError, UsageError


class ChainError(UsageError):
    """A chain that cannot be built or run as it was described."""


class PluginError(AudioSRError):
    """A plugin cannot be loaded, or did not survive being tried."""
