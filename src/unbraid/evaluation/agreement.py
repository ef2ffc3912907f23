"""Compare two classifiers or two regressions on the same examples.

Shapes: N examples, T timesteps, M decisions, K labels that both have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unbraid.data.numbers import read_numbers
from unbraid.data.targets import Label, Targets, read_targets
from unbraid.errors import DataError
from unbraid.evaluation.bootstrap import Range, draws, ends, per_example
from unbraid.evaluation.sides import Side, columns_of_labels

Counted = tuple[np.ndarray, np.ndarray]  # values of the decisions (M, S), and the example of each (M,), ascending


@dataclass(frozen=True)
class Agreement:
    """How two models agree on examples, and which is better.

    Both decide between the labels that both have, or whether a decision is the only label that both have. Examples of
    other labels are left out.

    Attributes:
        decisions: number of decisions M, or of rows of numbers.
        left_out: number of decisions that were not compared: of labels that only one has or none, or at padding.
        agreement: share of equal decisions. For regressions: RMSE between both, over the standard deviation of the
            first.
        scores: name -> score of the first and of the second: ``accuracy``, or ``RMSE``. Empty without labels.
        difference: name -> score of the second minus that of the first.
        intervals: ``agreement`` and the names of the scores -> interval of it, or of the difference, by bootstrap over
            examples. Empty if it was not asked for.
        only_right: numbers of decisions that only the first and only the second has right; None without labels or
            for regressions.
        by_label: label -> number of decisions with this true label, and accuracy of the first and of the second on
            them; empty without labels, for independent labels and for regressions.
        level: level of the intervals; None without.
    """

    decisions: int
    left_out: int
    agreement: float
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    difference: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Range] = field(default_factory=dict)
    only_right: tuple[int, int] | None = None
    by_label: dict[Label, tuple[int, float, float]] = field(default_factory=dict)
    level: float | None = None


def why_not(first: Side, second: Side, shared: list[Label]) -> str | None:
    """Return the reason why two sides cannot be compared on data; None if they can."""
    if first.model is None or second.model is None:
        return "a network translates, and translations have no labels"
    if (first.task == "regression") != (second.task == "regression"):
        return f"their tasks differ ({first.task} and {second.task})"
    if (first.task == "labels") != (second.task == "labels"):
        return f"only one of them has independent labels ({first.task} and {second.task})"
    if first.many_outputs != second.many_outputs:
        return "only one of them decides at each timestep"
    return None if shared else "they have no label in common"


def agreement(
    first: Side, second: Side, shared: list[Label], examples: tuple[Any, Any], level: float | None, seed: int
) -> Agreement:
    """Compare two sides on examples.

    Args:
        first: a side that runs.
        second: a side of the same task.
        shared: the K labels that both have, at least one.
        examples: (x, y); y may be None.
        level: level of the intervals; None for none.
        seed: seed of the intervals.

    Raises:
        DataError: inputs or labels that do not fit, or no example of a shared label.
    """
    x, y = examples
    sides = (first, second)
    scores = [side.scores(x) for side in sides]
    if scores[0].shape[:-1] != scores[1].shape[:-1]:
        raise DataError(
            f"the two decide at {scores[0].shape[1]} and {scores[1].shape[1]} timesteps: pass inputs that both read at "
            "the same timesteps."
        )
    columns = [[side.labels.index(label) for label in shared] for side in sides]
    if first.task == "regression":
        numbers = [found[..., own] for found, own in zip(scores, columns, strict=True)]
        truth = None
        if y is not None:
            names = columns_of_labels(first, second)
            places = [names.index(label) for label in shared]
            truth = read_numbers(y, names, scores[0].shape[:-1])[..., places]
        return _of_numbers((numbers[0], numbers[1]), truth, (level, seed))
    targets = None if y is None else _targets(first, second, first.align(y, x), scores[0].shape[:-1])
    if first.task == "labels" or len(shared) > 1:
        decided = [side.decide(found, own) for side, found, own in zip(sides, scores, columns, strict=True)]
        truth = None if targets is None else _shared_truth(targets, shared)
    else:
        decided = [s.claims(found, own[0]).astype(int) for s, found, own in zip(sides, scores, columns, strict=True)]
        truth = None if targets is None else _yes_no(targets, shared[0])
    undecided = [np.isnan(found[..., own]).any(-1) for found, own in zip(scores, columns, strict=True)]
    used = ~undecided[0] & ~undecided[1]
    if truth is not None:
        used &= truth.min(-1) >= 0 if first.task == "labels" else truth >= 0
    if not used.any():
        raise DataError("no example has a label that both have: give examples of the labels that are compared.")
    chosen = None if truth is None else truth[used]
    names = shared if first.task != "labels" and len(shared) > 1 else []
    return _of_decisions((decided[0][used], decided[1][used]), chosen, names, used, (level, seed))


def _of_decisions(
    decided: tuple[np.ndarray, np.ndarray],
    truth: np.ndarray | None,
    names: list[Label],
    used: np.ndarray,
    draw: tuple[float | None, int],
) -> Agreement:
    """Compare decisions (M,), or (M, K) of independent labels, with each other and with the truth."""
    same = _equal(*decided)
    values = [np.ones_like(same), same]
    more: dict[str, Any] = {}
    if truth is not None:
        right = [_equal(each, truth) for each in decided]
        values += right
        accuracy = (float(right[0].mean()), float(right[1].mean()))
        more = {
            "scores": {"accuracy": accuracy},
            "difference": {"accuracy": accuracy[1] - accuracy[0]},
            "only_right": (int((right[0] > right[1]).sum()), int((right[1] > right[0]).sum())),
            "by_label": {
                label: (int(here.sum()), float(right[0][here].mean()), float(right[1][here].mean()))
                for place, label in enumerate(names)
                if (here := truth == place).any()
            },
        }
    level, seed = draw
    if level is not None:
        sums = draws(per_example(np.stack(values, -1), np.nonzero(used)[0]), seed)
        shares = sums[:, 1:] / sums[:, :1]
        drawn = {"agreement": shares[:, 0]}
        if truth is not None:
            drawn["accuracy"] = shares[:, 2] - shares[:, 1]
        more |= {"intervals": ends(level, drawn), "level": level}
    return Agreement(int(used.sum()), int(used.size - used.sum()), float(same.mean()), **more)


def _of_numbers(
    numbers: tuple[np.ndarray, np.ndarray], truth: np.ndarray | None, draw: tuple[float | None, int]
) -> Agreement:
    """Compare numbers (..., K) with each other and with the targets, (..., K)."""
    used = np.isfinite(numbers[0]).all(-1) & np.isfinite(numbers[1]).all(-1)
    if truth is not None:
        used &= np.isfinite(truth).all(-1)
    if not used.any():
        raise DataError("no row of numbers is complete, expected at least one without NaN.")
    ours, theirs = (each[used].astype(np.float64) for each in numbers)
    level_of = ours - ours.mean(0)  # the variance is then computed without cancellation
    columns_of = [np.ones(len(ours)), np.square(theirs - ours).mean(-1), *level_of.T, *np.square(level_of).T]
    if truth is not None:
        columns_of += [np.square(each - truth[used]).mean(-1) for each in (ours, theirs)]
    values = np.stack(columns_of, -1)
    whole = _number_scores(values.sum(0)[None], ours.shape[-1], truth is not None)
    more: dict[str, Any] = {}
    if truth is not None:
        pair = (float(whole["first"][0]), float(whole["second"][0]))
        more = {"scores": {"RMSE": pair}, "difference": {"RMSE": pair[1] - pair[0]}}
    level, seed = draw
    if level is not None:
        sums = draws(per_example(values, np.nonzero(used)[0]), seed)
        drawn = _number_scores(sums, ours.shape[-1], truth is not None)
        wanted = {"agreement": drawn["agreement"]}
        if truth is not None:
            wanted["RMSE"] = drawn["second"] - drawn["first"]
        more |= {"intervals": ends(level, wanted), "level": level}
    return Agreement(int(used.sum()), int(used.size - used.sum()), float(whole["agreement"][0]), **more)


def _number_scores(sums: np.ndarray, columns: int, with_truth: bool) -> dict[str, np.ndarray]:
    """Compute the scores of draws from their sums (B, S); NaN where all numbers of the first are equal."""
    count, apart = sums[:, 0], sums[:, 1] / sums[:, 0]
    means, squares = (sums[:, 2 + start : 2 + start + columns] / count[:, None] for start in (0, columns))
    variance = (squares - np.square(means)).mean(-1)
    found = {"agreement": np.sqrt(apart / np.where(variance <= 0, np.nan, variance))}
    if with_truth:
        first, second = np.sqrt(sums[:, -2:].T / count)
        found |= {"first": first, "second": second}
    return found


def _targets(first: Side, second: Side, y: Any, shape: tuple[int, ...]) -> Targets:
    """Read labels: names of either side or of others, or numbers, see :func:`columns_of_labels`."""
    names = columns_of_labels(first, second)
    if first.task != "labels":
        known = {str(name) for name in names} | {"", "-1"}
        values = np.asarray(y)
        others = np.unique(values).astype(str).tolist() if values.dtype.kind in "USO" else []
        more = {str(label): label for label in [*first.labels, *second.labels, *others]}
        names += [label for text, label in more.items() if text not in known]
    many = first.many_outputs
    found = read_targets(y, names, many=many, independent=first.task == "labels", examples=shape[0])
    if many and found.y.shape[1] != shape[1]:
        raise DataError(f"labels have {found.y.shape[1]} timesteps, the decisions {shape[1]}: give one for each.")
    return found


def _shared_truth(targets: Targets, shared: list[Label]) -> np.ndarray:
    """Return the place of each true label among the shared ones, -1 for others; of independent labels its columns."""
    places = [targets.labels.index(label) for label in shared]
    if targets.independent:
        return targets.y[..., places]
    table = np.full(len(targets.labels) + 1, -1)  # the last one is for -1, no label
    table[places] = np.arange(len(places))
    return np.asarray(table[targets.y])


def _yes_no(targets: Targets, label: Label) -> np.ndarray:
    """Return 1 for the label, 0 for others, and -1 for a missing label."""
    return np.where(targets.counted(), targets.members(targets.labels.index(label)).astype(int), -1)


def _equal(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return 1.0 where decisions (M,) are equal, or the share of equal ones of (M, K)."""
    same = (ours == theirs).astype(np.float64)
    return same if same.ndim == 1 else np.asarray(same.mean(-1))
