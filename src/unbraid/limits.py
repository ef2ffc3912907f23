"""Limits on the sizes that readers accept, so that the size of a file bounds memory and time.

A reader checks a size against these limits before it allocates memory. Change them for a block of code with
:func:`override`, or on the command line with ``--max-size``.

Example:
    >>> from unbraid import limits
    >>> limits.current().json_bytes
    67108864
    >>> with limits.override(json_bytes=1024):
    ...     limits.current().json_bytes
    1024
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from unbraid.errors import ConfigError, FormatError, UnbraidError, quoted
from unbraid.paths import user_path

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Limits:
    """Largest sizes and counts that readers accept. Sizes are in bytes.

    Attributes:
        file_bytes: size of one file of weights or examples.
        json_bytes: size of one JSON or YAML file (manifest, vocabulary, tokenizer, recipe).
        json_depth: nesting of lists and mappings in JSON or YAML.
        expansion: decoded bytes per stored byte, for compressed or sparse data above ``free_bytes``.
        free_bytes: decoded size up to which ``expansion`` is not checked.
        layers: layers (or stages) of one network.
        modules: modules, and parents, of one folder.
        vocabulary: largest word index plus one.
        label_chars: characters of one label.
        text_chars: characters of one text for a tokenizer.
        columns: columns of a table (``.csv``, ``.jsonl``).
        download_bytes: total size of one ``pull``.
        download_seconds: duration of one ``pull``.
    """

    file_bytes: int = 16 * GIB
    json_bytes: int = 64 * MIB
    json_depth: int = 100
    expansion: int = 200
    free_bytes: int = 64 * MIB
    layers: int = 1_000
    modules: int = 20_000
    vocabulary: int = 10_000_000
    label_chars: int = 10_000
    text_chars: int = 1_000_000
    columns: int = 10_000
    download_bytes: int = 16 * GIB
    download_seconds: int = 3_600


_limits: ContextVar[Limits] = ContextVar("unbraid_limits", default=Limits())  # noqa: B039 # Limits is frozen


def current() -> Limits:
    """Return the current limits."""
    return _limits.get()


@contextmanager
def override(**changes: int) -> Iterator[Limits]:
    """Change limits inside a ``with`` block.

    Args:
        **changes: fields of :class:`Limits` and their new values, integers of at least 1.

    Raises:
        ConfigError: an unknown field, or a value that is not an integer of at least 1.
    """
    known = [field.name for field in fields(Limits)]
    for name, value in changes.items():
        if name not in known:
            raise ConfigError(f"unknown limit {name!r}. Known: {', '.join(known)}.")
        if type(value) is not int or value < 1:
            raise ConfigError(f"limit {name}={value!r}: expected an integer of at least 1.")
    token = _limits.set(replace(current(), **changes))
    try:
        yield current()
    finally:
        _limits.reset(token)


def parse_size(text: str, where: str = "size") -> int:
    """Convert a size with a unit to bytes.

    Args:
        text: a number and an optional unit: B, KB, MB, GB, TB (powers of 1,000) or KiB, MiB, GiB, TiB (of 1,024).
        where: the name of the setting, for the message.

    Raises:
        ConfigError: any other text, or less than one byte.

    Example:
        >>> parse_size("1.5GB"), parse_size("2 MiB")
        (1500000000, 2097152)
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?:([KMGT]?)(I?)B?)", str(text).strip().upper(), re.ASCII)
    number, prefix, binary = match.groups() if match else ("0", "", "")
    size = int(Decimal(number) * (1024 if binary else 1000) ** " KMGT".index(prefix or " "))
    if size < 1 or (binary and not prefix):
        raise ConfigError(
            f"{where} {quoted(text, 60)!r}: expected a number of bytes above 0, for example 500MB or 2GB."
        )
    return size


def check_size(
    found: int, limit: str, where: object, what: str = "size", error: type[UnbraidError] = FormatError
) -> None:
    """Raise an error if a size is above a limit.

    Args:
        found: the size.
        limit: name of the limit, a field of :class:`Limits`.
        where: the file, for the message.
        what: name of the size, for the message.
        error: class of the error.

    Raises:
        UnbraidError: of class ``error``, if the size is above the limit.
    """
    allowed: int = getattr(current(), limit)
    if found > allowed:
        raise error(
            f"{where}: {what} is {quoted(found, 40)}, above the limit of {allowed}. If you trust the file, raise the "
            f"limit with unbraid.limits.override({limit}=...) or --max-size."
        )


def expands(decoded: int, stored: int) -> bool:
    """Return whether ``decoded`` bytes exceed the limit ``expansion`` for ``stored`` bytes."""
    limits = current()
    return decoded > limits.free_bytes and decoded > limits.expansion * max(stored, 1)


def check_expansion(decoded: int, stored: int, where: object) -> None:
    """Raise an error if the decoded data are much larger than the stored data.

    Args:
        decoded: declared size in memory, in bytes.
        stored: size in the file, in bytes.
        where: the file, for the message.

    Raises:
        FormatError: the ratio is above the limit ``expansion``.
    """
    if expands(decoded, stored):
        raise FormatError(
            f"{where}: {stored} stored bytes declare {decoded} bytes in memory, more than {current().expansion} times "
            "as many. If you trust the file, raise unbraid.limits.override(expansion=...) or --max-size."
        )


