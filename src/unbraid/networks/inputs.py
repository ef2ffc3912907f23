"""What a network accepts as input, and running it over many examples in batches.

An input is an array, or for a user's own module a tuple or dict of them (a *tree* with arrays as leaves).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import DataError
from unbraid.networks.spec import (
    DenseSpec,
    EmbeddingSpec,
    EncoderDecoderSpec,
    FlattenSpec,
    NetworkSpec,
    RecurrentSpec,
    Spec,
    TorchSpec,
)
from unbraid.vocabulary import Vocabulary, is_text

BATCH = 512


@dataclass(frozen=True)
class Inputs:
    """Checked inputs of N examples.

    Attributes:
        tree: an array, or a tuple, list or dict of arrays and constants.
        examples: N.
        axis: where the examples lie in an array of more axes than that; 0 in all others.
    """

    tree: Any
    examples: int
    axis: int = 0

    def __len__(self) -> int:
        return self.examples

    @property
    def array(self) -> np.ndarray:
        """The one array of a network that reads only one."""
        return np.asarray(self.tree)

    def take(self, rows: np.ndarray | slice) -> Inputs:
        """Some of the examples."""
        count = len(range(self.examples)[rows]) if isinstance(rows, slice) else len(rows)
        return Inputs(self._mapped(self.tree, rows), count, self.axis)

    def batches(self, size: int = BATCH) -> Iterator[Any]:
        """The inputs as tensors, ``size`` examples at a time."""
        for start in range(0, self.examples, size):
            yield map_tree(_tensor, self.take(slice(start, start + size)).tree)

    def axis_of(self, leaf: Any) -> int | None:
        """Where the examples lie in a leaf; None in a constant."""
        if not isinstance(leaf, np.ndarray | Tensor) or leaf.ndim == 0:
            return None
        axis = self.axis if leaf.ndim > self.axis else 0
        return axis if leaf.shape[axis] == self.examples else None

    def _mapped(self, tree: Any, rows: np.ndarray | slice) -> Any:
        def part(leaf: Any) -> Any:
            axis = self.axis_of(leaf)
            return leaf if axis is None else leaf[(slice(None),) * axis + (rows,)]

        return map_tree(part, tree)


def map_tree(function: Callable[[Any], Any], tree: Any) -> Any:
    """``function`` on every leaf of nested tuples, lists and dicts."""
    if isinstance(tree, dict):
        return {key: map_tree(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        values = [map_tree(function, value) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)  # a namedtuple
    return function(tree)


def leaves(tree: Any) -> list[Any]:
    """All leaves of nested tuples, lists and dicts."""
    found: list[Any] = []
    map_tree(found.append, tree)
    return found


def check_inputs(spec: Spec, x: Any, vocabulary: Vocabulary | None = None) -> Inputs:
    """The inputs as the network can read them: int64 (N, T) for words, float32 (N, T, D) for features.

    An encoder-decoder reads a dict of ``source`` (N, S) and ``target`` (N, T), or a pair of these.

    Args:
        spec: the network's.
        x: an array, tensor or nested list; for a user's own module whatever it reads; with a vocabulary also text.
        vocabulary: the network's, where it has one.

    Raises:
        DataError: wrong number of axes, empty, not numbers, NaN, an index outside the vocabulary, another T or D, or
            text for a network without a vocabulary.
    """
    if isinstance(spec, EncoderDecoderSpec):
        return _check_pairs(spec, x)
    if is_text(x):
        x = _read_text(spec, x, vocabulary)
    if isinstance(spec, TorchSpec):
        return _like_example(spec, x)
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else _as_array(x)
    if array.shape[:1] == (0,):
        raise DataError("inputs are empty: expected at least one example.")
    first = spec.stages[0]
    array = _word_indices(first, array) if isinstance(first, EmbeddingSpec) else _features(spec, array)
    if spec.steps is not None and array.shape[1] != spec.steps:
        raise DataError(
            f"inputs have {array.shape[1]} timesteps, the network reads exactly {spec.steps}: pad or cut them to that."
        )
    return Inputs(array, len(array))


def check_source(spec: EncoderDecoderSpec, source: Any) -> np.ndarray:
    """Sentences to translate, word indices (N, S); raises DataError."""
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else _as_array(source)
    if array.shape[:1] == (0,):
        raise DataError("inputs are empty: expected at least one sentence.")
    return _word_indices(spec.source, array)


def _check_pairs(spec: EncoderDecoderSpec, x: Any) -> Inputs:
    """Sentence pairs; a target's padding stands at its right."""
    if isinstance(x, tuple) and len(x) == 2:
        x = {"source": x[0], "target": x[1]}
    if not isinstance(x, dict) or set(x) != {"source", "target"}:
        found = sorted(map(str, x)) if isinstance(x, dict) else type(x).__name__
        raise DataError(f"inputs are {found}, expected sentence pairs: a dict of 'source' (N, S) and 'target' (N, T).")
    source = check_source(spec, x["source"])
    raw = x["target"].detach().cpu().numpy() if isinstance(x["target"], Tensor) else _as_array(x["target"])
    target = _word_indices(spec.target, raw)
    if len(source) != len(target):
        raise DataError(f"{len(source)} source sentences and {len(target)} targets: there must be one for each.")
    said = target != 0
    if target.shape[1] == 0 or not said[:, 0].all() or (said[:, 1:] & ~said[:, :-1]).any():
        raise DataError("a target has padding (0) before a word, expected it at the right alone.")
    return Inputs({"source": source, "target": target}, len(source))


