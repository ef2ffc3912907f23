"""Decide whether a few labelled examples change a vote that works without labels.

A fit on twenty examples of each class can make a good vote worse. Therefore a fit is used in two ways only. By default
it is shrunk towards the vote without labels, with a weight that grows with the sample. It is used in full only if the
labelled examples show a clear gain. Both need a gain in the log probability of the right class in cross-validation, of
some standard errors, and more right decisions.

The numbers were chosen on held-out parts of CLINC and Brown, and of MathQA and toxic comments, with LSTM, GRU and
vanilla networks of three seeds: 20 texts of each class for the fit, the others to compare.
Shapes: N examples, K modules.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PRIOR = 180  # examples of each class at which the weight is one half
SHRUNK_ERRORS = 2.75  # standard errors that the gain of a shrunk fit must have


def shrinkage(examples: int, classes: int) -> float:
    """Return the weight of a fit on a sample, in (0, 1)."""
    mean = examples / classes
    return mean / (mean + PRIOR)


def best_accepted(
    weights: Sequence[float], tried: Sequence[np.ndarray], plain: np.ndarray, truth: np.ndarray, errors: float
) -> int | None:
    """Return the position of the accepted fit with the largest gain; None if no fit is accepted.

    Args:
        weights: for each fit its weight in the vote; 1 is the full fit.
        tried: for each fit the log probabilities of the examples in cross-validation, each (N, K).
        plain: log probabilities of the vote without labels, (N, K).
        truth: index of the right class of each example, (N,).
        errors: standard errors that the gain of a full fit must have.
    """
    rows, right = np.arange(len(truth)), int((plain.argmax(1) == truth).sum())
    best, largest = None, 0.0
    for place, (weight, shares) in enumerate(zip(weights, tried, strict=True)):
        gain = (shares - plain)[rows, truth]
        total, error = float(gain.sum()), float(gain.std(ddof=1) * np.sqrt(len(gain)))
        enough = (errors if weight == 1 else SHRUNK_ERRORS) * error
        if total > max(largest, enough) and int((shares.argmax(1) == truth).sum()) > right:
            best, largest = place, total
    return best
