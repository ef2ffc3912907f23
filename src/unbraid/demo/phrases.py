"""Sentences without data files: dates and numbers in words, as Babel and num2words say them in each language."""

from __future__ import annotations

import datetime
import hashlib
import re
from dataclasses import dataclass

import numpy as np

from unbraid.errors import UnbraidError
from unbraid.translation.words import join_words, split_words

SOURCE = "en"
LARGEST = 99  # above it German and Italian write long numbers as one word
YEAR = 2024  # a leap year: every date there is


@dataclass(frozen=True)
class Phrases:
    """Sentences with their translations.

    Attributes:
        source: English sentences.
        targets: language -> as many translations.
    """

    source: list[str]
    targets: dict[str, list[str]]

    def take(self, rows: np.ndarray) -> Phrases:
        """Some of the sentences."""
        return Phrases([self.source[n] for n in rows], {k: [v[n] for n in rows] for k, v in self.targets.items()})


def make_phrases(languages: list[str], count: int, seed: int) -> tuple[Phrases, Phrases]:
    """Sentences to train on and, a tenth of them, to test with; no English sentence is in both.

    Args:
        languages: codes that Babel and num2words know.
        count: how many in all.
        seed: chooses dates and numbers.

    Raises:
        UnbraidError: Babel or num2words is not installed.
    """
    rng = np.random.default_rng(seed)
    days = rng.integers(0, 366, count).tolist()
    numbers = rng.integers(0, LARGEST + 1, count).tolist()
    said = {v: [phrase(day, number, v) for day, number in zip(days, numbers, strict=True)]
            for v in (SOURCE, *languages)}  # fmt: skip
    source = said.pop(SOURCE)
    test = np.asarray([hashlib.sha256(text.encode()).digest()[0] < 26 for text in source])
    every = Phrases(source, said)
    return every.take(np.flatnonzero(~test)), every.take(np.flatnonzero(test))


def phrase(day: int, number: int, language: str) -> str:
    """A day of the year (0 to 365) and a number in words: ``thursday, march twenty-one: seven``.

    The order is each language's own.
    """
    try:
        from babel.dates import format_date, get_date_format
        from num2words import num2words
    except ImportError:
        raise UnbraidError("the phrases need Babel and num2words: pip install 'unbraid[translation]'.") from None
    date = datetime.date(YEAR, 1, 1) + datetime.timedelta(days=day)
    pattern = re.sub(r",?\s*y.*$", "", get_date_format("full", locale=language).pattern)
    said = format_date(date, pattern, locale=language)
    text = re.sub(r"\d+\.?", lambda found: num2words(int(found[0].rstrip(".")), lang=language), said)
    return join_words(split_words(f"{text}: {num2words(number, lang=language)}"))
