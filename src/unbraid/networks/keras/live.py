"""Keras models in memory."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, UnsupportedLayer, quoted, wrong_object
from unbraid.networks.inputs import leaves
from unbraid.networks.keras.reading import load_live, output_names
from unbraid.networks.network import Network
from unbraid.networks.outputs import GivenTask

ATOL = 1e-4


def from_keras(
    model: Any,
    example: Any = None,
    labels: Sequence[Label] | None = None,
    task: GivenTask | None = None,
    output: str | None = None,
) -> Network:
    """Make a network of a Keras model in memory, on any backend of Keras 3.

    Args:
        model: a built Sequential or Functional model.
        example: inputs as the model reads them. If given, the predictions of the network and of the model on it are
            compared.
        labels: names of the classes, (C,); 0..C-1 by default.
        task: as for :func:`unbraid.load`.
        output: as for :func:`unbraid.load`.

    Returns:
        the network, in eval mode. It has its own copy of the weights.

    Raises:
        ArgumentError: ``model`` is no Keras model.
        UnsupportedLayer: a layer that cannot be run exactly, or outputs that may be scores or numbers.
        ConfigError: the model has no weights yet, or an argument does not fit.
        DataError: the predictions on the example differ.
    """
    with _saved(model) as path:
        network = load_live(path, model, labels, task, output)
        if example is not None:
            _check_same(model, network, example, output)
    return network


def live_output_names(model: Any) -> list[str]:
    """List the names of the outputs of a Keras model in memory.

    Raises:
        ArgumentError, UnsupportedLayer, ConfigError: as :func:`from_keras`.
    """
    with _saved(model) as path:
        return output_names(path, model=model)


@contextmanager
def _saved(model: Any) -> Iterator[Path]:
    """Save a Keras model in a temporary file."""
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        raise wrong_object(model, "model", "a keras.Model of Keras 3", "from_keras(model)")
    if not model.built:
        raise ConfigError("the Keras model has no weights yet: call it on a batch of inputs, or train it, first.")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="keras")  # Keras warns about NumPy and about models without a loss
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
        except Exception as error:  # a layer of the user's own may raise anything here
            raise UnsupportedLayer(f"the Keras model cannot be saved: {quoted(error, 200)}.") from error
        yield path


def _check_same(model: Any, network: Network, example: Any, output: str | None) -> None:
    """Raise DataError if the network and the model predict differently."""
    x = list(example) if isinstance(example, tuple) else example
    given = model.predict(x, verbose=0)
    if isinstance(given, dict):
        given = given[output] if output in given else next(iter(given.values()))
    elif isinstance(given, list | tuple):
        given = given[list(model.output_names).index(output)] if output in model.output_names else given[0]
    wanted = np.asarray(leaves(given)[0])
    logits = network.logits(example)
    found = [network.activate(torch.from_numpy(logits)).numpy(), logits]
    if not any(one.shape == wanted.shape and np.allclose(one, wanted, atol=ATOL, rtol=1e-4) for one in found):
        raise DataError("the network and the Keras model predict differently on the example: report this as a bug.")
