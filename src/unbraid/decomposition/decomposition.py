"""The modules of one network, as a mapping."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label
from unbraid.errors import unknown_label
from unbraid.modules.about import NOTHING
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.storage.loading import load_modules
from unbraid.storage.saving import save_decomposition


class Decomposition(Mapping[Label, ConcernModule]):
    """The modules of one network: a read-only mapping label -> module.

    Attributes:
        network: the parent network.
        config: the settings of the decomposition.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> parts = unbraid.decompose(network, small_examples(network))
        >>> len(parts), parts["banking"].label
        (3, 'banking')
    """

    def __init__(self, network: Network, modules: Mapping[Label, ConcernModule], config: DecompositionConfig) -> None:
        self.network, self.config = network, config
        self._modules = dict(modules)

    def __getitem__(self, label: Label) -> ConcernModule:
        """The module of a label; raises UnknownLabel, which is a KeyError and names the nearest label."""
        if label not in self._modules:
            raise unknown_label(label, self._modules, "the decomposition")
        return self._modules[label]

    def __iter__(self) -> Iterator[Label]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    @property
    def labels(self) -> list[Label]:
        """The modules' labels, in the order of the network's output."""
        return list(self._modules)

    def save(
        self, folder: str | os.PathLike[str], license: str | None = None, scores: Mapping[str, Any] | None = None
    ) -> None:
        """Write the folder format, whole or not at all, with a model card.

        Args:
            folder: where; an Unbraid folder that is there is replaced.
            license: for the card, as ``cc-by-4.0``.
            scores: figures to keep beside the modules, as :meth:`unbraid.Evaluation.to_dict` gives them.

        Raises:
            FormatError: something else lies there.
        """
        about = NOTHING.changed(license, scores)
        save_decomposition(folder, self.network, list(self.values()), self.config, about)


def load_decomposition(folder: str | os.PathLike[str], module: nn.Module | None = None) -> Decomposition:
    """Load a decomposition that :meth:`Decomposition.save` wrote.

    Args:
        folder: path of the folder.
        module: a new instance of the user's module, where the network was made of one. Folders never hold code.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the other files or the instance.

    Example:
        >>> import pathlib, tempfile
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> parts = unbraid.decompose(network, small_examples(network))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts.save(pathlib.Path(folder) / "parts")
        ...     again = unbraid.load_decomposition(pathlib.Path(folder) / "parts")
        >>> again.labels
        ['travel', 'banking', 'weather']
    """
    manifest, parents, modules = load_modules(folder, "decomposition", module)
    uses = Counter(entry.parent for entry in manifest.modules)  # trained modules may have parents of other weights
    network = parents[uses.most_common(1)[0][0]]
    return Decomposition(network, {m.label: m for m in modules}, modules[0].config)
