"""Progress and time left, on stderr: a bar on a terminal, elsewhere log lines.

Work that takes less than `QUIET_S` seconds leaves no line.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from m3dllm.errors import printable

log = logging.getLogger("m3dllm")

QUIET_S, SOON_S, LATER_S = 3.0, 10.0, 60.0
"""Seconds until the first line, then between lines, then between lines after a while."""
_bars: list[Any] = []
"""The bars on the terminal: at most one, in which nested work has its own line."""


@contextmanager
def progress(what: str, total: float | None = None) -> Iterator[Callable[..., None]]:
    """Report the progress of `total` steps; call the yielded function after each step, or with their number.

    Without a `total` only the elapsed time is shown. A step may take any time.
    """
    with _bar(what, total) if sys.stderr.isatty() else _lines(what, total) as step:
        yield step


def left(seconds: float) -> str:
    """The time left, in words."""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


def _state(seconds: float, done: float, total: float | None) -> str:
    """Such as "12 of 72, about 40 s left"; before the first step, the seconds so far."""
    count = "" if total is None else f"{done:.0f} of {total:.0f}, "
    return count + (f"{seconds:.0f} s so far" if not total or not done else left(seconds / done * (total - done)))


@contextmanager
def _lines(what: str, total: float | None) -> Iterator[Callable[..., None]]:
    begun, done, over = time.monotonic(), 0.0, threading.Event()

    def step(n: float = 1) -> None:
        nonlocal done
        done += n

    def report() -> None:
        wait = QUIET_S
        while not over.wait(wait):
            log.info("%s: %s", what, _state(time.monotonic() - begun, done, total))
            wait = max(SOON_S, min(2 * wait, LATER_S))

    reporter = threading.Thread(target=report, name="progress", daemon=True)
    reporter.start()
    try:
        yield step
    finally:
        over.set()
        reporter.join()


@contextmanager
def _bar(what: str, total: float | None) -> Iterator[Callable[..., None]]:
    if _bars:
        yield from _task(_bars[0], what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class State(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_state(task.elapsed or 0.0, task.completed, task.total))

    text = TextColumn("{task.description}", markup=False)
    shown = Progress(text, BarColumn(), State(), console=Console(stderr=True), transient=True, redirect_stdout=False)
    with shown:
        _bars.append(shown)
        try:
            yield from _task(shown, what, total)
        finally:
            _bars.clear()


def _task(shown: Any, what: str, total: float | None) -> Iterator[Callable[..., None]]:
    task = shown.add_task(printable(what), total=total)
    try:
        yield lambda n=1: shown.advance(task, n)
    finally:
        shown.remove_task(task)
