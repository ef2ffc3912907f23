"""Convert one text, or one word of a list, to word indices with the ``tokenizers`` library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from unbraid import limits
from unbraid.errors import DataError, UnbraidError, quoted

SEEN = 2**17  # size of the cache of words
UNKNOWN = "[unknown to this vocabulary]"  # marks a word-level vocabulary of Unbraid; its index is that of unknown words
BY_FUNCTION = "[texts of this vocabulary are split by a function]"  # marks such a vocabulary, also after saving

Split = Callable[[str], list[str]]


class Encoder:
    """Convert texts and words to word indices. The index of an unknown word is None.

    Args:
        tokenizer: a tokenizer of the ``tokenizers`` library.
        expansion: largest number of characters that the tokenizer makes of one character.
        split: function that splits texts; None if the tokenizer splits them.
    """

    def __init__(self, tokenizer: Tokenizer, expansion: int, split: Split | None) -> None:
        self.tokenizer, self.expansion, self.split = tokenizer, expansion, split
        self.by_function = tokenizer.token_to_id(BY_FUNCTION) is not None
        self._unknown = tokenizer.token_to_id(UNKNOWN)
        self._seen: dict[str, int | None] = {}  # cache: a call of the tokenizer takes microseconds

    def text(self, text: str) -> list[int | None]:
        """Split a text and return the indices of its words."""
        if not self.by_function:
            return [None if index == self._unknown else index for index in self._encoded(text)]
        if self.split is None:
            raise DataError(
                "texts of this vocabulary are split by a function, which a folder does not store: set it again with "
                "vocabulary.set_tokenizer(function) (of a module: module.parent.vocabulary), or pass lists of words."
            )
        try:
            words: Any = self.split(text)
        except Exception as error:
            raise DataError(f"the tokenizer cannot read {quoted(repr(text), 60)} ({quoted(error, 100)}).") from error
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise DataError(f"the tokenizer returned {quoted(repr(words), 60)}; expected a list of words (str).")
        return [self.word(word) for word in words]

    def word(self, word: str) -> int | None:
        """Return the index of a word of a list of words."""
        if word in self._seen:
            return self._seen[word]
        index = self._word(word)
        if len(self._seen) < SEEN:
            self._seen[word] = index
        return index

    def _word(self, word: str) -> int | None:
        """Look up a word of a word-level vocabulary without filters, as Keras does; otherwise look up one token."""
        if self._unknown is None:
            ids = self._encoded(word)
            return ids[0] if len(ids) == 1 else None
        _check_text(word)
        index = self.tokenizer.token_to_id(word)
        if index is None and self._lower:
            index = self.tokenizer.token_to_id(word.lower())
        return None if index is None or word in (UNKNOWN, BY_FUNCTION) else int(index)

    @cached_property
    def _lower(self) -> bool:
        normalizer = self.tokenizer.normalizer
        return normalizer is not None and normalizer.normalize_str("A") == "a"

    def _encoded(self, text: str) -> list[int]:
        longest = limits.current().text_chars
        if len(text) * self.expansion > longest:
            raise DataError(
                f"a text of {len(text)} characters is too long for this vocabulary; expected at most "
                f"{longest // self.expansion}: shorten it, or raise unbraid.limits.override(text_chars=...)."
            )
        _check_text(text)
        with foreign(DataError, lambda: f"the tokenizer cannot read {quoted(repr(text), 60)}"):
            return list(self.tokenizer.encode(text).ids)


@contextmanager
def foreign(kind: type[UnbraidError], where: str | Callable[[], str]) -> Iterator[None]:
    """Convert errors of the tokenizers library, which raises plain Exceptions and panics (BaseExceptions).

    Args:
        kind: class of the error.
        where: start of the message; a function where the text takes time.
    """
    try:
        yield
    except (UnbraidError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        start = where if isinstance(where, str) else where()
        raise kind(f"{start}: {quoted(error, 100)}.") from None


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{quoted(repr(text), 60)} is not valid text: it cannot be written in UTF-8.") from None


def check_function(tokenizer: Any) -> None:
    """Raise DataError for a value that cannot split texts."""
    if not callable(tokenizer):
        raise DataError(f"tokenizer={quoted(repr(tokenizer), 40)}: expected a function from a text to a list of words.")


def check_words(words: Any) -> None:
    """Raise DataError for a text or a mapping where a list of words is expected."""
    if isinstance(words, str | bytes | Mapping):
        raise DataError(f"words: expected a list of words, got {type(words).__name__}.")


def no_text(text: Any, number: int) -> DataError:
    """Make the error for an example that is of another type than text."""
    hint = " (a missing value?)" if text is None or isinstance(text, float) else ""
    return DataError(f"example {number}: expected text (a string or a list of words), got {type(text).__name__}{hint}.")


def unknown_word(word: Any) -> DataError:
    """Make the error for an unknown word of a list, where the vocabulary has no index for unknown words."""
    return DataError(
        f"word {quoted(repr(word), 60)} is unknown, and the vocabulary has no index for unknown words: set unknown= in "
        "the vocabulary."
    )
