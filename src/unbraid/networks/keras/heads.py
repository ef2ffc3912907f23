"""Which output activation a network has, from its last dense layer and its training loss."""

from __future__ import annotations

from typing import Literal

from unbraid.errors import UnsupportedLayer
from unbraid.networks.keras.loss import Loss
from unbraid.networks.spec import DenseSpec


def output_of(file: str, head: DenseSpec, loss: Loss) -> Literal["softmax", "sigmoid"]:
    """The output activation; raises UnsupportedLayer for one that gives no scores of classes."""
    if head.activation == "sigmoid" or (head.activation == "linear" and loss.binary_from_logits):
        return "sigmoid"
    if head.activation not in ("softmax", "linear") or head.units == 1:
        raise UnsupportedLayer(
            f"{file}: the output layer {head.name!r} has activation {head.activation!r} and units {head.units}; "
            "supported: softmax or linear (logits) over several units, sigmoid, or linear with "
            "BinaryCrossentropy(from_logits=True)."
        )
    return "softmax"
