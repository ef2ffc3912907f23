"""Operations of a graph as Keras 3 writes them; Keras 2 has no form that Keras 3 reads."""

from __future__ import annotations

from typing import Any

from unbraid.errors import UnsupportedLayer, quoted
from unbraid.export.keras_model import Node, Ref
from unbraid.networks.graph.operations import OPERATION
from unbraid.networks.graph_spec import LayerSpec
from unbraid.networks.keras.operations import MODERN

_NN = (
    "Relu", "Relu6", "Sigmoid", "Softplus", "Softsign", "Silu", "LogSigmoid", "HardSilu", "Selu", "Elu", "Gelu",
    "LeakyRelu", "Softmax", "LogSoftmax",
)  # fmt: skip
_OTHER = {"Rsqrt": "math", "Logsumexp": "math", "Cast": "core", "StopGradient": "core"}
_CLASSES = {form.name: (name, form) for name, form in reversed(MODERN.items())}  # the first class of each operation
_OF_CALL = ("constant", "constant_first", "key")


def is_operation(layer: Any) -> bool:
    """Return whether a layer of a graph is an operation."""
    return isinstance(layer, LayerSpec) and layer.kind.startswith(OPERATION)


def operation(layer: LayerSpec) -> tuple[str, str, dict[str, Any]]:
    """Return module, class and settings of an operation.

    Raises:
        UnsupportedLayer: Keras 3 has no such operation.
    """
    name = layer.kind.removeprefix(OPERATION)
    transposed = any(layer.settings.get(one) for one in ("transpose_first", "transpose_second"))
    if name not in _CLASSES or transposed:
        raise UnsupportedLayer(f"layer {quoted(layer.name)!r} computes {name}: use unbraid.export_onnx.")
    kind, form = _CLASSES[name]
    own = {setting: keras for keras, setting in form.settings.items()}
    settings = {own[n]: value for n, value in layer.settings.items() if n in own and n not in _OF_CALL}
    part = "nn" if kind in _NN else _OTHER.get(kind, "numpy")
    return f"keras.src.ops.{part}", kind, settings


def operation_node(layer: LayerSpec, reads: tuple[Ref, ...]) -> Node:
    """Return the call of an operation, with its constants."""
    constant: tuple[Any, ...] = (layer.settings["constant"],) if "constant" in layer.settings else ()
    if "key" in layer.settings:
        key = layer.settings["key"]
        constant = ([_key(part) for part in (key if isinstance(key, list) else [key])],)
    first = bool(layer.settings.get("constant_first", False))
    apart = layer.kind.removeprefix(OPERATION) not in ("concatenate", "stack")
    before, behind = (constant, ()) if first else ((), constant)
    return Node(reads, apart=apart, before=before, behind=behind, operation=True)


def _key(part: Any) -> Any:
    if isinstance(part, list):
        return {"class_name": "__slice__", "config": dict(zip(("start", "stop", "step"), part, strict=True))}
    return {"class_name": "__ellipsis__", "config": {}} if part == "..." else part
