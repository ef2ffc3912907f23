"""Make a network of a state dict (``.pt``) and the user's code, for ``unbraid decompose``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unbraid.cli.flags import TORCH, renamed
from unbraid.data.arrays import as_array
from unbraid.data.texts import is_text
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import ConfigError, DataError
from unbraid.networks.inputs import leaves, map_tree
from unbraid.networks.loading import load_weights
from unbraid.networks.network import Network
from unbraid.networks.outputs import GivenTask
from unbraid.storage.own_modules import ParentFacts, made

EXAMPLES = 8  # number of examples of the batch that from_torch runs
SOUGHT = 256  # number of first rows of the data in which different rows are searched


def torch_network(
    file: Path,
    factory: Any,
    x: Any,
    labels: list[str] | None,
    vocabulary: Vocabulary | None,
    name: str | None,
    init: dict[str, Any] | None,
    head: str | None,
    output: Any,
    task: GivenTask | None = None,
) -> Network:
    """Make a network of a state dict.

    Args:
        file: a file of ``torch.save(module.state_dict(), file)``.
        factory: an instance, a class (called with ``init``), or a function of a :class:`unbraid.ParentFacts`.
        x: inputs of the data file. Some of them are the example of :meth:`unbraid.Network.from_torch`.
        labels: names of the classes.
        vocabulary: converts text to word indices; None for numbers.
        name: a name for the network.
        init: arguments of the constructor.
        head: path of the output layer.
        output: activation of the output layer.
        task: task of the network; None for a classifier.

    Raises:
        UnbraidError: as :func:`unbraid.load_weights` and :meth:`unbraid.Network.from_torch`.
    """
    if isinstance(factory, dict):
        raise ConfigError("--module: one network is decomposed, so give one PLACE:FACTORY without NAME=.")
    module = factory
    if not isinstance(module, nn.Module):
        facts = ParentFacts(0, name, "", classes=None if labels is None else len(labels), init=init)
        module = made(factory, facts, _refusal)
    load_weights(module, file)
    example = _example(module, x, vocabulary)
    with renamed({**TORCH, "example": "DATA"}):
        return Network.from_torch(module, example, head, labels, output, vocabulary, name, init, task)


def _refusal(reason: str) -> ConfigError:
    return ConfigError(f"{reason.replace(' for parent 0', '')} Give its constructor's arguments with --init JSON.")


def _example(module: nn.Module, x: Any, vocabulary: Vocabulary | None) -> Any:
    """Select a few different examples as inputs of the module."""
    if is_text(x):
        if vocabulary is None:
            raise DataError("the data are text: pass vocabulary=...")
        indices, lengths = vocabulary.encode(list(x[:SOUGHT]))
        rows = _different(indices)
        order = rows[np.argsort(-lengths[rows], kind="stable")]  # modules that pack may need sorted lengths
        tensors = torch.from_numpy(indices[order]), torch.from_numpy(lengths[order])
        return tensors if _takes_two(module) else tensors[0]
    kind = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    tree = map_tree(lambda part: as_array(part, "inputs"), x) if isinstance(x, tuple | dict) else as_array(x, "inputs")
    arrays = [array for array in leaves(tree) if array.ndim]
    if not arrays:
        raise DataError("the data file holds no examples: its inputs have no axes.")
    if len({len(array) for array in arrays}) != 1:
        raise DataError(f"inputs have shapes {[array.shape for array in leaves(tree)]}, expected (N, ...) in all.")
    rows = _different(max(arrays, key=lambda array: array.ndim)[:SOUGHT])

    def some(array: np.ndarray) -> torch.Tensor:
        example = torch.as_tensor(np.ascontiguousarray(array[rows]))
        if example.dtype == torch.bool:
            return example
        return example.to(kind) if example.is_floating_point() else example.long()

    return map_tree(some, tree)


def _different(array: np.ndarray) -> np.ndarray:
    """Return the positions of the first different rows."""
    _, first = np.unique(array.reshape(len(array), -1), axis=0, return_index=True)
    return np.sort(first)[:EXAMPLES]


def _takes_two(module: nn.Module) -> bool:
    """Return whether forward needs lengths in addition to indices."""
    try:
        inspect.signature(module.forward).bind(None)
    except TypeError:
        return True
    return False
