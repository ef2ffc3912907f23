"""Intervals of the scores of classifiers. Shapes: M decisions, N examples, K modules, B draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unbraid.data.targets import Label
from unbraid.evaluation.bootstrap import Intervals, draws, intervals, per_example

DETECTION = ("precision", "recall", "f1")


def class_intervals(
    right: np.ndarray,
    compared: tuple[np.ndarray, np.ndarray] | None,
    claimed: np.ndarray,
    true: np.ndarray,
    labels: Sequence[Label],
    examples: np.ndarray,
    draw: tuple[float, int],
) -> Intervals:
    """Compute the intervals of all scores.

    Args:
        right: share of each decision of the composition that is right, (M,).
        compared: the same of the whole network and of the restricted network; None without one.
        claimed: whether each module claims a decision, booleans (M, K).
        true: whether the class is right, booleans (M, K).
        labels: labels of the K modules.
        examples: the example of each decision, (M,), ascending.
        draw: level of the intervals and seed of the draws.
    """
    level, seed = draw
    shares = [np.ones_like(right), right, *(compared or ())]
    values = np.concatenate([np.stack(shares, -1), claimed & true, claimed, true], axis=1, dtype=np.float32)
    own = per_example(values, examples)
    sums = draws(own, seed)
    accuracy = sums[:, 1 : len(shares)] / sums[:, :1]
    scores = {"accuracy": accuracy[:, 0]}
    if compared is not None:
        scores |= {"monolithic_accuracy": accuracy[:, 1], "restricted_accuracy": accuracy[:, 2]}
        scores |= {"delta": accuracy[:, 0] - accuracy[:, 1], "restricted_delta": accuracy[:, 0] - accuracy[:, 2]}
    hits, claims, positives = sums[:, len(shares) :].reshape(len(sums), 3, -1).swapaxes(0, 1)
    parts = (
        hits / np.maximum(claims, 1),
        hits / np.maximum(positives, 1),
        2 * hits / np.maximum(claims + positives, 1),
    )
    detection = dict(zip(DETECTION, parts, strict=True))  # each (B, K)
    modules = {label: {name: drawn[:, k] for name, drawn in detection.items()} for k, label in enumerate(labels)}
    return intervals(level, len(own), scores | {name: drawn.mean(1) for name, drawn in detection.items()}, modules)
