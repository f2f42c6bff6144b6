"""Files of text that people write: presets, chains, lists."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from audiosr_core.errors import AudioSRError, FileError

MAX_BYTES = 1 << 20  # more is some other file
MAX_DEPTH = 32  # of tables and arrays inside each other
_TOO_DEEP = f"tables and arrays lie at most {MAX_DEPTH} deep in each other"


def read_text(path: Path, what: str, wrong: type[AudioSRError], max_bytes: int = MAX_BYTES) -> str:
    """The text, with line feeds alone.

    Args:
        what: what it is, in the words of a message: preset
        wrong: raised where it is too large, or no text

    Raises:
        FileError: it cannot be read
    """
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a FIFO would wait for ever
                raise FileError(f"a {what} must be a file, got {path}")
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise FileError(f"cannot read the {what} {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise wrong(f"a {what} has at most {max_bytes} bytes, {path} has more")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise wrong(f"{what} {path} must be UTF-8 text: {error.reason}") from error


def parse_toml(
    text: str, path: Path, what: str, wrong: type[AudioSRError], schema: int
) -> dict[str, Any]:
    """What the text of such a file says, in this schema or an older one.

    Args:
        wrong: raised where it is no TOML, or of another schema
        schema: the newest that is known
    """
    try:
        data = _toml(text)
    except ValueError as error:
        raise wrong(f"{what} {path} must be TOML: {error}") from error
    found = data.get("schema")
    if type(found) is not int or found < 1:
        raise wrong(f"{what} {path} must say 'schema = {schema}', got {found!r}")
    if found > schema:
        raise wrong(
            f"{what} {path} has schema {found}, this version reads {schema}; update audiosr-bridge"
        )
    return data


def _toml(text: str) -> dict[str, Any]:
    """What it says; ValueError if it is no TOML.

    Numbers beyond 64 bits, which TOML has not, and tables far inside each other are none either.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        if any(type(one) is int and not -(2**63) <= one < 2**63 for one in level):
            raise ValueError("whole numbers have at most 64 bits")
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        raise ValueError(_TOO_DEEP)
    return data
