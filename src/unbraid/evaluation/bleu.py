"""Scores of translations: BLEU and chrF from sacrebleu, and the BLEU of the paper."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unbraid.errors import DataError, UnbraidError

ORDER = 4  # longest n-gram


@dataclass(frozen=True)
class TranslationScores:
    """Scores of a corpus in percent. Case is ignored.

    Attributes:
        bleu: BLEU of sacrebleu.
        chrf: chrF of sacrebleu.
        paper_bleu: BLEU of the paper: 1- to 4-grams over given words without smoothing, as NLTK's ``corpus_bleu``.
        sentences: number of sentences.
        bleu_signature: sacrebleu's settings for BLEU.
        chrf_signature: sacrebleu's settings for chrF.
    """

    bleu: float
    chrf: float
    paper_bleu: float
    sentences: int
    bleu_signature: str
    chrf_signature: str


def translation_scores(
    translations: Sequence[str],
    references: Sequence[str],
    words: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
) -> TranslationScores:
    """Compare translations with one reference each.

    Args:
        translations: N sentences as plain text.
        references: N sentences as plain text.
        words: the words of the translations and of the references, for the BLEU of the paper.

    Raises:
        DataError: no sentence, or not one reference for each translation.
        UnbraidError: sacrebleu is not installed.
    """
    if not translations or len(translations) != len(references):
        raise DataError(
            f"{len(translations)} translations and {len(references)} references: expected one reference for each "
            "translation."
        )
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise UnbraidError("BLEU needs sacrebleu: pip install 'unbraid[translation]'.") from None
    bleu, chrf = BLEU(lowercase=True), CHRF(lowercase=True)
    found = bleu.corpus_score(list(translations), [list(references)])
    characters = chrf.corpus_score(list(translations), [list(references)])
    return TranslationScores(
        found.score,
        characters.score,
        100 * paper_bleu(*words),
        len(translations),
        str(bleu.get_signature()),
        str(chrf.get_signature()),
    )


def paper_bleu(translations: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """Compute corpus BLEU of 1- to 4-grams without smoothing, as NLTK's ``corpus_bleu`` with one reference each.

    Args:
        translations: words of each translation.
        references: words of each reference.

    Returns:
        a share in [0, 1]. It is 0 where no word is right, and almost 0 where no n-gram of some order is right, as in
        NLTK.
    """
    right, total = [0] * ORDER, [0] * ORDER
    for translation, reference in zip(translations, references, strict=True):
        for n in range(1, ORDER + 1):
            ours, theirs = _ngrams(translation, n), _ngrams(reference, n)
            right[n - 1] += sum((ours & theirs).values())
            total[n - 1] += max(1, sum(ours.values()))
    if right[0] == 0:
        return 0.0
    logs = [math.log(r / t) if r else math.log(sys.float_info.min) for r, t in zip(right, total, strict=True)]
    translated, expected = sum(map(len, translations)), sum(map(len, references))  # words
    brevity = 1.0 if translated > expected else math.exp(1 - expected / translated)
    return brevity * math.exp(math.fsum(logs) / ORDER)


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
