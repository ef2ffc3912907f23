"""Sentences without data files: dates and numbers in words, from Babel and num2words, in several languages."""

from __future__ import annotations

import datetime
import hashlib
import re
from dataclasses import dataclass

import numpy as np

from unbraid.errors import UnbraidError
from unbraid.translation.words import join_words, split_words

SOURCE = "en"
LARGEST = 99  # German and Italian write larger numbers as one long word
YEAR = 2024  # a leap year, so that all dates occur


@dataclass(frozen=True)
class Phrases:
    """Sentences with their translations.

    Attributes:
        source: English sentences.
        targets: language -> one translation for each sentence.
    """

    source: list[str]
    targets: dict[str, list[str]]

    def take(self, rows: np.ndarray) -> Phrases:
        """Select sentences by their indices."""
        return Phrases([self.source[n] for n in rows], {k: [v[n] for n in rows] for k, v in self.targets.items()})


def make_phrases(languages: list[str], count: int, seed: int) -> tuple[Phrases, Phrases]:
    """Make training sentences and test sentences (a tenth); no English sentence is in both sets.

    Args:
        languages: language codes of Babel and num2words.
        count: number of all sentences.
        seed: seed of the dates and numbers.

    Raises:
        UnbraidError: Babel or num2words is not installed.
    """
    rng = np.random.default_rng(seed)
    days = rng.integers(0, 366, count).tolist()
    numbers = rng.integers(0, LARGEST + 1, count).tolist()
    phrases = {v: [phrase(day, number, v) for day, number in zip(days, numbers, strict=True)]
               for v in (SOURCE, *languages)}  # fmt: skip
    source = phrases.pop(SOURCE)
    test = np.asarray([hashlib.sha256(text.encode()).digest()[0] < 26 for text in source])
    every = Phrases(source, phrases)
    return every.take(np.flatnonzero(~test)), every.take(np.flatnonzero(test))


def phrase(day: int, number: int, language: str) -> str:
    """Write a day of the year (0 to 365) and a number in words: ``thursday, march twenty-one: seven``.

    The order of the words follows the language.
    """
    try:
        from babel.dates import format_date, get_date_format
        from num2words import num2words
    except ImportError:
        raise UnbraidError("the sentences need Babel and num2words: pip install 'unbraid[translation]'.") from None
    date = datetime.date(YEAR, 1, 1) + datetime.timedelta(days=day)
    pattern = re.sub(r",?\s*y.*$", "", get_date_format("full", locale=language).pattern)
    written = format_date(date, pattern, locale=language)
    text = re.sub(r"\d+\.?", lambda found: num2words(int(found[0].rstrip(".")), lang=language), written)
    return join_words(split_words(f"{text}: {num2words(number, lang=language)}"))
