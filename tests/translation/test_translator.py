import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests import factory
from tests.manifests import sealed
from tests.translation.talking import SOURCE, TARGET, TEXTS, modules, network
from unbraid import Translator, load_decomposition, load_module, load_translator
from unbraid.errors import DataError, FormatError, IncompatibleModules
from unbraid.translation.languages import with_languages
from unbraid.translation.pairs import make_pairs
from unbraid.translation.translator import translate_whole
from unbraid.translation.words import join_words, sentence_vocabulary, split_words

WAYS = {
    "rolled": {},
    "unrolled": {"mode": "unrolled"},
    "gates": {"gates": "each", "mode": "unrolled"},
    "encoder": {"encoder": True},
    "reconstruct": {"strategy": "reconstruct", "keep": 0.5},
    "refined": {"strategy": "reconstruct", "keep": 0.5, "refine": 3},
    "own words": {"words": "own"},
    "reconstruct, own words": {"strategy": "reconstruct", "keep": 0.5, "words": "own"},
    "refined, own words": {"strategy": "reconstruct", "keep": 0.5, "words": "own", "refine": 3},
    "unrolled, own words": {"mode": "unrolled", "words": "own"},
}
SAID = dict(longest=6)


def everything(translator):
    return {v: [translator.translate(TEXTS, v, beam=b, **SAID) for b in (1, 3)] for v in translator.languages}


def test_untouched_modules_say_what_the_network_says():
    net = network(("gru", "lstm"))
    translator = Translator(modules(("gru", "lstm"), max_removed=0))
    for language in factory.LANGUAGES:
        found = translator.translate(TEXTS, to=language)
        assert found == translate_whole(net, TEXTS, language)
        assert found[-1] == "" and any(found)


