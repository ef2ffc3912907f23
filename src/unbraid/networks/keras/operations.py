"""Operators and functions of Functional models, as Keras 2 and Keras 3 store them, in one form.

Keras 2 stores ``x + y`` as a TFOpLambda of the function ``__operators__.add``, Keras 3 as an operation ``Add``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unbraid.networks.graph.operations import BINARY, OPERATION, OPERATIONS, REDUCING
from unbraid.networks.keras.arguments import Arguments, history, is_tensor
from unbraid.networks.keras.config import LayerConfig, shown

_LAMBDAS = ("TFOpLambda", "SlicingOpLambda")
_CONSTANT = "_CONSTANT_VALUE"  # marks a constant in the place of a value, in Keras 2
_OF_LAYERS = ("name", "trainable", "dtype", "function")


@dataclass(frozen=True)
class Form:
    """How one version of Keras writes an operation.

    Attributes:
        name: the operation, a key of :data:`unbraid.networks.graph.operations.OPERATIONS` without its start.
        reads: names of the arguments that are values, in order.
        settings: name of another argument in Keras -> name of the setting, in the order of the arguments.
        fixed: settings that the name in Keras implies.
    """

    name: str
    reads: tuple[str, ...] = ("x",)
    settings: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


_PAIR = ("x1", "x2")
MODERN: dict[str, Form] = {
    **{name: Form(_snake(name)) for name in (
        "Negative", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Reciprocal", "Sign", "Sin", "Cos",
        "LogicalNot", "Tanh", "Sigmoid", "Relu", "Relu6", "Selu", "Silu", "Softplus", "Softsign", "Mish", "LogSigmoid",
    )},
    "Absolute": Form("abs"),
    "Abs": Form("abs"),
    "HardSilu": Form("hard_silu"),
    "StopGradient": Form("identity", ("variable",)),
    **{name: Form(_snake(name), _PAIR) for name in (
        "Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Power", "Equal", "NotEqual", "Greater",
        "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr",
    )},
    "TrueDivide": Form("divide", _PAIR),
    **{name: Form(_snake(name), settings=_same("axis", "keepdims")) for name in ("Sum", "Mean", "Any", "All")},
    "Max": Form("max", settings=_same("axis", "keepdims")),
    "Amax": Form("max", settings=_same("axis", "keepdims")),
    "Min": Form("min", settings=_same("axis", "keepdims")),
    "Amin": Form("min", settings=_same("axis", "keepdims")),
    "Logsumexp": Form("logsumexp", settings=_same("axis", "keepdims")),
    "GetItem": Form("get_item", settings=_same("key")),
    "ExpandDims": Form("expand_dims", settings=_same("axis")),
    "Squeeze": Form("squeeze", settings=_same("axis")),
    "Transpose": Form("transpose", settings=_same("axes")),
    "Reshape": Form("reshape", settings={"newshape": "shape"}),
    "Flip": Form("flip", settings=_same("axis")),
    "Concatenate": Form("concatenate", ("xs",), _same("axis")),
    "Stack": Form("stack", settings=_same("axis")),
    "Softmax": Form("softmax", settings=_same("axis")),
    "LogSoftmax": Form("log_softmax", settings=_same("axis")),
    "Clip": Form("clip", settings={"x_min": "low", "x_max": "high"}),
    "LeakyRelu": Form("leaky_relu", settings={"negative_slope": "slope"}),
    "Elu": Form("elu", settings=_same("alpha")),
    "Gelu": Form("gelu", settings=_same("approximate")),
    "Matmul": Form("matmul", _PAIR),
    "Where": Form("where", ("condition", "x1", "x2")),
    "Cast": Form("cast", settings=_same("dtype")),
    "ZerosLike": Form("zeros_like", settings=_same("dtype")),
    "OnesLike": Form("ones_like", settings=_same("dtype")),
    "Repeat": Form("repeat", settings=_same("repeats", "axis")),
    "Tile": Form("tile", settings=_same("repeats")),
}  # fmt: skip
_ONE_OF_TENSORFLOW = {
    "math.abs": "abs", "math.negative": "negative", "math.exp": "exp", "math.expm1": "expm1", "math.log": "log",
    "math.log1p": "log1p", "math.sqrt": "sqrt", "math.rsqrt": "rsqrt", "math.square": "square",
    "math.reciprocal": "reciprocal", "math.sign": "sign", "math.sin": "sin", "math.cos": "cos", "math.tanh": "tanh",
    "math.sigmoid": "sigmoid", "math.softplus": "softplus", "math.log_sigmoid": "log_sigmoid", "identity": "identity",
    "math.logical_not": "logical_not",
}  # fmt: skip
_FEATURES_OF_TENSORFLOW = ("relu", "relu6", "selu", "silu", "softsign")
_TWO_OF_TENSORFLOW = {
    "__operators__.add": "add", "math.add": "add", "math.subtract": "subtract", "math.multiply": "multiply",
    "math.truediv": "divide", "math.divide": "divide", "math.maximum": "maximum", "math.minimum": "minimum",
    "math.pow": "power", "math.squared_difference": "squared_difference", "math.equal": "equal",
    "math.not_equal": "not_equal", "math.greater": "greater", "math.greater_equal": "greater_equal",
    "math.less": "less", "math.less_equal": "less_equal", "math.logical_and": "logical_and",
    "math.logical_or": "logical_or", "__operators__.eq": "equal", "__operators__.ne": "not_equal",
}  # fmt: skip
TENSORFLOW: dict[str, Form] = {
    **{name: Form(own) for name, own in _ONE_OF_TENSORFLOW.items()},
    **{f"nn.{name}": Form(name, ("features",)) for name in _FEATURES_OF_TENSORFLOW},
    "nn.swish": Form("silu", ("features",)),
    "stop_gradient": Form("identity", ("input",)),
    **{name: Form(own, ("x", "y")) for name, own in _TWO_OF_TENSORFLOW.items()},
    **{f"math.reduce_{name}": Form(name, ("input_tensor",), _same("axis", "keepdims"))
       for name in REDUCING if name != "logsumexp"},
    "math.reduce_logsumexp": Form("logsumexp", ("input_tensor",), _same("axis", "keepdims")),
    "__operators__.getitem": Form("get_item", ("tensor",), {"slice_spec": "key"}),
    "expand_dims": Form("expand_dims", ("input",), _same("axis")),
    "squeeze": Form("squeeze", ("input",), _same("axis")),
    "transpose": Form("transpose", ("a",), {"perm": "axes"}),
    "reshape": Form("reshape", ("tensor",), _same("shape")),
    "reverse": Form("flip", ("tensor",), _same("axis")),
    "concat": Form("concatenate", ("values",), _same("axis")),
    "stack": Form("stack", ("values",), _same("axis"), {"axis": 0}),
    "nn.softmax": Form("softmax", ("logits",), _same("axis")),
    "nn.log_softmax": Form("log_softmax", ("logits",), _same("axis")),
    "clip_by_value": Form("clip", ("t",), {"clip_value_min": "low", "clip_value_max": "high"}),
    "nn.leaky_relu": Form("leaky_relu", ("features",), {"alpha": "slope"}),
    "nn.elu": Form("elu", ("features",)),
    "nn.gelu": Form("gelu", ("features",), _same("approximate")),
    "linalg.matmul": Form("matmul", ("a", "b"), {
        "transpose_a": "transpose_first", "transpose_b": "transpose_second"}),
    "where": Form("where", ("condition", "x", "y")),
    "math.l2_normalize": Form("normalize", ("x",), _same("axis", "epsilon")),
    "cast": Form("cast", ("x",), _same("dtype")),
    "zeros_like": Form("zeros_like", ("input",), _same("dtype")),
    "ones_like": Form("ones_like", ("input",), _same("dtype")),
    "repeat": Form("repeat", ("input",), _same("repeats", "axis")),
    "tile": Form("tile", ("input",), {"multiples": "repeats"}),
}  # fmt: skip


def form_of(layer: LayerConfig) -> Form | None:
    """Return the operation that a layer is; None for a layer of another kind."""
    if layer.kind in _LAMBDAS:
        return TENSORFLOW.get(str(layer.get("function")).removeprefix("compat.v1."))
    return MODERN.get(layer.kind) if is_operation(layer) else None


def is_operation(layer: LayerConfig) -> bool:
    """Return whether a layer is an operation, also one that is not supported."""
    module = layer.outer.get("module")
    if isinstance(module, str):
        return layer.kind in _LAMBDAS or module.startswith(("keras.src.ops.", "keras.ops."))
    old = layer.keras >= 3 and layer.kind in MODERN and "trainable" not in layer.values  # Keras 3 writes .h5 so
    return layer.kind in _LAMBDAS or old


def operation(layer: LayerConfig, node: Any, number: int) -> tuple[LayerConfig, Arguments]:
    """Return a call of an operation as a layer of its own, and what it reads.

    Args:
        layer: the operation.
        node: the call, as Keras stores it.
        number: number of the call.

    Raises:
        UnsupportedLayer: arguments that are not supported.
    """
    form = form_of(layer)
    given = _given(layer, node, form)
    if form is None:  # refused later, with all other layers that are not supported
        function = layer.get("function")
        kind = f"tf.{function}" if isinstance(function, str) else layer.kind
        unknown = {**layer.outer.values, "class_name": kind, "config": {"name": layer.name}}
        keys = [history(layer, value) for value in _tensors(list(given.values()))]
        return LayerConfig(layer.file, unknown, layer.keras, layer.where), Arguments(keys, [], [], {})
    reads: list[Any] = []
    settings: dict[str, Any] = dict(form.fixed)
    listed = False
    for place, name in enumerate(form.reads):
        value = given.pop(name, None)
        if is_tensor(value):
            reads.append(value)
        elif isinstance(value, list) and value and all(map(is_tensor, value)):
            reads, listed = [*reads, *value], True
        elif form.name in BINARY and value is not None and len(form.reads) == 2:
            settings |= {"constant": value, "constant_first": place == 0}
        else:
            raise layer.unsupported(f"reads {name} {shown(value)}", "values of layers")
    for name, value in given.items():
        if name in form.settings and value is not None:
            settings[form.settings[name]] = _key(layer, value) if form.name == "get_item" else value
        elif name != "name" and value not in (None, False):
            raise layer.unsupported(f"is called with {name} {shown(value)}", ", ".join(form.settings) or "no settings")
    if not reads:
        raise layer.unsupported("reads no value of another layer", "operations that read values of layers")
    if form.name == "transpose" and "axes" not in settings:
        raise layer.unsupported("moves the axis of examples", "axes that begin with 0")
    name = layer.name if number == 0 else f"{layer.name}_{number}"
    own = {"class_name": OPERATION + form.name, "config": {"name": name, **settings}}
    arguments = Arguments([history(layer, value) for value in reads], [], [], {}, listed)
    return LayerConfig(layer.file, own, layer.keras, layer.where), arguments


def _given(layer: LayerConfig, node: Any, form: Form | None) -> dict[str, Any]:
    """Return all arguments of a call by name, with those in the configuration of the operation."""
    found = {name: value for name, value in layer.values.items() if name not in _OF_LAYERS}
    if form is not None and "dtype" in form.settings and layer.kind not in _LAMBDAS:
        found["dtype"] = layer.get("dtype")
    names = [] if form is None else [*form.reads, *form.settings]
    if isinstance(node, dict):
        args, named = node.get("args"), node.get("kwargs")
        positional = list(args) if isinstance(args, list) else []
        found |= named if isinstance(named, dict) else {}
    else:
        positional, named = _legacy(node)
        found |= named
    free = [name for name in names if name not in found] + [f"argument {n}" for n in range(len(positional))]
    return found | dict(zip(free, positional, strict=False))


def _legacy(node: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the first argument and the others of a call, as Keras 2 stores them."""
    if not isinstance(node, list) or not node:
        return [], {}
    last: list[Any]
    first: Any
    if isinstance(node[0], str):
        first, last = _value(node), node
    elif isinstance(node[0], list) and node[0] and isinstance(node[0][0], list):  # one list of values
        first, last = [_value(part) for part in node[0]], node[0][0]
    else:
        first = _value(node[0]) if len(node) == 1 else [_value(part) for part in node]
        last = node[0] if isinstance(node[0], list) else []
    named = next((part for part in last[3:4] if isinstance(part, dict)), {})
    return [first], {name: _nested(value) for name, value in named.items()}


