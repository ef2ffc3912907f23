"""The calls of a Keras model: Sequential and Functional models, nested ones and wrappers, as one list.

A reference is (number of a value, which of its outputs). The inputs of the model have the first numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.limits import check_size
from unbraid.networks.graph.merging import PART
from unbraid.networks.graph.module import KerasGraph
from unbraid.networks.keras.activations import activation_layer, without_activation
from unbraid.networks.keras.arguments import Arguments, Key, arguments_of, ends, history
from unbraid.networks.keras.config import Config, LayerConfig, is_size, shown
from unbraid.networks.keras.graph import INPUT, model_layers
from unbraid.networks.keras.hdf5 import Shape
from unbraid.networks.keras.modern import CUDNN, QUANTIZE, cells_of, cudnn_cells, modern
from unbraid.networks.keras.operations import is_operation, operation
from unbraid.networks.keras.recurrent import MERGES
from unbraid.networks.keras.weights import Place

MODELS = ("Sequential", "Functional", "Model")

Reference = tuple[int, int]


@dataclass
class Call:
    """One call of a layer.

    Attributes:
        layer: its configuration.
        name: of the layer in the graph, with the models that hold it.
        places: where its variables are.
        reads: what it reads.
        states: initial states.
        masks: explicit masks of what it reads.
        settings: settings of the call that change the result.
        cudnn: whether its weights are in the layout of CuDNN.
        listed: whether it reads one list of values.
        cells: all cells of an RNN of several cells, of which this call is one.
        turn: its position among them.
    """

    layer: LayerConfig
    name: str
    places: tuple[Place, ...]
    reads: list[Reference]
    states: list[Reference] = field(default_factory=list)
    masks: list[Reference | None] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    cudnn: bool = False
    listed: bool = False
    cells: Sequence[LayerConfig] = ()
    turn: int = 0


@dataclass
class Results:
    """What a layer or a nested model gives.

    Attributes:
        first: its first outputs.
        rest: the output after these, of a layer whose outputs have adjacent numbers; None if there is none.
    """

    first: list[Reference]
    rest: Reference | None = None

    def output(self, number: int) -> Reference | None:
        """Return one output; None if there is no such one."""
        if number < len(self.first):
            return self.first[number]
        return None if self.rest is None else (self.rest[0], self.rest[1] + number - len(self.first))


@dataclass
class Wiring:
    """All calls of a model.

    Attributes:
        file: name of the file.
        keras: major version of Keras that wrote it.
        inputs: name and shape of each input, without the axis of examples.
        calls: in the order of computation.
        outputs: name of an output layer -> what it gives.
        live: whether the model is in memory, so that layers with code of the user can run.
    """

    file: str
    keras: int
    inputs: list[tuple[str, Shape]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outputs: dict[str, Reference] = field(default_factory=dict)
    live: bool = False

    def add(self, call: Call) -> int:
        """Add a call and return the number of its value."""
        self.calls.append(call)
        check_size(len(self.calls), "layers", self.file, "number of layers")
        return len(self.inputs) + len(self.calls) - 1


def wired(model: Config, keras: int, live: bool = False) -> Wiring:
    """Return the calls of a whole model.

    Raises:
        UnsupportedLayer: the model is a class of its own, or is called in a way that is not supported.
        FormatError: the configuration is not what Keras writes.
    """
    found = Wiring(model.file, keras, live=live)
    kind = model.text("class_name")
    if kind not in MODELS:
        raise UnsupportedLayer(
            f"{model.file}: the model is a {shown(kind)}, a class of its own whose code is not stored; supported: "
            "Sequential and Functional models."
        )
    inner = model.get("config")
    body = Config(model.file, "the model", {"layers": inner} if isinstance(inner, list) else inner)
    layers = model_layers(body, keras)
    if not layers:
        raise FormatError(f"{model.file}: the model has no layers; expected at least a recurrent one and a Dense.")
    by_name = {layer.name: layer for layer in layers}
    if kind == "Sequential":
        found.inputs = [(layers[0].name, input_shape(body, layers))]
    else:
        for name in [history(body, end)[0] for end in ends(body, "input_layers")]:
            if name not in by_name:
                raise FormatError(f"{model.file}: input {shown(name)} is missing; expected it in 'layers'.")
            found.inputs.append((name, input_shape(body, [by_name[name]])))
    given = [(number, 0) for number in range(len(found.inputs))]
    results = _model(found, kind, body, layers, given, "", ())
    names = [layers[-1].name] if kind == "Sequential" else [history(body, e)[0] for e in ends(body, "output_layers")]
    for number, (name, result) in enumerate(zip(names, results, strict=True)):
        found.outputs[name if name not in found.outputs else f"{name}_{number}"] = result
    return found


def wrapped_layer(layer: LayerConfig, shape: Shape, places: tuple[Place, ...], file: str) -> Wiring:
    """Return the calls of the layer or model in a wrapper, which reads one value of a shape."""
    inner = layer.inner("layer")
    found = Wiring(file, layer.keras, [(f"{layer.name} input", shape)])
    within = (*places, Place(inner.name, inner.kind, wrapped=True))
    if inner.kind in MODELS:
        results = _nested(found, inner, [(0, 0)], "", within)
    else:
        results = _called(found, Call(inner, graph_name("", inner.name), within, [(0, 0)])).first
    if len(results) != 1:
        raise layer.unsupported(f"wraps a model of {len(results)} outputs", "one output")
    found.outputs = {inner.name: results[0]}
    return found


def _nested(
    found: Wiring, layer: LayerConfig, given: list[Reference], prefix: str, places: tuple[Place, ...]
) -> list[Reference]:
    """Return the results of a model inside a model."""
    body = Config(layer.file, layer.where, layer.values)
    return _model(found, layer.kind, body, model_layers(body, layer.keras), given, prefix, places)


def _model(
    found: Wiring,
    kind: str,
    body: Config,
    layers: list[LayerConfig],
    given: list[Reference],
    prefix: str,
    places: tuple[Place, ...],
) -> list[Reference]:
    counts, turns = Counter(layer.kind for layer in layers), Counter[str]()
    own: dict[str, tuple[Place, ...]] = {}
    for layer in layers:
        own[layer.name] = (*places, Place(layer.name, layer.kind, turns[layer.kind], counts[layer.kind]))
        turns[layer.kind] += 1
    if kind == "Sequential":
        if len(given) != 1:
            raise FormatError(f"{body.file}: {body.where} is Sequential and reads {len(given)} inputs, expected one.")
        value = given
        for layer in layers:
            if layer.kind != INPUT:
                if layer.kind == "Bidirectional" and layer.get("merge_mode", "concat") is None:
                    raise layer.unsupported("has merge_mode None in a Sequential model", ", ".join(MERGES))
                value = _called(found, Call(layer, graph_name(prefix, layer.name), own[layer.name], value[:1])).first
        return value[:1]
    return _functional(found, body, layers, given, prefix, own)


def _called(found: Wiring, call: Call) -> Results:
    """Return the results of a call."""
    call.cudnn = call.layer.kind in ("Bidirectional", *CUDNN) and cudnn_cells(call.layer)
    try:
        cells = cells_of(call.layer)
        if cells:
            return _cells_called(found, call, cells)
        layer, places = call.layer, call.places = modern(call.layer, call.places)
    except UnsupportedLayer:
        if not found.live:
            raise
        number = found.add(call)  # Keras runs it
        return Results([(number, 0)], (number, 1))
    if layer.kind in MODELS and not layer.custom:
        return Results(_nested(found, layer, call.reads, f"{call.name}/", places))
    if layer.kind == "Bidirectional" and layer.get("merge_mode", "concat") is None:
        return _both_directions(found, call)
    function = activation_layer(layer)
    if function is not None:
        return _activated(found, call, function)
    number = found.add(call)
    return Results([(number, 0)], (number, 1))


def _activated(found: Wiring, call: Call, function: LayerConfig) -> Results:
    """Return the result of a layer whose activation is a layer by itself."""
    reads = call.reads
    if call.layer.kind != "Activation":
        reads = [(found.add(replace(call, layer=without_activation(call.layer))), 0)]
    return Results([(found.add(Call(function, f"{call.name}/activation", (), reads)), 0)])


def _cells_called(found: Wiring, call: Call, cells: list[LayerConfig]) -> Results:
    """Return the results of an RNN of several cells: one recurrent layer for each cell, one after the other."""
    if call.states:
        raise call.layer.unsupported("starts several cells from given states", "zeros as the initial states")
    reads, states = call.reads, []
    for turn, cell in enumerate(cells):
        masks = call.masks if turn == 0 else []
        own = replace(call, layer=cell, name=f"{call.name}/{turn}", reads=reads, masks=masks, cells=cells, turn=turn)
        number = found.add(own)
        reads = [(number, 0)]
        states += [(number, 1 + state) for state in range(2 if cell.kind == "LSTM" else 1)]
    return Results([*reads, *states])


def _both_directions(found: Wiring, call: Call) -> Results:
    """Return the results of a Bidirectional that merges nothing: both parts of the concatenated outputs, and states."""
    layer = call.layer
    units = layer.inner("layer").size("units")
    merged = {**layer.outer.values, "config": {**layer.values, "merge_mode": "concat"}}
    number = found.add(replace(call, layer=LayerConfig(layer.file, merged, layer.keras, layer.where)))
    halves: list[Reference] = []
    for name, start in (("forward", 0), ("backward", units)):
        settings = {"name": f"{layer.name}_{name}", "start": start, "size": units}
        part = LayerConfig(layer.file, {"class_name": PART, "config": settings}, layer.keras, layer.where)
        halves.append((found.add(Call(part, f"{call.name}/{name}", (), [(number, 0)])), 0))
    return Results(halves, (number, 1))


def _functional(
    found: Wiring,
    body: Config,
    layers: list[LayerConfig],
    given: list[Reference],
    prefix: str,
    own: dict[str, tuple[Place, ...]],
) -> list[Reference]:
    """Resolve the calls of a Functional model in the order in which their inputs become known."""
    values: dict[tuple[str, int], Results] = {}
    starts = [history(body, end)[:2] for end in ends(body, "input_layers")]
    if len(starts) != len(given):
        raise FormatError(f"{body.file}: {body.where} has {len(starts)} inputs and is called with {len(given)}.")
    for start, reference in zip(starts, given, strict=True):
        values[start] = Results([reference])
    models = {layer.name for layer in layers if layer.kind in MODELS}

    first: dict[str, int] = {}  # Keras 2 counts the calls of a nested model from 1

    def value_of(name: str, node: int, output: int) -> Reference | None:
        known = values.get((name, node - first.get(name, 0)))
        return None if known is None else known.output(output)

    waiting = [
        (layer.name, number, *_read(layer, node, number))
        for layer in layers
        if layer.kind != INPUT
        for number, node in enumerate(layer.outer.items("inbound_nodes"))
    ]
    for arguments in [arguments for _, _, _, arguments in waiting]:
        for name, node, _ in arguments.read:
            if name in models:
                first[name] = min(node, first.get(name, node))
    for name, node, _ in [history(body, end) for end in ends(body, "output_layers")]:
        if name in models:
            first[name] = min(node, first.get(name, node))
    while waiting:
        left = []
        for name, number, layer, arguments in waiting:
            references = {key: value_of(*key) for key in arguments.read}
            if any(reference is None for reference in references.values()):
                left.append((name, number, layer, arguments))
                continue
            call = _resolved(layer, graph_name(prefix, layer.name), own[name], arguments, references)
            values[name, number] = _called(found, call)
        if len(left) == len(waiting):
            names = sorted({name for name, _, _, _ in left})
            raise FormatError(f"{body.file}: layers {shown(names)} read values that no layer gives.")
        waiting = left
    results = [value_of(*history(body, end)) for end in ends(body, "output_layers")]
    if any(result is None for result in results):
        raise FormatError(f"{body.file}: field 'output_layers' of {body.where} names values that no layer gives.")
    return [result for result in results if result is not None]


def _read(layer: LayerConfig, node: Any, number: int) -> tuple[LayerConfig, Arguments]:
    """Return what one call reads; an operation becomes a layer of its own."""
    return operation(layer, node, number) if is_operation(layer) else (layer, arguments_of(layer, node))


def _resolved(
    layer: LayerConfig,
    name: str,
    places: tuple[Place, ...],
    arguments: Arguments,
    references: dict[Key, Reference | None],
) -> Call:
    def all_of(keys: Sequence[Key | None]) -> list[Any]:
        return [None if key is None else references[key] for key in keys]

    reads, states, masks = (all_of(k) for k in (arguments.positional, arguments.states, arguments.masks))
    return Call(layer, name, places, reads, states, masks, arguments.settings, listed=arguments.listed)


def graph_name(prefix: str, name: str) -> str:
    """Return a name that a module can have."""
    plain = prefix + name.replace(".", "_")
    return f"{plain}_" if plain in _TAKEN else plain


_TAKEN = frozenset((*dir(KerasGraph), "spec", "by_name", "training"))  # attributes of the module that holds the layers


def input_shape(model: Config, layers: list[LayerConfig]) -> Shape:
    """Return the shape of one example, from the field in which this version of Keras stores it."""
    first = layers[0]
    while first.kind in MODELS or first.kind in (*QUANTIZE, "TimeDistributed", "Bidirectional"):
        if first.get("batch_input_shape") is not None or first.get("batch_shape") is not None:
            break
        if first.kind in MODELS:
            inner = model_layers(Config(first.file, first.where, first.values), first.keras)
            if not inner:
                break
            first = inner[0]
        else:
            first = first.inner("layer")
    for config, name in [(first, "batch_shape"), (first, "batch_input_shape"), (model, "build_input_shape")]:
        if config.get(name) is not None:
            shape = config.items(name)
            if not 2 <= len(shape) <= 8 or not all(s is None or is_size(s) for s in shape[1:]):
                raise FormatError(f"{model.file}: field {name!r} is {shown(shape)}, expected e.g. [null, 15].")
            return tuple(shape[1:])
    after = layers[1] if first.kind == INPUT and len(layers) > 1 else first
    return (None,) if after.kind == "Embedding" else (None, None)
