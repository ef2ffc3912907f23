"""Sort a batch by length for a module that packs sequences with ``enforce_sorted=True``.

The lengths are taken from the packing call itself. Shapes: N examples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unbraid.networks.inputs import Inputs, arrays_of

Rule = Callable[[Inputs], Tensor]  # inputs -> sort keys, (N,)


class UnsortedError(Exception):
    """A packing call with lengths that are not sorted.

    Attributes:
        lengths: the unsorted lengths, (N,).
    """

    def __init__(self, lengths: Tensor) -> None:
        super().__init__("lengths must be sorted in decreasing order, because pack_padded_sequence has "
                         "enforce_sorted=True")  # fmt: skip
        self.lengths = lengths


class PackedLengths(TorchFunctionMode):
    """Record the lengths of packing calls, and all other vectors of integers that functions of torch read.

    Raises:
        UnsortedError: a packing call has unsorted lengths.
    """

    def __init__(self) -> None:
        super().__init__()
        self._vectors: list[Tensor] = []
        self._packed: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "_pack_padded_sequence":
            lengths = args[1].detach().cpu()
            self._packed.append(lengths)
            if bool((lengths[1:] > lengths[:-1]).any()):
                raise UnsortedError(lengths)
        else:
            for value in args[:1]:
                if isinstance(value, Tensor) and value.dim() == 1 and not value.is_floating_point():
                    self._vectors.append(value.detach().clone())
        return func(*args, **(kwargs or {}))

    def key(self, examples: int) -> Tensor | None:
        """Return the lengths of the N examples in the order of the inputs; None if that order is sorted.

        A module that sorts by itself packs sorted lengths. The order of its inputs is then found in the vectors that it
        sorted.
        """
        for lengths in self._packed:
            if len(lengths) != examples:
                continue
            falling = lengths.sort(descending=True).values
            if not torch.equal(lengths, falling):
                return lengths
            for vector in self._vectors:
                own = vector.cpu().to(lengths.dtype)
                if len(own) != examples or torch.equal(own, falling):
                    continue
                if torch.equal(own.sort(descending=True).values, falling):
                    return own
        return None


def rule_for(key: Tensor, inputs: Inputs) -> Rule | None:
    """Find a rule that computes lengths from inputs, so that later batches are sorted before they run.

    Args:
        key: the lengths of these inputs, (N,).
        inputs: the inputs, with tensors as leaves.

    Returns:
        a rule, or None if no array of the inputs holds the lengths.
    """
    for place, leaf in enumerate(arrays_of(inputs.tree)):
        if inputs.axis_of(leaf) is None or leaf.dim() > 2:
            continue
        rule = partial(_entry if leaf.dim() == 1 else _words, place)
        found = rule(inputs).detach().cpu()
        if found.shape == key.shape and torch.equal(found.to(key.dtype), key):
            return rule
    return None


def _entry(place: int, given: Inputs) -> Tensor:
    """Return an array of lengths."""
    lengths: Tensor = arrays_of(given.tree)[place]
    return lengths


def _words(place: int, given: Inputs) -> Tensor:
    """Count the words of each example."""
    words: Tensor = arrays_of(given.tree)[place]
    return (words != 0).sum(1 - (given.axis_of(words) or 0))
