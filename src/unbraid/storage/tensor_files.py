"""Read a safetensors file: names, dtypes and shapes are checked before a tensor is made.

Names are ``NUMBER/NAME``: the number is that of a parent or of a module.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from unbraid.errors import FormatError, quoted
from unbraid.limits import check_size, parse_json

TYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
Shape = tuple[int | None, ...]  # None for any size, which is checked later


@dataclass(frozen=True)
class Expected:
    """Type and shape that a tensor must have.

    Attributes:
        shape: expected sizes; None for any size.
        dtypes: accepted dtypes.
    """

    shape: Shape
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{' or '.join(map(str, self.dtypes))} ({sizes})"

    def accepts(self, found: Declared) -> bool:
        """Return whether a tensor of that dtype and shape is accepted."""
        return (
            found.dtype in self.dtypes
            and len(found.shape) == len(self.shape)
            and all(e in (None, f) for e, f in zip(self.shape, found.shape, strict=True))
        )


@dataclass(frozen=True)
class Declared:
    """Type and shape of a tensor in the header of a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class TensorFile:
    """The content of a safetensors file.

    Args:
        content: its bytes.
        where: its path, for messages.
        owners: how many parents or modules there are.
        half: whether float32 tensors are stored in half precision; they are float32 for all that follows.

    Attributes:
        declared: for each owner, name -> type and shape of its tensors.
        size: size of the file in bytes.

    Raises:
        FormatError: not a safetensors file, an unexpected type, or a tensor without an owner.
    """

    def __init__(self, content: bytes, where: str, owners: int, half: bool = False) -> None:
        self._half = half
        self._content, self._where, self.size = content, where, len(content)
        self.declared: list[dict[str, Declared]] = [{} for _ in range(owners)]
        for name, found in declared_tensors(content, where).items():
            number, own = _split(name, owners)
            if number is None:
                raise FormatError(f"{where}: tensor {quoted(name)!r} belongs to no parent or module.")
            full = half and found.dtype == torch.float16
            self.declared[number][own] = Declared(torch.float32, found.shape) if full else found

    def check(self, number: int, expected: Mapping[str, Expected]) -> None:
        """Raise FormatError if the tensors of owner ``number`` are not exactly the expected ones."""
        found = self.declared[number]
        for name, wanted in expected.items():
            if name not in found:
                raise FormatError(f"{self._where}: tensor '{number}/{quoted(name)}' is missing; expected {wanted}.")
            if not wanted.accepts(found[name]):
                one = f"{found[name].dtype} {quoted(found[name].shape)}"
                raise FormatError(f"{self._where}: tensor '{number}/{quoted(name)}' is {one}, expected {wanted}.")
        extra = sorted(set(found) - set(expected))
        if extra:
            raise FormatError(
                f"{self._where}: tensor '{number}/{quoted(extra[0])}' is not used ({len(extra)} of them): remove it."
            )

    def load(self) -> list[dict[str, Tensor]]:
        """Return name -> tensor for each owner, and release the content; raise FormatError for a damaged file."""
        found: list[dict[str, Tensor]] = [{} for _ in self.declared]
        for name, tensor in loaded(self._content, self._where).items():
            number, own = _split(name, len(found))
            assert number is not None
            found[number][own] = tensor.float() if self._half and tensor.dtype == torch.float16 else tensor
        self._content = b""
        return found


def loaded(content: bytes, where: str) -> dict[str, Tensor]:
    """Return name -> tensor of a safetensors file whose header was checked; raise FormatError if it is damaged."""
    try:
        return load(content)
    except (SafetensorError, RuntimeError, ValueError, OverflowError, KeyError) as error:
        raise FormatError(f"{where}: not a safetensors file ({quoted(error)}).") from None


def declared_tensors(content: bytes, where: str, types: Collection[str] = tuple(TYPES)) -> dict[str, Declared]:
    """Return name -> type and shape of the tensors in the header of a safetensors file.

    Args:
        content: content of the file.
        where: path of the file, for messages.
        types: accepted types, by their names in safetensors.

    Raises:
        FormatError: not a safetensors file, or a tensor of another type.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise FormatError(f"{where}: not a safetensors file (it ends within its header).")
    check_size(length, "json_bytes", where, "length of the header")
    header = parse_json(content[8 : 8 + length], where, strict=True)
    if not isinstance(header, dict):
        raise FormatError(f"{where}: not a safetensors file (its header is not a mapping).")
    header.pop("__metadata__", None)
    return {name: _declared(name, entry, where, types) for name, entry in header.items()}


def _declared(name: str, entry: object, where: str, types: Collection[str]) -> Declared:
    kind = entry.get("dtype") if isinstance(entry, dict) else None
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or kind not in types:
        expected = " or ".join(str(TYPES[one]).removeprefix("torch.") for one in types)
        raise FormatError(f"{where}: tensor {quoted(name)!r} has type {quoted(kind, 40)}, expected {expected}.")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise FormatError(f"{where}: tensor {quoted(name)!r} has no shape: not a safetensors file.")
    return Declared(TYPES[kind], tuple(shape))


def _split(name: str, owners: int) -> tuple[int | None, str]:
    """Split ``NUMBER/NAME``; return None as the number if there is no such owner."""
    match = re.fullmatch(r"(0|[1-9][0-9]{0,8})/(.+)", name, re.DOTALL)
    if match is None or int(match[1]) >= owners:
        return None, name
    return int(match[1]), match[2]
