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
from unbraid.networks.threads import given_threads

BLOCK = 8 * 2**20  # bytes of values that are read at a time
CACHED = 2**16  # observations that are selected and processed at a time, so that they stay in the cache


def class_statistics(
    layer: LayerValues,
    sample: Sample,
    rules: list[tuple[slice, Statistic]],
    config: RemovalConfig,
    advance: Callable[[float], object] = lambda share: None,
    folded: bool = False,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Compute the statistic of every class over its positive and over its negative observations.

    A layer inside a user's module may run over other timesteps than the labels have. If it runs over one sequence for
    each label (the letters of each word), all timesteps of that sequence count for the label. Otherwise all timesteps
    of an example count for each of its labels.

    Args:
        layer: recorded values (U, T, R).
        sample: the positive and negative examples of each class.
        rules: pairs of columns and their statistic, for all U columns.
        config: settings; mode and observed are used.
        advance: called after each block with its share of the work, in [0, 1].
        folded: whether the layer ran over several sequences of each example, whose timesteps follow one another.

    Returns:
        class -> (positive, negative), each (U,) when rolled and (T, U) when unrolled; NaN where nothing was observed.
    """
    units, steps, _ = layer.values.shape
    both = enumerate((sample.positive, sample.negative))
    chosen = {(j, sign): _lined_up(s, steps, folded) for sign, by in both for j, s in by.items()}
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


def _lined_up(chosen: Steps, steps: int, folded: bool) -> Steps:
    """Return the examples to observe at each of ``steps`` timesteps of a layer; one entry where there is one output."""
    labels = len(chosen)
    if labels in (1, steps):
        return chosen
    if folded and steps % labels == 0:
        return [chosen[t // (steps // labels)] for t in range(steps)]
    return [np.sort(np.concatenate(chosen))] * steps  # an example counts once for each of its labels


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
            return _in_pieces(values, rows, statistic).T
        if config.observed is Observed.LAST:
            return _in_pieces(values[:, -1], rows, statistic)
        return _in_pieces(values, rows, lambda own: statistic(own.reshape(len(own), -1)))
    picked = [_at(values, valid, chosen, t) for t in range(steps)]
    if config.mode is Mode.UNROLLED:
        return np.stack([_or_nan(statistic, p) for p in picked])
    if one_output and config.observed is Observed.LAST:
        return _or_nan(statistic, picked[-1])
    return _or_nan(statistic, np.concatenate(picked, axis=1))


def _in_pieces(values: np.ndarray, rows: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Compute the statistic over the examples ``rows``, a few columns at a time.

    Args:
        values: recorded values, (U, R) or (U, T, R), U >= 1.
        rows: indices of the examples, ascending.
        statistic: maps the values of some columns at these examples to one number for each row.

    Returns:
        what ``statistic`` returns, for all U columns.
    """
    pieces = min(max(values[..., 0].size * len(rows) // CACHED, 1), len(values))
    return np.concatenate([statistic(_taken(own, rows)) for own in np.array_split(values, pieces)])


def _at(values: np.ndarray, valid: np.ndarray | None, chosen: Steps, t: int) -> np.ndarray:
    """Return the observations of one timestep, (U, M)."""
    rows = chosen[t if len(chosen) > 1 else 0]
    if valid is not None:
        rows = rows[valid[t, rows]]
    return _taken(values[:, t], rows)


def _taken(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Select the examples ``rows``, ascending, along the last axis; a view if they are adjacent and none repeats."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        return values[..., rows[0] : rows[-1] + 1]
    return np.take(values, rows, axis=-1)


def _or_nan(statistic: Statistic, values: np.ndarray) -> np.ndarray:
    return statistic(values) if values.shape[1] else np.full(len(values), np.nan)
