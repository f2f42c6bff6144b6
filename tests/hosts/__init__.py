"""Programs that people put the plugin into, each tried for real: `python -m tests.hosts`."""

from __future__ import annotations

# A module each, with NAME, `missing() -> str` and `run(bench) -> Iterator[Check]`.
QUICK = (
    "minihosts",
    "pypi_minihost",
    "pedalboard_host",
    "dawdreamer_host",
    "lv2_tools",
    "qtractor",
)
HOSTS = (*QUICK, "jalv", "audacity", "ardour")
