"""How a network reads text: words to indices, padded to its T. Tokenising is the ``tokenizers`` library's work.

Shapes: N texts, T timesteps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from unbraid.errors import DataError, FormatError

KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
ROW = list | tuple | np.ndarray  # what labels of one example may come in, where there are several
SEEN = 2**17  # words that are remembered
Side = Literal["left", "right"]
_UNKNOWN = "[unknown to this vocabulary]"


class Padding(BaseModel):
    """How index sequences become rows of one length.

    Attributes:
        steps: T; None pads to the longest text given.
        side: where padding goes, and where longer texts are cut: ``left`` is Keras' default.
        index: of padding.
        unknown: index of words that are not in the vocabulary; None leaves them out, as Keras does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, le=2**20)
    side: Side = "left"
    index: int = Field(0, ge=0)
    unknown: int | None = Field(None, ge=0)


class Vocabulary:
    """Words and their indices.

    Args:
        tokenizer: splits text and knows the indices.
        padding: T, sides, special indices.
    """

    def __init__(self, tokenizer: Tokenizer, padding: Padding) -> None:
        self.tokenizer, self.padding = tokenizer, padding
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
        words = {w: i for w, i in word_index.items() if num_words is None or i < num_words}
        if not words:
            raise DataError("word_index is empty: expected a mapping word -> index.")
        indices: list[Any] = list(words.values())  # a file may hold anything
        if any(not isinstance(i, int | np.integer) or i < 0 for i in indices):
            raise DataError("word_index must map every word to a whole number >= 0.")
        vocabulary = {w: int(i) for w, i in words.items()}
        vocabulary[_UNKNOWN] = max(vocabulary.values()) + 1
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
        changes: list[normalizers.Normalizer] = [normalizers.Lowercase()] if lower else []
        if filters:
            pattern = "[" + "".join(f"\\x{{{ord(c):x}}}" for c in filters) + "]"
            changes.append(normalizers.Replace(Regex(pattern), " "))
        if changes:
            tokenizer.normalizer = normalizers.Sequence(changes)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return cls(tokenizer, Padding(steps=steps, side=side, unknown=unknown))

    @classmethod
    def from_words(
        cls, words: Sequence[str], *, steps: int | None = None, side: Side = "right", lower: bool = True
    ) -> Vocabulary:
        """A list of words, numbered from 2: 0 is padding and 1 every unknown word; raises DataError as above."""
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
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: cannot be read ({error}); expected a tokenizer.json.") from None
        return cls.from_json(text, Padding(steps=steps, side=side, index=index), str(path))

    @classmethod
    def from_json(cls, text: str, padding: Padding, where: str) -> Vocabulary:
        """What :meth:`to_json` gave; raises FormatError, naming ``where``."""
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises the bare Exception
            raise FormatError(f"{where}: no tokenizer.json ({str(error)[:80]}).") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, padding)

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
            steps: T, where the vocabulary has none of its own; None: the longest text's.

        Returns:
            int64 (N, T) and the lengths before padding (N,), at least 1.

        Raises:
            DataError: something that is no text.
        """
        rows = self.indices(texts)
        length = self.padding.steps or steps or max([1, *(len(row) for row in rows)])
        found = np.full((len(rows), length), self.padding.index, np.int64)
        for n, row in enumerate(rows):
            place(found[n], row, self.padding.side)
        return found, np.asarray([min(max(len(row), 1), length) for row in rows], np.int64)

    def indices(self, texts: Iterable[Any]) -> list[list[int]]:
        """Indices of texts as they are, neither padded nor cut; raises DataError for something that is no text."""
        return [self._indices(text) for text in texts]

    def _indices(self, text: Any) -> list[int]:
        if isinstance(text, str):
            ids = self._encoded(text)
        elif isinstance(text, Sequence) and all(isinstance(word, str) for word in text):
            ids = [self._index(word) for word in text]
        else:
            raise DataError(f"expected text (strings, or lists of words), got {type(text).__name__}.")
        unknown = self.padding.unknown
        named = [unknown if i == self._unknown else i for i in ids] if self._unknown is not None else ids
        return [i for i in named if i is not None]

    def _encoded(self, text: str) -> list[int]:
        try:
            return list(self.tokenizer.encode(text).ids)
        except TypeError:  # half a character
            raise DataError(f"{text[:40]!r} is no text: it cannot be written in UTF-8.") from None

    def _index(self, word: str) -> int:
        ids = self._seen.get(word)
        if ids is None:
            ids = self._encoded(word)
            if len(self._seen) < SEEN:
                self._seen[word] = ids
        if len(ids) == 1 and ids[0] != self._unknown:
            return int(ids[0])
        if self.padding.unknown is None:  # leaving a word out would shift the labels behind it
            raise DataError(f"word {word!r} is unknown, and this vocabulary has no index for unknown words.")
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
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); expected a word_index or tokenizer.json.") from None
    if isinstance(content, dict) and "model" in content and isinstance(content["model"], dict):
        return Vocabulary.from_file(path, steps=steps)
    if not isinstance(content, dict):
        raise FormatError(f"{path}: holds {type(content).__name__}, expected a mapping word -> index.")
    return Vocabulary.from_word_index(content, steps=steps)


def place(room: np.ndarray, row: Sequence[Any], side: Side) -> None:
    """Put ``row`` into ``room`` (T,), padded and cut at ``side``."""
    kept = row[-len(room) :] if side == "left" else row[: len(room)]
    if len(kept) == 0:
        return
    if side == "left":
        room[len(room) - len(kept) :] = kept
    else:
        room[: len(kept)] = kept


def aligned(labels: Sequence[Sequence[Any]], steps: int, side: Side) -> list[list[Any]]:
    """Labels of lists of words, one per timestep, padded ("" or -1: no label) and cut as the words are; N rows of T."""
    nothing: Any = "" if any(isinstance(v, str) for row in labels for v in row) else -1
    rows = []
    for row in labels:
        room = np.full(steps, nothing, dtype=object)
        place(room, row, side)
        rows.append(room.tolist())
    return rows


def has_rows(y: Any) -> bool:
    """Whether labels come as lists, one list for every example."""
    return isinstance(y, Sequence) and not isinstance(y, str) and any(isinstance(row, ROW) for row in y)


def check_rows(y: Sequence[Any], texts: Sequence[Any]) -> None:
    """Raises DataError where a row of labels is none, or not as long as the words that it is for."""
    for n, (row, words) in enumerate(zip(y, texts, strict=False)):
        if not isinstance(row, ROW) or any(isinstance(label, ROW) for label in row):
            raise DataError(f"example {n}: expected a list of labels, one for each word, got {str(row)[:40]!r}.")
        if not isinstance(words, str) and len(row) != len(words):
            raise DataError(f"example {n}: {len(row)} labels for {len(words)} words, expected one for each.")


def is_text(x: Any) -> bool:
    """Whether inputs are text: a list or array of strings, or of lists of words."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "UO"
    if isinstance(x, str) or not isinstance(x, Sequence) or len(x) == 0:
        return False
    first = next((row for row in x if not isinstance(row, Sequence) or len(row)), x[0])
    return isinstance(first, str) or (isinstance(first, Sequence) and all(isinstance(word, str) for word in first[:1]))
