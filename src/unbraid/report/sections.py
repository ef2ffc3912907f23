"""What a report shows: one section for each folder or evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

from unbraid.evaluation.details import Structure
from unbraid.evaluation.numbers import RegressionEvaluation
from unbraid.evaluation.report import Evaluation

Result = Evaluation | RegressionEvaluation


@dataclass(frozen=True)
class Section:
    """Modules of one folder, and their scores.

    Attributes:
        name: heading, usually the path of the folder.
        structure: the modules and their parents.
        result: their evaluation; None without data.
        saved: facts about the folder, name -> text.
    """

    name: str
    structure: Structure
    result: Result | None = None
    saved: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Quality:
    """The main score of an evaluation, for the figure of sizes.

    Attributes:
        name: the name of the score.
        value: the score of the modules; higher is better.
        interval: its interval; None if there is none.
        parent: the score of the network; None if there is none.
        modules: the score of each module.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    parent: float | None
    modules: list[float]


@singledispatch
def quality(result: Result) -> Quality | None:
    """Return the main score of an evaluation; None if it is undefined."""
    raise TypeError(f"{type(result).__name__} is no evaluation")


@quality.register
def _(result: Evaluation) -> Quality:
    scores = {} if result.intervals is None else result.intervals.scores
    alone = [score.detection.f1 for score in result.modules.values()]
    return Quality("accuracy", result.accuracy, scores.get("accuracy"), result.restricted_accuracy, alone)


@quality.register
def _(result: RegressionEvaluation) -> Quality | None:
    mean = result.mean
    alone = [score.errors.r2 for score in result.modules.values()]
    known = [value for value in alone if value is not None]
    if mean["r2"] is None or len(known) < len(alone):
        return None
    scores = {} if result.intervals is None else result.intervals.scores
    return Quality("mean R2", mean["r2"], scores.get("r2"), mean["parent_r2"], known)
