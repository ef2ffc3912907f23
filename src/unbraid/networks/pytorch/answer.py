"""Compare the result of a user's module with the decisions of its output layer.

Shapes: N examples, T timesteps, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unbraid.errors import DataError
from unbraid.networks.outputs import NUMBERS, OUTPUTS, Output

Order = Literal["NTC", "TNC", "NCT"]
ORDERS: tuple[Order, ...] = ("NTC", "TNC", "NCT")
TIE = 1e-4  # scores with a smaller difference, relative to the largest, are a tie

CHANGED = "changed"
ACTIVATION: dict[str, Output] = {
    "softmax": "softmax",
    "log_softmax": "softmax",
    "argmax": "softmax",
    "sigmoid": "sigmoid",
    "logsigmoid": "sigmoid",
    "positive": "sigmoid",
}  # relations that show which activation belongs to the output layer


@dataclass(frozen=True)
class Answer:
    """The relation of one result of a module to the scores of its output layer.

    Attributes:
        place: position of the result in the tensors that the module returns.
        relation: "" for the scores, a key of :data:`ACTIVATION`, or ``changed`` for another function of the scores
            with the same decisions on the example.
        order: order of the axes compared with (N, T, C): the same, (T, N, C) or (N, C, T).
    """

    place: int
    relation: str
    order: Order = "NTC"

    @property
    def output(self) -> Output | None:
        """The output activation that the relation implies for a classifier; None if it implies none."""
        return ACTIVATION.get(self.relation)

    @property
    def numbers(self) -> Output | None:
        """The kind of output that the relation implies for a regression; None if it implies none."""
        return NUMBERS.get(self.relation or "linear")


def find_answer(scores: Tensor, results: Sequence[Tensor]) -> Answer | None:
    """Find the first result that is a known function of the scores (N, [T,] C); None if there is none."""
    for place, result in enumerate(results):
        for order in ORDERS:
            for relation in _relations(scores, result):
                given = _aligned(result, _shape(scores, relation), order)
                if given is not None and _equal(given, _related(scores, relation)):
                    return Answer(place, relation, order)
    return None


def changed_answer(scores: Tensor, results: Sequence[Tensor], others: Sequence[Tensor]) -> Answer | None:
    """Find the first result with the shape of the scores that is not a known function of the scores of a layer.

    Args:
        scores: scores of the output layer, (N, [T,] C).
        results: the tensors that the module returned.
        others: scores of all layers.
    """
    for place, result in enumerate(results):
        alike = result.shape == scores.shape and result.is_floating_point()
        if alike and all(find_answer(other, [result]) is None for other in others):
            return Answer(place, CHANGED)
    return None


def check_answer(answer: Answer, scores: Tensor, results: Sequence[Tensor], output: Output, head: str) -> None:
    """Compare the decisions of the module with those of its output layer, for the examples of one run.

    Args:
        answer: the result to compare.
        scores: scores of the output layer, (N, [T,] C).
        results: the tensors that the module returned.
        output: activation of the output layer.
        head: path of the output layer.

    Raises:
        DataError: decisions differ. The message has their share.
    """
    wrong = disagreements(answer, scores, results, output)
    if wrong is not None and bool(wrong.any()):
        count, total = int(wrong.sum()), wrong.numel()
        raise DataError(
            f"the module's result and its output layer {head!r} differ in {count} of {total} decisions "
            f"({count / total:.1%}): forward changes or reorders the scores of that layer (a prior, a mask, sorting). "
            "Move that step into the layer, and restore the order of the inputs before it."
        )


def disagreements(answer: Answer, scores: Tensor, results: Sequence[Tensor], output: Output) -> Tensor | None:
    """Mark the decisions that differ and are not near ties; None if the result cannot be compared.

    If the result holds the same examples in another order, all examples at another position are marked.

    Args:
        answer: the result to compare.
        scores: scores of the output layer, (N, [T,] C).
        results: the tensors that the module returned.
        output: activation of the output layer.
    """
    shown = answer.output
    numbers = OUTPUTS[output].numbers
    if not scores.numel() or answer.place >= len(results) or not (numbers or shown in (None, output)):
        return None  # the user asked for another activation
    given = _aligned(results[answer.place], _shape(scores, answer.relation), answer.order)
    if given is None:
        return None
    if answer.relation != CHANGED and _same_values(given, scores, answer.relation):
        return scores.new_zeros(scores.shape[:1], dtype=torch.bool)
    if numbers:
        return ~_near(given, _related(scores, "" if answer.relation == CHANGED else answer.relation))
    moved = _moved(given, scores, answer.relation)
    return _decided_otherwise(given, scores, answer.relation, output) if moved is None else moved


def _same_values(given: Tensor, scores: Tensor, relation: str) -> bool:
    """Return whether a result equals the function of the scores. This is the usual case, so it must be fast."""
    if not given.is_floating_point():
        return torch.equal(given.long(), _related(scores, relation).long())
    if relation == "" and given.data_ptr() == scores.data_ptr() and given.stride() == scores.stride():
        return True  # the module returns the scores tensor
    values = _related(scores, relation).to(given.dtype)
    return bool((given - values).abs().amax() <= 1e-5 * (1 + values.abs().amax()))


def _decided_otherwise(given: Tensor, scores: Tensor, relation: str, output: Output) -> Tensor:
    close = TIE * (1 + scores.abs().amax(-1, keepdim=True))
    if output == "sigmoid":
        return (_holds(given, relation) != (scores > 0)) & (scores.abs() > close)
    chosen = given.long() if relation == "argmax" else given.argmax(-1)
    chosen = chosen.clamp(0, scores.shape[-1] - 1)
    behind = scores.amax(-1) - scores.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    return behind > close.squeeze(-1)


def _moved(given: Tensor, scores: Tensor, relation: str) -> Tensor | None:
    """Mark the moved examples (N,) if the result is the scores in another order; else return None."""
    if not given.is_floating_point() or not given.shape[0]:
        return None
    for known in ("", "softmax", "log_softmax", "sigmoid", "logsigmoid") if relation == CHANGED else (relation,):
        rows, own = _related(scores, known).flatten(1), given.flatten(1)
        apart = ~torch.isclose(own, rows.to(own.dtype), rtol=1e-3, atol=1e-5).all(-1)
        ours, theirs = (values[values[:, 0].argsort()] for values in (rows.to(own.dtype), own))
        if torch.allclose(theirs, ours, rtol=1e-3, atol=1e-5):
            return apart
    return None


def _relations(scores: Tensor, result: Tensor) -> tuple[str, ...]:
    if result.is_floating_point():
        return "", "tanh", "relu", "softmax", "log_softmax", "sigmoid", "logsigmoid"
    if result.dtype.is_complex or result.numel() == 0:
        return ()
    return ("positive", "argmax") if scores.shape[-1] > 1 else ("positive",)


def _shape(scores: Tensor, relation: str) -> torch.Size:
    return scores.shape[:-1] if relation == "argmax" else scores.shape


def _aligned(result: Tensor, shape: torch.Size, order: Order) -> Tensor | None:
    """Move the axes of the result to (N, [T,] C) or (N, [T]); return None if its size differs."""
    if result.numel() != shape.numel() or (order == "TNC" and len(shape) < 2):
        return None
    if order == "TNC":
        return result.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1)
    if order == "NCT":
        fits = len(shape) == 3 and result.shape == (shape[0], shape[2], shape[1])
        return result.transpose(1, 2) if fits else None
    return result.reshape(shape)


def _related(scores: Tensor, relation: str) -> Tensor:
    if relation == "":
        return scores
    if relation in ("softmax", "log_softmax"):
        return (torch.softmax if relation == "softmax" else torch.log_softmax)(scores, -1)
    if relation in ("sigmoid", "logsigmoid"):
        return (torch.sigmoid if relation == "sigmoid" else logsigmoid)(scores)
    if relation in ("tanh", "relu"):
        return (torch.tanh if relation == "tanh" else torch.relu)(scores)
    return scores.argmax(-1) if relation == "argmax" else scores > 0


def _near(given: Tensor, values: Tensor) -> Tensor:
    """Mark the rows of numbers that are equal up to rounding."""
    close: Tensor = (given - values).abs().amax(-1) <= TIE * (1 + values.abs().amax())
    return close


def _equal(given: Tensor, values: Tensor) -> bool:
    if not given.is_floating_point():
        return torch.equal(given.long(), values.long())
    return torch.allclose(given, values.to(given.dtype), rtol=1e-4, atol=1e-6)


def _holds(given: Tensor, relation: str) -> Tensor:
    """Return the independent labels that a result predicts, as booleans."""
    if relation == "sigmoid" or (relation == CHANGED and bool(((given >= 0) & (given <= 1)).all())):
        return given > 0.5
    return given.exp() > 0.5 if relation == "logsigmoid" else given > 0
