"""Columns of a table: find the wanted columns by name, and read their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from unbraid.errors import DataError, quoted

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column to read from a table.

    Attributes:
        names: possible names of the column. The first name that the table has is used.
        option: the command-line option that sets another name, for messages.
        needed: whether a table without it is refused.
    """

    names: tuple[str, ...]
    option: str
    needed: bool


@dataclass(frozen=True)
class Values:
    """The values of a column.

    Attributes:
        values: N values, None for a missing value.
        names: names of the classes, if the column holds class labels and the table stores names; else None.
    """

    values: list[Any]
    names: list[str] | None = None


def find_names(
    header: Sequence[str], wanted: Sequence[Column], where: str, in_python: bool = False
) -> list[str | None]:
    """Return the name of each wanted column; None for a missing column that is not needed.

    Args:
        header: names of the columns that the table has.
        wanted: the columns.
        where: the table, for messages.
        in_python: whether the table is a Python object and not a file, for the advice in messages.

    Raises:
        DataError: a needed column is missing, or a name occurs twice.
    """
    if not header:
        raise DataError(f"{where}: holds no examples.")
    return [_find_name(header, column, where, in_python) for column in wanted]


def _find_name(header: Sequence[str], column: Column, where: str, in_python: bool) -> str | None:
    for name in column.names:
        if header.count(name) > 1:
            raise DataError(f"{where}: has {header.count(name)} columns {name!r}, expected one.")
        if name in header:
            return name
    if column.needed:
        expected = quoted(" or ".join(column.names), 60)
        advice = "Pass a pair (table[x], table[y])" if in_python else f"Name one with {column.option}"
        other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
        if other is not None:
            advice = f"Its columns seem to be separated by {other!r}: separate them by commas"
        raise DataError(f"{where}: no column {expected}; it has {quoted(list(header))}. {advice}.")
    return None


def pick_columns(
    rows: Iterator[Row], header: Sequence[str], wanted: Sequence[Column], where: str
) -> list[Values | None]:
    """Return the wanted columns of rows; raise DataError for a row without one of them, or for no rows."""
    names = find_names(header, wanted, where)
    found: list[Values | None] = [None if name is None else Values([]) for name in names]
    for number, row in enumerate(rows):
        for name, column in zip(names, found, strict=True):
            if name is None or column is None:
                continue
            if name not in row:
                raise DataError(f"{where}: example {number} has no {name!r}; the first has {quoted(list(header))}.")
            column.values.append(row[name])
    return not_empty(found, where)


def not_empty(found: list[Values | None], where: str) -> list[Values | None]:
    """Return the columns; raise DataError if all are empty."""
    if all(column is None or not column.values for column in found):
        raise DataError(f"{where}: holds no examples.")
    return found


def with_class_names(values: list[Any], names: Sequence[str] | None, where: str) -> Values:
    """Replace positions in a list of class names by the names, also in nested rows. -1 and None mark a missing label.

    Raises:
        DataError: a position outside the list.
    """
    if names is None:
        return Values(values)
    known = [str(name) for name in names]

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(each) for each in value]
        if isinstance(value, int) and not isinstance(value, bool):
            if not -1 <= value < len(known):
                raise DataError(f"{where}: has label {value} and {len(known)} class names (0 to  {len(known) - 1}).")
            return None if value == -1 else known[value]
        return value

    return Values([named(value) for value in values], known)


def plain_cell(value: Any) -> Any:
    """Return a cell as a plain Python value: arrays as lists, NumPy numbers as numbers, NaN as None."""
    if isinstance(value, np.ndarray | np.generic | Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain_cell(each) for each in value]
    return None if isinstance(value, float) and value != value else value
