"""Reading HDF5 files from untrusted sources: only what is stored in the file, and never more than the file has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import h5py
import numpy as np

from unbraid.errors import FormatError, UnbraidError, quoted
from unbraid.limits import check_size
from unbraid.networks.keras.attributes import attribute_texts
from unbraid.networks.keras.config import shown
from unbraid.networks.keras.heap import Content

Shape = tuple[int | None, ...]  # None: any size


@contextmanager
def reading(file: str, what: str) -> Iterator[None]:
    """Turn every error of h5py, zipfile and zlib into one that names the file: this is the reader's one boundary."""
    try:
        yield
    except UnbraidError:
        raise
    except Exception as error:  # h5py raises nearly every class there is
        reason = quoted(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise FormatError(f"{file}: {what} cannot be read ({reason}): the file is damaged or cut short.") from None


class Store:
    """An open HDF5 file.

    Args:
        file: its name, for messages.
        opened: the file.
        content: its bytes. All arrays together may not have more, or one stored array could be read many times.
    """

    def __init__(self, file: str, opened: h5py.File, content: Content) -> None:
        self.file, self._opened, self._content, self._left = file, opened, content, len(content)

    def root(self) -> h5py.Group:
        """Return the topmost group."""
        with reading(self.file, "the root group"):
            return self._opened["/"]

    def members(self, group: h5py.Group) -> list[str]:
        """List the members of a group; names that are not valid text are left out."""
        with reading(self.file, f"group {shown(group.name)}"):
            return [name for name in group if isinstance(name, str)]

    def has(self, group: h5py.Group, name: str) -> bool:
        """Return whether a group has a member or an attribute of a name. Links are not followed."""
        with reading(self.file, f"group {shown(group.name)}"):
            return bool(group.id.links.exists(name.encode())) or name in group.attrs

    def group(self, parent: h5py.Group, path: str) -> h5py.Group:
        """Return the group at a path."""
        found = self._at(parent, path)
        if not isinstance(found, h5py.Group):
            problem = "is missing" if found is None else "is no group"
            raise FormatError(f"{self.file}: {self._name(parent, path)} {problem}; expected a group.")
        return found

    def text_attribute(self, group: h5py.Group, field: str) -> str | None:
        """Return a string attribute; None if it is missing."""
        with reading(self.file, f"field {field!r}"):
            if field not in group.attrs:
                return None
            return self._texts(group, field, shape=())[0]

    def text_list(self, group: h5py.Group, field: str, length: int | None = None) -> list[str]:
        """Return an attribute of ``length`` strings; None for any number of them."""
        with reading(self.file, f"field {field!r} of {shown(group.name)}"):
            if field not in group.attrs:
                wanted = "names" if length is None else f"{length} names"
                raise FormatError(f"{self.file}: {shown(group.name)} has no field {field!r}, expected {wanted}.")
            if length is None:
                shape = h5py.h5a.open(group.id, field.encode()).shape
                length = shape[0] if len(shape) == 1 else -1
                check_size(length, "json_bytes", self.file, f"number of names in {field!r}")
            return self._texts(group, field, shape=(length,))

    def array(self, parent: h5py.Group, path: str, shape: Shape, used: bool = True) -> np.ndarray:
        """Return the dataset at a path as float32.

        Args:
            parent: where the path starts.
            path: names joined by slashes.
            shape: expected shape; None for any size.
            used: whether its values are read. If not, the dataset only has to exist, and the result is empty.

        Raises:
            FormatError: it is missing, of another shape or type, or not really in the file.
        """
        found, name = self._at(parent, path), self._name(parent, path)
        wanted = "floats of shape (" + ", ".join("any" if s is None else str(s) for s in shape) + ")"
        if not isinstance(found, h5py.Dataset):
            raise FormatError(f"{self.file}: dataset {name} is missing, expected {wanted}.")
        if not used:
            return np.zeros(0, np.float32)
        with reading(self.file, f"dataset {name}"):
            self._check_dataset(found, name, shape, wanted)
            stored = found[()]
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which Network refuses
            return np.asarray(stored).astype(np.float32, copy=False)

    def _check_dataset(self, found: h5py.Dataset, name: str, shape: Shape, wanted: str) -> None:
        if found.shape is None or not _fits(found.shape, shape):
            raise FormatError(f"{self.file}: dataset {name} has shape {found.shape}, expected {wanted}.")
        if found.dtype.kind != "f" or found.dtype.itemsize not in (2, 4, 8):
            raise FormatError(f"{self.file}: dataset {name} holds {found.dtype}, expected {wanted}.")
        layout = found.id.get_create_plist()
        whole = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)  # as Keras stores them: neither in chunks nor virtual
        if layout.get_layout() not in whole or layout.get_external_count():
            raise FormatError(
                f"{self.file}: dataset {name} is compressed, in chunks or outside the file; expected plain {wanted}."
            )
        stored = min(found.id.get_storage_size(), self._left)
        if found.nbytes > stored:
            raise FormatError(
                f"{self.file}: dataset {name} claims {found.nbytes} bytes, the file holds {stored} for it."
            )
        self._left -= found.nbytes

    def _texts(self, group: h5py.Group, field: str, shape: tuple[int, ...]) -> list[str]:
        """Return the strings of an attribute of this shape."""
        attribute = h5py.h5a.open(group.id, field.encode())
        kind = h5py.check_string_dtype(attribute.dtype)
        if attribute.shape != shape or kind is None:
            raise FormatError(
                f"{self.file}: {shown(group.name)}: field {field!r} is {attribute.dtype} {attribute.shape}, "
                f"expected {shape[0] if shape else 'one'} text{'s' if shape else ''}."
            )
        if kind.length is None:
            header = h5py.h5o.get_info(group.id).addr
            return attribute_texts(self._content, header, field, shape[0] if shape else 1)
        if attribute.get_storage_size() > len(self._content):
            raise FormatError(f"{self.file}: field {field!r} declares more bytes than the file has: it is damaged.")
        return [v.decode("utf-8") for v in np.atleast_1d(group.attrs[field]).tolist()]

    def _at(self, parent: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
        """Return the object at a path. Each step is checked, so that no link leaves the file."""
        found = parent
        for step in [part for part in path.split("/") if part]:
            with reading(self.file, self._name(parent, path)):
                link = found.get(step, getlink=True) if isinstance(found, h5py.Group) else None
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    raise FormatError(
                        f"{self.file}: {self._name(parent, path)} is a link; expected data in the file itself."
                    )
                found = found[step]
        return found

    def _name(self, parent: h5py.Group, path: str) -> str:
        return shown(f"{parent.name or ''}/{path}".replace("//", "/"))


def _fits(found: Sequence[int], shape: Shape) -> bool:
    return len(found) == len(shape) and all(w is None or f == w for f, w in zip(found, shape, strict=True))
