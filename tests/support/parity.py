"""Where the recorded numbers of the published pipeline lie, if they are here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("../shared/parity/audiosr", "shared/parity/audiosr")


def parity_folder() -> Path:
    """The parity set: AUDIOSR_PARITY_DIR, or beside the checkout or one of its parents."""
    if given := os.environ.get("AUDIOSR_PARITY_DIR"):
        return Path(given)
    for folder in (ROOT, *ROOT.parents):
        for place in PLACES:
            if (folder / place).is_dir():
                return (folder / place).resolve()
    pytest.skip("the parity set is not here; set AUDIOSR_PARITY_DIR")
