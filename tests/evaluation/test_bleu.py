import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unbraid.errors import DataError
from unbraid.evaluation.bleu import paper_bleu, translation_scores

words = st.lists(st.sampled_from("abcd"), max_size=8)
corpora = st.lists(st.tuples(words, words), min_size=1, max_size=4)


def test_bleu_at_known_points():
    said = ["the", "cat", "is", "on", "the", "mat", "today"]
    assert paper_bleu([said], [said]) == pytest.approx(1)
    assert paper_bleu([said], [["x", "y", "z", "w"]]) == 0
    wanted = ["the", "cat", "sat", "on", "the", "mat", "today"]  # 6 of 7, 4 of 6, 2 of 5, 1 of 4
    assert paper_bleu([said], [wanted]) == pytest.approx((6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25)
    short = said[:4]  # all right, but three words too few
    assert paper_bleu([short], [said]) == pytest.approx(math.exp(1 - 7 / 4))


@given(pairs=corpora)
def test_bleu_equals_counting_by_hand(pairs):
    """Count right n-grams one by one; each n-gram of the reference is used once."""
    precisions = []
    for n in (1, 2, 3, 4):
        right = total = 0
        for said, wanted in pairs:
            left = [tuple(wanted[i : i + n]) for i in range(len(wanted) - n + 1)]
            found = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
            for gram in found:
                if gram in left:
                    left.remove(gram)
                    right += 1
            total += max(1, len(found))
        precisions.append(right / total)
    found = paper_bleu([s for s, _ in pairs], [w for _, w in pairs])
    if not all(precisions):
        assert found < 1e-60
        return
    ours, theirs = sum(len(s) for s, _ in pairs), sum(len(w) for _, w in pairs)
    brevity = 1 if ours > theirs else math.exp(1 - theirs / ours)
    assert found == pytest.approx(brevity * math.prod(precisions) ** 0.25)


def test_scores_carry_their_signatures():
    said, wanted = ["Je vois le chien .", "oui, bien"], ["je vois le chien.", "oui, très bien"]
    scores = translation_scores(said, wanted, ([s.split() for s in said], [w.split() for w in wanted]))
    assert 0 < scores.bleu < 100 and 0 < scores.chrf < 100 and scores.sentences == 2
    assert "case:lc" in scores.bleu_signature and "version:" in scores.bleu_signature
    assert "case:lc" in scores.chrf_signature
    perfect = translation_scores(wanted, wanted, ([w.split() for w in wanted],) * 2)
    assert perfect.bleu == pytest.approx(100) and perfect.chrf == pytest.approx(100)
    with pytest.raises(DataError, match="expected one reference for each"):
        translation_scores(said, wanted[:1], ([], []))
