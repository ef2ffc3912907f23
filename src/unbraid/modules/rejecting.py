"""Predictions of a composition, with the answer that an input belongs to no class.

An input is unknown if it is less typical of the parent of the winning module than a threshold, see
:mod:`unbraid.modules.domain.typicality`. Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.data.targets import Label, labels_at, plain_labels
from unbraid.errors import ConfigError, DataError, IncompatibleModules, quoted
from unbraid.modules.domain.evidence import Domain
from unbraid.modules.domain.typicality import FEWEST, REJECTED, WEIGHTS
from unbraid.modules.domain.views import numbers_read, reads_words, words_read
from unbraid.modules.groups import grouped
from unbraid.modules.module import ConcernModule
from unbraid.modules.voter import Vote, Voter
from unbraid.modules.voting.calibration import Scale
from unbraid.modules.voting.referee import Referee
from unbraid.networks.allowed import restricted
from unbraid.networks.checking import check_label
from unbraid.networks.inputs import Inputs, run_batched
from unbraid.networks.network import Network
from unbraid.networks.outputs import check_decides, check_restricts


class Rejecting(Voter):
    """Modules that vote, and a threshold below which an input is unknown.

    Args:
        modules: label -> module, in the order of the classes.
        vote: ``margin`` or ``probability``.
        calibration: label -> (temperature, offset) of its margin.
        referee: a referee fitted on these modules in this order, or None.
        domain: whether the vote uses domain evidence.
        threshold: typicality below which an input is unknown, in [0, 1].

    Raises:
        IncompatibleModules, ConfigError: as :class:`Voter`, and for a threshold out of range.
    """

    def __init__(
        self,
        modules: Mapping[Label, ConcernModule],
        vote: Vote,
        calibration: Mapping[Label, Scale],
        referee: Referee | None,
        domain: bool = True,
        threshold: float = REJECTED,
    ) -> None:
        super().__init__(modules, vote, calibration, referee, domain)
        self.threshold = check_threshold(threshold)

    def predict(
        self, x: Any, allowed: Any = None, unknown: Label | None = None, threshold: float | None = None
    ) -> np.ndarray:
        """Predict labels, or the numbers of a regression.

        Args:
            x: inputs, as for :meth:`margins`.
            allowed: booleans (N, K), (N, T, K) or (K,), or a list of labels for each example: the classes that may be
                predicted. Default None, all.
            unknown: the label for inputs that are not typical of the parent of the winning module. Default None: each
                input gets the label of a module.
            threshold: with ``unknown``, the typicality below which an input is unknown, in [0, 1]. Default None: that
                of the composition. 0.05 rejects about 5 % of inputs like the sample of the decomposition.

        Returns:
            labels (N,) or (N, T); for independent labels booleans (..., K), one column for each label. For a regression
            floats (N, K) or (N, T, K), one column for each module, in the order of :attr:`labels`.

        Raises:
            DataError: the inputs do not fit the networks, ``allowed`` does not fit, or ``unknown`` is not a label or is
                the label of a module.
            IncompatibleModules: ``unknown`` with modules that do not support it, see :meth:`typicality`.
            ConfigError: ``threshold`` out of range, or without ``unknown``.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> set(composition.predict(x).tolist()) <= set(composition.labels)
            True
            >>> sorted(set(composition.predict(x, allowed=[["travel", "weather"]] * 120).tolist()))
            ['travel', 'weather']
            >>> set(composition.predict(x, unknown="other", threshold=1.0).tolist()) >= {"other"}
            True
        """
        check_restricts(self.task, allowed)
        if unknown is None and threshold is not None:
            raise ConfigError(f"threshold={threshold} needs a label for unknown inputs: pass unknown='other'.")
        if self.task == "regression" and unknown is None:
            return self.activate(torch.from_numpy(self.margins(x))).numpy()
        found = self.predict_index(x, allowed)
        if unknown is None:
            return found if self.independent else labels_at(self.labels, found)
        unknown = check_unknown(unknown, self.labels)
        rejected = self.typicality(x, found) < self._threshold(threshold)
        return labels_at([*self.labels, unknown], np.where(rejected, len(self.labels), found))

    def predict_proba(
        self, x: Any, allowed: Any = None, unknown: bool = False, threshold: float | None = None
    ) -> np.ndarray:
        """Compute the probability of each label.

        The probabilities of the modules are scaled to sum to one, unless labels are independent. For unchanged modules
        of one parent with ``head="softmax"`` the result is the softmax of the parent.

        Args:
            x: inputs, as for :meth:`margins`.
            allowed: booleans (N, K), (N, T, K) or (K,), or a list of labels for each example: the classes that may be
                predicted; others get 0. Default None, all.
            unknown: whether to add a last column for unknown inputs, and to scale the other columns. It is threshold /
                (threshold + typicality), so above 0.5 where :meth:`predict` rejects the input. Default False.
            threshold: as for :meth:`predict`.

        Returns:
            float (N, K) or (N, T, K), in [0, 1]; with ``unknown`` (N, K + 1).

        Raises:
            DataError: as :meth:`margins`, ``allowed`` does not fit, or the modules predict numbers.
            IncompatibleModules: ``unknown`` with modules that do not support it, see :meth:`typicality`.
            ConfigError: ``threshold`` out of range, or without ``unknown``.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> found = composition.predict_proba(x)
            >>> bool((abs(found.sum(axis=1) - 1) < 1e-4).all())
            True
            >>> composition.predict_proba(x, unknown=True).shape
            (120, 4)
        """
        check_decides(self.task, "predict_proba")
        if not unknown and threshold is not None:
            raise ConfigError(f"threshold={threshold} needs a column for unknown inputs: pass unknown=True.")
        margins = restricted(self.margins(x), allowed, self.labels)
        shares = self.shares(margins)
        if not unknown:
            return shares
        least = self._threshold(threshold)
        typical = self.typicality(x, self.decide(margins))
        column = np.where(typical + least > 0, least / np.maximum(typical + least, 1e-300), 0.0)[:, None]
        return np.concatenate([shares * (1 - column), column], axis=1).astype(shares.dtype)

    def typicality(self, x: Any, decided: np.ndarray | None = None) -> np.ndarray:
        """Compute how typical inputs are of the parent of the winning module.

        It is the share of held-out inputs of this parent that score at most as high, see
        :mod:`unbraid.modules.domain.typicality`. It uses no labels.

        Args:
            x: inputs, as for :meth:`margins`.
            decided: positions of the winning modules, (N,). Default None: those of :meth:`predict_index`.

        Returns:
            floats (N,), in [0, 1]. About 5 % of inputs like the sample of the decomposition are below 0.05.

        Raises:
            DataError: the inputs do not fit.
            IncompatibleModules: several decisions for each example, independent labels, numbers, or a module without
                domain evidence.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> unbraid.compose(parts).typicality(x).shape
            (120,)
        """
        domains = self._checked_domains()
        winners = self.predict_index(x) if decided is None else decided
        found = np.zeros(len(winners))
        for digest, rows, scores in self._scored(x, winners):
            domain = domains[digest]
            assert domain is not None and domain.typicality is not None
            found[rows] = domain.typicality(scores)
        return found

    def typicality_scores(self, x: Any, winners: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the scores that a typicality is made of, for the positions (N,) of the winning modules.

        Returns:
            name -> floats (N,), of the scores that all winning modules have.
        """
        return joined_scores([(rows, scores) for _, rows, scores in self._scored(x, winners)], len(winners))

    def _threshold(self, threshold: float | None) -> float:
        return self.threshold if threshold is None else check_threshold(threshold)

    def _checked_domains(self) -> dict[str, Domain | None]:
        """Return the evidence of each parent; raise IncompatibleModules where there is no typicality."""
        if self.task != "classification" or self.many_outputs:
            raise IncompatibleModules(
                "unknown inputs need one decision between classes for each example, and these modules decide at each "
                "timestep, on independent labels or on numbers: leave out unknown."
            )
        domains = self.domains
        for label, module in self.modules_by_label.items():
            domain = domains[module.parent_sha256]
            if domain is None or domain.typicality is None:
                raise IncompatibleModules(
                    f"module {quoted(label)!r} has no typicality of the inputs of its network: decompose the network "
                    f"again with domain=True (the default), on at least {5 * FEWEST} examples of the classes that get "
                    "modules, or leave out unknown."
                )
        return domains

    def _scored(self, x: Any, winners: np.ndarray) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
        """Yield the digest of a parent, rows whose winning module is of this parent, and their scores by name."""
        self.check_text(x)
        domains, members = self.domains, list(self.modules_by_label.values())
        for group in self._groups:
            inputs = group.checked(x)
            for place in group.places:
                rows = np.flatnonzero(winners == place)
                if len(rows):
                    module = members[place]
                    domain = domains[module.parent_sha256]
                    yield module.parent_sha256, rows, scores_of(module, domain, inputs.take(rows))


