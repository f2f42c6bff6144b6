"""A screen that nobody sees, and a hand that clicks on it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator

from plugin_host.window import ASKING, TITLE

LIMIT_SECONDS = 60.0


@contextlib.contextmanager
def screen() -> Iterator[str]:
    """The DISPLAY of an X server of its own; Xvfb says its number once it listens."""
    ours, theirs = os.pipe()
    command = ["Xvfb", "-displayfd", str(theirs), "-screen", "0", "900x600x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL)
    os.close(theirs)
    try:
        with open(ours) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.terminate()
        server.wait(LIMIT_SECONDS)


class Hand:
    """xdotool on one display."""

    def __init__(self, display: str) -> None:
        self._environment = {**os.environ, "DISPLAY": display}

    def window(self, title: str = TITLE) -> str:
        """The product's window of this title, once it is there."""
        return self.tool("search", "--sync", "--onlyvisible", "--name", f"^{title}$").split()[0]

    def cancel(self) -> None:
        """Click on the button at the lower right, once it is laid out."""
        window = self.window()
        until(lambda: self._size(window)[0] > 400)
        width, height = self._size(window)
        self._click(window, width - 70, height - 32)

    def choose(self, place: float) -> None:
        """Click on a button of a question, so far from the left."""
        window = self.window(ASKING)
        width, height = self._size(window)
        self._click(window, round(width * place), height - 32)

    def key(self, name: str, title: str = TITLE) -> None:
        self.window(title)
        self.tool("key", name)

    def _size(self, window: str) -> tuple[int, int]:
        text = self.tool("getwindowgeometry", "--shell", window)
        found = dict(line.split("=") for line in text.split())
        return int(found["WIDTH"]), int(found["HEIGHT"])

    def _click(self, window: str, x: int, y: int) -> None:
        self.tool("mousemove", "--window", window, str(x), str(y), "click", "1")

    def tool(self, *arguments: str) -> str:
        done = subprocess.run(
            ["xdotool", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT_SECONDS,
        )
        return done.stdout


def until(so: Callable[[], bool]) -> None:
    """Wait for this, AssertionError after a minute."""
    end = time.monotonic() + LIMIT_SECONDS
    while not so():
        assert time.monotonic() < end
        time.sleep(0.02)
