"""The current pass over a user's module: the rows of its layers, and the timesteps they already ran over.

A module may call one layer several times in one pass (a cell in a loop, one encoder for two sequences). A batch may run
in several parts (see :class:`unbraid.networks.torch_spec.TorchRun`). Layers and hooks read the pass from here, because
the body calls them through the forward method of the user. A pass belongs to one thread.
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
        rows: number of rows of the current part, over all K modules.
        part: number of the current part.
        turn: index of the module that runs alone; None if all K run in one batch.
        picked: for each part, the rows of its examples in order; None for all rows in order.
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
        """Count timesteps of a layer; return the number of timesteps it ran over before in this part."""
        before = self._steps.get(id(layer), 0)
        self._steps[id(layer)] = before + steps
        return before


_current = threading.local()


def current() -> Pass | None:
    """Return the current pass of this thread; None outside a user's module."""
    return getattr(_current, "running", None)


@contextmanager
def one_pass() -> Iterator[Pass]:
    """Begin a pass. It is the current pass within the context."""
    outer = current()
    _current.running = Pass()
    try:
        yield _current.running
    finally:
        _current.running = outer
