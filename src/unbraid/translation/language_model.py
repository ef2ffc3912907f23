"""A language model for decoding: a whole encoder-decoder, or the module of one language.

Shapes: N sentences, R words of the output layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unbraid.config import Mode
from unbraid.errors import DataError, IncompatibleModules
from unbraid.modules.module import ConcernModule
from unbraid.networks.encoder_decoder import EncoderDecoder, States
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec, LanguageTag
from unbraid.translation.words import UNK


@dataclass(frozen=True)
class LanguageModel:
    """An encoder-decoder with an output layer for one language.

    Attributes:
        body: encoder and decoder.
        head: output layer; computes logits (N, R).
        words: target index of each logit, (R,).
        banned: columns that are never predicted: padding, unknown words and first tokens.
        tag: first and last token of the language.
        ends: last tokens of all languages; each of them ends a sentence.
        longest: largest number of words of a sentence for an unrolled module; None without a limit.
    """

    body: EncoderDecoder
    head: nn.Module
    words: Tensor
    banned: Tensor
    tag: LanguageTag
    ends: Tensor
    longest: int | None = None

    def scores(self, token: Tensor, states: States, position: int) -> tuple[Tensor, States]:
        """Compute the logits of the next word.

        Args:
            token: the previous word, (N,).
            states: states from ``body.encode`` or from the previous step.
            position: number of words before this one.

        Returns:
            logits (N, R), -inf for banned words, and the next states.

        Raises:
            DataError: the position is after the last timestep of an unrolled module.
        """
        features, states = self.body.step(token, states, position)
        return self.head(features).index_fill_(1, self.banned, -torch.inf), states


def network_model(network: Network, language: str) -> LanguageModel:
    """Make the language model of a whole network for ``language``; raise DataError if the network does not have it."""
    words = torch.arange(network.spec.classes, device=network.device)
    return _language_model(network, network.body, network.head, words, find_language(network, language))


def module_model(module: ConcernModule) -> LanguageModel:
    """Make the language model of a module; raise IncompatibleModules for a module that is not a language."""
    words = module.head.words
    if not isinstance(module.parent.spec, EncoderDecoderSpec) or words is None:
        raise IncompatibleModules(
            f"module {module.label!r} is of a network of type {module.io}, expected the module of a language of an "
            "encoder-decoder: use unbraid.compose for classifiers."
        )
    tag = module.parent.spec.languages[module.index]
    longest = None
    if module.concern.mode is Mode.UNROLLED:
        longest = module.concern.steps[module.parent.spec.decoder[0].name]
    return _language_model(module.parent, module.body, module.head, words, tag, longest)


def find_language(network: Network, language: str) -> LanguageTag:
    """Return the tag of a language; raise DataError if the network does not have it."""
    assert isinstance(network.spec, EncoderDecoderSpec)
    for tag in network.spec.languages:
        if tag.name == language:
            return tag
    raise DataError(
        f"the network has no language {language!r}; its languages: {[t.name for t in network.spec.languages]}."
    )


def _language_model(
    parent: Network, body: nn.Module, head: nn.Module, words: Tensor, tag: LanguageTag, longest: int | None = None
) -> LanguageModel:
    assert isinstance(parent.spec, EncoderDecoderSpec)
    assert isinstance(body, EncoderDecoder)
    never = [0, *(t.start for t in parent.spec.languages)]
    if parent.target_vocabulary is not None:
        unknown = parent.target_vocabulary.tokenizer.token_to_id(UNK)
        never += [] if unknown is None else [unknown]
    device = words.device
    banned = torch.isin(words, torch.tensor(never, device=device)).nonzero().flatten()
    ends = torch.tensor([t.end for t in parent.spec.languages], device=device)
    return LanguageModel(body, head, words, banned, tag, ends, longest)
