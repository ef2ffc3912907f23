"""Find the recurrent and linear layers whose outputs may become narrower, by trial.

A trial runs the user's forward with recorded results of all recurrent layers and nn.Linear layers. The layer on trial
returns only the columns of its kept units. The layer can be narrowed if forward still runs, if every layer reads the
recorded values with some columns missing, and if the results are the recorded results. This holds for selected
timesteps, pooling over time, masks, concatenation, activations and attention weights from an nn.Linear. It fails for
layer norm, reshapes to a fixed size and products with fixed vectors.
Shapes: N examples, T timesteps, H units, S states (1 for linear layers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unbraid.decomposition.shrinking.running import Call, Record, cloned, fresh, record, same_random_numbers
from unbraid.errors import DataError
from unbraid.networks.inputs import leaves, map_tree
from unbraid.networks.own_cells import form_of
from unbraid.networks.pytorch.arranging import tensors_of
from unbraid.networks.pytorch.calling import call, said

SIZE_NAME = re.compile(r"hid|unit|rnn|lstm|gru|state|h_dim|h_size|^h$", re.IGNORECASE)  # attributes that may hold H

ROUNDING = 1e-5  # largest difference of equal values, as a share of the largest value
COMPARED = 256  # rows that find the columns; all rows confirm them
TOGETHER = (4, 3, 2)  # numbers of successive layers of one size that are tried together, such as the gates of a cell
LARGEST, SMALLEST = 0.95, 0.55  # random outputs that no usual activation maps to equal values

Kept = Mapping[str, list[Tensor]]  # path of a layer -> kept units of each level and direction, S x (H',)
Attributes = dict[tuple[str, str], int]  # (path of a part, name of an attribute) -> new value


class Wide(Exception):
    """A trial failed. The message names the reason."""


@dataclass(frozen=True)
class Plan:
    """Which layers become narrower.

    Attributes:
        kept: the kept units of all layers that get smaller.
        narrow: paths of the layers whose outputs are narrower.
        columns: path of a layer -> columns of its inputs that remain; layers without a change are missing.
        attributes: attributes of the module that must change with them.
        reasons: path of every other recurrent layer -> why it cannot be narrower.
        whole: path of every linear layer that keeps all of its units -> why.
    """

    kept: Kept
    narrow: frozenset[str] = frozenset()
    columns: dict[str, Tensor] = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)


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


def plan_linears(module: nn.Module, batch: Any, paths: Sequence[str], plan: Plan, kept: Kept, tied: Kept) -> Plan:
    """Add linear layers to a plan.

    Their recorded outputs are random numbers, so that no two columns are equal behind a ReLU.

    Args:
        module: as for :func:`plan_narrowing`.
        batch: inputs.
        paths: all layers that a trial records.
        plan: the plan of the recurrent layers.
        kept: the kept units of the linear layers that get smaller.
        tied: kept units of recurrent and linear layers; layers of one size keep the same units.
    """
    try:
        recorded = record(_randomized(module, list(kept)), batch, paths)
        _trial(module, batch, recorded, plan.kept, set(plan.narrow), plan.attributes)
    except (DataError, Wide) as error:
        return replace(plan, whole=dict.fromkeys(kept, str(error)))
    whole: dict[str, str] = {}
    for site in kept:
        try:
            plan = _extended(module, batch, recorded, plan, [site], kept, {})
        except Wide as wide:
            whole[site] = str(wide)
    free = [site for site in recorded.calls if site in whole or site in plan.reasons]
    for sites, changes, units in _further_trials(module, {**plan.kept, **kept}, tied, free, TOGETHER):
        if plan.narrow.intersection(sites) or whole.keys().isdisjoint(sites):
            continue
        try:
            plan = _extended(module, batch, recorded, plan, sites, units, changes)
        except Wide:
            continue
    return replace(
        plan,
        reasons={site: why for site, why in plan.reasons.items() if site not in plan.narrow},
        whole={site: why for site, why in whole.items() if site not in plan.narrow},
    )


def _extended(
    module: nn.Module, batch: Any, recorded: Record, plan: Plan, sites: Sequence[str], units: Kept, changes: Attributes
) -> Plan:
    """Add layers and changed attributes to a plan; raise Wide if that is not possible."""
    chosen, narrow = {**plan.kept, **{site: units[site] for site in sites}}, plan.narrow | set(sites)
    attributes = plan.attributes | changes
    columns = _trial(module, batch, recorded, chosen, set(narrow), attributes)
    return replace(plan, kept=chosen, narrow=narrow, columns=columns, attributes=attributes)


def _randomized(module: nn.Module, paths: Sequence[str]) -> nn.Module:
    """Copy a module whose linear layers of these paths return random numbers between 0 and 1."""
    copy, generator = fresh(module), torch.Generator().manual_seed(0)

    def hook(part: nn.Module, args: tuple, result: Tensor) -> Tensor:
        values = torch.rand(result.shape, generator=generator, dtype=result.dtype)
        return SMALLEST + (LARGEST - SMALLEST) * values

    for path in paths:
        copy.get_submodule(path).register_forward_hook(hook)
    return copy


def _further_trials(
    module: nn.Module, kept: Kept, tied: Kept, sites: Sequence[str], windows: Sequence[int] = ()
) -> Iterator[tuple[list[str], Attributes, Kept]]:
    """Layers to try together, the attributes that hold their number of units, and the units that they keep.

    Args:
        module: the user's.
        kept: kept units of the layers by themselves.
        tied: kept units where layers of one size keep the same.
        sites: paths of the layers, in the order of their first call.
        windows: numbers of successive layers of one size that are tried after all of them.
    """
    sizes: dict[tuple[int, int], list[str]] = {}
    for site in sites:
        sizes.setdefault((units_of(module.get_submodule(site)), len(kept[site][0])), []).append(site)
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
        for length in windows:
            for start in range(len(group) - length + 1 if length < len(group) else 0):
                yield group[start : start + length], {}, tied


def units_of(part: nn.Module) -> int:
    """Return the number of hidden units of a recurrent layer or of outputs of a linear layer."""
    found = getattr(part, units_name(part))
    assert isinstance(found, int)
    return found


def units_name(part: nn.Module) -> str:
    """Return the name of the attribute that holds the number of units of a layer."""
    form = form_of(part)
    if form is not None:
        return form.units
    return "out_features" if isinstance(part, nn.Linear) else "hidden_size"


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
    replays = []
    for path, calls in recorded.calls.items():
        part = trial.get_submodule(path)
        own = kept[path] if path in narrow else None
        if own is not None:
            with suppress(AttributeError):  # a property of the weights of an own cell
                setattr(part, units_name(part), len(own[0]))
        replays.append(_Replay(path, calls, own, module.get_submodule(path)))
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
    found = {replay.path: replay.columns() for replay in replays}
    return {path: columns for path, columns in found.items() if columns is not None}


class _Replay:
    """Replace the forward method of a layer: check its inputs and return its recorded results.

    Args:
        path: of the layer.
        calls: its recorded calls.
        kept: of a layer on trial, its kept units; None returns the recorded result.
        part: the layer.
    """

    def __init__(self, path: str, calls: list[Call], kept: Sequence[Tensor] | None, part: nn.Module) -> None:
        self.path, self.calls, self.kept = path, iter(calls), kept
        self._reads: list[tuple[Tensor, Tensor]] = []  # inputs with columns missing, and the recorded ones, (M, F)
        self._same = False  # whether other inputs have all columns
        self.units = units_of(part)
        # the results of cells and linear layers, and all tensors of own cells, have the units as their last axis
        self.cell = isinstance(part, nn.RNNCellBase | nn.Linear) or form_of(part) is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recorded = next(self.calls, None)
        if recorded is None:
            raise Wide(f"forward then calls {self.path!r} more often")
        given, wanted = _arguments(args, kwargs), _arguments(recorded.args, recorded.kwargs)
        self._read(_values(given[0]), _values(wanted[0]))
        if isinstance(given[0], PackedSequence) and not torch.equal(given[0].batch_sizes, wanted[0].batch_sizes):
            raise Wide(f"{self.path!r} then reads sequences of other lengths")
        states, before = ([s for s in leaves(part) if isinstance(s, Tensor)] for part in (given[1:], wanted[1:]))
        before = [self._narrow(state) for state in before]
        if len(states) != len(before) or not all(map(_equal, states, before)):
            raise Wide(f"{self.path!r} then gets other initial states")
        return self._result(recorded.result)

    def columns(self) -> Tensor | None:
        """Return which columns (F',) of its inputs the layer still reads; None for all. Raise Wide if unclear."""
        if not self._reads:
            return None
        if self._same or len({given.shape[1] for given, _ in self._reads}) > 1:
            raise Wide(f"{self.path!r} reads different columns in each of its calls")
        found = _columns(self._reads)
        if found is None:
            raise Wide(f"{self.path!r} then reads other values, not the same ones with some columns left out")
        return found

    def _read(self, given: Tensor, wanted: Tensor) -> None:
        if _equal(given, wanted):
            self._same = True
            return
        wider = given.shape[-1] >= wanted.shape[-1]
        if given.shape[:-1] != wanted.shape[:-1] or wider or given.dtype != wanted.dtype:
            raise Wide(f"{self.path!r} then reads other values, not the same ones with some columns left out")
        self._reads.append((given.reshape(-1, given.shape[-1]), wanted.reshape(-1, wanted.shape[-1])))

    def _result(self, result: Any) -> Any:
        result = cloned(result)  # forward may change it in place
        if self.kept is None:
            return result
        if self.cell:
            return map_tree(lambda leaf: self._narrow(leaf) if isinstance(leaf, Tensor) else leaf, result)
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


def _columns(reads: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Find which columns of (M, F) are in (M, F'), in order, the same ones in all calls; None if others are in it.

    Sums over narrower tensors are rounded otherwise, so the values may differ by :data:`ROUNDING`. A column that is
    equal to another one in one call, such as that of a first state of zeros, is told apart by the other calls.
    """
    near: Tensor | None = None
    for given, wanted in reads:
        rows = torch.linspace(0, len(given) - 1, min(len(given), COMPARED)).long()
        distance = torch.cdist(given[rows].t().contiguous(), wanted[rows].t().contiguous(), p=torch.inf)
        own = distance <= _limit(wanted)
        near = own if near is None else near & own
    assert near is not None
    found: list[int] = []
    for mine in near:
        mine[found] = False
        places = mine.nonzero()[:, 0]
        if not len(places):
            return None
        found.append(int(places[0]))
    columns = torch.tensor(found)
    same = all(bool(((given - wanted[:, columns]).abs() <= _limit(wanted)).all()) for given, wanted in reads)
    return columns if same else None


def _limit(wanted: Tensor) -> float:
    return ROUNDING * float(wanted.abs().max())
