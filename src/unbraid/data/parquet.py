"""Columns of ``.parquet`` files, read with the optional package pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from unbraid import limits
from unbraid.data.columns import Column, Values, find_names, not_empty, plain_cell, with_class_names
from unbraid.errors import DataError, FormatError, UnbraidError, quoted

ROWS = 1_000  # rows that are decoded at a time


def read_parquet(file: BinaryIO, size: int, wanted: Sequence[Column], where: str) -> list[Values | None]:
    """Read the wanted columns.

    Args:
        file: the open file.
        size: size of the file in bytes.
        wanted: the columns.
        where: the file, for messages.

    Raises:
        DataError: pyarrow is not installed, or the file is damaged, expands above the limits or lacks a column.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(f"{where}: a .parquet file needs the package pyarrow: pip install pyarrow.") from None
    try:
        opened = parquet.ParquetFile(file)
        schema = opened.schema_arrow
        limits.check_size(len(schema.names), "columns", where, "number of columns", DataError)
        names = find_names(schema.names, wanted, where)
        cells: dict[str, list[Any]] = {name: [] for name in names if name is not None}
        decoded = 0
        for batch in opened.iter_batches(ROWS, columns=list(cells)):
            decoded += batch.nbytes
            limits.check_size(decoded, "file_bytes", where, "decoded size", DataError)
            if limits.expands(decoded, size):
                limits.check_expansion(decoded, size, where)
            for name, values in cells.items():
                values.extend(plain_cell(value) for value in batch.column(name).to_pylist())
    except FormatError as error:
        raise DataError(str(error)) from None
    except (UnbraidError, MemoryError):
        raise
    except Exception as error:  # pyarrow raises errors of many kinds on damaged files
        raise DataError(f"{where}: not a readable .parquet file ({quoted(error, 100)}).") from None
    features = _features(schema.metadata, where)
    found = [None if n is None else with_class_names(cells[n], _class_names(features.get(n)), where) for n in names]
    return not_empty(found, where)


def _features(metadata: Mapping[bytes, bytes] | None, where: str) -> Mapping[str, Any]:
    """Return the features that Hugging Face ``datasets`` stores about the columns; empty if there are none."""
    stored = (metadata or {}).get(b"huggingface")
    try:
        found = {} if stored is None else limits.parse_json(stored, where)["info"]["features"]
    except (FormatError, KeyError, TypeError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _class_names(feature: Any) -> list[str] | None:
    while isinstance(feature, Mapping) and isinstance(feature.get("feature"), Mapping):
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None
    return names if isinstance(names, list) else None