def check_unknown(unknown: Any, labels: Sequence[Label]) -> Label:
    """Return a label of unknown inputs; raise DataError for another value.

    It must not be the label of a module, also not as text, and not "" or -1, which mark a missing label.
    """
    if isinstance(unknown, str | int | np.integer) and not isinstance(unknown, bool):
        label = check_label(plain_labels([unknown])[0])
        if str(label) not in [*map(str, labels), "", "-1"]:
            return label
    raise DataError(
        f"unknown={quoted(repr(unknown), 60)}: expected a label that no module has, text or a whole number, as 'other'."
    )


def check_threshold(threshold: float) -> float:
    """Return a threshold of typicality; raise ConfigError unless it is in [0, 1]."""
    given: Any = threshold
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or not 0 <= given <= 1:
        raise ConfigError(f"threshold={quoted(repr(threshold), 40)}: expected a typicality, 0 to 1.")
    return float(threshold)


def joined_scores(blocks: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]], examples: int) -> dict[str, np.ndarray]:
    """Join scores of some of N examples each, (rows, name -> floats), to those of all examples: name -> (N,).

    Only scores that all blocks have are in the result.
    """
    found: dict[str, np.ndarray] = {}
    for name in WEIGHTS if blocks else ():
        if all(name in scores for _, scores in blocks):
            found[name] = np.zeros(examples)
            for rows, scores in blocks:
                found[name][rows] = scores[name]
    return found


