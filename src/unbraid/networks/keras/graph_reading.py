"""Keras models that are no chain of stages, as a graph of layers.

Every layer is made without memory, and its weights are read only if they have the shapes that its configuration and its
inputs imply.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import DataError, FormatError, UnbraidWarning, UnsupportedLayer, quoted
from unbraid.networks.graph.adapter import torch_keras
from unbraid.networks.graph.kind import Settings
from unbraid.networks.graph.kinds import KINDS
from unbraid.networks.graph.module import KerasGraph, Value, input_size, weight_names
from unbraid.networks.graph.operations import OPERATION
from unbraid.networks.graph.own import OWN, remember
from unbraid.networks.graph_spec import CallSpec, GraphInput, GraphLayer, GraphSpec, LayerSpec, PerTimestepSpec
from unbraid.networks.keras.config import LayerConfig, shown
from unbraid.networks.keras.conversion import Translation, activation, tensor
from unbraid.networks.keras.files import SavedModel
from unbraid.networks.keras.keras1 import conv1d_kernel
from unbraid.networks.keras.layers import SUPPORTED, translate
from unbraid.networks.keras.modern import cell_variables, cudnn_variables, from_cudnn
from unbraid.networks.keras.recurrent import KINDS as RECURRENT
from unbraid.networks.keras.recurrent import check_unrolled
from unbraid.networks.keras.settings import plain_settings
from unbraid.networks.keras.weights import Variable
from unbraid.networks.keras.wiring import MODELS, Call, Wiring, wrapped_layer
from unbraid.networks.stage_spec import RecurrentSpec

_LAYERS = ("Embedding", "Masking", "Dense", "RepeatVector")  # of one input, translated as stages are


@dataclass
class ReadGraph:
    """A graph and its weights.

    Attributes:
        spec: the graph; its output is that of the whole model.
        weights: name in :class:`KerasGraph` -> tensor.
        values: what each input and each call gives, as shapes on the meta device.
        reads: what each call reads, in the same form.
    """

    spec: GraphSpec
    weights: dict[str, Tensor] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    reads: list[list[Tensor]] = field(default_factory=list)


def check_kinds(wiring: Wiring) -> None:
    """Raise UnsupportedLayer, with every layer that Unbraid cannot run."""
    wrong: dict[str, str] = {}
    for call in wiring.calls if not wiring.live else ():
        if (found := _unsupported(call.layer)) is not None:
            wrong.setdefault(call.name, found)
    if not wrong:
        return
    names = quoted(", ".join(f"{shown(name)} ({found})" for name, found in wrong.items()), 300)
    own = any(call.layer.custom or call.layer.kind == "Lambda" for call in wiring.calls)
    advice = (
        "no code from a file is run: open the model in Keras and pass it to Network.from_keras"
        if own
        else "replace them in Keras, or open the model in Keras and pass it to Network.from_keras"
    )
    raise UnsupportedLayer(
        f"{wiring.file}: {len(wrong)} layer{'s are' if len(wrong) > 1 else ' is'} not supported: {names}; {advice}."
    )


def _unsupported(layer: LayerConfig) -> str | None:
    """Return the class that is not supported, of the layer or of its wrapped layer; None if it is supported."""
    if layer.custom:
        return layer.described
    if layer.kind == "TimeDistributed":
        inner = layer.inner("layer")
        found = None if inner.kind in MODELS else _unsupported(inner)
        return found if found is None else f"TimeDistributed around {found}"
    if layer.kind == "Bidirectional":
        inner = layer.inner("layer")
        return None if inner.kind in RECURRENT and not inner.custom else f"Bidirectional around {inner.described}"
    return None if layer.kind in (*_LAYERS, *RECURRENT, *KINDS) else layer.described


def read_graph(saved: SavedModel, wiring: Wiring, output: tuple[int, int], inside: bool = False) -> ReadGraph:
    """Read the layers of a graph and their weights.

    Args:
        saved: the file.
        wiring: the calls.
        output: the value that the graph returns.
        inside: whether the graph is part of a wrapper, so that its recurrent layers are not decomposed.

    Raises:
        UnsupportedLayer: a layer that cannot be run exactly.
        FormatError: the configuration or the weights are not what Keras writes.
    """
    check_kinds(wiring)
    return _Reader(saved, wiring, output, inside).read()


class _Reader:
    def __init__(self, saved: SavedModel, wiring: Wiring, output: tuple[int, int], inside: bool) -> None:
        self.saved, self.wiring, self.output = saved, wiring, output
        needed = _needed(wiring, output)
        self.numbers = [number for number in range(len(wiring.calls)) if len(wiring.inputs) + number in needed]
        self.inside = inside
        self.fixed: set[str] = set()
        inputs = [GraphInput(name=name, shape=list(shape)) for name, shape in wiring.inputs]
        self.graph = KerasGraph(GraphSpec(inputs=inputs, layers=[], calls=[], output=(0, 0)))
        self.layers: dict[str, GraphLayer] = {}
        self.weights: dict[str, Tensor] = {}

    def read(self) -> ReadGraph:
        """Go through the calls in order."""
        file, inputs = self.saved.file, self.graph.spec.inputs
        known: dict[int, Value] = {}
        with torch.device("meta"):
            for number, given in enumerate(inputs):
                try:
                    known[number] = ([torch.zeros(input_size(given))], None)
                except DataError as error:
                    raise FormatError(f"{file}: {error}") from None
        places = {number: number for number in range(len(inputs))}
        calls: list[CallSpec] = []
        reads: list[list[Tensor]] = []
        for number in self.numbers:
            call, here = self.wiring.calls[number], len(inputs) + number
            x, masks, states = self._arguments(call, known)
            if call.name not in self.layers:
                self._add(call, x, masks)
            known[here] = self._run(call, x, masks, states)
            places[here] = len(inputs) + len(calls)
            calls.append(
                CallSpec(
                    layer=call.name,
                    reads=[(places[n], o) for n, o in call.reads],
                    states=[(places[n], o) for n, o in call.states],
                    masks=[None if mask is None else (places[mask[0]], mask[1]) for mask in call.masks],
                )
            )
            reads.append(x)
        spec = GraphSpec(
            inputs=inputs,
            layers=list(self.layers.values()),
            calls=calls,
            output=(places[self.output[0]], self.output[1]),
            fixed=sorted(self.fixed),
        )
        return ReadGraph(spec, self.weights, [known[n] for n in sorted(known)], reads)

    def _arguments(self, call: Call, known: dict[int, Value]) -> tuple[list[Tensor], list[Any], list[Tensor]]:
        def value(reference: tuple[int, int]) -> Tensor:
            values = known[reference[0]][0]
            if reference[1] >= len(values):
                raise call.layer.unsupported(
                    f"reads output {reference[1]} of a layer that gives {len(values)}", "the outputs that layers give"
                )
            return values[reference[1]]

        masks = [known[n][1] if output == 0 else None for n, output in call.reads]
        for place, mask in enumerate(call.masks[: len(masks)]):
            masks[place] = masks[place] if mask is None else value(mask)
        return [value(r) for r in call.reads], masks, [value(r) for r in call.states]

    def _run(self, call: Call, x: list[Tensor], masks: list[Any], states: list[Tensor]) -> Value:
        layer = self.layers[call.name]
        if states and isinstance(layer, RecurrentSpec):
            wanted = (2 if layer.cell.kind == "lstm" else 1) * (2 if layer.bidirectional else 1)
            if [tuple(state.shape) for state in states] != [(2, layer.units)] * wanted:
                found = [tuple(state.shape[1:]) for state in states]
                raise call.layer.unsupported(
                    f"reads {1 + len(states)} inputs, the initial states of shapes {found}",
                    f"{wanted} initial states of shape ({layer.units},)",
                )
        try:
            return self.graph.run(call.name, x, masks, states)
        except DataError as error:
            kind = UnsupportedLayer if call.layer.kind.startswith(OPERATION) else FormatError
            raise kind(f"{self.saved.file}: {error}") from None

    def _add(self, call: Call, x: list[Tensor], masks: list[Any]) -> None:
        """Make the layer of its first call and read its weights."""
        layer, shapes = call.layer, [tuple(part.shape[1:]) for part in x]
        if masks[0] is not None and layer.kind == "Bidirectional":
            check_unrolled(layer)
        recurrent = layer.kind in (*RECURRENT, "Bidirectional")
        dense = layer.kind == "TimeDistributed" and layer.inner("layer").kind == "Dense"
        try:
            if self.wiring.live and _unsupported(layer) is not None:
                spec, weights = self._own(call)
            elif recurrent or dense or layer.kind in _LAYERS:
                spec, weights = self._stage(call, shapes[0], recurrent)
            elif layer.kind == "TimeDistributed":
                spec, weights = self._per_timestep(call, shapes[0])
            else:
                spec, weights = self._other(call, shapes)
        except DataError as error:
            raise FormatError(f"{self.saved.file}: {error}") from None
        except ValueError as error:
            raise UnsupportedLayer(f"{self.saved.file}: {layer.where}: {quoted(error)}.") from None
        if isinstance(spec, RecurrentSpec) and self.inside:
            if call.states:
                raise layer.unsupported("starts from given states inside of a wrapper", "zeros as the initial states")
            self.fixed.add(call.name)
        self.layers[call.name] = spec
        self.weights |= {f"{call.name}.{name}": weight for name, weight in weights.items()}
        with torch.device("meta"):
            self.graph.attach(spec, call.name in self.fixed)

    def _stage(self, call: Call, shape: tuple[int, ...], recurrent: bool) -> tuple[GraphLayer, dict[str, Tensor]]:
        layer = _plain(call.layer) if recurrent else call.layer

        def read(variables: Sequence[Variable]) -> list[np.ndarray]:
            if call.cells:
                every, before = cell_variables(call.cells, call.turn, variables)
                return self.saved.weights.arrays(call.places, every)[before : before + len(variables)]
            if not call.cudnn:
                return self.saved.weights.arrays(call.places, variables)
            arrays = self.saved.weights.arrays(call.places, cudnn_variables(list(variables)))
            return [array for start in range(0, len(arrays), 3) for array in from_cudnn(arrays[start : start + 3])]

        found: Translation = translate(layer, shape, read)
        assert found.spec is not None
        spec, weights = found.spec.model_copy(update={"name": call.name}), found.weights
        if isinstance(spec, RecurrentSpec) and not self.inside:
            weights = {weight_names(name): weight for name, weight in weights.items()}
        return spec, weights

    def _own(self, call: Call) -> tuple[GraphLayer, dict[str, Tensor]]:
        """Return a layer of a model in memory that runs code of the user."""
        if call.states:
            raise call.layer.unsupported("starts from given states", "layers that start from zeros")
        torch_keras(f"layer {quoted(call.name)!r}, a {call.layer.described},")
        layer = self.saved.live
        for place in call.places:
            layer = layer.get_layer(place.name)
        key, weights = remember(layer, call.layer.outer.values)
        shapes = {name: list(weight.shape) for name, weight in weights.items()}
        settings: dict[str, Any] = {"key": key, "listed": call.listed}
        return LayerSpec(name=call.name, kind=OWN, settings=settings, weights=shapes), weights

    def _per_timestep(self, call: Call, shape: tuple[int, ...]) -> tuple[GraphLayer, dict[str, Tensor]]:
        wiring = wrapped_layer(call.layer, shape[1:], call.places, self.saved.file)
        found = read_graph(self.saved, wiring, next(iter(wiring.outputs.values())), inside=True)
        return PerTimestepSpec(name=call.name, graph=found.spec), found.weights

    def _other(self, call: Call, shapes: list[tuple[int, ...]]) -> tuple[GraphLayer, dict[str, Tensor]]:
        layer, kind = call.layer, KINDS[call.layer.kind]
        names = tuple(name for name in kind.settings if name != "recurrent_activation")
        settings = plain_settings(layer, names) | {k: v for k, v in call.settings.items()}
        if kind.activated or layer.kind.startswith("ConvLSTM"):
            for name in ("activation", "recurrent_activation"):
                if name in layer.values:
                    settings[name] = activation(layer, name, SUPPORTED)
        weights = kind.weights(Settings(settings, layer.keras), shapes)
        variables = [Variable(w.part, _number(weights, place), w.shape, w.used) for place, w in enumerate(weights)]
        arrays = self._arrays(call, variables) if variables else []
        kept = {w.name: tensor(a).reshape(w.shape) for w, a in zip(weights, arrays, strict=True) if w.used}
        spec = LayerSpec(
            name=call.name,
            kind=layer.kind,
            settings=settings,
            weights={name: list(weight.shape) for name, weight in kept.items()},
            keras=3 if layer.keras >= 3 else 2,
        )
        return spec, kept

    def _arrays(self, call: Call, variables: list[Variable]) -> list[np.ndarray]:
        """Return the arrays of a layer; kernels of convolutions in the layout of Keras 2 with TensorFlow."""
        layer, first = call.layer, variables[0]
        if layer.keras == 1 and layer.kind == "Conv1D":
            stored = [first._replace(shape=(None,) * 4), *variables[1:]]
            arrays = self.saved.weights.arrays(call.places, stored)
            arrays[0] = conv1d_kernel(arrays[0], [size or 0 for size in first.shape])
        else:
            arrays = self.saved.weights.arrays(call.places, variables)
        if self.saved.flipped and "Conv" in layer.kind:
            arrays = [np.flip(a, tuple(range(a.ndim - 2))) if a.ndim > 2 else a for a in arrays]
        return arrays


def _number(weights: Sequence[Any], place: int) -> int:
    """Position of a weight among those of its sublayer."""
    own = weights[place]
    return own.number if own.number is not None else sum(w.part == own.part for w in weights[:place])


def _needed(wiring: Wiring, output: tuple[int, int]) -> set[int]:
    """Numbers of the values that an output depends on."""
    found: set[int] = set()
    left = [output[0]]
    while left:
        number = left.pop()
        if number in found:
            continue
        found.add(number)
        if number >= len(wiring.inputs):
            call = wiring.calls[number - len(wiring.inputs)]
            left += [n for n, _ in [*call.reads, *call.states, *(m for m in call.masks if m is not None)]]
    return found


def _plain(layer: LayerConfig) -> LayerConfig:
    """Return a recurrent layer without the settings that the graph handles: its states, and states between calls."""
    values = dict(layer.values)
    wrapped = [name for name in ("layer", "backward_layer") if isinstance(values.get(name), dict)]
    if any(part.flag("stateful") for part in [layer, *(layer.inner(name) for name in wrapped)]):
        warnings.warn(
            f"{layer.file}: {layer.where} is stateful; it starts from zeros in every call here, as after reset_states.",
            UnbraidWarning,
            stacklevel=2,
        )
    values |= {"stateful": False, "return_state": False}
    for name in wrapped:
        settings = values[name].get("config")
        if isinstance(settings, dict):
            values[name] = values[name] | {"config": settings | {"stateful": False, "return_state": False}}
    return LayerConfig(layer.file, {**layer.outer.values, "config": values}, layer.keras, layer.where)
