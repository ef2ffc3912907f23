"""Convert arrays of users (lists, tensors, pandas columns, masked arrays) to plain NumPy arrays.

A value without an order, without plain values, or that can be read only once is refused with a DataError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from numpy.char import decode  # imported here, because NumPy must not import it while a file is read
from torch import Tensor

from unbraid.errors import DataError, quoted

NUMBERS = "iufb"  # NumPy kinds of numbers
LARGEST_CODE_POINT = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)


def as_array(value: Any, what: str = "inputs") -> np.ndarray:
    """Convert ``value`` to a plain NumPy array.

    Args:
        value: an array, a dense tensor, a sequence or nested list, or an object with ``to_numpy()``, ``__array__()``
            (pandas) or ``to_pylist()`` (pyarrow). Tensors may require a gradient and may be bfloat16.
        what: name of the values in messages: ``inputs`` or ``labels``.

    Returns:
        the array, in the byte order of this machine. Objects that are all numbers, or all strings, are converted to an
        array of numbers or strings.

    Raises:
        DataError: the value is not an array, or has rows of different lengths, masked entries, or text that is not
            valid Unicode.

    Example:
        >>> as_array([[1, 2], [3, 4]]).shape
        (2, 2)
    """
    _check_kind(value, what)
    if isinstance(value, memoryview):  # one of several axes has no iterator
        value = _guarded(lambda: np.asarray(value), what)
    if isinstance(value, Tensor):
        array = _of_tensor(value, what)
    elif isinstance(value, np.ma.MaskedArray):
        array = _of_masked(value, what)
    elif isinstance(value, np.ndarray):
        array = np.asarray(value)
    else:
        array = _converted(value, what)
    if array.dtype.kind == "O":
        array = _of_objects(array, what)
    if array.dtype.kind == "S":
        array = _decoded(array, what)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "U":
        check_unicode(array, what)
    return array


def check_unicode(array: np.ndarray, what: object) -> None:
    """Raise DataError if strings hold code points that are not characters, such as half a surrogate pair."""
    if array.size == 0 or array.dtype.itemsize == 0:
        return
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
    if codes.max() > LARGEST_CODE_POINT or _has_surrogates(codes):
        raise DataError(f"{what} hold text that is not valid Unicode: it cannot be written in UTF-8.")


def _has_surrogates(codes: np.ndarray) -> bool:
    return bool(((codes >= SURROGATES[0]) & (codes <= SURROGATES[1])).any())


def _check_kind(value: Any, what: str) -> None:
    name = type(value).__name__
    if isinstance(value, str | bytes | bytearray):
        raise DataError(
            f"{what} are a single {name}, {quoted(repr(value), 40)}: pass a list with one value per example."
        )
    if value is None or isinstance(value, Set | Mapping):
        raise DataError(f"{what} are a {name}, expected an array or a list with one row per example.")
    if isinstance(value, Iterator):
        raise DataError(f"{what} are a {name}, which can be read only once: pass list(...) of it.")


def _of_tensor(value: Tensor, what: str) -> np.ndarray:
    if value.device.type == "meta":
        raise DataError(f"{what} are a tensor on the meta device, which has no values: pass a tensor with values.")
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        raise DataError(f"{what} are a sparse, nested or quantized tensor: pass a dense one (.to_dense()).")
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    if plain.is_floating_point() and plain.dtype not in (torch.float16, torch.float32, torch.float64):
        plain = plain.float()  # NumPy has no bfloat16 or float8
    return _guarded(plain.numpy, what)


def _of_masked(value: np.ma.MaskedArray, what: str) -> np.ndarray:
    if np.ma.getmaskarray(value).any():
        raise DataError(f"{what} are a masked array with masked entries: fill them first (.filled(value)).")
    return np.asarray(value.data)


def _converted(value: Any, what: str) -> np.ndarray:
    if hasattr(value, "to_pylist"):  # a column of pyarrow
        value = _guarded(value.to_pylist, what)
    elif isinstance(value, Sequence) and not isinstance(value, list | tuple):  # a column of a Hugging Face Dataset
        value = _guarded(lambda: list(value), what)
    to_numpy = getattr(value, "to_numpy", None)
    if callable(to_numpy):
        return _guarded(lambda: np.asarray(to_numpy()), what)
    if isinstance(value, list | tuple) and value and all(isinstance(row, Tensor) for row in value):
        value = [_of_tensor(row, what) for row in value]
    array = _guarded(lambda: np.asarray(value), what)
    if array.dtype.kind == "O" and array.ndim == 0:
        raise DataError(f"{what} are a {type(value).__name__}, expected an array or a list with one row per example.")
    if array.dtype.kind == "U":  # NumPy writes None and NaN beside strings as "None" and "nan"
        return _guarded(lambda: np.asarray(value, dtype=object), what)
    return array


def _guarded(make: Callable[[], Any], what: str) -> Any:
    """Make the array or list, and convert any error of a user's object to a DataError."""
    try:
        return make()
    except Exception as error:
        if isinstance(error, ValueError) and "inhomogeneous" in str(error):
            raise DataError(f"{what} have rows of different lengths: pad them to one length.") from None
        raise DataError(f"{what} cannot be read as an array ({quoted(error, 100)}).") from None


def _of_objects(array: np.ndarray, what: str) -> np.ndarray:
    """Convert objects that are all numbers, or strings and whole numbers, to an array of numbers or strings."""
    kinds = {type(value) for value in array.reshape(-1).tolist()}

    def only(*allowed: type) -> bool:
        return all(issubclass(kind, allowed) for kind in kinds)

    if only(bool, int, float, np.number, np.bool_):
        plain = _guarded(lambda: np.asarray(array.tolist()), what)
        if plain.dtype.kind in NUMBERS:
            return plain
        raise DataError(f"{what} hold whole numbers that are too large for 64 bits.")
    if only(str, int, np.integer) and bool not in kinds:
        return _guarded(lambda: array.astype(str), what)
    if any(issubclass(kind, list | tuple | np.ndarray | Tensor) for kind in kinds):
        rows = _converted([list(row) if isinstance(row, np.ndarray) else row for row in array.tolist()], what)
        if rows.ndim > array.ndim:
            return as_array(rows, what)
        raise DataError(f"{what} have rows of different lengths: pad them to one length.")
    found = ", ".join(sorted(kind.__name__ for kind in kinds)[:4])
    raise DataError(f"{what} hold values of type {found}, expected numbers or strings; missing values must be filled.")


def _decoded(array: np.ndarray, what: str) -> np.ndarray:
    try:
        return decode(array, "utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{what} hold bytes that are not UTF-8 text: decode them first.") from None
