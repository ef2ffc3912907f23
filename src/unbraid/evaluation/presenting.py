"""An evaluation as an HTML table for notebooks, and as a data frame."""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from unbraid.data.targets import Label
from unbraid.errors import UnbraidError
from unbraid.evaluation.bootstrap import Intervals
from unbraid.evaluation.columns import Columns
from unbraid.modules.describing import ROWS, html_table


class Presented(ABC):
    """The results of an evaluation as a data frame, a report and a table for notebooks.

    Attributes:
        modules: label -> scores of the module.
        intervals: intervals of the scores, or None.
    """

    modules: Mapping[Label, Any]
    intervals: Intervals | None

    def to_frame(self) -> Any:
        """Return the scores of the modules as a pandas DataFrame: a row for each module, a column for each score.

        With intervals, each score that has one also has columns with its ends, as ``f1_low`` and ``f1_high``.

        Raises:
            UnbraidError: pandas is not installed.
        """
        return scores_frame(self.modules, self.intervals)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a report, one HTML file that needs no other file and no network. Needs the extra ``report``.

        Args:
            path: path of the file; an existing file is replaced.

        Raises:
            UnbraidError: jinja2 or matplotlib is not installed, the file cannot be written, or this object was not made
                by :func:`unbraid.evaluate`.
        """
        from unbraid.report.write import report_of

        report_of(path, self)  # type: ignore[arg-type]  # both results of evaluate() inherit from this class

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return scores_html(str(self), self.modules, self._columns())

    @abstractmethod
    def _columns(self) -> Columns:
        """Return the columns of the table; each kind of result has its own."""


def scores_html(title: str, modules: Mapping[Label, Any], columns: Columns) -> str:
    """Make an HTML table of the scores of the first modules.

    Args:
        title: caption of the table, may have several lines.
        modules: label -> scores of the module.
        columns: columns of the table.
    """
    rows = [[label, *(show(score) for show in columns.values())] for label, score in list(modules.items())[:ROWS]]
    return html_table(title, ["module", *columns], rows, len(modules) - len(rows))


def scores_frame(modules: Mapping[Label, Any], intervals: Intervals | None) -> Any:
    """Make a data frame with a row for each module and a column for each score.

    Scores of the parent have the prefix ``parent_``. Ends of intervals have the suffixes ``_low`` and ``_high``.

    Raises:
        UnbraidError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UnbraidError("to_frame() needs pandas: pip install pandas.") from None
    rows = []
    for label, score in modules.items():
        ends = {} if intervals is None else intervals.modules.get(label, {})
        low_high = {f"{n}_{end}": v for n, pair in ends.items() for end, v in zip(("low", "high"), pair, strict=True)}
        rows.append({**_flat(dataclasses.asdict(score)), **low_high})
    return pandas.DataFrame(rows, index=pandas.Index(list(modules), dtype=object, name="module"))


def _flat(scores: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in scores.items():
        prefix = f"{name}_" if name == "parent" else ""
        found |= {f"{prefix}{n}": v for n, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return found
