"""Vocabularies: ``tokenizer.json`` and ``word_index``."""

import json
from copy import deepcopy
from functools import cache

from tests.fuzz import bases, raw_bytes, trees, using, values
from tests.fuzz.kinds import Kind
from tests.fuzz.library import read_vocabulary
from unbraid import Vocabulary

NESTED = "^(a+)+$"
PATTERNS = [
    "a",
    " ",
    "",
    ".",
    "(",
    "[",
    r"\w+",
    r"(?=a)",
    NESTED,
    "(a|aa)+$",
    "a{1000}",
    r"\p{L}",
    "(?<n>a)\\k<n>",
    "\\",
]
NORMALIZERS = [
    {"type": "Lowercase"}, {"type": "NFKC"}, {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Nmt"},
    {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Prepend", "prepend": "a" * 1000},
    {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10},
    {"type": "Replace", "pattern": {"String": ""}, "content": "ab"},
    {"type": "Replace", "pattern": {"Regex": NESTED}, "content": ""}, {"type": "Precompiled",
                                                                       "precompiled_charsmap": "AAAA"},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
     "lowercase": True},
    {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 9},
    {"type": "ByteLevel"},
]  # fmt: skip
SPLITTERS = [
    {"type": "WhitespaceSplit"}, {"type": "Whitespace"}, {"type": "BertPreTokenizer"}, {"type": "Punctuation",
                                                                                        "behavior": "Isolated"},
    {"type": "Digits", "individual_digits": True}, {"type": "CharDelimiterSplit", "delimiter": " "},
    {"type": "UnicodeScripts"},
    {"type": "Split", "pattern": {"Regex": NESTED}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"String": ""}, "behavior": "Removed", "invert": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True},
    {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Digits", "individual_digits": False}]},
]  # fmt: skip
MODELS = [
    {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "c"}, {"type": "WordLevel", "vocab": {},
                                                                         "unk_token": ""},
    {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], "dropout": None, "unk_token": None},
    {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "x"]], "dropout": 0.5, "byte_fallback": True, "fuse_unk": True},
    {"type": "WordPiece", "vocab": {"a": 0, "##b": 1}, "unk_token": "[UNK]", "max_input_chars_per_word": 3},
    {"type": "Unigram", "vocab": [["a", -1.0], ["b", 0.0]], "unk_id": 7, "byte_fallback": False},
    {"type": "WordLevel", "vocab": {"a": 2**32 - 1, "b": 2**31}, "unk_token": "a"},
]  # fmt: skip
REPLACEMENTS = {
    "normalizer": [None, *NORMALIZERS],
    "pre_tokenizer": [None, *SPLITTERS],
    "model": MODELS,
    "decoder": [None, {"type": "ByteFallback"}, {"type": "WordPiece", "prefix": "##", "cleanup": True}],
    "post_processor": [
        None,
        {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2**31]},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a", "type_id": 0}}] * 50, "pair": [],
         "special_tokens": {"a": {"id": "a", "ids": [1] * 100, "tokens": ["a"] * 100}}},
    ],
    "truncation": [None, {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 9}],
    "padding": [None, {"strategy": {"Fixed": 2**31}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": "a"}],
    "added_tokens": [[], [{"id": 2**31, "content": "a", "single_word": False, "lstrip": True, "rstrip": True,
                           "normalized": True, "special": False}]],
}  # fmt: skip
KNOWN = {**REPLACEMENTS, "Regex": PATTERNS, "String": PATTERNS, "content": PATTERNS + values.STRINGS[-5:]}
TEXTS = ["w1 w2", "a" * 30 + "!", "", "é\u0301\U0001f600 \x00", "aaa bbb" * 20, "\ud800"]


@cache
def tokenizers():
    """Valid files."""
    plain = [c for files in bases.folders().values() for name, c in files.items() if name.startswith("vocabulary")]
    index = Vocabulary.from_word_index({f"w{n}": n + 1 for n in range(12)}, steps=4, unknown=1).to_json()
    return list(dict.fromkeys([*plain, index.encode()]))


def mutate(rng, content):
    """Another ``tokenizer.json``."""
    if rng.random() < 0.06:
        return raw_bytes.mutate(rng, content)
    tree = json.loads(content)
    if rng.random() < 0.6:
        part = rng.choice(list(REPLACEMENTS))
        tree[part] = deepcopy(rng.choice(REPLACEMENTS[part]))
    if rng.random() < 0.6:
        tree = trees.mutate(rng, tree, KNOWN)
    return trees.write(tree).encode("utf-8", "surrogatepass")


def make(rng, place):
    path = place / "vocabulary.json"
    if rng.random() < 0.65:
        path.write_bytes(mutate(rng, rng.choice(tokenizers())))
        return path
    tree = {f"w{n}": n + 1 for n in range(rng.choice([1, 12, 12, 12, 3_000]))}
    content = trees.write(trees.mutate(rng, tree)).encode("utf-8", "surrogatepass")
    path.write_bytes(raw_bytes.mutate(rng, content) if rng.random() < 0.1 else content)
    return path


def use(vocabulary, place):
    """Read texts with it, save it as folders do, and read the same with that."""
    assert vocabulary.size >= 0
    assert len(vocabulary.digest) == 64
    before = _read(vocabulary)
    path = place / "again.json"
    path.write_text(vocabulary.to_json(), encoding="utf-8")
    using.same(before, _read(Vocabulary.from_json(path.read_text(encoding="utf-8"), vocabulary.padding, "again")))


def _read(vocabulary):
    found = []
    for texts in [*([text] for text in TEXTS), [["w1", "zzz"], ["a"]]]:
        try:
            rows, lengths = vocabulary.encode(texts)
        except using.DataError:  # an unknown word, or no text
            continue
        found += [rows, lengths]
    return found


KIND = Kind("vocabularies", 10, make, read_vocabulary, use)
