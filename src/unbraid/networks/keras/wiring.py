"""The calls of a Keras model: Sequential and Functional models, nested ones and wrappers, as one list.

A reference is (number of a value, which of its outputs). The inputs of the model have the first numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.limits import check_size
from unbraid.networks.graph.module import KerasGraph
from unbraid.networks.keras.config import Config, LayerConfig, is_size, shown
from unbraid.networks.keras.graph import INPUT, model_layers
from unbraid.networks.keras.hdf5 import Shape
from unbraid.networks.keras.modern import CUDNN, QUANTIZE, cudnn_cells, modern
from unbraid.networks.keras.recurrent import KINDS as RECURRENT
from unbraid.networks.keras.weights import Place

MODELS = ("Sequential", "Functional", "Model")
_STATEFUL = (*RECURRENT, *CUDNN, "Bidirectional", "RNN")
_MASKS = {"query_mask": 0, "value_mask": 1, "key_mask": 2}
_READS = ("query", "value", "key")  # arguments by name, in order
_QUIET = ("training", "return_attention_scores")  # settings of a call that must be off

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
    """

    layer: LayerConfig
    name: str
    places: tuple[Place, ...]
    reads: list[Reference]
    states: list[Reference] = field(default_factory=list)
    masks: list[Reference | None] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    cudnn: bool = False


