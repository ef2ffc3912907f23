"""How good translations are: BLEU and chrF as sacrebleu computes them, and the paper's BLEU beside them."""

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
    """Scores of a corpus, in percent; upper and lower case are the same.

    Attributes:
        bleu: sacrebleu's BLEU.
        chrf: sacrebleu's chrF.
        paper_bleu: 4-gram BLEU over given words without smoothing, as NLTK's ``corpus_bleu`` (the paper's).
        sentences: how many were scored.
        bleu_signature: how BLEU was computed.
        chrf_signature: how chrF was.
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
        translations: as a reader sees them.
        references: likewise.
        words: of both, for the paper's BLEU, which leaves splitting to its caller.

    Raises:
        DataError: no sentence, or not one reference for each.
        UnbraidError: sacrebleu is not installed.
    """
    if not translations or len(translations) != len(references):
        raise DataError(f"{len(translations)} translations and {len(references)} references: expected one for each.")
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
    """Corpus BLEU of 1- to 4-grams, unsmoothed: what NLTK's ``corpus_bleu`` gives for one reference each.

    Args:
        translations: words of each translation.
        references: words of each reference.

    Returns:
        a share in [0, 1]; 0 where no word is right, and next to 0 where no n-gram of some order is, as in NLTK.
    """
    right, total = [0] * ORDER, [0] * ORDER
    for said, wanted in zip(translations, references, strict=True):
        for n in range(1, ORDER + 1):
            ours, theirs = _ngrams(said, n), _ngrams(wanted, n)
            right[n - 1] += sum((ours & theirs).values())
            total[n - 1] += max(1, sum(ours.values()))
    if right[0] == 0:
        return 0.0
    logs = [math.log(r / t) if r else math.log(sys.float_info.min) for r, t in zip(right, total, strict=True)]
    said_words, wanted_words = sum(map(len, translations)), sum(map(len, references))
    brevity = 1.0 if said_words > wanted_words else math.exp(1 - wanted_words / said_words)
    return brevity * math.exp(math.fsum(logs) / ORDER)


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
