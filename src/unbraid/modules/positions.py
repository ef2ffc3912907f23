"""Numbers in place of labels: positions of a composition, which are not always those of its networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from unbraid.data.arrays import as_array
from unbraid.data.targets import Label
from unbraid.errors import UnbraidWarning, quoted


def warn_of_positions(y: Any, labels: Sequence[Label], networks: Iterable[Sequence[Label]]) -> None:
    """Warn of numbers that could be positions in the labels of a composition or in those of one of its networks.

    The two differ in a composition of some classes of a network, or of its classes in another order.

    Args:
        y: labels of examples. Names never warn.
        labels: labels of the composition.
        networks: labels of each network that its modules are from.

    Warns:
        UnbraidWarning: ``y`` holds numbers, and a network has all of these labels at other positions.

    Example:
        >>> warn_of_positions([0, 1], ["a", "b"], [["a", "b"]])
    """
    if all(isinstance(label, int) for label in labels) or as_array(y, "labels").dtype.kind not in "iufb":
        return
    others = [list(own) for own in networks]
    found = next((own for own in others if set(labels) <= set(own)), None)
    if found is not None and list(labels) not in others:
        warnings.warn(
            f"Labels are numbers: they are positions in {quoted(list(labels)[:9])}, and not in the classes of the "
            f"network, {quoted(found[:9])}. Pass names.",
            UnbraidWarning,
            stacklevel=3,
        )
