"""Find the recurrent layers whose outputs may become narrower, by trial.

A trial runs the user's forward with recorded results of all recurrent layers and nn.Linear layers. The layer on trial
returns only the columns of its kept units. The layer can be narrowed if forward still runs, if every layer reads the
recorded values with some columns missing, and if the results are the recorded results. This holds for selected
timesteps, pooling over time, masks, concatenation and attention weights from an nn.Linear. It fails for layer norm,
reshapes to a fixed size and products with fixed vectors. Shapes: N examples, T timesteps, H units, S states.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unbraid.decomposition.shrinking.running import Call, Record, fresh, same_random_numbers
from unbraid.networks.inputs import leaves
from unbraid.networks.pytorch.arranging import tensors_of
from unbraid.networks.pytorch.calling import call, said

SIZE_NAME = re.compile(r"hid|unit|rnn|lstm|gru|state|h_dim|h_size|^h$", re.IGNORECASE)  # attributes that may hold H

ROUNDING = 1e-5  # largest difference of equal values, as a share of the largest value
COMPARED = 256  # rows that find the columns; all rows confirm them

Kept = Mapping[str, list[Tensor]]  # path of a recurrent layer -> kept units of each level and direction, S x (H',)
Attributes = dict[tuple[str, str], int]  # (path of a part, name of an attribute) -> new value


class Wide(Exception):
    """A trial failed. The message names the reason."""


@dataclass(frozen=True)
class Plan:
    """Which layers become narrower.

    Attributes:
        kept: the kept units of all layers that get smaller.
        narrow: paths of the recurrent layers whose outputs are narrower.
        columns: path of a layer -> columns of its inputs that remain; layers without a change are missing.
        attributes: attributes of the module that must change with them.
        reasons: path of every other recurrent layer -> why it cannot be narrower.
    """

    kept: Kept
    narrow: frozenset[str] = frozenset()
    columns: dict[str, Tensor] = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def plan_narrowing(module: nn.Module, batch: Any, recorded: Record, kept: Kept, tied: Kept) -> Plan:
    """Find the layers that can be narrowed.

    Args:
        module: the user's, with its own recurrent layers.
        batch: inputs.
        recorded: a run of the module on ``batch`` with all recurrent and linear layers that may be refitted.
        kept: the kept units of the recurrent layers that get smaller.
        tied: the same where layers of one size keep the same units, so that one may start from the states of another.
    """
    narrow: set[str] = set()
    reasons: dict[str, str] = {}
    for site in kept:
        try:
            _trial(module, batch, recorded, kept, {site}, {})
            narrow.add(site)
        except Wide as wide:
            reasons[site] = str(wide)
    attributes: Attributes = {}
    for sites, changes, units in _further_trials(module, kept, tied, list(reasons)):
        if narrow.intersection(sites):
            continue
        chosen = {**kept, **{site: units[site] for site in sites}}
        try:
            _trial(module, batch, recorded, chosen, narrow | set(sites), attributes | changes)
        except Wide:
            continue
        narrow |= set(sites)
        attributes |= changes
        kept = chosen
    try:
        columns = _trial(module, batch, recorded, kept, narrow, attributes)
    except Wide as wide:
        return Plan(kept, reasons={site: str(wide) for site in kept})
    return Plan(kept, frozenset(narrow), columns, attributes, {s: why for s, why in reasons.items() if s not in narrow})


def _further_trials(
    module: nn.Module, kept: Kept, tied: Kept, sites: Sequence[str]
) -> Iterator[tuple[list[str], Attributes, Kept]]:
    """Layers to try together, the attributes that hold their number of units, and the units that they keep."""
    sizes: dict[tuple[int, int], list[str]] = {}
    for site in sites:
        units = module.get_submodule(site).hidden_size
        assert isinstance(units, int)
        sizes.setdefault((units, len(kept[site][0])), []).append(site)
    for (old, new), group in sizes.items():
        changes = _size_attributes(module, old, new)
        several = len(group) > 1
        if several:
            yield group, {}, tied
        if changes:
            yield group, changes, kept
        if changes and several:
            yield group, changes, tied
            yield from (([site], changes, kept) for site in group)


def _size_attributes(module: nn.Module, old: int, new: int) -> Attributes:
    """New values of attributes of the user's classes that hold the number of units, or twice that number."""
    changes: Attributes = {}
    for path, part in module.named_modules():
        if type(part).__module__.startswith("torch."):
            continue
        for name, value in vars(part).items():
            if type(value) is int and SIZE_NAME.search(name) and value in (old, 2 * old):
                changes[path, name] = value // old * new
    return changes


