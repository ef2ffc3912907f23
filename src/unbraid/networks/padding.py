"""Find the padding of taggers in their inputs. Shapes: N examples, T timesteps, D features."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unbraid.errors import DataError, warn_caller
from unbraid.networks.inputs import Inputs, parts_of
from unbraid.networks.network import Network
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec


def real_steps(network: Network, inputs: Inputs, steps: int) -> np.ndarray | None:
    """Find the timesteps that are no padding.

    The lengths are those of the packing call of a PyTorch module. Without one, they are an input whose name has "len",
    or an input whose name has "mask" or "valid". Lengths count from the first timestep. An embedding of a Keras file
    with ``mask_zero`` masks index 0. Where zeros show that inputs are padded at the front, lengths count from the last
    timestep.

    Args:
        network: a network with one decision at each timestep.
        inputs: checked inputs of the network.
        steps: T.

    Returns:
        booleans (N, T), False at padding; None where the inputs do not state it.

    Warns:
        UnbraidWarning: nothing states the lengths, and inputs seem to have padding.

    Raises:
        DataError: inputs are padded at the front, and the module packs sequences.
    """
    if inputs.words is not None:
        return None  # texts run without padding
    named = _named(network, inputs)
    packs, lengths = False, None
    if isinstance(network.spec, NetworkSpec):
        first = network.spec.stages[0]
        if isinstance(first, EmbeddingSpec) and first.mask_zero and inputs.array.shape == (len(inputs), steps):
            return np.asarray(inputs.array != 0)
    elif isinstance(network.body, TorchBody):
        found = _packed(network.body, inputs)
        packs, lengths = found is not None, None if found is None else _in_order(found, named)
    if lengths is None and not packs:
        lengths = next((leaf for name, leaf in named if "len" in name and _are_lengths(leaf, steps)), None)
    if lengths is not None:
        real = np.asarray(np.arange(steps) < lengths[:, None])
        if not any(_padded_at_the_front(leaf, real) for _, leaf in named):
            return real
        if packs:
            raise DataError(
                "inputs are padded at the front, and the module packs sequences, whose lengths count from the first "
                "timestep: pad inputs at the end, or pass valid= to viterbi(), booleans (N, T), False at padding."
            )
        return real[:, ::-1]
    for name, leaf in named:
        if ("mask" in name or "valid" in name) and leaf.shape == (len(inputs), steps) and np.isin(leaf, (0, 1)).all():
            real = (leaf == 0) if "pad" in name else (leaf == 1)
            if real.any(1).all() and (real[:, 0].all() or real[:, -1].all()):
                return np.asarray(real)
    count = max((_ending_in_zeros(leaf, steps) for _, leaf in named), default=0)
    if packs or count:
        why = "the module packs sequences" if packs else f"{count} of {len(inputs)} examples end with zeros"
        warn_caller(
            f"{why}, but the inputs do not state the lengths, so padding is decoded as other timesteps are: pass "
            "valid=, booleans (N, T), False at padding."
        )
    return None


def _packed(body: TorchBody, inputs: Inputs) -> np.ndarray | None:
    """Run a module; return the lengths that it packs, (N,), in the order of its packing calls."""
    found = []
    for batch in inputs.batches():
        lengths = body.packed_lengths(batch)
        if lengths is None:
            return None
        found.append(lengths.cpu().numpy())
    return np.concatenate(found)


def _in_order(packed: np.ndarray, named: Sequence[tuple[str, np.ndarray]]) -> np.ndarray | None:
    """Return lengths in the order of the inputs; None if a module may have sorted them and no input holds them."""
    if not _falls(packed):
        return packed
    held = [leaf if leaf.ndim == 1 else (leaf != 0).sum(1) for _, leaf in named if leaf.ndim < 3]
    alike = [each for each in held if np.array_equal(np.sort(each), np.sort(packed))]
    return next((each for each in alike if np.array_equal(each, packed)), alike[0] if alike else None)


def _falls(lengths: np.ndarray) -> bool:
    return len(set(lengths.tolist())) > 1 and bool((np.diff(lengths) <= 0).all())


def _named(network: Network, inputs: Inputs) -> list[tuple[str, np.ndarray]]:
    """List the arrays of the inputs that have examples, with these on the first axis, and names in lower case."""
    tree, names = inputs.tree, []
    if isinstance(network.body, TorchBody) and isinstance(tree, tuple | list) and not network.body.spec.run.whole:
        names = list(inspect.signature(network.body.module.forward).parameters)
    parts = parts_of(tree)
    if parts is not None and len(names) >= len(parts):
        leaves = [pair for name, part in zip(names, parts, strict=False) for pair in _walk(part, name)]
    else:
        leaves = [*_walk(tree, "")]
    found = [(name.lower(), leaf, inputs.axis_of(leaf)) for name, leaf in leaves]
    return [(name, np.moveaxis(np.asarray(leaf), axis, 0)) for name, leaf, axis in found if axis is not None]


def _walk(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    parts = parts_of(tree)
    if parts is None:
        yield name, tree
        return
    names = [name] * len(parts)
    if isinstance(tree, Mapping):
        names = [str(key) for key in tree]
    elif hasattr(tree, "_fields") or not isinstance(tree, tuple | list):
        names = list(getattr(tree, "_fields", None) or vars(tree))
    for own, part in zip(names, parts, strict=True):
        yield from _walk(part, own)


def _are_lengths(leaf: np.ndarray, steps: int) -> bool:
    return leaf.ndim == 1 and leaf.dtype.kind in "iu" and bool((leaf >= 0).all() and (leaf <= steps).all())


def _padded_at_the_front(leaf: np.ndarray, first: np.ndarray) -> bool:
    """Return whether zeros are before the last timesteps of all examples; ``first`` (N, T) marks as many first ones."""
    if leaf.ndim < 2 or leaf.shape[:2] != first.shape or leaf.dtype.kind == "b":
        return False
    zero = (leaf == 0).reshape(*first.shape, -1).all(-1)
    return bool(zero[~first[:, ::-1]].all() and not zero[~first].all())


def _ending_in_zeros(leaf: np.ndarray, steps: int) -> int:
    """Count examples whose last timestep, but not all of them, is zero."""
    if leaf.ndim < 2 or leaf.shape[1] != steps or leaf.dtype.kind == "b":
        return 0
    zero = (leaf == 0).reshape(*leaf.shape[:2], -1).all(-1)
    return int((zero[:, -1] & ~zero.all(1)).sum())
