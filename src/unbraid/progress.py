"""Progress of long calls, with the elapsed and the remaining time.

A function with a ``progress`` argument takes None (a bar for long work on a terminal or in a notebook), True, False, or
a factory of bars. The factory is called with a name and a total. It returns a context manager of a function that is
called with the finished work.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from unbraid.errors import quoted, wrong_object

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[[float], object]
Progress = Callable[[str, float], AbstractContextManager[Advance]]

PATIENCE = 2.0  # seconds before a bar appears


@contextmanager
def silent(what: str, total: float) -> Iterator[Advance]:
    """Show no progress.

    Args:
        what: name of the work.
        total: amount of work.

    Example:
        >>> with silent("reading", total=2) as advance:
        ...     advance(1)
    """
    yield lambda amount: None


@contextmanager
def bar(what: str, total: float) -> Iterator[Advance]:
    """Show a bar on standard error, if it is a terminal or a notebook, after :data:`PATIENCE` seconds.

    Args:
        what: name of the work, shown before the bar.
        total: amount of work. The function that is yielded takes the amount that was done.

    Example:
        >>> with bar("reading", total=2) as advance:
        ...     for _ in range(2):
        ...         advance(1)
    """
    console = _console()
    if not (console.is_terminal or console.is_jupyter):
        yield lambda amount: None
        return
    with _bar(console, what, total, PATIENCE) as advance:
        yield advance


@contextmanager
def eager_bar(what: str, total: float) -> Iterator[Advance]:
    """Show a bar on standard error at once, wherever that leads; arguments as for :func:`bar`."""
    with _bar(_console(), what, total, 0.0) as advance:
        yield advance


def shown(progress: Progress | bool | None) -> Progress:
    """Return the factory that a ``progress`` argument means.

    Args:
        progress: None for :func:`bar`, True for :func:`eager_bar`, False for :func:`silent`, or a factory.

    Raises:
        ArgumentError: something else.

    Example:
        >>> shown(False) is silent
        True
    """
    if progress is None:
        return bar
    if isinstance(progress, bool):
        return eager_bar if progress else silent
    if not callable(progress):
        raise wrong_object(progress, "progress", "None, True, False or a function that makes bars")
    return progress


@contextmanager
def joined(progress: Progress, what: str, phases: Mapping[str, float]) -> Iterator[Progress]:
    """Open one bar over several phases of work.

    The bar reaches its total when the block ends without an error. It never goes back.

    Args:
        progress: factory of the bar.
        what: name of the whole work.
        phases: name of a phase -> its estimated share of the time, in any unit. A phase that is not named here takes
            half of what the named ones that are still to come leave over.

    Example:
        >>> with joined(silent, "working", {"reading": 1, "writing": 3}) as within:
        ...     with within("reading", total=10) as advance:
        ...         advance(10)
    """
    shares = {name: max(float(share), 0.0) for name, share in phases.items()}
    total = sum(shares.values()) or 1.0
    shares, done = {name: share / total for name, share in shares.items()}, 0.0

    with progress(what, 1.0) as whole:

        def reach(place: float) -> None:
            nonlocal done
            if place > done:
                whole(place - done)
                done = place

        @contextmanager
        def within(name: str, total: float) -> Iterator[Advance]:
            free = max(1.0 - done - sum(shares.values()), 0.0)
            start, share, own = done, shares.pop(name, free / 2), 0.0

            def advance(amount: float) -> None:
                nonlocal own
                own += amount
                reach(start + share * min(own / total if total > 0 else 1.0, 1.0))

            yield advance
            reach(min(start + share, 1.0))

        yield within
        reach(1.0)


@contextmanager
def _bar(console: Console, what: str, total: float, patience: float) -> Iterator[Advance]:
    # here, as `import unbraid` need not wait for it
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    started, done = time.monotonic(), 0.0
    shown = Bar(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("remaining"),
        console=console, transient=patience > 0,
    )  # fmt: skip
    task = shown.add_task(quoted(what, 60), total=total)

    def advance(amount: float) -> None:
        nonlocal done
        done += amount
        if not shown.live.is_started and done < total and time.monotonic() - started >= patience:
            shown.start()
        shown.update(task, completed=done)

    if patience == 0:
        shown.start()
    try:
        yield advance
    finally:
        shown.stop()


def _console() -> Console:
    """Make the console of standard error; in a notebook without ipywidgets it writes plain text there."""
    from rich.console import Console

    console = Console(file=sys.stderr)
    if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
        return Console(file=sys.stderr, force_jupyter=False, force_terminal=True)
    return console
