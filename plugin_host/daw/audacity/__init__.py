"""Audacity 3.2 and later: macros that apply our effect, for its Tools menu.

~/.local/share/audacity/Macros/AudioSR *.txt       mono, stereo: for a project, or for many files

`batch` and `pipe` do the same from outside, by its script pipe.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from audiosr_core.errors import FileError
from plugin_host.daw.files import Daw

MACROS = {"AudioSR mono.txt": "AudiosrBridgeMono", "AudioSR stereo.txt": "AudiosrBridgeStereo"}


def folder() -> Path:
    """Where Audacity keeps what is this user's."""
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "audacity"


def files() -> Mapping[Path, bytes]:
    """Where each file goes, and what it holds."""
    if not folder().is_dir():
        raise FileError(f"there is no {folder()}; start Audacity 3.2 once and try again")
    return {
        folder() / "Macros" / name: f"SelectAll:\n{effect}:\n".encode()
        for name, effect in MACROS.items()
    }


DAW = Daw(
    "Audacity",
    files,
    list,
    "in Audacity: Tools > Apply Macro > AudioSR stereo, or mono; the effect itself comes with"
    " audiosr-bridge plugin install",
)
