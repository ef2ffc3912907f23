"""Checked inputs of a network, and a function that runs a network over many examples in batches.

An input is an array. The input of a user's PyTorch module can also be a *tree*: nested tuples, lists, mappings,
dataclasses and SimpleNamespaces whose leaves are arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unbraid.data.rows import Side
from unbraid.errors import DataError

ABSENT = -1  # index at a timestep after or before the words of a text
BATCH = 512
_PLAIN = frozenset((Tensor, nn.Parameter, np.ndarray, int, float, bool, str, type(None)))  # the usual leaves


@dataclass(frozen=True)
class Words:
    """Lengths of texts, for a network whose number of timesteps T is not fixed.

    The network runs on each text at the length of that text. So results do not depend on the other texts of a call.
    Some passes need one length for all texts (observing a network of stages). There padding has an index below 0, and
    the embedding masks it.

    Attributes:
        lengths: number of words of each text, at least 1, (N,).
        side: side of the padding in the rows.
        maskable: whether the network masks an index below 0.
        alone: whether the network reads each text at its own length only.
    """

    lengths: np.ndarray
    side: Side
    maskable: bool
    alone: bool = False

    def take(self, rows: np.ndarray | slice) -> Words:
        """Return the lengths of some of the texts."""
        return replace(self, lengths=self.lengths[rows])

    def marked(self, tree: Any) -> Any:
        """Replace padding in the rows (N, T) by -1, if the network masks such indices."""
        if not self.maskable:
            return tree
        place = np.arange(tree.shape[1])
        place = place[::-1] if self.side == "left" else place
        return np.where(place < self.lengths[:, None], tree, ABSENT)

    def cut(self, tree: Any, steps: int, axis: int) -> Any:
        """Cut indices to ``steps`` words along ``axis``, on the side of the padding; keep lengths (N,)."""
        kept = slice(-steps, None) if self.side == "left" else slice(steps)
        return map_tree(lambda leaf: leaf[(slice(None),) * axis + (kept,)] if leaf.ndim == 2 else leaf, tree)


@dataclass(frozen=True)
class Inputs:
    """Checked inputs of N examples.

    Attributes:
        tree: an array, or a tuple, list or dict of arrays and constants.
        examples: N, the number of examples.
        axis: axis of the examples in an array that has more axes than ``axis``; all other arrays have them on axis 0.
        words: lengths of texts that have no common length; None for all other inputs.
        axes: for each array that has axes, in order: the axis of the examples, or None for a constant. None as a whole
            means that ``axis`` applies to all arrays.
    """

    tree: Any
    examples: int
    axis: int = 0
    words: Words | None = None
    axes: tuple[int | None, ...] | None = None

    def __len__(self) -> int:
        return self.examples

    @property
    def array(self) -> np.ndarray:
        """Return the array of a network that reads only one array."""
        return np.asarray(self.tree)

    def take(self, rows: np.ndarray | Tensor | slice) -> Inputs:
        """Return the inputs of some of the examples."""
        count = len(range(self.examples)[rows]) if isinstance(rows, slice) else rows.shape[0]  # may be symbolic
        words = None if self.words is None else self.words.take(rows)  # type: ignore[arg-type]  # only in arrays
        return Inputs(self._mapped(self.tree, rows), count, self.axis, words, self.axes)

    def batches(self, size: int = BATCH) -> Iterator[Any]:
        """Yield the inputs as tensors, ``size`` examples at a time, with padding marked by :class:`Words`.

        Raises:
            DataError: texts of different lengths for a module that reads padding in place of their words.
        """
        if self.words is not None and self.words.alone and self.ragged:
            raise DataError(
                "texts are padded at the front, and the tagger reads the first words of each row: give the vocabulary "
                "side='right', which pads at the end."
            )
        for start in range(0, self.examples, size):
            part = self.take(slice(start, start + size))
            yield map_tree(_tensor, part.tree if part.words is None else part.words.marked(part.tree))

    def by_length(self, size: int = BATCH) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield rows and their inputs as tensors, at most ``size`` at a time, without padding.

        All texts of a batch have the same length.
        """
        if self.words is None:
            yield from zip(
                np.split(np.arange(self.examples), range(size, self.examples, size)), self.batches(size), strict=True
            )
            return
        for steps in np.unique(self.words.lengths).tolist():
            rows = np.flatnonzero(self.words.lengths == steps)
            for start in range(0, len(rows), size):
                some = rows[start : start + size]
                yield some, map_tree(_tensor, self.words.cut(self.take(some).tree, steps, 1 - self.axis))

    @property
    def ragged(self) -> bool:
        """Whether the inputs are texts of different lengths."""
        return self.words is not None and len(set(self.words.lengths.tolist())) > 1

    def axis_of(self, leaf: Any) -> int | None:
        """Return the axis of the examples in a leaf; None for a constant."""
        if not isinstance(leaf, np.ndarray | Tensor) or leaf.ndim == 0:
            return None
        if self.axes is not None:
            return next(axis for own, axis in zip(arrays_of(self.tree), self.axes, strict=True) if own is leaf)
        axis = self.axis if leaf.ndim > self.axis else 0
        return axis if leaf.shape[axis] == self.examples else None

    def _mapped(self, tree: Any, rows: np.ndarray | Tensor | slice) -> Any:
        def part(leaf: Any) -> Any:
            axis = self.axis_of(leaf)
            return leaf if axis is None else leaf[(slice(None),) * axis + (rows,)]

        return map_tree(part, tree)


