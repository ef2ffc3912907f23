"""Data files: valid files are read, hostile files are refused."""

import io
import json
import zipfile

import numpy as np
import pytest

from unbraid.data.files import Examples, read_examples
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


def test_flipped_bits_and_scalar_names(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=np.arange(4000) % 7, y=np.zeros(4000, int))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[80:90] = bytes(255 - b for b in content[80:90])
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a readable"):
        read_examples(tmp_path / "d.npz")
    np.savez(tmp_path / "n.npz", x=np.zeros((2, 3)), y=np.zeros(2), labels=np.int64(3))
    with pytest.raises(DataError, match=r"'labels' has shape \(\), expected \(C,\)"):
        read_examples(tmp_path / "n.npz")


def labelled(y, labels=None):
    return Examples(None, y, labels)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, float])
def test_places_are_those_of_the_files_own_names(kind):
    y = np.asarray([0, 1, 2], dtype=kind)
    assert labelled(y, ["no", "home", "travel"]).y_for(["travel", "home"]).tolist() == ["no", "home", "travel"]
    assert labelled(y, ["no", "home", "travel"]).y_for(["travel", "home"], True).tolist() == ["", "home", "travel"]
    assert labelled(y).y_for(["travel", "home"], True).tolist() == [0, 1, 2]  # to be refused: there are two classes
    assert labelled(y).y_for([1, 2], True).tolist() == [-1, 1, 2]
    with pytest.raises(DataError, match="the file has 2 class names"):
        labelled(y, ["a", "b"]).y_for(["a", "b"])
    assert labelled(np.eye(3, dtype=kind), ["a", "b", "c"]).y_for(["a", "b", "c"]).tolist() == np.eye(3).tolist()


def test_written_numbers_are_names_where_they_can_be_and_else_places(tmp_path):
    rows = "".join(f"some text,{label}\n" for label in (2, 1, 3, -1))
    (tmp_path / "d.csv").write_text("text,label\n" + rows)
    found = read_examples(tmp_path / "d.csv")
    assert found.y.tolist() == ["2", "1", "3", "-1"]
    assert found.y_for(["1", "2", "3"]).tolist() == ["2", "1", "3", ""]
    assert found.y_for([1, 2]).tolist() == ["2", "1", "3", ""]
    assert found.y_for([1, 2], skip_others=True).tolist() == ["2", "1", "", ""]
    assert found.y_for(["a", "b", "c", "d"]).tolist() == [2, 1, 3, -1]
    with_words = labelled(np.asarray(["1", "0", "other"]))
    assert with_words.y_for(["1", "0"], skip_others=True).tolist() == ["1", "0", ""]
    with pytest.raises(DataError, match=r"labels \['²'\], none of which is a class in use: \['a'\]"):
        labelled(np.asarray(["²"])).y_for(["a"], skip_others=True)


def test_rows_of_labels(tmp_path):
    lines = [{"words": ["a", "b"], "tags": ["N", None]}, {"words": [], "tags": []}, {"words": ["a"], "tags": ["V"]}]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    found = read_examples(tmp_path / "d.jsonl")
    assert found.y == [["N", ""], [], ["V"]]
    assert found.y_for(["N", "X"], skip_others=True) == [["N", ""], [], [""]]
    assert labelled([["1", "0"], ["1"]]).y_for(["N", "V"]) == [[1, 0], [1]]
    for wrong in (3, None, "N", {"a": 1}):
        (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(d) for d in (*lines, {"words": ["a"], "tags": wrong})))
        with pytest.raises(DataError, match=r"example 3: its label is .*, expected a list"):
            read_examples(tmp_path / "d.jsonl")
    (tmp_path / "d.jsonl").write_text(json.dumps({"words": ["a"], "tags": [["N"]]}))
    with pytest.raises(DataError, match=r"example 0: .* is not a label"):
        read_examples(tmp_path / "d.jsonl")
