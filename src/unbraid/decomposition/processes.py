"""Share work over the classes of a decomposition between several processes.

On Linux the processes are forked, so that they start at once and read what was observed in shared memory. Elsewhere
they are started anew, and each gets a copy. What processes send each other is pickled, and goes through pipes that only
they have. Results are the same to the bit, because each process computes on one thread, as a single process does.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from unbraid.errors import ConfigError, UnbraidError, quoted

FORKED = sys.platform == "linux"
BACKEND = "loky"  # of joblib, where processes are not forked
AHEAD = 8
_jobs: ContextVar[int] = ContextVar("unbraid_jobs", default=1)

Item = TypeVar("Item")


@contextmanager
def processes(jobs: int) -> Iterator[None]:
    """Let :func:`each` use several processes inside the block.

    Args:
        jobs: number of processes; -1 for the number of cores.

    Raises:
        ConfigError: another number.
    """
    token = _jobs.set(checked_jobs(jobs))
    try:
        yield
    finally:
        _jobs.reset(token)


def checked_jobs(jobs: Any) -> int:
    """Return the number of processes; raise ConfigError unless it is at least 1, or -1 for the number of cores."""
    if isinstance(jobs, bool) or not isinstance(jobs, int) or (jobs < 1 and jobs != -1):
        raise ConfigError(f"jobs={quoted(repr(jobs), 40)}: expected a number of processes, or -1 for one a core.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if jobs == -1 else jobs


def shares_work(items: int, device: torch.device) -> bool:
    """Return whether work on some items is shared: not on a GPU, nor in a process that may not start others."""
    return min(_jobs.get(), items) > 1 and device.type == "cpu" and not multiprocessing.current_process().daemon


def each(function: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[Any]:
    """Yield ``function(item)`` for all items, in their order, computed by the processes of :func:`processes`.

    Args:
        function: where processes are not forked, it is pickled with what it refers to.
        items: the items, which are pickled.

    Raises:
        UnbraidError: a process ended before it was done. Errors of ``function`` are raised as they are.
    """
    with at_work(function, items, 2) as found:  # so that no process waits while this one uses a result
        yield from found


@contextmanager
def at_work(function: Callable[[Item], Any], items: Sequence[Item], ahead: int = AHEAD) -> Iterator[Iterator[Any]]:
    """Let forked processes start at once on some items, while this process computes something else.

    Args:
        function: as for :func:`each`.
        items: as for :func:`each`.
        ahead: items that a process gets before it returns a result; few, so that sending them never waits.

    Yields:
        what :func:`each` yields, with the same errors.
    """
    jobs = min(_jobs.get(), len(items))
    if FORKED:
        with _forked(function, items, jobs, ahead) as found:
            yield found
    else:
        yield _started(function, items, jobs)


@contextmanager
def _forked(function: Callable[[Item], Any], items: Sequence[Item], jobs: int, ahead: int) -> Iterator[Iterator[Any]]:
    context = multiprocessing.get_context("fork")
    ours: list[Connection] = []
    workers = []
    try:
        for _ in range(jobs):
            mine, theirs = context.Pipe()
            ours.append(mine)
            workers.append(context.Process(target=_serve, args=(theirs, function, list(ours)), daemon=True))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns if there are other threads
                workers[-1].start()
            theirs.close()
        waiting = deque(enumerate(items))
        sent: dict[Connection, deque[int]] = {connection: deque() for connection in ours}
        for connection in ours * ahead:
            _send(connection, waiting, sent)
        yield _results(dict(zip(ours, workers, strict=True)), waiting, sent)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for connection in ours:
            connection.close()


def _results(
    workers: dict[Connection, Any], waiting: deque[tuple[int, Any]], sent: dict[Connection, deque[int]]
) -> Iterator[Any]:
    """Yield the results in the order of the items, and send the waiting items to processes that are done."""
    found, yielded = dict[int, Any](), 0
    while busy := [connection for connection, places in sent.items() if places]:
        for connection in wait(busy):
            assert isinstance(connection, Connection)
            result = _received(connection, workers[connection], len(workers))
            found[sent[connection].popleft()] = result
            _send(connection, waiting, sent)
        while yielded in found:
            yield found.pop(yielded)
            yielded += 1


def _send(connection: Connection, waiting: deque[tuple[int, Any]], sent: dict[Connection, deque[int]]) -> None:
    """Send the next item to a process, if there is one."""
    if waiting:
        place, item = waiting.popleft()
        with suppress(BrokenPipeError, ConnectionResetError):  # receiving from a process that has ended is an error
            connection.send(item)
        sent[connection].append(place)


def _received(connection: Connection, worker: Any, jobs: int) -> Any:
    try:
        data = connection.recv_bytes()
    except (EOFError, ConnectionResetError):
        worker.join(1)
        raise UnbraidError(
            f"one of {jobs} processes ended with exit code {worker.exitcode} before it was done, perhaps for want of "
            "memory: use fewer jobs=, or a smaller memory=."
        ) from None
    kind, value, noted = pickle.loads(data)  # from a process that this one started, never from a file
    for category, message in noted:
        warnings.warn(category(message), stacklevel=2)
    if kind == "error":
        raise value
    return value


def _serve(connection: Connection, function: Callable[[Any], Any], others: list[Connection]) -> None:
    """Compute results until the parent process closes its end of the connection."""
    for other in others:  # otherwise this process keeps them open, and nobody sees that the parent process has ended
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    torch.set_num_threads(1)
    while True:
        try:
            item = connection.recv()
            connection.send_bytes(_answer(function, item))
        except (EOFError, OSError):
            return


def _answer(function: Callable[[Any], Any], item: Any) -> bytes:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            kind, value = "done", function(item)
        except Exception as error:  # it is raised in the parent process
            kind, value = "error", error
    noted = [(w.category, str(w.message)) for w in caught]
    try:
        data = pickle.dumps((kind, value, noted), protocol=5)
        pickle.loads(data)  # some errors can be written but not read
        return data
    except Exception as error:
        shown = value if kind == "error" else error
        return pickle.dumps(("error", UnbraidError(f"{type(shown).__name__} in a process: {quoted(shown)}"), []))


def _started(function: Callable[[Item], Any], items: Sequence[Item], jobs: int) -> Iterator[Any]:
    from joblib import Parallel, delayed, parallel_config

    parts = [list(range(start, len(items), jobs)) for start in range(jobs)]
    with parallel_config(BACKEND, n_jobs=jobs, **({"inner_max_num_threads": 1} if BACKEND == "loky" else {})):
        parallel = Parallel(return_as="generator", batch_size=1, max_nbytes=None)
        with closing(parallel(delayed(_all)(function, [items[place] for place in part]) for part in parts)) as results:
            lists = [iter(found) for found in results]
    for place in range(len(items)):
        yield next(lists[place % jobs])


def _all(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    torch.set_num_threads(1)
    with torch.inference_mode(False), torch.enable_grad():
        return [function(item) for item in items]
