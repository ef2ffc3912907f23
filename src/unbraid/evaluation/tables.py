"""Tables of an evaluation, for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import singledispatch
from typing import TypeVar

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from unbraid.data.targets import Label
from unbraid.errors import quoted
from unbraid.evaluation.numbers import NumberScore, RegressionEvaluation, figure
from unbraid.evaluation.report import Evaluation, ModuleScore

Score = TypeVar("Score")

LABEL = 60  # most characters of a label
NAMES = 16  # columns of numbers are left out rather than giving the names less than this
BORDER = 3  # characters between two columns
MOST_ROWS = 50  # modules in a table; of more, those with the worst scores are shown
COLUMNS: dict[str, Callable[[ModuleScore], str]] = {
    "precision": lambda score: f"{score.detection.precision:.3f}",
    "recall": lambda score: f"{score.detection.recall:.3f}",
    "F1": lambda score: f"{score.detection.f1:.3f}",
    "FP rate": lambda score: f"{score.detection.false_positive_rate:.3f}",
    "nodes": lambda score: f"{score.retention.nodes:.1%}",
    "cohesion": lambda score: f"{score.cohesion:.3f}",
    "Jaccard": lambda score: "-" if score.jaccard is None else f"{score.jaccard:.3f}",
}
OPTIONAL = ("Jaccard", "cohesion", "nodes", "FP rate")  # left out in this order in a narrow terminal


NUMBER_COLUMNS: dict[str, Callable[[NumberScore], str]] = {
    "RMSE": lambda score: figure(score.errors.rmse, 3),
    "MAE": lambda score: figure(score.errors.mae, 3),
    "R2": lambda score: figure(score.errors.r2, 3),
    "net RMSE": lambda score: figure(None if score.parent is None else score.parent.rmse, 3),
    "net R2": lambda score: figure(None if score.parent is None else score.parent.r2, 3),
    "agreement": lambda score: figure(score.agreement, 3),
    "nodes": lambda score: f"{score.retention.nodes:.1%}",
}
OPTIONAL_NUMBERS = ("nodes", "net R2", "MAE")


@singledispatch
def scores_table(result: Evaluation | RegressionEvaluation, width: int = 80) -> Table:
    """Make a table with the scores of each module alone.

    Args:
        result: the evaluation.
        width: width of the terminal. Columns that do not fit are left out, and long names of modules are wrapped.
            Headers are never cut.
    """
    raise TypeError(f"{type(result).__name__} is no evaluation")


@scores_table.register
def _(result: RegressionEvaluation, width: int = 80) -> Table:
    columns = dict(NUMBER_COLUMNS)
    compared = any(score.parent is not None for score in result.modules.values())
    for name in () if compared else ("net RMSE", "net R2", "agreement"):
        del columns[name]
    caption = "net: the network; agreement: RMSE to its numbers, over their standard deviation" if compared else None
    worst = _worst(result.modules, lambda score: -(score.errors.rmse or 0.0))
    title = "errors of each module" + _part(worst, result.modules, "the largest RMSE")
    return _table(worst, columns, OPTIONAL_NUMBERS, width, title, caption)


@scores_table.register
def _(result: Evaluation, width: int = 80) -> Table:
    columns = dict(COLUMNS)
    if all(score.jaccard is None for score in result.modules.values()):
        del columns["Jaccard"]
    worst = _worst(result.modules, lambda score: score.detection.f1)
    title = f"scores of each module alone on {result.decisions:,} decisions"
    title += _part(worst, result.modules, "the lowest F1")
    return _table(worst, columns, OPTIONAL, width, title, escape(str(result.left_out_why)) or None)


def _worst(modules: Mapping[Label, Score], value: Callable[[Score], float]) -> Mapping[Label, Score]:
    """Return the modules with the smallest values, worst first, if there are many; otherwise all in their order."""
    if len(modules) <= MOST_ROWS:
        return modules
    return dict(sorted(modules.items(), key=lambda item: value(item[1]))[:MOST_ROWS])


def _part(shown: Mapping[Label, Score], modules: Mapping[Label, Score], which: str) -> str:
    """Describe which modules a table shows, if it does not show all."""
    return f": {len(shown)} of {len(modules):,} modules, with {which}" if len(shown) < len(modules) else ""


def _table(
    modules: Mapping[Label, Score],
    columns: Mapping[str, Callable[[Score], str]],
    optional: Sequence[str],
    width: int,
    title: str,
    caption: str | None,
) -> Table:
    cells = {name: [name, *(show(score) for score in modules.values())] for name, show in columns.items()}
    names = [quoted(label, LABEL) for label in modules]
    longest = max(map(cell_len, ["module", *names]))
    for name in optional:
        if _room(cells, width) < min(longest, NAMES):
            cells.pop(name, None)
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("module", overflow="fold")
    for column in cells:
        table.add_column(column, justify="right", no_wrap=True)
    for name, *numbers in zip(names, *(column[1:] for column in cells.values()), strict=True):
        table.add_row(Text(name), *numbers)
    return table


def _room(cells: dict[str, list[str]], width: int) -> int:
    """Return the number of characters that are left for the names."""
    return width - BORDER - 1 - sum(BORDER + max(map(len, column)) for column in cells.values())
