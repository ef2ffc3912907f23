"""Compositions of several heads: one composition for each output layer, whose results come in a dict."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import IncompatibleModules, wrong_object
from unbraid.evaluation.evaluate import Evaluation, RegressionEvaluation, evaluate
from unbraid.heads.naming import by_head, check_keys, check_names, joined_name, split_name
from unbraid.modules.about import NOTHING, About
from unbraid.modules.arguments import check_pair
from unbraid.modules.composition import Composition
from unbraid.modules.describing import modules_html, modules_text
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.storage.heads import load_head_compositions, save_heads
from unbraid.storage.layout import Folder
from unbraid.storage.own_modules import OwnModules


class HeadsComposition(Mapping[str, Composition]):
    """Modules of several output layers (heads): a mapping head -> Composition.

    The modules of a head vote, or give numbers, as in its composition. Modules may come from different networks that
    read the same inputs.

    Args:
        heads: name of a head -> its composition. Names have no slash.

    Attributes:
        about: license and scores for the model card.

    Raises:
        ConfigError: no head, or a name that is not text or has a slash.
        ArgumentError: a value that is not a Composition.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_modules
        >>> parts, x, y = small_modules()
        >>> rain = unbraid.compose([parts["weather"]])
        >>> both = unbraid.HeadsComposition({"topic": unbraid.compose(parts), "rain": rain})
        >>> {head: found.shape for head, found in both.predict(x).items()}
        {'topic': (120,), 'rain': (120,)}
        >>> both.drop("topic/travel")["topic"].labels
        ['banking', 'weather']
    """

    def __init__(self, heads: Mapping[str, Composition]) -> None:
        if not isinstance(heads, Mapping):
            raise wrong_object(heads, "heads", "a mapping of names to Compositions")
        check_names(heads)
        for composition in heads.values():
            if not isinstance(composition, Composition):
                raise wrong_object(composition, "heads", "a mapping of names to Compositions", "use unbraid.compose")
        self._heads = dict(heads)
        self.about: About = NOTHING

    def __getitem__(self, head: str) -> Composition:
        return self._heads[head]

    def __iter__(self) -> Iterator[str]:
        return iter(self._heads)

    def __len__(self) -> int:
        return len(self._heads)

    def __repr__(self) -> str:
        return modules_text("HeadsComposition", self.modules, f"{len(self)} output layers")

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return modules_html(repr(self).split("\n", 1)[0], self.modules)

    @property
    def modules(self) -> dict[str, ConcernModule]:
        """The modules of all heads, by ``head/label``."""
        return {
            joined_name(head, label): module
            for head, composition in self.items()
            for label, module in composition.modules_by_label.items()
        }

    def predict(self, x: Any) -> dict[str, np.ndarray]:
        """Predict the labels or numbers of all heads.

        Args:
            x: inputs, as for :meth:`unbraid.Composition.predict`.

        Returns:
            name of a head -> labels (N,) or (N, T), or numbers (N, K) or (N, T, K).
        """
        return {head: composition.predict(x) for head, composition in self.items()}

    def predict_proba(self, x: Any) -> dict[str, np.ndarray]:
        """Compute the probabilities of the heads that have classes.

        Args:
            x: inputs, as for :meth:`unbraid.Composition.predict_proba`.

        Returns:
            name of a head -> probabilities (N, K) or (N, T, K), in [0, 1]. Heads of numbers are left out.

        Raises:
            IncompatibleModules: all heads predict numbers.
        """
        found = {head: one.predict_proba(x) for head, one in self.items() if one.task != "regression"}
        if not found:
            raise IncompatibleModules("all output layers predict numbers, which have no probabilities: use predict.")
        return found

    def evaluate(
        self,
        examples: tuple[Any, Any],
        against: Mapping[str, Network] | None = None,
        *,
        intervals: float | None = None,
        seed: int = 0,
    ) -> dict[str, Evaluation | RegressionEvaluation]:
        """Evaluate each head as :func:`unbraid.evaluate`.

        Args:
            examples: (x, y). y has the labels or numbers of each head: a mapping by name, or a tuple in their order.
            against: name of a head -> the network to compare with, such as :class:`unbraid.Heads`. Default: none.
            intervals: as for :func:`unbraid.evaluate`.
            seed: as for :func:`unbraid.evaluate`.

        Returns:
            name of a head -> its evaluation.

        Raises:
            DataError, ConfigError, ArgumentError: as :func:`unbraid.evaluate`, for one of the heads.
        """
        check_pair(examples, "examples")
        x, y = examples
        truth, others = by_head(y, self, "y"), against or {}
        check_keys(others, {**self, **others} if against is None else others, "against")
        return {
            head: evaluate(composition, (x, truth[head]), others.get(head), intervals=intervals, seed=seed)
            for head, composition in self.items()
        }

    def add(self, head: str, module: ConcernModule, label: Label | None = None) -> HeadsComposition:
        """Return a composition with one more module of a head; see :meth:`unbraid.Composition.add`."""
        check_keys({head: module}, self, "head")
        return self.changed(head, self[head].add(module, label))

    def replace(self, name: str, module: ConcernModule) -> HeadsComposition:
        """Return a composition in which another module decides for ``head/label``."""
        head, label = split_name(name, self)
        return self.changed(head, self[head].replace(label, module))

    def drop(self, name: str) -> HeadsComposition:
        """Return a composition without the module of ``head/label``."""
        head, label = split_name(name, self)
        return self.changed(head, self[head].drop(label))

    def changed(self, head: str, composition: Composition) -> HeadsComposition:
        """Return the same with another composition of a head, such as a calibrated one, or with a new head."""
        return HeadsComposition({**self, head: composition})

    def save(
        self,
        folder: Folder,
        license: str | None = None,
        scores: Mapping[str, Any] | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        """Write all heads into one folder, with a model card; :func:`unbraid.load_heads` loads it.

        A network is stored once for each of its heads. The folder is replaced as a whole.

        Args:
            folder: path of the folder. An existing Unbraid folder is replaced.
            license: license for the model card, as ``cc-by-4.0``.
            scores: figures to store with the modules.
            dtype: ``float32`` or ``float16``, as for :meth:`unbraid.Composition.save`.

        Raises:
            FormatError: ``folder`` holds files that are not Unbraid's, or it cannot be written.
            IncompatibleModules: a head has a referee, or heads vote in different ways.
            ConfigError: another ``dtype``.
        """
        save_heads(folder, self._heads, self.about.changed(license, scores), dtype)


def load_heads(folder: str | os.PathLike[str], module: OwnModules = None) -> HeadsComposition:
    """Load a composition of several output layers that :meth:`HeadsComposition.save` wrote.

    Args:
        folder: path of the folder.
        module: for networks that are PyTorch modules of your own, an instance of the class, the class itself, or a
            factory, as for :func:`unbraid.load_composition`. Folders hold no code.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the other files or the instance.

    Example:
        >>> import tempfile
        >>> import unbraid
        >>> from unbraid.demo.small import small_modules
        >>> parts, x, y = small_modules()
        >>> rain = unbraid.compose([parts["weather"]])
        >>> both = unbraid.HeadsComposition({"topic": unbraid.compose(parts), "rain": rain})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     both.save(f"{folder}/both")
        ...     list(unbraid.load_heads(f"{folder}/both").modules)
        ['topic/travel', 'topic/banking', 'topic/weather', 'rain/weather']
    """
    return HeadsComposition(load_head_compositions(folder, module))
