"""The layers of a network whose hidden units can be removed, and two forms of a body with removed units.

*Sliced*: units that are removed at all timesteps are cut out. The result has smaller standard layers with the same
outputs. *Pruned*: K modules run in one batch with the weights of the parent, and masks set removed values to zero.
Shapes: N examples, T timesteps, D inputs, H hidden units, G gates, K modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.networks.cells import Cell, OwnCell, State
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer
from unbraid.networks.removal import Removal
from unbraid.networks.stages import Dense, Flatten, PrunedDense, Recurrent, StageSequence


@dataclass(frozen=True)
class Layer:
    """A layer with hidden units: one direction of a recurrent layer, or a dense layer after the recurrent layers.

    Attributes:
        name: name of the layer; the directions of a bidirectional layer are ``name.forward`` and ``name.backward``.
        module: a RecurrentLayer, an OwnLayer or a Dense.
        sources: names of the layers whose concatenated outputs are its inputs; empty for other inputs.
    """

    name: str
    module: RecurrentLayer | OwnLayer | Dense
    sources: tuple[str, ...] = ()

    @property
    def cell(self) -> Cell | OwnCell | None:
        """The recurrent cell; None for a dense layer."""
        return None if isinstance(self.module, Dense) else self.module.cell

    @property
    def units(self) -> int:
        """H."""
        return self.module.units

    @property
    def kernel(self) -> Tensor:
        """Input weights, (G*H, D), or (H, D) of a dense layer; of an own cell all weights of each unit."""
        return self.module.weight if isinstance(self.module, Dense) else self.module.kernel

    @property
    def rectified(self) -> bool:
        """Whether the activation is ReLU, so that units are compared by their active rate."""
        return self.module.rectified if isinstance(self.module, Dense) else self.module.cell.rectified


@singledispatch
def decomposable_layers(body: nn.Module) -> dict[str, Layer]:
    """Return the recurrent layers, and the dense layers after the first of them, in the order of computation."""
    raise TypeError(f"{type(body).__name__} is not the body of a network")


@singledispatch
def head_sources(body: nn.Module) -> tuple[str, ...]:
    """Return the layers whose concatenated outputs are the inputs of the output layer; empty for other inputs."""
    return ()


@decomposable_layers.register
def _(body: StageSequence) -> dict[str, Layer]:
    return _walked(body)[0]


@head_sources.register
def _(body: StageSequence) -> tuple[str, ...]:
    return _walked(body)[1]


def _walked(body: StageSequence) -> tuple[dict[str, Layer], tuple[str, ...]]:
    found: dict[str, Layer] = {}
    sources: tuple[str, ...] = ()
    for spec, stage in zip(body.specs, body.stages, strict=True):
        if isinstance(stage, Recurrent):
            named = directions(spec.name, stage)
            found |= {name: Layer(name, module, sources) for name, module in named}
            sources = tuple(name for name, _ in named) if len(named) == 1 or stage.merge == "concat" else ()
        elif isinstance(stage, Dense) and found:
            found[spec.name] = Layer(spec.name, stage, sources)
            sources = (spec.name,)
    return found, sources


def directions(name: str, stage: Recurrent) -> list[tuple[str, RecurrentLayer]]:
    """Return the one or two layers of a recurrent stage with their names; Scattered layers are unwrapped."""
    if stage.backward_layer is None:
        return [(name, stage.forward_layer)]  # type: ignore[list-item]  # not a pruned layer
    both = [m.layer if isinstance(m, Scattered) else m for m in (stage.forward_layer, stage.backward_layer)]
    return [(f"{name}.forward", both[0]), (f"{name}.backward", both[1])]  # type: ignore[list-item]


@singledispatch
def pruned(body: nn.Module, removals: Mapping[str, Removal | Tensor], modules: int) -> nn.Module:
    """Make a body for K modules in one batch. It reads N rows and computes features of K*N rows, module after module.

    Args:
        body: body of the parent.
        removals: layer name -> a Removal for a recurrent layer, a mask (K, T or 1, H) for a dense layer.
        modules: K.
    """
    raise TypeError(f"{type(body).__name__} is not the body of a network")


@pruned.register
def _(body: StageSequence, removals: Mapping[str, Removal | Tensor], modules: int) -> StageSequence:
    stages: list[nn.Module] = []
    opens = True
    for spec, stage in zip(body.specs, body.stages, strict=True):
        if isinstance(stage, Recurrent):
            copy = _like(stage)
            layers = [
                PrunedRecurrentLayer(layer, removals[name], modules, opens)  # type: ignore[arg-type]
                for name, layer in directions(spec.name, stage)
            ]
            copy.forward_layer, copy.backward_layer = layers[0], layers[1] if len(layers) > 1 else None
            stages.append(copy)
            opens = False
        elif isinstance(stage, Dense) and spec.name in removals:
            stages.append(PrunedDense(stage, removals[spec.name]))  # type: ignore[arg-type]
        else:
            stages.append(stage)
    return _sequence(body, stages)


Edit = Callable[[str, Any], Any]  # (name, layer) -> layer of the same kind


def unedited(name: str, layer: Any) -> Any:
    """Return the layer unchanged."""
    return layer


@singledispatch
def sliced(body: nn.Module, kept: Mapping[str, Tensor], edit: Edit = unedited) -> tuple[nn.Module, Tensor | None]:
    """Make a body with only the kept units of each layer.

    Args:
        body: body of the parent. It is not changed; stages without hidden units are shared with it.
        kept: layer name -> indices of the kept units, (H',).
        edit: changes the weights of a layer before units are cut out, for example to remove single gates.

    Returns:
        the smaller body, and the indices of the remaining inputs of the output layer (None for all).
    """
    raise TypeError(f"{type(body).__name__} is not the body of a network")


@sliced.register
def _(body: StageSequence, kept: Mapping[str, Tensor], edit: Edit = unedited) -> tuple[StageSequence, Tensor | None]:
    stages: list[nn.Module] = []
    current: Tensor | None = None  # indices of the remaining features
    width = 0  # number of features before the removal
    for index, (spec, stage) in enumerate(zip(body.specs, body.stages, strict=True)):
        if isinstance(stage, Recurrent):
            copy = _like(stage)
            named = directions(spec.name, stage)
            cut: list[nn.Module] = [slice_layer(edit(n, layer), kept[n], current) for n, layer in named]
            width = named[0][1].units
            current = torch.cat([kept[n] + i * width for i, (n, _) in enumerate(named)])
            if len(named) > 1 and stage.merge != "concat":  # units of both directions are merged one by one
                cut = [Scattered(c, kept[n], width) for c, (n, _) in zip(cut, named, strict=True)]  # type: ignore[arg-type]
                current = None
            elif len(named) > 1:
                width *= 2
            copy.forward_layer, copy.backward_layer = cut[0], cut[1] if len(cut) > 1 else None
            stages.append(copy)
        elif isinstance(stage, Dense):
            rows = kept.get(spec.name)
            stages.append(_slice_dense(edit(spec.name, stage) if spec.name in kept else stage, rows, current))
            current, width = rows, stage.units
        elif isinstance(stage, Flatten) and current is not None:
            steps = _next_inputs(body, index) // width
            current = (torch.arange(steps, device=current.device).unsqueeze(1) * width + current).flatten()
            width *= steps
            stages.append(stage)
        else:
            stages.append(stage)
    return _sequence(body, stages), current


def slice_layer(layer: RecurrentLayer, kept: Tensor, inputs: Tensor | None) -> RecurrentLayer:
    """Make a recurrent layer with the units ``kept`` (H',) and the inputs ``inputs`` (D',); None for all inputs."""
    rows = gate_rows(layer, kept)
    columns = slice(None) if inputs is None else inputs
    small = RecurrentLayer(layer.cell, layer.inputs if inputs is None else len(inputs), len(kept), layer.reverse)
    small.weight_ih = _frozen(layer.weight_ih[rows][:, columns])
    small.weight_hh = _frozen(layer.weight_hh[rows][:, kept])
    small.bias_ih, small.bias_hh = _frozen(layer.bias_ih[rows]), _frozen(layer.bias_hh[rows])
    return small


def gate_rows(layer: RecurrentLayer, kept: Tensor) -> Tensor:
    """Return the rows of W, U and b of the units ``kept``, gate after gate, (G*H',)."""
    gates = torch.arange(len(layer.cell.gates), device=kept.device) * layer.units
    return (gates.unsqueeze(1) + kept).flatten()


class Scattered(nn.Module):
    """A smaller recurrent layer with outputs of the full width; removed units are 0."""

    kept: Tensor

    def __init__(self, layer: RecurrentLayer, kept: Tensor, units: int) -> None:
        super().__init__()
        self.layer, self.units = layer, units
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, x: Tensor, valid: Tensor | None = None, initial: State | None = None) -> tuple[Tensor, State]:
        """Compute :meth:`RecurrentLayer.forward` with states and outputs of the full width."""
        if initial is not None:
            initial = tuple(s[..., self.kept] for s in initial)
        outputs, state = self.layer(x, valid, initial)
        return self._full(outputs), tuple(self._full(s) for s in state)

    def _full(self, values: Tensor) -> Tensor:
        zeros = values.new_zeros(*values.shape[:-1], self.units)
        return zeros.index_copy(-1, self.kept.to(values.device), values)


def _slice_dense(dense: Dense, rows: Tensor | None, columns: Tensor | None) -> Dense:
    if rows is None and columns is None:
        return dense
    small = Dense.__new__(Dense)
    nn.Module.__init__(small)
    small.activation = dense.activation
    weight = dense.weight if columns is None else dense.weight[:, columns]
    small.weight = _frozen(weight if rows is None else weight[rows])
    small.bias = _frozen(dense.bias if rows is None else dense.bias[rows])
    return small


def _next_inputs(body: StageSequence, index: int) -> int:
    for spec in body.specs[index + 1 :]:
        if hasattr(spec, "inputs"):
            return spec.inputs
    return body.features


def _like(stage: Recurrent) -> Recurrent:
    copy = Recurrent.__new__(Recurrent)
    nn.Module.__init__(copy)
    copy.sequences, copy.merge, copy.flip = stage.sequences, stage.merge, stage.flip
    return copy


def _sequence(body: StageSequence, stages: list[nn.Module]) -> StageSequence:
    copy = StageSequence([], body.features)
    copy.specs, copy.stages = body.specs, nn.ModuleList(stages)
    return copy


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
