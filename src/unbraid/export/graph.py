"""An ONNX graph in the making: nodes and constants. A value is its name; shapes may be known only when the graph runs.

Opset 18, IR version 8: onnxruntime 1.14 and newer run it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

OPSET, IR_VERSION = 18, 8
_END = np.iinfo(np.int64).max

# name of an activation -> ONNX operator and its alpha and beta; an RNN operator's "activations" have the same names
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "linear": ("Affine", {"alpha": 1.0, "beta": 0.0}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_sigmoid_keras2": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
}


class Graph:
    """Nodes in order and the constants that they read.

    Args:
        outer: the graph that holds this one (the body of a loop), whose values this one can read.

    Attributes:
        prefix: of new names.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[Any] = []
        self.root: Graph = self if outer is None else outer.root
        self.constants: dict[str, np.ndarray] = {}  # of the root only: a body reads them from outside
        self.prefix, self._taken = "", 0
        self._known: dict[tuple[object, ...], str] = {}  # what constants hold -> name

    def name(self, kind: str) -> str:
        """A name that no other value has."""
        self.root._taken += 1
        return f"{self.root.prefix}{kind}_{self.root._taken}"

    def constant(self, value: Tensor) -> str:
        """A constant tensor; one for all that hold the same, as modules of one parent do."""
        array = value.detach().cpu().contiguous().numpy()
        key = (array.shape, array.dtype.str, hashlib.sha256(array.data).digest())
        if key not in self.root._known:
            name = self.root._known[key] = self.name("constant")
            self.root.constants[name] = array
        return self.root._known[key]

    def numbers(self, *values: int) -> str:
        """A constant (n,) of whole numbers."""
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def nodes_of(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """A node of several outputs; an input that is not given is ''."""
        from onnx import helper

        names = [self.name(op) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output."""
        return self.nodes_of(op, inputs, 1, **attributes)[0]

    def dims(self, x: str, start: int, end: int | None = None) -> str:
        """Sizes of some axes, (n,)."""
        return self.node("Shape", x, start=start, **({} if end is None else {"end": end}))

    def shape(self, *parts: str | int) -> str:
        """A shape made of values (n,) and of numbers."""
        return self.node("Concat", *(p if isinstance(p, str) else self.numbers(p) for p in parts), axis=0)

    def reshape(self, x: str, *parts: str | int) -> str:
        """Reshaped; -1 is what is left."""
        return self.node("Reshape", x, self.shape(*parts))

    def zeros(self, *parts: str | int) -> str:
        """float32 zeros of a shape."""
        return self.node("ConstantOfShape", self.shape(*parts))

    def slice(self, x: str, axis: int, start: int | str, end: int | str | None = None, step: int = 1) -> str:
        """x[start:end:step] along an axis; ``end`` None goes to the last."""
        last = (_END if step > 0 else -_END) if end is None else end
        edges = [v if isinstance(v, str) else self.numbers(v) for v in (start, last)]
        return self.node("Slice", x, *edges, self.numbers(axis), self.numbers(step))

    def flip(self, x: str, axis: int) -> str:
        """Turned round along an axis."""
        return self.slice(x, axis, -1, step=-1)

    def pick(self, x: str, index: int, axis: int) -> str:
        """x[index] along an axis, which goes."""
        return self.node("Squeeze", self.slice(x, axis, index, index + 1 or None), self.numbers(axis))

    def permuted(self, x: str, *axes: int) -> str:
        """Axes in another order."""
        return self.node("Transpose", x, perm=list(axes))

    def linear(self, x: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """X W^T + b over the last axis, which may have no columns."""
        if weight.shape[1] == 0:  # every node that it read is gone; runtimes differ on empty products
            x, weight = self.zeros(self.dims(x, 0, -1), 1), weight.new_zeros(weight.shape[0], 1)
        product = self.node("MatMul", x, self.constant(weight.t()))
        return product if bias is None else self.node("Add", product, self.constant(bias))

    def activated(self, x: str, activation: str) -> str:
        """An activation of :data:`unbraid.networks.cells.ACTIVATIONS`."""
        if activation == "linear":
            return x
        if activation == "softmax":
            return self.node("Softmax", x, axis=-1)
        op, numbers = ACTIVATIONS[activation]
        return self.node(op, x, **numbers)

    def tensors(self) -> list[Any]:
        """The constants as ONNX holds them."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
