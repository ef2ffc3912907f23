"""A translator's scores, language by language, beside those of the whole network."""

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
    """What a translator and, where one was given, a whole network score.

    Attributes:
        modules: language -> scores of its module.
        monolithic: language -> scores of the network; empty without one.
    """

    modules: dict[str, TranslationScores]
    monolithic: dict[str, TranslationScores]

    def delta(self, language: str) -> float:
        """BLEU of a module less that of the network, in points."""
        return self.modules[language].bleu - self.monolithic[language].bleu

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
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
    """Translate ``texts`` into every language of ``references`` and compare.

    Args:
        translator: the modules.
        texts: sentences.
        references: language -> their translations.
        against: a whole network to compare with; languages that it does not say are left out of its scores.
        beam: hypotheses a sentence.
        longest: most words of a translation.

    Raises:
        DataError: no language, or not one reference for each text.
        IncompatibleModules: a language that the translator does not say.
        UnbraidError: sacrebleu is not installed.
    """
    if not references:
        raise DataError("references are empty: expected language -> sentences.")
    modules, monolithic = {}, {}
    for language, wanted in references.items():
        said = translator.translate(texts, language, beam=beam, longest=longest)
        modules[language] = score(said, wanted)
        if against is not None and language in against.labels:
            whole = translate_whole(against, texts, language, beam=beam, longest=longest)
            monolithic[language] = score(whole, wanted)
    return TranslatorEvaluation(modules, monolithic)


def score(translations: Sequence[str], references: Sequence[str]) -> TranslationScores:
    """The scores of translations into one language; raises DataError and UnbraidError as above."""
    words = [[split_words(text) for text in side] for side in (translations, references)]
    return translation_scores(translations, references, (words[0], words[1]))
