"""Typicality: the share of held-out inputs of a parent that look at most as typical as an input, in [0, 1].

An input gets up to five scores:

- the margin of the module that wins,
- the energy of its output layer, which is the logsumexp of its rows (Liu et al. 2020),
- how familiar the input is: share of known words, or log density of numbers,
- how much more probable its words are in the class than in all texts,
- a discriminant: the log density of the features under the mean of the class minus that under the mean of all classes,
  with one covariance.

The discriminant is better than the distance to the class mean alone (Lee et al. 2018), because features of unknown
inputs are often small and so near all means (Ren et al. 2021). Each score is scaled by its mean and deviation on
held-out inputs of the parent. The weights of the sum were chosen on held-out queries of CLINC-150 and on its held-out
out-of-scope queries. Shapes: N examples, Q quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unbraid.errors import FormatError, quoted

WEIGHTS = {"margin": 0.5, "energy": 1.0, "familiar": 2.0, "discriminant": 2.0, "words": 1.0}
FLOORS = {"margin": 0.1, "energy": 0.1, "familiar": 0.02, "discriminant": 0.1, "words": 0.1}  # smallest deviations
QUANTILES = 101
FEWEST = 10  # held-out inputs that a typicality needs
LARGEST = 1e12  # largest absolute score
TIE = 1e-3  # sums that differ by less are equal up to rounding, so that equal inputs get equal typicality
REJECTED = 0.05  # share of its own inputs that a parent rejects by default


@dataclass(frozen=True, eq=False)
class Typicality:
    """The distribution of the scores of typical inputs.

    Attributes:
        scales: name of a score -> its mean and its deviation, above 0.
        quantiles: quantiles of the weighted sum of the scaled scores, ascending, (Q,).

    Raises:
        FormatError: values out of range.
    """

    scales: Mapping[str, tuple[float, float]]
    quantiles: np.ndarray

    def __post_init__(self) -> None:
        numbers = [*(n for pair in self.scales.values() for n in pair), *np.asarray(self.quantiles, float).tolist()]
        if not self.scales or not set(self.scales) <= set(WEIGHTS):
            raise FormatError(f"scores: found {quoted(list(self.scales), 80)}, expected some of {', '.join(WEIGHTS)}.")
        if not all(math.isfinite(n) and abs(n) <= LARGEST for n in numbers) or any(
            s <= 0 for _, s in self.scales.values()
        ):
            raise FormatError(f"scores: found a value that is not finite or above {LARGEST:g}, or a deviation of 0.")
        if self.quantiles.shape != (QUANTILES,) or (np.diff(self.quantiles) < 0).any():
            raise FormatError(f"quantiles: found {len(self.quantiles)}, expected {QUANTILES} in ascending order.")

    @classmethod
    def of(cls, scores: Mapping[str, np.ndarray]) -> Typicality | None:
        """Measure the distribution on held-out inputs; return None for fewer than FEWEST.

        Args:
            scores: name of a score -> floats (N,).
        """
        if not scores or len(next(iter(scores.values()))) < FEWEST:
            return None
        limited = {name: np.clip(values.astype(np.float64), -LARGEST, LARGEST) for name, values in scores.items()}
        scales = {n: (float(v.mean()), max(float(v.std()), FLOORS[n])) for n, v in limited.items()}
        sums = _weighted(limited, scales)
        return cls(scales, np.clip(np.quantile(sums, np.linspace(0, 1, QUANTILES)), -LARGEST, LARGEST))

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute the typicality of inputs, (N,), from their scores.

        Below the least typical held-out input, typicality falls exponentially, so that inputs are still ordered.

        Raises:
            FormatError: a name of :attr:`scales` has no scores, because a file lacks the evidence for it.
        """
        if missing := [name for name in self.scales if name not in scores]:
            raise FormatError(
                f"typicality: no evidence for the score {quoted(missing[0], 40)!r}: decompose the network again."
            )
        values = _weighted({name: scores[name] for name in self.scales}, self.scales) + TIE
        levels = np.linspace(0, 1, QUANTILES)
        levels[0] = levels[1] / 2  # typicality is above 0, so that inputs below all quantiles are still ordered
        share = np.interp(values, self.quantiles, levels)
        width = max(float(self.quantiles[QUANTILES // 2] - self.quantiles[0]), 1e-9)
        return np.asarray(share * np.exp(np.minimum(values - self.quantiles[0], 0) / width))


def _weighted(scores: Mapping[str, np.ndarray], scales: Mapping[str, tuple[float, float]]) -> np.ndarray:
    total = np.zeros(len(next(iter(scores.values()))))
    for name, values in scores.items():
        mean, deviation = scales[name]
        total += WEIGHTS[name] * (np.clip(values.astype(np.float64), -LARGEST, LARGEST) - mean) / deviation
    return np.clip(total, -LARGEST, LARGEST)


def best_threshold(known: np.ndarray, unknown: np.ndarray | None, rejected: float) -> float:
    """Choose a threshold of typicality.

    Args:
        known: typicalities of inputs that belong to a class, (N,).
        unknown: typicalities of inputs that belong to no class, or None.
        rejected: share of ``known`` that is below the threshold, where ``unknown`` is None.

    Returns:
        a threshold in [0, 1]. With ``unknown`` it has the largest mean of the shares of right decisions. If several
        have it, the middle one.
    """
    if unknown is None:
        ordered = np.sort(known)
        return float(ordered[min(int(np.ceil(rejected * len(ordered))), len(ordered) - 1)])
    values = np.unique(np.concatenate([known, unknown]))
    between = np.concatenate([[0.0], (values[:-1] + values[1:]) / 2, [1.0]])
    right = (known >= between[:, None]).mean(1) + (unknown < between[:, None]).mean(1)
    best = np.flatnonzero(right >= right.max() - 1e-12)
    return float(between[best[len(best) // 2]])
