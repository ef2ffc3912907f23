"""Make the smaller layers of a user's module, and fit each to the values that the layer has in the parent.

First the removed units are folded into the kept ones by the moments of the parent's values. Then the layers are fitted
in the order of computation, each on the inputs that the smaller module gives it. No labels and no gradient steps are
used. Shapes: N examples, T timesteps, D inputs, H units, H' kept units, S levels times directions, Z entries of z.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from unbraid.decomposition.reconstruction.folding import fold, fold_layer, rest
from unbraid.decomposition.reconstruction.layer_refit import fit_layer
from unbraid.decomposition.reconstruction.moments import RESET, before, valid_steps, with_one
from unbraid.decomposition.reconstruction.regression import JUDGING, Regression
from unbraid.decomposition.reconstruction.states import States
from unbraid.decomposition.shrinking.linears import (
    cut_linear,
    fit_linear,
    fold_linear,
    linear_paths,
    linear_view,
    moment,
)
from unbraid.decomposition.shrinking.narrowing import Plan
from unbraid.decomposition.shrinking.own_cells import OwnCall, fit_own_stack, own_view, small_own
from unbraid.decomposition.shrinking.running import Call, runs
from unbraid.decomposition.shrinking.wrapped_graph import ShrunkGraphLayer
from unbraid.networks.graph.recurrence import KerasRecurrent
from unbraid.networks.layers import Layer, gate_rows, slice_layer
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.own_stack import OwnStack
from unbraid.networks.pytorch.plain import narrow_stack
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.pytorch.wrapped import ShrunkCell, ShrunkRecurrent
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stack import CellStack, RecurrentStack

WRAPPERS: dict[type[RecurrentStack], type[ShrunkRecurrent]] = {
    RecurrentStack: ShrunkRecurrent,
    CellStack: ShrunkCell,
    KerasRecurrent: ShrunkGraphLayer,
}


@dataclass(frozen=True)
class Seen:
    """What a recurrent layer of one direction read and gave.

    Attributes:
        states: its inputs and previous hidden states.
        outputs: (N, T, H).
        cells: last cell states of an LSTM, (N, H).
    """

    states: States
    outputs: Tensor
    cells: Tensor | None


@dataclass(frozen=True)
class Sample:
    """Examples to fit on, and the values of the parent on them.

    Attributes:
        batches: inputs of the module.
        layers: path of a recurrent stack -> values of each level and direction.
        linears: path of an nn.Linear -> its inputs (M, F) and outputs (M, C).
        own: path of a user's own cell -> its calls.
    """

    batches: Sequence[Any]
    layers: dict[str, list[Seen]]
    linears: dict[str, tuple[Tensor, Tensor]]
    own: dict[str, list[OwnCall]]


def observe(
    module: nn.Module, batches: Sequence[Any], stacks: Mapping[str, RecurrentStack], linears: Sequence[str]
) -> Sample:
    """Run the parent, with RecurrentStacks in it, and hold what its layers read and give."""
    parts = {f"{path}.layers.{place}": path for path, stack in stacks.items() for place in range(len(stack.layers))}
    held: dict[str, list[Any]] = {}
    with torch.no_grad():
        for seen, _ in runs(module, batches, [*parts, *linears], _view):
            for path, values in seen.items():
                held.setdefault(path, []).extend(values)
    layers: dict[str, list[Seen]] = {path: [] for path in stacks}
    own: dict[str, list[OwnCall]] = {}
    for part, path in parts.items():
        if isinstance(stacks[path], OwnStack):
            own[path] = held[part]
        else:
            layers[path].append(_joined(held[part]))
    return Sample(batches, layers, {path: _flat(held[path]) for path in linears if path in held}, own)


def build(
    module: nn.Module,
    stacks: Mapping[str, RecurrentStack],
    kept: Mapping[str, list[Tensor]],
    plan: Plan,
    sample: Sample,
) -> nn.Module:
    """Copy a module with smaller layers, folded by the moments of the parent.

    Args:
        module: the parent with RecurrentStacks in it.
        stacks: path -> stack of the parent.
        kept: path -> kept units of each level and direction; layers that stay as they are are missing. Linear layers
            have one entry.
        plan: which layers are narrower, and which columns the layers behind them still read.
        sample: values of the parent.
    """
    memo: dict[int, Any] = {id(p): p for p in module.parameters()}
    for path, stack in stacks.items():
        columns = plan.columns.get(path)
        if path in kept or columns is not None:
            own = kept.get(path) or [torch.arange(stack.hidden_size)] * len(stack.layers)
            if isinstance(stack, OwnStack):
                memo[id(stack)] = small_own(stack, own[0], columns, sample.own[path], path in plan.narrow)
                continue
            memo[id(stack)] = _small(path, stack, own, columns, sample.layers[path], path in plan.narrow)
    small = copied(module, memo)
    for path in linear_paths(stacks, plan):
        linear = small.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        if path in plan.columns:
            fold_linear(linear, plan.columns[path], sample.linears[path][0])
        if path in kept:
            cut_linear(linear, kept[path][0])
    for (path, name), value in plan.attributes.items():
        setattr(small.get_submodule(path), name, value)
    return small


def fit(
    small: nn.Module,
    stacks: Mapping[str, RecurrentStack],
    kept: Mapping[str, list[Tensor]],
    plan: Plan,
    order: Sequence[str],
    sample: Sample,
    loops: Collection[str] = (),
) -> None:
    """Fit the layers of ``small`` in place, in the given order of computation; see :func:`build`.

    Linear layers of ``loops`` run several times, and may read their own earlier outputs.
    """
    for path in order:
        if path in kept and path in stacks:
            _fit_stack(small, path, stacks[path], kept[path], sample, plan.columns.get(path))
        elif path in plan.columns and path in stacks:
            everything = [torch.arange(stacks[path].hidden_size)] * len(stacks[path].layers)
            _fit_stack(small, path, stacks[path], everything, sample, plan.columns[path])
        elif path in plan.columns:
            inputs, wanted = sample.linears[path]
            wanted = wanted[:, kept[path][0]] if path in kept else wanted
            fit_linear(small, path, sample.batches, wanted, inputs[:, plan.columns[path]] if path in loops else None)


def stack_of(part: nn.Module) -> tuple[str, RecurrentStack]:
    """Return the recurrent stack of a smaller layer, and its path within the part."""
    if isinstance(part, ShrunkRecurrent):
        assert isinstance(part.layer, RecurrentStack)
        return ".layer", part.layer
    assert isinstance(part, RecurrentStack)
    return "", part


def _small_projected(
    stack: RecurrentStack, kept: list[Tensor], columns: Tensor | None, seen: list[Seen]
) -> RecurrentStack:
    """Make a smaller stack with projections. Only they are folded: what reads projected values stays the same."""
    layers: list[nn.Module] = []
    weights, maps = [], []
    for place, (layer, own) in enumerate(zip(stack.layers, seen, strict=True)):
        assert isinstance(layer, RecurrentLayer)
        weight_ih, weight_hh = stack.unprojected(place)
        rows = gate_rows(layer, kept[place])
        small = slice_layer(layer, kept[place], None)
        if columns is not None and place < stack.directions:
            joint = torch.cat([columns, torch.tensor([layer.inputs])])
            whole = torch.cat([weight_ih, layer.bias_ih.unsqueeze(1)], 1).detach()
            seen_moment = moment(_rows(with_one(own.states.x), own.states.valid))
            new = fold(whole, seen_moment, joint, rest(layer.inputs + 1, joint))
            weight_ih, small.bias_ih = new[:, :-1], nn.Parameter(new[rows, -1].clone(), requires_grad=False)
        layers.append(small)
        weights.append((weight_ih[rows], weight_hh[rows]))
        maps.append(
            _projection(stack.projections[place][:, kept[place]], [own.outputs[..., kept[place]]], stack, place, own)
        )
    made = narrow_stack(stack, layers, stack.input_size if columns is None else len(columns))
    made.set_projections(weights, maps)
    return made


def _fit_projections(small: nn.Module, path: str, stack: RecurrentStack, kept: list[Tensor], sample: Sample) -> None:
    """Fit the projections of a smaller stack level by level, on its own outputs and on those of the parent."""
    own = small.get_submodule(path)
    assert isinstance(own, RecurrentStack)
    for place in range(len(own.layers)):
        seen, wanted = _observed(small, f"{path}.layers.{place}", sample.batches), sample.layers[path][place]
        weights, maps = [own.unprojected(p) for p in range(len(own.layers))], [p.detach() for p in own.projections]
        inputs = [seen.outputs, wanted.outputs[..., kept[place]]]
        maps[place] = _projection(maps[place], inputs, stack, place, wanted)
        own.set_projections(weights, maps)


def _projection(start: Tensor, inputs: list[Tensor], stack: RecurrentStack, place: int, parent: Seen) -> Tensor:
    """Fit a projection (P, H') of each of ``inputs`` (N, T, H') to the projected outputs of the parent."""
    valid = parent.states.valid
    wanted = _rows(parent.outputs, valid) @ stack.projections[place].t()
    regression = Regression(start.detach().clone())
    for values in inputs:
        regression.add(_rows(values, valid), wanted, torch.arange(len(wanted)) % JUDGING == 0)
    return regression.solved()


def _small(
    path: str, stack: RecurrentStack, kept: list[Tensor], columns: Tensor | None, seen: list[Seen], narrow: bool
) -> nn.Module:
    if stack.proj_size:
        return _small_projected(stack, kept, columns, seen)
    layers: list[nn.Module] = []
    for place, (layer, own) in enumerate(zip(stack.layers, seen, strict=True)):
        assert isinstance(layer, RecurrentLayer)
        inputs = torch.arange(layer.inputs) if columns is None else columns
        if place >= stack.directions:
            first = place // stack.directions * stack.directions - stack.directions
            below = kept[first : first + stack.directions]
            inputs = torch.cat([k + at * stack.hidden_size for at, k in enumerate(below)])
        edited = copy.deepcopy(layer)
        fold_layer(edited, inputs, kept[place], _moments(path, layer, own.states), path)
        layers.append(slice_layer(edited, kept[place], inputs))
    small = narrow_stack(stack, layers, stack.input_size if columns is None else len(columns))
    if narrow or len(kept[0]) == stack.hidden_size:
        return small
    hidden = [_expansion(own.outputs, k, own.states.valid) for own, k in zip(seen, kept, strict=True)]
    cells = [_expansion(own.cells, k) for own, k in zip(seen, kept, strict=True) if own.cells is not None]
    return WRAPPERS[type(stack)](
        small, stack.hidden_size, torch.stack(kept), torch.stack(hidden), torch.stack(cells) if cells else None
    ).requires_grad_(False)


def _fit_stack(
    small: nn.Module, path: str, stack: RecurrentStack, kept: list[Tensor], sample: Sample, columns: Tensor | None
) -> None:
    """Fit the layers of a stack level by level, and then the expansion of its outputs."""
    if isinstance(stack, OwnStack):
        fit_own_stack(small, path, stack, kept[0], columns, sample.batches, sample.own[path])
        return
    if stack.proj_size:
        _fit_projections(small, path, stack, kept, sample)
        return
    part = small.get_submodule(path)
    inside, own = stack_of(part)
    for place, layer in enumerate(own.layers):
        seen = _observed(small, f"{path}{inside}.layers.{place}", sample.batches)
        whole, cut, parents = stack.layers[place], layer, sample.layers[path][place].states
        assert isinstance(whole, RecurrentLayer) and isinstance(cut, RecurrentLayer)
        order = np.argsort(np.arange(len(parents.x)) % JUDGING != 0, kind="stable")  # judging examples come first
        weights = np.ones((len(order), 1), np.float32)
        fit_layer(whole, cut, kept[place], parents.take(order), seen.states.take(order), weights)
    if isinstance(part, ShrunkRecurrent):
        for place, k in enumerate(kept):
            seen, wanted = (
                _observed(small, f"{path}{inside}.layers.{place}", sample.batches),
                sample.layers[path][place],
            )
            part.hidden.data[place] = _refitted(
                part.hidden[place], k, seen.outputs, wanted.outputs, wanted.states.valid
            )
            if part.cell is not None:
                assert seen.cells is not None and wanted.cells is not None
                part.cell.data[place] = _refitted(part.cell[place], k, seen.cells, wanted.cells)


def _refitted(start: Tensor, kept: Tensor, own: Tensor, wanted: Tensor, valid: Tensor | None = None) -> Tensor:
    """Refit the rows of the removed units (H - H', H' + 1) of an expansion to the outputs of the smaller layer."""
    gone = rest(len(start), kept)
    own, wanted = (_rows(values, valid) for values in (own, wanted))
    regression = Regression(start.detach()[gone])
    regression.add(with_one(own), wanted[:, gone], torch.arange(len(own)) % JUDGING == 0)
    new = start.detach().clone()
    new[gone] = regression.solved()
    return new


def _expansion(values: Tensor, kept: Tensor, valid: Tensor | None = None) -> Tensor:
    """Rows (H, H' + 1) that predict all units from the kept ones; kept units stay exactly as they are."""
    units = values.shape[-1]
    z = with_one(_rows(values, valid))
    joint = torch.cat([kept, torch.tensor([units])])
    return fold(pad(torch.eye(units, dtype=z.dtype), (0, 1)), moment(z), joint, rest(units + 1, joint))


def _observed(module: nn.Module, path: str, batches: Sequence[Any]) -> Seen:
    with torch.no_grad():
        return _joined([v for seen, _ in runs(module, batches, [path], _view) for v in seen[path]])


def _view(part: nn.Module, made: Call) -> Any:
    """Of a recurrent layer :class:`Seen`, of a linear layer its inputs and outputs."""
    if isinstance(part, OwnLayer):
        return own_view(part, made)
    if not isinstance(part, RecurrentLayer):
        return linear_view(part, made)
    outputs, state = made.result
    states = States(made.args[0], before(Layer("", part), made.args, outputs), valid_steps(made.args))
    return Seen(states, outputs, state[1] if len(state) > 1 else None)


def _joined(calls: Sequence[Seen]) -> Seen:
    """Join calls along the examples. Shorter ones are padded with timesteps that do not count."""
    longest = max(own.outputs.shape[1] for own in calls)
    marked = any(own.states.valid is not None or own.outputs.shape[1] < longest for own in calls)

    def long(values: Tensor) -> Tensor:
        return pad(values, (0, 0, 0, longest - values.shape[1]))

    def valid(own: Seen) -> Tensor:
        n, steps = own.outputs.shape[:2]
        given = torch.ones(n, steps, dtype=torch.bool) if own.states.valid is None else own.states.valid
        return pad(given, (0, longest - steps))

    cells = [own.cells for own in calls if own.cells is not None]
    return Seen(
        States(
            torch.cat([long(own.states.x) for own in calls]),
            torch.cat([long(own.states.previous) for own in calls]),
            torch.cat([valid(own) for own in calls]) if marked else None,
        ),
        torch.cat([long(own.outputs) for own in calls]),
        torch.cat(cells) if cells else None,
    )


def _flat(calls: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return tuple(torch.cat([call[side].flatten(0, -2) for call in calls]) for side in (0, 1))  # type: ignore[return-value]


def _moments(path: str, layer: RecurrentLayer, states: States) -> dict[str, Tensor]:
    """Moments of what a layer reads; of a GRU that resets before the product also of the reset states."""
    x, previous = states.x, states.previous
    found = {path: torch.cat([x, previous], -1)}
    if layer.cell.kind == "gru" and not layer.cell.reset_after:
        found[path + RESET] = torch.cat([x, layer.gates_after(x, previous)[0] * previous], -1)
    return {key: moment(_rows(with_one(z), states.valid)) for key, z in found.items()}


def _rows(values: Tensor, valid: Tensor | None) -> Tensor:
    """Values (..., F) at the timesteps that count, (M, F)."""
    return values.reshape(-1, values.shape[-1]) if valid is None else values[valid]
