"""Replace the files of a folder as one step, with a redo log.

A save writes all new files into a working folder inside the target, and then a commit record. The old version is
current until the record has its name, and the new version afterwards. The new files are moved into place one by one. A
reader reads files that are not moved yet from the working folder, also after a crash.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unbraid.errors import FormatError
from unbraid.limits import read_regular
from unbraid.storage.layout import is_known
from unbraid.storage.workfolder import COMMIT, UNCOMMITTED, abandoned, remove, sync, work_folders, write_synced


class Record(BaseModel):
    """The changes that a committed working folder makes to its parent folder.

    Attributes:
        token: the token of the working folder.
        files: names of the files of the new version.
        removed: names of files of the old version that the new one does not have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str
    files: list[str]
    removed: list[str]


def commit(work: Path, files: Iterable[str], removed: Iterable[str]) -> Record:
    """Make the files in ``work`` the current version of its parent folder."""
    record = Record(token=_token(work), files=sorted(files), removed=sorted(removed))
    write_synced(work / UNCOMMITTED, record.model_dump_json().encode())
    sync(work)
    os.rename(work / UNCOMMITTED, work / COMMIT)
    sync(work)
    return record


def finish(work: Path, record: Record) -> None:
    """Move the files of a committed working folder into place. A second or interrupted call changes nothing."""
    folder = work.parent
    for name in record.files:
        with suppress(FileNotFoundError):  # moved already
            os.replace(work / name, folder / name)
    for name in record.removed:
        with suppress(FileNotFoundError):
            os.unlink(folder / name)
    sync(folder)
    remove(work)


def settle(folder: Path) -> None:
    """Finish committed saves in ``folder`` that were killed, and delete the files of uncommitted ones."""
    for work in abandoned(folder, wait=True):
        record = _record(work)
        if record is not None:
            finish(work, record)
        elif not (work / COMMIT).exists():
            remove(work)


def recover(folder: Path) -> None:
    """Finish committed saves in ``folder`` that were killed, if permitted; :func:`current` reads them anyway."""
    with suppress(OSError):
        for work in abandoned(folder):
            record = _record(work)
            if record is not None:
                finish(work, record)


def current(folder: Path, name: str) -> Path:
    """Return the path of the current version of a file: in a committed working folder until it is moved."""
    for work in work_folders(folder):
        record = _record(work)
        if record is not None and name in record.files and os.path.lexists(work / name):
            return work / name
    return folder / name


def _record(work: Path) -> Record | None:
    """Read the commit record of a working folder; None if there is none, or if it was not written by a save."""
    if not os.path.lexists(work / COMMIT):
        return None
    try:
        record = Record.model_validate_json(read_regular(work / COMMIT, "json_bytes", follow=False))
    except (FormatError, ValidationError):
        return None
    fits = record.token == _token(work) and all(is_known(name) for name in [*record.files, *record.removed])
    return record if fits else None


def _token(work: Path) -> str:
    return work.name.removeprefix(".unbraid-")
