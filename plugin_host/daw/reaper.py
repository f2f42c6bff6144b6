"""REAPER: four actions as ReaScripts.

~/.config/REAPER/Scripts/AudioSR/*.lua        what REAPER lists, and what they share
~/.config/REAPER/Scripts/AudioSR/program.txt  the program that they run
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from audiosr_core.errors import FileError
from plugin_host.daw.files import Daw, data


def folder() -> Path:
    """REAPER's resource folder, where it is put unless it is a portable installation."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "REAPER"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home())) / "REAPER"
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "REAPER"


def files() -> Mapping[Path, bytes]:
    """Where each file goes, and what it holds."""
    if not folder().is_dir():
        raise FileError(f"there is no {folder()}; start REAPER once and try again")
    program = Path(sys.executable).with_name("audiosr-bridge")
    scripts = folder() / "Scripts" / "AudioSR"
    shipped = resources.files("plugin_host.daw") / "reaper"
    names = sorted(one.name for one in shipped.iterdir() if one.name.endswith(".lua"))
    return {
        **{scripts / name: data("reaper", name) for name in names},
        scripts / "program.txt": os.fsencode(program) + b"\n",
    }


DAW = Daw(
    "REAPER",
    files,
    lambda: [folder() / "Scripts" / "AudioSR"],
    "in REAPER: press ?, New action..., Load ReaScript..., and take the four files in"
    " Scripts/AudioSR that begin with AudioSR",
)
