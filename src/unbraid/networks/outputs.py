"""The kinds of output layers, and the task of a network that follows from each. Shapes: C output columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from unbraid.errors import ConfigError, DataError, quoted

Task = Literal["classification", "labels", "regression"]
GivenTask = Literal["classification", "regression"]  # a user states it where the output layer leaves it open
Output = Literal[
    "softmax", "sigmoid", "linear", "linear+sigmoid", "linear+tanh", "linear+relu", "linear+softplus",
    "linear+exponential", "linear+elu", "linear+selu", "linear+softsign", "linear+leaky_relu", "linear+leaky_relu_0.01",
    "linear+leaky_relu_0.1", "linear+leaky_relu_0.3", "linear+hard_sigmoid", "linear+hard_sigmoid_keras2",
    "linear+relu1", "linear+relu6", "linear+silu", "linear+gelu",
]  # fmt: skip


@dataclass(frozen=True)
class OutputKind:
    """What the values behind an output layer are.

    Attributes:
        activation: the activation behind the layer, a key of :data:`unbraid.networks.cells.ACTIVATIONS`.
        numbers: whether the values are predicted numbers (a regression), not probabilities.
    """

    activation: str
    numbers: bool = False


OUTPUTS: Mapping[Output, OutputKind] = {
    "softmax": OutputKind("softmax"),
    "sigmoid": OutputKind("sigmoid"),
    **{
        name: OutputKind(name.removeprefix("linear+"), numbers=True)
        for name in get_args(Output)
        if name.startswith("linear")
    },
}
NUMBERS: Mapping[str, Output] = {kind.activation: name for name, kind in OUTPUTS.items() if kind.numbers}


def task_of(output: Output, columns: int) -> Task:
    """Return the task of a network: ``labels`` for several sigmoid columns, ``regression`` for numbers."""
    if OUTPUTS[output].numbers:
        return "regression"
    return "labels" if output == "sigmoid" and columns > 1 else "classification"


def check_task(task: object) -> None:
    """Raise ConfigError for a task that does not exist."""
    if task is not None and task not in get_args(GivenTask):
        raise ConfigError(f"task={quoted(repr(task))}: expected 'classification' or 'regression', or None.")


def check_restricts(task: Task, allowed: object) -> None:
    """Raise DataError if classes are restricted in a regression, which has none."""
    if task == "regression" and allowed is not None:
        raise DataError("allowed= restricts classes, and a regression gives numbers: leave it out.")


def check_decides(task: Task, call: str) -> None:
    """Raise DataError for a regression, whose outputs are no probabilities or decisions.

    Args:
        task: of the network.
        call: the method that was called, for the message.
    """
    if task == "regression":
        raise DataError(f"{call}: a regression gives numbers, expected a classifier: call predict for the numbers.")
