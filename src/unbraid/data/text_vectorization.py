"""The rules of Keras's layer ``TextVectorization``, which splits texts in a model itself."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from unbraid.errors import DataError, quoted

STANDARDIZE = (None, "lower", "strip_punctuation", "lower_and_strip_punctuation")
SPLIT = ("whitespace", "character")
_PUNCTUATION = "[" + "".join(f"\\x{{{ord(c):x}}}" for c in string.punctuation) + "]"
_SPACE = r"[\x{20}\x{9}\x{a}\x{b}\x{c}\x{d}]+"


@dataclass(frozen=True)
class VectorizationRules:
    """Rules for splitting a text into words, as ``TextVectorization`` does it.

    Attributes:
        standardize: changes of the text: ``lower``, ``strip_punctuation``, both, or None. As in TensorFlow, only the
            letters A to Z are converted to lower case.
        split: ``whitespace`` or ``character``.
    """

    standardize: str | None = "lower_and_strip_punctuation"
    split: str = "whitespace"

    def __post_init__(self) -> None:
        """Raise DataError for rules that cannot be followed."""
        for name, value, allowed in (("standardize", self.standardize, STANDARDIZE), ("split", self.split, SPLIT)):
            if value not in allowed:
                raise DataError(f"TextVectorization has {name}={quoted(repr(value), 60)}; expected one of {allowed}.")

    def tokenizer(self, vocabulary: Mapping[str, int], unknown: str) -> Tokenizer:
        """Make a tokenizer for the words of ``vocabulary``. It replaces all other words by ``unknown``."""
        tokenizer = Tokenizer(models.WordLevel(dict(vocabulary), unk_token=unknown))
        changes: list[normalizers.Normalizer] = []
        if "lower" in (self.standardize or ""):
            changes += [normalizers.Replace(letter, letter.lower()) for letter in string.ascii_uppercase]
        if "strip" in (self.standardize or ""):
            changes.append(normalizers.Replace(Regex(_PUNCTUATION), ""))
        if changes:
            tokenizer.normalizer = normalizers.Sequence(changes)
        if self.split == "character":
            tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(length=1)
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_SPACE), "removed")
        return tokenizer

    def __str__(self) -> str:
        return f"split as TextVectorization does it ({self.standardize}, {self.split})"


def numbered_words(words: Sequence[str]) -> dict[str, int]:
    """Return word -> index, from 2, of what ``get_vocabulary`` gives: padding and unknown words may be in front.

    Raises:
        DataError: no list of words, or one that repeats.
    """
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise DataError("words: expected the list of words that TextVectorization.get_vocabulary() gives.")
    kept = list(words)
    for mark in ("", "[UNK]"):
        if kept[:1] == [mark]:
            del kept[0]
    if len(set(kept)) != len(kept):
        raise DataError("words: a word of the TextVectorization repeats; expected different words.")
    return {word: index for index, word in enumerate(kept, 2)}
