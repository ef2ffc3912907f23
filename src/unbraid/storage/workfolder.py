"""Working folders: hidden folders in which files are prepared before they get their names.

A working folder is called ``.unbraid-TOKEN`` and holds an empty file ``TOKEN``, where TOKEN is 32 random hexadecimal
digits. Only such folders are ever deleted, so that no folder of a user's is. The process that made one holds a lock on
it; after a kill the lock is free, and the next write to the same place deletes the folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

CONTENT, COMMIT, UNCOMMITTED = "content", "commit", "commit.new"
_NAME = re.compile(r"\.unbraid-([0-9a-f]{32})")


@contextmanager
def work_folder(parent: Path, mode: int = 0o700) -> Iterator[Path]:
    """A new working folder in ``parent``, locked; deleted at the end of the block unless it holds a commit record."""
    with ExitStack() as stack:
        work = _new_folder(parent, mode, stack)
        try:
            yield work
        finally:
            if not (work / COMMIT).exists():
                remove(work)


def _new_folder(parent: Path, mode: int, stack: ExitStack) -> Path:
    while True:
        token = secrets.token_hex(16)
        work = parent / f".unbraid-{token}"
        os.mkdir(work, mode)
        try:
            stack.enter_context(locked(work))
            os.chmod(work, mode)  # mkdir applies the umask
            write_synced(work / token, b"")
            sync(work)
            return work
        except FileNotFoundError:  # another process took the empty folder for an abandoned one
            continue
        except OSError:
            remove(work)
            raise


def abandoned(parent: Path, wait: bool = False) -> Iterator[Path]:
    """Working folders in ``parent`` whose process has ended, each locked while it is treated.

    Args:
        parent: where they are.
        wait: whether to wait for the end of processes that are still at work.
    """
    for work in work_folders(parent):
        with ExitStack() as stack:
            try:
                free = stack.enter_context(locked(work, wait))
            except FileNotFoundError:  # deleted meanwhile
                continue
            if free:
                yield work


def work_folders(parent: Path) -> list[Path]:
    """All working folders in ``parent``, in order of their names."""
    with suppress(OSError, ValueError):  # no such folder, or a NUL in its name
        return sorted(parent / name for name in os.listdir(parent) if is_work_folder(parent / name))
    return []


def is_work_folder(path: Path) -> bool:
    """Whether a path is a working folder: by its name, and by the marker in it unless it is empty."""
    named = _NAME.fullmatch(path.name)
    if named is None or path.is_symlink() or not path.is_dir():
        return False
    with suppress(OSError):
        found = os.listdir(path)
        return not found or named[1] in found
    return False


def remove(work: Path) -> None:
    """Delete a working folder, its marker last, so that it is recognised until the end."""
    marker = work.name.removeprefix(".unbraid-")
    with suppress(OSError):
        for name in sorted(os.listdir(work), key=lambda name: (name == marker, name != COMMIT)):
            os.unlink(work / name)
        os.rmdir(work)


@contextmanager
def locked(folder: Path, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Lock a folder for this thread alone, or with ``shared`` for all that share it.

    Yields:
        whether it is locked; without ``wait`` another may hold it. True where the system has no such locks.

    Raises:
        FileNotFoundError: the folder is gone, or was gone when it could be locked.
    """
    if sys.platform == "win32":
        yield True
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        free = True
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(place, kind if wait else kind | fcntl.LOCK_NB)
        except OSError as error:  # others than these: a file system without locks
            free = error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
        if not os.path.samestat(os.fstat(place), os.stat(folder)):
            raise FileNotFoundError(errno.ENOENT, "another folder has its name now", str(folder))
        yield free
    finally:
        os.close(place)


def write_synced(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a new file and flush it to the disk; its mode is by default what the umask gives."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o666 if mode is None else 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if mode is not None:
        os.chmod(path, mode)


def sync(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can and permits it."""
    if sys.platform == "win32":
        return
    try:
        place = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may be writable without being readable
        return
    try:
        os.fsync(place)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that flushes no folders
            raise
    finally:
        os.close(place)


def mode_of(path: Path) -> int | None:
    """The permissions of an existing file or folder; None where there is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return stat.S_IMODE(os.lstat(path).st_mode)
    return None
