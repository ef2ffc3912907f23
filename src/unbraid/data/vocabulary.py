"""Convert text to word indices, padded to the T of a network. The ``tokenizers`` library splits the text.

Shapes: N texts, T timesteps.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from unbraid import limits
from unbraid.data import encoding
from unbraid.data.encoding import BY_FUNCTION, UNKNOWN, Encoder, Split, foreign
from unbraid.data.keras_tokenizer import (
    KERAS_FILTERS,
    KerasTokenizer,
    Rules,
    check_word_index,
    find_unknown,
    is_keras_tokenizer,
    parse_keras_tokenizer,
)
from unbraid.data.padding import Padding, make_padding, padded
from unbraid.data.rows import Side
from unbraid.data.text_vectorization import VectorizationRules, numbered_words
from unbraid.data.texts import as_texts
from unbraid.data.tokenizer_files import check_tokenizer, only_words, read_words_file
from unbraid.errors import DataError, FormatError, UnbraidWarning, quoted

AnyRules = Rules | VectorizationRules
logger = logging.getLogger(__name__)


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

    def __init__(
        self,
        tokenizer: Tokenizer,
        padding: Padding,
        expansion: int = 1,
        rules: AnyRules | None = None,
        split: Split | None = None,
    ) -> None:
        self.tokenizer, self.padding, self._rules = tokenizer, padding, rules
        self._encoder = Encoder(tokenizer, expansion, split)

    @classmethod
    def from_word_index(
        cls,
        word_index: Mapping[str, int],
        *,
        steps: int | None = None,
        num_words: int | None = None,
        side: Side = "left",
        truncation: Side | None = None,
        unknown: int | Literal["auto"] | None = "auto",
        lower: bool = True,
        filters: str = KERAS_FILTERS,
    ) -> Vocabulary:
        """Build the vocabulary of a Keras ``Tokenizer``.

        A word_index does not hold all settings of the tokenizer. Use :meth:`from_file` with the result of
        ``tokenizer.to_json()`` if possible. The assumed settings are logged, and :meth:`describe` returns them.

        Args:
            word_index: word -> index, from 1.
            steps: length T to which texts are padded and truncated; None pads to the longest text.
            num_words: words with this index or a larger one are unknown, as in Keras; None uses all words.
            side: side on which texts are padded.
            truncation: side on which texts are truncated; None for the same side as ``side``.
            unknown: index of unknown words (``oov_token`` in Keras); None omits unknown words. ``auto`` (default) takes
                the index of ``<oov>``, ``[OOV]``, ``<unk>`` or ``[UNK]``, in any case, and None without such a word.
            lower: whether to convert text to lower case.
            filters: characters that are replaced by spaces.

        Raises:
            DataError: no words, or an index that is not an integer of at least 0.

        Example:
            >>> vocabulary = Vocabulary.from_word_index({"<oov>": 1, "good": 2, "morning": 3}, steps=4)
            >>> vocabulary.encode(["Good, good evening!"])[0].tolist()
            [[0, 2, 2, 1]]
            >>> vocabulary.describe()
            "unknown words -> index 1 ('<oov>'), lower case, Keras's default filters, padded at the front to 4"
        """
        words = check_word_index(word_index, num_words)
        if unknown == "auto":
            name = find_unknown(word_index)
            unknown = None if name is None else int(word_index[name])
        padding = make_padding(steps=steps, side=side, truncation=truncation, unknown=unknown)
        return cls._of_words(words, padding, Rules(lower=lower, filters=filters))

    @classmethod
    def _of_words(
        cls, words: dict[str, int], padding: Padding, rules: AnyRules, split: Split | None = None
    ) -> Vocabulary:
        """Build the vocabulary of checked words, and log its settings."""
        marks = [UNKNOWN, *([BY_FUNCTION] if split else [])]
        vocabulary = words | {mark: max(words.values()) + number for number, mark in enumerate(marks, 1)}
        with foreign(DataError, "word_index or filters"):
            found = cls(rules.tokenizer(vocabulary, UNKNOWN), padding, rules=rules, split=split)
        logger.info("vocabulary: %s", found.describe())
        return found

    @classmethod
    def from_words(
        cls,
        words: Sequence[str],
        *,
        steps: int | None = None,
        side: Side = "right",
        truncation: Side | None = None,
        lower: bool = True,
        tokenizer: Split | None = None,
    ) -> Vocabulary:
        """Build a vocabulary from a list of words.

        The words get the indices 2, 3, ... in the given order. Index 0 is padding, index 1 is any unknown word.

        Args:
            words: the words, without duplicates.
            steps: length T to which texts are padded and truncated; None pads to the longest text.
            side: side on which texts are padded.
            truncation: side on which texts are truncated; None for the same side as ``side``.
            lower: whether to convert words to lower case.
            tokenizer: function that maps a text (str) to its words (list of str); None splits at white space. A folder
                never holds code. It stores the words, and after loading a text is refused until the function is set
                again with :meth:`set_tokenizer`.

        Raises:
            DataError: no words, or a word that is not valid text.

        Example:
            >>> Vocabulary.from_words(["good", "morning"]).encode(["good bad morning"])[0].tolist()
            [[2, 1, 3]]
            >>> by_hyphen = Vocabulary.from_words(["good", "morning"], tokenizer=lambda text: text.split("-"))
            >>> by_hyphen.encode(["Good-morning"])[0].tolist()
            [[2, 3]]
        """
        encoding.check_words(words)
        if tokenizer is not None:
            encoding.check_function(tokenizer)
        numbered = check_word_index({word: index + 2 for index, word in enumerate(words)}, None)
        padding = make_padding(steps=steps, side=side, truncation=truncation, unknown=1)
        return cls._of_words(numbered, padding, Rules(lower=lower, filters="", split=None), tokenizer)

    @classmethod
    def from_text_vectorization(
        cls,
        words: Sequence[str],
        *,
        steps: int | None = None,
        standardize: str | None = "lower_and_strip_punctuation",
        split: str = "whitespace",
    ) -> Vocabulary:
        """Build the vocabulary of a Keras layer ``TextVectorization`` with ``output_mode="int"``.

        Args:
            words: what ``layer.get_vocabulary()`` gives. Index 0 is padding, index 1 is any unknown word.
            steps: length T to which texts are padded and truncated at the end (``output_sequence_length``); None pads
                to the longest text.
            standardize: as in Keras: ``lower``, ``strip_punctuation``, ``lower_and_strip_punctuation`` or None.
            split: as in Keras: ``whitespace`` or ``character``.

        Raises:
            DataError: no words, repeated words, or another setting.

        Example:
            >>> vocabulary = Vocabulary.from_text_vectorization(["", "[UNK]", "dont", "go"], steps=3)
            >>> vocabulary.encode(["Don't go away!"])[0].tolist()
            [[2, 3, 1]]
        """
        numbered, padding = numbered_words(words), make_padding(steps=steps, side="right", unknown=1)
        return cls._of_words(check_word_index(numbered, None), padding, VectorizationRules(standardize, split))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        steps: int | None = None,
        side: Side | None = None,
        truncation: Side | None = None,
        index: int = 0,
    ) -> Vocabulary:
        """Read a vocabulary file.

        Args:
            path: JSON of one of three kinds: a ``tokenizer.json`` of the ``tokenizers`` library, a Keras ``Tokenizer``
                (the result of ``tokenizer.to_json()``), or the ``word_index`` of one.
            steps: length T to which texts are padded and truncated; None pads to the longest text.
            side: side on which texts are padded; None: ``left`` for the kinds of Keras, else ``right``.
            truncation: side on which texts are truncated; None for the same side as ``side``.
            index: index of padding.

        Raises:
            FormatError: the file is missing, is of none of these kinds, or has an unsupported part.
            DataError: a word_index with a value that is not an integer.

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
        content = read_words_file(path)
        where, padding = quoted(path), {"steps": steps, "truncation": truncation, "index": index}
        if isinstance(content.get("model"), dict):
            return cls._of_content(content, make_padding(side=side or "right", **padding), where)
        if is_keras_tokenizer(content):
            keras = parse_keras_tokenizer(content, where)
        else:
            keras = KerasTokenizer(content, None, find_unknown(content), Rules())
        words = check_word_index(keras.word_index, keras.num_words, f"{where}: ")
        unknown = None if keras.oov_token is None else keras.word_index[keras.oov_token]
        return cls._of_words(words, make_padding(side=side or "left", unknown=unknown, **padding), keras.rules)

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
        """Build the vocabulary of a parsed tokenizer.json; pass only checked content to the tokenizers library."""
        expansion = check_tokenizer(content, where)
        with foreign(FormatError, f"{where}: not a tokenizer.json"):
            tokenizer = Tokenizer.from_str(json.dumps(content))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            return cls(tokenizer, padding, expansion)

    def set_tokenizer(self, tokenizer: Split) -> Vocabulary:
        """Set the function of :meth:`from_words` again, in place, after the vocabulary was loaded.

        Args:
            tokenizer: function that maps a text (str) to its words (list of str).

        Returns:
            the vocabulary itself.

        Raises:
            DataError: a value that cannot be called, or a vocabulary that was not made with a function.

        Example:
            >>> vocabulary = Vocabulary.from_words(["good", "morning"], tokenizer=str.split)
            >>> loaded = Vocabulary.from_json(vocabulary.to_json(), vocabulary.padding, "vocabulary")
            >>> loaded.set_tokenizer(str.split).encode(["good morning"])[0].tolist()
            [[2, 3]]
        """
        encoding.check_function(tokenizer)
        if not self.split_by_function:
            raise DataError("the vocabulary splits texts itself: make one with from_words(words, tokenizer=...).")
        self._encoder.split = tokenizer
        self.__dict__.pop("digest", None)
        return self

    @property
    def split_by_function(self) -> bool:
        """Whether texts are split by a function of the user, which folders do not hold."""
        return self._encoder.by_function

    def warn_of_function(self) -> None:
        """Warn that the function which splits texts is not saved, if there is one."""
        if self.split_by_function:
            warnings.warn(
                "the function that splits texts is not saved: after loading, set it again with "
                "module.parent.vocabulary.set_tokenizer(function).",
                UnbraidWarning,
                stacklevel=2,
            )

    def describe(self) -> str:
        """Return the settings for texts in one line: unknown words, rules and padding."""
        unknown = self.padding.unknown
        name = None if unknown is None else self.tokenizer.id_to_token(unknown)
        parts = ["texts are split by a function" if self.split_by_function else str(self._rules or "tokenizer.json")]
        if self._rules is not None:
            shown = "are left out" if unknown is None else f"-> index {unknown}"
            parts.insert(0, f"unknown words {shown}" + (f" ({quoted(name, 40)!r})" if name else ""))
        return ", ".join([*parts, str(self.padding)])

    def to_json(self) -> str:
        """Return the tokenizer as JSON."""
        return str(self.tokenizer.to_str())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokenizer and the padding; equal for equal vocabularies."""
        function = "" if self._encoder.split is None else str(id(self._encoder.split))
        return hashlib.sha256((self.to_json() + self.padding.model_dump_json() + function).encode()).hexdigest()

    @cached_property
    def words_digest(self) -> str:
        """SHA-256 of the tokenizer without the padding; equal where an index means the same word."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def only(self, kept: Sequence[int]) -> Vocabulary:
        """Copy the vocabulary with the words of some indices, which are numbered anew in their order.

        Args:
            kept: the indices, ascending; that of padding and that of unknown words are among them.

        Raises:
            ConfigError: a vocabulary that splits words into pieces or adds tokens to texts.
        """
        places = {index: place for place, index in enumerate(kept)}
        moved = {name: None if old is None else places[old] for name, old in self.padding.indices().items()}
        content = only_words(json.loads(self.to_json()), places, (UNKNOWN, BY_FUNCTION))
        found = self._of_content(content, self.padding.model_copy(update=moved), "vocabulary")
        found._rules, found._encoder.split = self._rules, self._encoder.split
        return found

    @property
    def size(self) -> int:
        """Largest index plus one."""
        largest = max(self._index_of_words().values(), default=0)
        return max(largest, self.padding.index, -1 if self.padding.unknown is None else self.padding.unknown) + 1

    def _index_of_words(self) -> dict[str, int]:
        """Return the index of each word, without entries that only mark an unknown word."""
        return {w: i for w, i in self.tokenizer.get_vocab().items() if w not in (UNKNOWN, BY_FUNCTION)}

    def some_words(self, count: int) -> list[str]:
        """Return words with the smallest indices, without those of padding and of unknown words.

        Args:
            count: largest number of words, 0 or more.

        Example:
            >>> Vocabulary.from_words(["flight", "hotel", "rome"]).some_words(2)
            ['flight', 'hotel']
        """
        marks = (self.padding.index, self.padding.unknown)
        found = {index: word for word, index in self._index_of_words().items() if index not in marks}
        return [found[index] for index in sorted(found)][:count]

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
        return padded(rows, length, self.padding), np.asarray([min(max(len(row), 1), length) for row in rows], np.int64)

    def indices(self, texts: Iterable[Any]) -> list[list[int]]:
        """Convert texts to word indices without padding or truncation; raise DataError for a value that is not text."""
        return [self._indices(text, number) for number, text in enumerate(as_texts(texts))]

    def _indices(self, text: Any, number: int) -> list[int]:
        unknown = self.padding.unknown
        if isinstance(text, str):
            ids = self._encoder.text(text)
        elif isinstance(text, Sequence) and all(isinstance(word, str) for word in text):
            ids = [self._encoder.word(word) for word in text]
        else:
            raise encoding.no_text(text, number)
        found = [unknown if i is None else i for i in ids]
        if None in found and not isinstance(text, str):  # without the word, the labels of later words would shift
            raise encoding.unknown_word(text[found.index(None)])
        return [i for i in found if i is not None]


def read_vocabulary(path: str | os.PathLike[str], steps: int | None = None) -> Vocabulary:
    """Read a vocabulary file of any kind; arguments and errors as in :meth:`Vocabulary.from_file`."""
    return Vocabulary.from_file(path, steps=steps)
