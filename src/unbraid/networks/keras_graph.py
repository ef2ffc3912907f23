"""A Keras model's layers in the order in which they run: Sequential, or a Functional model that is one chain."""

from __future__ import annotations

from typing import Any

from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.networks.keras_config import Config, LayerConfig, is_size, shown
from unbraid.networks.keras_hdf5 import Shape
from unbraid.networks.keras_recurrent import KINDS, gives_sequences

_INPUT = "InputLayer"
_MASK_OPERATIONS = ("NotEqual", "Any")  # how Keras 3 writes down the masks of Embedding and Masking


def layer_chain(model: Config, keras: int) -> tuple[list[LayerConfig], Shape]:
    """The layers after the input, and the input's shape without the examples' axis.

    Raises:
        UnsupportedLayer: the model is no chain of layers.
        FormatError: the configuration is not what Keras writes.
    """
    kind = model.text("class_name")
    if kind == "Sequential":
        inner = model.get("config")
        body = Config(model.file, "the model", {"layers": inner} if isinstance(inner, list) else inner)
        layers = _layers(body, keras)
    elif kind in ("Functional", "Model"):
        body = Config(model.file, "the model", model.get("config"))
        layers = _Graph(body, keras).chain()
    else:
        raise UnsupportedLayer(
            f"{model.file}: the model is a {shown(kind)}; supported: Sequential, or Functional as one chain of layers."
        )
    if not layers:
        raise FormatError(f"{model.file}: the model has no layers; expected at least a recurrent one and a Dense.")
    shape = _input_shape(body, layers)
    return (layers[1:] if layers[0].kind == _INPUT else layers), shape


def _layers(model: Config, keras: int) -> list[LayerConfig]:
    return [LayerConfig(model.file, v, keras, f"layer {i}") for i, v in enumerate(model.items("layers"))]


def _input_shape(model: Config, layers: list[LayerConfig]) -> Shape:
    """What one example looks like, from whichever field this version of Keras wrote it to."""
    first = layers[0]
    for config, field in [(first, "batch_shape"), (first, "batch_input_shape"), (model, "build_input_shape")]:
        if config.get(field) is not None:
            shape = config.items(field)
            if not 2 <= len(shape) <= 8 or not all(s is None or is_size(s) for s in shape[1:]):
                raise FormatError(f"{model.file}: field {field!r} is {shown(shape)}, expected e.g. [null, 15].")
            return tuple(shape[1:])
    after = layers[1] if first.kind == _INPUT and len(layers) > 1 else first
    return (None,) if after.kind == "Embedding" else (None, None)


class _Graph:
    """A Functional model's layers and what each of them reads."""

    def __init__(self, model: Config, keras: int) -> None:
        self.model = model
        self.layers: dict[str, LayerConfig] = {}
        for layer in _layers(model, keras):
            if layer.name in self.layers:
                raise FormatError(f"{model.file}: two layers are called {shown(layer.name)}; expected different names.")
            self.layers[layer.name] = layer

    def chain(self) -> list[LayerConfig]:
        """From the input to the output."""
        found: dict[str, LayerConfig] = {}
        layer = self._end("output_layers")
        while layer.kind != _INPUT:
            if layer.name in found:
                raise FormatError(f"{self.model.file}: {layer.where} reads its own output; expected a chain of layers.")
            found[layer.name] = layer
            layer = self._layer(_source(layer, _only_argument(layer)))
        if layer is not self._end("input_layers"):
            raise FormatError(f"{self.model.file}: {layer.where} is not the model's input; expected a chain from it.")
        chain = [layer, *reversed(found.values())]
        masking = self._check_masks(chain)
        rest = set(self.layers) - set(found) - {layer.name} - masking
        if rest:
            raise UnsupportedLayer(
                f"{self.model.file}: layers {shown(sorted(rest))} are a branch; supported: one chain of layers."
            )
        return chain

    def _end(self, field: str) -> LayerConfig:
        ends = self.model.items(field)
        ends = ends if ends and isinstance(ends[0], list) else [ends]
        if len(ends) != 1:
            raise UnsupportedLayer(f"{self.model.file}: the model has {len(ends)} {field}; supported: one.")
        return self._layer(_source(self.model, ends[0]))

    def _layer(self, name: str) -> LayerConfig:
        if name not in self.layers:
            raise FormatError(f"{self.model.file}: layer {shown(name)} is read but missing; expected it in 'layers'.")
        return self.layers[name]

    def _check_masks(self, chain: list[LayerConfig]) -> set[str]:
        """Keras 3 writes masks as operations: each must be the mask that the layers before it imply.

        Returns:
            Names of the operations.
        """
        used: set[str] = set()
        masker: LayerConfig | None = None
        for layer in chain[1:]:
            _, settings = _call(layer)
            mask = settings.pop("mask", None)
            if mask is not None:
                used |= self._check_mask(layer, mask, masker)
            given = {k: v for k, v in settings.items() if v is not None and not (k == "training" and v is False)}
            if given:
                raise layer.unsupported(f"is called with {shown(given)}", "one input and no settings")
            masker = _masker(layer, masker)
        return used

    def _check_mask(self, layer: LayerConfig, mask: Any, masker: LayerConfig | None) -> set[str]:
        """One mask: ``NotEqual`` of what the masker reads, for Masking in an ``Any`` over the features."""
        operations = [self._layer(_source(layer, mask))]
        known = masker is not None
        if masker is not None and masker.kind == "Masking":
            whole = operations[0]
            known = (whole.kind, whole.get("axis"), whole.get("keepdims")) == ("Any", -1, False)
            operations.append(self._layer(_source(whole, _only_argument(whole))) if known else whole)
        last = operations[-1]
        if masker is None or not known or last.kind != "NotEqual" or not self._compares(last, masker):
            raise layer.unsupported("is given a mask of its own", "the masks of Embedding and Masking")
        return {operation.name for operation in operations}

    def _compares(self, operation: LayerConfig, masker: LayerConfig) -> bool:
        """Whether the operation finds what the layer marks as not counting."""
        arguments, _ = _call(operation)
        value = masker.number("mask_value") if masker.kind == "Masking" else 0
        return (
            len(arguments) == 2
            and _source(operation, arguments[0]) == _source(masker, _only_argument(masker))
            and type(arguments[1]) in (int, float)  # not True, which equals 1
            and arguments[1] == value
        )


def _masker(layer: LayerConfig, before: LayerConfig | None) -> LayerConfig | None:
    """Which layer made the mask that reaches the layer after this one."""
    if layer.kind == "Masking" or (layer.kind == "Embedding" and layer.flag("mask_zero")):
        return layer
    recurrent = layer.kind in KINDS or layer.kind == "Bidirectional"
    if layer.kind in ("Embedding", "Flatten", "RepeatVector") or (recurrent and not gives_sequences(layer)):
        return None
    return before


def _call(layer: LayerConfig) -> tuple[list[Any], dict[str, Any]]:
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


def _only_argument(layer: LayerConfig) -> Any:
    arguments, _ = _call(layer)
    if len(arguments) != 1:
        raise layer.unsupported(f"reads {len(arguments)} inputs", "layers with one input")
    return arguments[0]


def _source(reader: Config, value: Any) -> str:
    """Name of the layer that a tensor comes from: ``[name, 0, 0]``, in Keras 3 inside an object."""
    if isinstance(value, dict):
        value = Config(reader.file, reader.where, value).child("config").get("keras_history")
    if not (isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)):
        raise FormatError(f"{reader.file}: {reader.where} reads {shown(value)}, expected e.g. ['lstm', 0, 0].")
    return value[0]
