"""A smaller recurrent layer that is called as the original layer is, and gives outputs and states of the old size.

Shapes: N examples, T timesteps, H units of the original, H' units of the smaller layer, S layers times directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence


class ShrunkRecurrent(nn.Module):
    """A smaller nn.LSTM, nn.GRU or nn.RNN with a linear expansion of its outputs and states from H' to H.

    The expansion passes the kept units on unchanged, and predicts the removed units from them.
    :func:`unbraid.shrink` uses it where forward passes the outputs to code that needs H of them.

    Args:
        layer: the smaller layer, called as torch's layers are.
        hidden_size: H.
        kept: the units that the smaller layer has, (S, H').
        hidden: expansion of the hidden states, (S, H, H' + 1) with the bias as the last column.
        cell: expansion of the cell states of an LSTM; None for other cells.
    """

    kept: Tensor

    def __init__(
        self, layer: nn.Module, hidden_size: int, kept: Tensor, hidden: Tensor, cell: Tensor | None = None
    ) -> None:
        super().__init__()
        self.layer = layer
        self.input_size, self.hidden_size = layer.input_size, hidden_size
        self.num_layers, self.bidirectional = layer.num_layers, layer.bidirectional
        self.batch_first, self.bias, self.dropout = layer.batch_first, layer.bias, layer.dropout
        self.proj_size = 0
        self.register_buffer("kept", kept)
        self.hidden = nn.Parameter(hidden)
        self.cell = None if cell is None else nn.Parameter(cell)

    def flatten_parameters(self) -> None:
        """Pass the call on to the smaller layer."""
        self.layer.flatten_parameters()  # type: ignore[operator]  # as torch's recurrent layers have it

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Run as torch's recurrent layers do: outputs (N, T, directions * H), states (S, N, H)."""
        if hx is not None:
            hx = self._narrow(hx) if isinstance(hx, Tensor) else tuple(self._narrow(part) for part in hx)
        outputs, state = self.layer(input, hx)
        if isinstance(outputs, PackedSequence):
            outputs = outputs._replace(data=self._outputs(outputs.data))
        else:
            outputs = self._outputs(outputs)
        if self.cell is None:
            return outputs, _expanded(state, self.hidden)
        return outputs, (_expanded(state[0], self.hidden), _expanded(state[1], self.cell))

    def _narrow(self, state: Tensor) -> Tensor:
        """Keep the values of the units that the smaller layer has."""
        return torch.stack([own[..., kept] for own, kept in zip(state, self.kept, strict=True)])

    def _outputs(self, values: Tensor) -> Tensor:
        directions = 2 if self.bidirectional else 1
        parts = values.chunk(directions, -1)
        rows = self.hidden[-directions:]
        return torch.cat([linear(p, row[:, :-1], row[:, -1]) for p, row in zip(parts, rows, strict=True)], -1)


class ShrunkCell(ShrunkRecurrent):
    """The same for an nn.LSTMCell, nn.GRUCell or nn.RNNCell; its states are h (N, H), or h and c.

    Args:
        layer: the smaller cell.
        hidden_size: H.
        kept: the units that the smaller cell has, (1, H').
        hidden: expansion of the hidden state, (1, H, H' + 1).
        cell: expansion of the cell state of an LSTM; None for other cells.
    """

    def __init__(
        self, layer: nn.Module, hidden_size: int, kept: Tensor, hidden: Tensor, cell: Tensor | None = None
    ) -> None:
        nn.Module.__init__(self)
        self.layer = layer
        self.input_size, self.hidden_size, self.bias = layer.input_size, hidden_size, layer.bias
        self.register_buffer("kept", kept)
        self.hidden = nn.Parameter(hidden)
        self.cell = None if cell is None else nn.Parameter(cell)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run as torch's cells do: (N, D) and the state (N, H) or a pair of them; returns the next state."""
        if hx is not None:
            hx = hx[..., self.kept[0]] if isinstance(hx, Tensor) else tuple(part[..., self.kept[0]] for part in hx)
        state = self.layer(input, hx)
        if self.cell is None:
            return _expanded(state.unsqueeze(0), self.hidden)[0]
        h, c = state
        return _expanded(h.unsqueeze(0), self.hidden)[0], _expanded(c.unsqueeze(0), self.cell)[0]


def _expanded(state: Tensor, rows: Tensor) -> Tensor:
    parts = zip(state, rows, strict=True)
    return torch.stack([linear(part, row[:, :-1], row[:, -1]) for part, row in parts])
