"""Scores of the rejection of unknown inputs. Shapes: N known inputs, M unknown inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unbraid.data.targets import Label

RECALL = 0.95  # share of known inputs that are accepted, for the false-positive rate


@dataclass(frozen=True)
class UnknownScores:
    """How well a composition tells inputs of its classes from inputs of no class. All shares are in [0, 1].

    Attributes:
        label: the label of unknown inputs.
        threshold: typicality below which an input is rejected.
        known: number of inputs of a class of the composition.
        unknown: number of inputs of no class.
        auroc: probability that a random known input is more typical than a random unknown one. Ties count half.
        fpr_at_95_recall: share of unknown inputs that are accepted where 95 % of the known ones are.
        accuracy: share of known inputs with the right class, without rejection.
        accuracy_with_rejection: share of known inputs that are accepted and have the right class.
        rejected_known: share of known inputs that are rejected.
        rejected_unknown: share of unknown inputs that are rejected.
    """

    label: Label
    threshold: float
    known: int
    unknown: int
    auroc: float
    fpr_at_95_recall: float
    accuracy: float
    accuracy_with_rejection: float
    rejected_known: float
    rejected_unknown: float

    def __str__(self) -> str:
        return (
            f"unknown inputs: AUROC {self.auroc:.4f}, {self.fpr_at_95_recall:.1%} accepted at 95 % recall; at "
            f"typicality {self.threshold:.3g} {self.rejected_unknown:.1%} of {self.unknown:,} are rejected, and "
            f"{self.rejected_known:.1%} of {self.known:,} known ones; accuracy in scope {self.accuracy:.4f}, "
            f"{self.accuracy_with_rejection:.4f} with rejection"
        )


def unknown_scores(
    label: Label, threshold: float, known: np.ndarray, right: np.ndarray, unknown: np.ndarray
) -> UnknownScores:
    """Compute the scores.

    Args:
        label: the label of unknown inputs.
        threshold: typicality below which an input is rejected.
        known: typicalities of known inputs, (N,).
        right: which of them have the right class, booleans (N,).
        unknown: typicalities of unknown inputs, (M,).
    """
    accepted = known >= threshold
    return UnknownScores(
        label=label,
        threshold=threshold,
        known=len(known),
        unknown=len(unknown),
        auroc=auroc(known, unknown),
        fpr_at_95_recall=false_positive_rate(known, unknown),
        accuracy=float(right.mean()),
        accuracy_with_rejection=float((right & accepted).mean()),
        rejected_known=float((~accepted).mean()),
        rejected_unknown=float((unknown < threshold).mean()),
    )


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Compute the area under the ROC curve: the share of pairs (known, unknown) in the right order, ties as half.

    Args:
        known: scores of known inputs, (N,), larger for more typical ones.
        unknown: scores of unknown inputs, (M,).

    Example:
        >>> auroc(np.asarray([3.0, 2.0]), np.asarray([1.0, 2.0]))
        0.875
    """
    ordered = np.sort(unknown)
    below = np.searchsorted(ordered, known, side="left") + np.searchsorted(ordered, known, side="right")
    return float(below.mean() / (2 * len(unknown)))


def false_positive_rate(known: np.ndarray, unknown: np.ndarray, recall: float = RECALL) -> float:
    """Compute the share of unknown inputs above the largest threshold that accepts a share of the known ones.

    Args:
        known: scores of known inputs, (N,).
        unknown: scores of unknown inputs, (M,).
        recall: that share, in (0, 1].

    Example:
        >>> false_positive_rate(np.asarray([1.0, 2.0, 3.0, 4.0]), np.asarray([0.0, 2.5]), recall=0.75)
        0.5
    """
    least = np.sort(known)[len(known) - int(np.ceil(recall * len(known)))]
    return float((unknown >= least).mean())
