"""Numbers in place of labels: positions of a composition, which are not always those of its networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from unbraid.data.arrays import as_array
from unbraid.data.targets import Label
from unbraid.errors import DataError, quoted


def check_positions(y: Any, labels: Sequence[Label], networks: Iterable[Sequence[Label]]) -> None:
    """Refuse numbers that could be positions in the labels of a composition or in those of one of its networks.

    The two differ in a composition of some classes of a network, or of its classes in another order.

    Args:
        y: labels of examples; names are never refused.
        labels: labels of the composition.
        networks: labels of each network that its modules are from.

    Raises:
        DataError: ``y`` holds numbers, and a network has all of these labels at other positions.

    Example:
        >>> check_positions([0, 1], ["a", "b"], [["a", "b"]])
        >>> check_positions([0, 1], ["b", "a"], [["a", "b"]])
        Traceback (most recent call last):
        unbraid.errors.DataError: labels are numbers, and the classes ['b', 'a'] are not those of their network in its \
order, ['a', 'b']: pass names.
    """
    if all(isinstance(label, int) for label in labels) or as_array(y, "labels").dtype.kind not in "iufb":
        return
    others = [list(own) for own in networks]
    if list(labels) in others:
        return
    found = next((own for own in others if set(labels) <= set(own)), None)
    if found is not None:
        raise DataError(
            f"labels are numbers, and the classes {quoted(list(labels)[:9])} are not those of their network in its "
            f"order, {quoted(found[:9])}: pass names."
        )
