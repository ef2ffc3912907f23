"""The training loss that a Keras file stores, and what it implies: a classifier or a regressor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unbraid.errors import UnsupportedLayer, quoted
from unbraid.networks.keras.config import shown
from unbraid.networks.outputs import GivenTask

_CROSS_ENTROPY = ("crossentropy", "bce", "cce", "xent", "logloss")
_OF_SCORES = (*_CROSS_ENTROPY, "hinge", "focal")
_OF_PROBABILITIES = (*_OF_SCORES, "nll", "negativeloglikelihood")
_EVIDENCE = {"linear": _OF_SCORES, "sigmoid": _OF_PROBABILITIES}  # a Gaussian NLL reads linear outputs, too
_OF_NUMBERS = ("mse", "mae", "mape", "msle", "rmse", "squared", "absolute", "huber", "logcosh", "poisson", "quantile")
_BETWEEN = ("softmax", "sigmoid", "linear")  # activations that classifiers and regressors have


@dataclass(frozen=True)
class Loss:
    """A training loss.

    Attributes:
        name: as the file stores it; None where it stores none.
        from_logits: whether the loss applied the output activation itself.
    """

    name: str | None = None
    from_logits: bool = False

    @property
    def binary_from_logits(self) -> bool:
        """Whether each linear output is the logit of a label of its own."""
        return self.from_logits and self._has(("binarycrossentropy", "binaryfocal"))

    def classifies(self, activation: str) -> bool:
        """Return whether a network with this output activation and this loss is a classifier."""
        if activation == "softmax" or (self.name is None and activation != "linear"):
            return True
        return self._has(_EVIDENCE.get(activation, _OF_PROBABILITIES))

    def regresses(self, activation: str) -> bool:
        """Return whether a network with this output activation and this loss predicts numbers."""
        if self.classifies(activation):
            return self.name is None and activation not in _BETWEEN
        return (self.name or "").replace("_", "").isalnum() and self._has(_OF_NUMBERS)  # not a list of losses

    def _has(self, parts: tuple[str, ...]) -> bool:
        plain = "".join(c for c in (self.name or "").lower() if c.isalnum())
        return any(part in plain for part in parts)


def read_loss(compiled: Any, output: str | None = None, outputs: Sequence[str] = ()) -> Loss:
    """Return the loss in a ``training_config`` (``.h5``) or a ``compile_config`` (``.keras``).

    Args:
        compiled: the parsed JSON, or None.
        output: name of the output layer, where losses are stored by output.
        outputs: names of all outputs in the order of the model, where a list holds one loss for each.
    """
    stored = compiled.get("loss") if isinstance(compiled, dict) else None
    if isinstance(stored, dict) and "class_name" not in stored:
        stored = stored.get(output, list(stored.values()) or None)
    if isinstance(stored, list) and output in outputs and len(stored) == len(outputs):
        stored = stored[outputs.index(output)]
    if isinstance(stored, list):
        stored = stored[0] if len(stored) == 1 else shown(stored) if stored else None
    if isinstance(stored, dict):
        settings = stored.get("config")
        if not isinstance(settings, dict):  # a function: its configuration is its name
            return Loss(quoted(settings))
        if stored.get("class_name") == "LossFunctionWrapper":
            return Loss(quoted(settings.get("name") or settings.get("fn")), settings.get("from_logits") is True)
        return Loss(quoted(stored.get("class_name")), settings.get("from_logits") is True)
    return Loss(None if stored is None else quoted(stored))


def task_by(file: str, head: str, activation: str, loss: Loss, task: GivenTask | None) -> GivenTask:
    """Return the task of a network.

    Args:
        file: name of the file, for messages.
        head: name of the output layer.
        activation: its activation.
        loss: what the file stores.
        task: what the user stated; None decides by the loss and the activation.

    Raises:
        UnsupportedLayer: the loss and the activation leave the task open.
    """
    if task is not None:
        return task
    if loss.regresses(activation):
        return "regression"
    if loss.classifies(activation):
        return "classification"
    trained = "the file stores no loss" if loss.name is None else f"it was trained with the loss {shown(loss.name)}"
    raise UnsupportedLayer(
        f"{file}: the output layer {shown(head)} has activation {shown(activation)} and {trained}, so its outputs may "
        "be scores of classes or numbers. Pass task='classification' or task='regression' to unbraid.load, or --task."
    )
