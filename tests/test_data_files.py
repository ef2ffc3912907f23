"""Data files: what is read, and what hostile ones get."""

import io
import zipfile

import numpy as np
import pytest

from unbraid.data_files import read_examples
from unbraid.errors import DataError


def test_reads_arrays_and_names(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(6).reshape(2, 3), y=np.array([0, 1]), labels=np.array(["a", "b"]))
    found = read_examples(tmp_path / "d.npz")
    assert found.x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.y.tolist() == [0, 1] and found.labels == ["a", "b"]


def test_labels_may_be_missing_for_prediction(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)))
    assert read_examples(tmp_path / "d.npz", need_labels=False).y is None
    with pytest.raises(DataError, match="no array 'y'"):
        read_examples(tmp_path / "d.npz")


def test_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([print, None], dtype=object), y=np.zeros(2))
    with pytest.raises(DataError, match="Python objects"):
        read_examples(tmp_path / "d.npz")


def test_a_declared_size_is_not_believed(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())
    with pytest.raises(DataError, match="declares 8000000000000 bytes"):
        read_examples(tmp_path / "d.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"not a zip at all"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a readable"):
        read_examples(tmp_path / "d.npz")
