"""The current pass over a user's module: which rows its layers run over, and how often they ran already.

A module may call one layer several times in one pass (a cell in a loop, one encoder for two sequences), and a batch may
be run in several parts (see :class:`unbraid.networks.spec.TorchRun`). Layers and hooks look the pass up here, because a
user's forward stands between them and the body. A pass belongs to one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


@dataclass
class Pass:
    """One pass of a body over a batch.

    Attributes:
        rows: examples of the current part, each of K modules counted.
        part: number of the current part.
        turn: which of K modules runs alone; None: all K run in one batch.
        picked: for each part, the rows that are its examples, in their order; None: all rows in order.
        head: inputs and outputs of each call of the output layer in the current part.
        packed: the last packed sequence that a recurrent layer returned in the current part.
        dropped: parts whose call was replaced by another one.
    """

    rows: int = 0
    part: int = -1
    turn: int | None = None
    picked: list[Tensor | None] = field(default_factory=list)
    head: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    packed: PackedSequence | None = None
    dropped: set[int] = field(default_factory=set)
    _called: bool = False
    _steps: dict[int, int] = field(default_factory=dict)

    def begin(self, rows: int, turn: int | None = None) -> None:
        """Start the next part, of ``rows`` rows."""
        self.rows, self.turn = rows, turn
        self.part += 1
        self.picked.append(None)
        self._steps.clear()
        self.head, self.packed, self._called = [], None, False

    def start_call(self) -> None:
        """Start a call of the module; a second call for a part replaces the first."""
        if self._called:
            self.dropped.add(self.part)
            self.begin(self.rows, self.turn)
        self._called = True

    def pick(self, rows: Tensor | None) -> None:
        """Set which rows of the current part are its examples."""
        self.picked[self.part] = rows

    def advance(self, layer: object, steps: int) -> int:
        """Count timesteps of a layer; returns how many it ran over before in this part."""
        before = self._steps.get(id(layer), 0)
        self._steps[id(layer)] = before + steps
        return before


_current = threading.local()


def current() -> Pass | None:
    """The pass that runs in this thread; None outside a user's module."""
    return getattr(_current, "running", None)


@contextmanager
def one_pass() -> Iterator[Pass]:
    """Begin a pass; it is the current one while the context lasts."""
    outer = current()
    _current.running = Pass()
    try:
        yield _current.running
    finally:
        _current.running = outer
