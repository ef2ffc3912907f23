"""The rules of a word-level tokenizer as in Keras, and the JSON of a Keras ``Tokenizer``.

The rules are those of ``keras.preprocessing.text``: convert to lower case, replace the filtered characters by the
separator, split at the separator and drop empty words. Words with an index of at least ``num_words`` are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from unbraid import limits
from unbraid.data.tokenizer_files import EXPANSION
from unbraid.errors import DataError, FormatError, quoted

KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
OUT_OF_VOCABULARY = {"<oov>", "[oov]", "<unk>", "[unk]"}  # usual names of unknown words, in lower case
FILTERED = 100  # largest number of filtered characters of one pattern; saved patterns have a limit
SEPARATOR = 16  # largest number of characters of a separator
FINAL_SIGMA = r"\B\x{3a3}\b"  # Python writes it as U+03C2, the tokenizers library as U+03C3


@dataclass(frozen=True)
class Rules:
    """Rules for splitting a text into words.

    Attributes:
        lower: whether to convert text to lower case.
        filters: characters that are replaced by the separator.
        split: the separator; None splits at white space of any kind.
        char_level: whether each character is a word. Nothing is filtered then.
    """

    lower: bool = True
    filters: str = KERAS_FILTERS
    split: str | None = " "
    char_level: bool = False

    def __post_init__(self) -> None:
        """Raise DataError for rules that a saved vocabulary must not have."""
        patterns, longest = -(-len(self.filters) // FILTERED), len(self.split or " ")
        if patterns > 1 and 3 * (1 + 2 * longest) ** patterns > EXPANSION:
            raise DataError(
                f"{len(self.filters)} filters with a separator of {longest} characters are not supported; expected at "
                f"most {FILTERED} filters."
            )

    def tokenizer(self, vocabulary: Mapping[str, int], unknown: str) -> Tokenizer:
        """Make a tokenizer for the words of ``vocabulary``. It replaces all other words by ``unknown``."""
        tokenizer = Tokenizer(models.WordLevel(dict(vocabulary), unk_token=unknown))
        changes: list[normalizers.Normalizer] = []
        if self.lower:
            if any("\u03c2" in word for word in vocabulary):
                changes.append(normalizers.Replace(Regex(FINAL_SIGMA), "\u03c2"))
            changes.append(normalizers.Lowercase())
        filters = "" if self.char_level else self.filters
        for start in range(0, len(filters), FILTERED):
            pattern = "[" + "".join(f"\\x{{{ord(c):x}}}" for c in filters[start : start + FILTERED]) + "]"
            changes.append(normalizers.Replace(Regex(pattern), self.split or " "))
        if changes:
            tokenizer.normalizer = normalizers.Sequence(changes)
        if self.char_level:
            tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(length=1)
        elif self.split is None:
            tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Split(self.split, "removed")
        return tokenizer

    def __str__(self) -> str:
        parts = ["lower case" if self.lower else "case kept"]
        if self.char_level:
            return ", ".join([*parts, "one character a word"])
        default = (
            "Keras's default filters" if self.filters == KERAS_FILTERS else f"filters {quoted(self.filters, 60)!r}"
        )
        parts.append(default if self.filters else "no filters")
        return ", ".join([*parts, *([] if self.split in (" ", None) else [f"split at {self.split!r}"])])


@dataclass(frozen=True)
class KerasTokenizer:
    """The content of a Keras ``Tokenizer`` as JSON.

    Attributes:
        word_index: word -> index, not checked.
        num_words: words with this index or a larger one are unknown; None for no such limit.
        oov_token: the word that replaces unknown words; None if unknown words are omitted.
        rules: rules for splitting a text into words.
    """

    word_index: Any
    num_words: int | None
    oov_token: str | None
    rules: Rules


def find_unknown(word_index: Mapping[Any, Any]) -> str | None:
    """Return the word of a word_index for unknown words, such as ``<oov>`` or ``[UNK]``; None without such a word."""
    found = [word for word in word_index if isinstance(word, str) and word.lower() in OUT_OF_VOCABULARY]
    return min(found, key=lambda word: (not isinstance(word_index[word], int), word_index[word]), default=None)


def is_keras_tokenizer(content: Any) -> bool:
    """Return whether parsed JSON is the result of ``tokenizer.to_json()`` and not a word_index."""
    return isinstance(content, Mapping) and isinstance(content.get("config"), Mapping) and "class_name" in content


def parse_keras_tokenizer(content: Mapping[str, Any], where: object) -> KerasTokenizer:
    """Check the parsed JSON of ``tokenizer.to_json()``.

    Args:
        content: the parsed JSON.
        where: the file, for messages.

    Raises:
        FormatError: another class, or a setting that is missing, of the wrong type or not supported.
    """
    name, config = content["class_name"], content["config"]
    if name != "Tokenizer":
        raise FormatError(f"{where}: class_name is {quoted(repr(name), 60)}; expected 'Tokenizer' of Keras.")
    word_index = config.get("word_index")
    if isinstance(word_index, str):
        word_index = limits.parse_json(word_index, f"{where}: word_index")
    if not isinstance(word_index, Mapping):
        found = "missing" if word_index is None else type(word_index).__name__
        raise FormatError(f"{where}: word_index is {found}; expected a mapping word -> index, as to_json() writes it.")
    num_words = _setting(config, "num_words", int, None, where)
    if num_words is not None and num_words < 0:
        raise FormatError(f"{where}: num_words is {num_words}; expected null or an integer of at least 0.")
    oov_token = _setting(config, "oov_token", str, None, where)
    if oov_token is not None and not isinstance(word_index.get(oov_token), int):
        raise FormatError(
            f"{where}: oov_token {quoted(oov_token, 40)!r} is not in word_index: fit the tokenizer before it is saved."
        )
    split = _setting(config, "split", str, " ", where)
    if not 0 < len(split) <= SEPARATOR:
        raise FormatError(
            f"{where}: split is {quoted(repr(split), 60)}; expected a text of 1 to {SEPARATOR} characters."
        )
    rules = Rules(
        lower=_setting(config, "lower", bool, True, where),
        filters=_setting(config, "filters", str, KERAS_FILTERS, where) or "",
        split=split,
        char_level=_setting(config, "char_level", bool, False, where),
    )
    return KerasTokenizer(word_index, num_words or None, oov_token, rules)


def _setting(config: Mapping[str, Any], name: str, kind: type, default: Any, where: object) -> Any:
    value = config.get(name, default)
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise FormatError(
            f"{where}: {name} is {quoted(repr(value), 60)}; expected {kind.__name__}, as to_json() writes it."
        )
    return default if value is None else value


def check_word_index(word_index: Any, num_words: int | None, where: str = "") -> dict[str, int]:
    """Return the words with an index below ``num_words``; raise DataError for an invalid word or index."""
    if not isinstance(word_index, Mapping) or not word_index:
        raise DataError(
            f"{where}word_index is {quoted(repr(word_index), 40)}: expected a non-empty mapping word -> index."
        )
    largest = limits.current().vocabulary - 1
    found = {}
    for word, index in word_index.items():
        if not isinstance(word, str) or any("\ud800" <= c <= "\udfff" for c in word):
            raise DataError(f"{where}word_index has {quoted(repr(word), 40)}, which is not a string of valid Unicode.")
        if not isinstance(index, int | np.integer) or isinstance(index, bool) or not 0 <= index <= largest:
            raise DataError(
                f"{where}word_index maps {quoted(repr(word), 40)} to {quoted(repr(index), 40)}; expected an integer "
                f"from 0 to {largest}."
            )
        if num_words is None or index < num_words:
            found[str(word)] = int(index)
    if not found:
        raise DataError(f"{where}word_index has no index below num_words={num_words}: set a larger num_words.")
    words: dict[int, str] = {}  # a saved vocabulary holds one word for each index
    for word, index in found.items():
        if index in words:
            raise DataError(
                f"{where}word_index gives index {index} to {quoted(words[index], 40)!r} and {quoted(word, 40)!r}: "
                "give each word its own index, or omit one of them."
            )
        words[index] = word
    return found
