"""Read examples of objects with named columns: pandas, polars and pyarrow tables, and Hugging Face ``datasets``.

None of these packages is imported: objects are recognised by their methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unbraid.data.columns import Column, Values, find_names, not_empty, plain_cell, with_class_names
from unbraid.errors import DataError, quoted


def is_table(value: Any) -> bool:
    """Return whether an object has named columns, like a DataFrame or a Dataset."""
    if isinstance(value, list | tuple | str | bytes | type) or not hasattr(value, "__getitem__"):
        return False
    return hasattr(value, "column_names") or (hasattr(value, "columns") and hasattr(value, "shape"))


def table_columns(table: Any, wanted: Sequence[Column]) -> list[Values | None]:
    """Return the values of the wanted columns; None for a missing column that is not needed.

    Args:
        table: an object with named columns.
        wanted: the columns.

    Raises:
        DataError: a table of several splits or without known columns, or a needed column is missing.
    """
    where = type(table).__name__
    header = _header(table, where)
    names = find_names(header, wanted, where, in_python=True)
    found = [None if name is None else _column(table, name, where) for name in names]
    return not_empty(found, where)


def _header(table: Any, where: str) -> list[str]:
    names = getattr(table, "column_names", None)
    names = getattr(table, "columns", None) if names is None else names
    if isinstance(names, Mapping):
        raise DataError(f"{where} has several splits, {quoted(list(names))}: pass one, as data[{next(iter(names))!r}].")
    if names is None or not hasattr(table, "__len__"):
        raise DataError(f"{where} is a stream of examples: pass (x, y) as lists, or a data set that is not streamed.")
    return [name if isinstance(name, str) else repr(name) for name in names]


def _column(table: Any, name: str, where: str) -> Values:
    column = table[name]
    as_list = next((getattr(column, m) for m in ("to_pylist", "to_list", "tolist") if hasattr(column, m)), None)
    values = [plain_cell(value) for value in (list(column) if as_list is None else as_list())]
    return with_class_names(values, _class_names(getattr(table, "features", None), name), where)


def _class_names(features: Any, name: str) -> list[str] | None:
    """Return the names of the classes of a column of a Hugging Face Dataset: labels, or lists of labels."""
    feature = features.get(name) if isinstance(features, Mapping) else None
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return list(names) if isinstance(names, list | tuple) else None
