"""Find the smallest modules within a tolerated loss, by bisection over sizes. The network is observed only once.

Shapes: N examples, K modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from unbraid.data.targets import Label, Targets
from unbraid.decomposition.losses import loss_measure
from unbraid.errors import ConfigError
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
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
            f"max_loss and several sizes hold out a fifth of the examples, and {examples} are too few: give more "
            "examples, or one keep."
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
    measure = loss_measure(network, x, targets, classes)
    advance(len(classes))

    @contextmanager
    def rounds(what: str, total: float) -> Iterator[Advance]:
        yield lambda amount: advance(amount * len(classes))

    def within(tried: Modules) -> bool:
        return measure.loss(measure.scores(Composition(tried))) <= max_loss

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


def search_cost() -> float:
    """Return the work of :func:`smallest_within` for each class: a module for each size, and its evaluation."""
    sizes = 1 + (GRID - 1).bit_length()  # the full size, and one size for each bisection step
    return 2.0 * sizes
