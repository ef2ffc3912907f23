"""Intervals of the errors of predicted numbers. Shapes: N examples, M targets, K modules, B draws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unbraid.data.targets import Label
from unbraid.evaluation.bootstrap import Intervals, draws, intervals

ERRORS = ("rmse", "mae", "r2")


def number_sums(right: np.ndarray, ours: np.ndarray, theirs: np.ndarray | None, used: np.ndarray) -> np.ndarray:
    """Sum what the scores of one module need over the targets of each example.

    Args:
        right: targets, (M,).
        ours: numbers of the module, (M,).
        theirs: numbers of the network to compare with, or None.
        used: booleans (N,) or (N, T), the places of the M targets.

    Returns:
        (N, 5), or (N, 10) with ``theirs``.
    """
    level = right - right.mean()  # the variance is then computed without cancellation
    missed = ours - right
    values = [np.ones_like(right), np.square(missed), np.abs(missed), level, np.square(level)]
    if theirs is not None:
        off, own = theirs - right, theirs - theirs.mean()
        values += [np.square(off), np.abs(off), np.square(ours - theirs), own, np.square(own)]
    at = np.nonzero(used)[0]
    return np.stack([np.bincount(at, weights=each, minlength=len(used)) for each in values], axis=-1)


def number_intervals(sums: Mapping[Label, np.ndarray], level: float, seed: int) -> Intervals:
    """Compute the intervals of all scores of :func:`number_sums`; all modules have the same draws."""
    examples, width = next(iter(sums.values())).shape
    drawn = draws(np.concatenate(list(sums.values()), axis=1), seed).reshape(-1, len(sums), width)
    with np.errstate(invalid="ignore", divide="ignore"):
        modules = {label: _scores(drawn[:, k]) for k, label in enumerate(sums)}
    names = list(next(iter(modules.values())))
    mean = {name: np.mean([own[name] for own in modules.values()], axis=0) for name in names}
    return intervals(level, examples, mean, modules)


def _scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of one module from its sums, (B, 5) or (B, 10); NaN where a draw has no targets or only equal ones."""
    count, squares, absolute, total, spread = sums[:, :5].T
    scatter = spread - np.square(total) / count
    scatter = np.where(scatter <= 1e-12 * spread, np.nan, scatter)
    found = dict(zip(ERRORS, (np.sqrt(squares / count), absolute / count, 1 - squares / scatter), strict=True))
    if sums.shape[1] > 5:
        off, off_absolute, apart, level, deviation = sums[:, 5:].T
        theirs = np.sqrt(off / count), off_absolute / count, 1 - off / scatter
        parent = dict(zip(ERRORS, theirs, strict=True))
        found |= {f"parent_{name}": values for name, values in parent.items()}
        found |= {f"{name}_difference": found[name] - parent[name] for name in ERRORS}
        variance = (deviation - np.square(level) / count) / count
        found["agreement"] = np.sqrt(apart / count / np.where(variance <= 0, np.nan, variance))
    return found
