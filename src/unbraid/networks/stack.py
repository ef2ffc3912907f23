"""Replace an nn.RNN, nn.LSTM or nn.GRU of a PyTorch module by separate layers with the same call.

Shapes: N examples, T timesteps, D inputs, H hidden units, L layers, S = L * directions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unbraid.errors import DataError, UnsupportedLayer
from unbraid.networks.cells import Cell, State
from unbraid.networks.recurrent import RecurrentLayer

Result = tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, Tensor]]


class RecurrentStack(nn.Module):
    """The layers and directions of one recurrent module of PyTorch, with the call of that module.

    Args:
        original: the module to replace; its weights are copied with their dtype.

    Raises:
        UnsupportedLayer: an LSTM with ``proj_size``.
    """

    def __init__(self, original: nn.RNNBase) -> None:
        super().__init__()
        if original.proj_size:
            raise UnsupportedLayer(
                f"nn.LSTM with proj_size={original.proj_size} cannot be decomposed, because a projected output is not "
                "a hidden unit; expected nn.RNN, nn.LSTM or nn.GRU without projection. Train with proj_size=0."
            )
        self.cell = torch_cell(original)
        self.input_size, self.hidden_size = original.input_size, original.hidden_size
        self.num_layers, self.bidirectional = original.num_layers, original.bidirectional
        self.batch_first, self.bias, self.dropout = original.batch_first, original.bias, original.dropout
        self.layers = nn.ModuleList(
            _layer(original, self.cell, level, backward)
            for level in range(self.num_layers)
            for backward in range(self.directions)
        )
        self.kept: list[Tensor | None] = [None] * len(self.layers)  # indices of the units of sliced layers

    def set_layers(self, layers: list[RecurrentLayer]) -> None:
        """Hold one level of one or two directions, which may read either way."""
        first = layers[0]
        self.cell, self.input_size, self.hidden_size = first.cell, first.inputs, first.units
        self.num_layers, self.bidirectional = 1, len(layers) == 2
        self.batch_first, self.bias, self.dropout = True, True, 0.0
        self.layers = nn.ModuleList(layers)
        self.kept = [None] * len(layers)

    @property
    def directions(self) -> int:
        """1, or 2 for a bidirectional module."""
        return 2 if self.bidirectional else 1

    def exchanged(self, layers: list[nn.Module], kept: list[Tensor | None]) -> RecurrentStack:
        """Make a stack with other layers.

        Args:
            layers: the new layers.
            kept: for each layer the indices of its units among the H units; None for all units.
        """
        other = copy.copy(self)
        other._modules = {"layers": nn.ModuleList(layers)}
        other.kept = kept
        return other

    def flatten_parameters(self) -> None:
        """Do nothing; the weights of the layers are separate tensors."""

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | State | None = None) -> Result:
        """Compute the forward of the replaced module.

        Args:
            input: (N, T, D) or (T, N, D) by ``batch_first``, (T, D), or a packed sequence.
            hx: first states (S, N, H), a pair of them for an LSTM; zeros by default.
        """
        lengths = None
        if isinstance(input, Tensor) and input.dim() not in (2, 3):
            raise DataError(
                f"a recurrent layer got inputs of shape {tuple(input.shape)}, expected (N, T, D) or (T, D)."
            )
        unbatched = isinstance(input, Tensor) and input.dim() == 2
        if isinstance(input, PackedSequence):
            x, lengths = pad_packed_sequence(input, batch_first=True)
        else:
            x = input.unsqueeze(0) if unbatched else (input if self.batch_first else input.transpose(0, 1))
        valid = None
        if lengths is not None:
            valid = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device).unsqueeze(1)
        states = () if hx is None else (tuple(hx) if isinstance(hx, tuple | list) else (hx,))
        if unbatched:
            states = tuple(s.unsqueeze(1) for s in states)
        self._check_states(states, x)
        outputs, last = self._run(x, valid, states)
        if isinstance(input, PackedSequence):
            assert lengths is not None
            ordered = input.sorted_indices is None
            return pack_padded_sequence(outputs, lengths, batch_first=True, enforce_sorted=ordered), _pair(last)
        if unbatched:
            return outputs.squeeze(0), _pair(tuple(s.squeeze(1) for s in last))
        return (outputs if self.batch_first else outputs.transpose(0, 1)), _pair(last)

    def _check_states(self, states: State, x: Tensor) -> None:
        """Raise DataError for states of another size; the kernels of torch would read beyond their end."""
        expected = (self.num_layers * self.directions, x.shape[0], self.hidden_size)
        found = [tuple(state.shape) for state in states]
        if len(states) not in (0, 2 if self.cell.kind == "lstm" else 1) or any(shape != expected for shape in found):
            raise DataError(
                f"{len(states)} initial states of shapes {found} for {x.shape[0]} sequences, expected {expected}: make "
                "them in forward, with the number of its examples."
            )
        for state in states:
            if state.dtype != x.dtype or state.device != x.device:
                raise DataError(
                    f"initial states are {state.dtype} on {state.device}, the inputs {x.dtype} on {x.device}: make the "
                    "states in forward with x.new_zeros(...)."
                )

    def _run(self, x: Tensor, valid: Tensor | None, initial: State) -> tuple[Tensor, State]:
        """Compute outputs (N, T, directions*H) and last states (S, N, H)."""
        finals: list[State] = []
        for level in range(self.num_layers):
            outs = []
            for place in range(level * self.directions, (level + 1) * self.directions):
                kept = self.kept[place]
                first = tuple(s[place] if kept is None else s[place][:, kept] for s in initial) or None
                out, state = self.layers[place](x, valid, first)
                finals.append(tuple(self._full(s, place) for s in state))
                outs.append(self._full(out, place) if level == self.num_layers - 1 else out)
            x = torch.cat(outs, dim=-1)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _full(self, values: Tensor, place: int) -> Tensor:
        """Expand the values of a smaller layer to all units, with zeros for removed units."""
        kept = self.kept[place]
        if kept is None:
            return values
        return values.new_zeros(*values.shape[:-1], self.hidden_size).index_copy(-1, kept.to(values.device), values)


def torch_cell(original: nn.RNNBase) -> Cell:
    """Return the cell of a recurrent module of PyTorch."""
    if isinstance(original, nn.LSTM):
        return Cell(kind="lstm")
    if isinstance(original, nn.GRU):
        return Cell(kind="gru")
    return Cell(kind="rnn", activation=str(original.nonlinearity))


def _layer(original: nn.RNNBase, cell: Cell, level: int, backward: int) -> RecurrentLayer:
    suffix = f"l{level}" + ("_reverse" if backward else "")
    inputs = getattr(original, f"weight_ih_{suffix}").shape[1]
    layer = RecurrentLayer(cell, inputs, original.hidden_size, bool(backward))
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        own = getattr(original, f"{name}_{suffix}", None)
        like = getattr(original, f"weight_ih_{suffix}")
        value = like.new_zeros(getattr(layer, name).shape) if own is None else own
        setattr(layer, name, nn.Parameter(value.detach().clone(), requires_grad=False))
    return layer


def _pair(states: State) -> Tensor | tuple[Tensor, Tensor]:
    return states[0] if len(states) == 1 else (states[0], states[1])
