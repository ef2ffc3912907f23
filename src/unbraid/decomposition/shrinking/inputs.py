"""Inputs of a user's nn.Module, and the axis of their examples. Shapes: N examples, T timesteps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.decomposition.shrinking.running import ADVICE
from unbraid.errors import DataError, quoted
from unbraid.networks.inputs import Inputs, leaves, map_tree, padded
from unbraid.networks.precision import HALF
from unbraid.networks.pytorch.running import watched

TRIED = 9  # examples of the run that finds the axis


def module_inputs(module: nn.Module, x: Any) -> Inputs:
    """Check inputs of a module and find the axis of the examples.

    Args:
        module: in eval mode, on the CPU, of full precision.
        x: a tensor or array, a tuple of arguments, or a dict of arguments by name.

    Raises:
        DataError: no tensor, values that are not finite, or inputs that the module does not run on.
    """
    tree = map_tree(_tensor, padded(x))
    tensors = [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor) and leaf.dim()]
    if not tensors:
        raise DataError(f"x is {quoted(repr(x), 40)}, which has no tensor: pass inputs as forward reads them.")
    if not all(len(leaf) for leaf in tensors):
        raise DataError("x has no examples: pass at least two.")
    if any(leaf.is_floating_point() and not torch.isfinite(leaf).all() for leaf in tensors):
        raise DataError("x holds NaN or infinite values.")
    found: Inputs | None = None
    problem: DataError | None = None
    for axis in range(min(2, tensors[0].dim())):
        inputs = Inputs(tree, tensors[0].shape[axis], axis)
        sizes = [n for n in range(min(len(inputs), TRIED), 0, -1) if n not in tensors[0].shape[: 2 - axis][axis + 1 :]]
        some = inputs.take(slice(sizes[0] if axis == 0 and sizes else min(len(inputs), TRIED)))
        try:
            run = watched(module, next(some.batches()), "x does")
        except DataError as error:
            problem = problem or error
            continue
        if any(len(some) in rows for rows in run.rows.values()):
            return inputs
        found = found or inputs
    if found is None:
        raise DataError(f"{str(problem).rstrip('.')}. {ADVICE}") from problem
    return found


def _tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(leaf))
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.detach().cpu().float() if leaf.dtype in HALF else leaf.detach().cpu()
