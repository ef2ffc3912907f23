"""Sentence pairs for a multi-target encoder-decoder. Targets start and end with a tag of their language.

Shapes: N pairs, S source words, T target words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, quoted
from unbraid.networks.spec import LanguageTag
from unbraid.translation.words import end_tag, start_tag


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with teacher forcing.

    Attributes:
        source: word indices, int64 (N, S), padded with 0 at the right.
        target: inputs of the decoder, int64 (N, T): the first token of the language, then the words.
        following: targets of the decoder, int64 (N, T): the words, then the last token of the language; 0 at padding.
        languages: language of each pair, (N,).
    """

    source: np.ndarray
    target: np.ndarray
    following: np.ndarray
    languages: np.ndarray

    @property
    def x(self) -> dict[str, np.ndarray]:
        """The inputs of an encoder-decoder network."""
        return {"source": self.source, "target": self.target}

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Concatenate several sets of pairs."""
        columns = [
            _padded([row[row != 0] for part in parts for row in getattr(part, name)])
            for name in ("source", "target", "following")
        ]
        return cls(columns[0], columns[1], columns[2], np.concatenate([part.languages for part in parts]))

    def take(self, rows: np.ndarray) -> Pairs:
        """Select pairs by their indices."""
        return Pairs(self.source[rows], self.target[rows], self.following[rows], self.languages[rows])

    def __len__(self) -> int:
        return len(self.source)


def make_pairs(
    source: Sequence[str],
    targets: Mapping[str, Sequence[str]],
    vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    steps: int | None = None,
) -> Pairs:
    """Pair each source sentence with its translation into each language.

    Args:
        source: sentences.
        targets: language -> one translation for each sentence; pairs with an empty side are left out.
        vocabulary: vocabulary of the sources.
        target_vocabulary: vocabulary of all targets, with the tags of the languages.
        steps: largest number of words of either side, without tags; longer pairs are left out. None keeps all pairs.

    Raises:
        DataError: no pair, different numbers of sentences, or a language without tags in the vocabulary.
    """
    read = vocabulary.indices(source)
    rows: list[tuple[list[int], list[int], list[int], str]] = []
    for language, sentences in targets.items():
        if len(sentences) != len(read):
            raise DataError(
                f"{len(sentences)} sentences of {language!r} for {len(read)} sources: give one sentence for each."
            )
        tag = find_tag(language, target_vocabulary)
        for one, words in zip(read, target_vocabulary.indices(sentences), strict=True):
            if words and one and (steps is None or max(len(one), len(words)) <= steps):
                rows.append((one, [tag.start, *words], [*words, tag.end], language))
    if not rows:
        raise DataError("no sentence pair is left: give at least one pair with words on both sides.")
    columns = [_padded([row[k] for row in rows]) for k in range(3)]  # type: ignore[misc]  # the first three are lists
    return Pairs(columns[0], columns[1], columns[2], np.asarray([row[3] for row in rows]))


def find_tag(language: str, vocabulary: Vocabulary) -> LanguageTag:
    """Return the first and the last token of a language; raise DataError if the vocabulary does not have both."""
    try:
        found = [vocabulary.tokenizer.token_to_id(tag(language)) for tag in (start_tag, end_tag)]
    except UnicodeEncodeError:
        raise DataError(f"language {quoted(language)!r} is not valid Unicode: expected a name such as 'fr'.") from None
    if None in found:
        raise DataError(
            f"the target vocabulary has no {start_tag(language)} and {end_tag(language)}: "
            "was the network trained on that language?"
        )
    return LanguageTag(name=language, start=found[0], end=found[1])


def _padded(rows: list[list[int]]) -> np.ndarray:
    lengths = np.asarray([len(row) for row in rows])
    found = np.zeros((len(rows), int(lengths.max())), np.int64)
    found[np.arange(found.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return found
