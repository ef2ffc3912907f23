"""Networks with several output layers: one :class:`unbraid.Network` for each of them.

Shapes: N examples, T timesteps, C classes or numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from torch import nn

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label
from unbraid.data.vocabulary import Vocabulary
from unbraid.decomposition.decompose import decompose
from unbraid.errors import ConfigError, wrong_object
from unbraid.heads.decomposition import HeadsDecomposition
from unbraid.heads.naming import by_head, check_keys, check_names
from unbraid.modules.arguments import check_network, check_pair
from unbraid.networks.keras.live import live_output_names
from unbraid.networks.keras.reading import output_names
from unbraid.networks.loading import load
from unbraid.networks.network import Network
from unbraid.networks.outputs import GivenTask
from unbraid.networks.pytorch.finding import output_layers
from unbraid.progress import Progress

Labels = Mapping[str, Sequence[Label]]
Tasks = Mapping[str, GivenTask]


class Heads(Mapping[str, Network]):
    """A network with several output layers (heads), such as a class and a number: a mapping head -> Network.

    Each head is a network of its own that shares nothing with the others in memory. Their results come in a dict.

    Args:
        networks: name of a head -> its network. Names have no slash.

    Raises:
        ConfigError: no head, or a name that is not text or has a slash.
        ArgumentError: a value that is not a Network.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import unbraid
        >>> class Machine(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.lstm = nn.LSTM(3, 8, batch_first=True)
        ...         self.state, self.hours = nn.Linear(8, 2), nn.Linear(8, 1)
        ...     def forward(self, x):
        ...         last = self.lstm(x)[0][:, -1]
        ...         return {"state": self.state(last), "hours": self.hours(last)}
        >>> x = torch.randn(40, 5, 3)
        >>> heads = unbraid.Heads.from_torch(
        ...     Machine(), x[:8], labels={"state": ["good", "worn"]}, task={"hours": "regression"}
        ... )
        >>> {name: found.shape for name, found in heads.predict(x).items()}
        {'state': (40,), 'hours': (40, 1)}
        >>> parts = heads.decompose((x, {"state": ["good", "worn"] * 20, "hours": None}), keep=0.5)
        >>> list(parts)
        ['state/good', 'state/worn', 'hours/0']
    """

    def __init__(self, networks: Mapping[str, Network]) -> None:
        if not isinstance(networks, Mapping):
            raise wrong_object(networks, "networks", "a mapping of names to Networks")
        check_names(networks)
        for network in networks.values():
            check_network(network, "networks")
        self._networks = dict(networks)

    def __getitem__(self, head: str) -> Network:
        return self._networks[head]

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    def __repr__(self) -> str:
        lines = [f"  {name!r}: {network.task}, {len(network.labels)} outputs" for name, network in self.items()]
        return "\n".join([f"Heads({len(self)} output layers)", *lines])

    @classmethod
    def from_torch(
        cls,
        module: nn.Module,
        example: Any,
        heads: Sequence[str] | Mapping[str, str] | None = None,
        labels: Labels | None = None,
        task: Tasks | None = None,
        output: Mapping[str, Literal["softmax", "sigmoid"]] | None = None,
        vocabulary: Vocabulary | None = None,
        name: str | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make the networks of a PyTorch module with several output layers.

        Args:
            module: a module whose forward returns several results, as a tuple, list or dict.
            example: a batch of at least two different examples, as for :meth:`unbraid.Network.from_torch`.
            heads: paths of the output layers, or a mapping name -> path. None searches for the layers whose scores, or
                an activation of them, the module returns; their names are their paths.
            labels: name of a head -> names of its classes or numbers, (C,). Default: 0..C-1 for each head.
            task: name of a head -> ``regression`` for a head of numbers. Default: all heads are classifiers.
            output: name of a head -> ``softmax`` or ``sigmoid``. Default: derived from the result of the module.
            vocabulary: converts text to word indices; None for a module that reads numbers only.
            name: a name for the network, as for :meth:`unbraid.Network.from_torch`.
            init: the arguments that ``module`` was constructed with, as for :meth:`unbraid.Network.from_torch`.

        Raises:
            UnsupportedLayer, DataError: as :meth:`unbraid.Network.from_torch`, for one of the heads.
            ConfigError: an argument names a head that does not exist.
        """
        if heads is None:
            heads = output_layers(module, example)
        paths = dict(heads) if isinstance(heads, Mapping) else {path: path for path in heads}
        check_names(paths)
        labels, task, output = labels or {}, task or {}, output or {}
        for argument, given in (("labels", labels), ("task", task), ("output", output)):
            check_keys(given, paths, argument)
        found = {}
        for head, path in paths.items():
            found[head] = Network.from_torch(
                module, example, path, labels.get(head), output.get(head), vocabulary, name, init, task.get(head)
            )
        return cls(found)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        labels: Labels | None = None,
        vocabulary: Vocabulary | None = None,
        task: Tasks | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Read all outputs of a Keras model from a file, as :func:`unbraid.load` reads one.

        Args:
            path: the file.
            labels: name of an output -> names of its classes or numbers, (C,). Default: 0..C-1 for each output.
            vocabulary: as for :func:`unbraid.load`.
            task: name of an output -> ``classification`` or ``regression``. Default: from the training loss.
            weights: as for :func:`unbraid.load`.

        Raises:
            FormatError, UnsupportedLayer, DataError: as :func:`unbraid.load`, for one of the outputs.
            ConfigError: an argument names an output that the model does not have.
        """
        names = output_names(path, weights)
        own = _of_outputs(names, labels, task)
        return cls(
            {name: load(path, output=name, vocabulary=vocabulary, weights=weights, **own[name]) for name in names}
        )

    @classmethod
    def from_keras(
        cls, model: Any, example: Any = None, labels: Labels | None = None, task: Tasks | None = None
    ) -> Self:
        """Make the networks of all outputs of a Keras model in memory, as :meth:`unbraid.Network.from_keras` of one.

        Args:
            model: a built Functional ``keras.Model`` with several outputs.
            example: as for :meth:`unbraid.Network.from_keras`.
            labels: as for :meth:`load`.
            task: as for :meth:`load`.

        Raises:
            ArgumentError, UnsupportedLayer, ConfigError, DataError: as :meth:`unbraid.Network.from_keras`.
        """
        names = live_output_names(model)
        own = _of_outputs(names, labels, task)
        return cls({name: Network.from_keras(model, example, output=name, **own[name]) for name in names})

    def predict(self, x: Any) -> dict[str, np.ndarray]:
        """Compute the labels or numbers of all heads.

        Args:
            x: inputs, as for :meth:`unbraid.Network.predict`.

        Returns:
            name of a head -> its prediction, see :meth:`unbraid.Network.predict`.
        """
        return {name: network.predict(x) for name, network in self.items()}

    def decompose(
        self,
        examples: tuple[Any, Any],
        *,
        config: DecompositionConfig | None = None,
        each: Mapping[str, Mapping[str, Any]] | None = None,
        progress: Progress | bool | None = None,
        **settings: Any,
    ) -> HeadsDecomposition:
        """Decompose each head into modules, as :func:`unbraid.decompose` does for a network with one output layer.

        Args:
            examples: (x, y). y has the labels or numbers of each head: a mapping by name, or a tuple in their order.
                None for a head of numbers, which needs none.
            config: settings of all heads.
            each: name of a head -> settings for it alone, such as ``{"state": {"strategy": "paper"}}``. Default: none.
            progress: as for :func:`unbraid.decompose`.
            **settings: changes to ``config`` for all heads.

        Returns:
            the modules; their names are ``head/label``.

        Raises:
            ConfigError, DataError: as :func:`unbraid.decompose`, for one of the heads.
            ArgumentError: ``examples`` is not a pair.
        """
        check_pair(examples, "examples")
        x, y = examples
        targets, own = by_head(y, self, "y"), each or {}
        check_keys(own, self, "each")
        return HeadsDecomposition({
            name: decompose(
                network, (x, targets[name]), config=config, progress=progress, **{**settings, **own.get(name, {})}
            )
            for name, network in self.items()
        })  # fmt: skip


def _of_outputs(names: Sequence[str], labels: Labels | None, task: Tasks | None) -> dict[str, dict[str, Any]]:
    """Return the labels and the task of each output."""
    if len(names) < 2:
        raise ConfigError(f"the model has one output, {names}: use unbraid.load or unbraid.Network.from_keras.")
    for argument, given in {"labels": labels, "task": task}.items():
        check_keys(given or {}, names, argument)
    return {name: {"labels": (labels or {}).get(name), "task": (task or {}).get(name)} for name in names}
