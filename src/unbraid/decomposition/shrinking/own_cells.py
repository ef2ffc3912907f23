"""Smaller cells of users' own classes, fitted as :mod:`unbraid.decomposition.reconstruction.own_refit` does.

Shapes: N examples, T timesteps, D inputs, H' kept units, M observations, Z inputs and R outputs of a linear map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from unbraid.decomposition.reconstruction.folding import fold, rest
from unbraid.decomposition.reconstruction.moments import with_one
from unbraid.decomposition.reconstruction.own_refit import fit_map, map_places
from unbraid.decomposition.reconstruction.regression import JUDGING, Regression
from unbraid.decomposition.shrinking.running import Call, runs
from unbraid.decomposition.shrinking.wrapped_graph import expanded
from unbraid.networks.cells import State
from unbraid.networks.inputs import map_tree
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.own_stack import OwnStack
from unbraid.networks.pytorch.plain import narrow_stack
from unbraid.networks.pytorch.replacing import copied


class OwnCall(NamedTuple):
    """One call of an own layer.

    Attributes:
        x: its inputs, (N, T, D).
        initial: the first states (N, H), or None.
        outputs: (N, T, H).
        last: the last states, (N, H).
    """

    x: Tensor
    initial: State | None
    outputs: Tensor
    last: State

    def values(self, place: int) -> Tensor:
        """Return values (M, H) of a state; of the first one those of all timesteps."""
        return self.outputs.flatten(0, 1) if place == 0 else self.last[place]


class ShrunkOwn(nn.Module):
    """A smaller cell of a user's own class, called as the original, with a linear expansion of all that it returns.

    Args:
        cell: the smaller cell.
        units: name of its attribute with the number of units.
        hidden_size: H.
        kept: the units that it has, (H',).
        expansions: of each state, (S, H, H' + 1) with the bias as the last column.
        places: index of the state for each tensor of a result.
    """

    kept: Tensor

    def __init__(
        self, cell: nn.Module, units: str, hidden_size: int, kept: Tensor, expansions: Tensor, places: Sequence[int]
    ) -> None:
        super().__init__()
        self.cell, self.places = cell, list(places)
        setattr(self, units, hidden_size)
        self.width = hidden_size
        self.register_buffer("kept", kept)
        self.expansions = nn.Parameter(expansions)

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Run as the class of the cell does."""

        def narrow(leaf: Any) -> Any:
            state = isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[-1] == self.width
            return leaf[..., self.kept] if state else leaf

        args, kwargs = map_tree(narrow, (args, kwargs))
        rows = iter([self.expansions[place] for place in self.places])
        return map_tree(
            lambda leaf: expanded(leaf, next(rows)) if isinstance(leaf, Tensor) else leaf, self.cell(x, *args, **kwargs)
        )


class ShrunkOwnStack(nn.Module):
    """The same around the stack of a smaller cell, while it is fitted."""

    def __init__(self, layer: OwnStack, hidden_size: int, kept: Tensor, expansions: Tensor) -> None:
        super().__init__()
        self.layer, self.frame = layer, ShrunkOwn(layer, "width", hidden_size, kept, expansions, places_of(layer))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the original."""
        return self.frame(*args, **kwargs)

    def plain(self) -> ShrunkOwn:
        """Make the module that takes the place of the user's cell."""
        form, frame = self.layer.own_layer.form, self.frame
        expansions = frame.expansions.detach().clone()
        cell = copied(self.layer.own_layer.own)
        return ShrunkOwn(cell, form.units, frame.width, frame.kept.clone(), expansions, frame.places)


def places_of(stack: OwnStack) -> list[int]:
    """Return the index of the state for each tensor of the results of a cell, [] if that changes between calls."""
    found = {tuple(max(role.place, 0) for role in roles) for roles in stack.roles()}
    return list(next(iter(found))) if len(found) == 1 else []


def expanding(stack: OwnStack, kept: Tensor, calls: Sequence[OwnCall]) -> Tensor:
    """Expansions (S, H, H' + 1) of all states from the kept units of the parent."""
    units, rows = stack.hidden_size, []
    joint = torch.cat([kept, torch.tensor([units])])
    for place in range(stack.cell.states):
        z = with_one(torch.cat([call.values(place) for call in calls]))
        moment = (z.t() @ z).double() / len(z)
        rows.append(fold(pad(torch.eye(units, dtype=z.dtype), (0, 1)), moment, joint, rest(units + 1, joint)))
    return torch.stack(rows)


def own_view(part: nn.Module, made: Call) -> OwnCall:
    """Make the view of :func:`~unbraid.decomposition.shrinking.running.runs` of an own layer."""
    outputs, last = made.result
    return OwnCall(made.args[0], made.args[2] if len(made.args) > 2 else None, outputs, last)


def small_own(
    stack: OwnStack, kept: Tensor, columns: Tensor | None, calls: Sequence[OwnCall], narrow: bool
) -> nn.Module:
    """Make a stack whose cell is of the same class, with the units ``kept`` and the inputs ``columns`` (None: all).

    Unless it is ``narrow``, its results get the old size by an expansion.
    """
    layer = stack.own_layer.sliced(kept, columns)
    small = narrow_stack(stack, [layer.requires_grad_(False)], layer.inputs)
    if narrow or len(kept) == stack.hidden_size:
        return small
    assert isinstance(small, OwnStack)
    return ShrunkOwnStack(small, stack.hidden_size, kept, expanding(stack, kept, calls)).requires_grad_(False)


def fit_own_stack(
    small: nn.Module,
    path: str,
    stack: OwnStack,
    kept: Tensor,
    columns: Tensor | None,
    batches: Sequence[Any],
    calls: Sequence[OwnCall],
) -> None:
    """Fit the linear maps of a smaller cell in place, to their outputs in the parent.

    Args:
        small: the smaller module.
        path: of the stack.
        stack: of the parent.
        kept: indices of its kept units, (H',).
        columns: the inputs that remain; None: all.
        batches: inputs of the module.
        calls: those of the cell in the parent.
    """
    whole, part = stack.own_layer, small.get_submodule(path)
    inside = f"{path}.layer" if isinstance(part, ShrunkOwnStack) else path
    own_stack = small.get_submodule(inside)
    assert isinstance(own_stack, OwnStack)
    cut = own_stack.own_layer
    wanted = _readings(whole, calls)
    places = {key: [map_places(whole, kept, key, side, columns) for side in (0, 1)] for key in wanted}
    shorter = {key: (x[:, places[key][1]], y[:, places[key][0]]) for key, (x, y) in wanted.items()}
    for inputs_too in (False, True):
        own = _readings(cut, _calls(small, f"{inside}.layers.0", batches)) if inputs_too else {}
        for key, (x, y) in shorter.items():
            if inputs_too and (key not in own or own[key][0].shape != x.shape):
                continue
            order = torch.from_numpy(np.argsort(np.arange(len(x)) % JUDGING != 0, kind="stable"))
            inputs = [own[key][0], x] if inputs_too else [x]
            weights = np.ones((len(x), 1), np.float32)
            rows = [values[order].unsqueeze(1) for values in (*inputs, y)]
            fit_map(cut, key, key in whole.turned, rows[:-1], rows[-1], weights)
    if isinstance(part, ShrunkOwnStack):
        _refit_expansions(part, kept, _calls(small, f"{inside}.layers.0", batches), calls)


def _refit_expansions(part: ShrunkOwnStack, kept: Tensor, own: Sequence[OwnCall], parent: Sequence[OwnCall]) -> None:
    """Fit the rows of the removed units to the values that the smaller cell gives."""
    rows = part.frame.expansions
    gone = rest(rows.shape[1], kept)
    for place in range(len(rows)):
        read, wanted = (torch.cat([call.values(place) for call in calls]) for calls in (own, parent))
        regression = Regression(rows[place].detach()[gone])
        regression.add(with_one(read), wanted[:, gone], torch.arange(len(read)) % JUDGING == 0)
        rows.data[place, gone] = regression.solved()


def _calls(module: nn.Module, path: str, batches: Sequence[Any]) -> list[OwnCall]:
    with torch.no_grad():
        return [call for seen, _ in runs(module, batches, [path], own_view) for call in seen[path]]


def _readings(layer: OwnLayer, calls: Sequence[OwnCall]) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs (M, Z) and outputs (M, R) of the linear maps of a cell at all timesteps of all calls."""
    with torch.no_grad():
        each = [layer.readings(call.x, call.initial) for call in calls]
    keys = set.intersection(*(set(found) for found in each)) if each else set()
    return {
        key: (
            torch.cat([found[key].inputs.flatten(0, 1) for found in each]),
            torch.cat([found[key].outputs.flatten(0, 1) for found in each]),
        )
        for key in layer.maps()
        if key in keys
    }
