"""Run a recurrent layer: with the fused kernel of PyTorch if it computes the same function, else with a batched scan.

Shapes: N examples, T timesteps, D inputs, H hidden units, G gates, K modules in one batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from unbraid.errors import DataError
from unbraid.networks.cells import Cell, State
from unbraid.networks.passes import current
from unbraid.networks.removal import AtStep, Removal
from unbraid.networks.step_layer import StepLayer, zero_state

# cell -> widths that are multiples of the first number are faster on a CPU; units are added up to a share of the units
IDLE = {"gru": (16, 0.1), "lstm": (8, 0.3)}
MANY = 16  # rows from which that pays, because the weights are copied
_FUSED = {"lstm": torch.lstm, "gru": torch.gru}


class RecurrentLayer(StepLayer):
    """One direction of one recurrent layer of any cell, with the weight layout of nn.LSTM.

    Args:
        cell: the function of one timestep.
        inputs: D.
        units: H.
        reverse: whether to read the sequence from its end; outputs keep the order of the inputs. Default False.
    """

    def __init__(self, cell: Cell, inputs: int, units: int, reverse: bool = False) -> None:
        super().__init__(reverse)
        self.cell = cell
        rows = len(cell.gates) * units
        self.weight_ih = nn.Parameter(torch.zeros(rows, inputs))
        self.weight_hh = nn.Parameter(torch.zeros(rows, units))
        self.bias_ih = nn.Parameter(torch.zeros(rows))
        self.bias_hh = nn.Parameter(torch.zeros(rows))

    @property
    def units(self) -> int:
        """H."""
        return self._parameters["weight_hh"].shape[1]  # type: ignore[union-attr]  # each prediction reads it often

    @property
    def inputs(self) -> int:
        """D."""
        return self.weight_ih.shape[1]

    @property
    def kernel(self) -> Tensor:
        """Input weights, (G*H, D)."""
        return self.weight_ih

    @property
    def incoming(self) -> Tensor:
        """All weights that a gate column reads with, (G*H, D + H)."""
        return torch.cat([self.weight_ih, self.weight_hh], 1)

    @property
    def strength(self) -> Tensor:
        """Sum of |weight| of the edges from each hidden unit (column) to each hidden unit (row), (H, H)."""
        return self.weight_hh.abs().unflatten(0, (len(self.cell.gates), -1)).sum(0)

    def forward(self, x: Tensor, valid: Tensor | None = None, initial: State | None = None) -> tuple[Tensor, State]:
        """Compute all outputs and the last state.

        Args:
            x: inputs (N, T, D).
            valid: booleans (N, T). At False, state and output of the previous timestep are kept, as in Keras.
            initial: h (and c), each (N, H); zeros by default.

        Returns:
            outputs (N, T, H) in the order of the inputs, and the state after the last timestep read, each (N, H).

        Raises:
            DataError: a tensor with a shape, dtype or device that does not fit the weights.
        """
        self.check(x, valid, initial)
        if initial is None:
            initial = zero_state(self.cell, x.shape[0], self.units, x)
        if self.units == 0:  # all units were removed; the kernels of torch divide by this number
            return x.new_zeros(*x.shape[:2], 0), initial
        if not self.cell.fused or self.inputs == 0:  # torch cannot pack sequences without features
            outputs, state = scan(self, x.unsqueeze(0), tuple(s.unsqueeze(0) for s in initial), valid)
            return outputs.squeeze(0), tuple(s.squeeze(0) for s in state)
        if valid is not None:
            return self._packed(x, valid, initial)
        outputs, state = self._fused(x.flip(1) if self.reverse else x, initial)
        return (outputs.flip(1) if self.reverse else outputs), state

    def scan(
        self, x: Tensor, state: State, valid: Tensor | None = None, removal: Removal | None = None
    ) -> tuple[Tensor, State]:
        """Compute the recurrence for K modules in one batch; see :func:`scan`."""
        return scan(self, x, state, valid, removal)

    def gates(self, x: Tensor, outputs: Tensor, initial: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the values of all gates at all timesteps from the outputs, with one product and no scan.

        Args:
            x: inputs (N, T, D).
            outputs: outputs of :meth:`forward` for these inputs, (N, T, H).
            initial: h before the first timestep, (N, H); zeros by default.

        Returns:
            one tensor (N, T, H) per gate, in the order of the cell.
        """
        first = torch.zeros_like(outputs[:, :1]) if initial is None else initial.unsqueeze(1)
        if self.reverse:
            return self.gates_after(x, torch.cat([outputs[:, 1:], first], dim=1))
        return self.gates_after(x, torch.cat([first, outputs[:, :-1]], dim=1))

    def gates_after(self, x: Tensor, previous: Tensor) -> tuple[Tensor, ...]:
        """Compute the values of all gates from the hidden states before each timestep, (N, T, H)."""
        bias = self.cell.candidate_bias(self.bias_hh)

        def product(hidden: Tensor, rows: slice) -> Tensor:
            return linear(hidden, self.weight_hh[rows], bias if _candidate_rows(self.cell, rows) else None)

        return self.cell.gate_values(self.projected(x), previous, product)

    def projected(self, x: Tensor) -> Tensor:
        """Compute W x with all biases that are not multiplied by the reset gate, (..., G*H)."""
        return linear(x, self.weight_ih, self.cell.input_bias(self.bias_ih, self.bias_hh))

    def _kernel_arguments(self, initial: State) -> tuple:
        weights: list[Tensor] = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        if extra := self._idle_units(initial[0].shape[0]):
            weights = [pad(w.unflatten(0, (-1, self.units)), (0,) * (2 * w.dim() - 1) + (extra,)) for w in weights]
            weights = [w.flatten(0, 1) for w in weights]
            weights[1] = pad(weights[1], (0, extra))
            initial = tuple(pad(s, (0, extra)) for s in initial)
        hx = tuple(s.unsqueeze(0) for s in initial)
        training = torch.is_grad_enabled()  # cuDNN needs it for gradients; it has no other effect
        return (hx if len(hx) > 1 else hx[0]), weights, True, 1, 0.0, training, False

    def _idle_units(self, rows: int) -> int:
        """Return the number of zero units to add, which make the kernel of an LSTM or a GRU faster on a CPU.

        The kernels split the gates by columns, and are slow for widths that are not a multiple of a vector register.
        """
        multiple, share = IDLE.get(self.cell.kind, (1, 0.0))
        extra = -self.units % multiple
        return extra if rows >= MANY and self.weight_hh.is_cpu and extra <= share * self.units else 0

    def _kernel(self):  # type: ignore[no-untyped-def]  # these are untyped in the stubs of torch
        return _FUSED.get(self.cell.kind) or getattr(torch, f"rnn_{self.cell.activation}")

    def _fused(self, x: Tensor, initial: State) -> tuple[Tensor, State]:
        outputs, *state = self._kernel()(x, *self._kernel_arguments(initial), True)
        return outputs[..., : self.units], tuple(s.squeeze(0)[..., : self.units] for s in state)

    def _packed(self, x: Tensor, valid: Tensor, initial: State) -> tuple[Tensor, State]:
        """Run the valid timesteps as a packed sequence; they are moved to the front first."""
        order = torch.argsort(~(valid.flip(1) if self.reverse else valid), dim=1, stable=True)
        order = x.shape[1] - 1 - order if self.reverse else order
        counts = valid.sum(dim=1)
        moved = torch.gather(x, 1, order.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        packed = pack_padded_sequence(moved, counts.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        sorted_initial = tuple(s[packed.sorted_indices] for s in initial)
        data, *state = self._kernel()(packed.data, packed.batch_sizes, *self._kernel_arguments(sorted_initial))
        data, state = data[:, : self.units], [s[..., : self.units] for s in state]
        padded, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=x.shape[1])
        some = (counts > 0).unsqueeze(-1)
        last = tuple(
            torch.where(some, s.squeeze(0).index_select(0, packed.unsorted_indices), first)
            for s, first in zip(state, initial, strict=True)
        )
        return self._held(padded, valid, initial[0]), last

    def _held(self, compact: Tensor, valid: Tensor, first: Tensor) -> Tensor:
        """Move outputs back to their timesteps, (N, T, H); masked timesteps repeat the previous output."""
        along = valid.flip(1) if self.reverse else valid
        index = along.cumsum(dim=1)
        index = index.flip(1) if self.reverse else index
        rows = torch.cat([first.unsqueeze(1), compact], dim=1)
        return torch.gather(rows, 1, index.unsqueeze(-1).expand(-1, -1, rows.shape[2]))


class PrunedRecurrentLayer(nn.Module):
    """A recurrent layer for K modules of one parent in one batch, with the parent's weights and masks on values.

    Args:
        layer: layer of the parent; its parameters are shared, not copied.
        removal: masks of the K modules.
        modules: K.
        opens: whether inputs have N rows that the K modules share, because this is their first layer. Otherwise inputs
            have K*N rows, module after module.
        interleaved: whether inputs and outputs have N*K rows, example after example. Default False.
    """

    def __init__(
        self, layer: StepLayer, removal: Removal, modules: int, opens: bool, interleaved: bool = False
    ) -> None:
        super().__init__()
        layer.check_removal(removal)
        self.layer, self.removal, self.modules_count = layer, removal, modules
        self.opens, self.interleaved = opens, interleaved

    @property
    def units(self) -> int:
        """H."""
        return self.layer.units

    def forward(self, x: Tensor, valid: Tensor | None = None, initial: State | None = None) -> tuple[Tensor, State]:
        """Compute :meth:`RecurrentLayer.forward` for K modules: (K*N, T, H), states (K*N, H); ``valid`` is (N, T)."""
        here = current()
        alone = here is not None and here.turn is not None
        k = 1 if alone else self.modules_count
        removal = self.removal.only(here.turn) if alone else self.removal  # type: ignore[union-attr,arg-type]
        if here is not None:
            removal = removal.later(here.advance(self, x.shape[1]), x.shape[1])
        self._check(x, valid, initial, k)
        x = x.unsqueeze(0) if self.opens else self._apart(x, k)
        if initial is None:
            state = tuple(s.expand(k, -1, -1) for s in zero_state(self.layer.cell, x.shape[1], self.units, x))
        else:
            state = tuple(self._apart(s, k) for s in initial)
        if valid is not None and self.interleaved:
            valid = valid[::k]  # the K copies of an example have the same length
        outputs, state = self.layer.scan(x, state, valid, removal)
        return self._together(outputs), tuple(self._together(s) for s in state)

    def _check(self, x: Tensor, valid: Tensor | None, initial: State | None, k: int) -> None:
        """Check inputs as :meth:`RecurrentLayer.check`, for the rows of K modules; raise DataError."""
        self.layer.check(x)
        rows = x.shape[0] * (k if self.opens else 1)
        if rows % k:
            raise DataError(
                f"a batch of {k} modules got {rows} rows, expected the same number of rows for each module."
            )
        masked = rows if self.interleaved else rows // k
        if valid is not None and (tuple(valid.shape) != (masked, x.shape[1]) or valid.dtype != torch.bool):
            raise DataError(
                f"the mask of a recurrent layer is {valid.dtype} {tuple(valid.shape)}, expected booleans "
                f"{(masked, x.shape[1])}."
            )
        if initial is not None:
            self.layer.check_initial(initial, rows)

    def at_step(self, position: int) -> PrunedRecurrentLayer:
        """Return the same modules for a sequence of one timestep at ``position``; raise DataError beyond the masks."""
        removal = AtStep(self.removal, position)
        return PrunedRecurrentLayer(self.layer, removal, self.modules_count, self.opens, self.interleaved)

    def _apart(self, rows: Tensor, k: int) -> Tensor:
        """Reshape the rows of all modules to (K, N, ...)."""
        return rows.unflatten(0, (-1, k)).transpose(0, 1) if self.interleaved else rows.unflatten(0, (k, -1))

    def _together(self, values: Tensor) -> Tensor:
        """Reshape (K, N, ...) to rows, in the original order."""
        return (values.transpose(0, 1) if self.interleaved else values).flatten(0, 1)


def scan(
    layer: RecurrentLayer, x: Tensor, state: State, valid: Tensor | None = None, removal: Removal | None = None
) -> tuple[Tensor, State]:
    """Compute a recurrence timestep by timestep, for K modules in one batch.

    Args:
        layer: the layer with weights and cell.
        x: inputs (K, N, T, D), or (1, N, T, D) if all modules read the same.
        state: first state, each (K, N, H).
        valid: booleans (N, T); at False the state is kept. None for no mask.
        removal: masks of the K modules; None removes nothing.

    Returns:
        outputs (K, N, T, H), masked for the next layer and in the order of the inputs, and the last state, each
        (K, N, H).
    """
    if removal is not None:
        removal.check_steps(x.shape[2])
    cell, weight = layer.cell, layer.weight_hh
    bias = cell.candidate_bias(layer.bias_hh)
    by_steps = x.movedim(2, 0)  # (T, K, N, D): one product for all timesteps, with contiguous parts
    inputs = layer.projected(by_steps.flatten(0, 2)).unflatten(0, by_steps.shape[:3])
    steps = range(x.shape[2])
    outputs: list[Tensor] = []
    for t in reversed(steps) if layer.reverse else steps:
        held = state
        given = inputs[t]
        if removal is not None:
            state, given = removal.enters(state, t), removal.inputs(given, t)

        def product(hidden: Tensor, rows: slice, t: int = t) -> Tensor:
            own = bias if _candidate_rows(cell, rows) else None
            if removal is None:
                return linear(hidden, weight[rows], own)
            return removal.product(hidden, weight[rows], own, t)

        gates = cell.gate_values(given, state[0], product, None if removal is None else removal.gate_mask(t))
        state = cell.advance(gates, state)
        if removal is not None:
            state = removal.leaves(state, t)
        if valid is not None:
            here = valid[:, t].view(1, -1, 1)
            state = tuple(torch.where(here, new, old) for new, old in zip(state, held, strict=True))
        outputs.append(state[0])
    stacked = torch.stack(outputs[::-1] if layer.reverse else outputs).movedim(0, 2)
    if removal is None:
        return stacked, state
    last = 0 if layer.reverse else x.shape[2] - 1
    seen = removal.outputs(stacked, last)
    return seen, (seen[:, :, last], *state[1:])


def _candidate_rows(cell: Cell, rows: slice) -> bool:
    return cell.kind == "gru" and cell.reset_after and bool(rows.start)
