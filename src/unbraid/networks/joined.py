"""Join bodies of one structure and equal sizes, so that a small batch runs through all of them at once.

For a few examples, most of the time of a pass is the overhead of many small calls. One call for K bodies takes about as
long as one call for one body.
Shapes: N examples, T timesteps, D inputs, H units, G gates, K bodies.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import singledispatch

import torch
from torch import Tensor, nn

from unbraid.errors import UnbraidError
from unbraid.networks.cells import ACTIVATIONS, State
from unbraid.networks.joined_scan import fast_scan
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stages import Dense, Recurrent, Signal, StageSequence
from unbraid.networks.step_layer import zero_state

OPERANDS = ("bias", "recurrent", "inputs")  # made of the stacked weights of a joined layer


class NotJoinable(UnbraidError):
    """A joined body cannot run on these inputs, so the bodies run one by one. Users never see this error."""


class JoinedWeights(nn.Module):
    """Copies of the weights of K parts of equal shapes, stacked.

    Args:
        parts: K modules with parameters of equal names and shapes.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self._parts = tuple(parts)  # not submodules: they belong to other modules
        self._names = [name for name, _ in parts[0].named_parameters()]
        for name in self._names:
            stacked = torch.stack([part.get_parameter(name).detach() for part in parts])
            self.register_buffer(name, stacked, persistent=False)

    def holds(self) -> bool:
        """Return whether the weights of all parts are unchanged."""
        for name in self._names:
            now, own = [part._parameters[name] for part in self._parts], self._buffers[name]
            first = now[0]
            if first is None or own is None or first.dtype != own.dtype or first.device != own.device:
                return False
            if any(other is None or other.shape != first.shape for other in now) or first.shape != own.shape[1:]:
                return False
            if not torch.equal(torch.stack([other.detach() for other in now if other is not None]), own):
                return False
        return True

    def trainable(self) -> list[nn.Parameter]:
        """Make the stacked weights parameters, and return them."""
        for name in self._names:
            value = self._buffers.pop(name)
            assert value is not None
            self.register_parameter(name, nn.Parameter(value))
        return [self.get_parameter(name) for name in self._names]

    def store(self) -> None:
        """Copy weights that :meth:`trainable` made into the K parts."""
        for name in self._names:
            for part, own in zip(self._parts, self.get_parameter(name).detach(), strict=True):
                part.get_parameter(name).data.copy_(own)

    def made_of(self) -> tuple[nn.Module, ...]:
        """Return the K parts."""
        return self._parts


