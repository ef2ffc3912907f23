"""Intervals of scores by bootstrap: examples are drawn with replacement, and the scores are computed from the draw.

All scores are functions of sums over examples, so a draw is a matrix product of counts and per-example values
(percentile bootstrap, Efron and Tibshirani 1993). Timesteps of one example stay together.
Shapes: N examples, M decisions, S sums, B draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, quoted

DRAWS = 1000  # B
COUNTED = 4_000_000  # largest number of counts in memory
Range = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """Intervals of the scores of an evaluation.

    Attributes:
        level: share of the draws whose score is inside, in (0, 1).
        examples: the number of examples N that were drawn from.
        scores: name of a score -> lower and upper end. A score that is undefined in every draw is not there.
        modules: label -> the same for the scores of each module.
    """

    level: float
    examples: int
    scores: dict[str, Range]
    modules: dict[Label, dict[str, Range]]

    def to_dict(self) -> dict[str, Any]:
        """Return all values as plain values, for JSON."""
        return {
            "level": self.level,
            "examples": self.examples,
            "scores": {name: list(ends) for name, ends in self.scores.items()},
            "modules": {
                str(label): {name: list(ends) for name, ends in own.items()} for label, own in self.modules.items()
            },
        }

    def text(self, shown: Mapping[str, str], scale: float = 1.0, digits: str = ".4g") -> str:
        """Format the intervals of some scores: name -> the word for it."""
        parts = [
            f"{word} {scale * self.scores[name][0]:{digits}} to {scale * self.scores[name][1]:{digits}}"
            for name, word in shown.items()
            if name in self.scores
        ]
        return ", ".join(parts)

    @property
    def title(self) -> str:
        """The words before the intervals: their level and the number of examples."""
        return f"{self.level:.4g} intervals over {self.examples:,} examples"


def check_level(level: Any, seed: Any) -> None:
    """Raise ConfigError for an interval outside (0, 1) or a seed that is no whole number >= 0."""
    number = isinstance(level, int | float) and not isinstance(level, bool) and math.isfinite(level)
    if level is not None and not (number and 0 < level < 1):
        raise ConfigError(f"intervals={quoted(repr(level), 40)}: expected a share between 0 and 1, such as 0.95.")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed={quoted(repr(seed), 40)}: expected a whole number, at least 0.")


def draws(values: np.ndarray, seed: int) -> np.ndarray:
    """Sum per-example values over B draws of N examples with replacement.

    Args:
        values: (N, S).
        seed: seed of the draws.

    Returns:
        the sums (B, S), float64.

    Raises:
        DataError: fewer than two examples.
    """
    count = len(values)
    if count < 2:
        raise DataError(f"intervals= needs at least 2 examples to draw from, found {count}: leave it out.")
    rng, found = np.random.default_rng(seed), []
    size = max(1, COUNTED // count)
    for start in range(0, DRAWS, size):
        own = min(size, DRAWS - start)
        chosen = rng.integers(0, count, (own, count)) + count * np.arange(own)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=own * count).reshape(own, count)
        found.append(counts.astype(values.dtype) @ values)
    return np.concatenate(found).astype(np.float64)


def per_example(values: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Sum values (M, S) of decisions by example; ``examples`` (M,) holds the example of each, ascending."""
    starts = np.flatnonzero(np.append(True, examples[1:] != examples[:-1]))
    return np.add.reduceat(values, starts, axis=0)


def intervals(
    level: float, examples: int, scores: Mapping[str, np.ndarray], modules: Mapping[Label, Mapping[str, np.ndarray]]
) -> Intervals:
    """Compute the ends of the intervals from the scores of B draws, (B,) each; NaN where a score is undefined."""
    own = {label: ends(level, drawn) for label, drawn in modules.items()}
    return Intervals(level, examples, ends(level, scores), own)


def ends(level: float, scores: Mapping[str, np.ndarray]) -> dict[str, Range]:
    """Compute lower and upper end of each score from its B draws, (B,); NaN is left out, and so is a score of NaN."""
    found = {}
    for name, drawn in scores.items():
        known = drawn[np.isfinite(drawn)]
        if known.size:
            low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
            found[name] = (float(low), float(high))
    return found
