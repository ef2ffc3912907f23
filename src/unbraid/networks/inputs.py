"""What a network accepts as input, and running it over many examples in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import DataError
from unbraid.networks.spec import EmbeddingSpec, FlattenSpec, NetworkSpec, RecurrentSpec

BATCH = 512


def check_inputs(spec: NetworkSpec, x: Any) -> np.ndarray:
    """The inputs as an array that the network can read: int64 (N, T) for words, float32 (N, T, D) for features.

    Args:
        spec: the network's.
        x: an array, tensor or nested list.

    Raises:
        DataError: wrong number of axes, empty, not numbers, NaN, an index outside the vocabulary, another T or D.
    """
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else _as_array(x)
    if array.shape[:1] == (0,):
        raise DataError("inputs are empty: expected at least one example.")
    first = spec.stages[0]
    array = _word_indices(first, array) if isinstance(first, EmbeddingSpec) else _features(spec, array)
    if spec.steps is not None and array.shape[1] != spec.steps:
        raise DataError(
            f"inputs have {array.shape[1]} timesteps, the network reads exactly {spec.steps}: pad or cut them to that."
        )
    return array


def batches(x: np.ndarray, size: int = BATCH) -> Iterator[Tensor]:
    """The inputs, ``size`` examples at a time."""
    for start in range(0, len(x), size):
        yield torch.from_numpy(np.ascontiguousarray(x[start : start + size]))


def run_batched(
    function: Callable[[Tensor], Tensor], x: np.ndarray, device: torch.device, axis: int = 0, size: int = BATCH
) -> np.ndarray:
    """``function`` over all examples without gradients, its results joined along ``axis``."""
    with torch.inference_mode():
        parts = [function(batch.to(device)).cpu().numpy() for batch in batches(x, size)]
    return np.concatenate(parts, axis=axis)


def fixed_steps(spec: NetworkSpec) -> bool:
    """Whether T is fixed by the weights themselves (a Flatten in front of the recurrence)."""
    return any(isinstance(stage, FlattenSpec) for stage in spec.stages)


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


def _features(spec: NetworkSpec, array: np.ndarray) -> np.ndarray:
    wanted = next((s.inputs for s in spec.stages if isinstance(s, RecurrentSpec)), None)
    if array.ndim != 3:
        raise DataError(f"inputs have shape {array.shape}, expected features (N, T, D) with D = {wanted}.")
    if isinstance(spec.stages[0], RecurrentSpec) and array.shape[2] != wanted:
        raise DataError(f"inputs have {array.shape[2]} features a timestep, the network reads {wanted}.")
    if not np.isfinite(array).all():
        raise DataError("inputs hold NaN or infinite values.")
    return array.astype(np.float32, copy=False)
