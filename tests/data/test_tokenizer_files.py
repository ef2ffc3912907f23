"""Vocabulary files: valid files are read, hostile files raise errors of the library only."""

import contextlib
import copy
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from unbraid import Vocabulary, limits
from unbraid.data.padding import Padding
from unbraid.data.patterns import regex_problem
from unbraid.data.vocabulary import read_vocabulary
from unbraid.errors import DataError, FormatError, UnbraidError
from unbraid.translation.words import sentence_vocabulary

TEXTS = ["Some words, w1 aaa!", "", "a" * 40 + "!", ["w1", "w2"]]
WORDS = {"[UNK]": 0, "w1": 1, "w2": 2, "a": 3}
ANY = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def tokenizer(**changes):
    """Make the content of a tokenizer.json."""
    plain = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return {**json.loads(plain.to_str()), **changes}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def sequence(*steps, field="normalizers"):
    return {"type": "Sequence", field: list(steps)}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def model(**changes):
    return {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]", **changes}


HOSTILE = {
    "seven replacements by ten": ({"normalizer": sequence(*[replace("a", "a" * 10)] * 7)}, "10000000 characters"),
    "nested sequences": (
        {"normalizer": sequence(*[sequence(replace("a", "aaaa"), sequence(replace("a", "aaaa")))] * 2)},
        "256 characters",
    ),
    "one long replacement": ({"normalizer": replace("a", "a" * 201)}, "at most 200"),
    "text between all characters": ({"normalizer": replace("", "a" * 100)}, "201 characters"),
    "prefixes": ({"normalizer": sequence(*[{"type": "Prepend", "prepend": "aaaa"}] * 3)}, "125 characters"),
    "bytes of bytes": ({"normalizer": sequence(*[{"type": "ByteLevel"}] * 4)}, "256 characters"),
    "many steps": ({"normalizer": sequence(*[{"type": "NFC"}] * 40)}, "more than 32 steps"),
    "an unknown step": ({"normalizer": {"type": "Shell"}}, "'Shell' is not supported"),
    "a step without a type": ({"normalizer": 3}, "field 'type'"),
    "a pattern that repeats a group": ({"pre_tokenizer": split("(a+)+$")}, "repeats a group"),
    "the same inside a sequence": ({"pre_tokenizer": sequence(split("(a|aa)*b"), field="pretokenizers")}, "repeats"),
    "many optional parts": ({"pre_tokenizer": split("a?" * 20 + "a" * 20)}, "optional parts"),
    "a long pattern": ({"pre_tokenizer": split("ab" * 600)}, "longer than 1000"),
    "a damaged pattern": ({"pre_tokenizer": split("(a")}, "tokenizer.json"),
    "a replacement by pattern": (
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""}},
        "repeats",
    ),
    "a damaged character map": ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "damaged"),
    "a repeated text": (
        {"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 9}},
        "repeats the text",
    ),
    "an index beyond 32 bits": ({"model": model(vocab={"a": 2**32})}, "limit of 10000000"),
    "an index of 2^31": ({"model": model(vocab={**WORDS, "[unknown to this vocabulary]": 2**31})}, "limit of 10000000"),
    "an added index": ({"added_tokens": [{"id": 2**31, "content": "x"}]}, "limit of 10000000"),
    "an index that is a fraction": ({"model": model(vocab={"a": 1.5})}, "whole number"),
    "an index that is true": ({"model": model(vocab={"a": True})}, "whole number"),
    "a negative index": ({"model": model(vocab={"a": -1})}, "whole number"),
    "dropout": ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5}}, "random"),
    "long words": (
        {"model": {**model(), "type": "WordPiece", "max_input_chars_per_word": 10**9}},
        "max_input_chars_per_word",
    ),
    "an unknown model": ({"model": model(type="Pickle")}, "'Pickle' is not supported"),
    "no words": ({"model": model(vocab=None)}, "NoneType"),
}


