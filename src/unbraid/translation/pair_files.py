"""Sentence pairs of a data file, as the network that is taken apart reads them."""

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
    """The network, knowing the languages of these pairs, and what :func:`unbraid.decompose` takes of it.

    Args:
        network: an encoder-decoder with a target vocabulary, whose tags the languages are found by.
        columns: of a data file; a text's pairs get their language's tags.

    Raises:
        DataError: a vocabulary is missing, or a language's tags in it; or no pair with words on both sides.
    """
    text = is_text(columns.source)
    if network.target_vocabulary is None or (text and network.vocabulary is None):
        raise DataError(
            "the model file holds no vocabularies: give --target-vocabulary, which languages are found in by their "
            "tags, and to read text --vocabulary as well."
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
