"""Decide between modules: the class of the module with the highest margin is predicted.

Source: Imtiaz et al. 2023, section IV. The vote uses margins: they order modules as probabilities do, but do not
saturate. ``vote="probability"`` compares float64 probabilities as the paper's released code does; the first of equal
ones wins. Calibrated modules vote with margin / temperature + offset, see :mod:`unbraid.modules.voting.calibration`. A
referee replaces the vote, see :mod:`unbraid.modules.voting.referee`. Between parents with domain evidence, the evidence
is added to the vote, see :mod:`unbraid.modules.domain.evidence`.
Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.data.targets import Label, labels_at
from unbraid.errors import ConfigError, quoted
from unbraid.modules.domain.evidence import domain_vote
from unbraid.modules.domain_modules import DomainModules
from unbraid.modules.groups import Evidence, Group
from unbraid.modules.module import ConcernModule
from unbraid.modules.voting.calibration import UNTOUCHED, Scale, check_scale
from unbraid.modules.voting.referee import Referee
from unbraid.modules.voting.viterbi import best_paths, checked_valid, chosen_transitions, real_timesteps
from unbraid.networks.allowed import restricted
from unbraid.networks.inputs import check_decided, to_device
from unbraid.networks.outputs import check_decides
from unbraid.networks.pytorch.transitions import Transitions

ROWS = 4096  # examples whose evidence is in memory at a time
Vote = Literal["margin", "probability"]


class Voter(DomainModules):
    """Modules and the rule that decides between them.

    Args:
        modules: label -> module, in the order of the classes.
        vote: ``margin`` or ``probability``.
        calibration: label -> (temperature, offset) of its margin; (1, 0) for labels that are not in it.
        referee: a referee fitted on these modules in this order, or None.
        domain: whether the vote uses domain evidence, see :attr:`uses_domain`.

    Raises:
        IncompatibleModules: no module, or modules that read different inputs.
        ConfigError: an unknown ``vote``, a calibration out of range, or a referee of other modules. For modules that
            predict numbers also any vote, calibration or referee.
    """

    temperature: Tensor
    offset: Tensor

    def __init__(
        self,
        modules: Mapping[Label, ConcernModule],
        vote: Vote,
        calibration: Mapping[Label, Scale],
        referee: Referee | None,
        domain: bool = True,
    ) -> None:
        super().__init__(modules, domain)
        if str(vote) not in get_args(Vote):
            raise ConfigError(f"vote={quoted(repr(vote))}: expected one of {', '.join(map(repr, get_args(Vote)))}.")
        self.vote: Vote = vote
        self.calibration = {v: check_scale(v, calibration.get(v, UNTOUCHED)) for v in self.labels}
        for place, name in enumerate(("temperature", "offset")):
            self.register_buffer(name, torch.tensor([s[place] for s in self.calibration.values()]), persistent=False)
        self.referee = referee
        self._check_task()
        self.check_referee()

    @property
    def is_calibrated(self) -> bool:
        """Whether the vote uses a calibration or a referee."""
        return self.referee is not None or any(scale != UNTOUCHED for scale in self.calibration.values())

    def forward(self, x: Any) -> Tensor:
        """Compute the margins of all modules: (N, K), or (N, T, K) with one decision per timestep."""
        logs = self.domain_logs(x)
        if self.referee is None and torch.is_grad_enabled() and any(p.requires_grad for p in self.members.parameters()):
            return self._voted(self._scaled(self.each_by_itself(x)), logs)
        groups = self._groups
        return self._margins_of(groups, [x] * len(groups), logs)

    def joint(self, inputs: Sequence[Any], logs: np.ndarray | None) -> Tensor:
        """Compute the margins of all modules, (N, K) or (N, T, K).

        Args:
            inputs: the inputs of each of :attr:`groups`, which can be those of different vocabularies.
            logs: domain evidence, as of :meth:`domain_logs`; None for a vote without it.
        """
        return self._margins_of(self._groups, inputs, logs)

    def margins(self, x: Any) -> np.ndarray:
        """Compute the margins of all modules for all examples, in batches.

        Of a regression, these are the outputs before their activation.

        Each module reads text with its own vocabulary, so parents with different vocabularies can be combined. With a
        referee, margins are the log-odds of its probabilities.

        Args:
            x: inputs of the parent networks: arrays, or text if all parents have a vocabulary.

        Returns:
            float (N, K), or (N, T, K) with one decision per timestep; columns in the order of :attr:`labels`.

        Raises:
            DataError: the inputs do not fit, or they are word indices and the vocabularies differ.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> composition.margins(x).shape
            (120, 3)
        """
        logs = self.domain_logs(x)
        if self.referee is None:
            return self._voted(self._scaled(self.plain_margins(x)), logs).numpy()
        self.check_text(x)
        groups = self._groups
        self._check_numbers(groups)
        inputs = [group.checked(x) for group in groups]
        parts = [slice(start, start + ROWS) for start in range(0, len(inputs[0]), ROWS)]
        found = [
            self._refereed(
                self._evidence(groups, [each.take(part) for each in inputs]), None if logs is None else logs[part]
            )
            for part in parts
        ]
        return torch.cat(found).cpu().numpy()

    def own_margins(self, x: Any) -> np.ndarray:
        """Compute the calibrated margins without domain evidence and without a referee, as :meth:`margins` does."""
        return self._scaled(self.plain_margins(x)).numpy()

    def shares(self, margins: np.ndarray) -> np.ndarray:
        """Convert margins (..., K) to the probabilities of :meth:`unbraid.Composition.predict_proba`."""
        if self.independent:
            return torch.sigmoid(torch.from_numpy(margins)).numpy()
        return torch.softmax(nn.functional.logsigmoid(torch.from_numpy(margins)), dim=-1).numpy()

    def predict_index(self, x: Any, allowed: Any = None) -> np.ndarray:
        """Predict positions in :attr:`labels`.

        Args:
            x: inputs, as for :meth:`margins`.
            allowed: as for :meth:`unbraid.Composition.predict`.

        Returns:
            integers (N,) or (N, T), -1 at padding; for independent labels booleans (..., K).
        """
        check_decides(self.task, "predict_index")
        return self.decide(restricted(self.margins(x), allowed, self.labels))

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
            votes = np.where(np.isneginf(margins), -1.0, votes)  # never a class that is not allowed
        return np.where(np.isnan(margins).any(-1), -1, votes.argmax(-1))

    def viterbi(
        self, x: Any, transitions: Any = None, start: Any = None, end: Any = None, valid: Any = None
    ) -> np.ndarray:
        """Predict the best sequence of labels of taggers of one parent with a conditional random field (CRF).

        The emission scores are the log-probabilities of the modules. For unchanged modules with ``head="softmax"`` the
        result is that of the CRF of the parent.

        Args:
            x: inputs, as for :meth:`margins`.
            transitions: transition scores (C, C) over the classes of the parent: of each class (column) after each
                class (row). Default None takes those of the parent's module, which must be named as in the package
                pytorch-crf: ``transitions``, ``start_transitions``, ``end_transitions``.
            start: scores (C,) of the first timestep, with ``transitions``. Default None, zeros.
            end: scores (C,) of the last timestep, with ``transitions``. Default None, zeros.
            valid: booleans (N, T), False at padding. Default None finds padding in the inputs: by the lengths that the
                module packs, or an argument of forward whose name has "len", "mask" or "valid".

        Returns:
            labels (N, T); at padding "", or -1 where all labels are numbers.

        Warns:
            UnbraidWarning: inputs seem to have padding, and nothing states the lengths.

        Raises:
            IncompatibleModules: modules of several parents, or of a network that is no tagger.
            DataError: the inputs or scores do not fit, or the parent has no transition scores.

        Example:
            >>> import numpy as np
            >>> import torch
            >>> from torch import nn
            >>> import unbraid
            >>> class Tagger(nn.Module):
            ...     def __init__(self):
            ...         super().__init__()
            ...         self.gru, self.out = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 3)
            ...     def forward(self, x):
            ...         return self.out(self.gru(x)[0])
            >>> _ = torch.manual_seed(0)
            >>> x = 4 * torch.randn(60, 5, 4)
            >>> network = unbraid.Network.from_torch(Tagger(), x[:6])
            >>> composition = unbraid.compose(unbraid.decompose(network, (x, torch.arange(300).view(60, 5) % 3)))
            >>> never_twice = np.where(np.eye(3), -np.inf, 0)
            >>> path = composition.viterbi(x, never_twice)
            >>> bool((path[:, 1:] != path[:, :-1]).all())
            True
        """
        scores = chosen_transitions(list(self.modules_by_label.values()), transitions, start, end)
        margins = self.margins(x)
        return labels_at(self.labels, self._decoded(x, margins, scores, valid))

    def viterbi_index(
        self, x: Any, margins: np.ndarray, transitions: Any = None, start: Any = None, end: Any = None
    ) -> np.ndarray:
        """Decode margins (N, T, K) of the inputs x by a CRF.

        Args:
            x: the inputs.
            margins: their margins.
            transitions: as for :meth:`viterbi`.
            start: as for :meth:`viterbi`.
            end: as for :meth:`viterbi`.

        Returns:
            positions in :attr:`labels`, integers (N, T), -1 at padding.

        Raises:
            IncompatibleModules: as :meth:`viterbi`.
            DataError: the parent has no transition scores, or scores of another shape.
        """
        scores = chosen_transitions(list(self.modules_by_label.values()), transitions, start, end)
        return self._decoded(x, margins, scores, None)

    def _decoded(self, x: Any, margins: np.ndarray, scores: Transitions, valid: Any) -> np.ndarray:
        if valid is None:
            valid = real_timesteps(list(self.modules_by_label.values()), x, margins)
        return _paths(margins, scores, checked_valid(valid, margins))

    def activate(self, margins: Tensor) -> Tensor:
        """Convert outputs (..., K) of modules of a regression to numbers, with the output activation of each parent."""
        parents = [module.parent for module in self.modules_by_label.values()]
        return torch.stack([parent.activate(margins[..., k]) for k, parent in enumerate(parents)], dim=-1)

    def _check_task(self) -> None:
        """Raise ConfigError for settings of a vote where modules predict numbers."""
        if self.task == "regression" and (self.is_calibrated or self.vote != "margin"):
            raise ConfigError(
                "these modules predict numbers, one column each, and do not vote: leave out vote=, calibration and "
                "referee."
            )

    def check_referee(self) -> None:
        """Raise ConfigError for a referee that was fitted on other modules or without their vocabularies."""
        if self.referee is not None:
            self._check_numbers(self._groups)

    def _check_numbers(self, groups: list[Group]) -> None:
        """Raise ConfigError if the referee reads another number of values than the groups give."""
        assert self.referee is not None
        numbers = sum(size for group in groups for size in (*group.feature_sizes, *group.read_sizes))
        self.referee.check(numbers, len(self.labels))

    def _margins_of(self, groups: list[Group], inputs: Sequence[Any], logs: np.ndarray | None) -> Tensor:
        """Compute the margins of all groups from the inputs of each, (N, K) or (N, T, K)."""
        read = list(zip(groups, inputs, strict=True))
        if self.referee is None:
            return self._voted(self._scaled(self._joined(groups, [group(x) for group, x in read])), logs)
        self._check_numbers(groups)
        return self._refereed(self._gathered(groups, [group.evidence(x) for group, x in read]), logs)

    def _refereed(self, found: Evidence, logs: np.ndarray | None) -> Tensor:
        """Compute the margins of the referee, (N, K)."""
        assert self.referee is not None
        device = self.referee.bias.device
        margins, features, read = (to_device(part, device) for part in found)
        margins_there: Tensor = self.referee(self._voted(self._scaled(margins), logs), [*features, *read])
        return margins_there

    def _voted(self, margins: Tensor, logs: np.ndarray | None) -> Tensor:
        """Add domain evidence (N, P) to margins (N, [T,] K)."""
        if logs is None:
            return margins
        return domain_vote(margins, logs, self.domain_parents, self.vote == "probability")

    def _scaled(self, margins: Tensor) -> Tensor:
        """Apply the calibration to margins (..., K)."""
        if all(scale == UNTOUCHED for scale in self.calibration.values()):
            return margins
        return margins / self.temperature.to(margins.device) + self.offset.to(margins.device)


def _paths(margins: np.ndarray, scores: Transitions, valid: np.ndarray) -> np.ndarray:
    """Find the best paths (N, T) of margins (N, T, K); the emission scores are log-probabilities."""
    return best_paths(nn.functional.logsigmoid(torch.from_numpy(margins)).numpy(), scores, valid)
