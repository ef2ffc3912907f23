"""Losses of modules against their parent network, on held-out examples.

Shapes: N examples, K modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from unbraid.data.targets import Targets
from unbraid.modules.composition import Composition
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.outputs import Task

Scores = Mapping[str, float]


class LossMeasure(ABC):
    """Scores of modules and of their parent on the same held-out examples, and the loss that follows.

    Args:
        network: the parent network.
        x: held-out inputs.
        targets: labels of the held-out inputs.
        classes: indices of the classes of the modules.

    Attributes:
        parent: name of a score -> score of the parent; empty if the scores compare with the parent already.
    """

    parent: Scores

    def __init__(self, network: Network, x: Inputs, targets: Targets, classes: Sequence[int]) -> None:
        self.x, self.targets, self.classes = x, targets, list(classes)

    @abstractmethod
    def scores(self, tried: Composition) -> Scores:
        """Compute the scores of a composition of the classes, by name."""

    @abstractmethod
    def loss(self, scores: Scores) -> float:
        """Return the loss against the parent; 0 for modules that are as good as it."""


class ClassLoss(LossMeasure):
    """Loss of accuracy and of the mean F1 of the single modules: the larger one."""

    def __init__(self, network: Network, x: Inputs, targets: Targets, classes: Sequence[int]) -> None:
        super().__init__(network, x, targets, classes)
        self.parent = self._scores(parent_margins(network, x, self.classes))

    def scores(self, tried: Composition) -> Scores:
        return self._scores(tried.margins(self.x.tree))

    def loss(self, scores: Scores) -> float:
        return max(self.parent[name] - scores[name] for name in self.parent)

    def _scores(self, margins: np.ndarray) -> Scores:
        """Compute accuracy and mean F1 from margins (..., K); independent labels have no accuracy."""
        targets = self.targets
        if targets.many and margins.shape[1] < targets.y.shape[1]:  # labels have more timesteps than every sequence
            targets = Targets(targets.y[:, : margins.shape[1]], targets.labels, True, targets.independent)
        members = np.stack([targets.members(index) for index in self.classes], -1)
        counted = targets.counted() & (members.any(-1) | targets.independent)
        claimed, true = margins[counted] > 0, members[counted]
        f1 = float(np.mean(2 * (claimed & true).sum(0) / np.maximum(claimed.sum(0) + true.sum(0), 1)))
        if targets.independent:
            return {"F1": f1}
        return {"accuracy": float((margins[counted].argmax(-1) == true.argmax(-1)).mean()), "F1": f1}


class NumberLoss(LossMeasure):
    """Mean squared difference to each of the parent's numbers, as a share of its variance: the largest one."""

    def __init__(self, network: Network, x: Inputs, targets: Targets, classes: Sequence[int]) -> None:
        super().__init__(network, x, targets, classes)
        self.parent = {}
        self._numbers = network.predict(x.tree)[..., self.classes]
        self._counted = ~np.isnan(self._numbers).any(-1)
        self._spread = np.maximum(self._numbers[self._counted].var(0, dtype=np.float64), 1e-12)

    def scores(self, tried: Composition) -> Scores:
        found, wanted = tried.predict(self.x.tree)[self._counted], self._numbers[self._counted]
        missed = np.square(found - wanted, dtype=np.float64).mean(0) / self._spread
        return {"change": float(missed.max())}

    def loss(self, scores: Scores) -> float:
        return scores["change"]


_MEASURES: Mapping[Task, type[LossMeasure]] = {
    "classification": ClassLoss,
    "labels": ClassLoss,
    "regression": NumberLoss,
}


def loss_measure(network: Network, x: Inputs, targets: Targets, classes: Sequence[int]) -> LossMeasure:
    """Make the measure for the task of a network; arguments as for :class:`LossMeasure`."""
    return _MEASURES[network.task](network, x, targets, classes)


def parent_margins(network: Network, x: Inputs, classes: Sequence[int]) -> np.ndarray:
    """Compute the margin of each class in the parent, (..., K): the log-odds of its probability."""
    logits = network.logits(x.tree)
    if network.binary:
        logits = np.concatenate([-logits, logits], -1)
    elif network.spec.output == "softmax":
        others = [np.logaddexp.reduce(np.delete(logits, c, -1), axis=-1) for c in range(logits.shape[-1])]
        logits = logits - np.stack(others, -1)
    return np.asarray(logits[..., list(classes)])
