"""Arrays and labels of all kinds are read, or refused with a DataError."""

import datetime

import numpy as np
import pytest
import torch

from unbraid.data.arrays import as_array
from unbraid.data.targets import labels_at, plain_labels, read_targets
from unbraid.errors import DataError


class Series:
    """A column like that of pandas: ``to_numpy()`` and iteration, but not a sequence."""

    def __init__(self, values, dtype=None):
        self.values = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=dtype)

    def to_numpy(self):
        return self.values

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)


class Own:
    """An object whose conversion raises an error of another library."""

    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("own error")


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def deep():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3, 4]],
        ((1, 2), (3, 4)),
        [range(1, 3), range(3, 5)],
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([[1.0, 2], [3, 4]], requires_grad=True),
        torch.tensor([[1.0, 2], [3, 4]], dtype=torch.bfloat16),
        [torch.tensor([1.0, 2], requires_grad=True), torch.tensor([3.0, 4])],
        np.array([[1, 2], [3, 4]]).view(np.matrix),
        np.ma.masked_array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=">i4"),
        np.array([[1, 2], [3, 4]], dtype=object),
        Series([[1, 2], [3, 4]]),
        Series(objects([1, 2], [3, 4])),
        objects(np.array([1, 2]), np.array([3, 4])),
    ],
)
def test_numbers_in_any_container_are_read(value):
    found = as_array(value)
    assert type(found) is np.ndarray and found.dtype.kind in "iuf" and found.dtype.isnative
    assert found.tolist() == [[1, 2], [3, 4]]


WRONG = {
    "a string": ("text", "single str.*pass a list"),
    "bytes": (b"text", "single bytes"),
    "nothing": (None, "NoneType"),
    "a set": ({1, 2}, "are a set"),
    "a dict": ({"a": 1}, "are a dict"),
    "a generator": ((n for n in (1, 2)), "only once"),
    "an iterator": (iter([1, 2]), "only once"),
    "an object": (object(), "expected an array"),
    "a function": (print, "expected an array"),
    "ragged rows": ([[1], [1, 2]], "different lengths"),
    "ragged objects": (objects([1], [1, 2]), "different lengths"),
    "a list in itself": (deep(), "inputs"),
    "none in a list": ([1, None], "missing values"),
    "none beside text": (["a", None], "missing values"),
    "NaN beside text": (["a", float("nan")], "missing values"),
    "large numbers": ([10**30, 1], "too large"),
    "larger numbers": ([10**400, 1.0], "inputs"),
    "masked entries": (np.ma.masked_array([1, 2], [0, 1]), "masked entries"),
    "a tensor on meta": (torch.ones(2, device="meta"), "meta device"),
    "a sparse tensor": (torch.eye(2).to_sparse(), "sparse"),
    "invalid bytes": (np.array([b"\xff"]), "not UTF-8"),
    "half a surrogate": (["a\ud800"], "not valid Unicode"),
    "no character": (np.array([0x80000033], np.uint32).view("<U1"), "not valid Unicode"),
    "an error of its own": (Own(), "own error"),
    "a date object": ([datetime.date(2020, 1, 1)], "type date"),
}


@pytest.mark.parametrize(("value", "message"), WRONG.values(), ids=WRONG)
def test_everything_else_is_refused(value, message):
    with pytest.raises(DataError, match=message):
        as_array(value)


LABELS = {
    "a list": ["b", "a", ""],
    "indices": [1, 0, -1],
    "floats": np.asarray([1.0, 0, -1]),
    "a tensor": torch.tensor([1, 0, -1]),
    "bfloat16": torch.tensor([1.0, 0, -1], dtype=torch.bfloat16),
    "bytes": np.array([b"b", b"a", b""]),
    "objects": np.array(["b", "a", ""], dtype=object),
    "a column": Series(["b", "a", ""], dtype=object),
    "a column of numbers": Series([1, 0, -1]),
    "NumPy strings": [np.str_("b"), np.str_("a"), np.str_("")],
    "a column vector": np.asarray([[1], [0], [-1]]),
}


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_labels_in_any_container_are_read(y):
    assert read_targets(y, ["a", "b"], many=False, examples=3).y.tolist() == [1, 0, -1]


WRONG_LABELS = {
    "NaN": ([0.0, np.nan], "fractions, NaN"),
    "fractions": ([0.0, 0.5], "fractions"),
    "a huge float": ([0.0, 1e300], "fractions, NaN or numbers beyond"),
    "the largest uint64": (np.array([0, 2**64 - 1], np.uint64), "beyond 64 bits"),
    "huge whole numbers": ([0, 10**30], "too large"),
    "missing": (["a", None], "missing values"),
    "missing as NaN": (np.array(["a", np.nan], dtype=object), "missing values"),
    "nested": ([["a"], ["a", "b"]], "different lengths"),
    "two columns": (np.zeros((2, 2, 2)), "labels have shape"),
    "a scalar": (np.int64(1), "labels have shape"),
    "complex": (np.array([1j, 0]), "complex"),
    "dates": (np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), "datetime64"),
    "longer": ([0, 1, 0], "3 labels for 2 inputs"),
    "shorter": ([0], "1 labels for 2 inputs"),
    "empty": ([], "empty"),
    "unknown": (["a", "z"], r"\['z'\] are not classes"),
    "out of range": ([0, 2], "0 to 1"),
    "bytes that are no text": (np.array([b"\xff", b"a"]), "not UTF-8"),
    "a string": ("ab", "single str"),
    "a dict": ({0: "a", 1: "b"}, "are a dict"),
    "a set": ({"a", "b"}, "are a set"),
    "a generator": ((v for v in "ab"), "only once"),
    "nothing": (None, "NoneType"),
    "no labels": ([-1, -1], "no example has a label"),
    "a long name": (["a", "z" * 10_000], "are not classes"),
}


@pytest.mark.parametrize(("y", "message"), WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_wrong_labels_are_refused(y, message):
    with pytest.raises(DataError, match=message) as caught:
        read_targets(y, ["a", "b"], many=False, examples=2)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("y", [[["0", "1"], ["1", "0"]], [[0, 2], [1, 0]], [[np.nan, 0], [0, 1]], [0, 1], "ab", None])
def test_wrong_labels_of_independent_classes_are_refused(y):
    with pytest.raises(DataError):
        read_targets(y, ["a", "b"], many=False, independent=True, examples=2)


def test_names_that_are_equal_as_strings_are_not_mixed_up():
    assert read_targets([1, 0], [1, "1"], many=False).y.tolist() == [1, 0]
    with pytest.raises(DataError, match="equal as strings"):
        read_targets(["1", "1"], [1, "1"], many=False)


@pytest.mark.parametrize(
    "labels", ["abc", b"abc", {"a", "b"}, {"a": 1}, 3, None, [1.5], [None], ["a", "\ud800"], [b"a"]]
)
def test_class_names_are_strings_or_whole_numbers(labels):
    with pytest.raises(DataError, match="label"):
        plain_labels(labels)
    assert plain_labels((np.int64(3), np.str_("a"))) == [3, "a"]


def test_no_decision_gets_no_label():
    assert labels_at(["a", "b"], np.array([1, -1])).tolist() == ["b", ""]
    assert labels_at([7, 8], np.array([[0, -1]])).tolist() == [[7, -1]]
    assert labels_at([7, "b"], np.array([0, 1, -1])).tolist() == [7, "b", ""]
    assert labels_at([7, 8], np.array([0])).dtype.kind == "i"
