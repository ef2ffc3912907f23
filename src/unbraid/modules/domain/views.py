"""What domain evidence reads of the inputs of a network: words, or numbers. Shapes: N examples, T timesteps, D."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from unbraid.data.texts import as_texts
from unbraid.modules.domain.words import words_of
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.inputs import Inputs, arrays_of
from unbraid.networks.network import Network
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec
from unbraid.networks.torch_spec import TorchSpec

OTHER = ""  # in place of a word that a vocabulary does not have


def reads_words(network: Network) -> bool:
    """Return whether a network has a vocabulary and reads one array of word indices."""
    spec = network.spec
    if network.vocabulary is None:
        return False
    if isinstance(spec, NetworkSpec):
        return isinstance(spec.stages[0], EmbeddingSpec)
    if isinstance(spec, KerasSpec):
        return len(spec.graph.inputs) == 1 and spec.vocabularies[0] is not None
    return isinstance(spec, TorchSpec) and list(spec.axes) == [2]


def words_given(x: Any) -> list[list[str]]:
    """Split texts, strings or lists of words, into words."""
    return [words_of(text) for text in as_texts(x)]


def words_read(network: Network, inputs: Inputs) -> list[list[str]]:
    """Convert word indices back to words, without padding; an unknown word becomes OTHER."""
    rows = _by_example(inputs)
    indices = np.unique(rows).tolist()
    meant = dict(zip(indices, words_meant(network, indices), strict=True))
    return [[word for index in row for word in meant[index]] for row in rows.tolist()]


def words_meant(network: Network, indices: Iterable[int]) -> list[list[str]]:
    """Return the words that each index means: none for padding, OTHER for an unknown word."""
    vocabulary = network.vocabulary
    assert vocabulary is not None
    padding, found = vocabulary.padding, list[list[str]]()
    for index in indices:
        token = None if index == padding.unknown or index < 0 else vocabulary.tokenizer.id_to_token(index)
        found.append([] if index == padding.index else [OTHER] if token is None else words_of(token))
    return found


def numbers_read(network: Network, inputs: Inputs) -> np.ndarray | None:
    """Return numeric inputs, (N, D) or (N, T, D); None for other inputs."""
    arrays = arrays_of(inputs.tree)
    if network.vocabulary is not None or len(arrays) != 1:
        return None
    numbers = isinstance(arrays[0], np.ndarray) and arrays[0].dtype.kind == "f"
    return _by_example(inputs) if numbers and arrays[0].ndim in (2, 3) else None


def _by_example(inputs: Inputs) -> np.ndarray:
    array = np.asarray(arrays_of(inputs.tree)[0])
    return np.moveaxis(array, inputs.axis_of(arrays_of(inputs.tree)[0]) or 0, 0)
