"""Votes over what each composition gave once, as :meth:`unbraid.Composition.decide` takes them.

Reuse and replacement try hundreds of compositions of the same modules; their margins and features do not depend on who
else votes.
Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch

from unbraid.modules.groups import Evidence
from unbraid.modules.voting import referee
from unbraid.modules.voting.calibration import WIDTHS, Scale, fit

PRIORS = [list(width) for width in WIDTHS]  # of calibration; results tell by them what was measured before a change
EXAMPLES = 20  # held-out ones for every class in the mean, for calibration


def right(margins: np.ndarray, truth: np.ndarray) -> float:
    """Share of N decisions (N, K) that go to the right module (N,)."""
    return float((margins.argmax(-1) == truth).mean())


def calibrated(margins: np.ndarray, sample: tuple[np.ndarray, np.ndarray], parents: Sequence[Hashable]) -> np.ndarray:
    """Margins (N, K) on the scales that a small labelled sample (margins, truth) gives, as ``calibrated`` does."""
    return scaled(margins, fit(*sample, parents))


def scaled(margins: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """Margins (N, K) on given scales."""
    temperature, offset = np.asarray(scales).T
    return margins / temperature + offset


def chosen(found: Evidence, places: Sequence[int], rows: np.ndarray) -> Evidence:
    """Some of the modules, on some of the examples."""
    features = [found.features[place][rows] for place in places]
    return Evidence(found.margins[rows][:, list(places)], features, [block[rows] for block in found.read])


def first_of_each(truth: np.ndarray, count: int) -> np.ndarray:
    """Booleans (N,): the first examples of every class, at most so many."""
    found = np.zeros(len(truth), bool)
    for label in np.unique(truth):
        found[np.flatnonzero(truth == label)[:count]] = True
    return found


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Several compositions' as that of one."""
    features = [block for part in parts for block in part.features]
    return Evidence(
        np.concatenate([part.margins for part in parts], axis=1), features, [b for part in parts for b in part.read]
    )


def refereed(found: Evidence, sample: tuple[Evidence, np.ndarray], scales: Sequence[Scale]) -> np.ndarray:
    """Margins (N, K) of the referee that a small labelled sample (evidence, truth) gives, as ``with_referee`` does.

    Args:
        found: of N examples and K modules.
        sample: evidence of the sample's examples, and which module is right.
        scales: what calibration on the sample gives.
    """
    known, truth = sample
    margins, fair = (scaled(m, scales) for m in (found.margins, known.margins))
    judge = referee.fit(fair, [*known.features, *known.read], truth)
    blocks = [torch.from_numpy(block) for block in (*found.features, *found.read)]
    return judge(torch.from_numpy(margins).float(), blocks).numpy()
