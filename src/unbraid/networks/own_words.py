"""Drop the embedding rows of words that no text of a sample holds.

The smaller network gives the same results for texts of the other words. A dropped word is read as any unknown word.
Shapes: V rows of the embedding, R rows that stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unbraid.data.texts import is_text
from unbraid.errors import ConfigError
from unbraid.networks.network import Network
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec

TABLE = "body.stages.0.weight"


def with_own_words(network: Network, texts: Any) -> Network:
    """Copy a network with the embedding rows of the words in a sample, and a vocabulary of these words.

    Rows that have a meaning stay too: index 0, padding and unknown words. Word indices change, so the sample is text.

    Args:
        network: a network of stages that starts with an embedding and has a vocabulary of whole words.
        texts: the sample.

    Raises:
        ConfigError: another network, a sample that is not text, or a vocabulary that splits words.
        DataError: a sample that the vocabulary cannot read.
    """
    spec, words = network.spec, network.vocabulary
    if not isinstance(spec, NetworkSpec) or not isinstance(spec.stages[0], EmbeddingSpec):
        raise ConfigError(
            "words='own' drops rows of an embedding at the start of a Keras network or a Network of stages; this "
            "network has none that Unbraid can change: leave words='all'."
        )
    if words is None or not is_text(texts):
        raise ConfigError(
            "words='own' changes word indices, so it needs a network with a vocabulary, and examples that are text: "
            "set vocabulary=..., or leave words='all'."
        )
    indices, _ = words.encode(texts, spec.steps)
    marks = [0, words.padding.index, *([] if words.padding.unknown is None else [words.padding.unknown])]
    kept = np.union1d(indices, marks)
    weights = network.weights()
    weights[TABLE] = weights[TABLE][kept]
    table = spec.stages[0].model_copy(update={"vocabulary": len(kept)})
    smaller = spec.model_copy(update={"stages": [table, *spec.stages[1:]]})
    found = Network(smaller, weights, network.labels, vocabulary=words.only(kept.tolist()))
    found.loss = network.loss
    return found
