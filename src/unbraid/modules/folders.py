"""Folders that are written whole or not at all, and read back only if they are what was written."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unbraid.errors import FormatError
from unbraid.limits import read_regular

if sys.platform != "win32":
    import fcntl

MANIFEST = "unbraid.json"


def write_folder(folder: str | os.PathLike[str], files: dict[str, bytes]) -> None:
    """Write ``files`` into ``folder``, atomically: after a crash there is the old folder or the new one.

    A link is followed. Of several processes and threads that write beside each other one goes after the other.

    The files go to a temporary folder beside it, are flushed to disk, and the folder is renamed. An old folder is moved
    aside first; :func:`recover` brings it back where a crash fell between the two renames.

    Raises:
        FormatError: something that is no Unbraid folder lies there, or the place cannot be written.
    """
    target = Path(folder)
    try:
        target = Path(os.path.realpath(folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.parent):
            _exchange(target, files)
    except ValueError as error:  # a name with a NUL
        raise FormatError(f"{str(folder)!r}: cannot be written ({error}).") from None
    except OSError as error:
        raise FormatError(f"{target}: cannot be written ({error.strerror}).") from None


def _exchange(target: Path, files: dict[str, bytes]) -> None:
    _bring_back(target)
    if target.exists() and not _ours(target):
        raise FormatError(f"{target} exists and is no Unbraid folder: choose another name, or remove it first.")
    _clear_leftovers(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
    try:
        for name, content in files.items():
            _write_synced(temporary / name, content)
        os.chmod(temporary, 0o755)
        _sync(temporary)
        old = _aside(target)
        if target.exists():
            os.rename(target, old)
        os.rename(temporary, target)
        _sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError:
        _bring_back(target)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """No other process or thread exchanges folders here meanwhile, where the system can see to that."""
    if sys.platform == "win32":
        yield
        return
    place = os.open(parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems know no locks
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def recover(target: Path) -> None:
    """Bring back the old folder where a crash fell between the two renames of :func:`write_folder`."""
    target = Path(os.path.realpath(target))  # as it was written
    if _aside(target).exists() and not target.exists():  # or one is just being written
        with _alone(target.parent):
            _bring_back(target)


def _bring_back(target: Path) -> None:
    old = _aside(target)
    if old.exists() and not target.exists():
        os.rename(old, target)


def read_file(folder: Path, name: str, sha256: str | None = None) -> bytes:
    """The content of a regular file in a saved folder.

    Args:
        folder: what a ``save`` wrote.
        name: name of the file.
        sha256: digest that the content must have; None: any.

    Raises:
        FormatError: the file is missing, a link, not a regular file, too large, or has another digest.
    """
    content = read_regular(folder / name, "json_bytes" if name.endswith(".json") else "file_bytes", follow=False)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise FormatError(
            f"{folder / name}: its content is not what {MANIFEST} names (sha256 differs): the file is damaged."
        )
    return content


def _aside(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def _ours(target: Path) -> bool:
    return target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir()))


def _clear_leftovers(target: Path) -> None:
    """What earlier saves of this folder left when they were killed."""
    mine = re.compile(re.escape(f".{target.name}.new-") + "[a-z0-9_]+")
    for leftover in target.parent.iterdir():
        if mine.fullmatch(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)
    if target.exists():
        shutil.rmtree(_aside(target), ignore_errors=True)


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
