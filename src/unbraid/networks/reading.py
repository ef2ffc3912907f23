"""Check the inputs of a network: arrays of numbers, or text if the network has a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from unbraid.data.arrays import NUMBERS, as_array
from unbraid.data.texts import is_text
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, quoted
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.inputs import Inputs, Words, arrays_of, leaves, map_tree, padded, parts_of, with_arrays
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, Spec
from unbraid.networks.stage_spec import EmbeddingSpec
from unbraid.networks.timesteps import feature_width, fixed_steps
from unbraid.networks.torch_spec import TorchSpec


def check_inputs(spec: Spec, x: Any, vocabulary: Vocabulary | None = None) -> Inputs:
    """Check inputs and convert them: word indices to int64 (N, T), features to float32 (N, T, D).

    An encoder-decoder reads a dict of ``source`` (N, S) and ``target`` (N, T), or a pair of these.

    Args:
        spec: description of the network.
        x: an array, tensor or nested list. For a user's PyTorch module also a tree of arrays; with a vocabulary also
            text.
        vocabulary: the vocabulary of the network; None by default.

    Raises:
        DataError: wrong number of axes, empty, not numbers, NaN, an index outside the vocabulary, another T or D, or
            text for a network without a vocabulary.
    """
    if isinstance(spec, EncoderDecoderSpec):
        return _check_pairs(spec, x)
    words = None
    one = isinstance(spec, NetworkSpec) or (isinstance(spec, KerasSpec) and len(spec.graph.inputs) == 1)
    if one and _is_pair(x):
        raise DataError("inputs are a tuple of two arrays, and the network reads one: pass x alone, without labels.")
    if is_text(x):
        x, words = _read_text(spec, x, vocabulary)
    if isinstance(spec, KerasSpec):
        return _graph_inputs(spec, x, words)
    if isinstance(spec, TorchSpec):
        return _like_example(spec, x, words)
    array = _numbers(x)
    first = spec.stages[0]
    array = _word_indices(first, array) if isinstance(first, EmbeddingSpec) else _features(spec, array)
    steps = None if spec.shape is not None else fixed_steps(spec, array.shape[-1])
    if steps is not None and array.shape[1] != steps:
        raise DataError(
            f"inputs have {array.shape[1]} timesteps, the network reads exactly {steps}: pad or cut them to that."
        )
    return Inputs(array, len(array), words=words)


def _is_pair(x: Any) -> bool:
    """Return whether a value is inputs and their labels, as ``decompose`` reads them."""
    if not isinstance(x, tuple) or len(x) != 2 or not all(hasattr(part, "__len__") for part in x):
        return False
    first, second = x
    if len(first) != len(second) or not len(first):
        return False
    if isinstance(first, np.ndarray | Tensor) and isinstance(second, np.ndarray | Tensor):
        return first.ndim > 1 and (first.ndim, *first.shape) != (second.ndim, *second.shape)
    return is_text(first) and not isinstance(first, str) and (type(first) is not type(second) or not is_text(second))


def check_source(spec: EncoderDecoderSpec, source: Any) -> np.ndarray:
    """Check sentences to translate, word indices (N, S); raise DataError if they do not fit."""
    return _word_indices(spec.source, _numbers(source))


def _check_pairs(spec: EncoderDecoderSpec, x: Any) -> Inputs:
    """Check sentence pairs. The padding of a target is on its right."""
    if isinstance(x, tuple) and len(x) == 2:
        x = {"source": x[0], "target": x[1]}
    if not isinstance(x, dict) or set(x) != {"source", "target"}:
        found = sorted(map(str, x)) if isinstance(x, dict) else type(x).__name__
        raise DataError(f"inputs are {found}, expected sentence pairs: a dict of 'source' (N, S) and 'target' (N, T).")
    source = check_source(spec, x["source"])
    target = _word_indices(spec.target, _numbers(x["target"]))
    if len(source) != len(target):
        raise DataError(f"{len(source)} source sentences and {len(target)} targets: there must be one for each.")
    said = target != 0
    if not said[:, 0].all() or (said[:, 1:] & ~said[:, :-1]).any():
        raise DataError("a target has padding (0) before a word, expected padding on the right only.")
    return Inputs({"source": source, "target": target}, len(source))


def _like_example(spec: TorchSpec, x: Any, words: Words | None) -> Inputs:
    """Check inputs of a user's PyTorch module.

    The arrays must be finite, hold N examples each, and have the same numbers of axes as the example.
    """
    plain_list = isinstance(x, list) and not any(isinstance(leaf, np.ndarray | Tensor) for leaf in leaves(x))
    x = padded(x)
    if parts_of(x) is None or (plain_list and len(spec.axes) == 1):
        x = _numbers(x)
    if spec.run.lists:
        x, _ = with_arrays(x)
    tree = map_tree(_plain, x)
    arrays = arrays_of(tree)
    if not arrays:
        raise DataError(f"inputs are {quoted(repr(x), 40)}, which has no array: pass inputs as the module reads them.")
    found = [leaf.ndim for leaf in arrays]
    if found != list(spec.axes):
        raise DataError(_other_axes(tree, found, list(spec.axes)))
    for array in arrays:
        _check_numbers(array)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError("inputs hold NaN or infinite values.")
    inputs = torch_inputs(spec, tree, words)
    sizes = {array.shape[axis] for array, axis in zip(arrays, inputs.axes or (), strict=False) if axis is not None}
    if len(sizes) > 1:
        raise DataError(f"the arrays of the inputs hold {sorted(sizes)} examples, expected one number in all arrays.")
    return inputs


def _other_axes(tree: Any, found: list[int], expected: list[int]) -> str:
    """Return the message for arrays whose number or axes differ from those of the example; it names keys of a dict."""
    message = f"inputs have arrays of {found} axes, expected {expected} as in the example of the network"
    if isinstance(tree, tuple) and len(tree) == 2 and found[:-1] == expected:
        return f"{message}: pass x alone, without labels."
    if isinstance(tree, Mapping):
        named = {quoted(key, 40): [leaf.ndim for leaf in arrays_of(part)] for key, part in tree.items()}
        extra = [key for key in named if [axis for n, axes in named.items() if n != key for axis in axes] == expected]
        advice = f": leave out {' or '.join(map(repr, extra))}" if extra else ""
        return f"{message}. They are named {quoted(named, 300)}{advice}."
    return f"{message}."


def torch_inputs(spec: TorchSpec, tree: Any, words: Words | None = None) -> Inputs:
    """Make the inputs of a user's PyTorch module of a tree of arrays that has the structure of the example."""
    arrays, axes = arrays_of(tree), spec.run.axes
    if axes is not None:
        place = next(place for place, axis in enumerate(axes) if axis is not None)
        return Inputs(tree, arrays[place].shape[axes[place] or 0], spec.batch_axis, words, tuple(axes))
    axis = spec.batch_axis if arrays[0].ndim > spec.batch_axis else 0
    return Inputs(tree, arrays[0].shape[axis], spec.batch_axis, words)


