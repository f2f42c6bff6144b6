"""What the scripts inside a DAW ask of us: a file with lines in, a log with lines out.

    request   source=…        request.log   progress 0.42
              target=…                      note …
              seed=7                        model lite
              region=1.5:7.5                seed 7
                                            added yes
                                            done /…/song.wav    or    failed …

A script in a DAW can neither quote arguments for every system nor read a pipe without blocking its
window; it can write a file, start a program with its name, and look at another file now and then.
Where `request.cancel` appears, the work ends, and so do the three files.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiosr_core.errors import AudioSRError, RegionError, UsageError
from audiosr_core.presets import load_preset
from audiosr_core.settings import KNOBS, Settings
from bridge.errors import CancelledError
from plugin_host.errors import in_our_words
from plugin_host.place import Place, Where

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike

FIELDS = ("source", "target", "preset", "region", "delta")
MAX_BYTES = 64 << 10
TOLD_SECONDS = 0.1  # between two words about the progress


@dataclass(frozen=True)
class Request:
    """One file to extend, as a script asked for it. Checked where it is read."""

    source: Path
    target: Path
    settings: Settings
    region: tuple[float, float] | None = None  # seconds
    delta: bool = False


def read_request(path: Path) -> Request:
    """What lies in the file.

    Raises:
        UsageError: it cannot be read, or a line cannot be
        SettingsError, PresetError, RegionError: what is asked for cannot be
    """
    values = _lines(path)
    for name in ("source", "target"):
        if not Path(values.get(name, "")).is_absolute():
            raise UsageError(f"a request needs an absolute {name}, got {values.get(name)!r}")
    knobs = {name: one.check(values[name]) for name, one in KNOBS.items() if name in values}
    preset = values.get("preset")
    return Request(
        source=Path(values["source"]),
        target=Path(values["target"]),
        settings=load_preset(preset).settings(**knobs) if preset else Settings(**knobs),
        region=_region(values["region"]) if "region" in values else None,
        delta=values.get("delta", "no") == "yes",
    )


def _lines(path: Path) -> dict[str, str]:
    try:
        data = path.read_bytes()[: MAX_BYTES + 1]
    except OSError as error:
        raise UsageError(f"the request {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"a request has at most {MAX_BYTES} bytes, {path} has more")
    values: dict[str, str] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        name, equals, value = line.removesuffix("\r").partition("=")
        if not line:
            continue
        if not equals or name in values or not (name in KNOBS or name in FIELDS):
            raise UsageError(f"a line of a request is NAME=VALUE, each name once, got {line!r:.80}")
        values[name] = value
    return values


def _region(text: str) -> tuple[float, float]:
    try:
        start, end = map(float, text.split(":"))
    except ValueError as error:
        raise RegionError(f"a region of a request is START:END in seconds, got {text!r}") from error
    return start, end


class Log:
    """Words for the script, each written at once; and its wish to cancel."""

    def __init__(self, request: Path) -> None:
        self._files = [request.with_name(request.name + end) for end in (".log", ".cancel")]
        self._request = request
        self._told_at = 0.0

    def tell(self, word: str, text: str) -> None:
        """One fact; a log that cannot be written stops no work."""
        line = f"{word} {' '.join(text.split())}\n" if word != "done" else f"{word} {text}\n"
        with (
            contextlib.suppress(OSError),
            open(self._files[0], "a", encoding="utf-8", errors="surrogateescape") as file,
        ):
            file.write(line)

    def progress(self, fraction: float) -> None:
        """Called all along; CancelledError where the script does not want it any more."""
        if self._files[1].exists():
            raise CancelledError("the script cancelled it")
        if time.monotonic() - self._told_at > TOLD_SECONDS or fraction >= 1:
            self._told_at = time.monotonic()
            self.tell("progress", f"{fraction:.4f}")

    def remove(self) -> None:
        """The script is not interested any more."""
        for file in (self._request, *self._files):
            with contextlib.suppress(OSError):
                file.unlink()


def run_request(path: Path) -> None:
    """Extend the file of a request; its log tells how it went, also by an AudioSRError.

    Raises:
        CancelledError: the script wanted it, and everything of the request is gone
    """
    from audiosr_core.extend_file import extend_file

    log = Log(path)
    with _told(log), in_our_words(path):
        request = read_request(path)
        log.progress(0.0)

        def extended(engine: EngineLike) -> dict[str, Any]:
            return extend_file(
                request.source,
                request.target,
                request.settings,
                region=request.region,
                delta=request.delta,
                on_progress=log.progress,
                engine=engine,
            ).as_dict()

        with Place(Where(), "audiosr-bridge daw", lambda text: log.tell("note", text)) as place:
            report = place.attempt(extended)
        for text in filter(None, [report.get("note"), *(report.get("notes") or ())]):
            log.tell("note", str(text))
        log.tell("model", str(report.get("model", request.settings.model)))
        log.tell("seed", str(request.settings.seed))
        log.tell("added", "yes" if report.get("extended", True) else "no")
        log.tell("done", str(request.target))


@contextlib.contextmanager
def _told(log: Log) -> Iterator[None]:
    try:
        yield
    except CancelledError:
        log.remove()
        raise
    except AudioSRError as error:
        log.tell("failed", str(error))
        raise
