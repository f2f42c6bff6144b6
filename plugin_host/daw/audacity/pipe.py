"""Audacity's script pipe: a command is a line, a reply is lines with an empty one after them.

    ours      Message: Text="asb-1"   …   Message: Text="asb-2"        Import2: Filename="…"
    Audacity  (not up yet: lost)          asb-2, finished: OK          finished: OK

A reply names no command. So before the first one, and after one that took too long, a word of our
own is sent until it comes back; whatever came before it was late, and is for nobody.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import time
from pathlib import Path

from audiosr_core.errors import AudioSRError, UsageError

FOLDER = Path("/tmp")  # written into mod-script-pipe
FINISHED = "BatchCommand finished: "
ASK_AGAIN_SECONDS = 2.0


class AudacityError(AudioSRError):
    """Audacity does not run, does not answer, or could not do what it was asked."""


class Pipe:
    """To the Audacity of this user; there is never more than one.

    Args:
        timeout_seconds: until Audacity answers for the first time; it may just be starting

    Raises:
        AudacityError: it does not
    """

    def __init__(self, timeout_seconds: float = 30.0) -> None:
        user = os.getuid()
        self._to = FOLDER / f"audacity_script_pipe.to.{user}"
        self._from = FOLDER / f"audacity_script_pipe.from.{user}"
        self._words = (f"asb-{os.getpid()}-{n}" for n in itertools.count(1))
        self._received = b""
        self._in_step = False
        deadline = time.monotonic() + timeout_seconds
        self._writer, self._reader = self._open(deadline)
        try:
            self._catch_up(deadline)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._writer)
        os.close(self._reader)

    def do(self, command: str, timeout_seconds: float = 60.0) -> str:
        """What Audacity said, without its last line.

        Args:
            command: as `line` makes it

        Raises:
            AudacityError: it said that it failed, or nothing in time
        """
        deadline = time.monotonic() + timeout_seconds
        if not self._in_step:
            self._catch_up(deadline)
        self._in_step = False
        self._send(command, deadline)
        reply = self._reply(deadline)
        if reply is None:
            raise AudacityError(
                f"Audacity must answer {_name(command)} within {timeout_seconds:g} s, but has not;"
                " look whether it shows a question, and answer that"
            )
        self._in_step = True
        said, _, how = reply.rpartition(FINISHED)
        if how != "OK":
            reason = said.strip() or how or "no reason given"
            raise AudacityError(f"Audacity could not do {_name(command)}: {reason}")
        return said.strip()

    def _open(self, deadline: float) -> tuple[int, int]:
        """The ends of both pipes; Audacity opens its own in the same order."""
        while True:
            with contextlib.suppress(OSError):  # ENXIO: nobody reads it, ENOENT: never was one
                writer = os.open(self._to, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    return writer, os.open(self._from, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    os.close(writer)
            if time.monotonic() > deadline:
                raise AudacityError(
                    "there is no Audacity that listens to scripts; start it, and switch on"
                    " mod-script-pipe in Edit > Preferences > Modules"
                )
            time.sleep(0.1)

    def _catch_up(self, deadline: float) -> None:
        """Read away what is late: until Audacity answers with a word that was not said before."""
        words: set[str] = set()
        while time.monotonic() < deadline:
            words.add(word := next(self._words))
            self._send(line("Message", Text=word), deadline)
            soon = min(deadline, time.monotonic() + ASK_AGAIN_SECONDS)
            while (reply := self._reply(soon)) is not None:
                if any(word in reply for word in words):
                    words = {other for other in words if other not in reply}
                    if word in reply:
                        self._in_step = True
                        return
        raise AudacityError(
            "Audacity must answer, but does not; look whether it shows a question, and answer that"
        )

    def _send(self, command: str, deadline: float) -> None:
        data = command.encode() + b"\n"
        while data:
            _, ready, _ = select.select([], [self._writer], [], _left(deadline))
            if not ready:
                raise AudacityError("Audacity must read what it is asked, but does not")
            try:
                data = data[os.write(self._writer, data) :]
            except BrokenPipeError as error:
                raise _gone() from error

    def _reply(self, deadline: float) -> str | None:
        """The next one, or None: not in time."""
        while b"\n\n" not in self._received.lstrip(b"\n"):
            ready, _, _ = select.select([self._reader], [], [], _left(deadline))
            if not ready:
                return None
            data = os.read(self._reader, 65536)
            if not data:
                raise _gone()
            self._received += data.replace(b"\r", b"")
        reply, _, self._received = self._received.lstrip(b"\n").partition(b"\n\n")
        return reply.decode(errors="replace")


def line(name: str, **arguments: object) -> str:
    """A command: `Import2: Filename="a.wav"`; UsageError for what it cannot carry."""
    texts = {key: str(value) for key, value in arguments.items()}
    for text in texts.values():
        if any(ord(letter) < 32 for letter in text):
            raise UsageError(f"Audacity takes no control characters in a name, got {text!r}")
    escaped = {key: text.replace("\\", "\\\\").replace('"', '\\"') for key, text in texts.items()}
    return " ".join([f"{name}:", *(f'{key}="{text}"' for key, text in escaped.items())])


def _name(command: str) -> str:
    return command.partition(":")[0]


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _gone() -> AudacityError:
    return AudacityError("Audacity has ended meanwhile; start it again, and repeat")
