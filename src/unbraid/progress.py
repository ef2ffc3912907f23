"""Progress of long calls: each phase of the work opens one bar, with the elapsed and the remaining time.

A function with a ``progress`` argument takes a factory: :func:`bar` shows bars, :func:`silent` shows nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Advance = Callable[[float], object]
Progress = Callable[[str, float], AbstractContextManager[Advance]]

PATIENCE = 1.0  # seconds before a bar appears


@contextmanager
def silent(what: str, total: float) -> Iterator[Advance]:
    """Show no progress.

    Args:
        what: name of the phase.
        total: amount of work of the phase.

    Example:
        >>> with silent("reading", total=2) as advance:
        ...     advance(1)
    """
    yield lambda amount: None


@contextmanager
def bar(what: str, total: float) -> Iterator[Advance]:
    """Show a bar on standard error if it is a terminal and the phase takes longer than :data:`PATIENCE` seconds.

    Args:
        what: name of the phase, shown before the bar.
        total: amount of work of the phase. The function that is yielded takes the amount that was done.

    Example:
        >>> with bar("reading", total=2) as advance:
        ...     for _ in range(2):
        ...         advance(1)
    """
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    started, done = time.monotonic(), 0.0
    shown = Bar(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("remaining"),
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
