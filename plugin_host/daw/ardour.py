"""Ardour 7: two actions for its menu of Lua scripts.

~/.config/ardour7/scripts/audiosr-*.lua       what Ardour lists, and copies when it is chosen
~/.config/ardour7/audiosr-bridge/*.lua        what they do, and the command that they run
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from audiosr_core.errors import FileError
from plugin_host.daw.files import Daw, data
from plugin_host.own_command import own_command

ACTIONS = ("audiosr-extend.lua", "audiosr-render.lua")
LIBRARY = ("actions.lua", "regions.lua")


def folder() -> Path:
    """Where Ardour 7 keeps what is this user's."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "ardour7"


def files() -> Mapping[Path, bytes]:
    """Where each file goes, and what it holds."""
    if not folder().is_dir():
        raise FileError(f"there is no {folder()}; start Ardour 7 once and try again")
    library = folder() / "audiosr-bridge"
    return {
        **{library / name: data("ardour", name) for name in LIBRARY},
        library / "command.lua": command_lua(own_command()),
        **{folder() / "scripts" / name: data("ardour", name) for name in ACTIONS},
    }


def command_lua(words: list[str]) -> bytes:
    """A command as Lua has it: any byte of it survives."""
    quoted = ('"' + "".join(f"\\{byte:03}" if chr(byte) in '"\\' or not 32 <= byte < 127
                            else chr(byte) for byte in os.fsencode(word)) + '"'
              for word in words)  # fmt: skip
    return f"-- What runs audiosr-bridge.\nreturn {{ {', '.join(quoted)} }}\n".encode()


DAW = Daw(
    "Ardour",
    files,
    lambda: [folder() / "audiosr-bridge"],
    "in Ardour: Edit > Lua Scripts > Script Manager, choose an empty action, Add/Set, Refresh, and"
    " take the two that begin with AudioSR",
)
