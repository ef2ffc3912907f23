"""A translator made of language modules, of one parent or of several, each with its own vocabularies.

Shapes: N sentences, S source words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch

from unbraid.data.targets import Label
from unbraid.data.texts import as_texts
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, IncompatibleModules
from unbraid.modules.about import NOTHING
from unbraid.modules.arguments import module_pairs
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.storage.loading import load_modules
from unbraid.storage.saving import save_languages
from unbraid.translation.decoding import decode
from unbraid.translation.language_model import Voice, module_voice, network_voice
from unbraid.translation.words import join_words, word_list

BATCH = 256  # sentences that are translated side by side
Modules = Mapping[Label, ConcernModule] | Mapping[str, ConcernModule] | Iterable[ConcernModule]


class Translator:
    """Translates into as many languages as it has modules; none of them is retrained.

    Args:
        modules: language -> module, or modules under their own labels; of one network or of several.

    Raises:
        IncompatibleModules: no module, two of one language, one that is no language's, or one without vocabularies.
    """

    def __init__(self, modules: Modules) -> None:
        named = [(str(name), module) for name, module in module_pairs(modules)]
        if not named:
            raise IncompatibleModules("a translator needs at least one language's module.")
        self.modules: dict[str, ConcernModule] = {}
        for language, module in named:
            if language in self.modules:
                raise IncompatibleModules(f"two modules say {language!r}: pass a mapping of languages to modules.")
            check_vocabularies(module.parent, f"module {language!r}")
            module_voice(module)
            self.modules[language] = module

    @property
    def languages(self) -> list[str]:
        """What it translates into."""
        return list(self.modules)

    @property
    def labels(self) -> list[str]:
        """The same, as other models call them."""
        return self.languages

    def __getitem__(self, language: str) -> ConcernModule:
        return self.modules[self._known(language)]

    def translate(self, texts: Sequence[str], to: str, *, beam: int = 1, longest: int | None = None) -> list[str]:
        """Translate sentences.

        Args:
            texts: sentences.
            to: one of :attr:`languages`.
            beam: hypotheses a sentence; 1 takes the likeliest word at each step.
            longest: most words of a translation; 50 by default, and never more than an unrolled module's timesteps.

        Returns:
            their translations; "" for a text without words.

        Raises:
            IncompatibleModules: a language that it does not know.
            DataError: something that is no list of texts.
            ConfigError: ``beam`` or ``longest`` below 1.
        """
        module = self[to]
        return _translated(module_voice(module), module.parent, texts, beam, longest)

    def add(self, language: str, module: ConcernModule) -> Translator:
        """A translator of one language more; raises IncompatibleModules where it has that already."""
        if language in self.modules:
            raise IncompatibleModules(f"it says {language!r} already: use replace(), or another name.")
        return Translator({**self.modules, language: module})

    def replace(self, language: str, module: ConcernModule) -> Translator:
        """A translator in which ``module`` says ``language``; raises IncompatibleModules for an unknown one."""
        return Translator({**self.modules, self._known(language): module})

    def drop(self, language: str) -> Translator:
        """A translator without a language; raises IncompatibleModules for an unknown one, or the last."""
        self._known(language)
        return Translator({name: m for name, m in self.modules.items() if name != language})

    def save(
        self, folder: str | os.PathLike[str], license: str | None = None, scores: Mapping[str, Any] | None = None
    ) -> None:
        """Write the folder format, whole or not at all, each parent once, with a model card.

        Args:
            folder: where; an Unbraid folder that is there is replaced.
            license: for the card, as ``cc-by-4.0``.
            scores: figures to keep beside the modules.

        Raises:
            FormatError: something else lies there.
        """
        save_languages(folder, self.modules, NOTHING.changed(license, scores))

    def _known(self, language: str) -> str:
        if language not in self.modules:
            raise IncompatibleModules(f"the translator does not say {language!r}; it knows {self.languages}.")
        return language


def load_translator(folder: str | os.PathLike[str]) -> Translator:
    """Read what :meth:`Translator.save` wrote.

    Args:
        folder: that folder.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the others.
    """
    _, _, modules = load_modules(folder, "translator")
    return Translator({str(m.label): m for m in modules})


def translate_whole(
    network: Network, texts: Sequence[str], to: str, *, beam: int = 1, longest: int | None = None
) -> list[str]:
    """Translate by a whole encoder-decoder, to compare its modules with; raises as :meth:`Translator.translate`."""
    check_vocabularies(network, "the network")
    return _translated(network_voice(network, to), network, texts, beam, longest)


def check_vocabularies(network: Network, who: str) -> None:
    """Raises IncompatibleModules where a network cannot read or say words."""
    if network.vocabulary is None or network.target_vocabulary is None:
        raise IncompatibleModules(
            f"{who} has no vocabulary of {'what it reads' if network.vocabulary is None else 'what it says'}: give its "
            "network both with with_vocabulary(vocabulary, target) before it is taken apart."
        )


def _translated(voice: Voice, network: Network, texts: Sequence[str], beam: int, longest: int | None) -> list[str]:
    texts = as_texts(texts)
    if not all(isinstance(text, str) for text in texts):
        raise DataError("expected a list of texts to translate.")
    assert network.vocabulary is not None and network.target_vocabulary is not None
    rows = [_indices(network.vocabulary, text) for text in texts]
    words = word_list(network.target_vocabulary)
    order = sorted((n for n, row in enumerate(rows) if len(row)), key=lambda n: len(rows[n]))
    found = [""] * len(rows)
    assert isinstance(network.spec, EncoderDecoderSpec)
    for batch in _batches(order, rows, network.spec.source.mask_zero):
        source = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(rows[n]) for n in batch], batch_first=True)
        for n, said in zip(batch, decode(voice, source.to(voice.words.device), longest, beam), strict=True):
            found[n] = join_words(words[index] for index in said)
    return found


def _batches(order: list[int], rows: list[np.ndarray], masked: bool) -> Iterator[list[int]]:
    """Sentences side by side; of one length where the encoder does not mask padding."""
    groups = [order] if masked else [list(same) for _, same in groupby(order, key=lambda n: len(rows[n]))]
    for group in groups:
        yield from (group[start : start + BATCH] for start in range(0, len(group), BATCH))


def _indices(vocabulary: Vocabulary, text: str) -> np.ndarray:
    """A text's words (S,), none of them padding."""
    row = vocabulary.encode([text])[0][0]
    return row[row != vocabulary.padding.index]
