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
        """The product's window of this title, once it is there.

        Not by --sync: xdotool fails where a window goes away or changes its title meanwhile.
        """
        found: list[str] = []

        def is_there() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):  # it finds none
                found.extend(self.tool("search", "--onlyvisible", "--name", f"^{title}$").split())
            return bool(found)

        until(is_there)
        return found[0]

    def cancel(self) -> None:
        """Click on the button at the lower right, once it is laid out."""
        window = self.window()
        until(lambda: self._size(window)[0] > 400)
        width, height = self._size(window)
        self._click(window, width - 70, height - 32)

    def close(self) -> None:
        """As a window manager asks a window to close; Xvfb has none."""
        from Xlib.display import Display
        from Xlib.protocol.event import ClientMessage

        with contextlib.closing(Display(self._environment["DISPLAY"])) as display:
            window = display.create_resource_object("window", int(self.window()))
            data = (32, [display.intern_atom("WM_DELETE_WINDOW"), 0, 0, 0, 0])
            kind = display.intern_atom("WM_PROTOCOLS")
            window.send_event(ClientMessage(window=window, client_type=kind, data=data))
            display.sync()

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
