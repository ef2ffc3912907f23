"""Build an ONNX graph from nodes and constants. Values are represented by their names; shapes may be dynamic.

The graph uses opset 18 and IR version 8, which onnxruntime 1.14 and newer can run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

OPSET, IR_VERSION = 18, 8
_END = np.iinfo(np.int64).max

# name of an activation -> ONNX operator, alpha and beta; the "activations" of RNN operators use the same names
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "linear": ("Affine", {"alpha": 1.0, "beta": 0.0}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_sigmoid_keras2": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "relu1": ("HardSigmoid", {"alpha": 1.0, "beta": 0.0}),
}

# those of layers alone
OPERATORS: dict[str, tuple[str, dict[str, float]]] = {
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "leaky_relu_0.01": ("LeakyRelu", {"alpha": 0.01}),
    "leaky_relu_0.1": ("LeakyRelu", {"alpha": 0.1}),
    "leaky_relu_0.3": ("LeakyRelu", {"alpha": 0.3}),
    "hard_silu": ("HardSwish", {}),
    "exponential": ("Exp", {}),
}


class Graph:
    """Nodes in the order of computation, and their constants.

    Args:
        outer: the graph that contains this one as the body of a loop; its values can be used here.

    Attributes:
        prefix: prefix of new names.
        steps: of the root: id of a layer -> model of one timestep of its cell, which is a user's own.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[Any] = []
        self.root: Graph = self if outer is None else outer.root
        self.constants: dict[
            str, np.ndarray
        ] = {}  # used in the root only; the body of a loop reads the constants of the root
        self.prefix, self._taken = "", 0
        self.steps: dict[int, Any] = {}
        self._known: dict[tuple[object, ...], str] = {}  # content of a constant -> name

    def name(self, kind: str) -> str:
        """Return a new unique name."""
        self.root._taken += 1
        return f"{self.root.prefix}{kind}_{self.root._taken}"

    def constant(self, value: Tensor) -> str:
        """Add a constant tensor. Equal tensors, such as those of modules of one parent, are stored once."""
        array = value.detach().cpu().contiguous().numpy()
        key = (array.shape, array.dtype.str, hashlib.sha256(array.data).digest())
        if key not in self.root._known:
            name = self.root._known[key] = self.name("constant")
            self.root.constants[name] = array
        return self.root._known[key]

    def numbers(self, *values: int) -> str:
        """Add a constant of int64 numbers (n,)."""
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def nodes_of(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; '' marks a missing optional input."""
        from onnx import helper

        names = [self.name(op) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes_of(op, inputs, 1, **attributes)[0]

    def dims(self, x: str, start: int, end: int | None = None) -> str:
        """Return the sizes of the axes start:end, (n,)."""
        return self.node("Shape", x, start=start, **({} if end is None else {"end": end}))

    def shape(self, *parts: str | int) -> str:
        """Join values (n,) and numbers to one shape."""
        return self.node("Concat", *(p if isinstance(p, str) else self.numbers(p) for p in parts), axis=0)

    def reshape(self, x: str, *parts: str | int) -> str:
        """Reshape x; -1 marks the remaining size."""
        return self.node("Reshape", x, self.shape(*parts))

    def zeros(self, *parts: str | int) -> str:
        """Make float32 zeros of a shape."""
        return self.node("ConstantOfShape", self.shape(*parts))

    def slice(self, x: str, axis: int, start: int | str, end: int | str | None = None, step: int = 1) -> str:
        """Compute x[start:end:step] along an axis; with ``end`` None up to the last element."""
        last = (_END if step > 0 else -_END) if end is None else end
        edges = [v if isinstance(v, str) else self.numbers(v) for v in (start, last)]
        return self.node("Slice", x, *edges, self.numbers(axis), self.numbers(step))

    def flip(self, x: str, axis: int) -> str:
        """Reverse x along an axis."""
        return self.slice(x, axis, -1, step=-1)

    def pick(self, x: str, index: int, axis: int) -> str:
        """Compute x[index] along an axis and remove the axis."""
        return self.node("Squeeze", self.slice(x, axis, index, index + 1 or None), self.numbers(axis))

    def permuted(self, x: str, *axes: int) -> str:
        """Transpose x to another order of the axes."""
        return self.node("Transpose", x, perm=list(axes))

    def linear(self, x: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """Compute X W^T + b over the last axis, which may have size 0."""
        if weight.shape[1] == 0:  # all inputs were removed; runtimes differ on empty products
            x, weight = self.zeros(self.dims(x, 0, -1), 1), weight.new_zeros(weight.shape[0], 1)
        product = self.node("MatMul", x, self.constant(weight.t()))
        return product if bias is None else self.node("Add", product, self.constant(bias))

    def activated(self, x: str, activation: str) -> str:
        """Apply an activation of :data:`unbraid.networks.cells.ACTIVATIONS`."""
        if activation == "linear":
            return x
        if activation in COMPOSED:
            return COMPOSED[activation](self, x)
        op, numbers = {**ACTIVATIONS, **OPERATORS}[activation]
        return self.node(op, x, **numbers)

    def gelu(self, x: str) -> str:
        """Compute x / 2 * (1 + erf(x / sqrt(2)))."""
        half = self.node("Mul", x, self.constant(torch.tensor([0.5])))
        error = self.node("Erf", self.node("Mul", x, self.constant(torch.tensor([0.5**0.5]))))
        return self.node("Mul", half, self.node("Add", error, self.constant(torch.ones(1))))

    def clipped(self, x: str, low: float, high: float) -> str:
        """Compute min(max(x, low), high)."""
        return self.node("Clip", x, self.constant(torch.tensor(low)), self.constant(torch.tensor(high)))

    def log_sigmoid(self, x: str) -> str:
        """Compute log(sigmoid(x))."""
        return self.node("Neg", self.node("Softplus", self.node("Neg", x)))

    def one_against_rest(self, scores: str, count: int, dtype: torch.dtype = torch.float32) -> str:
        """Compute log-odds (..., K) from log probabilities, as :func:`unbraid.networks.heads.one_against_rest`."""
        own = torch.zeros(count, count, dtype=dtype).fill_diagonal_(-torch.inf)  # row k is without score k
        apart = self.node("Add", self.node("Unsqueeze", scores, self.numbers(-2)), self.constant(own))
        others = self.node("ReduceLogSumExp", apart, self.numbers(-1), keepdims=0)
        return self.node("Sub", scores, others)

    def include(self, proto: Any, inputs: Sequence[str]) -> list[str]:
        """Add the nodes and constants of a whole model.

        Args:
            proto: the model; its names are changed.
            inputs: values that it reads, in the order of its inputs.

        Returns:
            its outputs.
        """
        from onnx import helper, numpy_helper

        _rename(proto.graph, self.name("part") + "/")
        given = dict(zip((value.name for value in proto.graph.input), inputs, strict=True))
        for tensor in proto.graph.initializer:
            given[tensor.name] = self.constant(torch.from_numpy(numpy_helper.to_array(tensor).copy()))
        self.nodes += [helper.make_node("Identity", [value], [name]) for name, value in given.items()]
        self.nodes += list(proto.graph.node)
        return [value.name for value in proto.graph.output]

    def tensors(self) -> list[Any]:
        """Return the constants as ONNX tensors."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(array, name) for name, array in self.constants.items()]


# activations that are several nodes
COMPOSED: dict[str, Callable[[Graph, str], str]] = {
    "gelu": Graph.gelu,
    "silu": lambda graph, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    "mish": lambda graph, x: graph.node("Mul", x, graph.node("Tanh", graph.node("Softplus", x))),
    "relu6": lambda graph, x: graph.clipped(x, 0.0, 6.0),
    "hard_tanh": lambda graph, x: graph.clipped(x, -1.0, 1.0),
    "log_sigmoid": Graph.log_sigmoid,
}


def _rename(graph: Any, prefix: str) -> None:
    """Put a prefix before all names of a graph and of the bodies of its loops."""
    for node in graph.node:
        node.name = f"{prefix}{node.name}" if node.name else ""
        for names in (node.input, node.output):
            names[:] = [f"{prefix}{name}" if name else "" for name in names]  # '' is a missing optional input
        for attribute in node.attribute:
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                _rename(body, prefix)
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        value.name = f"{prefix}{value.name}"
