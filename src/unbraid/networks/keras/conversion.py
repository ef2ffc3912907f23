"""What the translations of all Keras layers share: their result, the checks of shapes, activations and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import FormatError
from unbraid.networks.keras.activations import function_of
from unbraid.networks.keras.config import LayerConfig, shown
from unbraid.networks.keras.hdf5 import Shape
from unbraid.networks.keras.weights import Variable
from unbraid.networks.stage_spec import StageSpec

Read = Callable[[Sequence[Variable]], list[np.ndarray]]

ELEMENTWISE = (
    "tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign",
    "relu6", "leaky_relu", "hard_silu", "hard_tanh", "log_sigmoid", "exponential",
)  # fmt: skip
_OTHER_NAMES = {
    "swish": "silu", "hard_swish": "hard_silu", "softmax_v2": "softmax", "log_softmax_v2": "log_softmax",
    None: "linear",
}  # fmt: skip


@dataclass(frozen=True)
class Translation:
    """A Keras layer as a stage.

    Attributes:
        spec: None for a layer that does nothing when predicting.
        shape: of what it gives, without the examples' axis.
        weights: name inside the stage -> tensor.
    """

    spec: StageSpec | None
    shape: Shape
    weights: dict[str, Tensor] = field(default_factory=dict)


def expect_axes(layer: LayerConfig, shape: Shape, axes: int) -> Shape:
    """Return the shape; raise FormatError if it has another number of axes than the layer reads."""
    if len(shape) != axes:
        wanted = {1: "one vector an example", 2: "a sequence of vectors (return_sequences=True before it?)"}[axes]
        raise FormatError(f"{layer.file}: {layer.where} reads shape {shape}, expected {wanted}.")
    return shape


def activation(layer: LayerConfig, field: str, allowed: Sequence[str] = ELEMENTWISE) -> str:
    """Name of an activation in the meaning of the Keras that wrote the file."""
    name = layer.get(field, "linear")
    if isinstance(name, dict) and isinstance(name.get("config"), str) and name.get("module") in (None, "builtins"):
        name = name["config"]  # a built-in function, as Keras 3 may write it
    found = function_of(name)
    if found is not None and (found != "softmax" or found in allowed):
        return found
    name = _OTHER_NAMES.get(name, name) if isinstance(name, str | None) else name
    if not isinstance(name, str) or name not in allowed:
        raise layer.unsupported(f"has {field} {shown(name)}", ", ".join(allowed))
    return "hard_sigmoid_keras2" if name == "hard_sigmoid" and layer.keras < 3 else name


def tensor(array: np.ndarray) -> Tensor:
    """Convert an array to a contiguous tensor with its own memory."""
    return torch.from_numpy(np.ascontiguousarray(array))


def dense_weights(layer: LayerConfig, inputs: int | None, units: int, part: str, read: Read) -> dict[str, Tensor]:
    """Return the weight (H, D) and the bias (H,) of a dense layer."""
    biased = layer.flag("use_bias", True)
    variables = [Variable(part, 0, (inputs, units))] + [Variable(part, 1, (units,))] * biased
    kernel, *bias = read(variables)
    return {"weight": tensor(kernel.T), "bias": tensor(bias[0]) if bias else torch.zeros(units)}
