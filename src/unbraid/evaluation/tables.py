"""Tables of an evaluation, for the terminal."""

from __future__ import annotations

from functools import singledispatch

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from unbraid.errors import quoted
from unbraid.evaluation.numbers import Errors, RegressionEvaluation, figure
from unbraid.evaluation.report import Evaluation

LABEL = 60  # most characters of a label


@singledispatch
def scores_table(result: Evaluation | RegressionEvaluation) -> Table:
    """Make a table with the scores of each module alone."""
    raise TypeError(f"{type(result).__name__} is no evaluation")


@scores_table.register
def _(result: RegressionEvaluation) -> Table:
    table = Table(
        title="errors of each module",
        title_justify="left",
        caption="agreement: RMSE to the numbers of the network, over their standard deviation",
        caption_justify="left",
    )
    table.add_column("module")
    for column in ("RMSE", "MAE", "R2", "network: RMSE", "MAE", "R2", "agreement", "nodes"):
        table.add_column(column, justify="right")
    for label, score in result.modules.items():
        cells = [figure(value) for one in (score.errors, score.parent) for value in _cells(one)]
        table.add_row(Text(quoted(label, LABEL)), *cells, figure(score.agreement), f"{score.retention.nodes:.1%}")
    return table


def _cells(errors: Errors | None) -> list[float | None]:
    return [None] * 3 if errors is None else [errors.rmse, errors.mae, errors.r2]


@scores_table.register
def _(result: Evaluation) -> Table:
    table = Table(
        title=f"scores of each module alone on {result.decisions:,} decisions",
        title_justify="left",
        caption=escape(str(result.left_out_why)) or None,
        caption_justify="left",
    )
    table.add_column("module")
    for column in ("precision", "recall", "F1", "false positives", "nodes", "cohesion", "Jaccard"):
        table.add_column(column, justify="right")
    for label, score in result.modules.items():
        d = score.detection
        jaccard = "-" if score.jaccard is None else f"{score.jaccard:.3f}"
        numbers = [f"{v:.3f}" for v in (d.precision, d.recall, d.f1, d.false_positive_rate)]
        table.add_row(
            Text(quoted(label, LABEL)), *numbers, f"{score.retention.nodes:.1%}", f"{score.cohesion:.3f}", jaccard
        )
    return table
