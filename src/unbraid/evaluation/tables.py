"""Tables of an evaluation, for the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from unbraid.errors import quoted
from unbraid.evaluation.report import Evaluation

LABEL = 60  # most characters of a label


def scores_table(result: Evaluation) -> Table:
    """Make a table with the scores of each module alone."""
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
