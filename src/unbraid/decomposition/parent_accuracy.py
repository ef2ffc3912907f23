"""Warn if the accuracy of the parent network on the sample is near chance. Its inputs are then probably wrong.

Shapes: N examples, T timesteps, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from unbraid.data.targets import Targets
from unbraid.errors import warn_caller
from unbraid.networks.inputs import Inputs, leaves, run_batched
from unbraid.networks.network import Network

FEWEST = 30  # smallest number of examples for a warning
MOST = 500  # largest number of examples that are run, drawn at random
MOST_STEPS = 50_000  # largest number of timesteps that are run, unless FEWEST examples have more
SLIGHT = 0.2  # Cohen's kappa; smaller agreement is called slight (Landis and Koch 1977)
ONE_SIDED = 2.33  # standard errors: 1 % level


def warn_near_chance(network: Network, x: Inputs, targets: Targets, padding: Collection[int], text: bool) -> None:
    """Warn if the accuracy of the parent network is significantly below slight agreement with the labels.

    Agreement is Cohen's kappa: the gain over independent decisions and labels with the same frequencies.
    The test is a one-sided z-test over examples, since the timesteps of one example are not independent.

    Args:
        network: the parent network.
        x: the given examples. At most :data:`MOST` are run.
        targets: labels of the examples.
        padding: indices of classes that only mark padding. Decisions with such a label do not count.
        text: whether the inputs are text, for the message.
    """
    labelled = np.flatnonzero(_counted(targets, padding).reshape(len(targets), -1).any(1))
    if len(labelled) < FEWEST:
        return
    steps = max((leaf.shape[1 - x.axis] for leaf in leaves(x.tree) if getattr(leaf, "ndim", 0) > 1), default=1)
    most = max(FEWEST, min(MOST, MOST_STEPS // max(steps, 1)))
    rows = np.sort(np.random.default_rng(0).permutation(labelled)[:most])
    decided = network.decide(run_batched(network, x.take(rows), network.device))
    agreement = _agreement(decided, targets.take(rows), padding)
    if agreement is None:
        return
    accuracy, chance, error = agreement
    if accuracy + ONE_SIDED * error < chance + SLIGHT * (1 - chance):
        read = "text encoded" if text else "input encoded"
        warn_caller(
            f"parent's accuracy on this sample is {100 * accuracy:.0f} % (by chance: {100 * chance:.0f} %): "
            f"is the {read} as in training, and are the labels in the order of the outputs?",
        )


def _counted(targets: Targets, padding: Collection[int]) -> np.ndarray:
    return targets.counted() if targets.independent else targets.counted() & ~np.isin(targets.y, list(padding))


def _agreement(decided: np.ndarray, targets: Targets, padding: Collection[int]) -> tuple[float, float, float] | None:
    """Return accuracy, accuracy by chance and standard error of the accuracy; None if the timesteps differ."""
    counted = _counted(targets, padding)
    if decided.shape != targets.y.shape:
        return None
    if targets.independent:
        right, said, true = decided == (targets.y == 1), decided[counted], targets.y[counted] == 1
        both = said.mean(0) * true.mean(0)
        chance = float((1 - said.mean(0) - true.mean(0) + 2 * both).mean())
        right = right.mean(-1)
    else:
        counted &= decided >= 0
        right, classes = decided == targets.y, len(targets.labels)
        frequencies = [np.bincount(values[counted], minlength=classes) for values in (decided, targets.y)]
        chance = float((frequencies[0] * frequencies[1]).sum() / max(int(counted.sum()), 1) ** 2)
    right, counted = right.reshape(len(right), -1), counted.reshape(len(counted), -1)
    held = counted.any(1)
    each = (right * counted)[held].sum(1) / counted[held].sum(1)
    if len(each) < FEWEST:
        return None
    return float(each.mean()), chance, float(each.std() / math.sqrt(len(each)))
