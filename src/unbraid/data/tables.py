"""Read columns of data files: ``.csv`` and ``.jsonl``, also compressed as ``.gz``, and ``.parquet``.

Only the wanted columns are kept, and nothing in a file is executed.
"""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

from unbraid import limits
from unbraid.data.columns import Column, Row, Values, pick_columns
from unbraid.data.parquet import read_parquet
from unbraid.errors import DataError, FormatError, quoted

KINDS = (".csv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz")  # suffixes of the names of files with columns


def kind_of(path: Path) -> str | None:
    """Return the suffix of a file with columns; None for another file."""
    return next((kind for kind in KINDS if path.name.endswith(kind)), None)


def read_columns(path: Path, wanted: Sequence[Column]) -> list[Values | None]:
    """Return the wanted columns; None for a missing column that is not needed.

    Args:
        path: a file of one of :data:`KINDS`, text in UTF-8.
        wanted: the columns.

    Raises:
        DataError: the file is missing, damaged, above a limit, or lacks a column. The message lists its columns.
    """
    where, kind = quoted(path), kind_of(path)
    try:
        with limits.open_regular(path, error=DataError) as raw:
            if kind == ".parquet":
                return read_parquet(raw, os.fstat(raw.fileno()).st_size, wanted, where)
            plain = limits.expanded(raw, where, DataError) if str(kind).endswith(".gz") else raw
            is_csv = str(kind).startswith(".csv")
            text = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="" if is_csv else None)
            header, rows = (_csv_rows if is_csv else _json_rows)(text, where)
            return pick_columns(rows, header, wanted, where)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is not UTF-8 text ({error.reason}): save it as UTF-8.") from None
    except (csv.Error, EOFError, zlib.error) as error:
        raise DataError(f"{where}: not a readable {kind} file ({quoted(error)}).") from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror or quoted(error)}).") from None


def _csv_rows(text: IO[str], where: str) -> tuple[list[str], Iterator[Row]]:
    """Return the header, and an iterator over the rows."""
    reader = csv.reader(text)
    header = next((fields for fields in reader if fields), [])
    _check_width(len(header), where)

    def rows() -> Iterator[Row]:
        for fields in reader:
            if fields and len(fields) != len(header):
                raise DataError(
                    f"{where}, line {reader.line_num}: {len(fields)} fields, but the header has {len(header)}: put a "
                    "text that contains a comma in double quotes."
                )
            if fields:
                yield dict(zip(header, fields, strict=True))

    return header, rows()


def _json_rows(text: IO[str], where: str) -> tuple[list[str], Iterator[Row]]:
    """Return the names of the first row, and an iterator over all rows."""
    rows = _objects(text, where)
    first = next(rows, {})
    return list(first), chain([first] if first else [], rows)


def _objects(text: IO[str], where: str) -> Iterator[Row]:
    longest = limits.current().json_bytes
    number = 0
    while line := text.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise DataError(f"{where}, line {number}: longer than the limit of {longest} characters.")
        if line.strip():
            row = _object(line, f"{where}, line {number}")
            _check_width(len(row), where)
            yield row


def _object(line: str, where: str) -> Row:
    try:
        value = limits.parse_json(line, where)
    except FormatError as error:
        raise DataError(str(error)) from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {quoted(repr(line.strip()), 40)}.")
    return value


def _check_width(columns: int, where: str) -> None:
    try:
        limits.check_size(columns, "columns", where, "number of columns")
    except FormatError as error:
        raise DataError(str(error)) from None