def read_regular(
    path: str | os.PathLike[str],
    limit: str = "file_bytes",
    *,
    follow: bool = True,
    error: type[UnbraidError] = FormatError,
) -> bytes:
    """Read a regular file whose size is within a limit.

    A device, pipe or socket is rejected before any byte is read.

    Args:
        path: the file.
        limit: name of the limit for its size.
        follow: whether to follow a symbolic link. Saved folders contain no links.
        error: class of the error.

    Raises:
        UnbraidError: of class ``error``: the file is missing, unreadable, not a regular file, or too large.
    """
    with open_regular(path, limit, follow=follow, error=error) as file:
        allowed: int = getattr(current(), limit)
        try:
            content = file.read(
                min(os.fstat(file.fileno()).st_size, allowed) + 1
            )  # read() allocates this many bytes at once
        except OSError as problem:
            raise error(f"{quoted(path)}: cannot be read ({problem.strerror}).") from None
        if len(content) > allowed:  # the file grew after it was opened
            raise _too_large(path, len(content), limit, error)
    return content


def open_regular(
    path: str | os.PathLike[str],
    limit: str = "file_bytes",
    *,
    follow: bool = True,
    error: type[UnbraidError] = FormatError,
) -> BinaryIO:
    """Open a regular file for reading; arguments and errors as in :func:`read_regular`."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    path = user_path(path)  # raises TypeError for a buffer, which os.open accepts
    try:
        if not follow and os.path.islink(path):
            raise error(f"{quoted(path)} is a symbolic link, expected a regular file: copy the file into the folder.")
        file = open(os.open(path, flags), "rb")  # noqa: SIM115 # the caller closes it
    except FileNotFoundError:
        raise error(f"{quoted(path)}: no such file, so it cannot be read.") from None
    except ValueError:  # a NUL character in the name
        raise error(f"{quoted(path)}: no such file.") from None
    except OSError as problem:
        raise error(f"{quoted(path)}: cannot be read ({problem.strerror}).") from None
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise error(f"{quoted(path)} is not a regular file: give the path of a file.")
    if status.st_size > getattr(current(), limit):
        file.close()
        raise _too_large(path, status.st_size, limit, error)
    return file


class _Expanded(io.RawIOBase):
    """The decoded bytes of a gzip file, up to the limits ``file_bytes`` and ``expansion``."""

    def __init__(self, file: BinaryIO, where: str, error: type[UnbraidError]) -> None:
        self._decoded, self._where, self._error = gzip.GzipFile(fileobj=file), where, error
        self._stored, self._count = os.fstat(file.fileno()).st_size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._decoded.readinto(buffer)
        self._count += count
        check_size(self._count, "file_bytes", self._where, "decoded size", self._error)
        if expands(self._count, self._stored):
            raise self._error(
                f"{self._where}: {self._stored} stored bytes decode to more than {current().expansion} times as many. "
                "If you trust the file, raise unbraid.limits.override(expansion=...) or --max-size."
            )
        return count


def expanded(file: BinaryIO, where: str, error: type[UnbraidError] = FormatError) -> BinaryIO:
    """Decode an open gzip file while it is read, up to the limits ``file_bytes`` and ``expansion``.

    Args:
        file: the open file.
        where: the file, for messages.
        error: class of the error above a limit. Damaged files raise OSError, EOFError or zlib.error.
    """
    return io.BufferedReader(_Expanded(file, where, error))


def _too_large(path: str | os.PathLike[str], size: int, limit: str, error: type[UnbraidError]) -> UnbraidError:
    return error(
        f"{quoted(path)}: size is {size} bytes, above the limit of {getattr(current(), limit)}. If you trust the file, "
        f"raise the limit with unbraid.limits.override({limit}=...) or --max-size."
    )


def parse_json(content: bytes | str, where: str | Path, *, strict: bool = False) -> Any:
    """Parse JSON of bounded size and depth.

    Args:
        content: UTF-8 bytes or text.
        where: the file, for messages.
        strict: whether to reject duplicate keys and ``NaN``.

    Raises:
        FormatError: text that is not JSON, too large or nested too deeply.
    """
    check_size(len(content), "json_bytes", where)
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number) if strict else json.loads(text)
    except UnicodeDecodeError:
        raise FormatError(f"{where}: is not UTF-8 text; expected JSON.") from None
    except RecursionError:
        raise FormatError(f"{where}: is nested more than {current().json_depth} levels deep.") from None
    except ValueError as problem:  # JSONDecodeError, or a number with more than 4,300 digits
        raise FormatError(f"{where}: is not JSON ({quoted(str(problem))}).") from None
    check_depth(value, where)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dict from the pairs of a JSON object; raise ValueError for a duplicate key."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"key {quoted(repeated, 60)!r} occurs twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def check_depth(value: Any, where: str | Path) -> None:
    """Raise FormatError if lists and mappings are nested deeper than the limit ``json_depth``."""
    allowed = current().json_depth
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(allowed):
        children = [child for v in level for child in (v.values() if isinstance(v, dict) else v)]
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise FormatError(f"{where}: is nested more than {allowed} levels deep.")