@pytest.mark.parametrize(("changes", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_tokenizers_are_refused_before_they_are_built(changes, message, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer(**changes)))
    with pytest.raises(FormatError, match=message) as caught:
        read_vocabulary(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 800
    with pytest.raises(FormatError, match=message):
        Vocabulary.from_file(path)
    with pytest.raises(FormatError, match=message):
        Vocabulary.from_json(path.read_text(), Padding(), "here")


def test_the_library_gets_what_was_checked(tmp_path):
    """A second field of the same name is not read in place of the first."""
    content = json.dumps(tokenizer())
    hostile = json.dumps(sequence(*[replace("a", "a" * 10)] * 7))
    (tmp_path / "t.json").write_text(content[:-1].replace('"normalizer": null', f'"normalizer": {hostile}') + "}")
    with pytest.raises(FormatError, match="10000000"):
        read_vocabulary(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(content[:-1] + ', "normalizer": null}')
    assert read_vocabulary(tmp_path / "t.json").encode(["w1"])[0].tolist() == [[1]]


PATTERNS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": True,  # GPT-2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+": True,
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{Lm}]+(?i:'s|'t|'re)?|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)|\s+": True,
    r"\w+'|\w+|[^\w\s]": True,  # translation vocabularies
    r"[\x{21}\x{5d}\x{5c}]": True,  # Keras filters
    " {2,}": True,
    "(a+)+$": False,
    "(?:a*)*": False,
    "(a{1,9}){9}": False,
    "a+*b": False,
    "a{2,}+b": False,
    "a*a*a*b": False,
    "(a*|b)a*(a*|c)": False,
    r"(a)\1": False,
    r"(?<=a+)b": False,
    "(?x)#[\n(a+)+$": False,  # the class is in a comment
    "(?#[)(a+)+": False,
    r"\c[(a+)+$": False,  # an escape, not a class
    "[a": False,
    "a]": False,
    "\\": False,
}


@pytest.mark.parametrize(("pattern", "safe"), PATTERNS.items())
def test_patterns(pattern, safe):
    assert (regex_problem(pattern) is None) == safe


def test_known_kinds_of_tokenizers_are_read(tmp_path):
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "un": 1, "##able": 2}, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing("[UNK] $A", special_tokens=[("[UNK]", 0)])
    pieces = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel()
    single = Tokenizer(models.Unigram([("<unk>", 0.0), ("\u2581a", -1.0)], unk_id=0))
    single.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    single.pre_tokenizer = pre_tokenizers.Metaspace()
    filtered = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    filtered.normalizer = normalizers.Replace(Regex("[!,]"), " ")
    for built in (words, pieces, single, filtered):
        built.save(str(tmp_path / "t.json"))
        again = read_vocabulary(tmp_path / "t.json")
        for text in ("unable ab a", "w1, w2!", ""):
            assert again.indices([text]) == [built.encode(text).ids]
    for vocabulary in (
        sentence_vocabulary(["a", "b"], ["fr"]),
        Vocabulary.from_words(["a"]),
        Vocabulary.from_word_index({"a": 1}),
    ):
        again = Vocabulary.from_json(vocabulary.to_json(), vocabulary.padding, "here")
        assert again.to_json() == vocabulary.to_json() and again.digest == vocabulary.digest


@pytest.mark.parametrize("texts", [["some words"], [["other"]], ["w1 zzz"]])
def test_a_model_without_its_unknown_word_gives_a_data_error(texts):
    vocabulary = Vocabulary.from_json(json.dumps(tokenizer(model=model(unk_token="<none>"))), Padding(), "here")
    assert vocabulary.encode(["w1 a"])[0].tolist() == [[1, 3]]
    with pytest.raises(DataError, match=r"cannot read .*Missing \[UNK\]"):
        vocabulary.encode(texts)


def test_a_panic_of_a_tokenizer_that_a_program_built_is_a_data_error():
    own = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    with pytest.raises(DataError, match="cannot read"):
        Vocabulary(own, Padding()).encode(["a" * 30 + "!"])


def test_the_length_of_a_text_is_limited_by_what_rules_make_of_it():
    content = tokenizer(normalizer=replace("a", "a" * 10))
    vocabulary = Vocabulary.from_json(json.dumps(content), Padding(), "here")
    with limits.override(text_chars=100):
        assert vocabulary.encode(["a" * 10])[1].tolist() == [1]
        with pytest.raises(DataError, match="at most 10"):
            vocabulary.encode(["a" * 11])
        with pytest.raises(DataError, match="at most 10"):
            vocabulary.encode([["a", "a" * 11]])


WORD_INDEX = {
    "an index beyond 32 bits": {"a": 4294967295},
    "an index beyond 64 bits": {"a": 2**70},
    "half a surrogate": {"\ud800": 1},
    "text": {"a": "1"},
    "a fraction": {"a": 1.0},
    "true": {"a": True},
    "nothing": {"a": None},
    "a list": {"a": [1]},
    "negative": {"a": -1},
    "empty": {},
}


@pytest.mark.parametrize("content", WORD_INDEX.values(), ids=WORD_INDEX)
def test_a_wrong_word_index_is_refused(content, tmp_path):
    (tmp_path / "w.json").write_text(json.dumps(content))
    for num_words in (None, 10):
        with pytest.raises(DataError, match="word_index") as caught:
            Vocabulary.from_word_index(content, num_words=num_words)
    assert len(str(caught.value)) < 300
    with pytest.raises(DataError, match="word_index"):
        read_vocabulary(tmp_path / "w.json")


@pytest.mark.parametrize("wrong", [None, 3, "abc", ["a"], {1: 1}])
def test_what_is_no_word_index_is_refused(wrong):
    with pytest.raises(DataError, match="word_index"):
        Vocabulary.from_word_index(wrong)


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"steps": "x"}, {"steps": 2**21}, {"side": "middle"}, {"unknown": -1}, {"unknown": 2**40}],
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(DataError, match=f"{next(iter(settings))}="):
        Vocabulary.from_word_index({"a": 1}, **settings)


