"""Choose the examples for concern identification: M of the class, and about as many of the other classes.

Source: Imtiaz et al. 2023, Alg. 1 (sampling). With many outputs the choice is made per output timestep.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

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


def choose(targets: Targets, config: DecompositionConfig) -> Sample:
    """Draw the examples of all classes at once, so that one pass over them is enough for all modules.

    Args:
        targets: labels of all given examples.
        config: settings; samples_per_class (M), negatives, seed and padding_label are used.

    Returns:
        the sample. The negatives of a class are positives of other classes, so that the sample is small.

    Raises:
        DataError: with ``missing="error"`` a class has fewer than two examples, or no class has two.
    """
    wanted = module_classes(targets, config)
    steps = _draws(targets, config, wanted, pooled=False)
    positive = {j: [draw.positives(j) for draw in steps] for j in wanted}
    negative = {j: [draw.negatives(j) for draw in steps] for j in wanted}
    rows = _distinct(rows for part in (positive, negative) for found in part.values() for rows in found)
    place = np.empty(len(targets), np.int64)
    place[rows] = np.arange(len(rows))

    def positions(chosen: dict[int, Steps]) -> dict[int, Steps]:
        return {j: [np.sort(place[r]) for r in found] for j, found in chosen.items()}

    return Sample(rows, positions(positive), positions(negative))


def chosen_rows(targets: Targets, config: DecompositionConfig, wanted: Collection[int] | None = None) -> np.ndarray:
    """Draw examples as :func:`choose` does, with M examples of a class over all output timesteps together.

    Args:
        targets: as for :func:`choose`.
        config: as for :func:`choose`.
        wanted: indices of the classes that modules are made for, all by default. Other classes only have negatives.

    Returns:
        different indices of examples, (R,).

    Raises:
        DataError: a wanted class has fewer than two examples. Without ``wanted`` that depends on ``config.missing``.
    """
    wanted = module_classes(targets, config) if wanted is None else wanted
    steps = _draws(targets, config, wanted, pooled=True)
    positives = (draw.positives(j) for j in wanted for draw in steps)
    return _distinct(chain(positives, (draw.negatives(j) for j in wanted for draw in steps)))


def _draws(
    targets: Targets, config: DecompositionConfig, wanted: Collection[int], pooled: bool
) -> list[_PerClass] | list[_First]:
    """Draw for each output timestep, with M examples of a class at each or over all of them together."""
    classes = _observed_classes(targets, config)
    counted = _columns(targets.counted())
    for padding in config.padding_labels:
        counted = counted & ~_columns(targets.members(padding))
    steps = counted.shape[1]
    at = [_by_class(targets, t, counted[:, t], classes) for t in range(steps)]
    for j in wanted:
        total = sum(len(own[j]) for own in at)
        if total < 2:
            raise DataError(
                f"class {targets.labels[j]!r} has {total} of the {len(targets)} given examples; expected at least 2. "
                "Give examples of every class, or leave classes out with missing='skip' or classes=[...]."
            )
    m = math.ceil(config.samples_per_class / (steps if pooled else 1))
    if config.negatives is Negatives.FIRST:
        return [_First(own, counted[:, t], m) for t, own in enumerate(at)]
    rng = np.random.default_rng(config.seed)
    return [_PerClass(own, counted[:, t], m, rng) for t, own in enumerate(at)]


def _by_class(targets: Targets, step: int, counted: np.ndarray, classes: Sequence[int]) -> dict[int, np.ndarray]:
    """Return the counted examples of each class at an output timestep, ascending indices."""
    if targets.independent:
        return {j: np.flatnonzero(_columns(targets.members(j))[:, step] & counted) for j in classes}
    labels, rows = _columns(targets.y)[:, step], np.flatnonzero(counted)
    rows = rows[np.argsort(labels[rows], kind="stable")]  # once for all classes, of which there may be thousands
    bounds = (np.searchsorted(labels[rows], classes, side) for side in ("left", "right"))
    return {j: rows[start:end] for j, start, end in zip(classes, *bounds, strict=True)}


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


class _PerClass:
    """Draws at one output timestep as in the paper: M positives, and M/(C-1) negatives from every other class.

    Args:
        at: class -> its examples.
        counted: which examples count, booleans (N,).
        m: M.
        rng: shuffles the examples of each class.
    """

    def __init__(self, at: dict[int, np.ndarray], counted: np.ndarray, m: int, rng: np.random.Generator) -> None:
        drawn = {j: rng.permutation(own) for j, own in at.items()}
        classes = np.zeros(len(counted), np.int64)
        for own in at.values():
            classes[own] += 1
        unlabelled = counted & (classes == 0)  # with independent labels an example may have none
        self._sources = {**drawn, -1: rng.permutation(np.flatnonzero(unlabelled))}
        self._m, self._examples, self._shared = m, len(counted), classes.max(initial=0) > 1
        self._filled = sum(len(own) > 0 for own in self._sources.values())
        ranks = np.concatenate([np.arange(len(own)) for own in self._sources.values()])
        order = np.argsort(ranks, kind="stable")  # the first of each class come first
        self._ranks = ranks[order]
        self._rows = np.concatenate(list(self._sources.values()))[order]
        self._owner = np.repeat(list(self._sources), [len(own) for own in self._sources.values()])[order]

    def positives(self, j: int) -> np.ndarray:
        """Return up to M examples of class ``j``, ascending."""
        return np.sort(self._sources[j][: self._m])

    def negatives(self, j: int) -> np.ndarray:
        """Return about as many examples of the other classes, ascending."""
        own = self._sources[j]
        total = min(len(own), self._m)
        if self._shared:
            mine = np.zeros(self._examples, bool)
            mine[own] = True
            others = [source[~mine[source]] for i, source in self._sources.items() if i != j]
            share = math.ceil(total / max(sum(len(source) > 0 for source in others), 1))
            return np.unique(np.concatenate([source[:share] for source in others]))
        share = math.ceil(total / max(self._filled - (len(own) > 0), 1))
        end = np.searchsorted(self._ranks, share)
        return np.sort(self._rows[:end][self._owner[:end] != j])


class _First:
    """Draws as in the release: the first M positives, and the first M/(C-1) negatives of any class, in file order."""

    def __init__(self, at: dict[int, np.ndarray], counted: np.ndarray, m: int) -> None:
        self._at, self._counted, self._m = at, counted, m

    def positives(self, j: int) -> np.ndarray:
        return self._at[j][: self._m]

    def negatives(self, j: int) -> np.ndarray:
        others = self._counted.copy()
        others[self._at[j]] = False
        return np.flatnonzero(others)[: math.ceil(self._m / max(len(self._at) - 1, 1))]


def _distinct(every: Iterable[np.ndarray]) -> np.ndarray:
    """Join rows and leave out what came before, so that the observations of a class are adjacent."""
    seen: dict[int, None] = {}
    for rows in every:
        seen.update(dict.fromkeys(rows.tolist()))
    return np.fromiter(seen, np.int64, len(seen))


def _columns(array: np.ndarray) -> np.ndarray:
    return array[:, None] if array.ndim == 1 else array
