"""Translate with language modules from one or several parent networks, each with its own vocabularies.

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
from unbraid.modules.describing import modules_text
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.storage.loading import load_modules
from unbraid.storage.saving import save_languages
from unbraid.translation.decoding import decode
from unbraid.translation.language_model import LanguageModel, module_model, network_model
from unbraid.translation.words import join_words, word_list

BATCH = 256  # sentences that are translated at the same time
Modules = Mapping[Label, ConcernModule] | Mapping[str, ConcernModule] | Iterable[ConcernModule]


class Translator:
    """Translate into several languages with one module per language, without retraining.

    Args:
        modules: language -> module, or modules with their own labels; from one or several parent networks.

    Raises:
        IncompatibleModules: no module, two modules for one language, a module that is not from an encoder-decoder, or
            a parent network without vocabularies.

    Example:
        >>> from unbraid import decompose
        >>> from unbraid.demo.small import small_translator
        >>> network, pairs = small_translator()
        >>> translator = Translator(decompose(network, (pairs.x, pairs.languages)))
        >>> translator.languages
        ['fr', 'de']
        >>> len(translator.translate(["good morning", "thank you"], "fr", longest=5))
        2
        >>> translator.drop("de").languages
        ['fr']
    """

    def __init__(self, modules: Modules) -> None:
        named = [(str(name), module) for name, module in module_pairs(modules)]
        if not named:
            raise IncompatibleModules("a translator needs at least one language module, got none.")
        self.modules: dict[str, ConcernModule] = {}
        for language, module in named:
            if language in self.modules:
                raise IncompatibleModules(
                    f"two modules have the language {language!r}: pass a mapping language -> module."
                )
            check_vocabularies(module.parent, f"module {language!r}")
            module_model(module)
            self.modules[language] = module

    def __repr__(self) -> str:
        return modules_text("Translator", self.modules)

    @property
    def languages(self) -> list[str]:
        """Target languages, in the order of the modules."""
        return list(self.modules)

    @property
    def labels(self) -> list[str]:
        """Alias of :attr:`languages`, as in other models."""
        return self.languages

    def __getitem__(self, language: str) -> ConcernModule:
        return self.modules[self._known(language)]

    def translate(self, texts: Sequence[str], to: str, *, beam: int = 1, longest: int | None = None) -> list[str]:
        """Translate sentences.

        Args:
            texts: N sentences.
            to: target language, one of :attr:`languages`.
            beam: number of hypotheses per sentence, at least 1; 1 is greedy decoding.
            longest: largest number of words of a translation; 50 by default. An unrolled module is also limited by its
                number of timesteps.

        Returns:
            the N translations; "" for a text without words.

        Raises:
            IncompatibleModules: no module has this language.
            DataError: ``texts`` is not a list of texts.
            ConfigError: ``beam`` or ``longest`` below 1.

        Example:
            >>> from unbraid import decompose
            >>> from unbraid.demo.small import small_translator
            >>> network, pairs = small_translator()
            >>> translator = Translator(decompose(network, (pairs.x, pairs.languages)))
            >>> translator.translate([""], "de", beam=2)
            ['']
        """
        module = self[to]
        return _translated(module_model(module), module.parent, texts, beam, longest)

    def add(self, language: str, module: ConcernModule) -> Translator:
        """Make a translator with one more language.

        Args:
            language: the new language.
            module: its module.

        Raises:
            IncompatibleModules: the translator has this language already, or the module does not fit.
        """
        if language in self.modules:
            raise IncompatibleModules(f"the translator already has {language!r}: use replace() or another name.")
        return Translator({**self.modules, language: module})

    def replace(self, language: str, module: ConcernModule) -> Translator:
        """Make a translator in which ``module`` replaces the module of ``language``.

        Args:
            language: one of :attr:`languages`.
            module: the new module.

        Raises:
            IncompatibleModules: no module has this language, or the new module does not fit.
        """
        return Translator({**self.modules, self._known(language): module})

    def drop(self, language: str) -> Translator:
        """Make a translator without one of the languages.

        Args:
            language: one of :attr:`languages`.

        Raises:
            IncompatibleModules: no module has this language, or it is the only one.
        """
        self._known(language)
        return Translator({name: m for name, m in self.modules.items() if name != language})

    def save(
        self, folder: str | os.PathLike[str], license: str | None = None, scores: Mapping[str, Any] | None = None
    ) -> None:
        """Save the modules, their parent networks and a model card to a folder; the write is atomic.

        Args:
            folder: the target; an existing Unbraid folder is replaced.
            license: license identifier for the model card, for example ``cc-by-4.0``.
            scores: scores to store with the modules.

        Raises:
            FormatError: the target exists and is not an Unbraid folder.

        Example:
            >>> import tempfile
            >>> from unbraid import decompose
            >>> from unbraid.demo.small import small_translator
            >>> network, pairs = small_translator()
            >>> translator = Translator(decompose(network, (pairs.x, pairs.languages)))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     translator.save(f"{folder}/translator")
            ...     load_translator(f"{folder}/translator").languages
            ['fr', 'de']
        """
        save_languages(folder, self.modules, NOTHING.changed(license, scores))

    def _known(self, language: str) -> str:
        if language not in self.modules:
            raise IncompatibleModules(f"the translator has no language {language!r}; its languages: {self.languages}.")
        return language


def load_translator(folder: str | os.PathLike[str]) -> Translator:
    """Load a translator from a folder written by :meth:`Translator.save`.

    Args:
        folder: the folder.

    Raises:
        FormatError: a file is missing or damaged, has a newer format, or does not fit the other files.

    Example:
        >>> import tempfile
        >>> from unbraid import decompose
        >>> from unbraid.demo.small import small_translator
        >>> network, pairs = small_translator()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Translator(decompose(network, (pairs.x, pairs.languages))).save(f"{folder}/translator")
        ...     translator = load_translator(f"{folder}/translator")
        >>> translator["de"].label
        'de'
    """
    _, _, modules = load_modules(folder, "translator")
    return Translator({str(m.label): m for m in modules})


def translate_whole(
    network: Network, texts: Sequence[str], to: str, *, beam: int = 1, longest: int | None = None
) -> list[str]:
    """Translate with the parent network, for comparison; arguments and errors as in :meth:`Translator.translate`."""
    check_vocabularies(network, "the network")
    return _translated(network_model(network, to), network, texts, beam, longest)


def check_vocabularies(network: Network, who: str) -> None:
    """Raise IncompatibleModules if the source or the target vocabulary of a network is missing."""
    if network.vocabulary is None or network.target_vocabulary is None:
        raise IncompatibleModules(
            f"{who} has no {'source' if network.vocabulary is None else 'target'} vocabulary: set both with "
            "network.with_vocabulary(vocabulary, target) before the decomposition."
        )


def _translated(
    model: LanguageModel, network: Network, texts: Sequence[str], beam: int, longest: int | None
) -> list[str]:
    texts = as_texts(texts)
    if not all(isinstance(text, str) for text in texts):
        raise DataError("texts: expected a list of strings.")
    assert network.vocabulary is not None and network.target_vocabulary is not None
    rows = [_indices(network.vocabulary, text) for text in texts]
    order = sorted((n for n, row in enumerate(rows) if len(row)), key=lambda n: len(rows[n]))
    found = [""] * len(rows)
    assert isinstance(network.spec, EncoderDecoderSpec)
    words = word_list(network.target_vocabulary, network.spec.classes)
    for batch in _batches(order, rows, network.spec.source.mask_zero):
        source = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(rows[n]) for n in batch], batch_first=True)
        for n, indices in zip(batch, decode(model, source.to(model.words.device), longest, beam), strict=True):
            found[n] = join_words(words[index] for index in indices)
    return found


def _batches(order: list[int], rows: list[np.ndarray], masked: bool) -> Iterator[list[int]]:
    """Batches of sentences; of one length if the encoder does not mask padding."""
    groups = [order] if masked else [list(same) for _, same in groupby(order, key=lambda n: len(rows[n]))]
    for group in groups:
        yield from (group[start : start + BATCH] for start in range(0, len(group), BATCH))


def _indices(vocabulary: Vocabulary, text: str) -> np.ndarray:
    """Word indices of a text without padding (S,)."""
    row = vocabulary.encode([text])[0][0]
    return row[row != vocabulary.padding.index]
