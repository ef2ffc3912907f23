"""Write folders and files atomically, and read only complete versions."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from unbraid.errors import FormatError, UnbraidError, quoted
from unbraid.limits import read_regular
from unbraid.paths import user_path
from unbraid.storage.commit import commit, current, finish, settle
from unbraid.storage.commit import recover as recover
from unbraid.storage.layout import CARD, MODULES, PARENTS, is_known
from unbraid.storage.layout import MANIFEST as MANIFEST
from unbraid.storage.manifest_checks import parse_manifest
from unbraid.storage.workfolder import (
    COMMIT,
    CONTENT,
    abandoned,
    is_work_folder,
    locked,
    mode_of,
    remove,
    sync,
    work_folder,
    write_synced,
)

T = TypeVar("T")
LONGEST_WAIT = 60.0  # seconds that a reader waits for the end of a save
TRIES = 100  # to make a folder that other writers delete at the same time
NAMED = 3  # largest number of files in an error message
STARTS = {b"\x08": "an ONNX file", b"PK\x03\x04": "a .keras file", b"<!doctype html": "an HTML page"}  # first bytes


def write_folder(
    folder: str | os.PathLike[str], files: Mapping[str, bytes], verify: Callable[[Path], object] | None = None
) -> None:
    """Write a folder of modules atomically: after a crash there is the old version or the new one.

    Only files that the manifest of a valid Unbraid folder lists are replaced. The folder and its files keep their
    modes. A symbolic link is followed. Processes and threads that write the same folder wait for each other.

    Args:
        folder: an Unbraid folder, an empty folder or a new name.
        files: name -> content, including ``unbraid.json``.
        verify: called with a folder of the new files before any file is replaced. It raises FormatError to refuse them.

    Raises:
        FormatError: ``folder`` holds other files or cannot be written, or ``verify`` raises it.
    """
    try:
        target = _real(folder, FormatError)
        with _writing(target):
            settle(target)
            _replace(target, files, _old_files(target), verify)
    except OSError as problem:
        raise FormatError(f"{quoted(folder)}: cannot be written ({problem.strerror}).") from None


def _real(path: str | os.PathLike[str], error: type[UnbraidError]) -> Path:
    try:
        return Path(os.path.realpath(user_path(path)))
    except ValueError:
        raise error(f"{quoted(path)}: cannot be written (the name holds a NUL character).") from None


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Make a missing folder, and lock it for this writer; after an error, delete the folders that were made."""
    made: list[Path] = []
    with ExitStack() as stack:
        try:
            for left in reversed(range(TRIES)):
                made += [place for place in (target, *target.parents) if not place.exists()]
                try:
                    target.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(locked(target))
                    break
                except FileNotFoundError:  # another writer failed and deleted the empty folders that it had made
                    if not left:
                        raise
            for place in made:
                sync(place.parent)
            yield
        except BaseException:
            for place in made:
                with suppress(OSError):  # another writer uses it
                    place.rmdir()
            raise


def _old_files(target: Path) -> set[str]:
    """Return the names of files that may be replaced; raise FormatError if ``target`` holds other files."""
    found = sorted(os.listdir(target))
    if not found:
        return set()
    advice = "choose another name, or move them away first"
    try:
        manifest = parse_manifest(read_file(target, MANIFEST), str(target / MANIFEST))
    except FormatError as error:
        reason = f"its {MANIFEST} is not valid: {error}" if MANIFEST in found else f"it has no {MANIFEST}"
        raise FormatError(
            f"{quoted(target)} exists and is not an Unbraid folder ({reason}). It holds {_few(found)}: {advice}."
        ) from None
    known = {MANIFEST, CARD, *(name for name in manifest.files if is_known(name))}
    others = [n for n in found if n not in known or not stat.S_ISREG(os.lstat(target / n).st_mode)]
    if others:
        raise FormatError(
            f"{quoted(target)} also holds {_few(others)}, which do not belong to the saved modules: {advice}."
        )
    return set(found)


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(quoted(name, 60)) for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _replace(target: Path, files: Mapping[str, bytes], old: set[str], verify: Callable[[Path], object] | None) -> None:
    usual = mode_of(target / MANIFEST)  # new files of a private folder are private too
    mode = mode_of(target)
    with work_folder(target, 0o700 if mode is None else mode & 0o777) as work:
        for name, content in files.items():
            write_synced(work / name, content, mode_of(target / name) or usual)
        sync(work)
        if verify is not None:
            verify(work)
        record = commit(work, files, old - set(files))
        try:
            finish(work, record)
        except OSError as problem:
            raise FormatError(
                f"{quoted(target)}: saved, but its files cannot be moved into place ({problem.strerror}). "
                "Unbraid loads the new version; the next save moves its files."
            ) from None


