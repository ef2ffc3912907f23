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
from unbraid.evaluation.columns import COLUMNS as COLUMNS
from unbraid.evaluation.columns import columns_of_numbers, columns_of_scores
from unbraid.evaluation.numbers import RegressionEvaluation
from unbraid.evaluation.report import Evaluation

Score = TypeVar("Score")

LABEL = 60  # most characters of a label
NAMES = 16  # columns of numbers are left out rather than giving the names less than this
BORDER = 3  # characters between two columns
MOST_ROWS = 50  # modules in a table; of more, those with the worst scores are shown
OPTIONAL = ("Jaccard", "cohesion", "nodes", "FP rate")  # left out in this order in a narrow terminal
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
    columns = columns_of_numbers(result.modules.values())
    what = "net: the network; agreement: RMSE to its numbers, over their standard deviation"
    caption = what if "agreement" in columns else None
    worst = _worst(result.modules, lambda score: -(score.errors.rmse or 0.0))
    title = "errors of each module" + _part(worst, result.modules, "the largest RMSE")
    return _table(worst, columns, OPTIONAL_NUMBERS, width, title, caption)


@scores_table.register
def _(result: Evaluation, width: int = 80) -> Table:
    columns = columns_of_scores(result.modules.values())
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