@pytest.mark.parametrize("words", ["abc", {"a": 1}, [1, 2], ["\ud800"], []])
def test_words_are_a_list_of_words(words):
    with pytest.raises(DataError):
        Vocabulary.from_words(words)


FILES = {
    "a number of 5,000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "the same in a tokenizer": b'{"model": {"vocab": ' + b"1" * 5000 + b"}}",
    "deep nesting": b"[" * 100_000,
    "deep nesting below the parser's limit": b'{"model": ' * 150 + b"1" + b"}" * 150,
    "not UTF-8": b'{"\xff": 1}',
    "latin-1": '{"é": 1}'.encode("latin-1"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NUL bytes": b'\0{"a": 1}\0',
    "nothing": b"",
    "a list": b"[1]",
    "text": b'"a"',
    "NaN": b'{"a": NaN}',
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "w.json").write_bytes(content)
    with pytest.raises(UnbraidError) as caught:
        read_vocabulary(tmp_path / "w.json")
    assert len(str(caught.value)) < 600


def test_a_byte_order_mark_is_left_out(tmp_path):
    (tmp_path / "w.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_vocabulary(tmp_path / "w.json").encode(["a"])[0].tolist() == [[1]]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: None])
def test_what_is_no_regular_file_is_refused(make, tmp_path):
    make(tmp_path / "w.json")
    for read in (read_vocabulary, Vocabulary.from_file):
        with pytest.raises(FormatError, match=r"regular file|cannot be read"):
            read(tmp_path / "w.json")
    with limits.override(json_bytes=10), pytest.raises(FormatError, match="above the limit"):
        (tmp_path / "large.json").write_text('{"a": 1, "b": 2}')
        read_vocabulary(tmp_path / "large.json")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def use(vocabulary):
    """Use a vocabulary in all ways after reading it."""
    vocabulary.to_json(), vocabulary.size, vocabulary.digest
    for text in TEXTS:
        with contextlib.suppress(UnbraidError):
            vocabulary.encode([text])


def read(content, folder):
    path = folder / "w.json"
    path.write_text(json.dumps(content))
    try:
        use(read_vocabulary(path))
    except UnbraidError as error:
        assert len(str(error)) < 1000


@ANY
@given(VALUES | st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_any_content_gives_a_vocabulary_or_an_error(tmp_path_factory, content):
    read(content, tmp_path_factory.getbasetemp())


PLACES = [
    ("normalizer",),
    ("pre_tokenizer",),
    ("post_processor",),
    ("added_tokens",),
    ("model",),
    ("model", "vocab"),
    ("model", "type"),
    ("model", "unk_token"),
    ("decoder",),
    ("version",),
    ("padding",),
    ("truncation",),
]
TYPES = ["Replace", "Split", "Metaspace", "Prepend", "Strip", "Precompiled", "BPE", "Unigram", "NFC"]
STEPS = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={
        "pattern": st.dictionaries(st.sampled_from(["Regex", "String"]), st.text("a(+)*?[]\\|{1,}", max_size=8)),
        "content": st.text(max_size=4),
        "vocab": VALUES,
        "merges": VALUES,
        "behavior": st.sampled_from(["Isolated", "Removed", "x"]),
        "invert": st.booleans() | VALUES,
        "prepend": st.text(max_size=3),
        "replacement": st.text(max_size=2),
        "precompiled_charsmap": st.text("AQg=", max_size=16),
    },
)  # fmt: skip


@ANY
@given(st.sampled_from(PLACES), VALUES | STEPS | st.lists(STEPS, max_size=3).map(lambda s: sequence(*s)))
def test_any_change_of_a_tokenizer_gives_a_vocabulary_or_an_error(tmp_path_factory, place, value):
    content = copy.deepcopy(tokenizer(normalizer={"type": "Lowercase"}))
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    read(content, tmp_path_factory.getbasetemp())
