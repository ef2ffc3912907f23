"""The layers of a user's module that can be pruned, and its two forms with removed units.

Shapes: N examples, T timesteps, H units, K modules in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unbraid.networks.layers import (
    Edit,
    Layer,
    decomposable_layers,
    head_sources,
    pruned,
    slice_dense,
    slice_layer,
    sliced,
    unedited,
)
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.pytorch.body import TorchBody, layer_names
from unbraid.networks.pytorch.heads import Tap
from unbraid.networks.pytorch.linear_site import LinearSite, PrunedLinear
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.removal import Removal
from unbraid.networks.stack import RecurrentStack


@decomposable_layers.register
def _(body: TorchBody) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    stacks, sites = body.stacks(), body.sites()
    chained = {dense.chained: dense.name for dense in body.spec.dense if dense.chained is not None}

    def add_dense(low: int, high: float) -> None:
        for dense in body.spec.dense:
            if low <= dense.after < high:
                source = chained.get(dense.name)
                sources = () if source is None else (source,)
                found[dense.name] = Layer(dense.name, sites[dense.name], sources, core=not stacks)

    for number, (site, stack) in enumerate(stacks.items()):
        add_dense(number, number + 1)
        names = layer_names(site, stack)
        for place, (name, layer) in enumerate(zip(names, stack.layers, strict=True)):
            level = place // stack.directions
            sources = names[(level - 1) * stack.directions : level * stack.directions] if level else []
            found[name] = Layer(name, layer, tuple(sources))  # type: ignore[arg-type]  # a RecurrentLayer
    add_dense(len(stacks), float("inf"))
    return found


@head_sources.register
def _(body: TorchBody) -> tuple[str, ...]:
    return tuple(dense.name for dense in body.spec.dense if dense.chained == body.spec.head)


@pruned.register
def _(body: TorchBody, removals: Mapping[str, Removal | Tensor], modules: int) -> TorchBody:
    parts: dict[str, nn.Module] = {}
    for site, stack in body.stacks().items():
        layers: list[nn.Module] = [
            PrunedRecurrentLayer(layer, removals[name], modules, opens=False, interleaved=True)  # type: ignore[arg-type]
            for name, layer in zip(layer_names(site, stack), stack.layers, strict=True)
        ]
        parts[site] = stack.exchanged(layers, [None] * len(layers))
    for name, linear in body.sites().items():
        if name in removals:
            parts[name] = PrunedLinear(linear, removals[name])  # type: ignore[arg-type]  # a mask
    return body.exchanged(parts, modules)


@sliced.register
def _(body: TorchBody, kept: Mapping[str, Tensor], edit: Edit = unedited) -> tuple[TorchBody, Tensor | None]:
    """Remove units within each stack, whose outputs keep their positions, because forward may read any of them.

    A linear layer that is chained to another one makes that one smaller as well, and also the output layer.
    """
    parts: dict[str, nn.Module] = {}
    for site, stack in body.stacks().items():
        parts[site] = _sliced_stack(site, stack, kept, edit)
    chained = {dense.chained: kept[dense.name] for dense in body.spec.dense if dense.chained and dense.name in kept}
    for dense in body.spec.dense:
        rows, columns = kept.get(dense.name), chained.get(dense.name)
        if rows is None and columns is None:
            continue
        whole = body.sites()[dense.name]
        small = slice_dense(edit(dense.name, whole) if rows is not None else whole, rows, columns)
        spread = rows if dense.chained is None and rows is not None and len(rows) < whole.units else None
        parts[dense.name] = LinearSite(small.weight, small.bias, whole.rows, whole.rectified, spread, whole.units)
    features = chained.get(body.spec.head)
    if features is not None:
        tap = body.module.get_submodule(body.spec.head)
        assert isinstance(tap, Tap)
        parts[body.spec.head] = tap.sliced(features)
    return body.exchanged(parts, 1), features


def _sliced_stack(site: str, stack: RecurrentStack, kept: Mapping[str, Tensor], edit: Edit) -> RecurrentStack:
    names, layers = layer_names(site, stack), list[nn.Module]()
    for place, (name, layer) in enumerate(zip(names, stack.layers, strict=True)):
        level = place // stack.directions
        below = names[(level - 1) * stack.directions : level * stack.directions] if level else []
        inputs = torch.cat([kept[n] + i * stack.hidden_size for i, n in enumerate(below)]) if below else None
        edited = edit(name, layer)
        if isinstance(edited, OwnLayer):
            layers.append(edited.sliced(kept[name]))
        else:
            layers.append(slice_layer(edited, kept[name], inputs))
    return stack.exchanged(layers, [kept[name] for name in names])
