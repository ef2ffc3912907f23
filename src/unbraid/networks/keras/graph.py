"""A Keras model's layers in the order in which they run: Sequential, or a Functional model that is one chain."""

from __future__ import annotations

from typing import Any

from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.limits import check_size
from unbraid.networks.keras.config import Config, LayerConfig, is_size, shown
from unbraid.networks.keras.hdf5 import Shape
from unbraid.networks.keras.layers import check_supported
from unbraid.networks.keras.recurrent import KINDS, gives_sequences

INPUT = "InputLayer"
_MASK_OPERATIONS = ("NotEqual", "Any", "Equal")  # Keras 3 stores masks as operations, see Graph.check_masks


def layer_chain(model: Config, keras: int) -> tuple[list[LayerConfig], Shape]:
    """Return the layers after the input, and the shape of the input without the axis of examples.

    Raises:
        UnsupportedLayer: the model is no chain of layers.
        FormatError: the configuration is not what Keras writes.
    """
    kind = model.text("class_name")
    if kind == "Sequential":
        inner = model.get("config")
        body = Config(model.file, "the model", {"layers": inner} if isinstance(inner, list) else inner)
        layers = model_layers(body, keras)
        check_supported(layers, (INPUT,))
    elif kind in ("Functional", "Model"):
        body = Config(model.file, "the model", model.get("config"))
        layers = Graph(body, keras).chain()
    else:
        raise UnsupportedLayer(
            f"{model.file}: the model is a {shown(kind)}; supported: Sequential, or Functional as one chain of layers."
        )
    if not layers:
        raise FormatError(f"{model.file}: the model has no layers; expected at least a recurrent one and a Dense.")
    shape = _input_shape(body, layers)
    return (layers[1:] if layers[0].kind == INPUT else layers), shape


def model_layers(model: Config, keras: int) -> list[LayerConfig]:
    """Return all layers of a model; raise FormatError for too many, or for two of one name."""
    values = model.items("layers")
    check_size(len(values), "layers", model.file, "number of layers")
    layers = [LayerConfig(model.file, value, keras, f"layer {i}") for i, value in enumerate(values)]
    names = set[str]()
    for layer in layers:
        if layer.name in names:
            raise FormatError(f"{model.file}: two layers are called {shown(layer.name)}; expected different names.")
        names.add(layer.name)
    return layers


def _input_shape(model: Config, layers: list[LayerConfig]) -> Shape:
    """Return the shape of one example, from the field in which this version of Keras stores it."""
    first = layers[0]
    for config, field in [(first, "batch_shape"), (first, "batch_input_shape"), (model, "build_input_shape")]:
        if config.get(field) is not None:
            shape = config.items(field)
            if not 2 <= len(shape) <= 8 or not all(s is None or is_size(s) for s in shape[1:]):
                raise FormatError(f"{model.file}: field {field!r} is {shown(shape)}, expected e.g. [null, 15].")
            return tuple(shape[1:])
    after = layers[1] if first.kind == INPUT and len(layers) > 1 else first
    return (None,) if after.kind == "Embedding" else (None, None)


