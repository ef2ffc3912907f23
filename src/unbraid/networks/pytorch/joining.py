"""Join bodies that are PyTorch modules: the user's forward runs once over K copies of each example.

Shapes: N examples, T timesteps, D inputs, H units of the parent, H' units of the smaller layers, K bodies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unbraid.networks.cells import State
from unbraid.networks.joined import JoinedRecurrent, NotJoinable, equal_shapes, joined
from unbraid.networks.passes import current
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.snapshot import unchanged
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.torch_spec import TorchRun


class JoinedStack(RecurrentStack):
    """The recurrent stacks of K bodies. Rows are (N*K, ...), ordered by example.

    Args:
        stacks: K stacks of equal sizes.
        levels: for each level the joined layers of all bodies.
    """

    def __init__(self, stacks: Sequence[RecurrentStack], levels: list[JoinedRecurrent]) -> None:
        nn.Module.__init__(self)
        own = {name: value for name, value in vars(stacks[0]).items() if not name.startswith("_")}
        self.__dict__.update(own)
        self.layers = nn.ModuleList(levels)
        self.bodies = len(stacks)
        kept = [[stack.kept[place] for stack in stacks] for place in range(len(stacks[0].kept))]
        self.places = [None if None in alike else torch.stack(alike) for alike in kept]  # type: ignore[arg-type]

    def _check_states(self, states: State, x: Tensor) -> None:
        here = current()
        if here is None or x.shape[0] != here.rows:
            raise NotJoinable(f"{x.shape[0]} sequences")
        if states and any(state.shape[1] != x.shape[0] for state in states):
            raise NotJoinable("states of another number of sequences")

    def _levels(self, x: Tensor, valid: Tensor | None, initial: State) -> tuple[Tensor, State]:
        k = self.bodies
        x = x.unflatten(0, (-1, k)).transpose(0, 1).flatten(0, 1)  # ordered by body
        finals: list[State] = []
        for level, layers in enumerate(self.layers):
            own = range(level * self.directions, (level + 1) * self.directions)
            first = [tuple(self._cut(s[place], place) for s in initial) for place in own] if initial else None
            found = layers(x, None if valid is None else valid[::k], first)
            finals += [tuple(self._put(s, place) for s in state) for place, (_, state) in zip(own, found, strict=True)]
            outs = [out for out, _ in found]
            if level == self.num_layers - 1:
                outs = [self._put(out, place) for place, out in zip(own, outs, strict=True)]
            x = torch.cat(outs, dim=-1)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _cut(self, state: Tensor, place: int) -> Tensor:
        """Select the units of each body from states (N*K, H); return (K*N, H')."""
        apart, kept = state.unflatten(0, (-1, self.bodies)).transpose(0, 1), self.places[place]
        if kept is not None:
            apart = apart.gather(-1, kept.to(apart.device).unsqueeze(1).expand(-1, apart.shape[1], -1))
        return apart.flatten(0, 1)

    def _put(self, values: Tensor, place: int) -> Tensor:
        """Move values (K*N, [T,] H') to the positions of their units and the order of rows; return (N*K, [T,] H)."""
        values, kept = values.unflatten(0, (self.bodies, -1)).transpose(0, 1), self.places[place]
        if kept is not None:
            index = kept.to(values.device).view(1, self.bodies, *[1] * (values.dim() - 3), -1).expand(values.shape)
            values = values.new_zeros(*values.shape[:-1], self.hidden_size).scatter(-1, index, values)
        return values.flatten(0, 1)


class JoinedTorchBody(TorchBody):
    """A body that runs K bodies at once. :meth:`holds` checks that all other weights of the bodies are equal."""

    def __init__(self, bodies: Sequence[TorchBody], stacks: dict[str, JoinedStack]) -> None:
        exchanged = bodies[0].exchanged(stacks, len(bodies))
        super().__init__(exchanged.module, bodies[0].spec, len(bodies), whole=False)
        self._bodies = tuple(bodies)  # not submodules: they belong to other modules

    def holds(self) -> bool:
        """Return whether the weights outside the recurrent layers are equal in all bodies."""
        first, *others = [_outside(body) for body in self._bodies]
        return all(len(first) == len(other) and all(map(_same, first, other)) for other in [*others, _outside(self)])


@joined.register
def _(first: TorchBody, bodies: Sequence[nn.Module]) -> JoinedTorchBody | None:
    alike = [body for body in bodies if isinstance(body, TorchBody)]
    plain = first.spec.run.model_copy(update={"layout": "rows", "pick": "all", "axes": None, "lists": []})
    if len(alike) < len(bodies) or plain != TorchRun() or first.copies > 1:
        return None
    stacks = {site: _joined_stack([body.stacks()[site] for body in alike]) for site in first.stacks()}
    if any(stack is None for stack in stacks.values()):
        return None
    found = JoinedTorchBody(alike, stacks)  # type: ignore[arg-type]  # none is None
    return found if found.holds() else None


def _joined_stack(stacks: Sequence[RecurrentStack]) -> JoinedStack | None:
    first, levels = stacks[0], []
    if any(type(stack) is not RecurrentStack or stack.proj_size or stack.fold for stack in stacks):
        return None
    for level in range(first.num_layers):
        own = range(level * first.directions, (level + 1) * first.directions)
        directions = [[stack.layers[place] for stack in stacks] for place in own]
        layers = [layer for direction in directions for layer in direction]
        if not all(isinstance(layer, RecurrentLayer) for layer in layers) or not equal_shapes(layers):
            return None
        levels.append(JoinedRecurrent(directions, opens=False))  # type: ignore[arg-type]  # all are RecurrentLayers
    if len({tuple(None if kept is None else len(kept) for kept in stack.kept) for stack in stacks}) > 1:
        return None
    return JoinedStack(stacks, levels)


def _outside(body: TorchBody) -> list[Tensor]:
    """Return the parameters and buffers outside the recurrent layers."""
    inside = {id(part) for stack in body.stacks().values() for part in stack.modules()}
    parts = [part for part in body.module.modules() if id(part) not in inside]
    return [t for part in parts for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or unchanged(one, other)
