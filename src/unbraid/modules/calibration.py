"""Two numbers per module, its temperature and its offset, that make a vote between modules fair.

Modules of different parents score on different scales. A calibrated margin is margin / temperature + offset; both
numbers maximise the likelihood of a small labelled sample under the composition's own probabilities,
softmax(logsigmoid(margins)) (Platt 1999; Guo et al. 2017). What differs is mostly the parent, so a module's two numbers
are its parent's plus its own, with normal priors on both: broad ones for the parent's, narrow ones for its own. One
example a class is then enough to help, and a class whose examples are all told apart does not run away. Calibrated
margins are for comparing: whether a module alone claims an example is a question to the module.
Shapes: N decisions, K modules, P parents.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.data import Label, read_targets
from unbraid.errors import ConfigError, DataError

Scale = tuple[float, float]  # temperature, offset
UNTOUCHED: Scale = (1.0, 0.0)
LARGEST = 1e6  # of temperatures, their inverses and offsets
PARENT_SPREAD = torch.tensor([[1.0], [5.0]], dtype=torch.float64)  # prior deviations: log temperature, offset
OWN_SPREAD = torch.tensor([[0.5], [1.0]], dtype=torch.float64)


def fit_labelled(
    margins: np.ndarray, y: Any, labels: Sequence[Label], many: bool, parents: Sequence[Hashable]
) -> dict[Label, Scale]:
    """Label -> temperature and offset.

    Args:
        margins: (N, K), or (N, T, K) with one decision per timestep; not calibrated yet.
        y: labels or their positions, (N,) or (N, T); -1 or "" = none.
        labels: of the K modules.
        many: one decision per timestep.
        parents: which parent each of the K modules is from.

    Raises:
        DataError: labels of another shape, unknown ones, or a class without an example.
    """
    truth = read_targets(y, labels, many=many, examples=len(margins)).y
    if truth.shape != margins.shape[:-1]:
        raise DataError(f"labels of the sample have shape {truth.shape}, the modules decide {margins.shape[:-1]}.")
    used = (truth >= 0) & np.isfinite(margins).all(-1)
    missing = [label for place, label in enumerate(labels) if not (truth[used] == place).any()]
    if missing:
        raise DataError(f"the sample has no example of {missing[:5]}: calibration needs a few of every class.")
    return dict(zip(labels, fit(margins[used], truth[used], parents), strict=True))


def fit(margins: np.ndarray, truth: np.ndarray, parents: Sequence[Hashable]) -> list[Scale]:
    """Temperature and offset of every module; the same input gives the same numbers.

    Args:
        margins: (N, K), not calibrated yet.
        truth: (N,) the right module of each decision, in [0, K).
        parents: which parent each of the K modules is from.
    """
    kinds = list(dict.fromkeys(parents))
    of = torch.tensor([kinds.index(parent) for parent in parents])
    z, right = torch.from_numpy(margins.astype(np.float64)), torch.from_numpy(truth.astype(np.int64))
    shared = torch.zeros(2, len(kinds), dtype=torch.float64, requires_grad=True)
    own = torch.zeros(2, len(of), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [shared, own], max_iter=200, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        """Minus the log of the posterior."""
        optimizer.zero_grad()
        slope, offset = shared[:, of] + own
        scores = torch.log_softmax(torch.nn.functional.logsigmoid(z * slope.exp() + offset), dim=-1)
        missed = -scores.gather(1, right[:, None]).sum()
        total = missed + ((shared / PARENT_SPREAD) ** 2).sum() / 2 + ((own / OWN_SPREAD) ** 2).sum() / 2
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    slope, offset = (shared[:, of] + own).detach()
    return list(zip(torch.exp(-slope).tolist(), offset.tolist(), strict=True))


def check_scale(label: object, scale: Scale) -> Scale:
    """Temperature and offset in float32's steps, so that they are stored as they are used.

    Raises:
        ConfigError: a number that is not finite or out of range, or a temperature that is not above 0.
    """
    temperature, offset = (float(np.float32(number)) for number in scale)
    if not (1 / LARGEST <= temperature <= LARGEST and math.isfinite(offset) and abs(offset) <= LARGEST):
        raise ConfigError(
            f"calibration of {label!r}: found temperature {scale[0]}, offset {scale[1]}; expected a temperature from "
            f"{1 / LARGEST:g} to {LARGEST:g} and an offset of at most {LARGEST:g}."
        )
    return temperature, offset
