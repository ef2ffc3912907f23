"""The table of users' own recurrent cells, and what each axis of their weights holds.

Shapes: N examples, D inputs, H hidden units, H' kept units.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import ConfigError, UnsupportedLayer, quoted, wrong_object
from unbraid.networks.cells import OwnCell, OwnWeight, State

Step = Callable[[Any, Tensor, State], Any]  # (cell, x (N, D), states) -> the next states
WHOLE = "*"  # an axis that has no part for each unit or input
MOST = 8  # largest number of states
FORM = "unbraid_cell_form"  # attribute of a cell whose code is missing
_TERM = re.compile(r"(?:(\d{1,4})\*)?(units|inputs)")


@dataclass(frozen=True)
class CellForm:
    """How a class of cells is used and made smaller; see :func:`register_cell`. ``name`` replaces that of its class."""

    states: int
    units: str
    prune: Mapping[str, tuple[str, ...]]
    step: Step | None = None
    batch_first: bool = True
    name: str | None = None
    terms: dict[str, list[tuple[str, int]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        expressions = {axis for axes in self.prune.values() for axis in axes if axis != WHOLE}
        object.__setattr__(self, "terms", {axis: _terms(axis) for axis in expressions})

    def sizes(self, cell: nn.Module) -> tuple[int, int]:
        """Return D and H of a cell; raise UnsupportedLayer if the sizes of its weights do not fit the form."""
        name = type(cell).__name__
        units = getattr(cell, self.units, None)
        if isinstance(units, bool) or not isinstance(units, int):
            raise UnsupportedLayer(
                f"{name}.{self.units} is {quoted(repr(units), 40)}, expected the number of hidden units: pass the name "
                "of this attribute as units= to register_cell."
            )
        inputs = None
        for key, axes in self.prune.items():
            shape = _weight(cell, key, name).shape
            if len(shape) != len(axes):
                raise UnsupportedLayer(
                    f"weight {key!r} of {name} has shape {tuple(shape)}, and prune= of register_cell names "
                    f"{len(axes)} axes: name each axis."
                )
            for size, axis in zip(shape, axes, strict=True):
                known, times = self._known(axis, units)
                rest = size - known
                if axis == WHOLE or (times == 0 and rest == 0):
                    continue
                found = None if times == 0 or rest < 0 or rest % times else rest // times
                if found is None or inputs not in (None, found):
                    given = f"{units} units" + ("" if inputs is None else f" and {inputs} inputs")
                    raise UnsupportedLayer(
                        f"weight {key!r} of {name} has an axis of size {size}, which is not {axis!r} with {given}: "
                        "correct prune= of register_cell."
                    )
                inputs = found
        if inputs is None:
            raise UnsupportedLayer(f"no axis of {name} has inputs: name it in prune= of register_cell, 'inputs'.")
        return inputs, units

    def kept(self, axis: str, kept: Tensor, inputs: int, units: int, read: Tensor | None = None) -> Tensor:
        """Return the indices of an axis that belong to the kept units (H',) and to the inputs ``read``; None: all."""
        columns = torch.arange(inputs, device=kept.device) if read is None else read
        parts, offset = [], 0
        for term, times in self.terms[axis]:
            size, own = (units, kept) if term == "units" else (inputs, columns)
            for _ in range(times):
                parts.append(own + offset)
                offset += size
        return torch.cat(parts)

    def has_units(self, axis: str) -> bool:
        """Return whether an axis has a part for each unit."""
        return axis != WHOLE and any(term == "units" for term, _ in self.terms[axis])

    def described(self, cell: nn.Module) -> OwnCell:
        """Describe a cell as plain data."""
        weights = tuple(
            OwnWeight(name=key, shape=tuple(p.shape), axes=self.prune.get(key, (WHOLE,) * p.dim()))
            for key, p in cell.named_parameters()
        )
        return OwnCell(kind="own", name=self.name or type(cell).__name__, states=self.states, weights=weights)

    def _known(self, axis: str, units: int) -> tuple[int, int]:
        """Return the size of the units of an axis, and how often it has the inputs."""
        terms = self.terms.get(axis, [])
        own, others = ([times for term, times in terms if term == kind] for kind in ("units", "inputs"))
        return units * sum(own), sum(others)


_FORMS: dict[type[nn.Module], CellForm] = {}


def form_of(part: Any) -> CellForm | None:
    """Return the form of a cell of a registered class; None for any other object."""
    own = getattr(part, FORM, None)
    return own if isinstance(own, CellForm) else _FORMS.get(type(part))


def register_cell(
    cell: type[nn.Module],
    *,
    states: int,
    units: str,
    prune: Mapping[str, Sequence[str] | str],
    step: Step | None = None,
    batch_first: bool = True,
) -> None:
    """Register a recurrent cell or layer that is your own class, so that it is decomposed like an nn.LSTM.

    Your forward method stays in use. Its hidden units are observed and removed at each timestep, and small modules have
    smaller cells of your class. A later call for the same class replaces an earlier one.

    Args:
        cell: the class, a subclass of ``nn.Module``. Its forward reads one timestep, (N, D) and the states, or a whole
            sequence, (N, T, D). It returns the next states, or outputs and states. The output is the first state.
        states: number of states of one unit: 1 (h), or 2 (h and c). Each is (N, H), and starts as zeros.
        units: name of the attribute with the number of hidden units H.
        prune: name of each weight that has a part for each unit -> what its axes hold, in order: ``"units"``,
            ``"inputs"``, several parts one after another (``"4*units"``, ``"inputs+units"``), or ``"*"`` for another
            axis.
        step: called as ``step(cell, x, states)`` with x (N, D) and a tuple of states (N, H); returns the tuple of the
            next states. Default None calls ``cell(x, states)`` (``cell(x, h)`` with one state) and uses the last
            tensors of its result. A layer that reads sequences needs it.
        batch_first: whether a layer that reads sequences has them as (N, T, D). Default True.

    Raises:
        ArgumentError: ``cell`` is no class of modules, or an argument has another type.
        ConfigError: a number of states below 1, or an axis that cannot be read.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import unbraid
        >>> class MinGRU(nn.Module):
        ...     def __init__(self, inputs, hidden):
        ...         super().__init__()
        ...         self.hidden = hidden
        ...         self.gate, self.new = nn.Linear(inputs, hidden), nn.Linear(inputs, hidden)
        ...     def forward(self, x, h):
        ...         z = torch.sigmoid(self.gate(x))
        ...         return (1 - z) * h + z * self.new(x)
        >>> unbraid.register_cell(MinGRU, states=1, units="hidden", prune={
        ...     "gate.weight": ("units", "inputs"), "gate.bias": "units",
        ...     "new.weight": ("units", "inputs"), "new.bias": "units",
        ... })
    """
    _FORMS[cell] = _checked(cell, states, units, prune, step, batch_first)


def _checked(cell: Any, states: Any, units: Any, prune: Any, step: Any, batch_first: Any) -> CellForm:
    """Check the arguments of :func:`register_cell`."""
    if not inspect.isclass(cell) or not issubclass(cell, nn.Module):
        raise wrong_object(cell, "cell", "a subclass of nn.Module")
    if not isinstance(units, str):
        raise wrong_object(units, "units", "the name of an attribute")
    if not isinstance(prune, Mapping):
        raise wrong_object(prune, "prune", "a dict of names of weights")
    if step is not None and not callable(step):
        raise wrong_object(step, "step", "a function")
    if isinstance(states, bool) or not isinstance(states, int) or not 1 <= states <= MOST:
        raise ConfigError(f"states={quoted(repr(states), 40)}: expected a whole number from 1 to {MOST}.")
    named: dict[str, tuple[str, ...]] = {}
    for key, axes in prune.items():
        listed = (axes,) if isinstance(axes, str) else axes
        texts = isinstance(listed, tuple | list) and all(isinstance(axis, str) for axis in listed)
        if not isinstance(key, str) or not texts:
            raise ConfigError(f"prune={quoted(repr({key: axes}), 80)}: expected name -> axes, as 'units'.")
        named[key] = tuple(listed)
    form = CellForm(states, units, named, step, bool(batch_first))
    if not any(form.has_units(axis) for axes in named.values() for axis in axes):
        raise ConfigError("prune= names no axis with 'units': name each weight that has a part for each hidden unit.")
    return form


def _weight(cell: nn.Module, key: str, name: str) -> Tensor:
    found = dict(cell.named_parameters()).get(key)
    if found is None:
        names = quoted(sorted(dict(cell.named_parameters())), 200)
        raise UnsupportedLayer(f"{name} has no weight {key!r}, which prune= of register_cell names; it has {names}.")
    return found


def _terms(axis: str) -> list[tuple[str, int]]:
    """Parse an axis: "4*units", "inputs+units"; raise ConfigError for anything else."""
    found = []
    for part in axis.replace(" ", "").split("+"):
        match = _TERM.fullmatch(part)
        if match is None or match[1] == "0":
            raise ConfigError(
                f"axis {quoted(repr(axis), 60)} of prune=: expected 'units', 'inputs', '4*units', 'inputs+units' or "
                "'*'."
            )
        found.append((match[2], int(match[1] or 1)))
    return found