def _value(part: Any) -> Any:
    if not isinstance(part, list):
        return part
    return part[2] if len(part) > 2 and part[0] == _CONSTANT else part[:3]


def _nested(value: Any) -> Any:
    """Return an argument, in which Keras 2 may mark constants."""
    if isinstance(value, list) and len(value) > 2 and value[0] == _CONSTANT:
        return value[2]
    return value


def _tensors(value: Any) -> list[Any]:
    """Return all values of layers in an argument."""
    if is_tensor(value):
        return [value]
    parts = value if isinstance(value, list) else []
    return [found for part in parts for found in _tensors(part)]


def _key(layer: LayerConfig, value: Any) -> list[Any]:
    """Return the key of a slice as positions, [start, stop, step], "..." for an ellipsis and null for a new axis."""
    return [_key_part(layer, part) for part in (value if isinstance(value, list) else [value])]


def _key_part(layer: LayerConfig, part: Any) -> Any:
    if part is None or type(part) is int:
        return part
    if part == "..." or (isinstance(part, dict) and part.get("class_name") == "__ellipsis__"):
        return "..."
    if isinstance(part, dict):
        inner = part.get("config") if part.get("class_name") == "__slice__" else part
        if isinstance(inner, dict) and set(inner) <= {"start", "stop", "step"}:
            return [inner.get("start"), inner.get("stop"), inner.get("step")]
    raise layer.unsupported(f"selects {shown(part)}", "positions, slices and a new axis")


assert {OPERATION + form.name for form in (*MODERN.values(), *TENSORFLOW.values())} <= set(OPERATIONS)
