"""Two numbers per module, its temperature and its offset, that make a vote between modules fair.

Modules of different parents score on different scales. A calibrated margin is margin / temperature + offset; both
numbers maximise the likelihood of a small labelled sample under the composition's own probabilities,
softmax(logsigmoid(margins)) (Platt 1999; Guo et al. 2017). What differs is mostly the parent, so a module's two numbers
are its parent's plus its own, with normal priors on both. Parents of one problem differ little, others by much: how
wide the priors are, cross-validation on the sample says. A few examples a class are then enough, and a class whose
examples are all told apart does not run away. The widths were chosen on held-out parts of CLINC and Brown. Calibrated
margins are for comparing: whether a module alone claims an example is a question to the module.
Shapes: N decisions, K modules, P parents.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch

from unbraid.data.targets import Label, read_targets
from unbraid.errors import ConfigError, DataError
from unbraid.modules.voting.lbfgs import minimum
from unbraid.progress import Progress, silent

Scale = tuple[float, float]  # temperature, offset
UNTOUCHED: Scale = (1.0, 0.0)
LARGEST = 1e6  # of temperatures, their inverses and offsets
PARENT_SPREAD = np.asarray([1.0, 5.0]).reshape(2, 1, 1)  # prior deviations of log temperature and offset
OWN_SPREAD = np.asarray([0.5, 1.0]).reshape(2, 1, 1)
WIDTHS = ((0.1, 0.1), (0.3, 0.25), (1.0, 0.25))  # shares of these two that are tried
MANY = 50  # examples a class, from which on the widest are taken: so many speak for themselves
FOLDS = 5


def fit_labelled(
    margins: np.ndarray,
    y: Any,
    labels: Sequence[Label],
    many: bool,
    parents: Sequence[Hashable],
    progress: Progress = silent,
) -> dict[Label, Scale]:
    """Label -> temperature and offset.

    Args:
        margins: (N, K), or (N, T, K) with one decision per timestep; not calibrated yet.
        y: labels or their positions, (N,) or (N, T); -1 or "" = none.
        labels: of the K modules.
        many: one decision per timestep.
        parents: which parent each of the K modules is from.
        progress: see :mod:`unbraid.progress`.

    Raises:
        DataError: labels of another shape, unknown ones, margins that are NaN, or a class without an example.
    """
    used, truth = labelled(margins, y, labels, many)
    return dict(zip(labels, fit(margins[used], truth[used], parents, progress), strict=True))


def labelled(margins: np.ndarray, y: Any, labels: Sequence[Label], many: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which decisions of a sample count, booleans, and the place of each one's label, both (N,) or (N, T).

    Args and errors are those of :func:`fit_labelled`.
    """
    truth = read_targets(y, labels, many=many, examples=len(margins)).y
    if truth.shape != margins.shape[:-1]:
        raise DataError(f"labels of the sample have shape {truth.shape}, the modules decide {margins.shape[:-1]}.")
    _check_numbers(margins, truth >= 0, many)
    used = (truth >= 0) & np.isfinite(margins).all(-1)
    missing = [label for place, label in enumerate(labels) if not (truth[used] == place).any()]
    if missing:
        raise DataError(
            f"the sample has no example of {missing[:5]}: it needs a few of every class, and labels as they are called "
            f"here: {list(labels)[:9]}."
        )
    return used, truth


def _check_numbers(margins: np.ndarray, counted: np.ndarray, many: bool) -> None:
    """Raises DataError for NaN at a label: in one decision per example, or in all decisions of an example."""
    nan = np.isnan(margins).any(-1)
    bad = nan & counted if not many else (nan | ~counted).all(-1) & counted.any(-1)  # some steps may be padding
    if bad.any():
        rows = np.flatnonzero(bad)
        raise DataError(
            f"the modules' margins are NaN for {len(rows)} of the sample's {len(margins)} examples, the first is "
            f"number {rows[0]} (from 0): check these inputs for NaN, infinite or very large values, or leave them out."
        )


