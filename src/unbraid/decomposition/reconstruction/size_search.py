"""Find the smallest modules within a tolerated loss, by bisection over sizes. The network is observed only once.

Shapes: N examples, K modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from unbraid.data.targets import Label, Targets
from unbraid.errors import ConfigError
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.outputs import Task
from unbraid.progress import Advance, Progress

HELD_OUT = 0.2  # share of the given examples in the held-out set
GRID = 32  # keep ratios are multiples of 1/GRID

Modules = Mapping[Label, ConcernModule]
Made = TypeVar("Made")


def held_out_split(examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split examples into indices to decompose on and held-out indices; raise ConfigError for too few examples."""
    out = int(examples * HELD_OUT)
    if out < 1:
        raise ConfigError(
            f"max_loss holds out a fifth of the examples, and {examples} are too few: give more examples, or keep."
        )
    order = np.random.default_rng(seed).permutation(examples)
    return np.sort(order[out:]), np.sort(order[:out])


def smallest_within(
    network: Network,
    make: Callable[[float], Modules],
    x: Inputs,
    targets: Targets,
    max_loss: float,
    advance: Advance,
) -> Modules:
    """Find the smallest modules whose loss is at most ``max_loss``; if there are none, return modules of full size.

    Args:
        network: the parent network.
        make: makes modules with a given keep ratio.
        x: held-out inputs.
        targets: labels of the held-out inputs.
        max_loss: tolerated loss of accuracy and F1, in [0, 1). For a regression: the tolerated mean squared difference
            to the numbers of the parent, as a share of their variance, for each number.
        advance: called with the finished work apart from ``make``, in units of one module; see :func:`search_cost`.
    """
    whole = make(1.0)
    classes = [network.labels.index(label) for label in whole]
    loss = _LOSSES[network.task](network, x, targets, classes)
    advance(len(classes))

    @contextmanager
    def rounds(what: str, total: float) -> Iterator[Advance]:
        yield lambda amount: advance(amount * len(classes))

    def within(tried: Modules) -> bool:
        return loss(Composition(tried)) <= max_loss

    return smallest(lambda keep: whole if keep == 1 else make(keep), within, rounds)


def smallest(make: Callable[[float], Made], within: Callable[[Made], bool], progress: Progress) -> Made:
    """Bisect over keep ratios.

    Args:
        make: makes a result with a given keep ratio.
        within: returns whether a result is good enough.
        progress: factory of progress bars.

    Returns:
        the smallest result that is good enough; the result of keep ratio 1 if there is none.
    """
    low, high, best = 0, GRID, make(1.0)
    with progress("choosing a size", (GRID - 1).bit_length()) as advance:
        while high - low > 1:
            middle = (low + high) // 2
            tried = make(middle / GRID)
            if within(tried):
                high, best = middle, tried
            else:
                low = middle
            advance(1)
    return best


def _accuracy_loss(network: Network, x: Inputs, targets: Targets, classes: list[int]) -> Callable[[Composition], float]:
    """Compute the loss of accuracy and of F1 against the parent; return the larger one."""
    parent = parent_scores(network, x, targets, classes)
    return lambda tried: float(np.max(parent - _scores(tried.margins(x.tree), targets, classes)))


def _squared_loss(network: Network, x: Inputs, targets: Targets, classes: list[int]) -> Callable[[Composition], float]:
    """Compute the mean squared difference to each of the parent's numbers, over its variance; return the largest."""
    parent = network.predict(x.tree)[..., classes]
    counted = ~np.isnan(parent).any(-1)
    spread = np.maximum(parent[counted].var(0, dtype=np.float64), 1e-12)

    def loss(tried: Composition) -> float:
        missed = np.square(tried.predict(x.tree)[counted] - parent[counted], dtype=np.float64)
        return float((missed.mean(0) / spread).max())

    return loss


_LOSSES: Mapping[Task, Callable[[Network, Inputs, Targets, list[int]], Callable[[Composition], float]]] = {
    "classification": _accuracy_loss,
    "labels": _accuracy_loss,
    "regression": _squared_loss,
}


def search_cost() -> float:
    """Return the work of :func:`smallest_within` for each class: a module for each size, and its evaluation."""
    sizes = 1 + (GRID - 1).bit_length()  # the full size, and one size for each bisection step
    return 2.0 * sizes


def parent_scores(network: Network, x: Inputs, targets: Targets, classes: list[int]) -> np.ndarray:
    """Compute accuracy and mean one-vs-rest F1 of the parent on ``classes``."""
    logits = network.logits(x.tree)
    if network.binary:
        logits = np.concatenate([-logits, logits], -1)
    elif network.spec.output == "softmax":
        others = [np.logaddexp.reduce(np.delete(logits, c, -1), axis=-1) for c in range(logits.shape[-1])]
        logits = logits - np.stack(others, -1)
    return _scores(logits[..., classes], targets, classes)


def _scores(margins: np.ndarray, targets: Targets, classes: list[int]) -> np.ndarray:
    """Compute accuracy (F1 for independent labels) and mean F1 of the single modules, from margins (..., K)."""
    if targets.many and margins.shape[1] < targets.y.shape[1]:  # labels have more timesteps than every sequence here
        targets = Targets(targets.y[:, : margins.shape[1]], targets.labels, True, targets.independent)
    members = np.stack([targets.members(index) for index in classes], -1)
    counted = targets.counted() & (members.any(-1) | targets.independent)
    claimed, true = margins[counted] > 0, members[counted]
    f1 = float(np.mean(2 * (claimed & true).sum(0) / np.maximum(claimed.sum(0) + true.sum(0), 1)))
    if targets.independent:
        return np.asarray([f1, f1])
    return np.asarray([(margins[counted].argmax(-1) == true.argmax(-1)).mean(), f1])
