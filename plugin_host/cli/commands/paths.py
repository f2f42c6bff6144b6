"""`audiosr-bridge paths`: where things lie."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from audiosr_core.store import models_folder
from bridge.runtime_dir import cache_folder, config_folder, runtime_folder, state_folder
from plugin_host.cli.flags import Json
from plugin_host.cli.terminal import emit, write


def folders() -> dict[str, Path]:
    """Configuration, data, cache, models and the daemon's of this user; they need not exist."""
    dirs = platformdirs.PlatformDirs("audiosr-bridge", appauthor=False)
    return {
        "config": dirs.user_config_path,
        "data": dirs.user_data_path,
        "cache": dirs.user_cache_path,
        "models": models_folder(),
        "daemon_runtime": runtime_folder(),
        "daemon_cache": cache_folder(),
        "daemon_state": state_folder(),
        "daemon_config": config_folder(),
    }


def paths(
    json: Json = False,
) -> None:
    """Show where presets, models, caches and what the daemon has lie."""
    if json:
        emit({name: str(path) for name, path in folders().items()})
        return
    for name, path in folders().items():
        write(f"{name:14} {path}")
