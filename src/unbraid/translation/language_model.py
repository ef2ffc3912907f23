"""Whatever can say a sentence word by word: a whole encoder-decoder, or one language's module of it.

Shapes: N sentences, R words that can be said.
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
class Voice:
    """A body with an output layer.

    Attributes:
        body: encoder and decoder.
        head: features to scores (N, R).
        words: target index of every score (R,).
        banned: positions among the R that are never said: padding, unknown words, first tokens.
        tag: the language's first and last token.
        ends: last tokens of all languages: each ends a sentence.
        longest: most words of a sentence, of an unrolled module; None: any number.
    """

    body: EncoderDecoder
    head: nn.Module
    words: Tensor
    banned: Tensor
    tag: LanguageTag
    ends: Tensor
    longest: int | None = None

    def scores(self, token: Tensor, states: States, position: int) -> tuple[Tensor, States]:
        """Scores of the next word (N, R), -inf where it is banned, and the next states; raises DataError.

        Args:
            token: the word said last (N,).
            states: what the body's ``encode`` or the step before gave.
            position: how many words came before.
        """
        features, states = self.body.step(token, states, position)
        return self.head(features).index_fill_(1, self.banned, -torch.inf), states


def network_voice(network: Network, language: str) -> Voice:
    """The whole network, told to say ``language``; raises DataError where it does not know that."""
    words = torch.arange(network.spec.classes, device=network.device)
    return _voice(network, network.body, network.head, words, find_language(network, language))


def module_voice(module: ConcernModule) -> Voice:
    """A language's module; raises IncompatibleModules for another kind of module."""
    words = module.head.words
    if not isinstance(module.parent.spec, EncoderDecoderSpec) or words is None:
        raise IncompatibleModules(
            f"module {module.label!r} is of a {module.io} network, expected one of an encoder-decoder's languages."
        )
    tag = module.parent.spec.languages[module.index]
    longest = None
    if module.concern.mode is Mode.UNROLLED:
        longest = module.concern.steps[module.parent.spec.decoder[0].name]
    return _voice(module.parent, module.body, module.head, words, tag, longest)


def find_language(network: Network, language: str) -> LanguageTag:
    """A language's tag; raises DataError, naming the known ones."""
    assert isinstance(network.spec, EncoderDecoderSpec)
    for tag in network.spec.languages:
        if tag.name == language:
            return tag
    raise DataError(
        f"the network has no language {language!r}; its languages: {[t.name for t in network.spec.languages]}."
    )


def _voice(
    parent: Network, body: nn.Module, head: nn.Module, words: Tensor, tag: LanguageTag, longest: int | None = None
) -> Voice:
    assert isinstance(parent.spec, EncoderDecoderSpec)
    assert isinstance(body, EncoderDecoder)
    never = [0, *(t.start for t in parent.spec.languages)]
    if parent.target_vocabulary is not None:
        unknown = parent.target_vocabulary.tokenizer.token_to_id(UNK)
        never += [] if unknown is None else [unknown]
    device = words.device
    banned = torch.isin(words, torch.tensor(never, device=device)).nonzero().flatten()
    ends = torch.tensor([t.end for t in parent.spec.languages], device=device)
    return Voice(body, head, words, banned, tag, ends, longest)
