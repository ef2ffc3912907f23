"""Choose the examples for concern identification: M of the class, and about as many of the other classes.

Source: Imtiaz et al. 2023, Alg. 1 (sampling). With many outputs the choice is made per output timestep.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from unbraid.config import DecompositionConfig, Negatives
from unbraid.data.targets import Targets, label_indices
from unbraid.errors import DataError, quoted

Steps = list[np.ndarray]  # one array of row positions per output timestep; a single array for one output


@dataclass(frozen=True)
class Sample:
    """The examples to run, and the positive and negative examples of each class.

    Attributes:
        rows: different indices of the examples, (R,).
        positive: class -> positions in ``rows``, per output timestep.
        negative: class -> positions of examples of other classes, per output timestep.
    """

    rows: np.ndarray
    positive: dict[int, Steps]
    negative: dict[int, Steps]


def choose(
    targets: Targets, config: DecompositionConfig, wanted: Collection[int] | None = None, pooled: bool = False
) -> Sample:
    """Draw the examples of all classes at once, so that one pass over them is enough for all modules.

    Args:
        targets: labels of all given examples.
        config: settings; samples_per_class (M), negatives, seed and padding_label are used.
        wanted: indices of the classes that modules are made for, all by default. Other classes only have negatives.
        pooled: draw M examples over all output timesteps together, instead of M for each timestep.

    Returns:
        the sample. The negatives of a class are positives of other classes, so that the sample is small.

    Raises:
        DataError: a wanted class has fewer than two examples. Without ``wanted`` that depends on ``config.missing``.
    """
    classes = _observed_classes(targets, config)
    wanted = module_classes(targets, config) if wanted is None else wanted
    members = {j: _columns(targets.members(j)) for j in classes}
    counted = _columns(targets.counted())
    for padding in config.padding_labels:
        counted = counted & ~_columns(targets.members(padding))
    for j in wanted:
        total = int((members[j] & counted).sum())
        if total < 2:
            raise DataError(
                f"class {targets.labels[j]!r} has {total} of the {len(targets)} given examples; expected at least 2. "
                "Give examples of every class, or leave classes out with missing='skip' or classes=[...]."
            )
    draw = _first if config.negatives is Negatives.FIRST else _per_class
    positive: dict[int, Steps] = {j: [] for j in wanted}
    negative: dict[int, Steps] = {j: [] for j in wanted}
    rng = np.random.default_rng(config.seed)
    m = math.ceil(config.samples_per_class / (counted.shape[1] if pooled else 1))
    for t in range(counted.shape[1]):
        at = {j: members[j][:, t] & counted[:, t] for j in classes}
        drawn = draw(at, counted[:, t], m, rng)
        for j in wanted:
            positive[j].append(drawn[j][0])
            negative[j].append(drawn[j][1])
    return _gathered(positive, negative)


def module_classes(targets: Targets, config: DecompositionConfig) -> list[int]:
    """Return the indices of the classes that get a module.

    These are ``config.classes`` (all by default) without the padding labels. With ``missing="skip"``, classes with
    fewer than two examples are left out as well.

    Raises:
        DataError: a padding label or a class that the network does not have, or no remaining class.
    """
    chosen = _chosen_classes(targets, config)
    skipped = set(missing_classes(targets, config)) if config.missing == "skip" else set()
    if len(skipped) == len(chosen):
        raise DataError(
            f"none of the {len(chosen)} classes has at least 2 of the {len(targets)} given examples; a module needs 2."
        )
    return [j for j in chosen if j not in skipped]


def missing_classes(targets: Targets, config: DecompositionConfig) -> list[int]:
    """Return the indices of the classes that should get a module but have fewer than two examples."""
    counts = _class_counts(targets, config)
    return [j for j in _chosen_classes(targets, config) if counts[j] < 2]


def _chosen_classes(targets: Targets, config: DecompositionConfig) -> list[int]:
    observed = _observed_classes(targets, config)
    if config.classes is None:
        return observed
    chosen = label_indices(config.classes, targets.labels, "classes: the network")
    if padding := [targets.labels[j] for j in chosen if j not in observed]:
        raise DataError(f"classes and padding_label both have {quoted(padding)}: remove it from one of them.")
    if not chosen:
        raise DataError("classes is empty: expected at least one label.")
    return chosen


def _observed_classes(targets: Targets, config: DecompositionConfig) -> list[int]:
    for padding in config.padding_labels:
        if not 0 <= padding < len(targets.labels):
            raise DataError(f"padding_label={padding} is not a class index, expected 0 to {len(targets.labels) - 1}.")
    return [j for j in range(len(targets.labels)) if j not in config.padding_labels]


def _class_counts(targets: Targets, config: DecompositionConfig) -> np.ndarray:
    """Count the examples (or timesteps) of each class without padding, (C,)."""
    if not targets.independent:
        return np.bincount(targets.y[targets.y >= 0].ravel(), minlength=len(targets.labels))
    padded = np.any([targets.members(j) for j in config.padding_labels], axis=0) if config.padding_labels else False
    return ((targets.y == 1) & ~np.asarray(padded)[..., None]).reshape(-1, len(targets.labels)).sum(0)


def _per_class(
    at: dict[int, np.ndarray], counted: np.ndarray, m: int, rng: np.random.Generator
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Choose as in the paper: M positives, and M/(C-1) negatives from every other class."""
    drawn = {j: rng.permutation(np.flatnonzero(is_j)) for j, is_j in at.items()}
    unlabelled = counted & ~np.any(list(at.values()), axis=0)  # with independent labels an example may have none
    sources = {**drawn, -1: rng.permutation(np.flatnonzero(unlabelled))}
    chosen = {}
    for j, own in drawn.items():
        others = [source[~at[j][source]] for i, source in sources.items() if i != j]
        share = math.ceil(min(len(own), m) / max(sum(len(source) > 0 for source in others), 1))
        picks = [source[:share] for source in others]
        no = np.unique(np.concatenate(picks)) if picks else np.empty(0, np.int64)
        chosen[j] = (np.sort(own[:m]), no)
    return chosen


def _first(
    at: dict[int, np.ndarray], counted: np.ndarray, m: int, rng: np.random.Generator
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Choose as in the release: the first M positives, and the first M/(C-1) negatives of any class, in file order."""
    share = math.ceil(m / max(len(at) - 1, 1))
    return {j: (np.flatnonzero(yes)[:m], np.flatnonzero(counted & ~yes)[:share]) for j, yes in at.items()}


def _columns(array: np.ndarray) -> np.ndarray:
    return array[:, None] if array.ndim == 1 else array


def _gathered(positive: dict[int, Steps], negative: dict[int, Steps]) -> Sample:
    every = [rows for steps in (*positive.values(), *negative.values()) for rows in steps]
    found, first = np.unique(np.concatenate(every), return_index=True)
    order = np.argsort(first, kind="stable")  # ordered by class, so that the observations of a class are adjacent
    rows, place = found[order], np.argsort(order, kind="stable")

    def positions(chosen: dict[int, Steps]) -> dict[int, Steps]:
        return {j: [np.sort(place[np.searchsorted(found, r)]) for r in steps] for j, steps in chosen.items()}

    return Sample(rows, positions(positive), positions(negative))
