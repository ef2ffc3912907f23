"""Evaluate a composition of modules that predict numbers. Shapes: N examples, T timesteps, K modules, C columns."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unbraid.data.numbers import read_numbers
from unbraid.data.targets import Label
from unbraid.errors import DataError, quoted
from unbraid.evaluation.bootstrap import Intervals
from unbraid.evaluation.columns import Columns, columns_of_numbers, figure
from unbraid.evaluation.details import Details, structure_of
from unbraid.evaluation.number_intervals import number_intervals, number_sums
from unbraid.evaluation.presenting import Presented
from unbraid.evaluation.truth import columns_of
from unbraid.modules.composition import Composition
from unbraid.modules.retention import Retention, mean_retention
from unbraid.networks.network import Network


@dataclass(frozen=True)
class Errors:
    """Errors of predicted numbers.

    Attributes:
        rmse: root of the mean squared error, in the unit of the targets.
        mae: mean absolute error, in the unit of the targets.
        r2: coefficient of determination, at most 1; None where all targets are equal, as it is then undefined.
    """

    rmse: float
    mae: float
    r2: float | None


@dataclass(frozen=True)
class NumberScore:
    """Scores of one module that predicts a number.

    Attributes:
        errors: errors of the module.
        parent: errors of ``against`` on the same targets; None without it.
        agreement: RMSE between the module and ``against``, divided by the standard deviation of the numbers of
            ``against``: 0 for equal numbers, 1 for those of a constant. None without ``against`` or if its numbers are
            all equal.
        targets: how many targets were scored.
        missing: how many were left out, because the target or the prediction is NaN.
        retention: shares of the parent that the module keeps.
    """

    errors: Errors
    parent: Errors | None
    agreement: float | None
    targets: int
    missing: int
    retention: Retention


@dataclass(frozen=True)
class RegressionEvaluation(Presented):
    """Results of :func:`unbraid.evaluate` for modules that predict numbers.

    Attributes:
        modules: label -> scores of the module.
        intervals: intervals of rmse, mae, r2, and with ``against`` of the same of the network (``parent_mae``), of the
            differences to it (``mae_difference``) and of the agreement; None if they were not asked for.
        details: kept units, for :meth:`report`.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_forecaster
        >>> network, x, y = small_forecaster()
        >>> composition = unbraid.compose(unbraid.decompose(network, x, keep=1.0))
        >>> result = unbraid.evaluate(composition, (x, y), against=network)
        >>> round(result.modules["low"].agreement, 4), sorted(result.to_dict())
        (0.0, ['intervals', 'mean', 'modules', 'retention', 'task'])
    """

    modules: dict[Label, NumberScore]
    intervals: Intervals | None = None
    details: Details | None = field(default=None, compare=False, repr=False)

    @property
    def retention(self) -> Retention:
        """Mean retention of the modules."""
        return mean_retention([score.retention for score in self.modules.values()])

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean of each score over the modules; None where a module does not have it."""
        scores = list(self.modules.values())
        found = {name: _mean([getattr(one.errors, name) for one in scores]) for name in ("rmse", "mae", "r2")}
        for name in ("rmse", "mae", "r2"):
            found[f"parent_{name}"] = _mean([None if s.parent is None else getattr(s.parent, name) for s in scores])
        return {**found, "agreement": _mean([one.agreement for one in scores])}

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, for JSON."""
        modules = {str(label): dataclasses.asdict(score) for label, score in self.modules.items()}
        return {
            "task": "regression",
            "modules": modules,
            "mean": self.mean,
            "intervals": None if self.intervals is None else self.intervals.to_dict(),
            "retention": dataclasses.asdict(self.retention),
        }

    def _columns(self) -> Columns:
        return columns_of_numbers(self.modules.values())

    def __str__(self) -> str:
        mean, kept = self.mean, self.retention
        targets = sum(score.targets for score in self.modules.values())
        missing = sum(score.missing for score in self.modules.values())
        lines = [
            f"RMSE {figure(mean['rmse'])}, MAE {figure(mean['mae'])}, R2 {figure(mean['r2'])}: means of "
            f"{len(self.modules)} modules over {targets:,} targets"
        ]
        if mean["parent_rmse"] is not None:
            lines.append(
                f"the network: RMSE {figure(mean['parent_rmse'])}, MAE {figure(mean['parent_mae'])}, "
                f"R2 {figure(mean['parent_r2'])}; RMSE to its numbers {figure(mean['agreement'])} of their standard "
                "deviation"
            )
        if self.intervals is not None:
            lines.append(f"{self.intervals.title}: {self.intervals.text(_INTERVALS)}")
        if missing:
            lines.append(f"left out: {missing:,} targets or predictions that are NaN")
        if any(score.errors.r2 is None for score in self.modules.values()):
            lines.append("R2 is undefined where all targets of a module are equal")
        lines.append(f"kept: {kept.nodes:.1%} of the nodes, {kept.recurrent_weights:.1%} of the recurrent weights")
        return "\n".join(lines)


_INTERVALS = {
    "rmse": "RMSE", "mae": "MAE", "r2": "R2",
    "rmse_difference": "difference of RMSE to the network", "mae_difference": "of MAE",
}  # fmt: skip


def evaluate_numbers(
    composition: Composition,
    examples: tuple[Any, Any],
    against: Network | None,
    level: float | None = None,
    seed: int = 0,
) -> RegressionEvaluation:
    """Implement :func:`unbraid.evaluate` for modules that predict numbers; arguments are documented there."""
    x, y = examples
    columns = _columns(composition, against)
    found = composition.predict(x)
    names = composition.labels if against is None else against.labels
    truth = read_numbers(y, names, found.shape[:-1])[..., columns]
    parent = None if against is None else against.predict(x)[..., columns]
    modules: dict[Label, NumberScore] = {}
    sums: dict[Label, np.ndarray] = {}
    for k, (label, module) in enumerate(composition.modules_by_label.items()):
        used = np.isfinite(truth[..., k]) & np.isfinite(found[..., k])
        if not used.any():
            raise DataError(f"no target of {quoted(label, 60)!r} is a number, expected at least one that is not NaN.")
        right, ours = truth[..., k][used], found[..., k][used].astype(np.float64)
        theirs = None if parent is None else parent[..., k][used].astype(np.float64)
        modules[label] = NumberScore(
            errors(ours, right),
            None if theirs is None else errors(theirs, right),
            None if theirs is None else relative_error(ours, theirs),
            int(used.sum()),
            int(used.size - used.sum()),
            module.retention(),
        )
        if level is not None:
            sums[label] = number_sums(right, ours, theirs, used)
    found_intervals = None if level is None else number_intervals(sums, level, seed)
    return RegressionEvaluation(modules, found_intervals, Details(structure_of(composition.modules_by_label)))


def errors(found: np.ndarray, right: np.ndarray) -> Errors:
    """Errors of numbers (M,) against targets (M,)."""
    missed = found - right
    squares, spread = float(np.square(missed).sum()), float(np.square(right - right.mean()).sum())
    r2 = None if bool((right == right[0]).all()) or spread == 0 else 1 - squares / spread
    return Errors(math.sqrt(squares / right.size), float(np.abs(missed).mean()), r2)


def relative_error(found: np.ndarray, parent: np.ndarray) -> float | None:
    """RMSE between two arrays of numbers (M,), over the standard deviation of the second; None where that is 0."""
    deviation = float(parent.std())
    return None if deviation == 0 else math.sqrt(float(np.square(found - parent).mean())) / deviation


def _columns(composition: Composition, against: Network | None) -> list[int]:
    """Return the column of each module among the targets: those of ``against``, or of the composition."""
    if against is None:
        return list(range(len(composition.labels)))
    if against.task != "regression" or against.io.many_outputs != composition.many_outputs:
        raise DataError(
            f"against is a network of {against.task} ({against.io}), and the modules predict numbers "
            f"({composition.io}): pass a network of the same outputs."
        )
    places = columns_of(composition, against)
    unknown = [label for label, place in places.items() if place is None]
    if unknown:
        raise DataError(
            f"against has no output {quoted(unknown[0], 60)!r}: evaluate without against=, with one column of targets "
            "for each label of the composition."
        )
    return [place for place in places.values() if place is not None]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
