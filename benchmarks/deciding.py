"""Votes over margins that each composition gave once, as :meth:`unbraid.Composition.decide` takes them.

Reuse and replacement try hundreds of compositions of the same modules; their margins do not depend on who else votes.
Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from unbraid.modules.calibration import fit

EXAMPLES = 20  # held-out ones for every class in the mean, for calibration


def best_step(margins: np.ndarray) -> np.ndarray:
    """Margins (N, K) with which many-output modules vote where one output is asked: those of their best timestep."""
    return margins if margins.ndim == 2 else np.nan_to_num(margins, nan=-np.inf).max(1)


def right(margins: np.ndarray, truth: np.ndarray) -> float:
    """Share of N decisions (N, K) that go to the right module (N,)."""
    return float((margins.argmax(-1) == truth).mean())


def calibrated(margins: np.ndarray, sample: tuple[np.ndarray, np.ndarray], parents: Sequence[Hashable]) -> np.ndarray:
    """Margins (N, K) on the scales that a small labelled sample (margins, truth) gives, as ``calibrated`` does."""
    temperature, offset = np.asarray(fit(*sample, parents)).T
    return margins / temperature + offset
