"""Compute votes from stored margins and features, as :meth:`unbraid.Composition.decide` does.

Reuse and replacement need hundreds of compositions of the same modules. Margins and features of a module do not depend
on the other modules, so they are computed once.
Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch

from unbraid.modules.groups import Evidence
from unbraid.modules.voting import referee
from unbraid.modules.voting.calibration import WIDTHS, Scale, fit

PRIORS = [list(width) for width in WIDTHS]  # priors of calibration, stored in results to detect outdated figures
EXAMPLES = 20  # mean number of held-out examples per class for calibration


def right(margins: np.ndarray, truth: np.ndarray) -> float:
    """Compute the share of N decisions with the largest margin (N, K) at the right module (N,)."""
    return float((margins.argmax(-1) == truth).mean())


def calibrated(margins: np.ndarray, sample: tuple[np.ndarray, np.ndarray], parents: Sequence[Hashable]) -> np.ndarray:
    """Calibrate margins (N, K) on a small labelled sample (margins, truth), as ``with_calibration`` does."""
    return scaled(margins, fit(*sample, parents))


def scaled(margins: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """Apply temperatures and offsets to margins (N, K)."""
    temperature, offset = np.asarray(scales).T
    return margins / temperature + offset


def chosen(found: Evidence, places: Sequence[int], rows: np.ndarray) -> Evidence:
    """Select modules and examples."""
    features = [found.features[place][rows] for place in places]
    return Evidence(found.margins[rows][:, list(places)], features, [block[rows] for block in found.read])


def first_of_each(truth: np.ndarray, count: int) -> np.ndarray:
    """Mark the first examples of each class, at most ``count``; booleans (N,)."""
    found = np.zeros(len(truth), bool)
    for label in np.unique(truth):
        found[np.flatnonzero(truth == label)[:count]] = True
    return found


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Join the evidence of several compositions."""
    features = [block for part in parts for block in part.features]
    return Evidence(
        np.concatenate([part.margins for part in parts], axis=1), features, [b for part in parts for b in part.read]
    )


def refereed(
    found: Evidence, sample: tuple[Evidence, np.ndarray], scales: Sequence[Scale], parents: Sequence[Hashable]
) -> np.ndarray:
    """Compute margins (N, K) of a referee fitted on a small labelled sample, as ``with_referee`` does.

    Args:
        found: evidence about N examples by K modules.
        sample: evidence about the examples of the sample, and the right module of each example.
        scales: calibration fitted on the sample.
        parents: identifier of the parent of each of the K modules.
    """
    known, truth = sample
    margins, fair = (scaled(m, scales) for m in (found.margins, known.margins))
    judge = referee.fit(fair, [*known.features, *known.read], truth, parents)
    blocks = [torch.from_numpy(block) for block in (*found.features, *found.read)]
    return judge(torch.from_numpy(margins).float(), blocks).numpy()
