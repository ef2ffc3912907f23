"""Convert text to word indices, padded to the T of a network. The ``tokenizers`` library splits the text.

Shapes: N texts, T timesteps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from unbraid import limits
from unbraid.data.rows import Side, place
from unbraid.data.texts import as_texts
from unbraid.data.tokenizer_files import check_tokenizer
from unbraid.errors import DataError, FormatError, UnbraidError, quoted

KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
SEEN = 2**17  # size of the cache of words
_UNKNOWN = "[unknown to this vocabulary]"


class Padding(BaseModel):
    """Settings for padding index sequences to one length.

    Attributes:
        steps: T; with None each text keeps its own length, so that its result does not depend on other texts.
        side: side on which texts are padded and truncated; ``left`` is the default of Keras.
        index: index of padding, at least 0.
        unknown: index of unknown words, at least 0; None omits unknown words, as Keras does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, le=2**20)
    side: Side = "left"
    index: int = Field(0, ge=0, lt=2**31)
    unknown: int | None = Field(None, ge=0, lt=2**31)


class Vocabulary:
    """Map words to indices, and texts to padded rows of indices.

    Build one with :meth:`from_words`, :meth:`from_word_index` or :meth:`from_file`.

    Args:
        tokenizer: a tokenizer of the ``tokenizers`` library.
        padding: length T, side of the padding and special indices.
        expansion: largest number of characters that the tokenizer makes of one character.

    Example:
        >>> vocabulary = Vocabulary.from_words(["good", "morning"], steps=3)
        >>> indices, lengths = vocabulary.encode(["Good morning", "good evening"])
        >>> indices.tolist(), lengths.tolist()
        ([[2, 3, 0], [2, 1, 0]], [2, 2])
    """

    def __init__(self, tokenizer: Tokenizer, padding: Padding, expansion: int = 1) -> None:
        self.tokenizer, self.padding, self.expansion = tokenizer, padding, expansion
        self._unknown = tokenizer.token_to_id(_UNKNOWN)
        self._seen: dict[str, list[int]] = {}  # cache: a call of the tokenizer takes microseconds

    @classmethod
    def from_word_index(
        cls,
        word_index: Mapping[str, int],
        *,
        steps: int | None = None,
        num_words: int | None = None,
        side: Side = "left",
        unknown: int | None = None,
        lower: bool = True,
        filters: str = KERAS_FILTERS,
    ) -> Vocabulary:
        """Build the vocabulary of a Keras ``Tokenizer``.

        Args:
            word_index: word -> index, from 1.
            steps: length T to which texts are padded and truncated; None pads to the longest text.
            num_words: words with this index or a larger one are unknown, as in Keras; None uses all words.
            side: side on which texts are padded and truncated.
            unknown: index of unknown words (``oov_token`` in Keras); None omits unknown words.
            lower: whether to convert text to lower case.
            filters: characters that are replaced by spaces.

        Raises:
            DataError: no words, or an index that is not an integer of at least 0.

        Example:
            >>> vocabulary = Vocabulary.from_word_index({"good": 1, "morning": 2}, steps=4)
            >>> vocabulary.encode(["Good, good morning!"])[0].tolist()
            [[0, 1, 1, 2]]
        """
        vocabulary = _checked(word_index, num_words)
        vocabulary[_UNKNOWN] = max(vocabulary.values()) + 1
        changes: list[normalizers.Normalizer] = [normalizers.Lowercase()] if lower else []
        with foreign(DataError, "word_index or filters"):
            tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
            if filters:
                pattern = "[" + "".join(f"\\x{{{ord(c):x}}}" for c in filters) + "]"
                changes.append(normalizers.Replace(Regex(pattern), " "))
            if changes:
                tokenizer.normalizer = normalizers.Sequence(changes)
            tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return cls(tokenizer, make_padding(steps=steps, side=side, unknown=unknown))

    @classmethod
    def from_words(
        cls, words: Sequence[str], *, steps: int | None = None, side: Side = "right", lower: bool = True
    ) -> Vocabulary:
        """Build a vocabulary from a list of words.

        The words get the indices 2, 3, ... in the given order. Index 0 is padding, index 1 is any unknown word.

        Args:
            words: the words, without duplicates.
            steps: length T to which texts are padded and truncated; None pads to the longest text.
            side: side on which texts are padded and truncated.
            lower: whether to convert text to lower case.

        Raises:
            DataError: no words, or a word that is not valid text.

        Example:
            >>> Vocabulary.from_words(["good", "morning"]).encode(["good bad morning"])[0].tolist()
            [[2, 1, 3]]
        """
        if isinstance(words, str | bytes | Mapping):
            raise DataError(f"words: expected a list of words, got {type(words).__name__}.")
        numbered = {word: index + 2 for index, word in enumerate(words)}
        return cls.from_word_index(numbered, steps=steps, side=side, unknown=1, lower=lower, filters="")

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, steps: int | None = None, side: Side = "right", index: int = 0
    ) -> Vocabulary:
        """Read a ``tokenizer.json`` file of the ``tokenizers`` library.

        Args:
            path: the file.
            steps: length T to which texts are padded and truncated; None pads to the longest text.
            side: side on which texts are padded and truncated.
            index: index of padding.

        Raises:
            FormatError: the file is missing, is not a tokenizer, or has an unsupported part.

        Example:
            >>> import pathlib, tempfile
            >>> vocabulary = Vocabulary.from_words(["good", "morning"])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = pathlib.Path(folder) / "tokenizer.json"
            ...     _ = path.write_text(vocabulary.to_json())
            ...     again = Vocabulary.from_file(path)
            >>> again.encode(["good morning"])[0].tolist()
            [[2, 3]]
        """
        content = limits.parse_json(_read(path), quoted(path))
        return cls._of_content(content, make_padding(steps=steps, side=side, index=index), quoted(path))

    @classmethod
    def from_json(cls, text: str, padding: Padding, where: str) -> Vocabulary:
        """Read the output of :meth:`to_json`.

        Args:
            text: the JSON.
            padding: settings of the padding.
            where: the source of the text, for messages.

        Raises:
            FormatError: the text is not a tokenizer.
        """
        return cls._of_content(limits.parse_json(text, where), padding, where)

    @classmethod
    def _of_content(cls, content: Any, padding: Padding, where: str) -> Vocabulary:
        """Build the vocabulary of a parsed tokenizer.json; the tokenizers library gets the checked content only."""
        expansion = check_tokenizer(content, where)
        with foreign(FormatError, f"{where}: not a tokenizer.json"):
            tokenizer = Tokenizer.from_str(json.dumps(content))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            return cls(tokenizer, padding, expansion)

    def to_json(self) -> str:
        """Return the tokenizer as JSON."""
        return str(self.tokenizer.to_str())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokenizer and the padding; equal for equal vocabularies."""
        return hashlib.sha256((self.to_json() + self.padding.model_dump_json()).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Largest index plus one."""
        largest = max((i for word, i in self.tokenizer.get_vocab().items() if word != _UNKNOWN), default=0)
        return max(largest, self.padding.index, -1 if self.padding.unknown is None else self.padding.unknown) + 1

    def encode(self, texts: Iterable[Any], steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Convert texts to padded rows of word indices.

        Args:
            texts: N strings, or N lists of words. Each word of a list is one timestep, as in tagging.
            steps: T, if the vocabulary has no length; None pads to the longest text.

        Returns:
            the indices, int64 (N, T), and the lengths without padding, int64 (N,), at least 1.

        Raises:
            DataError: a value that is not text, or rows that need more memory than the limit.

        Example:
            >>> indices, lengths = Vocabulary.from_words(["good", "morning"]).encode([["good"], ["good", "morning"]])
            >>> indices.tolist(), lengths.tolist()
            ([[2, 0], [2, 3]], [1, 2])
        """
        rows = self.indices(texts)
        length = self.padding.steps or steps or max([1, *(len(row) for row in rows)])
        if 8 * len(rows) * length > limits.current().file_bytes:
            raise DataError(
                f"{len(rows)} texts padded to {length} words need {8 * len(rows) * length} bytes, above the limit: set "
                "steps=... in the vocabulary, or pass fewer texts at a time."
            )
        found = np.full((len(rows), length), self.padding.index, np.int64)
        for n, row in enumerate(rows):
            place(found[n], row, self.padding.side)
        return found, np.asarray([min(max(len(row), 1), length) for row in rows], np.int64)

    def indices(self, texts: Iterable[Any]) -> list[list[int]]:
        """Convert texts to word indices without padding or truncation; raise DataError for a value that is not text."""
        return [self._indices(text, number) for number, text in enumerate(as_texts(texts))]

    def _indices(self, text: Any, number: int) -> list[int]:
        if isinstance(text, str):
            ids = self._encoded(text)
        elif isinstance(text, Sequence) and all(isinstance(word, str) for word in text):
            ids = [self._index(word) for word in text]
        else:
            hint = " (a missing value?)" if text is None or isinstance(text, float) else ""
            raise DataError(
                f"example {number}: expected text (a string or a list of words), got {type(text).__name__}{hint}."
            )
        unknown = self.padding.unknown
        named = [unknown if i == self._unknown else i for i in ids] if self._unknown is not None else ids
        return [i for i in named if i is not None]

    def _encoded(self, text: str) -> list[int]:
        longest = limits.current().text_chars
        if len(text) * self.expansion > longest:
            raise DataError(
                f"a text of {len(text)} characters is too long for this vocabulary; expected at most "
                f"{longest // self.expansion}: shorten it, or raise unbraid.limits.override(text_chars=...)."
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{quoted(repr(text), 60)} is not valid text: it cannot be written in UTF-8.") from None
        with foreign(DataError, f"the tokenizer cannot read {quoted(repr(text), 60)}"):
            return list(self.tokenizer.encode(text).ids)

    def _index(self, word: str) -> int:
        ids = self._seen.get(word)
        if ids is None:
            ids = self._encoded(word)
            if len(self._seen) < SEEN:
                self._seen[word] = ids
        if len(ids) == 1 and ids[0] != self._unknown:
            return int(ids[0])
        if self.padding.unknown is None:  # without the word, the labels of later words would shift
            raise DataError(
                f"word {quoted(repr(word), 60)} is unknown, and the vocabulary has no index for unknown "
                "words: set unknown= in the vocabulary."
            )
        return self.padding.unknown


def read_vocabulary(path: str | os.PathLike[str], steps: int | None = None) -> Vocabulary:
    """Read a vocabulary file: the ``word_index`` of a Keras Tokenizer as JSON, or a ``tokenizer.json``.

    Args:
        path: the file.
        steps: length T to which texts are padded and truncated; None pads to the longest text.

    Raises:
        FormatError: the file has neither format.
        DataError: a word_index with a value that is not an integer.
    """
    try:
        content = limits.parse_json(_read(path), quoted(path))
    except FormatError as error:
        raise FormatError(f"{str(error).rstrip(chr(46))}; expected a word_index or tokenizer.json.") from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        return Vocabulary._of_content(content, make_padding(steps=steps, side="right"), quoted(path))
    if not isinstance(content, dict):
        raise FormatError(f"{quoted(path)}: contains {type(content).__name__}; expected a mapping word -> index.")
    return Vocabulary.from_word_index(content, steps=steps)


def make_padding(**fields: Any) -> Padding:
    """Make a :class:`Padding`; raise DataError with the name of a field that is out of range."""
    try:
        return Padding(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        found = quoted(repr(first["input"]), 40)
        raise DataError(f"{first['loc'][0]}={found}: {first['msg'].lower()}.") from None


@contextmanager
def foreign(kind: type[UnbraidError], where: str) -> Iterator[None]:
    """Convert errors of the tokenizers library, which raises plain Exceptions and panics (BaseException)."""
    try:
        yield
    except (UnbraidError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise kind(f"{where}: {quoted(error, 100)}.") from None


def _checked(word_index: Any, num_words: int | None) -> dict[str, int]:
    """Return the words with an index below ``num_words``; raise DataError for an invalid word or index."""
    if not isinstance(word_index, Mapping) or not word_index:
        raise DataError(f"word_index is {quoted(repr(word_index), 40)}: expected a non-empty mapping word -> index.")
    largest = limits.current().vocabulary - 1
    found = {}
    for word, index in word_index.items():
        if not isinstance(word, str) or any("\ud800" <= c <= "\udfff" for c in word):
            raise DataError(f"word_index has {quoted(repr(word), 40)}, which is not a string of valid Unicode.")
        if not isinstance(index, int | np.integer) or isinstance(index, bool) or not 0 <= index <= largest:
            raise DataError(
                f"word_index maps {quoted(repr(word), 40)} to {quoted(repr(index), 40)}; expected an integer "
                f"from 0 to {largest}."
            )
        if num_words is None or index < num_words:
            found[str(word)] = int(index)
    if not found:
        raise DataError(f"word_index has no index below num_words={num_words}: set a larger num_words.")
    words: dict[int, str] = {}  # a saved vocabulary holds one word for each index
    for word, index in found.items():
        if index in words:
            raise DataError(
                f"word_index gives index {index} to {quoted(words[index], 40)!r} and {quoted(word, 40)!r}: give each "
                "word an index of its own, or leave one of them out."
            )
        words[index] = word
    return found


def _read(path: str | os.PathLike[str]) -> bytes:
    return limits.read_regular(Path(path), "json_bytes").removeprefix(b"\xef\xbb\xbf")
