"""What domain evidence reads of the inputs of a network: words, or numbers. Shapes: N examples, T timesteps, D."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from unbraid.choices import IOArchitecture
from unbraid.data.texts import as_texts
from unbraid.modules.domain.gaussians import MOST
from unbraid.modules.domain.words import words_of
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.inputs import Inputs, arrays_of
from unbraid.networks.network import Network
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec
from unbraid.networks.torch_spec import TorchSpec

OTHER = ""  # in place of a word that a vocabulary does not have
AVERAGED = 256  # largest D of means of neighbours; a covariance needs 4 D^2 bytes


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
    """Return numeric inputs, (N, D) or (N, T, D) with D up to MOST; None for other inputs.

    A network that reads each example at once, such as one of dense layers, has no timesteps: (N, D). Axes behind the
    timesteps, as of a video, become one. Where D is larger than MOST, each number is the mean of a few neighbours; D
    is at most AVERAGED then.
    """
    arrays = arrays_of(inputs.tree)
    if network.vocabulary is not None or len(arrays) != 1:
        return None
    if not isinstance(arrays[0], np.ndarray) or arrays[0].dtype.kind != "f" or arrays[0].ndim < 2:
        return None
    return as_numbers(_by_example(inputs), reads_at_once(network))


def reads_at_once(network: Network) -> bool:
    """Return whether a network reads each example at once, and not timestep by timestep."""
    return network.io is IOArchitecture.ONE_TO_ONE


def as_numbers(values: np.ndarray, at_once: bool) -> np.ndarray:
    """Reshape inputs (N, ...) to (N, D) or (N, T, D), as :func:`numbers_read` returns them."""
    kept = 1 if values.ndim == 2 or at_once else 2
    rows = values.reshape(*values.shape[:kept], int(np.prod(values.shape[kept:], dtype=int)))
    starts = groups(rows.shape[-1])
    if len(starts) == rows.shape[-1]:
        return rows
    counts = np.diff(np.append(starts, rows.shape[-1])).astype(rows.dtype)
    return np.asarray(np.add.reduceat(rows, starts, axis=-1) / counts)


def groups(size: int) -> np.ndarray:
    """Return where each group of neighbours starts that are averaged, (D,): each number alone for a size up to MOST."""
    return np.arange(0, size, 1 if size <= MOST else -(-size // AVERAGED))


def _by_example(inputs: Inputs) -> np.ndarray:
    array = np.asarray(arrays_of(inputs.tree)[0])
    return np.moveaxis(array, inputs.axis_of(arrays_of(inputs.tree)[0]) or 0, 0)
