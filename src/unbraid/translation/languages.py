"""Set the target languages of a network; files of other frameworks do not store them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unbraid.errors import DataError
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec, LanguageTag
from unbraid.translation.pairs import find_tag


def with_languages(network: Network, languages: Sequence[str] | Mapping[str, tuple[int, int]]) -> Network:
    """Make a copy of an encoder-decoder with target languages.

    Args:
        network: an encoder-decoder.
        languages: names with tags such as ``[startfr]`` and ``[endfr]`` in the target vocabulary; or a mapping name ->
            indices of the first and the last token.

    Raises:
        DataError: another kind of network, a name without tags, or names without a target vocabulary.
        FormatError: indices that the network does not have.
    """
    if not isinstance(network.spec, EncoderDecoderSpec):
        raise DataError(f"the network has the type {network.io}, expected an encoder-decoder: pass a translator.")
    if isinstance(languages, Mapping):
        tags = [LanguageTag(name=name, start=pair[0], end=pair[1]) for name, pair in languages.items()]
    else:
        if network.target_vocabulary is None:
            raise DataError(
                "the network has no target vocabulary, so names of languages cannot be found: pass a mapping language "
                "-> (first token, last token)."
            )
        tags = [find_tag(name, network.target_vocabulary) for name in languages]
    spec = network.spec.model_copy(update={"languages": tags})
    return Network(spec, network.weights()).with_vocabulary(network.vocabulary, network.target_vocabulary)
