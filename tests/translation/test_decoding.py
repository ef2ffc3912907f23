import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import factory, reference
from tests.factory import CELLS
from unbraid import decompose
from unbraid.errors import ConfigError, DataError
from unbraid.translation.decoding import decode
from unbraid.translation.language_model import module_model, network_model
from unbraid.translation.translator import translate_whole
from unbraid.translation.words import sentence_vocabulary

stacks = st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=2).map(tuple)
LONGEST = 6


def banned(net):
    return {0, *(tag.start for tag in net.spec.languages)}


def ends(net):
    return {tag.end for tag in net.spec.languages}


@settings(max_examples=25)
@given(cells=stacks, mask=st.booleans(), seed=st.integers(0, 999))
def test_greedy_says_what_the_oracle_says_prefix_by_prefix(cells, mask, seed):
    net = factory.translator(cells, mask=mask, seed=seed)
    x, _ = factory.sentence_pairs(net, 4, seed)
    plain = reference.plain_translator(net)
    for tag in net.spec.languages:
        found = decode(network_model(net, tag.name), torch.from_numpy(x["source"]), LONGEST)
        for row, words in enumerate(found):
            assert words == reference.say(plain, x["source"][row], tag.start, banned(net), ends(net), LONGEST)


@settings(max_examples=25)
@given(cells=stacks, mode=st.sampled_from(["rolled", "unrolled"]), seed=st.integers(0, 999))
def test_a_module_says_what_the_oracle_says(cells, mode, seed):
    net = factory.translator(cells, seed=seed)
    x, y = factory.sentence_pairs(net, 18, seed)
    parts = decompose(net, (x, y), strategy="paper", mode=mode, max_removed=0.5)
    plain = reference.plain_translator(net)
    for tag, module in zip(net.spec.languages, parts.values(), strict=True):
        found = decode(module_model(module), torch.from_numpy(x["source"][:3]), LONGEST)
        removed = factory.as_removed(module.concern)
        for row, words in enumerate(found):
            wanted = reference.say(plain, x["source"][row], tag.start, banned(net), ends(net), LONGEST, removed)
            assert words == wanted


def scored(net, source, tag, words, ended):
    """Compute the mean log probability per word, with the last token."""
    plain = reference.plain_translator(net)
    scores, _ = reference.teach(plain, source, [tag.start, *words])
    total = 0.0
    said = [*words, None] if ended else words
    for t, word in enumerate(said):
        row = scores[t].copy()
        row[list(banned(net))] = -np.inf
        logs = row - row.max() - np.log(np.exp(row - row.max()).sum())
        total += max(logs[end] for end in ends(net)) if word is None else logs[word]
    return total / len(said)


@settings(max_examples=15)
@given(cell=st.sampled_from(["lstm", "gru", "vanilla"]), seed=st.integers(0, 999))
def test_a_wide_beam_finds_the_best_sentence_of_all(cell, seed):
    """With a beam for all hypotheses, the search covers all sentences of at most two words."""
    net = factory.translator((cell,), seed=seed)
    source = factory.sentence_pairs(net, 1, seed)[0]["source"]
    tag = net.spec.languages[0]
    (found,) = decode(network_model(net, "fr"), torch.from_numpy(source), 2, beam=400)
    sayable = [w for w in range(20) if w not in banned(net) | ends(net)]
    best = scored(net, source[0], tag, [], True)
    best = max(best, *(scored(net, source[0], tag, [w], True) for w in sayable))
    best = max(best, *(scored(net, source[0], tag, [v, w], False) for v in sayable for w in sayable))
    own = scored(net, source[0], tag, found, len(found) < 2)
    assert own == pytest.approx(best, abs=1e-4)


@settings(max_examples=15)
@given(cells=stacks, beam=st.integers(2, 5), seed=st.integers(0, 999))
def test_sentences_of_a_batch_do_not_touch_each_other(cells, beam, seed):
    net = factory.translator(cells, seed=seed)
    source = torch.from_numpy(factory.sentence_pairs(net, 5, seed)[0]["source"])
    model = network_model(net, "de")
    for width in (1, beam):
        together = decode(model, source, LONGEST, width)
        assert together == [decode(model, row.unsqueeze(0), LONGEST, width)[0] for row in source]


def test_an_unrolled_module_says_no_more_than_its_timesteps():
    net = factory.translator(("lstm",))
    x, y = factory.sentence_pairs(net, steps=3)
    model = module_model(decompose(net, (x, y), strategy="paper", mode="unrolled")["it"])
    assert model.longest == 3
    assert max(map(len, decode(model, torch.from_numpy(x["source"]), 40))) <= 3
    states = model.body.encode(torch.from_numpy(x["source"]))
    with pytest.raises(DataError, match="made for 3"):
        model.scores(torch.full((len(x["source"]),), 2), states, 3)


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"longest": 0}])
def test_numbers_below_one_are_refused(wrong):
    net = factory.translator()
    with pytest.raises(ConfigError, match="at least 1"):
        decode(network_model(net, "fr"), torch.ones(1, 2, dtype=torch.long), **wrong)
    with pytest.raises(DataError, match="has no language 'es'"):
        network_model(net, "es")


@pytest.mark.parametrize("mask", [True, False])
def test_a_translation_does_not_depend_on_other_sentences(mask):
    net = factory.translator(mask=mask)
    words, targets = [f"s{n}" for n in range(9)], [f"t{n}" for n in range(10)]
    net.with_vocabulary(sentence_vocabulary(words), sentence_vocabulary(targets, factory.LANGUAGES))
    texts = ["s1", "s2 s3 s4 s5 s6", "s7 s8", "", "s1 s1 s2", "s3"]
    alone = [translate_whole(net, [text], "fr")[0] for text in texts]
    assert translate_whole(net, texts, "fr") == alone
    assert translate_whole(net, iter(texts), "fr") == alone
    assert translate_whole(net, np.asarray(texts), "fr") == alone


@pytest.mark.parametrize("texts", ["s1", None, {"s1"}, {"s1": "t1"}, 3, [["s1"]], [None], ["s1", 2]])
def test_what_is_no_list_of_texts_is_not_translated(texts):
    net = factory.translator()
    net.with_vocabulary(sentence_vocabulary(["s1"]), sentence_vocabulary(["t1"], factory.LANGUAGES))
    with pytest.raises(DataError):
        translate_whole(net, texts, "fr")