def test_languages_come_and_go_and_the_others_stay_as_they_are():
    parts, others = modules(), modules(("gru",), seed=1)
    translator = Translator(parts)
    before = everything(translator)
    more = translator.add("uk", others["fr"])
    assert more.languages == ["fr", "de", "it", "uk"] and translator.languages == ["fr", "de", "it"]
    assert everything(more) == {**before, "uk": everything(Translator(others))["fr"]}
    better = more.replace("de", others["de"])
    assert better.languages == more.languages
    assert everything(better)["de"] == everything(Translator(others))["de"] != before["de"]
    assert everything(better.drop("fr")) == {k: v for k, v in everything(better).items() if k != "fr"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cells", [("lstm",), ("gru", "gru-before"), ("vanilla",)])
def test_saved_translators_decompositions_and_modules_say_the_same(tmp_path, way, cells):
    parts = modules(cells, **WAYS[way])
    said = everything(Translator(parts))
    Translator(parts).add("uk", modules(("gru",), seed=3)["it"]).save(tmp_path / "t")
    loaded = load_translator(tmp_path / "t")
    assert {k: v for k, v in everything(loaded).items() if k != "uk"} == said
    assert len(json.loads((tmp_path / "t" / "unbraid.json").read_text())["parents"]) == 2
    parts.save(tmp_path / "d")
    assert everything(Translator(load_decomposition(tmp_path / "d"))) == said
    for language, module in parts.items():
        module.save(tmp_path / language)
        alone = load_module(tmp_path / language)
        assert everything(Translator([alone])) == {language: said[language]}
        alone.save(tmp_path / "again")  # a module of which only its part is left
        assert everything(Translator([load_module(tmp_path / "again")])) == {language: said[language]}


def test_what_is_stored_is_what_a_module_needs(tmp_path):
    parts = modules(words="own", max_removed=0)
    parts.save(tmp_path / "all")
    stored = load_file(tmp_path / "all" / "modules.safetensors")
    assert {name.partition("/")[2] for name in stored} == {"mask/decoder0", "words"}  # the rest is the parent's
    parts["fr"].save(tmp_path / "one")
    words = len(parts["fr"].head.words)
    assert words < 20
    assert load_file(tmp_path / "one" / "parent.safetensors")["0/body.target.weight"].shape[0] == words
    assert load_file(tmp_path / "one" / "modules.safetensors")["0/head.weight"].shape[0] == words
    card = (tmp_path / "all" / "README.md").read_text()
    assert "encoder-decoder" in card and "unbraid.Translator" in card


def test_damaged_folders_are_refused(tmp_path):
    modules(words="own").save(tmp_path / "d")
    manifest = json.loads((tmp_path / "d" / "unbraid.json").read_text())
    for path, value, part in [
        (("modules", 0, "words"), 3, "field words: found"),
        (("parents", 0, "labels"), ["fr", "de", "it", "es"], "field parents.0.labels"),
        (("parents", 0, "spec", "languages", 0, "start"), 40, "expected two different"),
        (("modules", 0, "index"), 3, "no such class"),
    ]:
        broken = json.loads(json.dumps(manifest))
        place = broken
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (tmp_path / "d" / "unbraid.json").write_text(sealed(broken))
        with pytest.raises(FormatError, match=part):
            load_decomposition(tmp_path / "d")


def test_what_is_no_language_is_refused():
    net = factory.network()
    from unbraid import decompose

    classes = decompose(net, factory.examples(net), strategy="paper")
    with pytest.raises(IncompatibleModules, match=r"no source vocabulary|encoder-decoder"):
        Translator(classes)
    bare = factory.translator()
    without = decompose(bare, factory.sentence_pairs(bare), strategy="paper")
    with pytest.raises(IncompatibleModules, match="with_vocabulary"):
        Translator(without)
    translator = Translator(modules())
    for call in (
        lambda: translator.translate(["x"], "es"),
        lambda: translator.replace("es", translator["fr"]),
        lambda: translator.drop("es"),
    ):
        with pytest.raises(IncompatibleModules, match="has no language 'es'"):
            call()
    with pytest.raises(IncompatibleModules, match="already"):
        translator.add("fr", translator["de"])
    with pytest.raises(IncompatibleModules, match="two modules"):
        Translator([translator["fr"], translator["fr"]])
    with pytest.raises(IncompatibleModules, match="at least one"):
        Translator({})
    with pytest.raises(DataError, match="list of texts"):
        translator.translate("one text", "fr")


def test_a_network_is_told_its_languages():
    net = factory.translator(languages=())
    named = with_languages(net, {"fr": (2, 3), "de": (4, 5)})
    assert named.labels == ["fr", "de"]
    net.with_vocabulary(sentence_vocabulary(SOURCE), sentence_vocabulary(TARGET, factory.LANGUAGES))
    assert with_languages(net, factory.LANGUAGES).spec == factory.translator().spec
    with pytest.raises(DataError, match="startes"):
        with_languages(net, ["es"])
    with pytest.raises(DataError, match="expected an encoder-decoder"):
        with_languages(factory.network(), ["fr"])
    with pytest.raises(FormatError, match="the first token 2 and the last token 99"):
        with_languages(net, {"fr": (2, 99)})


def test_pairs_have_their_languages_tags():
    source, target = sentence_vocabulary(["a", "b"]), sentence_vocabulary(["x", "y"], ["fr", "de"])
    pairs = make_pairs(["a b", "b", "q"], {"fr": ["x y", "y", ""], "de": ["y", "x x x", "z"]}, source, target, steps=2)
    assert pairs.languages.tolist() == ["fr", "fr", "de", "de"]
    assert pairs.source.tolist() == [[2, 3], [3, 0], [2, 3], [1, 0]]
    assert pairs.target.tolist() == [[2, 6, 7], [2, 7, 0], [4, 7, 0], [4, 1, 0]]
    assert pairs.following.tolist() == [[6, 7, 3], [7, 3, 0], [7, 5, 0], [1, 5, 0]]
    with pytest.raises(DataError, match="one sentence for each"):
        make_pairs(["a"], {"fr": []}, source, target)
    with pytest.raises(DataError, match="startit"):
        make_pairs(["a"], {"it": ["x"]}, source, target)
    with pytest.raises(DataError, match="no sentence pair"):
        make_pairs([""], {"fr": ["x"]}, source, target)


@settings(max_examples=50)
@given(text=st.text("abé'\u2019 .,?-ÄL", max_size=30))
def test_the_vocabulary_splits_as_the_words_were_counted(text):
    words = split_words(text)
    vocabulary = sentence_vocabulary(sorted(set(words)))
    inverse = {index: word for word, index in vocabulary.tokenizer.get_vocab().items()}
    found = [inverse[i] for i in vocabulary.encode([text])[0][0] if i]
    assert found == words
    assert split_words(join_words(words)) == words


def test_joined_words_read_as_they_were_written():
    for text in ("c'est l'heure, non?", "i don't know.", "dell'acqua! no."):
        assert join_words(split_words(text)) == text


def test_words_beyond_the_vocabulary_are_empty():
    net = network()
    small = sentence_vocabulary(["eins"], net.labels)
    assert small.size < net.spec.classes
    net.with_vocabulary(net.vocabulary, small)
    translator = Translator(modules())
    for module in translator.modules.values():
        module.parent.with_vocabulary(net.vocabulary, small)
    for language in translator.languages:
        assert all(isinstance(text, str) for text in translator.translate(TEXTS, language, longest=5))


@pytest.mark.parametrize("language", ["\ud800", "f\udfffr", "xx"])
def test_languages_without_tags_are_refused(language):
    with pytest.raises(DataError):
        with_languages(network(), [language])
