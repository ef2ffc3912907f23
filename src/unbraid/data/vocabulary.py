"""How a network reads text: words to indices, padded to its T. Tokenising is the ``tokenizers`` library's work.

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
SEEN = 2**17  # words that are remembered
_UNKNOWN = "[unknown to this vocabulary]"


class Padding(BaseModel):
    """How index sequences become rows of one length.

    Attributes:
        steps: T; None runs each text at its own length, so that its result does not depend on the others.
        side: where padding goes, and where longer texts are cut: ``left`` is Keras' default.
        index: of padding.
        unknown: index of words that are not in the vocabulary; None leaves them out, as Keras does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, le=2**20)
    side: Side = "left"
    index: int = Field(0, ge=0, lt=2**31)
    unknown: int | None = Field(None, ge=0, lt=2**31)


class Vocabulary:
    """Words and their indices.

    Args:
        tokenizer: splits text and knows the indices.
        padding: T, sides, special indices.
        expansion: most characters that the tokenizer makes of one; 1 for tokenizers that a program builds.
    """

    def __init__(self, tokenizer: Tokenizer, padding: Padding, expansion: int = 1) -> None:
        self.tokenizer, self.padding, self.expansion = tokenizer, padding, expansion
        self._unknown = tokenizer.token_to_id(_UNKNOWN)
        self._seen: dict[str, list[int]] = {}  # single words' indices: asking the tokenizer takes microseconds each

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
        """The vocabulary of a Keras ``Tokenizer``.

        Args:
            word_index: word -> index, from 1.
            steps: T that texts are padded and cut to.
            num_words: as Keras': words of this index or more are unknown.
            side: where padding and cutting happen.
            unknown: index for unknown words (Keras' ``oov_token``); None leaves them out.
            lower: whether text is lower-cased.
            filters: characters that are read as spaces.

        Raises:
            DataError: no words, or an index that is no whole number >= 0.
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
        """A list of words, numbered from 2: 0 is padding and 1 every unknown word; raises DataError as above."""
        if isinstance(words, str | bytes | Mapping):
            raise DataError(f"words are a {type(words).__name__}, expected a list of words.")
        numbered = {word: index + 2 for index, word in enumerate(words)}
        return cls.from_word_index(numbered, steps=steps, side=side, unknown=1, lower=lower, filters="")

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, steps: int | None = None, side: Side = "right", index: int = 0
    ) -> Vocabulary:
        """A ``tokenizer.json``.

        Args:
            path: the file.
            steps: T that texts are padded and cut to.
            side: where padding and cutting happen.
            index: of padding.

        Raises:
            FormatError: the file is missing or no tokenizer.
        """
        content = limits.parse_json(_read(path), quoted(path))
        return cls._of_content(content, make_padding(steps=steps, side=side, index=index), quoted(path))

    @classmethod
    def from_json(cls, text: str, padding: Padding, where: str) -> Vocabulary:
        """What :meth:`to_json` gave; raises FormatError, naming ``where``."""
        return cls._of_content(limits.parse_json(text, where), padding, where)

    @classmethod
    def _of_content(cls, content: Any, padding: Padding, where: str) -> Vocabulary:
        """The vocabulary of a parsed tokenizer.json; the tokenizers library gets exactly what was checked."""
        expansion = check_tokenizer(content, where)
        with foreign(FormatError, f"{where}: no tokenizer.json"):
            tokenizer = Tokenizer.from_str(json.dumps(content))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            return cls(tokenizer, padding, expansion)

    def to_json(self) -> str:
        """The tokenizer as JSON."""
        return str(self.tokenizer.to_str())

    @cached_property
    def digest(self) -> str:
        """The same for vocabularies that read all texts alike."""
        return hashlib.sha256((self.to_json() + self.padding.model_dump_json()).encode()).hexdigest()

    @property
    def size(self) -> int:
        """One more than the largest index that texts can get."""
        largest = max((i for word, i in self.tokenizer.get_vocab().items() if word != _UNKNOWN), default=0)
        return max(largest, self.padding.index, -1 if self.padding.unknown is None else self.padding.unknown) + 1

    def encode(self, texts: Iterable[Any], steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Indices of texts.

        Args:
            texts: strings, or lists of words (each is then one timestep, as taggers need).
            steps: T, where the vocabulary has none of its own; None pads to the longest text's.

        Returns:
            int64 (N, T) and the lengths before padding (N,), at least 1.

        Raises:
            DataError: something that is no text.
        """
        rows = self.indices(texts)
        length = self.padding.steps or steps or max([1, *(len(row) for row in rows)])
        if 8 * len(rows) * length > limits.current().file_bytes:
            raise DataError(
                f"{len(rows)} texts padded to {length} words take {8 * len(rows) * length} bytes: give the vocabulary "
                "a length (steps=...), or pass fewer texts at a time."
            )
        found = np.full((len(rows), length), self.padding.index, np.int64)
        for n, row in enumerate(rows):
            place(found[n], row, self.padding.side)
        return found, np.asarray([min(max(len(row), 1), length) for row in rows], np.int64)

    def indices(self, texts: Iterable[Any]) -> list[list[int]]:
        """Indices of texts as they are, neither padded nor cut; raises DataError for something that is no text."""
        return [self._indices(text, number) for number, text in enumerate(as_texts(texts))]

    def _indices(self, text: Any, number: int) -> list[int]:
        if isinstance(text, str):
            ids = self._encoded(text)
        elif isinstance(text, Sequence) and all(isinstance(word, str) for word in text):
            ids = [self._index(word) for word in text]
        else:
            hint = " (a missing value?)" if text is None or isinstance(text, float) else ""
            raise DataError(
                f"example {number}: expected text (strings, or lists of words), got {type(text).__name__}{hint}."
            )
        unknown = self.padding.unknown
        named = [unknown if i == self._unknown else i for i in ids] if self._unknown is not None else ids
        return [i for i in named if i is not None]

    def _encoded(self, text: str) -> list[int]:
        longest = limits.current().text_chars
        if len(text) * self.expansion > longest:
            raise DataError(
                f"a text of {len(text)} characters is too long for this vocabulary, expected at most "
                f"{longest // self.expansion}: cut it, or raise unbraid.limits.override(text_chars=...)."
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{quoted(repr(text), 60)} is no text: it cannot be written in UTF-8.") from None
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
        if self.padding.unknown is None:  # leaving a word out would shift the labels behind it
            raise DataError(
                f"word {quoted(repr(word), 60)} is unknown, and this vocabulary has no index for unknown words."
            )
        return self.padding.unknown


def read_vocabulary(path: str | os.PathLike[str], steps: int | None = None) -> Vocabulary:
    """A vocabulary file: a Keras Tokenizer's ``word_index`` as JSON, or a ``tokenizer.json``.

    Args:
        path: the file.
        steps: T that texts are padded and cut to.

    Raises:
        FormatError: neither.
        DataError: a word_index with other values than whole numbers.
    """
    try:
        content = limits.parse_json(_read(path), quoted(path))
    except FormatError as error:
        raise FormatError(f"{str(error).rstrip(chr(46))}; expected a word_index or tokenizer.json.") from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        return Vocabulary._of_content(content, make_padding(steps=steps, side="right"), quoted(path))
    if not isinstance(content, dict):
        raise FormatError(f"{quoted(path)}: holds {type(content).__name__}, expected a mapping word -> index.")
    return Vocabulary.from_word_index(content, steps=steps)


def make_padding(**fields: Any) -> Padding:
    """A :class:`Padding`; raises DataError, naming the field that is out of range."""
    try:
        return Padding(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        found = quoted(repr(first["input"]), 40)
        raise DataError(f"{first['loc'][0]}={found}: {first['msg'].lower()}.") from None


@contextmanager
def foreign(kind: type[UnbraidError], where: str) -> Iterator[None]:
    """Errors of the tokenizers library as one of ours: it raises bare Exceptions, and panics that are none at all."""
    try:
        yield
    except (UnbraidError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise kind(f"{where}: {quoted(error, 100)}.") from None


def _checked(word_index: Any, num_words: int | None) -> dict[str, int]:
    """Words below ``num_words`` and their indices; raises DataError for anything but words and whole numbers."""
    if not isinstance(word_index, Mapping) or not word_index:
        raise DataError(
            f"word_index is {quoted(repr(word_index), 40)}: expected a mapping word -> index that is not empty."
        )
    largest = limits.current().vocabulary - 1
    found = {}
    for word, index in word_index.items():
        if not isinstance(word, str) or any("\ud800" <= c <= "\udfff" for c in word):
            raise DataError(f"word_index has {quoted(repr(word), 40)}, which is no word in valid Unicode.")
        if not isinstance(index, int | np.integer) or isinstance(index, bool) or not 0 <= index <= largest:
            raise DataError(
                f"word_index maps {quoted(repr(word), 40)} to {quoted(repr(index), 40)}, expected a whole number "
                f"from 0 to {largest}."
            )
        if num_words is None or index < num_words:
            found[str(word)] = int(index)
    if not found:
        raise DataError(f"word_index has no index below num_words={num_words}.")
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
