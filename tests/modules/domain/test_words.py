"""Word counts: what is kept, the density against a literal loop, and refusals of counts that cannot be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from unbraid.errors import FormatError
from unbraid.modules.domain.words import LEAST, MOST, MOST_OF_CLASS, Unigrams, WordCounts, words_of

TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Book a flight, please!", ["book", "a", "flight", "please"]),
        ("don't", ["don't"]),
        ("", []),
        ("...", []),
        (["New", "York", "."], ["new", "york"]),
        ("snake_case", ["snake", "case"]),
        ("Ärger 42", ["ärger", "42"]),
    ],
)
def test_texts_are_split_in_one_way(text, words):
    assert words_of(text) == words


def test_rare_words_are_not_kept_but_counted():
    found = WordCounts.of([["a"] * 5 + ["b"] * LEAST + ["c"] * (LEAST - 1), ["secret"]])
    assert found.counts == {"a": 5, "b": LEAST}
    assert found.total == 5 + LEAST + LEAST - 1 + 1


def test_the_most_frequent_words_are_kept():
    texts = [[f"w{n}"] * (LEAST + (n >= 10)) for n in range(MOST + 10)]
    found = WordCounts.of(texts)
    assert len(found.counts) == MOST
    assert not {f"w{n}" for n in range(10)} & set(found.counts)


def test_texts_without_words_give_no_counts():
    assert WordCounts.of([[], []]) is None


@settings(deadline=None, max_examples=50)
@given(TEXTS, TEXTS, TEXTS)
def test_the_density_is_that_of_the_literal_loop(first, second, texts):
    counts = [WordCounts.of(one) for one in (first, second)]
    if None in counts:
        return
    found = Unigrams(counts).densities(texts)
    every = [each.counts for each in counts]
    expected = [[reference.unigram(each.counts, each.total, every, text) for each in counts] for text in texts]
    np.testing.assert_allclose(found, np.asarray(expected).reshape(found.shape), rtol=1e-9, atol=1e-9)
    assert np.exp(Unigrams(counts).logs).sum(0) == pytest.approx([1, 1])


def test_a_text_belongs_to_the_parent_with_its_words():
    travel = WordCounts.of([["book", "a", "flight"]] * 5)
    law = WordCounts.of([["the", "jury", "said"]] * 5)
    found = Unigrams([travel, law]).densities([["a", "flight"], ["the", "jury"], []])
    assert found[0, 0] > found[0, 1]
    assert found[1, 0] < found[1, 1]
    assert found[2].tolist() == [0, 0]


def test_repeated_words_within_texts_increase_the_dispersion():
    rng = np.random.default_rng(0)
    words = np.asarray(["a"] * 8 + ["b"] * 4 + ["c"] * 2 + ["d"])
    apart = [rng.choice(words, 10).tolist() for _ in range(400)]
    together = [[word] * 10 for word in rng.choice(words, 400).tolist()]
    counts = WordCounts.of(apart)
    assert 1 <= counts.dispersion_of(apart) < 1.3
    assert counts.dispersion_of(together) == pytest.approx(10, rel=0.3)
    assert counts.dispersion_of([[]]) == 1


@pytest.mark.parametrize(
    ("counts", "total"),
    [
        ({"a": LEAST - 1}, 10),
        ({"A": 5}, 10),
        ({"two words": 5}, 10),
        ({"": 5}, 10),
        ({"a" * 101: 5}, 10),
        ({"a": 5}, 4),
        ({}, 0),
        ({"a": 2**60}, 2**61),
        ({f"w{n}": 3 for n in range(MOST + 1)}, 10**6),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, total):
    with pytest.raises(FormatError):
        WordCounts(counts, total)


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.data())
def test_words_of_classes_are_counted_and_compared_as_in_the_literal_loop(texts, data):
    counts = WordCounts.of(texts)
    if counts is None:
        return
    decided = data.draw(st.lists(st.integers(0, 2), min_size=len(texts), max_size=len(texts)))
    found = counts.with_classes(texts, decided, 3)
    for index in range(3):
        own = [word for words, place in zip(texts, decided, strict=True) if place == index for word in words]
        assert found.by_class[index] == {w: own.count(w) for w in counts.counts if own.count(w) >= LEAST}
    expected = [
        reference.class_ratio(found.counts, found.total, found.by_class[place], text)
        for text, place in zip(texts, decided, strict=True)
    ]
    np.testing.assert_allclose(found.class_ratios(texts, decided), expected, rtol=1e-9, atol=1e-9)


def test_a_class_without_words_favours_no_text():
    counts = WordCounts.of([["a"] * 9, ["b"] * 9]).with_classes([["a"] * 9], [0], 2)
    found = counts.class_ratios([["a"], ["b"], ["c"], [], ["a"], ["c"]], [0, 0, 0, 0, 1, 1])
    assert found[0] > 0 > found[1] == pytest.approx(found[2])  # no word of the class, known or not
    assert found[3:].tolist() == pytest.approx([0, 0, 0], abs=1e-12)


def test_the_most_frequent_words_of_a_class_are_kept():
    texts = [[f"w{n}"] * (LEAST + (n >= 10)) for n in range(MOST_OF_CLASS + 10)]
    found = WordCounts.of(texts).with_classes(texts, [1] * len(texts), 2)
    assert found.by_class[0] == {}
    assert set(found.by_class[1]) == {f"w{n}" for n in range(10, MOST_OF_CLASS + 10)}


@pytest.mark.parametrize("by_class", [[{"a": 10}], [{"b": 3}], [{"a": LEAST - 1}], [{}, {"a": 0}]])
def test_impossible_words_of_a_class_are_refused(by_class):
    with pytest.raises(FormatError, match="by_class"):
        WordCounts({"a": 9}, 20, by_class=by_class)
