"""Replace an nn.RNN, nn.LSTM or nn.GRU of a PyTorch module by separate layers with the same call.

Shapes: N examples, T timesteps, D inputs, H hidden units, L layers, S = L * directions.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unbraid.errors import DataError
from unbraid.networks.cells import Cell, State
from unbraid.networks.passes import current
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer

Result = tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, Tensor]]


class RecurrentStack(nn.Module):
    """The layers and directions of one recurrent module of PyTorch, with the call of that module.

    A projection (``proj_size``) is merged into the weights that read it, so that the layers have all H units. What is
    left of it maps the outputs of the last level and the last states, and its pseudo-inverse the initial states.

    Args:
        original: the module to replace; its weights are copied with their dtype.
        fold: how rows are arranged if the module reads several sequences of each example in one call (see
            :class:`unbraid.networks.torch_spec.TorchRun`); None: one sequence of each example.
    """

    def __init__(self, original: nn.RNNBase, fold: str | None = None) -> None:
        super().__init__()
        self.cell, self.fold = torch_cell(original), fold
        self.proj_size = original.proj_size
        self.input_size, self.hidden_size = original.input_size, original.hidden_size
        self.num_layers, self.bidirectional = original.num_layers, original.bidirectional
        self.batch_first, self.bias, self.dropout = original.batch_first, original.bias, original.dropout
        self.layers = nn.ModuleList(
            _layer(original, self.cell, level, backward)
            for level in range(self.num_layers)
            for backward in range(self.directions)
        )
        if self.proj_size:
            self._merge_projections(original)
        self.kept: list[Tensor | None] = [None] * len(self.layers)  # of sliced layers: where their nodes belong

    def set_layers(self, layers: list[RecurrentLayer]) -> None:
        """Hold one level of one or two directions, which may read either way."""
        first = layers[0]
        self.fold, self.proj_size = None, 0
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
        other._modules = dict(self._modules) | {"layers": nn.ModuleList(layers)}
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
            packed = pack_padded_sequence(outputs, lengths, batch_first=True, enforce_sorted=ordered)
            if (here := current()) is not None:
                here.packed = packed
            return packed, _pair(last)
        if unbatched:
            return outputs.squeeze(0), _pair(tuple(s.squeeze(1) for s in last))
        return (outputs if self.batch_first else outputs.transpose(0, 1).contiguous()), _pair(last)

    def _check_states(self, states: State, x: Tensor) -> None:
        """Raise DataError for states of another size, beyond whose end the kernels of torch would read."""
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: 2 if self.cell.kind == "lstm" else 1]
        expected = [(len(self.layers), x.shape[0], size) for size in sizes]
        found = [tuple(state.shape) for state in states]
        if states and found != expected:
            shown = expected[0] if len(set(expected)) == 1 else expected
            raise DataError(
                f"{len(states)} initial states of shapes {found} for {x.shape[0]} sequences, expected {shown}: make "
                "them in forward, for as many examples as it is given."
            )
        for state in states:
            if state.dtype != x.dtype or state.device != x.device:
                raise DataError(
                    f"initial states are {state.dtype} on {state.device}, the inputs {x.dtype} on {x.device}: make the "
                    "states in forward with x.new_zeros(...)."
                )

    def _run(self, x: Tensor, valid: Tensor | None, initial: State) -> tuple[Tensor, State]:
        """Outputs (N, T, directions*H) and last states (S, N, H)."""
        here = current()
        if self.fold is None or here is None or not self._one_by_one():
            return self._levels(x, valid, initial)
        if x.shape[0] % here.rows:
            raise DataError(
                f"a layer was given {x.shape[0]} sequences, expected as many of each of {here.rows} examples."
            )
        order = torch.arange(x.shape[0], device=x.device)
        order = order.view(here.rows, -1).t() if self.fold == "outer" else order.view(-1, here.rows)
        outputs, states = [], []
        for rows in order:  # one sequence of each example
            part = self._levels(x[rows], None if valid is None else valid[rows], tuple(s[:, rows] for s in initial))
            outputs.append(part[0])
            states.append(part[1])
        back = order.flatten().argsort()
        return torch.cat(outputs)[back], tuple(torch.cat(parts, 1)[:, back] for parts in zip(*states, strict=True))

    def _one_by_one(self) -> bool:
        """Return whether the sequences of an example run in several calls: for observation, or masks by timestep."""
        return any(
            isinstance(layer, PrunedRecurrentLayer) or layer._forward_hooks or getattr(layer, "masks", 1) > 1
            for layer in self.layers
        )

    def _levels(self, x: Tensor, valid: Tensor | None, initial: State) -> tuple[Tensor, State]:
        finals: list[State] = []
        if initial and self.proj_size:
            inverse = [nn.functional.linear(s, p) for s, p in zip(initial[0], self.inverses(), strict=True)]
            initial = (torch.stack(inverse), initial[1])
        for level in range(self.num_layers):
            outs = []
            for place in range(level * self.directions, (level + 1) * self.directions):
                kept = self.kept[place]
                first = tuple(s[place] if kept is None else s[place][:, kept] for s in initial) or None
                out, state = self.layers[place](x, valid, first)
                h, *c = (self._full(s, place) for s in state)
                finals.append((self._projected(h, place), *c))
                last = level == self.num_layers - 1
                outs.append(self._projected(self._full(out, place), place) if last else out)
            x = torch.cat(outs, dim=-1)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def inverses(self) -> list[Tensor]:
        """Compute the pseudo-inverse of each projection, (H, P)."""
        return [torch.linalg.pinv(p) for p in self.projections]

    def unprojected(self, place: int) -> tuple[Tensor, Tensor]:
        """Compute the input and recurrent weights that read projected values, as torch stores them."""
        layer = self.layers[place]
        assert isinstance(layer, RecurrentLayer)
        weight_ih: Tensor = layer.weight_ih
        if below := place // self.directions * self.directions:
            maps = torch.block_diag(*self.projections[below - self.directions : below])
            weight_ih = _unmerged(weight_ih, maps)
        return weight_ih, _unmerged(layer.weight_hh, self.projections[place])

    def set_projections(self, weights: list[tuple[Tensor, Tensor]], maps: list[Tensor]) -> None:
        """Set projections (P, H), and merge them into the weights that read projected values.

        Args:
            weights: input and recurrent weights of each layer, as :meth:`unprojected` gives them.
            maps: the projection of each layer.
        """
        self.projections = nn.ParameterList(nn.Parameter(m, requires_grad=False) for m in maps)
        for place, (layer, (weight_ih, weight_hh)) in enumerate(zip(self.layers, weights, strict=True)):
            assert isinstance(layer, RecurrentLayer)
            layer.weight_hh = nn.Parameter(weight_hh @ maps[place], requires_grad=False)
            if below := place // self.directions * self.directions:
                weight_ih = weight_ih @ torch.block_diag(*maps[below - self.directions : below])
            layer.weight_ih = nn.Parameter(weight_ih, requires_grad=False)

    def _projected(self, values: Tensor, place: int) -> Tensor:
        return nn.functional.linear(values, self.projections[place]) if self.proj_size else values

    def _merge_projections(self, original: nn.RNNBase) -> None:
        """Let the layers read the H units below a projection instead of its outputs."""
        maps = [w.detach().clone() for name, w in original.named_parameters() if name.startswith("weight_hr")]
        own = [(layer.weight_ih, layer.weight_hh) for layer in self.layers]
        self.set_projections(own, maps)  # type: ignore[arg-type]  # tensors of RecurrentLayers

    def _full(self, values: Tensor, place: int) -> Tensor:
        """Expand the values of a smaller layer to all units, with zeros for removed units."""
        kept = self.kept[place]
        if kept is None:
            return values
        return values.new_zeros(*values.shape[:-1], self.hidden_size).index_copy(-1, kept.to(values.device), values)


class CellStack(RecurrentStack):
    """Replacement of an nn.RNNCell, nn.LSTMCell or nn.GRUCell: one timestep in each call."""

    def __init__(self, original: nn.RNNCellBase, fold: str | None = None) -> None:
        nn.Module.__init__(self)
        self.cell, self.fold, self.proj_size = torch_cell(original), fold, 0
        self.input_size, self.hidden_size, self.bias = original.input_size, original.hidden_size, original.bias
        self.num_layers, self.bidirectional, self.batch_first, self.dropout = 1, False, True, 0.0
        layer = RecurrentLayer(self.cell, original.input_size, original.hidden_size)
        _copy_weights(layer, original, "")
        self.layers = nn.ModuleList([layer])
        self.kept = [None]

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | State | None = None) -> Any:
        """Run as in torch: (N, D) or (D,), and hx (N, H) or (H,), a pair for an LSTM; return the next hx."""
        if not isinstance(input, Tensor) or input.dim() not in (1, 2):
            raise DataError(
                f"a recurrent cell was given {tuple(getattr(input, 'shape', ()))}, expected (N, D) or (D,)."
            )
        x = input.unsqueeze(0) if input.dim() == 1 else input
        given = () if hx is None else (tuple(hx) if isinstance(hx, tuple | list) else (hx,))
        states = tuple((s.unsqueeze(0) if s.dim() == 1 else s).unsqueeze(0) for s in given)
        self._check_states(states, x)
        _, last = self._run(x.unsqueeze(1), None, states)
        return _pair(tuple(s[0, 0] if input.dim() == 1 else s[0] for s in last))


def _unmerged(merged: Tensor, projection: Tensor) -> Tensor:
    """Solve ``weight @ projection = merged`` for the weight; the projection (P, H) has P <= H."""
    return (merged.double() @ torch.linalg.pinv(projection.double())).to(merged.dtype)


def stack_of(original: nn.Module, fold: str | None = None) -> RecurrentStack:
    """Make the replacement of a recurrent layer or cell."""
    if isinstance(original, nn.RNNCellBase):
        return CellStack(original, fold)
    assert isinstance(original, nn.RNNBase)
    return RecurrentStack(original, fold)


def torch_cell(original: nn.RNNBase | nn.RNNCellBase) -> Cell:
    """Return the cell of a recurrent module of torch."""
    if isinstance(original, nn.LSTM | nn.LSTMCell):
        return Cell(kind="lstm")
    if isinstance(original, nn.GRU | nn.GRUCell):
        return Cell(kind="gru")
    return Cell(kind="rnn", activation=str(original.nonlinearity))


def _layer(original: nn.RNNBase, cell: Cell, level: int, backward: int) -> RecurrentLayer:
    suffix = f"_l{level}" + ("_reverse" if backward else "")
    inputs = getattr(original, f"weight_ih{suffix}").shape[1]
    layer = RecurrentLayer(cell, inputs, original.hidden_size, bool(backward))
    _copy_weights(layer, original, suffix)
    return layer


def _copy_weights(layer: RecurrentLayer, original: nn.Module, suffix: str) -> None:
    like = getattr(original, f"weight_ih{suffix}")
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        own = getattr(original, f"{name}{suffix}", None)
        value = like.new_zeros(getattr(layer, name).shape) if own is None else own
        setattr(layer, name, nn.Parameter(value.detach().clone(), requires_grad=False))


def _pair(states: State) -> Tensor | tuple[Tensor, Tensor]:
    return states[0] if len(states) == 1 else (states[0], states[1])