class Graph:
    """A Functional model's layers and what each of them reads."""

    def __init__(self, model: Config, keras: int) -> None:
        self.model, self.keras = model, keras
        self.layers = {layer.name: layer for layer in model_layers(model, keras)}
        check_supported(list(self.layers.values()), (INPUT, *_MASK_OPERATIONS))

    def chain(self) -> list[LayerConfig]:
        """From the input to the output."""
        found: dict[str, LayerConfig] = {}
        layer = self.end("output_layers")
        while layer.kind != INPUT:
            if call(layer)[1].get("initial_state") is not None:
                raise layer.unsupported("is given an initial_state", "layers that start from zero")
            if layer.name in found:
                raise FormatError(f"{self.model.file}: {layer.where} reads its own output; expected a chain of layers.")
            found[layer.name] = layer
            layer = self.layer(source(layer, only_argument(layer))[0])
        if layer is not self.end("input_layers"):
            raise FormatError(f"{self.model.file}: {layer.where} is not the model's input; expected a chain from it.")
        chain = [layer, *reversed(found.values())]
        self.check_rest({layer.name, *found, *self.check_masks(chain)})
        return chain

    def check_rest(self, used: set[str]) -> None:
        """Raises UnsupportedLayer where layers are left over."""
        rest = set(self.layers) - used
        if rest:
            raise UnsupportedLayer(
                f"{self.model.file}: layers {shown(sorted(rest))} are a branch; supported: one chain of layers, or an "
                "encoder's and a decoder's."
            )

    def ends(self, field: str) -> list[Any]:
        """Return the inputs or the outputs of the model: one, a list, or in Keras 3 a mapping by name."""
        if isinstance(named := self.model.get(field), dict):
            return list(named.values())
        ends = self.model.items(field)
        return ends if ends and isinstance(ends[0], list) else [ends]

    def end(self, field: str) -> LayerConfig:
        """Return the only input layer or output layer of the model."""
        ends = self.ends(field)
        if len(ends) != 1:
            raise UnsupportedLayer(f"{self.model.file}: the model has {len(ends)} {field}; supported: one.")
        return self.layer(source(self.model, ends[0])[0])

    def layer(self, name: str) -> LayerConfig:
        """Return a layer by its name."""
        if name not in self.layers:
            raise FormatError(f"{self.model.file}: layer {shown(name)} is read but missing; expected it in 'layers'.")
        return self.layers[name]

    def check_masks(self, chain: list[LayerConfig]) -> set[str]:
        """Keras 3 writes masks as operations: each must be the mask that the layers before it imply.

        Args:
            chain: layers from an input on; those of a decoder read their first states beside it.

        Returns:
            Names of the operations.
        """
        used: set[str] = set()
        masker: LayerConfig | None = None
        for layer in chain[1:]:
            _, settings = call(layer)
            mask = settings.pop("mask", None)
            settings.pop("initial_state" if layer.kind in KINDS else "", None)
            if mask is not None:
                used |= self._check_mask(layer, mask, masker)
            given = {k: v for k, v in settings.items() if v is not None and not (k == "training" and v is False)}
            if given:
                raise layer.unsupported(f"is called with {shown(given)}", "one input and no settings")
            masker = masker_behind(layer, masker)
        return used

    def _check_mask(self, layer: LayerConfig, mask: Any, masker: LayerConfig | None) -> set[str]:
        """One mask: ``NotEqual`` of what the masker reads, for Masking in an ``Any`` over the features."""
        operations = [self.layer(source(layer, mask)[0])]
        known = masker is not None
        if masker is not None and masker.kind == "Masking":
            whole = operations[0]
            known = (whole.kind, whole.get("axis"), whole.get("keepdims")) == ("Any", -1, False)
            operations.append(self.layer(source(whole, only_argument(whole))[0]) if known else whole)
        last = operations[-1]
        if masker is None or not known or last.kind != "NotEqual" or not self._compares(last, masker):
            raise layer.unsupported("is given a mask of its own", "the masks of Embedding and Masking")
        return {operation.name for operation in operations}

    def _compares(self, operation: LayerConfig, masker: LayerConfig) -> bool:
        """Return whether the operation computes the mask of the layer."""
        arguments, _ = call(operation)
        value = masker.number("mask_value") if masker.kind == "Masking" else 0
        return (
            len(arguments) == 2
            and source(operation, arguments[0]) == source(masker, only_argument(masker))
            and type(arguments[1]) in (int, float)  # not True, which equals 1
            and arguments[1] == value
        )


def masker_behind(layer: LayerConfig, before: LayerConfig | None) -> LayerConfig | None:
    """Return the layer that made the mask of the next layer."""
    if layer.kind == "Masking" or (layer.kind == "Embedding" and layer.flag("mask_zero")):
        return layer
    recurrent = layer.kind in KINDS or layer.kind == "Bidirectional"
    if layer.kind in ("Embedding", "Flatten", "RepeatVector") or (recurrent and not gives_sequences(layer)):
        return None
    return before


def call(layer: LayerConfig) -> tuple[list[Any], dict[str, Any]]:
    """Arguments and settings with which a layer is called, from Keras 2's lists or Keras 3's objects."""
    nodes = layer.outer.items("inbound_nodes")
    if len(nodes) != 1:
        raise layer.unsupported(f"is used {len(nodes)} times", "layers used once")
    node = nodes[0]
    if isinstance(node, dict):
        call = Config(layer.file, f"{layer.where}, 'inbound_nodes'", {"args": [], "kwargs": {}} | node)
        return call.items("args"), dict(call.child("kwargs").values)
    if not isinstance(node, list):
        raise FormatError(f"{layer.file}: {layer.where}: field 'inbound_nodes' is {shown(nodes)}, expected calls.")
    settings = node[0][3] if len(node) == 1 and isinstance(node[0], list) and len(node[0]) == 4 else {}
    return node, dict(Config(layer.file, f"{layer.where}, 'inbound_nodes'", settings).values)


def only_argument(layer: LayerConfig) -> Any:
    """Return the inputs of a layer."""
    arguments, _ = call(layer)
    if len(arguments) == 1 and is_list_of_tensors(arguments[0]):
        arguments = arguments[0]  # Keras 3, as a merge reads them
    if len(arguments) != 1:
        raise layer.unsupported(f"reads {len(arguments)} inputs", "layers with one input")
    return arguments[0]


def is_list_of_tensors(value: Any) -> bool:
    """Return whether a value is a list of inputs, as :func:`source` reads them."""
    return isinstance(value, list) and all(isinstance(part, list | dict) for part in value)


def source(reader: Config, value: Any) -> tuple[str, int]:
    """Layer that a tensor comes from, and which of its outputs: ``[name, 0, 0]``, in Keras 3 inside an object."""
    if isinstance(value, dict):
        value = Config(reader.file, reader.where, value).child("config").get("keras_history")
    if not (isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and type(value[2]) is int):
        raise FormatError(f"{reader.file}: {reader.where} reads {shown(value)}, expected e.g. ['lstm', 0, 0].")
    return value[0], value[2]
