"""The main scores of an evaluation, as terms and values with intervals."""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

from unbraid.evaluation.columns import Columns, columns_of_numbers, columns_of_scores, figure
from unbraid.evaluation.numbers import RegressionEvaluation
from unbraid.evaluation.report import Evaluation
from unbraid.report.sections import Result


class Fact(NamedTuple):
    """A term, its value, and its interval where there is one."""

    term: str
    value: str
    interval: str = ""


@singledispatch
def facts(result: Result) -> list[Fact]:
    """Return the main scores of an evaluation."""
    raise TypeError(f"{type(result).__name__} is no evaluation")


@facts.register
def _(result: Evaluation) -> list[Fact]:
    found = [Fact("accuracy", f"{result.accuracy:.4f}", _ends(result, "accuracy"))]
    if result.restricted_accuracy is not None and result.restricted_delta is not None:
        few = (result.network_classes or 0) > len(result.modules)
        name = "the network, restricted to these classes" if few else "the network"
        ends = _ends(result, "restricted_delta", 100, "+.2f")
        found += [
            Fact(name, f"{result.restricted_accuracy:.4f}", _ends(result, "restricted_accuracy")),
            Fact("difference", f"{100 * result.restricted_delta:+.2f} points", ends),
        ]
        if few and result.monolithic_accuracy is not None:
            ends = _ends(result, "monolithic_accuracy")
            found.append(Fact("the network, with all its classes", f"{result.monolithic_accuracy:.4f}", ends))
    return [
        *found,
        Fact("F1 of a module alone, mean", f"{result.detection.f1:.3f}", _ends(result, "f1", digits=".3f")),
        Fact("calibration error", f"{result.calibration_error:.4f}"),
        Fact("overlap of units, mean Jaccard index", f"{result.coupling:.3f}"),
        Fact("decisions", f"{result.decisions:,}"),
    ]


@facts.register
def _(result: RegressionEvaluation) -> list[Fact]:
    mean, names, found = result.mean, {"rmse": "RMSE", "mae": "MAE", "r2": "R2"}, []
    for prefix, whose in (("", ""), ("parent_", " of the network")):
        for name, word in names.items():
            if (value := mean[prefix + name]) is not None:
                found.append(Fact(f"{word}{whose}, mean", figure(value), _ends(result, prefix + name, digits=".4g")))
    if mean["agreement"] is not None:
        found.append(Fact("RMSE to the network, in its standard deviations", figure(mean["agreement"])))
    return found


@singledispatch
def notes(result: Result) -> list[str]:
    """Return remarks on the scores: what was left out, and what could not be compared."""
    raise TypeError(f"{type(result).__name__} is no evaluation")


@notes.register
def _(result: Evaluation) -> list[str]:
    found = [str(result.left_out_why)]
    if result.not_compared is not None:
        found.append(f"no comparison with the network: {result.not_compared}")
    if result.emissions:
        found.append("decisions are the argmax of emission scores, without the transitions of the CRF")
    return [f"{note[:1].upper()}{note[1:]}." for note in found if note]


@notes.register
def _(result: RegressionEvaluation) -> list[str]:
    missing = sum(score.missing for score in result.modules.values())
    return [f"Left out: {missing:,} targets or predictions that are NaN."] if missing else []


@singledispatch
def score_columns(result: Result) -> Columns:
    """Return the columns of the table of modules."""
    raise TypeError(f"{type(result).__name__} is no evaluation")


@score_columns.register
def _(result: Evaluation) -> Columns:
    return columns_of_scores(result.modules.values())


@score_columns.register
def _(result: RegressionEvaluation) -> Columns:
    return columns_of_numbers(result.modules.values())


def _ends(result: Result, name: str, scale: float = 1.0, digits: str = ".4f") -> str:
    """Format the interval of a score; empty if there is none."""
    if result.intervals is None or name not in result.intervals.scores:
        return ""
    low, high = result.intervals.scores[name]
    return f"{100 * result.intervals.level:.4g} % interval {scale * low:{digits}} to {scale * high:{digits}}"
