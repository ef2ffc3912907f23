"""Run the recurrence of joined layers without gradients, into memory that is allocated once.

For a few examples, a timestep costs the overhead of its calls. Each function here makes as few calls as it can.
Shapes: B bodies and directions, N examples, T timesteps, H units, G gates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unbraid.networks.cells import Cell, State

Scan = Callable[[Cell, Tensor, Tensor, Tensor | None, State, Tensor | None], tuple[Tensor, State]]


def fast_scan(cell: Cell) -> Scan | None:
    """Return the function that runs a cell without gradients; None if there is none, or if gradients are on.

    Arguments of the function: the cell; the input products with their biases (B, N, T, G*H); the transposed recurrent
    weights (B, H, G*H). Then the bias of the candidate (B, 1, H), the first state (B, N, H), and the valid timesteps
    (B, N, T). The bias and the timesteps can be None. It returns the outputs (B, N, T, H) and the last state.
    """
    return SCANS[cell.kind] if cell.fused and not torch.is_grad_enabled() else None


def _rnn(
    cell: Cell, inputs: Tensor, recurrent: Tensor, bias: Tensor | None, state: State, valid: Tensor | None
) -> tuple[Tensor, State]:
    activate = {"tanh": torch.tanh_, "relu": torch.relu_}[cell.activation]
    outputs, h = _outputs(inputs, state), state[0]
    for given, new, mask in _timesteps(inputs, outputs, valid):
        torch.baddbmm(given, h, recurrent, out=new)
        h = _held(mask, activate(new), h)
    return _by_example(outputs), (h,)


def _gru(
    cell: Cell, inputs: Tensor, recurrent: Tensor, bias: Tensor | None, state: State, valid: Tensor | None
) -> tuple[Tensor, State]:
    units = recurrent.shape[1]
    candidates = inputs[..., 2 * units :].clone()
    inputs[..., 2 * units :] = 0.0 if bias is None else bias.unsqueeze(2)  # the reset gate multiplies this bias
    outputs, h = _outputs(inputs, state), state[0]
    gates = torch.empty_like(inputs[:, :, 0])
    both, (r, z, product) = gates[..., : 2 * units], gates.chunk(3, dim=-1)
    steps = zip(_timesteps(inputs, outputs, valid), candidates.unbind(2), strict=True)
    for (given, new, mask), candidate in steps:
        torch.baddbmm(given, h, recurrent, out=gates)
        both.sigmoid_()
        candidate.addcmul_(r, product).tanh_()
        torch.lerp(candidate, h, z, out=new)
        h = _held(mask, new, h)
    return _by_example(outputs), (h,)


def _lstm(
    cell: Cell, inputs: Tensor, recurrent: Tensor, bias: Tensor | None, state: State, valid: Tensor | None
) -> tuple[Tensor, State]:
    outputs, (h, c) = _outputs(inputs, state), state
    c, spare, candidate = c.clone(), torch.empty_like(h), torch.empty_like(h)
    gates = torch.empty_like(inputs[:, :, 0])
    activated = torch.empty_like(gates)
    g, (i, f, _, o) = gates.chunk(4, dim=-1)[2], activated.chunk(4, dim=-1)
    for given, new, mask in _timesteps(inputs, outputs, valid):
        torch.baddbmm(given, h, recurrent, out=gates)
        torch.sigmoid(gates, out=activated)  # of the candidate too: one call is faster than two
        torch.tanh(g, out=candidate)
        torch.mul(f, c, out=spare).addcmul_(i, candidate)
        c, spare = _held(mask, spare, c), c
        torch.tanh(c, out=candidate)
        torch.mul(o, candidate, out=new)
        h = _held(mask, new, h)
    return _by_example(outputs), (h, c)


SCANS: dict[str, Scan] = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


def _outputs(inputs: Tensor, state: State) -> Tensor:
    """Allocate outputs (T, B, N, H): those of one timestep lie together."""
    return inputs.new_empty(inputs.shape[2], *state[0].shape)


def _timesteps(inputs: Tensor, outputs: Tensor, valid: Tensor | None) -> zip[tuple[Tensor, Tensor, Tensor | None]]:
    """Pair the inputs (B, N, G*H), the outputs (B, N, H) and the mask (B, N, 1) of each timestep."""
    masks: list[Tensor | None] = [None] * len(outputs) if valid is None else list(valid.unsqueeze(-1).unbind(2))
    return zip(inputs.unbind(2), outputs.unbind(0), masks, strict=True)


def _held(mask: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """Keep the old values where the mask is False; ``new`` is changed and returned."""
    return new if mask is None else torch.where(mask, new, old, out=new)


def _by_example(outputs: Tensor) -> Tensor:
    return outputs.movedim(0, 2)
