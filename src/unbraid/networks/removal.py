"""Remove nodes in a scan with masks on values, so that modules need no copy of the parent's weights.

Shapes: K modules in one batch, N examples, T timesteps, H hidden units, G gates. Masks are floats, 1 for kept nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.errors import DataError
from unbraid.networks.cells import State


class Removal(nn.Module):
    """Base class of the forms of removal; removes nothing.

    Args:
        kept: masks (K, T, H), or (K, T, G*H) for gates. T is 1 for a mask of all timesteps.
    """

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)  # not part of the state dict

    def check_steps(self, steps: int) -> None:
        """Raise DataError for a sequence that is longer than the masks."""
        if 1 < self.kept.shape[1] < steps:
            raise DataError(
                f"inputs have {steps} timesteps, the unrolled modules were made for {self.kept.shape[1]}: truncate "
                "them, or decompose with mode='rolled'."
            )

    def later(self, offset: int, steps: int) -> Removal:
        """Return the removal for the next ``steps`` timesteps of a layer, after ``offset`` timesteps in this pass."""
        self.check_steps(offset + steps)
        if self.kept.shape[1] == 1 or (offset == 0 and steps == self.kept.shape[1]):
            return self
        return AtStep(self, offset) if steps == 1 else type(self)(self.kept[:, offset : offset + steps])

    def only(self, module: int) -> Removal:
        """Return the removal of one of the K modules."""
        return type(self)(self.kept[module : module + 1])

    def at(self, t: int) -> Tensor:
        """Return the mask of timestep ``t``, (K, 1, H or G*H)."""
        return self.kept[:, t if self.kept.shape[1] > 1 else 0].unsqueeze(1)

    def enters(self, state: State, t: int) -> State:
        """Mask the state before timestep ``t``."""
        return state

    def leaves(self, state: State, t: int) -> State:
        """Mask the state after timestep ``t``."""
        return state

    def inputs(self, inputs: Tensor, t: int) -> Tensor:
        """Mask W x + b, (K or 1, N, G*H)."""
        return inputs

    def product(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, t: int) -> Tensor:
        """Multiply h (K, N, H) by rows of U, ``weight`` (rows, H), and add the bias if it belongs to the product."""
        return linear(hidden, weight, bias)

    def gate_mask(self, t: int) -> Tensor | None:
        """Return the factor of the pre-activations, (K, 1, G*H), or None."""
        return None

    def outputs(self, outputs: Tensor, last: int) -> Tensor:
        """Mask the outputs (K, N, T, H) for the next layer; ``last`` is the last timestep read."""
        return outputs


class NodesGone(Removal):
    """Remove nodes with all their edges at their timesteps; their state is 0 (as in the text of the paper)."""

    def enters(self, state: State, t: int) -> State:
        return tuple(s * self.at(t) for s in state)

    def leaves(self, state: State, t: int) -> State:
        return self.enters(state, t)


class GatesGone(Removal):
    """Remove gates: their columns of W, U and b are 0; the node stays (the second approach of the paper)."""

    def gate_mask(self, t: int) -> Tensor:
        return self.at(t)


class ReleaseEdges(Removal):
    """Remove those edges of an unrolled node that the code of the paper removes.

    These are the columns of W and b, and the entries of U between two removed nodes. The row of the next layer is
    removed at the last timestep only. The state of a removed LSTM or GRU node is not 0, but h = 0.5 * tanh(0.5 * c).
    """

    def _tiled(self, t: int, width: int) -> Tensor:
        kept = self.at(t)
        return kept.repeat(1, 1, width // kept.shape[-1])

    def inputs(self, inputs: Tensor, t: int) -> Tensor:
        return inputs * self._tiled(t, inputs.shape[-1])

    def product(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, t: int) -> Tensor:
        kept = self._tiled(t, weight.shape[0])
        between = linear(hidden * (1 - self.at(t)), weight) * (1 - kept)
        return linear(hidden, weight) - between + (0 if bias is None else bias * kept)

    def outputs(self, outputs: Tensor, last: int) -> Tensor:
        seen = (outputs[:, :, last] * self.at(last)).unsqueeze(2)
        return torch.cat([outputs[:, :, :last], seen, outputs[:, :, last + 1 :]], dim=2)


class AtStep(Removal):
    """One timestep of another removal, for sequences that are generated word by word.

    Args:
        whole: the removal of all timesteps.
        position: index of the timestep.

    Raises:
        DataError: the position is after the last timestep.
    """

    def __init__(self, whole: Removal, position: int) -> None:
        whole.check_steps(position + 1)
        steps = whole.kept.shape[1]
        at = position if steps > 1 else 0
        super().__init__(whole.kept[:, at : at + 1])
        self.one, self.final = type(whole)(self.kept), position + 1 == steps

    def enters(self, state: State, t: int) -> State:
        return self.one.enters(state, 0)

    def leaves(self, state: State, t: int) -> State:
        return self.one.leaves(state, 0)

    def inputs(self, inputs: Tensor, t: int) -> Tensor:
        return self.one.inputs(inputs, 0)

    def product(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, t: int) -> Tensor:
        return self.one.product(hidden, weight, bias, 0)

    def gate_mask(self, t: int) -> Tensor | None:
        return self.one.gate_mask(0)

    def outputs(self, outputs: Tensor, last: int) -> Tensor:
        return self.one.outputs(outputs, 0) if self.final else outputs


class Probe(Removal):
    """Add zeros to all hidden states, to compute gradients at each timestep; remove nothing."""

    def __init__(self) -> None:
        super().__init__(torch.ones(1, 1, 1))
        self._reached: list[tuple[Tensor, Tensor]] = []  # zeros that require gradients, and the state, (K, N, H)

    def leaves(self, state: State, t: int) -> State:
        zeros = torch.zeros_like(state[0], requires_grad=True)
        self._reached.append((zeros, state[0].detach()))
        return (state[0] + zeros, *state[1:])

    def only(self, module: int) -> Removal:
        return self

    def saliences(self, sizes: Sequence[int] | None = None) -> list[Tensor]:
        """Sum (gradient * state) squared over examples and timesteps, (H,) float64.

        Args:
            sizes: numbers of successive examples; each has its own sum. None (default): one sum of all.
        """
        reached = [(zeros.grad, state) for zeros, state in self._reached if zeros.grad is not None]
        if not reached:
            states = self._reached[0][1]
            zero = states.new_zeros(states.shape[-1], dtype=torch.float64)
            return [zero] * (1 if sizes is None else len(sizes))
        squares = [(slopes * state).double().square().sum(0) for slopes, state in reached]  # (N, H) each
        if sizes is None:
            return [torch.stack([own.sum(0) for own in squares]).sum(0)]
        return [part.sum(0) for part in torch.stack(squares).sum(0).split(list(sizes))]
