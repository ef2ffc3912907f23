import numpy as np
import pytest

from unbraid.demo.names import CATEGORIES, PADDING, UNKNOWN, NameExamples, load_names, split


@pytest.fixture(scope="module")
def names() -> NameExamples:
    return load_names()


def test_shapes_and_sizes(names):
    assert 10_000 < len(names.x_train) < 15_000
    assert 1_500 < len(names.x_test) < 3_000
    for x, y in ((names.x_train, names.y_train), (names.x_test, names.y_test)):
        assert x.shape == (len(y), 8)
        assert x.dtype == y.dtype == np.int64
        assert x.min() >= 0 and x.max() < len(names.vocabulary) + 2


def test_every_class_is_in_both_parts(names):
    assert names.labels == list(CATEGORIES)
    assert np.bincount(names.y_train, minlength=8).min() > 500
    assert np.bincount(names.y_test, minlength=8).min() > 80
    assert np.bincount(names.y_train).max() <= 2000


def test_a_second_call_gives_the_same(names):
    again = load_names()
    assert again.vocabulary == names.vocabulary
    for part in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(again, part), getattr(names, part))


def test_another_seed_chooses_other_names(names):
    other = load_names(seed=1)
    assert other.x_train.shape != names.x_train.shape or (other.x_train != names.x_train).any()


def test_known_training_names_are_no_test_names(names):
    """Each row without an unknown word belongs to one name."""
    rows = np.concatenate([names.x_train, names.x_test])
    rows = rows[(rows != UNKNOWN).all(axis=1)]
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_vocabulary_comes_from_the_training_part(names):
    assert set(names.vocabulary.values()) == set(range(2, len(names.vocabulary) + 2))
    assert set(names.vocabulary.values()) <= set(names.x_train.flatten().tolist())
    assert UNKNOWN in names.x_test


def test_padding_stands_in_front(names):
    assert (np.diff((names.x_train != PADDING).astype(int), axis=1) >= 0).all()
    assert (names.x_train[:, -1] != PADDING).all()


def test_encode(names):
    row = names.encode(["Greek small letter flurb"])[0]
    known = [names.vocabulary[word] for word in ("GREEK", "SMALL", "LETTER")]
    assert row.tolist() == [PADDING] * 4 + [*known, UNKNOWN]


def test_split_cuts_and_parts_hyphens():
    assert split("Mathematical sans-serif bold", 3) == ("MATHEMATICAL", "SANS", "SERIF")