@dataclass(frozen=True)
class Padded:
    """A packed sequence as arrays; the module gets it packed again.

    Attributes:
        values: the padded sequences, (N, T, ...).
        lengths: their lengths, (N,).
    """

    values: Any
    lengths: Any


def parts_of(tree: Any) -> list[Any] | None:
    """Return the parts of a tree that is no leaf; None for a leaf."""
    if type(tree) in _PLAIN:
        return None
    if isinstance(tree, Mapping):
        return list(tree.values())
    if isinstance(tree, tuple | list):
        return list(tree)
    if _is_record(tree):
        return list(vars(tree).values())
    return None


def with_parts(tree: Any, parts: Sequence[Any]) -> Any:
    """Make a tree of the same kind with other parts; of a mapping a dict."""
    if isinstance(tree, Mapping):
        return dict(zip(tree, parts, strict=True))
    if isinstance(tree, tuple | list):
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)  # a namedtuple
    other = copy.copy(tree)
    for name, value in zip(vars(tree), parts, strict=True):
        object.__setattr__(other, name, value)  # a dataclass may be frozen
    return other


def map_tree(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``function`` to every leaf of nested tuples, lists, mappings and records."""
    parts = parts_of(tree)
    return function(tree) if parts is None else with_parts(tree, [map_tree(function, part) for part in parts])


def padded(tree: Any) -> Any:
    """Replace packed sequences in a tree by :class:`Padded`."""
    if isinstance(tree, PackedSequence):
        return Padded(*pad_packed_sequence(tree, batch_first=True))
    parts = parts_of(tree)
    return tree if parts is None else with_parts(tree, [padded(part) for part in parts])


def packed(tree: Any) -> Any:
    """Replace each :class:`Padded` in a tree by a packed sequence."""
    if isinstance(tree, Padded):
        return pack_padded_sequence(tree.values, tree.lengths.cpu(), batch_first=True, enforce_sorted=False)
    parts = parts_of(tree)
    return tree if parts is None else with_parts(tree, [packed(part) for part in parts])


def _is_record(tree: Any) -> bool:
    """Return whether an object has parts in attributes: a dataclass with a ``__dict__``, or a SimpleNamespace."""
    record = is_dataclass(tree) or isinstance(tree, SimpleNamespace)
    return record and not isinstance(tree, type) and hasattr(tree, "__dict__")


def leaves(tree: Any) -> list[Any]:
    """Return all leaves of a tree."""
    parts = parts_of(tree)
    return [tree] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def arrays_of(tree: Any) -> list[Any]:
    """Return all arrays and tensors of a tree that have axes."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, np.ndarray | Tensor) and leaf.ndim]


def with_arrays(tree: Any) -> tuple[Any, list[int]]:
    """Replace lists of numbers within a tree by arrays.

    Returns:
        the tree, and the positions of these arrays among all arrays of the tree.
    """
    made: list[Any] = []

    def walk(part: Any) -> Any:
        if isinstance(part, list) and part and all(isinstance(v, int | float) for v in part):
            made.append(np.asarray(part))
            return made[-1]
        parts = parts_of(part)
        return part if parts is None else with_parts(part, [walk(value) for value in parts])

    tree = tree if isinstance(tree, list) else walk(tree)
    own = {id(array) for array in made}
    return tree, [place for place, array in enumerate(arrays_of(tree)) if id(array) in own]


def run_batched(
    function: Callable[[Any], Tensor], x: Inputs, device: torch.device, size: int = BATCH, decided: bool = False
) -> np.ndarray:
    """Run ``function`` over all examples without gradients, and join its results along the first axis.

    Results of batches whose sequences are shorter are padded with NaN along the second axis.

    Args:
        function: a batch -> results, one row per example.
        x: the inputs.
        device: the device that batches are moved to.
        size: number of examples of one batch.
        decided: whether every result is part of a decision, so that NaN is refused.

    Raises:
        DataError: the number of results differs from that of the inputs, or a decision is NaN.
    """
    rows: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    space = np.empty(0)
    with torch.inference_mode():
        for some, batch in x.by_length(size):
            rows.append(some)
            part = function(to_device(batch, device)).cpu().numpy()
            if not parts and not x.ragged:  # results in one place: small arrays between large ones fragment the memory
                space = np.empty((len(x), *part.shape[1:]), part.dtype)
            parts.append(_placed(part, space, sum(map(len, parts))))
    if (count := sum(map(len, parts))) != len(x):
        raise DataError(f"{len(x)} inputs gave {count} results: every array of the inputs must hold as many examples.")
    steps = {part.shape[1] for part in parts if part.ndim > 1}
    if len(steps) > 1:
        side = "right" if x.words is None else x.words.side
        parts = [_padded(part, max(steps), side) for part in parts]
    found = space if all(part.base is space for part in parts) else np.concatenate(parts, axis=0)
    if x.words is not None:
        found = found[np.argsort(np.concatenate(rows), kind="stable")]
    if decided:
        check_decided(found)
    return found


def _placed(part: np.ndarray, space: np.ndarray, start: int) -> np.ndarray:
    """Copy results into ``space`` from row ``start`` on if they fit there; else return them as they are."""
    end = start + len(part)
    if end > len(space) or part.shape[1:] != space.shape[1:] or part.dtype != space.dtype:
        return part
    space[start:end] = part
    return space[start:end]


def check_decided(scores: np.ndarray) -> None:
    """Raise DataError if a score is NaN."""
    wrong = np.flatnonzero(np.isnan(scores.reshape(len(scores), -1)).any(1))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} of {len(scores)} examples give NaN, the first is example {wrong[0]}: values in the inputs "
            "or weights are too large for the network's number type. Scale the inputs as for training."
        )


def to_device(tree: Any, device: torch.device) -> Any:
    """Move every tensor of a tree to ``device``."""
    return map_tree(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def _padded(part: np.ndarray, steps: int, side: Side) -> np.ndarray:
    widths = [(0, 0)] * part.ndim
    missing = steps - part.shape[1]
    widths[1] = (missing, 0) if side == "left" else (0, missing)
    return np.pad(part, widths, constant_values=np.nan)


def _tensor(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    array = np.ascontiguousarray(leaf)
    return torch.from_numpy(array if array.flags.writeable else array.copy())  # torch warns of read-only arrays