def write_file(
    path: str | os.PathLike[str],
    content: bytes,
    error: type[UnbraidError] = FormatError,
    verify: Callable[[Path], object] | None = None,
) -> None:
    """Write one file atomically: after a crash there is the old file or the new one.

    An existing file keeps its mode. A symbolic link to a file is followed. A file of another kind is not replaced, and
    nothing is written into a folder of saved modules.

    Args:
        path: a regular file or a new name.
        content: the content of the file.
        error: class of the error that is raised.
        verify: called with the path of the new file before it is moved into place. It raises UnbraidError to refuse it.

    Raises:
        UnbraidError: of class ``error``: ``path`` is a folder, a device or another special file, a file of another
            kind, is inside a folder of saved modules, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_file(f"{folder}/model.onnx", b"content")
        ...     os.listdir(folder)
        ['model.onnx']
    """
    try:
        target, mode = _target(path, content, error)
        for left in abandoned(target.parent):
            if not (left / COMMIT).exists():  # else a save of this folder is still to be finished
                remove(left)
        with work_folder(target.parent) as work:
            write_synced(work / CONTENT, content, mode)
            if verify is not None:
                verify(work / CONTENT)
            os.replace(work / CONTENT, target)
            sync(target.parent)
    except OSError as problem:
        raise error(f"{quoted(path)}: cannot be written ({problem.strerror}).") from None


def check_target(path: str | os.PathLike[str], start: bytes = b"", error: type[UnbraidError] = FormatError) -> None:
    """Raise the errors of :func:`write_file` that depend on the path alone, before a long computation.

    Args:
        path: as for :func:`write_file`.
        start: first bytes of the content.
        error: class of the error that is raised.

    Raises:
        UnbraidError: of class ``error``: ``path`` cannot be replaced by such a file, or its folder is missing.
    """
    try:
        target, _ = _target(path, start, error)
    except OSError as problem:
        raise error(f"{quoted(path)}: cannot be written ({problem.strerror}).") from None
    if not target.parent.is_dir():
        raise error(f"{quoted(path)}: cannot be written (its folder does not exist): make the folder first.")


def _target(path: str | os.PathLike[str], content: bytes, error: type[UnbraidError]) -> tuple[Path, int | None]:
    """Return the file that a path names, and its mode; raise an error if the content may not be written there."""
    target = _real(path, error)
    mode = mode_of(target)
    if mode is not None and not stat.S_ISREG(os.lstat(target).st_mode):
        raise error(f"{quoted(path)} is not a regular file: give the path of a file, or a new name.")
    if (target.parent / MANIFEST).exists():
        raise error(f"{quoted(path)} is inside a folder of saved modules: choose a path outside of it.")
    if mode is not None:
        _check_kind(target, content, error)
    return target, mode


def _check_kind(target: Path, content: bytes, error: type[UnbraidError]) -> None:
    """Raise an error if a file that is not empty would be replaced by a file of another kind."""
    with target.open("rb") as file:
        old = file.read(max(map(len, STARTS)))
    kind = next((start for start in STARTS if content[: len(start)].lower() == start.lower()), None)
    if old and kind is not None and old[: len(kind)].lower() != kind.lower():
        raise error(
            f"{quoted(target)} exists and is not {STARTS[kind]}, so it would be lost: choose another name, or move it."
        )


def bytes_on_disk(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Sizes of the files of a saved folder.

    Returns:
        bytes of ``parents`` (their weights), ``modules`` (masks and weights of the modules) and ``folder`` (all files).
    """
    place = user_path(folder)
    sizes = {name: current(place, name).stat().st_size for name in os.listdir(place) if is_known(name)}
    return {"parents": sizes.get(PARENTS, 0), "modules": sizes.get(MODULES, 0), "folder": sum(sizes.values())}


def read_file(folder: Path, name: str, sha256: str | None = None) -> bytes:
    """Read a regular file of a saved folder.

    Args:
        folder: path of a saved folder.
        name: name of the file.
        sha256: digest that the content must have; None for no check.

    Raises:
        FormatError: the file is missing, a link, not a regular file, too large, or has another digest.
    """
    place = current(folder, name)
    content = read_regular(place, "json_bytes" if name.endswith(".json") else "file_bytes", follow=False)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise FormatError(f"{folder / name}: its sha256 is not the one in {MANIFEST}: the file is damaged.")
    return content


def consistently(folder: str | os.PathLike[str], read: Callable[[], T]) -> T:
    """Read several files of one version of a folder, also while it is saved.

    If a save happens between two reads, a digest differs. Then ``read`` runs again, with a lock that stops writers.

    Args:
        folder: path of the folder.
        read: reads it; raises FormatError where the files do not fit each other.

    Returns:
        what ``read`` returns.

    Raises:
        FormatError: that of the second try.
    """
    try:
        return read()
    except FormatError:
        if not os.path.isdir(user_path(folder)):  # missing, or a name that cannot be one
            raise
        place = Path(os.path.realpath(user_path(folder)))
        if is_work_folder(place):  # a save checks what it wrote; it holds the lock already
            raise
        with _without_writers(place):
            return read()


@contextmanager
def _without_writers(folder: Path) -> Iterator[None]:
    deadline = time.monotonic() + LONGEST_WAIT
    with ExitStack() as stack:
        with suppress(OSError):  # not permitted, or moved away
            while not stack.enter_context(locked(folder, wait=False, shared=True)) and time.monotonic() < deadline:
                stack.pop_all().close()
                time.sleep(0.01)
        yield