def run_batched(function: Callable[[Any], Tensor], x: Inputs, device: torch.device, size: int = BATCH) -> np.ndarray:
    """``function`` over all examples without gradients, its results joined along the first axis.

    Results of batches whose sequences are shorter are padded with NaN along the second axis.
    """
    with torch.inference_mode():
        parts = [function(to_device(batch, device)).cpu().numpy() for batch in x.batches(size)]
    if (rows := sum(map(len, parts))) != len(x):
        raise DataError(f"{len(x)} inputs gave {rows} results: every array of the inputs must hold as many examples.")
    steps = {part.shape[1] for part in parts if part.ndim > 1}
    if len(steps) > 1:
        parts = [_padded(part, max(steps)) for part in parts]
    return np.concatenate(parts, axis=0)


def to_device(tree: Any, device: torch.device) -> Any:
    """Every tensor of a tree on ``device``."""
    return map_tree(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def _padded(part: np.ndarray, steps: int) -> np.ndarray:
    widths = [(0, 0)] * part.ndim
    widths[1] = (0, steps - part.shape[1])
    return np.pad(part, widths, constant_values=np.nan)


def _tensor(leaf: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(leaf)) if isinstance(leaf, np.ndarray) else leaf


def _like_example(spec: TorchSpec, x: Any) -> Inputs:
    """Inputs of a user's own module: arrays of as many axes as the example had, finite, all of N examples."""
    tree = map_tree(_plain, x)
    arrays = [leaf for leaf in leaves(tree) if isinstance(leaf, np.ndarray) and leaf.ndim]
    found = [leaf.ndim for leaf in arrays]
    if found != list(spec.axes):
        raise DataError(f"inputs have arrays of {found} axes, the example that the network was made with {spec.axes}.")
    axis = spec.batch_axis if arrays[0].ndim > spec.batch_axis else 0
    examples = arrays[0].shape[axis]
    if examples == 0:
        raise DataError("inputs are empty: expected at least one example.")
    for array in arrays:
        if array.dtype.kind not in "iufb":
            raise DataError(f"inputs hold {array.dtype}, expected numbers.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError("inputs hold NaN or infinite values.")
    return Inputs(tree, examples, spec.batch_axis)


def _plain(leaf: Any) -> Any:
    return leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else leaf


def _read_text(spec: NetworkSpec | TorchSpec, x: Any, vocabulary: Vocabulary | None) -> Any:
    """Text as what the network reads: indices, and for a module that takes them the lengths as well."""
    if vocabulary is None:
        raise DataError(
            "inputs are text, and the network has no vocabulary: give it one (unbraid.load(..., vocabulary=...)), or "
            "pass word indices."
        )
    indices, lengths = vocabulary.encode(x.tolist() if isinstance(x, np.ndarray) else x, spec.steps)
    if isinstance(spec, NetworkSpec) or list(spec.axes) == [2]:
        return indices.T if isinstance(spec, TorchSpec) and spec.batch_axis else indices
    if list(spec.axes) == [2, 1]:
        return (indices.T if spec.batch_axis else indices), lengths
    raise DataError(f"the module reads arrays of {list(spec.axes)} axes; text gives indices (N, T) and lengths (N,).")


def _as_array(x: Any) -> np.ndarray:
    try:
        array = np.asarray(x)
    except ValueError:
        raise DataError("inputs have rows of different lengths: pad them to one length.") from None
    if array.dtype.kind not in "iufb":
        raise DataError(f"inputs hold {array.dtype}, expected numbers: word indices (N, T) or features (N, T, D).")
    return array


def _word_indices(first: EmbeddingSpec, array: np.ndarray) -> np.ndarray:
    if array.ndim != 2:
        raise DataError(f"inputs have shape {array.shape}, expected word indices (N, T).")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.round(array)).all()):
        raise DataError("inputs hold fractions or NaN, expected whole word indices.")
    if array.size and (array.min() < 0 or array.max() >= first.vocabulary):
        raise DataError(
            f"inputs hold word indices from {array.min():.0f} to {array.max():.0f}, the embedding {first.name!r} knows "
            f"0 to {first.vocabulary - 1}: encode them with the vocabulary that the network was trained with."
        )
    return array.astype(np.int64, copy=False)


def _wanted_features(spec: NetworkSpec) -> int | None:
    """D that the first stage with weights reads; None where a Flatten before it mixes D with T."""
    for stage in spec.stages:
        if isinstance(stage, RecurrentSpec | DenseSpec):
            return stage.inputs
        if isinstance(stage, FlattenSpec):
            return None
    return None


def _features(spec: NetworkSpec, array: np.ndarray) -> np.ndarray:
    wanted = _wanted_features(spec)
    if array.ndim != 3:
        raise DataError(f"inputs have shape {array.shape}, expected features (N, T, D) with D = {wanted}.")
    if wanted is not None and array.shape[2] != wanted:
        raise DataError(f"inputs have {array.shape[2]} features a timestep, the network reads {wanted}.")
    if not np.isfinite(array).all():
        raise DataError("inputs hold NaN or infinite values.")
    return array.astype(np.float32, copy=False)
