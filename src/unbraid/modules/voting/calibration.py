"""Calibration: a temperature and an offset for each module that make the margins of different parents comparable.

A calibrated margin is margin / temperature + offset. Both numbers maximise the likelihood of a small labelled sample
under the probabilities of the composition, softmax(logsigmoid(margins)) (Platt 1999; Guo et al. 2017).

The scale of the margins depends mostly on the parent. Therefore each of the two numbers is the sum of a part for the
parent and a part for the module, with normal priors on both parts. The widths of the priors are chosen by
cross-validation on the sample, from pairs that were selected on held-out parts of CLINC and Brown. With these priors a
few examples of each class are enough, and the numbers stay finite for a class whose examples are separable.

Where the vote uses domain evidence, its log densities are part of the probabilities, and the vote without labels is
good. The log temperature and the offset are then shrunk or left out, see :mod:`unbraid.modules.voting.acceptance`.

Calibrated margins serve for comparison only. Whether a module alone claims an example depends on its own margin.
Shapes: N decisions, T timesteps, K modules, P parents.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch

from unbraid.data.targets import Label, read_targets
from unbraid.errors import ConfigError, DataError, quoted
from unbraid.modules.voting.acceptance import best_accepted, shrinkage
from unbraid.modules.voting.lbfgs import minimum
from unbraid.progress import Progress, silent

Scale = tuple[float, float]  # temperature, offset
UNTOUCHED: Scale = (1.0, 0.0)
LARGEST = 1e6  # largest temperature, inverse temperature and offset
PARENT_SPREAD = np.asarray([1.0, 5.0]).reshape(2, 1, 1)  # prior deviations of log temperature and offset of a parent
OWN_SPREAD = np.asarray([0.5, 1.0]).reshape(2, 1, 1)  # the same for a module
WIDTHS = ((0.1, 0.1), (0.3, 0.25), (1.0, 0.25))  # candidates: factors of PARENT_SPREAD and OWN_SPREAD
MANY = 50  # from this number of examples per class on, the widest priors are used without cross-validation
NARROW = WIDTHS[:2]  # candidates beside domain evidence
FULL_ERRORS = 2.0  # see acceptance.best_accepted
FOLDS = 5


def fit_labelled(
    margins: np.ndarray,
    y: Any,
    labels: Sequence[Label],
    many: bool,
    parents: Sequence[Hashable],
    progress: Progress = silent,
    domain: np.ndarray | None = None,
) -> dict[Label, Scale]:
    """Fit the calibration on a labelled sample.

    Args:
        margins: margins before calibration, floats (N, K), or (N, T, K) for many outputs.
        y: names or indices of labels, (N,) or (N, T); -1 or "" means no label.
        labels: labels of the K modules.
        many: whether there is one decision for each timestep.
        parents: identifier of the parent of each of the K modules.
        progress: see :mod:`unbraid.progress`.
        domain: log densities of the inputs under the parent of each module, floats (N, K); None without evidence.

    Returns:
        label -> temperature and offset.

    Raises:
        DataError: labels of another shape, unknown labels, margins that are NaN, or a class without an example.
    """
    used, truth = labelled(margins, y, labels, many)
    logs = None if domain is None else by_decision(domain, margins)[used]
    return dict(zip(labels, fit(margins[used], truth[used], parents, progress, logs), strict=True))


def by_decision(domain: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Repeat log densities (N, K) for each decision of margins (N, [T,] K)."""
    return np.broadcast_to(domain.reshape(len(domain), *([1] * (margins.ndim - 2)), -1), margins.shape)


def labelled(margins: np.ndarray, y: Any, labels: Sequence[Label], many: bool) -> tuple[np.ndarray, np.ndarray]:
    """Read the labels of a sample. Arguments and errors are those of :func:`fit_labelled`.

    Returns:
        which decisions count, booleans, and the index of the label of each decision; both (N,) or (N, T).
    """
    truth = read_targets(y, labels, many=many, examples=len(margins)).y
    if truth.shape != margins.shape[:-1]:
        raise DataError(
            f"labels of the sample have shape {truth.shape}, expected {margins.shape[:-1]}: give one label for each "
            "decision of the modules."
        )
    _check_numbers(margins, truth >= 0, many)
    used = (truth >= 0) & np.isfinite(margins).all(-1)
    missing = [label for place, label in enumerate(labels) if not (truth[used] == place).any()]
    if missing:
        raise DataError(
            f"the sample has no example of {missing[:5]}, expected a few of each class: add examples, and name the "
            f"labels as in the composition: {quoted(list(labels)[:9])}."
        )
    return used, truth


