"""A smaller recurrent layer of a Keras graph, called as the graph calls its layers. Shapes as in :mod:`.wrapped`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.networks.graph.kind import Mask
from unbraid.networks.graph.recurrence import KerasRecurrent
from unbraid.networks.pytorch.wrapped import ShrunkRecurrent


class ShrunkGraphLayer(ShrunkRecurrent):
    """A smaller recurrent layer of a graph, with a linear expansion of its outputs and states.

    Args:
        layer: the smaller layer.
        hidden_size: H.
        kept: the units that the smaller layer has, (S, H').
        hidden: expansion of the hidden states, (S, H, H' + 1).
        cell: expansion of the cell states of an LSTM; None for other cells.
    """

    def __init__(
        self, layer: nn.Module, hidden_size: int, kept: Tensor, hidden: Tensor, cell: Tensor | None = None
    ) -> None:
        super().__init__(layer, hidden_size, kept, hidden, cell)
        assert isinstance(layer, KerasRecurrent)
        spec = layer.spec
        # Keras sets masked timesteps of joined directions to zero, which a constant would change.
        self.shifted = not (spec.bidirectional and spec.sequences)

    def forward(  # type: ignore[override]  # called by the graph, with a mask
        self, x: Tensor, mask: Mask, states: list[Tensor]
    ) -> tuple[list[Tensor], Mask]:
        """Run as :class:`~unbraid.networks.graph.recurrence.KerasRecurrent` does, with values of the old size."""
        each = len(states) // len(self.kept)
        narrow = [state[:, self.kept[place // each]] for place, state in enumerate(states)]
        (outputs, *finals), mask = self.layer(x, mask, narrow)
        ways = len(self.hidden)
        parts = zip(outputs.chunk(ways, -1), range(ways), strict=True)
        wide = [expanded(part, self.hidden[way], self.shifted) for part, way in parts]
        kinds = len(finals) // ways
        rows = [self._rows_of_state(place, kinds) for place in range(len(finals))]
        results = [expanded(state, row) for state, row in zip(finals, rows, strict=True)]
        return [torch.cat(wide, -1), *results], mask

    def _rows_of_state(self, place: int, kinds: int) -> Tensor:
        """Return the expansion (H, H' + 1) of a final state; ``kinds`` is the number of states of one direction."""
        way, kind = divmod(place, kinds)
        if kind == 0:
            return self.hidden[way]
        assert self.cell is not None
        return self.cell[way]


def expanded(values: Tensor, rows: Tensor, shifted: bool = True) -> Tensor:
    """Expand values (..., H') by rows (H, H' + 1)."""
    return linear(values, rows[:, :-1], rows[:, -1] if shifted else None)