class JoinedRecurrent(JoinedWeights):
    """One or two directions of K recurrent layers of one cell and equal sizes. Rows are (K*N, ...), ordered by body.

    Args:
        directions: for each direction, the layers of the K bodies.
        opens: whether all bodies read the same inputs (N, T, D).

    Attributes:
        own_rows: whether each body has examples of its own, so that the mask has K*N rows too.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def __init__(self, directions: Sequence[Sequence[RecurrentLayer]], opens: bool) -> None:
        layers = [layer for alike in directions for layer in alike]
        super().__init__(layers)
        self.cell, self.units, self.opens, self.bodies = layers[0].cell, layers[0].units, opens, len(directions[0])
        self.reversed = [alike[0].reverse for alike in directions]
        self.own_rows = False
        for name, value in zip(OPERANDS, self._operands(), strict=True):
            self.register_buffer(name, value, persistent=False)

    def trainable(self) -> list[nn.Parameter]:
        """Make the stacked weights parameters, and return them."""
        for name in OPERANDS:
            del self._buffers[name]  # they are computed in each pass from now on
        return super().trainable()

    def _operands(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bias (K, 1, G*H), and the weights of the state and of the inputs, both transposed."""
        bias = torch.stack([self.cell.input_bias(i, h) for i, h in zip(self.bias_ih, self.bias_hh, strict=True)])
        return bias.unsqueeze(1), self.weight_hh.transpose(1, 2).contiguous(), self.weight_ih.transpose(1, 2)

    def forward(
        self, x: Tensor, valid: Tensor | None = None, initial: Sequence[State] | None = None
    ) -> list[tuple[Tensor, State]]:
        """Compute the outputs (K*N, T, H) and the last state, each tensor (K*N, H), of each direction.

        Args:
            x: (N, T, D) if ``opens``, else (K*N, T, D).
            valid: booleans (N, T), or (K*N, T) with ``own_rows``. The state does not change where they are False.
            initial: first state of each direction, each tensor (K*N, H); zeros by default.
        """
        x = x.expand(self.bodies, *x.shape) if self.opens else x.unflatten(0, (self.bodies, -1))
        mask = None
        if valid is not None:
            apart = valid.unflatten(0, (self.bodies, -1)) if self.own_rows else valid.expand(self.bodies, *valid.shape)
            mask = torch.cat([self._turned(apart, back) for back in self.reversed])
        read = torch.cat([self._turned(x, back) for back in self.reversed])
        if initial is None:
            first = zero_state(self.cell, read.shape[:2].numel(), self.units, x)
        else:
            first = tuple(torch.cat(parts) for parts in zip(*initial, strict=True))
        outputs, state = self._scan(read, tuple(s.unflatten(0, read.shape[:2]) for s in first), mask)
        found = []
        for place, back in enumerate(self.reversed):
            own = slice(place * self.bodies, (place + 1) * self.bodies)
            found.append((self._turned(outputs[own], back).flatten(0, 1), tuple(s[own].flatten(0, 1) for s in state)))
        return found

    @staticmethod
    def _turned(values: Tensor, back: bool) -> Tensor:
        """Return values (K, N, T, ...) in the order of reading."""
        return values.flip(2) if back else values

    def _scan(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """Run the recurrence over x (B, N, T, D), B bodies in each direction; return outputs (B, N, T, H)."""
        made = OPERANDS[0] in self._buffers
        first, recurrent, read = map(self.get_buffer, OPERANDS) if made else self._operands()
        bias = self.cell.candidate_bias(self.bias_hh.t())  # (H, B) or None
        own_bias = None if bias is None else bias.t().unsqueeze(1)
        inputs = torch.baddbmm(first, x.flatten(1, 2), read)
        inputs = inputs.unflatten(1, x.shape[1:3])
        if (fast := fast_scan(self.cell)) is not None:
            return fast(self.cell, inputs, recurrent, own_bias, state, valid)

        def product(hidden: Tensor, rows: slice) -> Tensor:
            found = torch.bmm(hidden, recurrent[..., rows])
            own = bool(rows.start)  # the candidate comes last
            return found if not own or own_bias is None else found + own_bias

        outputs: list[Tensor] = []
        for t, given in enumerate(inputs.unbind(2)):
            held = state
            state = self.cell.advance(self.cell.gate_values(given, state[0], product), state)
            if valid is not None:
                here = valid[:, :, t].unsqueeze(-1)
                state = tuple(torch.where(here, new, old) for new, old in zip(state, held, strict=True))
            outputs.append(state[0])
        return torch.stack(outputs, dim=2), state


class JoinedStage(Recurrent):
    """The recurrent stages of K bodies. Rows are (K*N, ...), ordered by body."""

    def __init__(self, stage: Recurrent, joined: JoinedRecurrent) -> None:
        nn.Module.__init__(self)
        self.sequences, self.merge, self.flip, self.joined = stage.sequences, stage.merge, stage.flip, joined

    def read(self, x: Tensor, mask: Tensor | None) -> list[tuple[Tensor, State]]:
        """Compute the outputs and the last state of each direction."""
        found: list[tuple[Tensor, State]] = self.joined(x, mask)
        return found


class JoinedDense(JoinedWeights):
    """K dense layers. Rows are (K*N, ...), ordered by body.

    Args:
        layers: the layers of the K bodies.
        opens: whether all bodies read the same inputs (N, ...).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, layers: Sequence[Dense], opens: bool) -> None:
        super().__init__(layers)
        self.activation, self.opens = layers[0].activation, opens

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        """Compute act(W x + b) of each body."""
        bodies = len(self.weight)
        own = x.expand(bodies, *x.shape) if self.opens else x.unflatten(0, (bodies, -1))
        found = torch.baddbmm(self.bias.unsqueeze(1), own.flatten(1, -2), self.weight.transpose(1, 2))
        return ACTIVATIONS[self.activation](found.view(*own.shape[:-1], -1).flatten(0, 1)), mask


@singledispatch
def joined(first: nn.Module, bodies: Sequence[nn.Module]) -> nn.Module | None:
    """Join bodies into one whose ``rest`` returns the features of all bodies, (K*N, [T,] F), ordered by body.

    Args:
        first: the first of the bodies.
        bodies: K bodies of one parent network.

    Returns:
        the joined body; None if structures or sizes differ, or if the structure is not supported.
    """
    return None


@joined.register
def _(first: StageSequence, bodies: Sequence[nn.Module]) -> StageSequence | None:
    stages: list[nn.Module] = []
    for place, stage in enumerate(first.stages):
        opens = place == first.start
        alike: list[nn.Module] = [body.stages[place] for body in bodies]  # type: ignore[index,misc]  # all are StageSequences
        made: nn.Module | None = stage
        if isinstance(stage, Recurrent):
            made = _joined_stage(stage, alike, opens)
        elif isinstance(stage, Dense) and place >= first.start:
            made = JoinedDense(alike, opens) if equal_shapes(alike) else None  # type: ignore[arg-type]
        if made is None:
            return None
        stages.append(made)
    found = StageSequence([], first.features)
    found.specs, found.stages, found.start = first.specs, nn.ModuleList(stages), first.start
    return found


def _joined_stage(stage: Recurrent, alike: Sequence[nn.Module], opens: bool) -> JoinedStage | None:
    names = ("forward_layer", "backward_layer") if stage.backward_layer is not None else ("forward_layer",)
    directions = [[getattr(other, name) for other in alike] for name in names]
    layers = [layer for direction in directions for layer in direction]
    if not all(isinstance(layer, RecurrentLayer) for layer in layers) or not equal_shapes(layers):
        return None
    return JoinedStage(stage, JoinedRecurrent(directions, opens))


def equal_shapes(parts: Sequence[nn.Module]) -> bool:
    """Return whether all parts have parameters of equal shapes, none of them empty."""
    shapes = [[tuple(p.shape) for p in part.parameters()] for part in parts]
    return all(shape == shapes[0] for shape in shapes) and all(0 not in shape for shape in shapes[0])


def holds(body: nn.Module) -> bool:
    """Return whether the weights that a joined body was made of are unchanged."""
    own = getattr(body, "holds", None)
    return (own is None or own()) and all(part.holds() for part in body.modules() if isinstance(part, JoinedWeights))


def trained_apart(body: nn.Module, parameters: Collection[nn.Parameter]) -> list[JoinedWeights]:
    """Prepare a joined body for training, in which each of the K bodies reads rows of its own, (K*N, ...).

    Args:
        body: a joined body of stages.
        parameters: parameters of the first of the bodies. The other weights stay as they are.

    Returns:
        the parts of the body whose weights are parameters now.
    """
    wanted, found = {id(parameter) for parameter in parameters}, []
    for part in body.modules():
        if isinstance(part, JoinedRecurrent):
            part.own_rows = True
        if isinstance(part, JoinedRecurrent | JoinedDense):
            part.opens = False
        if isinstance(part, JoinedWeights) and wanted.issuperset(map(id, part.made_of()[0].parameters())):
            part.trainable()
            found.append(part)
    return found
