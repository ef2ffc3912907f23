"""Members of a ``.keras`` archive, a zip file: declared sizes are checked before memory is allocated."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj

from unbraid.errors import FormatError
from unbraid.networks.keras.config import shown
from unbraid.networks.keras.content import WHOLE, foreign_archive
from unbraid.networks.keras.hdf5 import reading

MAX_INFLATION = 10  # trained weights hardly compress; a member that grows more than this is a bomb
_SPARE = 2**20  # small HDF5 files are mostly empty
_MAX_MEMBERS = 10_000
_MAX_DIRECTORY = 2**22  # bytes of the list of members
_CHUNK = 2**20


class Archive:
    """The members of an open archive.

    Args:
        name: name of the file, for messages.
        opened: the archive.
        size: bytes of the file.

    Raises:
        FormatError: a member is outside the archive, repeated, or declares far more bytes than are stored.
    """

    def __init__(self, name: str, opened: zipfile.ZipFile, size: int) -> None:
        self.name, self._opened = name, opened
        self._members = _checked(name, opened.infolist(), size)
        if foreign := foreign_archive(name, list(self._members)):
            raise foreign

    @property
    def members(self) -> list[str]:
        """Names of all members."""
        return list(self._members)

    def read(self, member: str) -> bytes:
        """Read a member; raise FormatError if it is missing, encrypted, damaged or of another size."""
        if member not in self._members:
            raise FormatError(
                f"{self.name}: member {member!r} is missing, found {shown(sorted(self._members))}; {WHOLE}."
            )
        info = self._members[member]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise FormatError(f"{self.name}: member {member!r} is encrypted or compressed otherwise than by deflate.")
        target = io.BytesIO()
        with self._opened.open(info) as stream:
            copyfileobj(stream, target, _CHUNK)  # in chunks: zipfile would hold all of it twice
        if target.tell() != info.file_size:
            raise FormatError(f"{self.name}: member {member!r} has {target.tell()} bytes, expected {info.file_size}.")
        return target.getvalue()


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a ``.keras`` file; raise FormatError if it is damaged."""
    name, size = path.name, path.stat().st_size
    with (
        reading(name, "the .keras archive"),
        _ShortReads(io.FileIO(path)) as stream,
        zipfile.ZipFile(stream) as opened,
    ):
        yield Archive(name, opened, size)


class _ShortReads(io.BufferedReader):
    """A file that refuses one large read, because zipfile reads the whole list of members at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"the list of members has {size} bytes, expected at most {_MAX_DIRECTORY}")
        return super().read(size)


def _checked(name: str, infos: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    if len(infos) > _MAX_MEMBERS:
        raise FormatError(f"{name} has {len(infos)} members, expected a few: this is no .keras archive.")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        member = info.filename
        if member.startswith(("/", "\\")) or "\\" in member or ":" in member or ".." in member.split("/"):
            raise FormatError(f"{name}: member {shown(member)} points outside the archive; expected plain names.")
        if member in members:
            raise FormatError(f"{name}: member {shown(member)} is there twice; expected once.")
        if info.file_size > MAX_INFLATION * min(info.compress_size, size) + _SPARE:
            raise FormatError(
                f"{name}: member {shown(member)} declares {info.file_size} bytes from {info.compress_size} stored "
                f"ones, expected at most {MAX_INFLATION} times as many: a zip bomb or a damaged file."
            )
        members[member] = info
    return members