def _graph_inputs(spec: KerasSpec, x: Any, words: Words | None) -> Inputs:
    """Check inputs of a Keras graph: one array, or several in order or by name, with the shapes in the file."""
    given = spec.graph.inputs
    if isinstance(x, dict):
        names = [one.name for one in given]
        if set(x) != set(names):
            raise DataError(f"inputs are named {sorted(map(str, x))}, the network reads {names}.")
        arrays = [_numbers(x[name]) for name in names]
    elif len(given) == 1:
        arrays = [_numbers(x)]
    elif isinstance(x, tuple | list) and len(x) == len(given):
        arrays = [_numbers(part) for part in x]
    else:
        names = [one.name for one in given]
        raise DataError(f"expected a tuple of {len(given)} arrays, one for each input: {', '.join(names)}.")
    for place, (one, vocabulary) in enumerate(zip(given, spec.vocabularies, strict=True)):
        array = arrays[place]
        wanted = ["N", *["any" if size is None else str(size) for size in one.shape]]
        fits = all(size in (None, found) for size, found in zip(one.shape, array.shape[1:], strict=False))
        if array.ndim != len(wanted) or not fits:
            raise DataError(f"input {one.name!r} has shape {array.shape}, expected ({', '.join(wanted)}).")
        arrays[place] = _finite(array) if vocabulary is None else _words_below(array, vocabulary, f"input {one.name!r}")
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise DataError(f"inputs hold {sorted(counts)} examples: expected the same number in every array.")
    return Inputs(arrays[0] if len(arrays) == 1 else tuple(arrays), len(arrays[0]), words=words)


