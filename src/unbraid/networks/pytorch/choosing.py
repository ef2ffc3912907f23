"""Choose the output layer of a user's nn.Module: the layer whose scores the module returns. Shapes: N examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from unbraid.errors import DataError, UnsupportedLayer
from unbraid.networks.inputs import Inputs
from unbraid.networks.outputs import OUTPUTS, Output
from unbraid.networks.pytorch.answer import Answer, changed_answer, disagreements, find_answer
from unbraid.networks.pytorch.arranging import Arrangement, arrangements, compared
from unbraid.networks.pytorch.checking import SUPPORTED
from unbraid.networks.pytorch.heads import is_head, scores_of
from unbraid.networks.pytorch.running import Run


@dataclass(frozen=True)
class Head:
    """The output layer.

    Attributes:
        path: path of the layer.
        answer: the result that depends on it; None if no result can be compared.
        shown: whether the result is a known function of its scores. The arrangement of its calls is then certain.
        others: paths of other layers whose scores the module returns too; empty if the user named the layer.
    """

    path: str
    answer: Answer | None = None
    shown: bool = False
    others: tuple[str, ...] = ()


def choose_head(module: nn.Module, run: Run, candidates: list[Inputs], head: str | None, output: Output | None) -> Head:
    """Find the output layer, and the result of the module that depends on it.

    Args:
        module: the user's module.
        run: recorded values of its first call.
        candidates: ways to split the example along its axes.
        head: path of the layer; None searches for it.
        output: activation of the layer, if the user gave one.
    """
    heads = [name for name, part in module.named_modules() if is_head(part)]
    if head is None and not heads:
        raise UnsupportedLayer(
            f"{type(module).__name__} has no nn.Linear that could compute its scores (products with an embedding need "
            f"an nn.Linear that shares its weight; distances to class vectors are not supported); {SUPPORTED}."
        )
    _check_kinds(module, run)
    fits = returned(heads, run, candidates)
    name = _found_head(module, run, fits, heads, output) if head is None else head
    if name not in heads:
        raise DataError(f"head={head!r} is not an nn.Linear of the module; it has {heads}.")
    if name not in run.heads:
        raise DataError(f"head={head!r} did not run on the example.")
    _check_head(module.get_submodule(name), name, run)
    columns = run.heads[name][0][1].shape[-1]
    if columns == 1 and output in (None, "softmax") and (name not in fits or fits[name].output != "sigmoid"):
        raise DataError(_regression(name))
    if name in fits:
        others = tuple(other for other in fits if other != name) if head is None else ()
        return Head(name, fits[name], shown=True, others=others)
    return Head(name, _changed(name, run, candidates, output))


def returned(heads: list[str], run: Run, candidates: list[Inputs]) -> dict[str, Answer]:
    """Return path -> result, for the layers of which a result of the module is a known function."""
    sizes = list(dict.fromkeys([run.examples, *(inputs.examples for inputs in candidates)]))
    fits: dict[str, Answer] = {}
    for name in heads:
        for _, answer in itertools.islice((f for rows in sizes for f in fitting(name, run, rows)), 1):
            fits[name] = answer
    return fits


def fitting(name: str, run: Run, rows: int) -> Iterator[tuple[Arrangement, Answer]]:
    """Yield arrangements of the calls of a layer with which a result is a known function of its scores.

    Args:
        name: path of the layer.
        run: recorded values.
        rows: number of examples of the call.
    """
    calls = [scores for _, scores in run.heads.get(name, [])]
    for arrangement in arrangements(calls, rows, run.packed) if calls else ():
        scores, results = compared(arrangement, calls, run.results, rows, run.packed)
        if (answer := find_answer(scores, results)) is not None:
            yield arrangement, answer


def options(head: Head, run: Run, rows: int) -> list[tuple[Arrangement, Answer | None]]:
    """List possible arrangements of the output layer with ``rows`` examples, and the result that fits each."""
    if head.shown:
        return list(fitting(head.path, run, rows))
    calls = [x for x, _ in run.heads[head.path]]
    return [(found, head.answer) for found in arrangements(calls, rows, run.packed) if found.pick == "all"]


def _found_head(module: nn.Module, run: Run, fits: dict[str, Answer], heads: list[str], output: Output | None) -> str:
    """Find the layer whose scores are returned. Activated scores and decisions are preferred to plain scores."""
    columns = {name: run.heads[name][0][1].shape[-1] for name in fits}
    if output is not None and OUTPUTS[output].numbers:
        fits = {name: answer for name, answer in fits.items() if answer.numbers is not None}
    single = output in (None, "softmax")
    numbers = [name for name in fits if columns[name] == 1 and fits[name].output is None and single]
    classes = {name: fits[name] for name in fits if name not in numbers}
    shown = [name for name, answer in classes.items() if answer.output is not None]
    found = shown or list(classes)
    if len(found) == 1:
        return found[0]
    if numbers and not classes:
        raise DataError(_regression(numbers[0]))
    ran = [name for name in run.heads if name in heads]
    for only in [name for name in ran if not fits and len(ran) == 1]:
        _check_head(module.get_submodule(only), only, run)
    many = f"several layers fit: {sorted(found)}" if found else f"none of {heads} computes the module's result"
    raise DataError(f"the output layer was not found ({many}): name it with head=.")


def _regression(name: str) -> str:
    return (
        f"layer {name!r} has one column without a sigmoid, a regression output or the logit of two classes. Pass "
        f"task='regression', or head={name!r}, output='sigmoid', or another layer as head=."
    )


def _check_kinds(module: nn.Module, run: Run) -> None:
    """Raise UnsupportedLayer if forward runs under inference mode or autocast."""
    weights = dict(module.named_parameters())
    for name, calls in run.heads.items():
        for features, scores in calls:
            if features.is_inference() or scores.is_inference():
                raise UnsupportedLayer(
                    "the module's forward runs under torch.inference_mode(), and no gradients pass through its "
                    "tensors: remove it from forward, and use it where the module is called."
                )
            weight = weights.get(f"{name}.weight")
            if weight is not None and scores.dtype != weight.dtype:
                raise UnsupportedLayer(
                    f"layer {name!r} has weights of {weight.dtype} and outputs of {scores.dtype}: the module's forward "
                    "uses autocast. Remove it from forward, and use it where the module is called."
                )


def _changed(name: str, run: Run, candidates: list[Inputs], output: Output | None) -> Answer | None:
    """Find a result that changes the scores but not the decisions; raise UnsupportedLayer if decisions differ."""
    others = [scores for calls in run.heads.values() for _, scores in calls]
    calls = [scores for _, scores in run.heads[name]]
    for arrangement in arrangements(calls, candidates[0].examples, run.packed):
        if arrangement.pick != "all":
            continue
        scores, results = compared(arrangement, calls, run.results, candidates[0].examples, run.packed)
        answer = changed_answer(scores, results, others)
        if answer is None:
            continue
        wrong = disagreements(answer, scores, results, output or "softmax")
        if wrong is not None and bool(wrong.any()):
            raise UnsupportedLayer(_after(name, output))
        return answer
    return None


def _after(name: str, output: Output | None) -> str:
    if output is not None and OUTPUTS[output].numbers:
        return (
            f"after head={name!r} the module changes the numbers (for example by a scale or by adding an input): "
            "return the outputs of the layer, or a sigmoid, tanh or relu of them."
        )
    return (
        f"after head={name!r} the module changes its decisions (for example by a mask or a prior): "
        "move that step into the bias of the layer, or return the scores of the layer."
    )


def _check_head(layer: nn.Module, name: str, run: Run) -> None:
    """Raise UnsupportedLayer unless the output layer is plain and all its calls are over examples."""
    features, scores = run.heads[name][0]
    if not torch.allclose(scores, scores_of(layer, features), rtol=1e-4, atol=1e-5):
        raise UnsupportedLayer(f"output layer {name!r} is {type(layer).__name__} with a custom forward; {SUPPORTED}.")
    if len({x.shape for x, _ in run.heads[name]}) > 1 and len({x.dim() for x, _ in run.heads[name]}) > 1:
        raise UnsupportedLayer(
            f"output layer {name!r} runs {len(run.heads[name])} times in one forward, over inputs of other shapes; "
            "supported is one call, or one call for each timestep."
        )
