"""Prepare the sentence pairs of a data file for the decomposition of a network."""

from __future__ import annotations

import numpy as np

from unbraid.data.files import PairColumns
from unbraid.data.texts import is_text
from unbraid.errors import DataError
from unbraid.networks.network import Network
from unbraid.translation.languages import with_languages
from unbraid.translation.pairs import Pairs, make_pairs

Examples = tuple[dict[str, np.ndarray], np.ndarray]


def ready_for(network: Network, columns: PairColumns) -> tuple[Network, Examples]:
    """Set the languages of a network from sentence pairs, and convert the pairs to examples.

    Args:
        network: an encoder-decoder with a target vocabulary that contains the tags of the languages.
        columns: columns of a data file. Pairs of texts get the tags of their language.

    Returns:
        a network with these languages, and the examples for :func:`unbraid.decompose`.

    Raises:
        DataError: a vocabulary or the tags of a language are missing, or no pair has words on both sides.
    """
    text = is_text(columns.source)
    if network.target_vocabulary is None or (text and network.vocabulary is None):
        raise DataError(
            "the model file has no vocabularies: pass --target-vocabulary, which contains the tags of the languages, "
            "and for text also --vocabulary."
        )
    network = with_languages(network, list(dict.fromkeys(columns.languages)))
    languages = np.asarray(columns.languages)
    if not text:
        return network, ({"source": columns.source, "target": columns.target}, languages)
    assert network.vocabulary is not None and network.target_vocabulary is not None
    parts = []
    for language in network.labels:
        rows = np.flatnonzero(languages == language)
        source, target = ([side[row] for row in rows] for side in (columns.source, columns.target))
        parts.append(make_pairs(source, {str(language): target}, network.vocabulary, network.target_vocabulary))
    pairs = Pairs.joined(parts)
    return network, (pairs.x, pairs.languages)
