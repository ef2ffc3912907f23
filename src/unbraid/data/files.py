"""Read examples from files (``.npz`` arrays, or tables of text) and tables in Python. No content is executed."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unbraid import limits
from unbraid.data.arrays import as_array, check_unicode
from unbraid.data.columns import Column, Values
from unbraid.data.frames import is_table, table_columns
from unbraid.data.npy import read_member
from unbraid.data.tables import KINDS, kind_of, read_columns
from unbraid.data.targets import Label, whole_numbers
from unbraid.errors import DataError, UnbraidError, quoted
from unbraid.paths import user_path

TEXT_COLUMNS, LABEL_COLUMNS = ("x", "text", "sentence", "words"), ("y", "label", "labels", "tags")
PAIR_COLUMNS = {"--x": "source", "--target": "target", "--y": "language"}  # option that sets the name -> default name

_NUMBER = re.compile(r"-?[0-9]{1,9}")  # int() of 5,000 digits raises


@dataclass(frozen=True)
class Examples:
    """Inputs and labels of a data file.

    Attributes:
        x: inputs, an array (N, ...) or N texts (strings, or lists of words); a tuple or dict of arrays for networks
            with several inputs.
        y: labels (N, ...), or None if the file has none. Labels of tables stay strings: an array of N strings, or a
            list of strings for every row.
        labels: names of the classes, or None.
    """

    x: Any
    y: Any
    labels: list[str] | None

    def y_for(self, labels: Sequence[Label], skip_others: bool = False) -> Any:
        """Convert the labels to those of a model.

        Whole numbers are positions in the file's own list of names, if it has one. In tables of text they are names if
        at least one of them is a label of the model. Otherwise they are positions in the classes of the model.

        Args:
            labels: the classes of the model.
            skip_others: whether to treat labels that the model does not have as missing. Otherwise they stay and are
                refused later.

        Raises:
            DataError: a position outside the list of the file, or with ``skip_others`` no label of the model.
        """
        if isinstance(self.y, list):
            flat = self._written([label for row in self.y for label in row], labels, skip_others)
            ends = np.cumsum([0, *map(len, self.y)])
            return [flat[a:b].tolist() for a, b in pairwise(ends)]
        y = as_array(self.y, "labels")
        if y.dtype.kind == "U":
            return self._written(y.ravel().tolist(), labels, skip_others).reshape(y.shape)
        places = whole_numbers(y)
        if places is None:
            return y
        if self.labels is not None and not _one_hot(y, len(self.labels)):
            y = places
            if y.size and not (y.min() >= -1 and y.max() < len(self.labels)):
                raise DataError(
                    f"labels run from {y.min()} to {y.max()}, the file has {len(self.labels)} class names "
                    f"(0 to {len(self.labels) - 1}; -1 marks a missing label)."
                )
            named = np.asarray([*self.labels, ""])[y]
            return self._written(named.ravel().tolist(), labels, skip_others).reshape(y.shape)
        if skip_others and all(isinstance(label, int) for label in labels):
            y = places
            return np.where(_found(np.isin(y, labels), np.unique(y).tolist(), labels), y, -1)
        return y

    @staticmethod
    def _written(values: list[str], labels: Sequence[Label], skip_others: bool) -> np.ndarray:
        """Return written labels (N,) as names; as positions if no label is a name and all are whole numbers."""
        known = [str(label) for label in labels]
        array = np.asarray(values, dtype=str)
        array[(array == "-1") & ("-1" not in known)] = ""
        used = np.isin(array, known)
        kinds = [value for value in np.unique(array).tolist() if value]
        if not used.any() and kinds and all(_NUMBER.fullmatch(value) for value in kinds):
            return np.asarray([int(value or -1) for value in array.tolist()])
        return np.where(_found(used, kinds, labels), array, "") if skip_others else array


@dataclass(frozen=True)
class PairColumns:
    """Sentence pairs of a data file.

    Attributes:
        source: N texts, or word indices (N, S).
        target: N texts, or word indices (N, T) that start with the first token of the language.
        languages: the language of each target, N names.
    """

    source: Any
    target: Any
    languages: list[str]


def read_examples(source: Any, x: str | None = None, y: str | None = None, need_labels: bool = True) -> Examples:
    """Read a data file, or the columns of a table.

    Args:
        source: path of an ``.npz`` file of arrays, or of a ``.csv``, ``.jsonl`` (also ``.gz``) or ``.parquet`` file of
            texts; or a DataFrame (pandas, polars), a pyarrow Table or a Hugging Face Dataset.
        x: name of the inputs, by default ``x``, in text files also ``text``, ``sentence`` or ``words``. Several names
            with commas between them are columns of numbers: the timesteps of one series, in order, (N, T, 1). Of an
            ``.npz`` file where an array has other axes than (N,), they are a tuple of inputs. ``key=name`` makes a
            dict.
        y: name of the labels, by default ``y``, in text files also ``label``, ``labels`` or ``tags``. Several names
            with commas between them are the output columns, (N, C).
        need_labels: whether a file without labels is refused.

    Raises:
        DataError: the file is missing, damaged, of another kind, or lacks a column. The message lists its columns.
    """
    if is_table(source):
        wanted = _columns(x, y, need_labels)
        return _texts(type(source).__name__, table_columns(source, wanted), _several(x), _several(y))
    path = user_path(source)
    several = _several(x), _several(y)
    if _is_table_file(path, "inputs and labels"):
        wanted = _columns(x, y, need_labels)
        return _texts(quoted(path), read_columns(path, wanted), *several)
    x, y = x or "x", y or "y"
    keyed = _keyed(several[0] or [x])
    needed = [
        *(keyed.values() if keyed else several[0] or [x]),
        *((several[1] or [y]) if need_labels or several[1] else []),
    ]
    arrays = _arrays(path, [*needed, y, "labels"])
    missing = next((name for name in needed if name not in arrays), None)
    if missing is not None:
        raise DataError(
            f"{quoted(path)}: no array '{quoted(missing, 60)}'; it holds {_names(path)}. Name it with --x and --y."
        )
    for name, names, make in ((x, None if keyed else several[0], _inputs), (y, several[1], _targets)):
        if names:
            arrays[name] = make(quoted(path), names, [arrays[each] for each in names])
    labels = arrays.get("labels")
    if labels is not None and labels.ndim != 1:
        raise DataError(f"{quoted(path)}: 'labels' has shape {labels.shape}, expected (C,): the names of the classes.")
    named = several[1] if labels is None else [str(v) for v in labels.tolist()]
    found = {key: arrays[name] for key, name in keyed.items()} if keyed else arrays[x]
    return Examples(found, arrays.get(y), named)


def read_weight_column(source: str | os.PathLike[str], x: str | None, name: str) -> np.ndarray:
    """Read the weights of examples, (N,) of numbers, from a file of :func:`read_examples`.

    Raises:
        DataError: as :func:`read_examples`, or values that are no numbers.
    """
    found = read_examples(source, x, name).y
    try:
        return np.asarray(found).astype(np.float64)
    except (ValueError, TypeError):
        raise DataError(f"{quoted(source)}: '{quoted(name, 60)}' holds values that are no numbers.") from None


def read_pair_columns(
    path: str | os.PathLike[str], source: str | None = None, target: str | None = None, language: str | None = None
) -> PairColumns:
    """Read a data file of sentence pairs.

    Args:
        path: an ``.npz`` file of arrays, or a ``.csv``, ``.jsonl`` (also ``.gz``) or ``.parquet`` file of texts.
        source: name of the sources, ``source`` by default.
        target: name of the targets, ``target`` by default.
        language: name of the languages of the targets, ``language`` by default.

    Raises:
        DataError: as :func:`read_examples`.
    """
    path = user_path(path)
    given = zip(PAIR_COLUMNS.items(), (source, target, language), strict=True)
    names = {option: name or usual for (option, usual), name in given}
    if _is_table_file(path, "sentence pairs"):
        columns = read_columns(path, [Column((name,), option, True) for option, name in names.items()])
        found = [column.values for column in columns if column is not None]
        return PairColumns(found[0], found[1], [str(v) for v in found[2]])
    arrays = _arrays(path, list(names.values()))
    for option, name in names.items():
        if name not in arrays:
            raise DataError(
                f"{quoted(path)}: no array '{quoted(name, 60)}'; it holds {_names(path)}. Name it with {option}."
            )
    one, two, three = (arrays[name] for name in names.values())
    sizes = [array.shape[:1] for array in (one, two, three)]
    if three.ndim != 1 or len(set(sizes)) > 1:
        raise DataError(
            f"{quoted(path)}: sources, targets and languages have shapes {one.shape}, {two.shape} and {three.shape}, "
            "expected one row in each array for every pair, and languages (N,)."
        )
    return PairColumns(one, two, [str(v) for v in three.tolist()])


def as_pair(examples: Any, labels: Sequence[Label]) -> Any:
    """Convert a table in Python to a pair (x, y) for the classes ``labels``; return other values unchanged."""
    if not is_table(examples):
        return examples
    found = read_examples(examples)
    return found.x, found.y_for(labels)


def _is_table_file(path: Path, wanted: str) -> bool:
    """Return whether a file has columns; raise DataError if it is not an .npz file either."""
    if kind_of(path) is not None:
        return True
    if path.suffix != ".npz":
        found = path.suffix or "no ending"
        raise DataError(f"{quoted(path)}: expected an .npz, {', '.join(KINDS)} file with {wanted}, found {found}.")
    return False


def _several(name: str | None) -> list[str] | None:
    """Return the names of several columns, which are separated by commas; None for one name or none."""
    names = [] if name is None else name.split(",")
    return names if len(names) > 1 else None


def _columns(x: str | None, y: str | None, need_labels: bool) -> list[Column]:
    inputs, labels = _several(x), _several(y)
    return [
        *(Column((name,), "--x", True) for name in inputs or ()),
        *([] if inputs else [Column((x,) if x else TEXT_COLUMNS, "--x", True)]),
        *(Column((name,), "--y", True) for name in labels or ()),
        *([] if labels else [Column((y,) if y else LABEL_COLUMNS, "--y", need_labels)]),
    ]


def _texts(
    where: str, columns: list[Values | None], inputs: list[str] | None = None, outputs: list[str] | None = None
) -> Examples:
    count = len(inputs or [""])
    read = [column.values for column in columns[:count] if column is not None]
    x = read[0] if inputs is None else _steps(where, inputs, read)
    if outputs is not None:
        return Examples(x, _targets(where, outputs, [column.values for column in columns[count:] if column]), outputs)
    labels = columns[count]
    return Examples(
        x,
        None if labels is None else _labels(where, labels.values),
        None if labels is None else labels.names,
    )


def _keyed(names: list[str]) -> dict[str, str] | None:
    """Read names such as ``key=name`` as a dict; None if one of them has no key."""
    pairs = [name.partition("=") for name in names]
    return {key: name for key, _, name in pairs} if all(between for _, between, _ in pairs) else None


def _inputs(where: str, names: list[str], arrays: Sequence[Any]) -> Any:
    """Return several arrays as inputs of a network, in order; as one series if all of them are (N,)."""
    return _steps(where, names, arrays) if all(array.ndim == 1 for array in arrays) else tuple(arrays)


def some_of(x: Any, rows: Any) -> Any:
    """Return some examples of inputs: of each array where there are several, or of a list of texts.

    Args:
        x: inputs of :class:`Examples`.
        rows: a slice, positions, or booleans.
    """
    if isinstance(x, tuple):
        return tuple(some_of(part, rows) for part in x)
    if isinstance(x, dict):
        return {key: some_of(part, rows) for key, part in x.items()}
    if isinstance(x, np.ndarray) or isinstance(rows, slice):
        return x[rows]
    return [x[row] for row in np.arange(len(x))[rows]]


def _steps(where: str, names: list[str], columns: Sequence[Any]) -> np.ndarray:
    """Join columns of numbers as the timesteps of one series, float32 (N, T, 1)."""
    found = []
    for name, column in zip(names, columns, strict=True):
        values: np.ndarray = np.empty(0)
        with suppress(ValueError, TypeError):
            values = np.asarray(column).astype(np.float32)
        if values.ndim != 1 or not np.isfinite(values).all() or len(values) != len(column):
            raise DataError(
                f"{where}: column '{quoted(name, 60)}' holds values that are no numbers; --x needs numbers."
            )
        found.append(values)
    if len({len(values) for values in found}) > 1:
        raise DataError(f"{where}: the columns of --x have different lengths.")
    return np.stack(found, axis=-1)[..., None]


def _targets(where: str, names: list[str], columns: Sequence[Any]) -> np.ndarray:
    """Join columns of targets, (N, C): numbers of arrays, or text as tables have it."""
    if not all(isinstance(column, np.ndarray) for column in columns):
        columns = [_labels(where, list(column)) for column in columns]
    shapes = {name: np.shape(column) for name, column in zip(names, columns, strict=True)}
    if len(set(shapes.values())) > 1 or any(isinstance(column, list) for column in columns):
        raise DataError(
            f"{where}: the columns of --y have shapes {quoted(shapes)}, expected one value for each example."
        )
    return np.stack(columns, axis=-1)


def _labels(where: str, values: list[Any]) -> Any:
    """Return labels as an array of strings, or a list of strings per row; a missing value is a missing label."""
    if not any(isinstance(value, list) for value in values):
        return np.asarray([_label(where, n, value) for n, value in enumerate(values)])
    for n, value in enumerate(values):
        if not isinstance(value, list):
            raise DataError(
                f"{where}, example {n}: its label is {quoted(repr(value), 40)}, "
                "expected a list of labels as in other examples."
            )
    return [[_label(where, n, each) for each in value] for n, value in enumerate(values)]


def _label(where: str, n: int, value: Any) -> str:
    if isinstance(value, list | dict):
        raise DataError(
            f"{where}, example {n}: {quoted(repr(value), 40)} is not a label, expected text or a whole number."
        )
    return "" if value is None else str(value)


def _one_hot(y: np.ndarray, classes: int) -> bool:
    """Return whether labels are columns of 0 and 1 instead of positions."""
    return y.ndim > 1 and y.shape[-1] == classes and bool(np.isin(y, (0, 1)).all())


def _found(used: np.ndarray, values: list[Any], labels: Sequence[Label]) -> np.ndarray:
    """Return ``used`` if any value is True; else raise DataError with the labels of the data."""
    if not used.any():
        raise DataError(
            f"the data have the labels {quoted(values[:8])}, none of which is a class in use: "
            f"{quoted(list(labels)[:8])}."
        )
    return used


def _names(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return quoted([name.removesuffix(".npy") for name in archive.namelist()])


def read_arrays(path: str | os.PathLike[str], names: list[str]) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file.

    Args:
        path: the file.
        names: names of the arrays; the first must be in the file.

    Raises:
        DataError: the file is missing or damaged, or lacks the first array.
    """
    path = user_path(path)
    found = _arrays(path, names)
    if names[0] not in found:
        raise DataError(f"{quoted(path)}: no array '{names[0]}'; it holds {_names(path)}.")
    return found


def _arrays(path: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of ``wanted`` that an .npz file has, by name."""
    where = quoted(path)
    with limits.open_regular(path, error=DataError) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = os.fstat(file.fileno()).st_size
                present = {info.filename: info for info in archive.infolist()}
                members = {name: present[f"{name}.npy"] for name in wanted if f"{name}.npy" in present}
                found = {name: read_member(archive, info, size, where) for name, info in members.items()}
        except UnbraidError:
            raise
        except Exception as error:  # zipfile and zlib raise errors of many kinds on damaged files
            raise DataError(f"{where}: not a readable .npz file ({quoted(error)}).") from None
    for name, array in found.items():
        if array.dtype.kind == "U":
            check_unicode(array.astype(array.dtype.newbyteorder("="), copy=False), f"{where}: array {name!r}: values")
    return found