def fit(
    margins: np.ndarray, truth: np.ndarray, parents: Sequence[Hashable], progress: Progress = silent
) -> list[Scale]:
    """Temperature and offset of every module; the same input gives the same numbers.

    Args:
        margins: (N, K), not calibrated yet.
        truth: (N,) the right module of each decision, in [0, K).
        parents: which parent each of the K modules is from.
        progress: see :mod:`unbraid.progress`.
    """
    margins, right = margins.astype(np.float64), np.eye(len(parents), dtype=bool)[truth]
    out = folds(truth) if len(truth) < MANY * len(parents) else []
    width, begun, least = WIDTHS[-1], None, np.inf
    with progress("calibrating", len(WIDTHS) * len(out)) as advance:
        for tried in WIDTHS if out else ():
            mix = _mix(parents, tried)
            found, lost = _search(margins, truth, mix, _starts(margins, mix, parents), 1e-5), 0.0
            for part in out:
                slopes, offsets = _scales(_search(margins[~part], truth[~part], mix, [found], 1e-5), mix)
                lost -= float(_log_shares(margins[part] * np.exp(slopes) + offsets)[right[part]].sum())
                advance(1)
            if lost < least:
                width, begun, least = tried, found, lost
    mix = _mix(parents, width)
    starts = _starts(margins, mix, parents) if begun is None else [begun]
    slopes, offsets = _scales(_search(margins, truth, mix, starts, 1e-10), mix)
    return list(zip(np.exp(-slopes).tolist(), offsets.tolist(), strict=True))


def folds(truth: np.ndarray) -> list[np.ndarray]:
    """What to leave out in turn, booleans (N,), every class (N,) spread over all parts; none of a single example."""
    place = np.empty(len(truth), int)
    place[np.argsort(truth, kind="stable")] = np.arange(len(truth)) % FOLDS
    parts = [place == fold for fold in range(FOLDS)]
    return [part for part in parts if part.any() and not part.all()]


def _mix(parents: Sequence[Hashable], width: tuple[float, float]) -> np.ndarray:
    """What a number of each parent and module does to minus log temperatures and to offsets, (2, P + K, K).

    The numbers have standard normal priors; the width is that of what parents, and what modules of their own, add.
    """
    kinds = dict.fromkeys(parents)
    from_parent = np.asarray([[kind == parent for parent in parents] for kind in kinds], np.float64)
    own = np.eye(len(parents))
    return np.concatenate([from_parent[None] * PARENT_SPREAD * width[0], own[None] * OWN_SPREAD * width[1]], axis=1)


def _scales(numbers: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Minus the log temperatures and the offsets, (2, K), of numbers (2 * (P + K),)."""
    slopes, offsets = np.einsum("ij,ijk->ik", numbers.reshape(2, -1), mix)
    most = np.log(LARGEST) - 1e-6
    return np.stack([np.clip(slopes, -most, most), np.clip(offsets, -LARGEST, LARGEST)])


def _starts(margins: np.ndarray, mix: np.ndarray, parents: Sequence[Hashable]) -> list[np.ndarray]:
    """Where to search from: nothing changed, and margins (N, K) of every parent of mean 0 and deviation 1.

    Parents far off leave no gradient at the first.
    """
    alike = np.zeros(mix.shape[:2])
    for place, parent in enumerate(dict.fromkeys(parents)):
        own = margins[:, [other == parent for other in parents]]
        spread = max(float(own.std()), 1e-9)
        alike[:, place] = [-np.log(spread), -own.mean() / spread] / mix[:, place].max(1)
    return [np.zeros(alike.size), alike.ravel()]


def _search(
    margins: np.ndarray, truth: np.ndarray, mix: np.ndarray, starts: list[np.ndarray], precision: float
) -> np.ndarray:
    """Numbers (2 * (P + K),) of the largest posterior that is found from the starts."""
    right = np.eye(margins.shape[1])[truth]

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log of the posterior and its gradient."""
        slopes, offsets = np.einsum("ij,ijk->ik", numbers.reshape(2, -1), mix)
        steep = margins * np.exp(slopes)
        z = steep + offsets
        shares = _log_shares(z)
        by_z = (np.exp(shares) - right) * torch.sigmoid(torch.from_numpy(-z)).numpy()
        gradient = np.einsum("ik,ijk->ij", np.stack([(by_z * steep).sum(0), by_z.sum(0)]), mix)
        return float(numbers @ numbers / 2 - (shares * right).sum()), numbers + gradient.ravel()

    with np.errstate(over="ignore", invalid="ignore"):  # of steps that are too long, and taken back
        tried = [minimum(loss, start, precision) for start in starts]
    return min(tried, key=lambda ended: ended[0])[1]


def _log_shares(margins: np.ndarray) -> np.ndarray:
    """Log probabilities of a composition, (N, K); by torch, which is several times as fast at it as numpy."""
    votes = torch.nn.functional.logsigmoid(torch.from_numpy(margins))
    shares: np.ndarray = torch.log_softmax(votes, 1).numpy()
    return shares


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
