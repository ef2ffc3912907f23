"""A recurrent layer whose cell is a user's own class, registered with :func:`unbraid.register_cell`.

Shapes: N examples, T timesteps, D inputs, H hidden units, H' kept units, K modules in one batch, Z inputs and R outputs
of a linear map.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unbraid.errors import ConfigError, UnbraidError, UnsupportedLayer, quoted
from unbraid.networks.cells import State
from unbraid.networks.inputs import leaves
from unbraid.networks.own_cells import WHOLE, CellForm
from unbraid.networks.removal import ReleaseEdges, Removal
from unbraid.networks.step_layer import StepLayer, zero_state


class Reading(NamedTuple):
    """A linear map of a cell at all timesteps.

    Attributes:
        inputs: what it reads, (N, T, Z).
        outputs: its outputs, (N, T, R).
    """

    inputs: Tensor
    outputs: Tensor


class OwnLayer(StepLayer):
    """A user's own cell, with the calls of a :class:`~unbraid.networks.recurrent.RecurrentLayer`.

    Args:
        own: the cell.
        form: how it is used.

    Raises:
        UnsupportedLayer: sizes of weights that do not fit the form.
    """

    def __init__(self, own: nn.Module, form: CellForm) -> None:
        super().__init__()
        self.form = form
        self._inputs, self._units = form.sizes(own)
        self.cell = form.described(own)
        self.own = own
        self.turned: set[str] = set()  # weights (Z, R) of products ``h @ weight``, found by :meth:`readings`

    @property
    def units(self) -> int:
        """H."""
        return self._units

    @property
    def inputs(self) -> int:
        """D."""
        return self._inputs

    @property
    def kernel(self) -> Tensor:
        """All weights of each unit, one row for each unit."""
        return self.incoming

    @property
    def incoming(self) -> Tensor:
        """All weights of each unit, (H, weights of a unit)."""
        rows = []
        for key, axis in self._written():
            by_unit = self.own.get_parameter(key).detach().movedim(axis, 0)
            rows.append(by_unit.reshape(-1, self.units, by_unit[0].numel()).transpose(0, 1).flatten(1))
        return torch.cat(rows, 1)

    @property
    def strength(self) -> Tensor:
        """Sum of |weight| of the edges from each hidden unit (column) to each hidden unit (row), (H, H)."""
        total = torch.zeros(self.units, self.units, device=next(self.parameters()).device)
        every = torch.arange(self.units, device=total.device)
        for key in self.maps():
            weight, axes = self.own.get_parameter(key).detach(), self.form.prune[key]
            if not all(map(self.form.has_units, axes)):
                continue
            rows, columns = (self._unit_places(axis, every) for axis in axes)
            found = weight.abs()[rows.flatten()][:, columns.flatten()].float()
            total += found.unflatten(1, (-1, self.units)).sum(1).unflatten(0, (-1, self.units)).sum(0)
        return total

    def weight_count(self, nodes: float) -> float:
        """Count the weights of a cell with ``nodes`` units and all D features."""
        total = 0.0
        for key, tensor in self.own.named_parameters():
            size = 1.0
            for whole, axis in zip(tensor.shape, self.form.prune.get(key, (WHOLE,) * tensor.dim()), strict=True):
                removed = sum(times for term, times in self.form.terms.get(axis, []) if term == "units")
                size *= whole - removed * (self.units - nodes)
            total += size
        return total

    def check_removal(self, removal: Removal) -> None:
        """Raise ConfigError for single edges, which only cells of torch have."""
        if isinstance(removal, ReleaseEdges):
            raise ConfigError(
                "edges='release' removes single weights of a cell, and the network has a cell that is your own class: "
                "leave edges='all'."
            )

    def gates(self, x: Tensor, outputs: Tensor, initial: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the outputs: an own cell has no gates that can be removed alone."""
        return (outputs,)

    def forward(self, x: Tensor, valid: Tensor | None = None, initial: State | None = None) -> tuple[Tensor, State]:
        """Compute all outputs (N, T, H) and the last states, as a RecurrentLayer does."""
        self.check(x, valid, initial)
        first = zero_state(self.cell, x.shape[0], self.units, x) if initial is None else initial
        if self.units == 0:
            return x.new_zeros(*x.shape[:2], 0), first
        outputs, state = self.scan(x.unsqueeze(0), tuple(s.unsqueeze(0) for s in first), valid)
        return outputs.squeeze(0), tuple(s.squeeze(0) for s in state)

    def scan(
        self, x: Tensor, state: State, valid: Tensor | None = None, removal: Removal | None = None
    ) -> tuple[Tensor, State]:
        """Compute the recurrence for K modules in one batch; see :func:`unbraid.networks.recurrent.scan`."""
        count, steps = state[0].shape[0], x.shape[2]
        if removal is not None:
            removal.check_steps(steps)
        outputs = []
        for t in range(steps):
            held = state
            state = state if removal is None else removal.enters(state, t)
            rows = x[:, :, t].expand(count, *x.shape[1:2], x.shape[3])
            found = self.step(rows.flatten(0, 1), tuple(s.flatten(0, 1) for s in state))
            state = tuple(s.unflatten(0, (count, -1)) for s in found)
            state = state if removal is None else removal.leaves(state, t)
            if valid is not None:
                here = valid[:, t].view(1, -1, 1)
                state = tuple(torch.where(here, new, old) for new, old in zip(state, held, strict=True))
            outputs.append(state[0])
        return torch.stack(outputs, dim=2), state

    def step(self, x: Tensor, states: State) -> State:
        """Compute the next states (N, H) from x (N, D) and the states; raise UnsupportedLayer for other results."""
        name = self.cell.name
        if self.form.step is not None:
            found = self.form.step(self.own, x, states)
        else:
            found = self.own(x, states if len(states) > 1 else states[0])
        given = [leaf for leaf in leaves(found) if isinstance(leaf, Tensor)][-len(states) :]
        shapes = [tuple(state.shape) for state in given]
        if shapes != [tuple(state.shape) for state in states]:
            raise UnsupportedLayer(
                f"one step of {name} gives {quoted(shapes)}, expected {len(states)} states of shape "
                f"{tuple(states[0].shape)}: pass step= to register_cell, a function of (cell, x, states)."
            )
        return tuple(given)

    def sliced(self, kept: Tensor, read: Tensor | None = None) -> OwnLayer:
        """Make a layer with the units ``kept`` (H',), in this order; its cell is of the same class.

        It has the inputs ``read`` (D',), or all.
        """
        cell = copy.deepcopy(self.own)
        for key, axes in self.form.prune.items():
            value = self.own.get_parameter(key).detach()
            for place, axis in enumerate(axes):
                if axis != WHOLE:
                    value = value.index_select(place, self.form.kept(axis, kept, self.inputs, self.units, read))
            set_weight(cell, key, value)
        self._resize(cell, len(kept))
        for part in cell.modules():
            _refresh_sizes(part)
        return OwnLayer(cell, self.form)

    def readings(self, x: Tensor, initial: State | None = None) -> dict[str, Reading]:
        """Record the linear maps of the cell from inputs or hidden units: nn.Linear, F.linear, or ``h @ weight``.

        Args:
            x: inputs (N, T, D).
            initial: first states, each (N, H); zeros by default.

        Returns:
            name of the weight -> its inputs and outputs. Maps that do not run once in each timestep are left out.
        """
        names = {id(self.own.get_parameter(key)): key for key in self.maps()}
        if not names or self.units == 0:
            return {}
        with _Products(names) as seen:
            self.forward(x, None, initial)  # not self(...): hooks call this function
        self.turned |= seen.turned
        found = {}
        for key, calls in seen.calls.items():
            if len(calls) == x.shape[1] and all(u.shape[:-1].numel() == len(x) for u, _ in calls):
                found[key] = Reading(
                    *(torch.stack([v.reshape(len(x), -1) for v in side], 1) for side in zip(*calls, strict=True))
                )
        return found

    def bias_of(self, key: str) -> nn.Parameter | None:
        """Return the bias of a linear map whose weight is that of an nn.Linear; None for any other."""
        path, _, name = key.rpartition(".")
        part = self.own.get_submodule(path)
        return part.bias if isinstance(part, nn.Linear) and name == "weight" else None

    def maps(self) -> list[str]:
        """List the weights with units on one axis, and units or inputs on the other."""
        return [
            key
            for key, axes in self.form.prune.items()
            if len(axes) == 2 and WHOLE not in axes and any(map(self.form.has_units, axes))
        ]

    def _written(self) -> list[tuple[str, int]]:
        """List the weights with one axis of nothing but units: (name, axis); the first such axis of each."""
        found = []
        for key, axes in self.form.prune.items():
            only = [
                n for n, axis in enumerate(axes) if {term for term, _ in self.form.terms.get(axis, [])} == {"units"}
            ]
            found += [(key, only[0])] if only else []
        return found

    def _unit_places(self, axis: str, units: Tensor) -> Tensor:
        """Return the indices of the units in each part of an axis, (parts, H)."""
        parts, offset = [], 0
        for term, times in self.form.terms[axis]:
            size = self.units if term == "units" else self.inputs
            parts += [units + offset + n * size for n in range(times) if term == "units"]
            offset += times * size
        return torch.stack(parts)

    def _resize(self, cell: nn.Module, units: int) -> None:
        if getattr(cell, self.form.units) == units:
            return  # a property of the weights
        try:
            setattr(cell, self.form.units, units)
        except AttributeError as error:
            raise UnsupportedLayer(
                f"{self.cell.name}.{self.form.units} cannot be set: make it an attribute that forward reads."
            ) from error


