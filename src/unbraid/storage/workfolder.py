"""Working folders: hidden folders in which files are prepared before they get their names.

A working folder is called ``.unbraid-TOKEN`` and holds an empty file ``TOKEN``, where TOKEN is 32 random hexadecimal
digits. Only such folders are deleted, and never a folder of the user. The process that made a working folder holds a
lock on it. After a kill the lock is free, and the next write to the same place deletes the folder.
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
    """Make a locked working folder in ``parent``; delete it after the block unless it holds a commit record."""
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
        except FileNotFoundError:  # another process deleted the empty folder as abandoned
            continue
        except OSError:
            remove(work)
            raise


def abandoned(parent: Path, wait: bool = False) -> Iterator[Path]:
    """Yield the working folders in ``parent`` whose process has ended; each is locked while it is used.

    Args:
        parent: folder that contains them.
        wait: whether to wait for the end of running processes.
    """
    for work in work_folders(parent):
        with ExitStack() as stack:
            try:
                free = stack.enter_context(locked(work, wait))
            except FileNotFoundError:  # deleted in the meantime
                continue
            if free:
                yield work


def work_folders(parent: Path) -> list[Path]:
    """List all working folders in ``parent``, sorted by name."""
    with suppress(OSError, ValueError):  # no such folder, or a NUL in its name
        return sorted(parent / name for name in os.listdir(parent) if is_work_folder(parent / name))
    return []


def is_work_folder(path: Path) -> bool:
    """Return whether a path is a working folder: by its name, and by its marker file unless it is empty."""
    named = _NAME.fullmatch(path.name)
    if named is None or path.is_symlink() or not path.is_dir():
        return False
    with suppress(OSError):
        found = os.listdir(path)
        return not found or named[1] in found
    return False


def remove(work: Path) -> None:
    """Delete a working folder. Its marker file is deleted last, so that it is recognised until the end."""
    marker = work.name.removeprefix(".unbraid-")
    with suppress(OSError):
        for name in sorted(os.listdir(work), key=lambda name: (name == marker, name != COMMIT)):
            os.unlink(work / name)
        os.rmdir(work)


@contextmanager
def locked(folder: Path, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Lock a folder for this thread only, or with ``shared`` for all readers.

    Yields:
        whether it is locked. Without ``wait`` another process may hold it. True if the system has no such locks.

    Raises:
        FileNotFoundError: the folder does not exist, or was deleted before it could be locked.
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
        except OSError as error:  # other errors: a file system without locks
            free = error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
        if not os.path.samestat(os.fstat(place), os.stat(folder)):
            raise FileNotFoundError(errno.ENOENT, "another folder has its name now", str(folder))
        yield free
    finally:
        os.close(place)


def write_synced(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a new file and flush it to the disk. Its default mode follows the umask."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o666 if mode is None else 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if mode is not None:
        os.chmod(path, mode)


def sync(folder: Path) -> None:
    """Flush the list of files of a folder to the disk, if the system supports and permits it."""
    if sys.platform == "win32":
        return
    try:
        place = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may be writable without being readable
        return
    try:
        os.fsync(place)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot flush folders
            raise
    finally:
        os.close(place)


def mode_of(path: Path) -> int | None:
    """Return the permissions of a file or folder; None if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return stat.S_IMODE(os.lstat(path).st_mode)
    return None