@dataclass
class Wiring:
    """All calls of a model.

    Attributes:
        file: name of the file.
        keras: major version of Keras that wrote it.
        inputs: name and shape of each input, without the axis of examples.
        calls: in the order of computation.
        outputs: name of an output layer -> what it gives.
    """

    file: str
    keras: int
    inputs: list[tuple[str, Shape]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outputs: dict[str, Reference] = field(default_factory=dict)

    def add(self, call: Call) -> int:
        """Add a call and return the number of its value."""
        self.calls.append(call)
        check_size(len(self.calls), "layers", self.file, "number of layers")
        return len(self.inputs) + len(self.calls) - 1


def wired(model: Config, keras: int) -> Wiring:
    """Return the calls of a whole model.

    Raises:
        UnsupportedLayer: the model is a class of its own, or is called in a way that is not supported.
        FormatError: the configuration is not what Keras writes.
    """
    found = Wiring(model.file, keras)
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
        results = _called(found, Call(inner, graph_name("", inner.name), within, [(0, 0)]))
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
                value = _called(found, Call(layer, graph_name(prefix, layer.name), own[layer.name], value[:1]))
        return value[:1]
    return _functional(found, body, layers, given, prefix, own)


def _called(found: Wiring, call: Call) -> list[Reference]:
    """Return the results of a call: the first output of a layer, all outputs of a nested model."""
    call.cudnn = call.layer.kind in ("Bidirectional", *CUDNN) and cudnn_cells(call.layer)
    layer, places = call.layer, call.places = modern(call.layer, call.places)
    if layer.kind in MODELS and not layer.custom:
        return _nested(found, layer, call.reads, f"{call.name}/", places)
    return [(found.add(call), 0)]


def _functional(
    found: Wiring,
    body: Config,
    layers: list[LayerConfig],
    given: list[Reference],
    prefix: str,
    own: dict[str, tuple[Place, ...]],
) -> list[Reference]:
    """Resolve the calls of a Functional model in the order in which their inputs become known."""
    values: dict[tuple[str, int], list[Reference]] = {}
    starts = [history(body, end)[:2] for end in ends(body, "input_layers")]
    if len(starts) != len(given):
        raise FormatError(f"{body.file}: {body.where} has {len(starts)} inputs and is called with {len(given)}.")
    for start, reference in zip(starts, given, strict=True):
        values[start] = [reference]
    models = {layer.name for layer in layers if layer.kind in MODELS}

    first: dict[str, int] = {}  # Keras 2 counts the calls of a nested model from 1

    def value_of(name: str, node: int, output: int) -> Reference | None:
        known = values.get((name, node - first.get(name, 0)))
        if known is None:
            return None
        if name in models:
            return known[output] if output < len(known) else None
        return known[0][0], known[0][1] + output

    waiting = [
        (layer, number, _arguments(layer, node))
        for layer in layers
        if layer.kind != INPUT
        for number, node in enumerate(layer.outer.items("inbound_nodes"))
    ]
    for arguments in [arguments for _, _, arguments in waiting]:
        for name, node, _ in arguments.read:
            if name in models:
                first[name] = min(node, first.get(name, node))
    for name, node, _ in [history(body, end) for end in ends(body, "output_layers")]:
        if name in models:
            first[name] = min(node, first.get(name, node))
    while waiting:
        left = []
        for layer, number, arguments in waiting:
            references = {key: value_of(*key) for key in arguments.read}
            if any(reference is None for reference in references.values()):
                left.append((layer, number, arguments))
                continue
            call = arguments.call(layer, graph_name(prefix, layer.name), own[layer.name], references)
            values[layer.name, number] = _called(found, call)
        if len(left) == len(waiting):
            names = sorted({layer.name for layer, _, _ in left})
            raise FormatError(f"{body.file}: layers {shown(names)} read values that no layer gives.")
        waiting = left
    results = [value_of(*history(body, end)) for end in ends(body, "output_layers")]
    if any(result is None for result in results):
        raise FormatError(f"{body.file}: field 'output_layers' of {body.where} names values that no layer gives.")
    return [result for result in results if result is not None]


Key = tuple[str, int, int]  # layer, call, output


@dataclass
class _Arguments:
    """What one call reads, before it is resolved."""

    positional: list[Key]
    states: list[Key]
    masks: list[Key | None]
    settings: dict[str, Any]

    @property
    def read(self) -> list[Key]:
        return [*self.positional, *self.states, *(mask for mask in self.masks if mask is not None)]

    def call(
        self, layer: LayerConfig, name: str, places: tuple[Place, ...], references: dict[Key, Reference | None]
    ) -> Call:
        def all_of(keys: Sequence[Key | None]) -> list[Any]:
            return [None if key is None else references[key] for key in keys]

        return Call(
            layer, name, places, all_of(self.positional), all_of(self.states), all_of(self.masks), self.settings
        )


def _arguments(layer: LayerConfig, node: Any) -> _Arguments:
    """Positional arguments and settings of one call, from Keras 2's lists or Keras 3's objects."""
    if isinstance(node, dict):
        call = Config(layer.file, f"{layer.where}, 'inbound_nodes'", {"args": [], "kwargs": {}} | node)
        positional, settings = call.items("args"), dict(call.child("kwargs").values)
    else:
        if not isinstance(node, list):
            raise FormatError(f"{layer.file}: {layer.where}: a call is {shown(node)}, expected a list or an object.")
        node = [node] if len(node) in (3, 4) and isinstance(node[0], str) else node
        positional = [part[:3] if isinstance(part, list) else part for part in node]
        first = node[0] if node else None
        settings = first[3] if isinstance(first, list) and len(first) == 4 else {}
        settings = dict(Config(layer.file, f"{layer.where}, 'inbound_nodes'", settings).values)
    flat: list[Any] = []
    for argument in positional:
        flat += argument if isinstance(argument, list) and not _is_tensor(argument) else [argument]
    for name in _READS:
        if _is_tensor(settings.get(name)):
            flat.append(settings.pop(name))
    constants = [argument for argument in flat if not _is_tensor(argument)]
    keys = [history(layer, argument) for argument in flat if _is_tensor(argument)]
    if layer.kind in ("NotEqual",) and len(constants) == 1 and type(constants[0]) in (int, float):
        settings["constant"] = constants[0]
    elif constants and any(constant is not None for constant in constants):
        raise layer.unsupported(f"reads the constants {shown(constants)}", "layers that read values of layers")
    states: list[Key] = []
    if layer.kind in _STATEFUL:
        keys, states = keys[:1], keys[1:]
        given = settings.pop("initial_state", None)
        states += [history(layer, state) for state in (given if _many(given) else [given] if given else [])]
    masks = _masks(layer, settings)
    kept: dict[str, Any] = {k: settings.pop(k) for k in ("constant", "use_causal_mask") if k in settings}
    odd = {k: v for k, v in settings.items() if v is not None and not (k in _QUIET and v is False)}
    if odd:
        raise layer.unsupported(f"is called with {shown(odd)}", "calls without such settings")
    if not keys:
        raise layer.unsupported("reads no value of another layer", "layers that read values of layers")
    return _Arguments(keys, states, masks, kept)


def _masks(layer: LayerConfig, settings: dict[str, Any]) -> list[Key | None]:
    """Return the explicit masks of a call, which Keras 3 stores as values."""
    given = settings.pop("mask", None)
    masks = [None if mask is None else history(layer, mask) for mask in (given if _many(given) else [given])]
    for name, place in _MASKS.items():
        if _is_tensor(settings.get(name)):
            masks += [None] * (place + 1 - len(masks))
            masks[place] = history(layer, settings.pop(name))
    return masks if any(mask is not None for mask in masks) else []


def _many(value: Any) -> bool:
    return isinstance(value, list) and not _is_tensor(value)


def _is_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__"
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and type(value[1]) is int


def history(reader: Config, value: Any) -> Key:
    """Layer, call and output of a value: ``[name, 0, 0]``, in Keras 3 inside an object."""
    if isinstance(value, dict):
        value = Config(reader.file, reader.where, value).child("config").get("keras_history")
    if not (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(type(number) is int and 0 <= number < 2**20 for number in value[1:3])
    ):
        raise FormatError(f"{reader.file}: {reader.where} reads {shown(value)}, expected e.g. ['lstm', 0, 0].")
    return value[0], value[1], value[2]


def ends(model: Config, field: str) -> list[Any]:
    """Return the inputs or outputs of a model: one, a list, or in Keras 3 a mapping by name."""
    found = model.get(field)
    if isinstance(found, dict):
        return list(found.values())
    found = model.items(field)
    return [found] if _is_tensor(found) else found


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