_TURNED = ("matmul", "__matmul__", "mm")  # functions that read a weight as (Z, R)


class _Products(TorchFunctionMode):
    """Record the products with some weights."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self._names = names
        self.calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.turned: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("linear", *_TURNED) and len(args) > 1 and id(args[1]) in self._names:
            key = self._names[id(args[1])]
            self.calls.setdefault(key, []).append((args[0], result))
            self.turned |= {key} if name in _TURNED else set()
        return result


def set_weight(module: nn.Module, key: str, value: Tensor) -> None:
    """Replace a parameter by its name, which may have dots."""
    path, _, name = key.rpartition(".")
    setattr(module.get_submodule(path), name, nn.Parameter(value.detach().clone(), requires_grad=False))


def check_form(layer: OwnLayer) -> None:
    """Check that a form is right: units in another order compute the same, and fewer units run.

    Args:
        layer: the layer of a user's module.

    Raises:
        UnsupportedLayer: the form does not fit the cell; the message names what to change.
    """
    like = next(layer.own.parameters())
    draw = torch.Generator().manual_seed(0)
    n, units = 3, layer.units

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(like)

    x, states = drawn(n, layer.inputs), tuple(drawn(n, units) for _ in range(layer.form.states))
    order = torch.randperm(units, generator=draw).to(like.device)
    half = torch.arange((units + 1) // 2, device=like.device)
    with torch.no_grad():
        wanted = tuple(state[:, order] for state in _run(layer, x, states))
        found = _run(layer.sliced(order), x, tuple(state[:, order] for state in states))
        _run(layer.sliced(half), x, tuple(state[:, half] for state in states))
    if not all(torch.allclose(new, old, rtol=1e-3, atol=1e-4) for new, old in zip(found, wanted, strict=True)):
        raise UnsupportedLayer(
            f"units of {layer.cell.name} in another order give other states: prune= of register_cell leaves out a "
            "weight, or names an axis wrongly."
        )


def _run(layer: OwnLayer, x: Tensor, states: State) -> State:
    try:
        return layer.step(x, states)
    except UnbraidError:
        raise
    except Exception as error:  # a user's forward may raise any error
        first = quoted((str(error).strip() or type(error).__name__).splitlines()[0])
        raise UnsupportedLayer(
            f"one step of {layer.cell.name} with {layer.units} units fails ({first}): correct step=, states=, prune= "
            "or units= of register_cell."
        ) from error


def _refresh_sizes(part: nn.Module) -> None:
    """Set the sizes that layers of torch keep beside their weights."""
    if isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, nn.LayerNorm) and part.elementwise_affine:
        part.normalized_shape = tuple(part.weight.shape)
    elif isinstance(part, nn.RNNCellBase):
        part.input_size, part.hidden_size = part.weight_ih.shape[1], part.weight_hh.shape[1]
