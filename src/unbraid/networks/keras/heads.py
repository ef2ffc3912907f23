"""Which kind of output a network has, from its last dense layer, its training loss and the stated task."""

from __future__ import annotations

from unbraid.errors import UnsupportedLayer
from unbraid.networks.keras.loss import Loss, task_by
from unbraid.networks.outputs import NUMBERS, GivenTask, Output
from unbraid.networks.stage_spec import DenseSpec


def output_of(file: str, head: DenseSpec, loss: Loss, task: GivenTask | None = None) -> Output:
    """Return the kind of output.

    Args:
        file: name of the file, for messages.
        head: the last dense layer.
        loss: what the file stores.
        task: what the user stated; None decides by the loss and the activation.

    Raises:
        UnsupportedLayer: the task is open, or the activation does not fit it.
    """
    if task_by(file, head.name, head.activation, loss, task) == "regression":
        if head.activation not in NUMBERS:
            raise UnsupportedLayer(
                f"{file}: the output layer {head.name!r} has activation {head.activation!r}; supported for regression: "
                f"{', '.join(NUMBERS)}."
            )
        return NUMBERS[head.activation]
    if head.activation == "sigmoid" or (head.activation == "linear" and loss.binary_from_logits):
        return "sigmoid"
    if head.activation not in ("softmax", "linear", "log_softmax") or head.units == 1:
        raise UnsupportedLayer(
            f"{file}: the output layer {head.name!r} has activation {head.activation!r} and units {head.units}; "
            "supported: softmax or linear (logits) over several units, sigmoid, or linear with "
            "BinaryCrossentropy(from_logits=True). If it predicts numbers, pass task='regression'."
        )
    return "softmax"