def _check_numbers(margins: np.ndarray, counted: np.ndarray, many: bool) -> None:
    """Raise DataError if margins are NaN at a label; with many outputs, at all labelled timesteps of an example."""
    nan = np.isnan(margins).any(-1)
    bad = nan & counted if not many else (nan | ~counted).all(-1) & counted.any(-1)  # some timesteps may be padding
    if bad.any():
        rows = np.flatnonzero(bad)
        raise DataError(
            f"the margins of the modules are NaN for {len(rows)} of {len(margins)} examples of the sample; the first "
            f"is number {rows[0]} (from 0). Check these inputs for NaN, infinite or very large values, or leave them "
            "out."
        )


def fit(
    margins: np.ndarray,
    truth: np.ndarray,
    parents: Sequence[Hashable],
    progress: Progress = silent,
    domain: np.ndarray | None = None,
) -> list[Scale]:
    """Fit temperature and offset of each module. The result is deterministic.

    Args:
        margins: margins before calibration, floats (N, K).
        truth: index of the right module of each decision, (N,), in [0, K).
        parents: identifier of the parent of each of the K modules.
        progress: see :mod:`unbraid.progress`.
        domain: log densities of the inputs of each decision under the parent of each module, floats (N, K); None
            without domain evidence.

    Returns:
        temperature and offset of each of the K modules.
    """
    margins, right = margins.astype(np.float64), np.eye(len(parents), dtype=bool)[truth]
    if domain is not None:
        return _beside_evidence(margins, truth, parents, progress, domain.astype(np.float64))
    logs = np.zeros_like(margins)
    out = folds(truth) if len(truth) < MANY * len(parents) else []
    best, lowest = (WIDTHS[-1], _starts(margins, _mix(parents, WIDTHS[-1]), parents)), np.inf
    with progress("calibrating", len(WIDTHS) * len(out)) as advance:
        for width in WIDTHS if out else ():
            mix = _mix(parents, width)
            found, lost = _search(margins, truth, mix, _starts(margins, mix, parents), 1e-5, logs), 0.0
            for part in out:
                slopes, offsets = _scales(_search(margins[~part], truth[~part], mix, [found], 1e-5, logs[~part]), mix)
                shares = _log_shares(margins[part] * np.exp(slopes) + offsets, logs[part])
                lost -= float(shares[right[part]].sum())
                advance(1)
            if lost < lowest:
                best, lowest = (width, [found]), lost
    width, starts = best
    mix = _mix(parents, width)
    return _as_scales(_scales(_search(margins, truth, mix, starts, 1e-10, logs), mix))


