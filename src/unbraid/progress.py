"""Progress bars: what long calls tell, and a bar that shows itself only when the work takes over a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Advance = Callable[[float], object]
Progress = Callable[[str, float], AbstractContextManager[Advance]]

PATIENCE = 1.0  # seconds before a bar appears


@contextmanager
def silent(what: str, total: float) -> Iterator[Advance]:
    """No progress at all."""
    yield lambda amount: None


@contextmanager
def bar(what: str, total: float) -> Iterator[Advance]:
    """A bar on standard error, from the second on that the work takes over :data:`PATIENCE`."""
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    started, done = time.monotonic(), 0.0
    shown = Bar(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(),
        console=Console(file=sys.stderr), transient=True,
    )  # fmt: skip
    task = shown.add_task(what, total=total)

    def advance(amount: float) -> None:
        nonlocal done
        done += amount
        if not shown.live.is_started and done < total and time.monotonic() - started > PATIENCE:
            shown.start()
        shown.update(task, completed=done)

    try:
        yield advance
    finally:
        shown.stop()
