"""Decisions that an evaluation scores, and the right answers. Shapes: N examples, T timesteps, K modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data.targets import Label, Targets, read_targets
from unbraid.errors import DataError, quoted
from unbraid.evaluation.report import LeftOut
from unbraid.modules.composition import Composition
from unbraid.networks.network import Network


@dataclass(frozen=True)
class Truth:
    """Labels of the examples, assigned to the modules of a composition.

    Attributes:
        targets: the labels as given.
        right: booleans (N, [T,] K), whether a label is the class of a module.
        unknown: booleans (N, [T]), whether the label is that of unknown inputs.
    """

    targets: Targets
    right: np.ndarray
    unknown: np.ndarray

    def used(self, margins: np.ndarray) -> np.ndarray:
        """Return which decisions are scored, booleans (N,) or (N, T), from margins (N, [T,] K)."""
        used: np.ndarray = (self.right.any(-1) | self.targets.independent) & ~_undecided(margins)
        return used

    def left_out(self, margins: np.ndarray, columns: dict[Label, int | None]) -> LeftOut:
        """Count the decisions that are not scored, by reason."""
        counted, undecided = self.targets.counted(), _undecided(margins)
        names = self.targets.labels
        if self.targets.independent:
            others = [label for place, label in enumerate(names) if place not in columns.values()]
            return LeftOut(0, int(undecided.sum()), 0, others)
        foreign = counted & ~self.right.any(-1) & ~self.unknown
        found = np.unique(self.targets.y[foreign]).tolist()
        return LeftOut(
            int(foreign.sum()),
            int((undecided & self.right.any(-1)).sum()),
            int((~counted).sum()),
            [names[place] for place in found],
        )


def columns_of(composition: Composition, network: Network | None) -> dict[Label, int | None]:
    """Map each label of the composition to the index of a class of the network, or to None.

    Labels are matched by name. A renamed module of this network is matched by the class that it was made for.
    """
    if network is None:
        return dict.fromkeys(composition.labels)
    found: dict[Label, int | None] = {}
    for label, module in composition.modules_by_label.items():
        own = module.index if module.parent_sha256 == network.sha256() else None
        found[label] = network.labels.index(label) if label in network.labels else own
    return found


def read_truth(
    composition: Composition, network: Network | None, y: Any, examples: int, unknown: Label | None = None
) -> Truth:
    """Read the labels ``y`` of N examples for a composition, see :func:`unbraid.evaluate`.

    Raises:
        DataError: labels that do not fit, or independent labels without a column for a module.
    """
    if network is None and not composition.independent:
        composition.warn_of_positions(y)
    columns = columns_of(composition, network)
    names = list(composition.labels if network is None else network.labels)
    targets = read_targets(
        y,
        names if composition.independent else [*names, *_other_names(y, names, composition, network, unknown)],
        many=composition.many_outputs,
        independent=composition.independent,
        examples=examples,
    )
    right = [_members(targets, label, columns[label]) for label in composition.labels]
    own = _own_place(targets, unknown)
    none = np.zeros(np.asarray(right[0]).shape, bool) if own is None else np.asarray(targets.members(own))
    return Truth(targets, np.stack(right, axis=-1), none)


def _own_place(targets: Targets, label: Label | None) -> int | None:
    return targets.labels.index(label) if label is not None and label in targets.labels else None


def _other_names(
    y: Any, names: list[Label], composition: Composition, network: Network | None, unknown: Label | None
) -> list[Label]:
    """Return labels that ``y`` may also contain: those of the composition and, without a network, any other label."""
    try:
        given = np.asarray(y)
        if given.dtype.kind == "O" and any(isinstance(value, str) for value in given.flat):
            given = given.astype(str)  # text and numbers have no common order
        values: np.ndarray = np.unique(given)
    except (ValueError, TypeError):  # rows of different lengths or labels of several types; read_targets refuses them
        return []
    if values.dtype.kind in "USO":
        known = {str(name) for name in names} | {"", "-1"}
        others = [] if unknown is None else [unknown]
        found = [*composition.labels, *others, *(values.astype(str).tolist() if network is None else [])]
        return list({str(label): label for label in found if str(label) not in known}.values())
    by_value = all(isinstance(name, int) for name in names)
    if not by_value or values.dtype.kind not in "iuf" or np.ndim(y) != 1 + composition.many_outputs:
        return []  # indices into the names, or 0/1 columns
    found = [int(value) for value in values if value >= 0 and value == round(value) and value not in names]
    return [value for value in found if network is None or value == unknown]


def _members(targets: Targets, label: Label, column: int | None) -> np.ndarray:
    """Return where a module is right: at its own label, and at the class of the network that it is matched with."""
    named = targets.labels.index(label) if label in targets.labels else None
    places = {place for place in (column, named) if place is not None}
    if targets.independent and not places:
        raise DataError(
            f"the labels have columns for {quoted(list(targets.labels)[:9])} and none for {label!r}: evaluate without "
            "against=, with one column for each label of the composition."
        )
    return np.any([targets.members(place) for place in places] or [np.zeros(targets.counted().shape, bool)], axis=0)


def _undecided(margins: np.ndarray) -> np.ndarray:
    return np.asarray(np.isnan(margins).any(-1))