def scores_of(module: ConcernModule, domain: Domain | None, inputs: Inputs) -> dict[str, np.ndarray]:
    """Compute the scores that a typicality is made of, name -> (N,), for inputs that are typical of a module.

    A fused module is scored by the module that it was made from, because typicality was measured on that.
    """
    module = module if module.original is None else module.original
    features, margins = _decided(module, inputs)
    with torch.inference_mode():
        rows = module.head(torch.from_numpy(features).to(module.head.weight.device)).double()
    found = {"margin": margins, "energy": torch.logsumexp(rows, dim=-1).cpu().numpy()}
    if domain is None:
        return found
    found |= input_scores(domain, module.parent, inputs, np.full(len(inputs), module.index))
    columns = None if module.features is None else module.features.cpu().numpy()
    width = module.parent.spec.features if columns is None else len(columns)
    if domain.features is not None and features.shape[1] == width > 0:
        found["discriminant"] = domain.features.log_ratios(features, module.index, columns)
    return found


def _decided(module: ConcernModule, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Compute features (N, F) and margins (N,) of a module; of a tagger the mean and the maximum over timesteps."""
    if module.io.many_outputs:
        evidence = grouped([module])[0].all_evidence(inputs)
        return evidence.features[0], evidence.margins[:, 0]

    def both(batch: Any) -> Tensor:
        features = module.body(batch)
        return torch.cat([features.nan_to_num(0.0, 0.0, 0.0), module.head.margin(features).unsqueeze(1)], dim=1)

    found = run_batched(both, inputs, module.head.weight.device, decided=True)
    return found[:, :-1], found[:, -1]


def input_scores(domain: Domain, network: Network, inputs: Inputs, decided: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores that need inputs alone, name -> (N,), as far as there is evidence.

    Args:
        domain: the evidence of the parent.
        network: the parent.
        inputs: N inputs.
        decided: index of the class of each input, (N,).
    """
    if domain.words is not None and reads_words(network):
        words = words_read(network, inputs)
        found = {"familiar": domain.words.known_share(words)}
        return found | ({"words": domain.words.class_ratios(words, decided.tolist())} if domain.words.by_class else {})
    if domain.inputs is not None and (numbers := numbers_read(network, inputs)) is not None:
        return {"familiar": np.asarray(domain.inputs.density(numbers) / np.prod(numbers.shape[1:]))}
    return {}