def _trial(
    module: nn.Module, batch: Any, recorded: Record, kept: Kept, narrow: set[str], attributes: Attributes
) -> dict[str, Tensor]:
    """Run one trial; returns path -> columns of its inputs that remain.

    Raises:
        Wide: a layer of ``narrow`` cannot be narrowed.
    """
    trial = fresh(module)
    for (path, name), value in attributes.items():
        setattr(trial.get_submodule(path), name, value)
    columns: dict[str, Tensor] = {}
    replays = []
    for path, calls in recorded.calls.items():
        part = trial.get_submodule(path)
        own = kept[path] if path in narrow else None
        if own is not None:
            part.hidden_size = len(own[0])  # type: ignore[assignment]
        replays.append(_Replay(path, calls, own, columns, module.get_submodule(path)))
        part.forward = replays[-1]
    try:
        with torch.no_grad(), same_random_numbers():
            result = call(trial, batch)
    except Wide:
        raise
    except Exception as error:  # a user's forward may raise any error
        raise Wide(f"forward fails on fewer of its outputs ({said(error)})") from error
    if idle := [replay.path for replay in replays if next(replay.calls, None) is not None]:
        raise Wide(f"forward then does not call {idle[0]!r} as often")
    results = tensors_of(result)
    same = len(results) == len(recorded.results) and all(map(_equal, results, recorded.results))
    if not same:
        raise Wide("the module returns its outputs, or values that it computes from them without an nn.Linear")
    return columns


class _Replay:
    """Replace the forward method of a layer: check its inputs and return its recorded results.

    Args:
        path: of the layer.
        calls: its recorded calls.
        kept: of a recurrent layer on trial, its kept units; None returns the recorded result.
        columns: filled with the columns of the inputs that are left, path -> (F',).
        part: the layer.
    """

    def __init__(
        self, path: str, calls: list[Call], kept: Sequence[Tensor] | None, columns: dict[str, Tensor], part: nn.Module
    ) -> None:
        self.path, self.calls, self.kept, self.columns = path, iter(calls), kept, columns
        self.units = int(getattr(part, "hidden_size", 0))
        self.cell = isinstance(part, nn.RNNCellBase)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recorded = next(self.calls, None)
        if recorded is None:
            raise Wide(f"forward then calls {self.path!r} more often")
        given, wanted = _arguments(args, kwargs), _arguments(recorded.args, recorded.kwargs)
        self._read(_values(given[0]), _values(wanted[0]))
        if isinstance(given[0], PackedSequence) and not torch.equal(given[0].batch_sizes, wanted[0].batch_sizes):
            raise Wide(f"{self.path!r} then reads sequences of other lengths")
        states, before = ([s for s in leaves(part) if s is not None] for part in (given[1:], wanted[1:]))
        before = [self._narrow(state) for state in before]
        if len(states) != len(before) or not all(map(_equal, states, before)):
            raise Wide(f"{self.path!r} then gets other initial states")
        return self._result(recorded.result)

    def _read(self, given: Tensor, wanted: Tensor) -> None:
        if _equal(given, wanted):
            return
        found = _columns(given, wanted)
        if found is None:
            raise Wide(f"{self.path!r} then reads other values, not the same ones with some columns left out")
        if self.path in self.columns and not torch.equal(self.columns[self.path], found):
            raise Wide(f"{self.path!r} reads different columns in each of its calls")
        self.columns[self.path] = found

    def _result(self, result: Any) -> Any:
        if self.kept is None:
            return result
        if self.cell:
            return self._narrow(result) if isinstance(result, Tensor) else tuple(map(self._narrow, result))
        outputs, states = result
        last = self.kept[-2:] if _values(outputs).shape[-1] == 2 * self.units else self.kept[-1:]
        columns = torch.cat([kept + place * self.units for place, kept in enumerate(last)])
        if isinstance(outputs, PackedSequence):
            outputs = outputs._replace(data=outputs.data[..., columns])
        else:
            outputs = outputs[..., columns]
        if isinstance(states, tuple):
            return outputs, tuple(map(self._narrow, states))
        return outputs, self._narrow(states)

    def _narrow(self, state: Tensor) -> Tensor:
        if self.kept is None:
            return state
        if self.cell:
            return state[..., self.kept[0]]
        return torch.stack([own[..., kept] for own, kept in zip(state, self.kept, strict=True)])


def _arguments(args: tuple, kwargs: dict[str, Any]) -> list[Any]:
    """Return the input of a layer and its other arguments, passed by position or by name."""
    named = {"input": 0, "hx": 1}
    return [*args, *(kwargs[name] for name in sorted(kwargs, key=lambda name: named.get(name, 2)))]


def _values(value: Any) -> Tensor:
    found: Tensor = value.data if isinstance(value, PackedSequence) else value
    return found


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))


def _columns(given: Tensor, wanted: Tensor) -> Tensor | None:
    """Find which columns of ``wanted`` (..., F) are in ``given`` (..., F'), in order; None if others are in it.

    Sums over narrower tensors are rounded otherwise, so the values may differ by :data:`ROUNDING`.
    """
    if given.shape[:-1] != wanted.shape[:-1] or given.shape[-1] >= wanted.shape[-1] or given.dtype != wanted.dtype:
        return None
    given, wanted = given.reshape(-1, given.shape[-1]), wanted.reshape(-1, wanted.shape[-1])
    rows = torch.linspace(0, len(given) - 1, min(len(given), COMPARED)).long()
    limit = ROUNDING * float(wanted.abs().max())
    near = torch.cdist(given[rows].t().contiguous(), wanted[rows].t().contiguous(), p=torch.inf) <= limit
    found: list[int] = []
    for mine in near:
        mine[found] = False
        places = mine.nonzero()[:, 0]
        if not len(places):
            return None
        found.append(int(places[0]))
    columns = torch.tensor(found)
    return columns if bool(((given - wanted[:, columns]).abs() <= limit).all()) else None
