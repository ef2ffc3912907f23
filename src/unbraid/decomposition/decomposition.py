"""The modules of one network, as a mapping."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label
from unbraid.errors import unknown_label
from unbraid.modules.about import NOTHING
from unbraid.modules.describing import modules_html, modules_text
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.storage.loading import load_modules
from unbraid.storage.own_modules import OwnModules
from unbraid.storage.saving import save_decomposition


class Decomposition(Mapping[Label, ConcernModule]):
    """The modules of one network: a read-only mapping label -> module.

    Attributes:
        network: the parent network.
        config: the settings of the decomposition.
        skipped: labels of the classes that got no module because they had fewer than two examples.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> parts = unbraid.decompose(network, small_examples(network))
        >>> len(parts), parts["banking"].label
        (3, 'banking')
    """

    def __init__(
        self,
        network: Network,
        modules: Mapping[Label, ConcernModule],
        config: DecompositionConfig,
        skipped: Sequence[Label] = (),
    ) -> None:
        self.network, self.config, self.skipped = network, config, list(skipped)
        self._modules = dict(modules)

    def __getitem__(self, label: Label) -> ConcernModule:
        """Return the module of a label; raise UnknownLabel, a KeyError that names the most similar label."""
        if label not in self._modules:
            raise unknown_label(label, self._modules, "the decomposition")
        return self._modules[label]

    def __repr__(self) -> str:
        notes = [f"strategy={self.config.strategy!r}", *([f"{len(self.skipped)} skipped"] if self.skipped else [])]
        return modules_text("Decomposition", self, *notes)

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return modules_html(repr(self).split("\n", 1)[0], self)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    @property
    def labels(self) -> list[Label]:
        """Labels of the modules, in the order of the outputs of the network."""
        return list(self._modules)

    def save(
        self,
        folder: str | os.PathLike[str],
        license: str | None = None,
        scores: Mapping[str, Any] | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        """Save the modules and a model card in a folder. If saving fails, nothing is written.

        Args:
            folder: path of the folder; an existing Unbraid folder is replaced.
            license: license for the card, as ``cc-by-4.0``.
            scores: figures to store with the modules, as :meth:`unbraid.Evaluation.to_dict` returns them.
            dtype: ``float16`` stores weights in half of the bytes. They are rounded to 11 binary digits and load as
                float32. :func:`unbraid.half_precision_change` gives the effect on margins. Default ``float32``.

        Raises:
            FormatError: the path exists and is not an Unbraid folder.
            ConfigError: another ``dtype``.
        """
        about = dataclasses.replace(NOTHING.changed(license, scores), skipped=tuple(self.skipped))
        save_decomposition(folder, self.network, list(self.values()), self.config, about, dtype)


def load_decomposition(folder: str | os.PathLike[str], module: OwnModules = None) -> Decomposition:
    """Load a decomposition that was saved with :meth:`Decomposition.save`.

    Args:
        folder: path of the folder.
        module: for a network that is a PyTorch module of your own, an instance of its class, the class itself, or a
            factory, as for :func:`unbraid.load_composition`. Folders hold no code.

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
    return Decomposition(network, {m.label: m for m in modules}, modules[0].config, manifest.skipped)
