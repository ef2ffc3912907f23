"""Compute one statistic per node and class from recorded values, a block of nodes at a time.

Shapes: U columns of a layer, T timesteps, R sampled examples, M observations, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from unbraid.config import Mode, Observed, RemovalConfig
from unbraid.decomposition.removal.identification import Statistic
from unbraid.decomposition.removal.observation import LayerValues
from unbraid.decomposition.sampling import Sample, Steps
from unbraid.errors import DataError
from unbraid.networks.threads import given_threads

BLOCK = 64 * 2**20  # bytes of values that are processed at a time


def class_statistics(
    layer: LayerValues,
    sample: Sample,
    rules: list[tuple[slice, Statistic]],
    config: RemovalConfig,
    advance: Callable[[float], object] = lambda share: None,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Compute the statistic of every class over its positive and over its negative observations.

    Args:
        layer: recorded values (U, T, R).
        sample: the positive and negative examples of each class.
        rules: pairs of columns and their statistic, for all U columns.
        config: settings; mode and observed are used.
        advance: called after each block with the share of the block in the work, in [0, 1].

    Returns:
        class -> (positive, negative), each (U,) if rolled and (T, U) if unrolled; NaN if there is no observation.

    Raises:
        DataError: the number of labels per example differs from the number of timesteps of the layer.
    """
    units, steps, _ = layer.values.shape
    chosen = {(j, sign): s for sign, by in enumerate((sample.positive, sample.negative)) for j, s in by.items()}
    if len(next(iter(chosen.values()))) not in (1, steps):
        raise DataError(
            f"labels have {len(next(iter(chosen.values())))} timesteps, a layer has {steps}: expected equal numbers."
        )
    shape = (units,) if config.mode is Mode.ROLLED else (steps, units)
    results = {key: np.full(shape, np.nan) for key in chosen}
    block = max(1, BLOCK // max(layer.values[0].nbytes, 1))
    with ThreadPoolExecutor(given_threads()) as pool:  # sorting releases the interpreter lock
        for columns, statistic in rules:
            for start in range(columns.start, columns.stop, block):
                part = slice(start, min(start + block, columns.stop))
                values = np.asarray(layer.values[part])
                one = partial(_statistic, values, layer.valid, statistic=statistic, config=config)
                found = pool.map(one, chosen.values())
                for key, result in zip(chosen, found, strict=True):
                    results[key][..., part] = result
                advance((part.stop - part.start) / units)
    return {j: (results[j, 0], results[j, 1]) for j in sample.positive}


def _statistic(
    values: np.ndarray, valid: np.ndarray | None, chosen: Steps, *, statistic: Statistic, config: RemovalConfig
) -> np.ndarray:
    """Compute the statistic of one group of examples: (U,) if rolled, (T, U) if unrolled."""
    steps = values.shape[1]
    one_output = len(chosen) == 1 or steps == 1
    if valid is None and one_output:
        rows = chosen[0]
        if len(rows) == 0:
            return np.full(values.shape[0] if config.mode is Mode.ROLLED else (steps, values.shape[0]), np.nan)
        if config.mode is Mode.UNROLLED:
            return statistic(_taken(values, rows)).T
        if config.observed is Observed.LAST:
            return statistic(_taken(values[:, -1], rows))
        return statistic(_taken(values, rows).reshape(len(values), -1))
    picked = [_at(values, valid, chosen, t) for t in range(steps)]
    if config.mode is Mode.UNROLLED:
        return np.stack([_or_nan(statistic, p) for p in picked])
    if one_output and config.observed is Observed.LAST:
        return _or_nan(statistic, picked[-1])
    return _or_nan(statistic, np.concatenate(picked, axis=1))


def _at(values: np.ndarray, valid: np.ndarray | None, chosen: Steps, t: int) -> np.ndarray:
    """Return the observations of one timestep, (U, M)."""
    rows = chosen[t if len(chosen) > 1 else 0]
    if valid is not None:
        rows = rows[valid[t, rows]]
    return _taken(values[:, t], rows)


def _taken(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Select ascending ``rows`` along the last axis; return a view if they are adjacent."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return values[..., rows[0] : rows[-1] + 1]
    return np.take(values, rows, axis=-1)


def _or_nan(statistic: Statistic, values: np.ndarray) -> np.ndarray:
    return statistic(values) if values.shape[1] else np.full(len(values), np.nan)
