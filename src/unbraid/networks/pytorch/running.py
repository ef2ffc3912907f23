"""Run a user's nn.Module on its example batch, also in another order, to find the batch axis.

Shapes: N examples, T timesteps, F features of the output layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unbraid.errors import DataError, UnbraidError, UnsupportedLayer
from unbraid.networks.inputs import Inputs, leaves, map_tree
from unbraid.networks.pytorch.calling import call, said


@dataclass
class Run:
    """Recorded values of one run.

    Attributes:
        results: the tensors that the module returned.
        linears: path of every nn.Linear that ran -> inputs and outputs of its last call.
        counts: path of those and of recurrent layers -> number of calls.
        rows: path of a recurrent layer -> batch sizes of its inputs.
    """

    results: list[Tensor] = field(default_factory=list)
    linears: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    rows: dict[str, set[int]] = field(default_factory=dict)


def watched(module: nn.Module, example: Any, what: str = "example does") -> Run:
    """Run ``module`` once; raises DataError if its forward fails. The message starts with ``what``."""
    run = Run()
    handles = [
        part.register_forward_hook(_hook(run, name))
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.RNNBase)
    ]
    try:
        with torch.no_grad():
            result = call(module, example)
    except UnbraidError:
        raise
    except Exception as error:  # whatever a user's forward raises
        raise DataError(f"{what} not run through the module: {said(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
    run.results = [leaf for leaf in leaves(result) if isinstance(leaf, Tensor)]
    return run


def _hook(run: Run, name: str) -> Callable[[nn.Module, tuple, Any], None]:
    def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
        run.counts[name] += 1
        if isinstance(module, nn.RNNBase):
            run.rows.setdefault(name, set()).add(_sequences(module, inputs[0]))
        elif inputs:
            run.linears[name] = (inputs[0], output)

    return hook


def _sequences(layer: nn.RNNBase, x: Tensor | PackedSequence) -> int:
    if isinstance(x, PackedSequence):
        return int(x.batch_sizes[0])
    return 1 if x.dim() == 2 else x.shape[0 if layer.batch_first else 1]


def batch_axes(module: nn.Module, example: Any, head: str) -> tuple[int, int]:
    """Find the axis of examples in the inputs and in the inputs of the output layer, by swapping examples.

    Args:
        module: in eval mode.
        example: at least two different examples.
        head: path of the output layer.

    Raises:
        DataError: no such axis, or too few examples.
        UnsupportedLayer: results that are random or depend on other examples of the batch, or a recurrent layer that
            does not run once over one sequence of each example.
    """
    run = watched(module, example)
    before = run.linears[head][0]
    again = watched(module, example).linears[head][0]
    if before.shape != again.shape or not torch.allclose(before, again, rtol=1e-3, atol=1e-5):
        raise UnsupportedLayer(
            "the module gives other values each time it runs on the same example. Turn dropout off in eval mode "
            "(F.dropout needs training=self.training), and keep no state between runs."
        )
    first = next(leaf for leaf in leaves(example) if isinstance(leaf, Tensor) and leaf.dim())
    for axis in (0, 1):
        if first.dim() <= axis or first.shape[axis] < 2:
            continue
        inputs = Inputs(example, first.shape[axis], axis)
        after = _rearranged(module, inputs, head, _turned(inputs.examples))
        for out in (0, 1):
            if after is None or before.dim() <= out or before.shape[out] != len(inputs) or after.shape != before.shape:
                continue
            if _same(before, after, out, _turned(inputs.examples)):
                if _same(before, before, out, _turned(inputs.examples)):
                    raise DataError("example holds the same example several times: pass at least two different ones.")
                _check_layers(run, inputs.examples)
                _check_apart(module, inputs, head, before, out)
                return axis, out
    raise DataError(_no_axis(first, before, head))


def _check_layers(run: Run, examples: int) -> None:
    for name, rows in run.rows.items():
        if rows != {examples}:
            raise UnsupportedLayer(
                f"layer {name!r} reads {max(rows)} sequences where there are {examples} examples; supported is one "
                "sequence of each example. Check batch_first, and pass whole sequences to the layer."
            )
        if run.counts[name] > 1:
            raise UnsupportedLayer(
                f"layer {name!r} runs {run.counts[name]} times in one forward; supported is once, over one whole "
                "sequence of each example."
            )


def _check_apart(module: nn.Module, inputs: Inputs, head: str, before: Tensor, out: int) -> None:
    """Replace every other example, in two ways; the results of one way must not change.

    One way may drop the longest sequence, which can change the shape of the results.
    """
    half = torch.arange(inputs.examples) // 2
    found = []
    for rows in (half, inputs.examples - 1 - half.flip(0)):  # in order, for modules that want sorted lengths
        after = _rearranged(module, inputs, head, rows)
        if after is not None and after.shape == before.shape:
            found.append(_same(before, after, out, rows))
    if found and not any(found):
        raise UnsupportedLayer(
            "the examples of a batch change each other's results (a mean, softmax or attention over the batch axis?). "
            "Supported are modules that process each example independently."
        )


def _rearranged(module: nn.Module, inputs: Inputs, head: str, rows: Tensor) -> Tensor | None:
    def moved(leaf: Any, inputs: Inputs) -> Any:
        axis = inputs.axis_of(leaf)
        return leaf if axis is None else leaf.index_select(axis, rows.to(leaf.device))

    try:
        return watched(module, map_tree(partial(moved, inputs=inputs), inputs.tree)).linears[head][0]
    except DataError:
        return None


def _same(before: Tensor, after: Tensor, out: int, rows: Tensor) -> bool:
    return torch.allclose(before.index_select(out, rows.to(before.device)), after, rtol=1e-3, atol=1e-5)


def _turned(examples: int) -> Tensor:
    return torch.cat([torch.arange(1, examples), torch.arange(1)])


def _no_axis(first: Tensor, before: Tensor, head: str) -> str:
    sizes = first.shape[:2]
    if max(sizes) < 2 or (first.shape[0] < 2 and before.shape[0] < 2):
        return "example holds one example: pass a batch of at least two different ones."
    if not set(before.shape[:-1]) & set(sizes):
        return (
            f"output layer {head!r} reads {tuple(before.shape)} where the inputs are {tuple(first.shape)}; expected "
            "(N, F) or (N, T, F): keep examples and timesteps apart (nn.Linear works over the last axis)."
        )
    return (
        "the batch axis was not found: swapping examples does not swap the results. Pass at least two different ones "
        "(of one length, where the module packs with enforce_sorted=True); is batch_first=True missing?"
    )
