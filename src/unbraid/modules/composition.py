"""Compositions: classifiers and regressions made of modules. This file changes, calibrates, fuses and saves them.

How they decide is in :mod:`unbraid.modules.voter`, how they run in :mod:`unbraid.modules.running`.
Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from torch import nn

from unbraid.data.targets import Label
from unbraid.errors import IncompatibleModules, unknown_label
from unbraid.modules.about import NOTHING, About
from unbraid.modules.arguments import check_module
from unbraid.modules.comparability import warn
from unbraid.modules.describing import modules_html, modules_text
from unbraid.modules.domain.typicality import REJECTED
from unbraid.modules.fitted import FittedVote
from unbraid.modules.module import ConcernModule, plain_margins
from unbraid.modules.voter import Vote
from unbraid.modules.voting.calibration import UNTOUCHED, Scale
from unbraid.modules.voting.referee import Referee
from unbraid.progress import Progress


class Composition(FittedVote):
    """A classifier or a regression made of modules, of one parent network or of several.

    Modules of classes vote. Modules of regressions give one column of numbers each, without a vote.
    :func:`unbraid.compose` builds one, and also calibrates the vote or warns where margins are not comparable.

    A composition holds the modules themselves. Training one of them changes this composition and every other one that
    holds it. Computation that modules have in common runs once while their weights for it are equal. In training of the
    whole composition, each module trains its own weights; modules of a fused composition train one shared body.

    Args:
        modules: label -> module, in the order of the classes.
        vote: ``margin``, or ``probability`` for the vote of the paper's code. Default ``margin``.
        calibration: label -> (temperature, offset) of its margin. Default (1, 0) for each label.
        referee: a referee fitted on these modules in this order, see :meth:`with_referee`.
        domain: whether modules of different parents vote with the evidence about the inputs of their parents, where
            they have it, see :attr:`uses_domain`. Default True.
        threshold: typicality below which an input is unknown, in [0, 1], see :meth:`predict`. Default 0.05.

    Attributes:
        labels: the labels, in order.
        about: title, description, license and scores for the model card.

    Raises:
        IncompatibleModules: no module, or modules that read different inputs.
        ConfigError: an unknown ``vote``, a calibration or threshold out of range, or a referee of other modules.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_modules
        >>> parts, x, y = small_modules()
        >>> composition = unbraid.compose(parts)
        >>> composition.labels
        ['travel', 'banking', 'weather']
        >>> composition.margins(x).shape
        (120, 3)
        >>> bool((composition.predict(x) == composition.drop("travel").add(parts["travel"]).predict(x)).all())
        True
    """

    def __init__(
        self,
        modules: Mapping[Label, ConcernModule],
        vote: Vote = "margin",
        calibration: Mapping[Label, Scale] | None = None,
        referee: Referee | None = None,
        domain: bool = True,
        threshold: float = REJECTED,
    ) -> None:
        super().__init__(modules, vote, calibration or {}, referee, domain, threshold)
        self.about: About = NOTHING
        self.eval()

    def __repr__(self) -> str:
        parents = len({module.parent_sha256 for module in self.modules_by_label.values()})
        notes = [f"{parents} parent network{'' if parents == 1 else 's'}", f"vote={self.vote!r}"]
        notes += ["calibrated"] if self.is_calibrated else []
        notes += ["domain evidence"] if self.uses_domain else []
        return modules_text("Composition", self.modules_by_label, *notes, *(["referee"] if self.referee else []))

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return modules_html(repr(self).split("\n", 1)[0], self.modules_by_label)

    def __getitem__(self, label: Label) -> ConcernModule:
        """Return the module of a label; raise UnknownLabel, a KeyError that names the most similar label."""
        self._known(label)
        return self.modules_by_label[label]

    def __contains__(self, label: object) -> bool:
        return label in self.calibration  # it has a key for each label

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, module: ConcernModule, label: Label | None = None) -> Composition:
        """Return a composition with one more class. A referee is dropped.

        Args:
            module: the new module. It is not calibrated.
            label: its label here; default ``module.label``.

        Raises:
            IncompatibleModules: the label exists, or the module reads other inputs.

        Warns:
            UnbraidWarning: a referee is dropped, or the new margins are not comparable with the others.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> pair = unbraid.compose([parts["travel"], parts["banking"]])
            >>> pair.add(parts["weather"]).labels
            ['travel', 'banking', 'weather']
        """
        check_module(module)
        name = module.label if label is None else label
        if name in self.labels:
            raise IncompatibleModules(f"label {name!r} is taken: use replace(), or add(module, label=...).")
        return self._changed({**self.modules_by_label, name: module}, self.calibration)

    def replace(self, label: Label, module: ConcernModule) -> Composition:
        """Return a composition in which another module decides for ``label``. A referee is dropped.

        The new module is not calibrated. ``compose({**c.modules_by_label, label: module}, sample=(x, y))`` replaces a
        module and calibrates in one call.

        Args:
            label: an existing label.
            module: the new module.

        Raises:
            UnknownLabel: the composition has no such label.
            IncompatibleModules: the module reads other inputs.

        Warns:
            UnbraidWarning: a referee is dropped, or the new margins are not comparable with the others.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> larger = unbraid.decompose(parts.network, (x, y), keep=1.0)
            >>> composition.replace("travel", larger["travel"])["travel"] is larger["travel"]
            True
        """
        self._known(label)
        check_module(module)
        return self._changed({**self.modules_by_label, label: module}, {**self.calibration, label: UNTOUCHED})

    def drop(self, label: Label) -> Composition:
        """Return a composition without one class. The calibration stays; a referee is dropped.

        Args:
            label: an existing label.

        Raises:
            UnknownLabel: the composition has no such label.
            IncompatibleModules: the label is the only one.

        Warns:
            UnbraidWarning: a referee is dropped.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> composition.drop("travel").labels
            ['banking', 'weather']
        """
        self._known(label)
        rest = {n: m for n, m in self.modules_by_label.items() if n != label}
        warn(self._referee_dropped())
        return self._made(rest)

    def fuse(self, x: Any = None, keep: float | None = None, progress: Progress | bool | None = None) -> Composition:
        """Build one compact network for all modules of a parent, see :mod:`unbraid.decomposition.fuse`.

        Args:
            x: sample inputs without labels, with examples of each class in use and preferably of others. Without ``x``
                the network keeps all hidden units of the parent and only the outputs of these classes.
            keep: share of the hidden units of each recurrent layer that stay, in (0, 1]. Default: grows with the number
                of classes in use.
            progress: None, True, False or a factory of bars, as for :func:`unbraid.decompose`.

        Returns:
            a composition with the same classes, vote and calibration, without a referee. :meth:`unfuse` returns the
            original modules.

        Raises:
            IncompatibleModules: a module was loaded without its whole parent.
            DataError: inputs do not fit, or the parent assigns fewer than two of them to a class in use.
            ConfigError: ``keep`` out of range, or below 1 without inputs.

        Warns:
            UnbraidWarning: a referee is dropped.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> fused = composition.fuse()  # without inputs: all hidden units stay
            >>> fused["travel"].body is fused["banking"].body
            True
        """
        from unbraid.decomposition.fuse import fuse  # decomposition imports this module

        fused = fuse(self, x, keep, progress)
        warn(self._referee_dropped())
        return fused

    def unfuse(self) -> Composition:
        """Return a composition of the modules that a fused composition was made from. Other modules stay.

        Warns:
            UnbraidWarning: a referee is dropped.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> composition.fuse().unfuse()["travel"] is parts["travel"]
            True
        """
        warn(self._referee_dropped())
        originals = {label: module.original or module for label, module in self.modules_by_label.items()}
        return self._made(originals)

    def to_torch(self) -> nn.Module:
        """Copy the composition as a module of torch's own layers, for ``quantize_dynamic`` and the like.

        Fused modules share one body.

        Returns:
            a module that maps word indices (N, T) or features (N, T, D) to margins, (N, K) or (N, T, K). Modules of
            PyTorch modules take the arguments of these. Modules that do not share a body run one after another.

        Raises:
            UnsupportedLayer: as :meth:`ConcernModule.to_torch`.
            IncompatibleModules: a composition with a referee, or modules with different vocabularies.

        Example:
            >>> import torch
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> fused = unbraid.compose(parts).fuse()
            >>> bool(torch.allclose(fused.to_torch()(torch.as_tensor(x)), fused(torch.as_tensor(x)), atol=1e-5))
            True
        """
        if self.referee is not None:
            raise IncompatibleModules("to_torch() has no referee: call without_referee() first.")
        if self.uses_domain:
            raise IncompatibleModules("to_torch() has no domain evidence: call without_domain() first.")
        if self.needs_text:
            raise IncompatibleModules("the vocabularies of the modules differ, and to_torch() reads word indices.")
        return plain_margins(list(self.modules_by_label.values()), self.temperature, self.offset)

    def save(
        self,
        folder: str | os.PathLike[str],
        license: str | None = None,
        scores: Mapping[str, Any] | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        """Write the composition into a folder, with a model card.

        The folder is replaced as a whole. After an error or a crash it holds the old version or the new one.

        Args:
            folder: path of the folder. An existing Unbraid folder is replaced.
            license: license for the model card, as ``cc-by-4.0``.
            scores: figures to store with the modules, as :meth:`unbraid.Evaluation.to_dict` gives them.
            dtype: ``float16`` stores weights in half of the bytes. They are rounded to 11 binary digits and load as
                float32. :func:`unbraid.half_precision_change` gives the effect on margins. Default ``float32``.

        Raises:
            FormatError: ``folder`` holds files that are not Unbraid's, or it cannot be written.
            ConfigError: another ``dtype``.

        Example:
            >>> import tempfile
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     composition.save(f"{folder}/topics")
            ...     unbraid.load_composition(f"{folder}/topics").labels
            ['travel', 'banking', 'weather']
        """
        from unbraid.storage.saving import save_composition  # storage imports this module

        save_composition(folder, self, self.about.changed(license, scores), dtype)

    def _changed(self, modules: Mapping[Label, ConcernModule], calibration: Mapping[Label, Scale]) -> Composition:
        """Build a composition of other modules and warn the caller of the public method about its vote."""
        found = self._made(modules, calibration)
        warn(self._referee_dropped() + found.problems(), stacklevel=4)
        return found

    def _known(self, label: Label) -> None:
        if label not in self:
            raise unknown_label(label, self.labels, "the composition")
