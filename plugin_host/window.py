"""A small window for who has no terminal: progress that can be cancelled, and questions.

    main thread                        worker thread
    run(work) ──────────────────────▶  work()
    │ every 20 ms: draw, hear clicks     │ begin(name, detail, left)
    │                        ◀───────────│ tell(fraction)    raises once Cancel was clicked
    ▼                                    ▼
    what work gave, or its error

    ┌──────────────────────────────────┐
    │ song.wav                         │
    │ lite, seed 0                     │
    │ ████████████░░░░░░░░░░░░░░░░░░░  │
    │ 0:00:12 left           [Cancel]  │
    └──────────────────────────────────┘

Closing the window is Cancel, or no answer. All work runs in one thread, one after the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from bridge.errors import CancelledError
from plugin_host.errors import WindowError

if TYPE_CHECKING:
    from tkinter import ttk

TITLE = "audiosr-bridge"
ASKING = f"{TITLE}: please answer"
TICK_SECONDS = 0.02
FONT_POINTS = 13
BAR_PIXELS = 440
TEXT_PIXELS = 560  # where a long line is broken

_INTERPRETERS: list[Any] = []
"""Kept for ever: Tcl aborts the process when another thread collects one as garbage."""

Made = TypeVar("Made")


class Left(Protocol):
    """Knows how long the work will still take."""

    def seconds(self, fraction: float, now: float) -> float | None:
        """Args: fraction: done; now: monotonic seconds."""


@dataclass(frozen=True)
class _Shown:
    """What the window shows; replaced as a whole, so that both threads may hold it."""

    name: str = ""
    detail: str = ""
    left: Left | None = None
    fraction: float = 0.0


class Window:
    """A window on the main thread.

    Raises:
        WindowError: there is no display, or no tkinter
    """

    def __init__(self) -> None:
        try:
            import tkinter
            from tkinter import font, ttk
        except ImportError as error:
            raise WindowError("this Python has no tkinter to draw a window with") from error
        try:
            self._root = tkinter.Tk(className=TITLE)
        except tkinter.TclError as error:
            raise WindowError(f"no window can be opened here: {error}") from error
        _INTERPRETERS.append(self._root.tk)
        self._tcl_error = tkinter.TclError
        self._shown = _Shown()
        self._closed = threading.Event()  # or cancelled, which is the same
        self._answer = ""
        self._worker = ThreadPoolExecutor(1, "edit")
        for name in ("TkDefaultFont", "TkTextFont"):
            font.nametofont(name, self._root).configure(size=FONT_POINTS)
        self._bold = font.nametofont("TkDefaultFont", self._root).copy()
        self._bold.configure(weight="bold")
        self._root.title(TITLE)
        self._root.resizable(False, False)
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        self._root.bind("<Escape>", lambda event: self._close())
        self._root.report_callback_exception = self._on_error
        self._frame = ttk.Frame(self._root)
        if self._root.tk.call("tk", "windowingsystem") == "x11":
            ttk.Style(self._root).theme_use("clam")  # the default there is of the nineties
        self._come_to_front()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._worker.shutdown()
        with contextlib.suppress(self._tcl_error):  # somebody else destroyed it
            self._root.destroy()

    def run(self, work: Callable[[], Made]) -> Made:
        """What `work` gives, computed in the other thread while the window lives."""
        try:
            draw = self._lay_progress()
        except self._tcl_error as error:
            raise CancelledError("cancelled: the window was closed") from error
        future = self._worker.submit(work)
        try:
            while not future.done():
                wait([future], TICK_SECONDS)
                self._turn(draw)
        except BaseException:  # an interruption: nobody waits for the work any more
            self._closed.set()
            raise
        return future.result()

    def begin(self, name: str, detail: str, left: Left) -> None:
        """From any thread: what is worked on now."""
        self._shown = _Shown(name, detail, left)

    def tell(self, fraction: float) -> None:
        """From any thread: how much of it is done; CancelledError once somebody cancelled."""
        if self._closed.is_set():
            raise CancelledError("cancelled; the file is as it was")
        self._shown = dataclasses.replace(self._shown, fraction=fraction)

    def ask(self, text: str, choices: Sequence[str]) -> str | None:
        """Wait for a click; None if the window is closed instead."""
        try:
            self._lay_question(text, choices)
        except self._tcl_error:
            return None
        self._answer = ""
        self._closed.clear()
        while not self._answer and not self._closed.wait(TICK_SECONDS):
            self._turn(lambda: None)
        self._closed.clear()
        with contextlib.suppress(self._tcl_error):
            self._root.title(TITLE)
            self._root.update()
        return self._answer or None

    def _lay_progress(self) -> Callable[[], None]:
        """Lay out the window of a run; what draws its state."""
        from tkinter import ttk

        frame = self._fresh_frame()
        name = ttk.Label(frame, font=self._bold, wraplength=TEXT_PIXELS)
        detail = ttk.Label(frame)
        bar = ttk.Progressbar(frame, length=BAR_PIXELS, maximum=1.0)
        left = ttk.Label(frame)
        cancel = ttk.Button(frame, text="Cancel", command=self._close)
        name.grid(row=0, columnspan=2, sticky="w")
        detail.grid(row=1, columnspan=2, sticky="w")
        bar.grid(row=2, columnspan=2, sticky="ew", pady=10)
        left.grid(row=3, column=0, sticky="w")
        cancel.grid(row=3, column=1, sticky="e")

        def draw() -> None:
            shown = self._shown
            name["text"], detail["text"] = shown.name, shown.detail
            bar["value"] = shown.fraction
            if self._closed.is_set():
                left["text"], cancel["state"] = "Cancelling; the file stays as it is", "disabled"
            else:
                left["text"] = _left_text(shown)

        draw()
        return draw

    def _lay_question(self, text: str, choices: Sequence[str]) -> None:
        from tkinter import ttk

        self._come_to_front()
        frame = self._fresh_frame()
        ttk.Label(frame, text=text, wraplength=TEXT_PIXELS).grid(columnspan=len(choices))
        for column, choice in enumerate(choices):
            button = ttk.Button(frame, text=choice, command=partial(self._choose, choice))
            button.bind("<Return>", lambda event: event.widget.invoke())
            button.grid(row=1, column=column, pady=(16, 0), padx=4)
            if column == 0:
                button.focus_set()
        self._root.update_idletasks()
        self._root.title(ASKING)

    def _fresh_frame(self) -> ttk.Frame:
        from tkinter import ttk

        self._frame.destroy()
        self._frame = ttk.Frame(self._root, padding=16)
        self._frame.pack(fill="both", expand=True)
        return self._frame

    def _come_to_front(self) -> None:
        """Above the host's window, but not for ever."""
        self._root.lift()
        self._root.attributes("-topmost", True)
        self._root.update()
        self._root.attributes("-topmost", False)
        self._root.focus_force()

    def _turn(self, draw: Callable[[], None]) -> None:
        """Draw and hear clicks, once; a window that was destroyed is a closed one."""
        try:
            draw()
            self._root.update()
        except self._tcl_error:
            self._close()

    def _choose(self, choice: str) -> None:
        self._answer = choice

    def _close(self) -> None:
        self._closed.set()

    def _on_error(self, kind: Any, error: BaseException, trace: Any) -> None:
        """An interruption inside a callback of Tk, which would only print it."""
        self._close()


def _left_text(shown: _Shown) -> str:
    now = time.monotonic()
    seconds = None if shown.left is None else shown.left.seconds(shown.fraction, now)
    return "Measuring…" if seconds is None else f"{timedelta(seconds=round(seconds))} left"