def _plain(leaf: Any) -> Any:
    """Convert an array of any library to a NumPy array; return numbers, text and None unchanged."""
    if isinstance(leaf, np.ndarray | Tensor | memoryview) or hasattr(leaf, "to_numpy") or hasattr(leaf, "__array__"):
        array = as_array(leaf)
        return array.astype(np.float64) if array.dtype == np.longdouble else array
    return leaf


def _read_text(spec: NetworkSpec | TorchSpec, x: Any, vocabulary: Vocabulary | None) -> tuple[Any, Words | None]:
    """Convert text to word indices, and return the length of each text if T is not fixed.

    A user's PyTorch module that takes lengths gets indices and lengths.
    """
    if vocabulary is None:
        raise DataError(
            "inputs are text, and the network has no vocabulary: give it one (unbraid.load(..., vocabulary=...)), or "
            "pass word indices."
        )
    steps = fixed_steps(spec)
    indices, lengths = vocabulary.encode(x, steps)
    fixed = steps is not None or vocabulary.padding.steps is not None
    words = None if fixed else Words(lengths, vocabulary.padding.side, isinstance(spec, NetworkSpec))
    if isinstance(spec, NetworkSpec) or list(spec.axes) == [2]:
        return (indices.T if isinstance(spec, TorchSpec) and spec.batch_axis else indices), words
    if list(spec.axes) == [2, 1]:
        return ((indices.T if spec.batch_axis else indices), lengths), words
    raise DataError(f"the module reads arrays of {list(spec.axes)} axes; text gives indices (N, T) and lengths (N,).")


def _numbers(x: Any) -> np.ndarray:
    """Convert to an array of numbers with at least one example and one timestep."""
    array = as_array(x)
    if array.shape[:1] == (0,):
        raise DataError("inputs are empty: expected at least one example.")
    _check_numbers(array)
    return array


def _check_numbers(array: np.ndarray) -> None:
    if array.dtype.kind == "U":
        raise DataError("inputs hold both text and numbers, or text where numbers were expected: pass one kind.")
    if array.dtype.kind not in NUMBERS:
        raise DataError(f"inputs hold {array.dtype}, expected numbers: word indices (N, T) or features (N, T, D).")
    if array.size == 0:
        empty = "no timesteps" if array.ndim > 1 and array.shape[1] == 0 else "no values"
        raise DataError(f"inputs of shape {array.shape} have {empty}: expected at least one example and one timestep.")


def _word_indices(first: EmbeddingSpec, array: np.ndarray) -> np.ndarray:
    if array.ndim != 2:
        raise DataError(f"inputs have shape {array.shape}, expected word indices (N, T).")
    return _words_below(array, first.vocabulary, f"the embedding {first.name!r}")


def _words_below(array: np.ndarray, vocabulary: int, reader: str) -> np.ndarray:
    """Convert word indices to int64; raise DataError for other numbers, and for indices outside the vocabulary."""
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.round(array)).all()):
        raise DataError("inputs hold fractions or NaN, expected whole word indices.")
    if array.min() < 0 or array.max() >= vocabulary:
        raise DataError(
            f"inputs hold word indices from {array.min():.6g} to {array.max():.6g}, {reader} has "
            f"0 to {vocabulary - 1}: encode them with the vocabulary that the network was trained with."
        )
    return array.astype(np.int64, copy=False)


def _features(spec: NetworkSpec, array: np.ndarray) -> np.ndarray:
    if spec.shape is not None:
        if list(array.shape[1:]) != spec.shape:
            raise DataError(f"inputs have shape {array.shape}, expected (N, {', '.join(map(str, spec.shape))}).")
        return _finite(array)
    wanted = feature_width(spec)
    if array.ndim != 3:
        raise DataError(f"inputs have shape {array.shape}, expected features (N, T, D) with D = {wanted}.")
    if wanted is not None and array.shape[2] != wanted:
        raise DataError(f"inputs have {array.shape[2]} features a timestep, the network reads {wanted}.")
    return _finite(array)


def _finite(array: np.ndarray) -> np.ndarray:
    """Convert features to float32; raise DataError for values that are not finite."""
    if not np.isfinite(array).all():
        raise DataError("inputs hold NaN or infinite values.")
    with np.errstate(over="ignore"):  # an overflow is refused below
        single = array.astype(np.float32, copy=False)
    if not np.isfinite(single).all():
        raise DataError(
            f"inputs hold values up to {np.abs(array).max():.3g}, beyond the range of float32 that the network "
            "computes in: scale them as for training."
        )
    return single
