"""Compositions: classifiers made of modules, where the module with the highest margin gives the class.

Source: Imtiaz et al. 2023, section IV. The vote uses margins: they order modules as probabilities do, but do not
saturate. ``vote="probability"`` compares float64 probabilities as the paper's released code does; the first of equal
ones wins. Calibrated modules vote with margin / temperature + offset, see :mod:`unbraid.modules.voting.calibration`. A
referee replaces the vote, see :mod:`unbraid.modules.voting.referee`.
Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import IOArchitecture
from unbraid.data.targets import Label, labels_at
from unbraid.data.texts import is_text
from unbraid.errors import ConfigError, DataError, IncompatibleModules, quoted, unknown_label
from unbraid.modules.about import NOTHING, About
from unbraid.modules.arguments import named_modules
from unbraid.modules.comparability import REFEREE_DROPPED, vote_problems, warn
from unbraid.modules.compatibility import check_compatible
from unbraid.modules.groups import Evidence, Group, grouped
from unbraid.modules.module import ConcernModule
from unbraid.modules.voting import referee as referees
from unbraid.modules.voting.calibration import UNTOUCHED, Scale, check_scale, fit_labelled
from unbraid.networks.inputs import Inputs, check_decided, map_tree, to_device
from unbraid.progress import Progress, silent

ROWS = 4096  # examples whose evidence is in memory at a time
Vote = Literal["margin", "probability"]


class Composition(nn.Module):
    """A classifier made of modules, of one parent network or of several.

    :func:`unbraid.compose` builds one, and also calibrates the vote or warns where margins are not comparable.

    A composition holds the modules themselves. Training one of them changes this composition and every other one that
    holds it. Computation that modules have in common runs once while their weights for it are equal. In training of the
    whole composition, each module trains its own weights; modules of a fused composition train one shared body.

    Args:
        modules: label -> module, in the order of the classes.
        vote: ``margin``, or ``probability`` for the vote of the paper's code. Default ``margin``.
        calibration: label -> (temperature, offset) of its margin. Default (1, 0) for each label.
        referee: a referee fitted on these modules in this order, see :meth:`with_referee`.

    Attributes:
        labels: the labels, in order.
        about: title, description, license and scores for the model card.

    Raises:
        IncompatibleModules: no module, or modules that read different inputs.
        ConfigError: an unknown ``vote``, a calibration out of range, or a referee of other modules.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> parts = unbraid.decompose(network, (x, y))
        >>> composition = unbraid.compose(parts)
        >>> composition.labels
        ['travel', 'banking', 'weather']
        >>> composition.margins(x).shape
        (120, 3)
        >>> bool((composition.predict(x) == composition.drop("travel").add(parts["travel"]).predict(x)).all())
        True
    """

    temperature: Tensor
    offset: Tensor

    def __init__(
        self,
        modules: Mapping[Label, ConcernModule],
        vote: Vote = "margin",
        calibration: Mapping[Label, Scale] | None = None,
        referee: referees.Referee | None = None,
    ) -> None:
        super().__init__()
        modules = named_modules(modules)
        check_compatible(list(modules.values()))
        self.labels: list[Label] = list(modules)
        if str(vote) not in get_args(Vote):
            raise ConfigError(f"vote={quoted(repr(vote))}: expected one of {', '.join(map(repr, get_args(Vote)))}.")
        self.vote: Vote = vote
        self.about: About = NOTHING
        self.calibration = {v: check_scale(v, (calibration or {}).get(v, UNTOUCHED)) for v in self.labels}
        for place, name in enumerate(("temperature", "offset")):
            self.register_buffer(name, torch.tensor([s[place] for s in self.calibration.values()]), persistent=False)
        self.members = nn.ModuleList(modules.values())
        self._plan = nn.ModuleList(grouped(list(modules.values())))
        self.referee = referee
        self.check_referee()
        self.eval()

    def __getitem__(self, label: Label) -> ConcernModule:
        """Return the module of a label; raises UnknownLabel (a KeyError), which names the nearest label."""
        self._known(label)
        return self.modules_by_label[label]

    def __contains__(self, label: object) -> bool:
        return label in self.calibration  # it has a key for each label

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def modules_by_label(self) -> dict[Label, ConcernModule]:
        """Label -> module, in order."""
        return dict(zip(self.labels, self.members, strict=True))  # type: ignore[arg-type]  # members are modules

    @property
    def many_outputs(self) -> bool:
        """Whether the composition gives one decision per timestep: all of its modules do."""
        return all(m.io.many_outputs for m in self.modules_by_label.values())

    @property
    def independent(self) -> bool:
        """Whether several labels can hold for one example: they can in all parents."""
        return all(m.parent.independent for m in self.modules_by_label.values())

    @property
    def io(self) -> IOArchitecture:
        """The input/output type; one output where any module has one output."""
        ios = [m.io for m in self.modules_by_label.values()]
        return next((io for io in ios if not io.many_outputs), ios[0])

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
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> pair = unbraid.compose([parts["travel"], parts["banking"]])
            >>> pair.add(parts["weather"]).labels
            ['travel', 'banking', 'weather']
        """
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
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> larger = unbraid.decompose(network, (x, y), keep=1.0)
            >>> composition.replace("travel", larger["travel"])["travel"] is larger["travel"]
            True
        """
        self._known(label)
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
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> composition.drop("travel").labels
            ['banking', 'weather']
        """
        self._known(label)
        rest = {n: m for n, m in self.modules_by_label.items() if n != label}
        warn(self._referee_dropped())
        return Composition(rest, self.vote, self.calibration)

    def with_calibration(self, x: Any, y: Any, progress: Progress = silent) -> Composition:
        """Fit a temperature and an offset for each module on a labelled sample.

        See :mod:`unbraid.modules.voting.calibration`. An earlier calibration is not used.

        Args:
            x: inputs with a few examples of each class, from the data that the composition will be used on. Class
                frequencies of the sample act as a prior: a balanced sample of unbalanced classes moves decisions to the
                rare ones.
            y: labels, or positions in :attr:`labels`; (N,), or (N, T) with one decision per timestep. -1 and "" mean no
                label. For lists of words also lists of labels.
            progress: factory of progress bars, see :mod:`unbraid.progress`.

        Returns:
            a composition of the same modules.

        Raises:
            DataError: inputs or labels do not fit, a margin is NaN, or a class has no example.
            IncompatibleModules: the labels are independent.

        Warns:
            UnbraidWarning: a referee is dropped. :meth:`with_referee` fits both.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> composition.with_calibration(x, y).is_calibrated
            True
        """
        if self.independent:
            raise IncompatibleModules(
                "calibration makes margins comparable, but these labels are independent: each has its own decision."
            )
        plain = self._plain(x).numpy()
        scales = fit_labelled(plain, self.align(y, x), self.labels, self.many_outputs, self._parents, progress)
        warn(self._referee_dropped())
        return Composition(self.modules_by_label, self.vote, scales)

    def with_referee(self, x: Any, y: Any, progress: Progress = silent) -> Composition:
        """Fit a calibration and a referee on a labelled sample.

        For modules of different parents. The referee is a linear layer over the margins, the features of the modules
        and the inputs of the parents, see :mod:`unbraid.modules.voting.referee`. Use about twenty examples of each
        class or more.

        Args:
            x: inputs, as for :meth:`with_calibration`.
            y: labels or positions in :attr:`labels`, (N,). -1 and "" mean no label.
            progress: factory of progress bars, see :mod:`unbraid.progress`.

        Returns:
            a composition of the same modules.

        Raises:
            DataError: inputs or labels do not fit, a margin is NaN, or a class has no example.
            IncompatibleModules: a single module, one decision per timestep, or independent labels.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> composition.with_referee(x, y).predict(x).shape
            (120,)
        """
        referees.check_task(self.labels, self.independent, self.many_outputs)
        scales, judge = referees.fit_labelled(self.evidence(x), y, self.labels, self._parents, progress)
        return Composition(self.modules_by_label, self.vote, scales, judge)

    def without_referee(self) -> Composition:
        """Return the same modules and calibration; margins decide."""
        return Composition(self.modules_by_label, self.vote, self.calibration)

    def fuse(self, x: Any = None, keep: float | None = None, progress: Progress | bool | None = None) -> Composition:
        """Build one compact network for all modules of a parent, see :mod:`unbraid.decomposition.fuse`.

        Args:
            x: sample inputs without labels, with examples of each class in use and preferably of others. Without ``x``
                the network keeps all hidden units of the parent and only the outputs of these classes.
            keep: share of the hidden units of each recurrent layer that stay, in (0, 1]. Default: grows with the number
                of classes in use.
            progress: None, True, False or a factory of bars, as for :func:`unbraid.decompose`.

        Returns:
            a composition with the same classes, vote and calibration, without a referee. :meth:`unfuse` gives back the
            modules.

        Raises:
            IncompatibleModules: a module was loaded without its whole parent.
            DataError: inputs do not fit, or the parent assigns fewer than two of them to a class in use.
            ConfigError: ``keep`` out of range, or below 1 without inputs.

        Warns:
            UnbraidWarning: a referee is dropped.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
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
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> composition.fuse().unfuse()["travel"] is parts["travel"]
            True
        """
        warn(self._referee_dropped())
        originals = {label: module.original or module for label, module in self.modules_by_label.items()}
        return Composition(originals, self.vote, self.calibration)

    def forward(self, x: Any) -> Tensor:
        """Compute the margins of all modules: (N, K), or (N, T, K) with one decision per timestep."""
        if self.referee is not None:
            self.check_referee()
            return self._refereed(self._gathered([group.evidence(x) for group in self._groups]))
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.members.parameters()):
            return self._scaled(self._each_by_itself(x))
        return self._scaled(self._joined([group(x) for group in self._groups]))

    def margins(self, x: Any) -> np.ndarray:
        """Compute the margins of all modules for all examples, in batches.

        Each module reads text with its own vocabulary, so parents with different vocabularies can be combined. With a
        referee, margins are the log-odds of its probabilities.

        Args:
            x: inputs as the parents read them: arrays, or text where all parents have a vocabulary.

        Returns:
            float (N, K), or (N, T, K) with one decision per timestep; columns in the order of :attr:`labels`.

        Raises:
            DataError: the inputs do not fit, or they are word indices and the vocabularies differ.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> composition.margins(x).shape
            (120, 3)
        """
        if self.referee is None:
            return self._scaled(self._plain(x)).numpy()
        self.check_referee()
        self.check_text(x)
        inputs = [group.checked(x) for group in self._groups]
        parts = [slice(start, start + ROWS) for start in range(0, len(inputs[0]), ROWS)]
        found = [self._refereed(self._evidence([each.take(part) for each in inputs])) for part in parts]
        return torch.cat(found).cpu().numpy()

    def align(self, y: Any, x: Any) -> Any:
        """Pad and truncate lists of labels, one per word, as the words are; return other labels as given."""
        reader = self.modules_by_label[self.labels[0]].parent
        return reader.align(y, reader.check(x), x) if is_text(x) else y

    @property
    def is_calibrated(self) -> bool:
        """Whether the vote uses a calibration or a referee."""
        return self.referee is not None or any(scale != UNTOUCHED for scale in self.calibration.values())

    def evidence(self, x: Any) -> Evidence:
        """Compute the inputs of a referee for all examples, in batches.

        Returns:
            margins without calibration, features of each module in the order of the labels, and the inputs of the
            parents.

        Raises:
            DataError: the inputs do not fit, or they are word indices and the vocabularies differ.
        """
        self.check_text(x)
        gathered = self._evidence([group.checked(x) for group in self._groups])
        return Evidence(*(map_tree(lambda tensor: tensor.numpy(), part) for part in gathered))

    def _evidence(self, inputs: list[Inputs]) -> Evidence:
        """Compute the evidence of all groups as tensors, from the checked inputs of each group."""
        found = [group.all_evidence(each) for group, each in zip(self._groups, inputs, strict=True)]
        return self._gathered([Evidence(*(map_tree(torch.from_numpy, part) for part in each)) for each in found])

    @property
    def _parents(self) -> list[str]:
        """Digest of the parent of each module."""
        return [module.parent_sha256 for module in self.modules_by_label.values()]

    @property
    def needs_text(self) -> bool:
        """Whether the same word index means different words in different modules."""
        own = {
            None if v is None else v.to_json() for v in (m.parent.vocabulary for m in self.modules_by_label.values())
        }
        return None not in own and len(own) > 1

    @property
    def groups(self) -> nn.ModuleList:
        """Groups of modules that run together. They are rebuilt after weights have changed."""
        if not torch.compiler.is_compiling() and not all(group.holds() for group in self._plan):  # type: ignore[operator]
            self._plan = nn.ModuleList(grouped(list(self.modules_by_label.values())))
        return self._plan

    @property
    def _groups(self) -> list[Group]:
        return list(self.groups)  # type: ignore[arg-type]  # all are groups

    def _apply(self, fn: Any, recurse: bool = True) -> Composition:
        """Apply ``fn`` as torch does, then share equal weights again, because ``fn`` copies them."""
        super()._apply(fn, recurse)
        self._link()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Composition:
        other = Composition.__new__(Composition)
        memo[id(self)] = other
        other.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        other._link()
        return other

    def _link(self) -> None:
        for group in self._plan:
            group.link()  # type: ignore[operator]  # all are groups

    def check_text(self, x: Any) -> None:
        """Raise DataError for word indices where the vocabularies of the modules differ."""
        if self.needs_text and not is_text(x):
            raise DataError("found word indices, but the vocabularies of the modules differ: pass text.")

    def _plain(self, x: Any) -> Tensor:
        """Compute margins of all examples without calibration, (N, [T,] K)."""
        self.check_text(x)
        return self._joined([torch.from_numpy(group.margins(x)) for group in self._groups])

    def _gathered(self, found: list[Evidence]) -> Evidence:
        """Join the evidence of all groups, in the order of the labels."""
        features: list[Any] = [None] * len(self.labels)
        for group, each in zip(self._groups, found, strict=True):
            for place, block in zip(group.places, each.features, strict=True):
                features[place] = block
        read = [block for each in found for block in each.read]
        return Evidence(self._joined([each.margins for each in found]), features, read)

    def check_referee(self) -> None:
        """Raise ConfigError for a referee that was fitted on other modules or without their vocabularies."""
        if self.referee is None:
            return
        features = [module.head.weight.shape[1] for module in self.modules_by_label.values()]
        numbers = sum(features) + sum(size for group in self._groups for size in group.read_sizes)
        self.referee.check(numbers, len(self.labels))

    def _refereed(self, found: Evidence) -> Tensor:
        """Compute the margins of the referee, (N, K)."""
        assert self.referee is not None
        device = self.referee.bias.device
        margins, features, read = (to_device(part, device) for part in found)
        margins_there: Tensor = self.referee(self._scaled(margins), [*features, *read])
        return margins_there

    def _scaled(self, margins: Tensor) -> Tensor:
        """Apply the calibration to margins (..., K)."""
        if all(scale == UNTOUCHED for scale in self.calibration.values()):
            return margins
        return margins / self.temperature.to(margins.device) + self.offset.to(margins.device)

    def _each_by_itself(self, x: Any) -> Tensor:
        """Compute margins (N, [T,] K) module by module, so that gradients reach the weights of each."""
        features: dict[int, Tensor] = {}
        found = []
        for module in self.modules_by_label.values():
            if id(module.body) not in features:
                features[id(module.body)] = module.body(x)
            margins = module.head.margin(features[id(module.body)])
            if margins.dim() == 2 and not self.many_outputs:
                margins = margins.nan_to_num(-torch.inf).amax(dim=1)
            found.append(margins)
        return torch.stack(found, dim=-1)

    def _joined(self, found: list[Tensor]) -> Tensor:
        """Join the margins of the groups (N, [T,] k), in the order of the labels."""
        columns: list[Tensor | None] = [None] * len(self.labels)
        for group, margins in zip(self._groups, found, strict=True):
            if margins.dim() == 3 and not self.many_outputs:
                margins = margins.nan_to_num(-torch.inf).amax(dim=1)  # its best timestep
            for k, at in enumerate(group.places):
                columns[at] = margins[..., k]
        return torch.stack([c for c in columns if c is not None], dim=-1)

    def predict_proba(self, x: Any) -> np.ndarray:
        """Compute the probability of each label.

        The probabilities of the modules are scaled to sum to one, unless labels are independent. For unchanged modules
        of one parent with ``head="softmax"`` the result is the softmax of the parent.

        Args:
            x: inputs, as for :meth:`margins`.

        Returns:
            float (N, K) or (N, T, K), in [0, 1].

        Raises:
            DataError: as :meth:`margins`.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> found = composition.predict_proba(x)
            >>> bool((abs(found.sum(axis=1) - 1) < 1e-4).all())
            True
        """
        return self.shares(self.margins(x))

    def shares(self, margins: np.ndarray) -> np.ndarray:
        """Convert margins (..., K) to the probabilities of :meth:`predict_proba`."""
        if self.independent:
            return torch.sigmoid(torch.from_numpy(margins)).numpy()
        return torch.softmax(nn.functional.logsigmoid(torch.from_numpy(margins)), dim=-1).numpy()

    def predict_index(self, x: Any) -> np.ndarray:
        """Predict positions in :attr:`labels`.

        Returns:
            integers (N,) or (N, T), -1 at padding; for independent labels booleans (..., K).
        """
        return self.decide(self.margins(x))

    def decide(self, margins: np.ndarray) -> np.ndarray:
        """Choose the position of the highest margin. For independent labels, choose all with a margin above 0.

        Args:
            margins: float (..., K).

        Returns:
            integers (...), -1 at timesteps whose margins are NaN (padding); for independent labels booleans (..., K).

        Raises:
            DataError: a margin is NaN and there is one decision per example.
        """
        if not self.many_outputs:
            check_decided(margins)
        if self.independent:
            return np.asarray(margins > 0)
        votes = margins
        if self.vote == "probability":
            votes = torch.sigmoid(torch.from_numpy(margins).double()).numpy()  # 1.0 from a margin of 37 on
        return np.where(np.isnan(margins).any(-1), -1, votes.argmax(-1))

    def predict(self, x: Any) -> np.ndarray:
        """Predict labels.

        Args:
            x: inputs, as for :meth:`margins`.

        Returns:
            labels (N,) or (N, T); for independent labels booleans (..., K), one column for each label.

        Raises:
            DataError: the inputs do not fit the networks.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> set(composition.predict(x).tolist()) <= set(composition.labels)
            True
        """
        if self.independent:
            return self.predict_index(x)
        return labels_at(self.labels, self.predict_index(x))

    def save(
        self, folder: str | os.PathLike[str], license: str | None = None, scores: Mapping[str, Any] | None = None
    ) -> None:
        """Write the composition into a folder, with a model card.

        The folder is replaced as a whole. After an error or a crash it holds the old version or the new one.

        Args:
            folder: path of the folder. An existing Unbraid folder is replaced.
            license: license for the model card, as ``cc-by-4.0``.
            scores: figures to store with the modules, as :meth:`unbraid.Evaluation.to_dict` gives them.

        Raises:
            FormatError: ``folder`` holds files that are not Unbraid's, or it cannot be written.

        Example:
            >>> import tempfile
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> parts = unbraid.decompose(network, (x, y))
            >>> composition = unbraid.compose(parts)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     composition.save(f"{folder}/topics")
            ...     unbraid.load_composition(f"{folder}/topics").labels
            ['travel', 'banking', 'weather']
        """
        from unbraid.storage.saving import save_composition  # storage imports this module

        save_composition(folder, self, self.about.changed(license, scores))

    def _changed(self, modules: Mapping[Label, ConcernModule], calibration: Mapping[Label, Scale]) -> Composition:
        """Build a composition of other modules and warn the caller of the public method about its vote."""
        found = Composition(modules, self.vote, calibration)
        warn(self._referee_dropped() + vote_problems(modules, found.calibration), stacklevel=4)
        return found

    def _referee_dropped(self) -> list[str]:
        return [] if self.referee is None else [REFEREE_DROPPED]

    def _known(self, label: Label) -> None:
        if label not in self:
            raise unknown_label(label, self.labels, "the composition")
