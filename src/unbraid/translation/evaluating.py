"""Evaluate a translator for each language, and compare it with the parent network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unbraid.errors import DataError
from unbraid.evaluation.bleu import TranslationScores, translation_scores
from unbraid.networks.network import Network
from unbraid.translation.translator import Translator, translate_whole
from unbraid.translation.words import split_words


@dataclass(frozen=True)
class TranslatorEvaluation:
    """Scores of a translator and of a parent network.

    Attributes:
        modules: language -> scores of its module.
        monolithic: language -> scores of the network; empty without ``against``.
    """

    modules: dict[str, TranslationScores]
    monolithic: dict[str, TranslationScores]

    def delta(self, language: str) -> float:
        """Return BLEU of the module minus BLEU of the network, in points."""
        return self.modules[language].bleu - self.monolithic[language].bleu

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as plain values, for JSON."""
        return asdict(self)


def evaluate_translator(
    translator: Translator,
    texts: Sequence[str],
    references: Mapping[str, Sequence[str]],
    *,
    against: Network | None = None,
    beam: int = 1,
    longest: int | None = None,
) -> TranslatorEvaluation:
    """Translate ``texts`` into each language of ``references``, and score the translations.

    Args:
        translator: the translator.
        texts: N sentences.
        references: language -> N reference translations.
        against: a parent network to compare with. It has no scores for languages that it does not have.
        beam: number of hypotheses per sentence.
        longest: largest number of words of a translation.

    Raises:
        DataError: no language, or not one reference for each text.
        IncompatibleModules: a language that the translator does not have.
        UnbraidError: sacrebleu is not installed.
    """
    if not references:
        raise DataError("references are empty: expected a mapping language -> sentences.")
    modules, monolithic = {}, {}
    for language, wanted in references.items():
        modules[language] = score(translator.translate(texts, language, beam=beam, longest=longest), wanted)
        if against is not None and language in against.labels:
            whole = translate_whole(against, texts, language, beam=beam, longest=longest)
            monolithic[language] = score(whole, wanted)
    return TranslatorEvaluation(modules, monolithic)


def score(translations: Sequence[str], references: Sequence[str]) -> TranslationScores:
    """Score translations into one language; errors as for :func:`evaluate_translator`."""
    words = [[split_words(text) for text in side] for side in (translations, references)]
    return translation_scores(translations, references, (words[0], words[1]))