def _beside_evidence(
    margins: np.ndarray, truth: np.ndarray, parents: Sequence[Hashable], progress: Progress, logs: np.ndarray
) -> list[Scale]:
    """Fit where the vote uses domain evidence; arguments as of :func:`fit`."""
    out, weights = folds(truth), (shrinkage(len(truth), len(parents)), 1.0)
    scales: list[np.ndarray] = []
    tried: list[np.ndarray] = []
    with progress("calibrating", len(NARROW) * len(out)) as advance:
        for width in NARROW if out else ():
            mix = _mix(parents, width)
            numbers = _search(margins, truth, mix, _starts(margins, mix, parents), 1e-10, logs)
            left_out = [np.zeros_like(margins) for _ in weights]
            for part in out:
                found = _search(margins[~part], truth[~part], mix, [numbers], 1e-5, logs[~part])
                for shares, weight in zip(left_out, weights, strict=True):
                    slopes, offsets = weight * _scales(found, mix)
                    shares[part] = _log_shares(margins[part] * np.exp(slopes) + offsets, logs[part])
                advance(1)
            scales += [weight * _scales(numbers, mix) for weight in weights]
            tried += left_out
    best = best_accepted([*weights] * (len(tried) // 2), tried, _log_shares(margins, logs), truth, FULL_ERRORS)
    return [UNTOUCHED] * len(parents) if best is None else _as_scales(scales[best])


def _as_scales(numbers: np.ndarray) -> list[Scale]:
    """Convert negative log temperatures and offsets (2, K)."""
    return list(zip(np.exp(-numbers[0]).tolist(), numbers[1].tolist(), strict=True))


def folds(truth: np.ndarray) -> list[np.ndarray]:
    """Return the folds of a cross-validation, booleans (N,) that mark left-out examples.

    The examples of each class are spread over all folds. A single example gives no fold.

    Args:
        truth: index of the class of each example, (N,).
    """
    place = np.empty(len(truth), int)
    place[np.argsort(truth, kind="stable")] = np.arange(len(truth)) % FOLDS
    parts = [place == fold for fold in range(FOLDS)]
    return [part for part in parts if part.any() and not part.all()]


def _mix(parents: Sequence[Hashable], width: tuple[float, float]) -> np.ndarray:
    """Make the linear map from fitted numbers to negative log temperatures and offsets, (2, P + K, K).

    There is one number for each parent and each module, with a standard normal prior. ``width`` scales the prior
    deviations of parents and modules.
    """
    kinds = dict.fromkeys(parents)
    from_parent = np.asarray([[kind == parent for parent in parents] for kind in kinds], np.float64)
    own = np.eye(len(parents))
    return np.concatenate([from_parent[None] * PARENT_SPREAD * width[0], own[None] * OWN_SPREAD * width[1]], axis=1)


def _scales(numbers: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Compute negative log temperatures and offsets, (2, K), from fitted numbers (2 * (P + K),)."""
    slopes, offsets = np.einsum("ij,ijk->ik", numbers.reshape(2, -1), mix)
    most = np.log(LARGEST) - 1e-6
    return np.stack([np.clip(slopes, -most, most), np.clip(offsets, -LARGEST, LARGEST)])


def _starts(margins: np.ndarray, mix: np.ndarray, parents: Sequence[Hashable]) -> list[np.ndarray]:
    """Return two starts of the search: no change, and margins of each parent scaled to mean 0 and deviation 1.

    The second start is needed because the gradient of the first vanishes for very different parents.
    """
    alike = np.zeros(mix.shape[:2])
    for place, parent in enumerate(dict.fromkeys(parents)):
        own = margins[:, [other == parent for other in parents]]
        spread = max(float(own.std()), 1e-9)
        alike[:, place] = [-np.log(spread), -own.mean() / spread] / mix[:, place].max(1)
    return [np.zeros(alike.size), alike.ravel()]


def _search(
    margins: np.ndarray,
    truth: np.ndarray,
    mix: np.ndarray,
    starts: list[np.ndarray],
    precision: float,
    logs: np.ndarray,
) -> np.ndarray:
    """Maximise the posterior from several starts; return the best numbers (2 * (P + K),)."""
    right = np.eye(margins.shape[1])[truth]

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the negative log posterior and its gradient."""
        slopes, offsets = np.einsum("ij,ijk->ik", numbers.reshape(2, -1), mix)
        steep = margins * np.exp(slopes)
        z = steep + offsets
        shares = _log_shares(z, logs)
        by_z = (np.exp(shares) - right) * torch.sigmoid(torch.from_numpy(-z)).numpy()
        gradient = np.einsum("ik,ijk->ij", np.stack([(by_z * steep).sum(0), by_z.sum(0)]), mix)
        return float(numbers @ numbers / 2 - (shares * right).sum()), numbers + gradient.ravel()

    with np.errstate(over="ignore", invalid="ignore"):  # steps that are too long are reduced afterwards
        tried = [minimum(loss, start, precision) for start in starts]
    return min(tried, key=lambda ended: ended[0])[1]


def _log_shares(margins: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Compute log probabilities of a composition, (N, K). PyTorch is several times as fast as NumPy here."""
    votes = torch.nn.functional.logsigmoid(torch.from_numpy(margins)) + torch.from_numpy(logs)
    shares: np.ndarray = torch.log_softmax(votes, 1).numpy()
    return shares


def check_scale(label: object, scale: Scale) -> Scale:
    """Round temperature and offset to float32, so that the stored values equal the used values.

    Raises:
        ConfigError: a number that is not finite or out of range, or a temperature that is not above 0.
    """
    temperature, offset = (float(np.float32(number)) for number in scale)
    if not (1 / LARGEST <= temperature <= LARGEST and math.isfinite(offset) and abs(offset) <= LARGEST):
        raise ConfigError(
            f"calibration of {label!r}: temperature {scale[0]}, offset {scale[1]}; expected a temperature from "
            f"{1 / LARGEST:g} to {LARGEST:g} and an offset of at most {LARGEST:g}. Calibrate on another sample."
        )
    return temperature, offset
