"""Columns of the tables of an evaluation: name -> text of the score of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Columns = dict[str, Callable[[Any], str]]


def figure(value: float | None, digits: int = 4) -> str:
    """Format a score with a number of significant digits; "-" for none."""
    return "-" if value is None else f"{value:.{digits}g}"


COLUMNS: Columns = {  # of a ModuleScore
    "precision": lambda score: f"{score.detection.precision:.3f}",
    "recall": lambda score: f"{score.detection.recall:.3f}",
    "F1": lambda score: f"{score.detection.f1:.3f}",
    "FP rate": lambda score: f"{score.detection.false_positive_rate:.3f}",
    "nodes": lambda score: f"{score.retention.nodes:.1%}",
    "cohesion": lambda score: f"{score.cohesion:.3f}",
    "Jaccard": lambda score: "-" if score.jaccard is None else f"{score.jaccard:.3f}",
}
NUMBER_COLUMNS: Columns = {  # of a NumberScore
    "RMSE": lambda score: figure(score.errors.rmse, 3),
    "MAE": lambda score: figure(score.errors.mae, 3),
    "R2": lambda score: figure(score.errors.r2, 3),
    "net RMSE": lambda score: figure(None if score.parent is None else score.parent.rmse, 3),
    "net R2": lambda score: figure(None if score.parent is None else score.parent.r2, 3),
    "agreement": lambda score: figure(score.agreement, 3),
    "nodes": lambda score: f"{score.retention.nodes:.1%}",
}
COMPARED = ("net RMSE", "net R2", "agreement")


def columns_of_scores(scores: Iterable[Any]) -> Columns:
    """Return the columns that have a value for some ModuleScore."""
    empty = all(score.jaccard is None for score in scores)
    return {name: show for name, show in COLUMNS.items() if not (empty and name == "Jaccard")}


def columns_of_numbers(scores: Iterable[Any]) -> Columns:
    """Return the columns that have a value for some NumberScore."""
    compared = any(score.parent is not None for score in scores)
    return {name: show for name, show in NUMBER_COLUMNS.items() if compared or name not in COMPARED}
