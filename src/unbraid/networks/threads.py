"""How many threads torch uses for one operation.

Decomposition runs very many small operations. Starting threads for each of them costs more than it saves, and on a
shared machine the threads wait for each other: measured with two threads on two busy cores, an LSTM of 100 units took 8
times as long as with one thread, and one of 512 units 4 times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from unbraid.networks.network import Network

WIDE = 1024  # hidden units of a layer from which one operation is large enough for several threads

_given: ContextVar[int | None] = ContextVar("unbraid_threads", default=None)


@contextmanager
def few_threads(networks: Iterable[Network]) -> Iterator[None]:
    """Use one thread for each operation of torch inside the block, if no layer is wide; restore the number after it.

    Blocks can be nested. The number is one of the whole process, so that it holds for other threads of Python as well
    while the block runs. Blocks of several threads of Python at once restore the old number, too.

    Args:
        networks: the networks that run in the block.

    Example:
        >>> import torch
        >>> from unbraid.demo.small import small_network
        >>> with few_threads([small_network()]):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    wide = any(layer.units >= WIDE for network in networks for layer in network.layers.values())
    if before == 1 or wide:
        yield
        return
    token = _given.set(given_threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _given.reset(token)


def given_threads() -> int:
    """Return the number of threads outside of all :func:`few_threads` blocks, for work that is split by hand."""
    return _given.get() or torch.get_num_threads()
