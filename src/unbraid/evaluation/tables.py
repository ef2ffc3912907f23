"""Tables of an evaluation, for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from unbraid.errors import quoted
from unbraid.evaluation.numbers import Errors, RegressionEvaluation, figure
from unbraid.evaluation.report import Evaluation, ModuleScore

LABEL = 60  # most characters of a label
NAMES = 16  # columns of numbers are left out rather than giving the names less than this
BORDER = 3  # characters between two columns
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
    table = Table(
        title="errors of each module",
        title_justify="left",
        caption="agreement: RMSE to the numbers of the network, over their standard deviation",
        caption_justify="left",
    )
    table.add_column("module", overflow="fold")
    for column in ("RMSE", "MAE", "R2", "network: RMSE", "MAE", "R2", "agreement", "nodes"):
        table.add_column(column, justify="right")
    for label, score in result.modules.items():
        numbers = [figure(value) for one in (score.errors, score.parent) for value in _errors(one)]
        table.add_row(Text(quoted(label, LABEL)), *numbers, figure(score.agreement), f"{score.retention.nodes:.1%}")
    return table


def _errors(errors: Errors | None) -> list[float | None]:
    return [None] * 3 if errors is None else [errors.rmse, errors.mae, errors.r2]


@scores_table.register
def _(result: Evaluation, width: int = 80) -> Table:
    cells = {name: [name, *(show(score) for score in result.modules.values())] for name, show in COLUMNS.items()}
    if all(score.jaccard is None for score in result.modules.values()):
        del cells["Jaccard"]
    names = [quoted(label, LABEL) for label in result.modules]
    longest = max(map(cell_len, ["module", *names]))
    for name in OPTIONAL:
        if _room(cells, width) < min(longest, NAMES):
            cells.pop(name, None)
    table = Table(
        title=f"scores of each module alone on {result.decisions:,} decisions",
        title_justify="left",
        caption=escape(str(result.left_out_why)) or None,
        caption_justify="left",
    )
    table.add_column("module", overflow="fold")
    for column in cells:
        table.add_column(column, justify="right", no_wrap=True)
    for name, *numbers in zip(names, *(column[1:] for column in cells.values()), strict=True):
        table.add_row(Text(name), *numbers)
    return table


def _room(cells: dict[str, list[str]], width: int) -> int:
    """Return the number of characters that are left for the names."""
    return width - BORDER - 1 - sum(BORDER + max(map(len, column)) for column in cells.values())
