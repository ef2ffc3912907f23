"""Limits on what is read from files, so that memory and time are bounded by the size of a file.

Every reader checks a size against these limits before it allocates memory for it. Change them for a block of code with
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

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Limits:
    """Largest sizes and counts that readers accept. Sizes are in bytes.

    Attributes:
        file_bytes: size of one file that holds weights or examples.
        json_bytes: size of one JSON or YAML file: manifest, vocabulary, tokenizer, recipe.
        json_depth: nesting of lists and mappings in JSON or YAML.
        expansion: decoded bytes per stored byte, for compressed or sparse content above ``free_bytes``.
        free_bytes: decoded size up to which ``expansion`` is not checked.
        layers: layers (or stages) of one network.
        modules: modules, and parents, of one folder.
        vocabulary: largest word index plus one.
        label_chars: characters of one label.
        text_chars: characters of one text that a tokenizer reads.
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
    """The limits in force."""
    return _limits.get()


@contextmanager
def override(**changes: int) -> Iterator[Limits]:
    """Change limits inside a ``with`` block.

    Args:
        changes: fields of :class:`Limits` and their new values, whole numbers above 0.

    Raises:
        ConfigError: an unknown field, or a value that is not a whole number above 0.
    """
    known = [field.name for field in fields(Limits)]
    for name, value in changes.items():
        if name not in known:
            raise ConfigError(f"unknown limit {name!r}. Known: {', '.join(known)}.")
        if type(value) is not int or value < 1:
            raise ConfigError(f"limit {name}={value!r}: expected a whole number above 0.")
    token = _limits.set(replace(current(), **changes))
    try:
        yield current()
    finally:
        _limits.reset(token)


def parse_size(text: str, where: str = "size") -> int:
    """A size as people write it, in bytes.

    Args:
        text: a number and a unit: B, KB, MB, GB or TB of 1,000, KiB, MiB, GiB or TiB of 1,024; without a unit bytes.
        where: the name of the setting, for the message.

    Raises:
        ConfigError: anything else, or less than one byte.

    Example:
        >>> parse_size("1.5GB"), parse_size("2 MiB")
        (1500000000, 2097152)
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?:([KMGT]?)(I?)B?)", str(text).strip().upper(), re.ASCII)
    number, prefix, binary = match.groups() if match else ("0", "", "")
    size = int(Decimal(number) * (1024 if binary else 1000) ** " KMGT".index(prefix or " "))
    if size < 1 or (binary and not prefix):
        raise ConfigError(f"{where} {quoted(text, 60)!r}: expected a number of bytes above 0, as 500MB or 2GB.")
    return size


def check_size(
    found: int, limit: str, where: object, what: str = "size", error: type[UnbraidError] = FormatError
) -> None:
    """Raise an error of that class where ``found`` is above the limit of that name."""
    allowed: int = getattr(current(), limit)
    if found > allowed:
        raise error(
            f"{where}: {what} is {quoted(found, 40)}, above the limit of {allowed}. If you trust the file, raise the "
            f"limit with unbraid.limits.override({limit}=...) or --max-size."
        )


def expands(decoded: int, stored: int) -> bool:
    """Whether content of ``stored`` bytes would take far more memory than that; see :func:`check_expansion`."""
    limits = current()
    return decoded > limits.free_bytes and decoded > limits.expansion * max(stored, 1)


def check_expansion(decoded: int, stored: int, where: object) -> None:
    """Raise FormatError where content of ``stored`` bytes would take far more memory than that.

    Args:
        decoded: bytes in memory that the file declares.
        stored: bytes that the file holds.
        where: what is read, for the message.
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
    """The bytes of a regular file, at most as many as a limit allows.

    A device, pipe or socket is refused without reading from it.

    Args:
        path: the file.
        limit: name of the limit that its size must keep.
        follow: whether a symbolic link is followed. Files inside a saved folder are never links.
        error: class of the error that is raised.

    Raises:
        UnbraidError: of class ``error``: the file is missing, unreadable, not a regular file, or too large.
    """
    with open_regular(path, limit, follow=follow, error=error) as file:
        allowed: int = getattr(current(), limit)
        try:
            content = file.read(min(os.fstat(file.fileno()).st_size, allowed) + 1)  # as much is allocated at once
        except OSError as problem:
            raise error(f"{quoted(path)}: cannot be read ({problem.strerror}).") from None
        if len(content) > allowed:  # it grew since it was opened
            raise _too_large(path, len(content), limit, error)
    return content


def open_regular(
    path: str | os.PathLike[str],
    limit: str = "file_bytes",
    *,
    follow: bool = True,
    error: type[UnbraidError] = FormatError,
) -> BinaryIO:
    """A regular file, opened for reading; arguments and errors are those of :func:`read_regular`."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    path = os.fspath(path)  # not a buffer, which os.open would take
    try:
        if not follow and os.path.islink(path):
            raise error(f"{quoted(path)} is a symbolic link, expected a regular file: copy the file into the folder.")
        file = open(os.open(path, flags), "rb")  # noqa: SIM115 # the caller closes it
    except FileNotFoundError:
        raise error(f"{quoted(path)}: no such file, so it cannot be read.") from None
    except ValueError:  # a NUL in the name
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


def _too_large(path: str | os.PathLike[str], size: int, limit: str, error: type[UnbraidError]) -> UnbraidError:
    return error(
        f"{quoted(path)}: size is {size} bytes, above the limit of {getattr(current(), limit)}. If you trust the file, "
        f"raise the limit with unbraid.limits.override({limit}=...) or --max-size."
    )


def parse_json(content: bytes | str, where: str | Path, *, strict: bool = False) -> Any:
    """Parse JSON of bounded size and depth; raises FormatError for anything else.

    Args:
        content: UTF-8 bytes or text.
        where: what is read, for messages.
        strict: refuse keys that occur twice in one object, and numbers that JSON does not have (``NaN``).
    """
    check_size(len(content), "json_bytes", where)
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number) if strict else json.loads(text)
    except UnicodeDecodeError:
        raise FormatError(f"{where}: is not UTF-8 text, expected JSON.") from None
    except RecursionError:
        raise FormatError(f"{where}: is nested more than {current().json_depth} levels deep.") from None
    except ValueError as problem:  # JSONDecodeError, or a number of more than 4,300 digits
        raise FormatError(f"{where}: is not JSON ({quoted(str(problem))}).") from None
    check_depth(value, where)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of a JSON object; raises ValueError where a key occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"key {quoted(repeated, 60)!r} occurs twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def check_depth(value: Any, where: str | Path) -> None:
    """Raise FormatError where lists and mappings are nested deeper than ``json_depth``."""
    allowed = current().json_depth
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(allowed):
        children = [child for v in level for child in (v.values() if isinstance(v, dict) else v)]
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise FormatError(f"{where}: is nested more than {allowed} levels deep.")
