"""Modules put together: every one sees the same input, the most certain one names the class.

Source: Imtiaz et al. 2023, section IV. The vote goes by margin, which orders modules as their probabilities do but
does not saturate; ``vote="probability"`` counts float64 probabilities as the release does, ties to the first.
Calibrated modules vote by margin / temperature + offset, see :mod:`unbraid.modules.voting.calibration`; a referee
weighs more than margins, see :mod:`unbraid.modules.voting.referee`.
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

ROWS = 4096  # examples whose evidence is held at a time
Vote = Literal["margin", "probability"]


class Composition(nn.Module):
    """A classifier made of modules; :func:`unbraid.compose` also calibrates the vote, or warns where it is not.

    It holds the modules themselves: training one of them, or loading weights into it, changes this composition and any
    other that holds it. Work that modules have in common is done once while their weights for it are equal. Trained as
    a whole, every module trains its own weights; those of a fused composition share a body, and train it together.

    Args:
        modules: label -> module, in the order of the classes.
        vote: ``margin``, or ``probability`` for the release's vote (float64, ties to the first).
        calibration: label -> temperature and offset of its margin; 1 and 0 where a label is not in it.
        referee: weighs what these modules, in this order, say and see; see :meth:`with_referee`.

    Attributes:
        about: what its builder says of it, for its model card.

    Raises:
        IncompatibleModules: fewer than one module, or modules that read different inputs.
        ConfigError: a calibration that is out of range, or a referee of other modules.
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
        """The module of a label; raises UnknownLabel, which is a KeyError and names the nearest label."""
        self._known(label)
        return self.modules_by_label[label]

    def __contains__(self, label: object) -> bool:
        return label in self.calibration  # has a key for each label

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def modules_by_label(self) -> dict[Label, ConcernModule]:
        """Label -> module."""
        return dict(zip(self.labels, self.members, strict=True))  # type: ignore[arg-type]  # members are modules

    @property
    def many_outputs(self) -> bool:
        """One decision per timestep: where all modules have many outputs."""
        return all(m.io.many_outputs for m in self.modules_by_label.values())

    @property
    def independent(self) -> bool:
        """Whether several labels may hold at once: every parent's labels do."""
        return all(m.parent.independent for m in self.modules_by_label.values())

    @property
    def io(self) -> IOArchitecture:
        """Inputs and outputs over time; one output where any module has one."""
        ios = [m.io for m in self.modules_by_label.values()]
        return next((io for io in ios if not io.many_outputs), ios[0])

    def add(self, module: ConcernModule, label: Label | None = None) -> Composition:
        """A composition with one class more, without a referee; warns as :meth:`replace`.

        Raises:
            IncompatibleModules: the label is taken.
        """
        name = module.label if label is None else label
        if name in self.labels:
            raise IncompatibleModules(f"label {name!r} is taken: use replace(), or add(module, label=...).")
        return self._changed({**self.modules_by_label, name: module}, self.calibration)

    def replace(self, label: Label, module: ConcernModule) -> Composition:
        """A composition in which ``module``, not calibrated, answers for ``label``; without a referee.

        ``compose({**c.modules_by_label, label: module}, sample=(x, y))`` exchanges a module and calibrates at once.

        Raises:
            IncompatibleModules: an unknown label.

        Warns:
            UnbraidWarning: a referee is dropped, or the new margins are not comparable with the others.
        """
        self._known(label)
        return self._changed({**self.modules_by_label, label: module}, {**self.calibration, label: UNTOUCHED})

    def drop(self, label: Label) -> Composition:
        """A composition without a class, and without a referee, of which it warns; the calibration stays.

        Raises:
            IncompatibleModules: an unknown label, or the last one.
        """
        self._known(label)
        rest = {n: m for n, m in self.modules_by_label.items() if n != label}
        warn(self._referee_dropped())
        return Composition(rest, self.vote, self.calibration)

    def with_calibration(self, x: Any, y: Any, progress: Progress = silent) -> Composition:
        """The same modules with a temperature and an offset each, fitted anew on a small labelled sample.

        Args:
            x: inputs as they come in use, some of every class; a handful a class do. A sample with other shares of the
                classes (as many of each, where one is rare) moves decisions towards those shares.
            y: labels or positions in :attr:`labels`, (N,), or (N, T) for many outputs; -1 or "" = none. Of lists of
                words also lists of labels.
            progress: see :mod:`unbraid.progress`.

        Raises:
            DataError: inputs or labels that do not fit, a margin that is NaN, or a class without an example.
            IncompatibleModules: labels that hold independently.

        Warns:
            UnbraidWarning: a referee is dropped. :meth:`with_referee` fits both.
        """
        if self.independent:
            raise IncompatibleModules("calibration makes votes comparable; here each label is decided by itself.")
        plain = self._plain(x).numpy()
        scales = fit_labelled(plain, self.align(y, x), self.labels, self.many_outputs, self._parents, progress)
        warn(self._referee_dropped())
        return Composition(self.modules_by_label, self.vote, scales)

    def with_referee(self, x: Any, y: Any, progress: Progress = silent) -> Composition:
        """The same modules, calibrated, and a referee over them, fitted anew on a small labelled sample.

        For modules of different parents: besides margins it weighs what each module sees and each parent reads, and so
        tells whose kind of input an example is. Twenty examples a class do; more make it better.

        Args:
            x: inputs as they come in use, as for :meth:`with_calibration`.
            y: labels or positions in :attr:`labels`, (N,); -1 or "" = none.
            progress: see :mod:`unbraid.progress`.

        Raises:
            DataError: inputs or labels that do not fit, a margin that is NaN, or a class without an example.
            IncompatibleModules: a single module, one decision per timestep, or labels that hold independently.
        """
        referees.check_task(self.labels, self.independent, self.many_outputs)
        scales, judge = referees.fit_labelled(self.evidence(x), y, self.labels, self._parents, progress)
        return Composition(self.modules_by_label, self.vote, scales, judge)

    def without_referee(self) -> Composition:
        """The same modules and calibration, voting by margins alone."""
        return Composition(self.modules_by_label, self.vote, self.calibration)

    def fuse(self, x: Any = None, keep: float | None = None, progress: Progress = silent) -> Composition:
        """Build one compact network for all modules of a parent; see :mod:`unbraid.decomposition.fuse`.

        Args:
            x: sample inputs, without labels; of every class in use, and better of others as well. Without them nothing
                can be reconstructed, and the network keeps every node: the parent, with these classes' outputs alone.
            keep: share of each recurrent layer's nodes, in (0, 1]; by default it grows with the classes in use.
            progress: a progress bar's factory, see :mod:`unbraid.progress`.

        Returns:
            the same classes, vote and calibration, without a referee, of which it warns; :meth:`unfuse` gives
            these modules back.

        Raises:
            IncompatibleModules: a module whose parent is not there.
            DataError: inputs that do not fit, or of which the parent gives a class in use fewer than two.
            ConfigError: ``keep`` out of range, or below 1 without inputs.
        """
        from unbraid.decomposition.fuse import fuse  # reconstruction builds on modules, so it cannot come first

        fused = fuse(self, x, keep, progress)
        warn(self._referee_dropped())
        return fused

    def unfuse(self) -> Composition:
        """The modules that a fused composition was made from; others stay. It warns where a referee is dropped."""
        warn(self._referee_dropped())
        originals = {label: module.original or module for label, module in self.modules_by_label.items()}
        return Composition(originals, self.vote, self.calibration)

    def forward(self, x: Any) -> Tensor:
        """All modules' margins, (N, K), or (N, T, K) where all have many outputs."""
        if self.referee is not None:
            self.check_referee()
            return self._refereed(self._gathered([group.evidence(x) for group in self._groups]))
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.members.parameters()):
            return self._scaled(self._each_by_itself(x))
        return self._scaled(self._joined([group(x) for group in self._groups]))

    def margins(self, x: Any) -> np.ndarray:
        """Margins over all examples in batches, (N, K) or (N, T, K).

        Text is read by every module in its own way, so modules of parents with different vocabularies work together.
        With a referee they are the log-odds of its probabilities.

        Raises:
            DataError: inputs that do not fit, or numbers where the modules' vocabularies differ.
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
        """Labels of lists of words, one per word, padded and cut as the words are; others as they come."""
        reader = self.modules_by_label[self.labels[0]].parent
        return reader.align(y, reader.check(x), x) if is_text(x) else y

    @property
    def is_calibrated(self) -> bool:
        """Whether the vote is any other than that of the modules' own margins."""
        return self.referee is not None or any(scale != UNTOUCHED for scale in self.calibration.values())

    def evidence(self, x: Any) -> Evidence:
        """What a referee weighs, over all examples in batches; margins are not calibrated, features in labels' order.

        Raises:
            DataError: inputs that do not fit, or numbers where the modules' vocabularies differ.
        """
        self.check_text(x)
        gathered = self._evidence([group.checked(x) for group in self._groups])
        return Evidence(*(map_tree(lambda tensor: tensor.numpy(), part) for part in gathered))

    def _evidence(self, inputs: list[Inputs]) -> Evidence:
        """All groups' evidence, as tensors, from what each of them reads."""
        found = [group.all_evidence(each) for group, each in zip(self._groups, inputs, strict=True)]
        return self._gathered([Evidence(*(map_tree(torch.from_numpy, part) for part in each)) for each in found])

    @property
    def _parents(self) -> list[str]:
        """Which network each of the modules is from."""
        return [module.parent_sha256 for module in self.modules_by_label.values()]

    @property
    def needs_text(self) -> bool:
        """Whether indices mean different words to different modules."""
        own = {
            None if v is None else v.to_json() for v in (m.parent.vocabulary for m in self.modules_by_label.values())
        }
        return None not in own and len(own) > 1

    @property
    def groups(self) -> nn.ModuleList:
        """Which modules run together; found anew where weights were changed since."""
        if not torch.compiler.is_compiling() and not all(group.holds() for group in self._plan):  # type: ignore[operator]
            self._plan = nn.ModuleList(grouped(list(self.modules_by_label.values())))
        return self._plan

    @property
    def _groups(self) -> list[Group]:
        return list(self.groups)  # type: ignore[arg-type]  # all are groups

    def _apply(self, fn: Any, recurse: bool = True) -> Composition:
        """Moves and conversions copy what modules share: they share it again afterwards."""
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
        """Raises DataError for numbers where the modules' vocabularies differ."""
        if self.needs_text and not is_text(x):
            raise DataError(
                "the modules read different vocabularies: give text, which each of them reads in its own way."
            )

    def _plain(self, x: Any) -> Tensor:
        """Margins over all examples (N, [T,] K), not calibrated."""
        self.check_text(x)
        return self._joined([torch.from_numpy(group.margins(x)) for group in self._groups])

    def _gathered(self, found: list[Evidence]) -> Evidence:
        """The groups' evidence as one."""
        features: list[Any] = [None] * len(self.labels)
        for group, each in zip(self._groups, found, strict=True):
            for place, block in zip(group.places, each.features, strict=True):
                features[place] = block
        read = [block for each in found for block in each.read]
        return Evidence(self._joined([each.margins for each in found]), features, read)

    def check_referee(self) -> None:
        """Raises ConfigError for a referee that was fitted on other modules, or before they were given vocabularies."""
        if self.referee is None:
            return
        features = [module.head.weight.shape[1] for module in self.modules_by_label.values()]
        numbers = sum(features) + sum(size for group in self._groups for size in group.read_sizes)
        self.referee.check(numbers, len(self.labels))

    def _refereed(self, found: Evidence) -> Tensor:
        """The referee's margins (N, K)."""
        assert self.referee is not None
        device = self.referee.bias.device
        margins, features, read = (to_device(part, device) for part in found)
        margins_there: Tensor = self.referee(self._scaled(margins), [*features, *read])
        return margins_there

    def _scaled(self, margins: Tensor) -> Tensor:
        """Calibrated margins (..., K)."""
        if all(scale == UNTOUCHED for scale in self.calibration.values()):
            return margins
        return margins / self.temperature.to(margins.device) + self.offset.to(margins.device)

    def _each_by_itself(self, x: Any) -> Tensor:
        """Margins (N, [T,] K), so that gradients reach every module's own weights."""
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
        """The groups' margins (N, [T,] k) as one, in the order of the labels."""
        columns: list[Tensor | None] = [None] * len(self.labels)
        for group, margins in zip(self._groups, found, strict=True):
            if margins.dim() == 3 and not self.many_outputs:
                margins = margins.nan_to_num(-torch.inf).amax(dim=1)  # its best timestep
            for k, at in enumerate(group.places):
                columns[at] = margins[..., k]
        return torch.stack([c for c in columns if c is not None], dim=-1)

    def predict_proba(self, x: Any) -> np.ndarray:
        """The modules' probabilities, scaled to sum to one (but for independent labels): (N, K) or (N, T, K).

        With every module of one parent untouched and ``head="softmax"`` that is the parent's own softmax.
        """
        return self.shares(self.margins(x))

    def shares(self, margins: np.ndarray) -> np.ndarray:
        """Margins (..., K) as the probabilities of :meth:`predict_proba`."""
        if self.independent:
            return torch.sigmoid(torch.from_numpy(margins)).numpy()
        return torch.softmax(nn.functional.logsigmoid(torch.from_numpy(margins)), dim=-1).numpy()

    def predict_index(self, x: Any) -> np.ndarray:
        """Positions in :attr:`labels`, (N,) or (N, T), -1 without a decision; of independent ones booleans (..., K)."""
        return self.decide(self.margins(x))

    def decide(self, margins: np.ndarray) -> np.ndarray:
        """Positions in :attr:`labels` that win the vote over margins (..., K); of independent labels which hold.

        Timesteps without a decision, whose margins are NaN, give -1.

        Raises:
            DataError: NaN where there is one decision per example.
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
        """Labels (N,) or (N, T); of independent labels booleans (..., K), column by label.

        Raises:
            DataError: inputs that do not fit.
        """
        if self.independent:
            return self.predict_index(x)
        return labels_at(self.labels, self.predict_index(x))

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
        from unbraid.storage.saving import save_composition  # saving knows compositions, so it cannot come first

        save_composition(folder, self, self.about.changed(license, scores))

    def _changed(self, modules: Mapping[Label, ConcernModule], calibration: Mapping[Label, Scale]) -> Composition:
        """With other modules; warns the caller's caller of what that means for the vote."""
        found = Composition(modules, self.vote, calibration)
        warn(self._referee_dropped() + vote_problems(modules, found.calibration), stacklevel=4)
        return found

    def _referee_dropped(self) -> list[str]:
        return [] if self.referee is None else [REFEREE_DROPPED]

    def _known(self, label: Label) -> None:
        if label not in self:
            raise unknown_label(label, self.labels, "the composition")
