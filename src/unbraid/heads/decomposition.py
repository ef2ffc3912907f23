"""The modules of a network with several output layers, as a mapping ``head/label`` -> module."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from unbraid.decomposition.decomposition import Decomposition
from unbraid.heads.composition import HeadsComposition
from unbraid.heads.naming import check_names, joined_name, split_name
from unbraid.modules.compose import compose
from unbraid.modules.describing import modules_html, modules_text
from unbraid.modules.module import ConcernModule


class HeadsDecomposition(Mapping[str, ConcernModule]):
    """The modules of a network with several output layers: a read-only mapping ``head/label`` -> module.

    Args:
        heads: name of a head -> its decomposition.

    Attributes:
        heads: the same.

    Raises:
        ConfigError: no head, or a name that is not text or has a slash.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> parts = unbraid.Heads({"topic": network}).decompose((x, {"topic": y}))
        >>> list(parts)
        ['topic/travel', 'topic/banking', 'topic/weather']
        >>> list(parts.compose())
        ['topic']
    """

    def __init__(self, heads: Mapping[str, Decomposition]) -> None:
        check_names(heads)
        self.heads = dict(heads)

    def __getitem__(self, name: str) -> ConcernModule:
        """Return the module of a name ``head/label``; raise UnknownLabel, a KeyError with the most similar name."""
        head, label = split_name(name, self.heads)
        return self.heads[head][label]

    def __iter__(self) -> Iterator[str]:
        return (joined_name(head, label) for head, parts in self.heads.items() for label in parts)

    def __len__(self) -> int:
        return sum(map(len, self.heads.values()))

    def __repr__(self) -> str:
        return modules_text("HeadsDecomposition", self, f"{len(self.heads)} output layers")

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return modules_html(repr(self).split("\n", 1)[0], self)

    def compose(self) -> HeadsComposition:
        """Compose the modules of each head; each head votes by itself, or gives numbers."""
        return HeadsComposition({head: compose(parts) for head, parts in self.heads.items()})

    def save(
        self,
        folder: str | os.PathLike[str],
        license: str | None = None,
        scores: Mapping[str, Any] | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        """Save the modules in one folder, as :meth:`HeadsComposition.save`; :func:`unbraid.load_heads` loads it.

        Args:
            folder: path of the folder; an existing Unbraid folder is replaced.
            license: license for the card, as ``cc-by-4.0``.
            scores: figures to store with the modules.
            dtype: ``float32`` or ``float16``, as for :meth:`unbraid.Composition.save`.

        Raises:
            FormatError: the path exists and is not an Unbraid folder.
            ConfigError: another ``dtype``.
        """
        self.compose().save(folder, license, scores, dtype)
