"""Columns of ``.csv`` and ``.jsonl`` files. Only the wanted columns are kept, and nothing in a file is executed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from unbraid import limits
from unbraid.errors import DataError, FormatError, quoted

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column that is wanted of a table.

    Attributes:
        names: its possible names; the first that the table has is read.
        option: the command-line option that gives another name, for messages.
        needed: whether a table without it is refused.
    """

    names: tuple[str, ...]
    option: str
    needed: bool


def read_columns(path: Path, wanted: Sequence[Column]) -> list[list[Any] | None]:
    """Values of the wanted columns, N each; None for a column that is not there and not needed.

    Args:
        path: a ``.csv`` or ``.jsonl`` file in UTF-8.
        wanted: the columns.

    Raises:
        DataError: the file is missing, damaged, above a limit, or lacks a column; the message says what it has.
    """
    where = quoted(path)
    try:
        with limits.open_regular(path, error=DataError) as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="" if path.suffix == ".csv" else None)
            header, rows = (_csv_rows if path.suffix == ".csv" else _json_rows)(text, where)
            return _picked(rows, header, wanted, where)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is not UTF-8 text ({error.reason}): save it as UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"{where}: not a readable {path.suffix} file ({quoted(error)}).") from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror}).") from None


def _picked(rows: Iterator[Row], header: list[str], wanted: Sequence[Column], where: str) -> list[list[Any] | None]:
    if not header:
        raise DataError(f"{where}: holds no examples.")
    names = [_name(header, column, where) for column in wanted]
    found: list[list[Any] | None] = [None if name is None else [] for name in names]
    for number, row in enumerate(rows):
        for name, values in zip(names, found, strict=True):
            if name is None or values is None:
                continue
            if name not in row:
                raise DataError(f"{where}: example {number} has no {name!r}; the first has {quoted(header)}.")
            values.append(row[name])
    if all(not values for values in found):
        raise DataError(f"{where}: holds no examples.")
    return found


def _name(header: list[str], column: Column, where: str) -> str | None:
    for name in column.names:
        if header.count(name) > 1:
            raise DataError(f"{where}: has {header.count(name)} columns {name!r}, expected one.")
        if name in header:
            return name
    if column.needed:
        expected = " or ".join(column.names)
        raise DataError(
            f"{where}: no column {quoted(expected, 60)}; it has {quoted(header)}. Name one with {column.option}."
        )
    return None


def _csv_rows(text: IO[str], where: str) -> tuple[list[str], Iterator[Row]]:
    """The header, and an iterator over the rows."""
    reader = csv.reader(text)
    header = next((fields for fields in reader if fields), [])
    _check_width(len(header), where)

    def rows() -> Iterator[Row]:
        for fields in reader:
            if fields and len(fields) != len(header):
                raise DataError(
                    f"{where}, line {reader.line_num}: {len(fields)} fields where the header has {len(header)}: put a "
                    "text that contains a comma in double quotes."
                )
            if fields:
                yield dict(zip(header, fields, strict=True))

    return header, rows()


def _json_rows(text: IO[str], where: str) -> tuple[list[str], Iterator[Row]]:
    """The names of the first row, and an iterator over all rows."""
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
