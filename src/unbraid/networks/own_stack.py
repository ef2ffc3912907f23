"""Replace a user's own recurrent cell or layer in a PyTorch module by one whose units can be removed.

Shapes: N examples, T timesteps, D inputs, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import DataError, UnsupportedLayer
from unbraid.networks.cells import State
from unbraid.networks.inputs import leaves, map_tree
from unbraid.networks.own_cells import CellForm
from unbraid.networks.own_layer import OwnLayer, check_form
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.step_layer import zero_state


@dataclass(frozen=True, slots=True)  # without a dict, so that it is a leaf of a tree
class _Role:
    """What a tensor of the result is: the outputs (``place`` -1), or a state. ``view`` is the form of its shape."""

    place: int
    view: str


class OwnStack(RecurrentStack):
    """A registered cell or layer of a user, with the call of its class.

    The form of its result is found at the first call: the cell runs for at most two timesteps, and the tensors of its
    result are compared with outputs and states.

    Args:
        original: the cell or layer; it is used, not copied.
        form: how it is used.
        fold: as for a RecurrentStack.

    Raises:
        UnsupportedLayer: a form that does not fit.
    """

    cell: Any  # an OwnCell

    def __init__(self, original: nn.Module, form: CellForm, fold: str | None = None) -> None:
        nn.Module.__init__(self)
        layer = OwnLayer(original, form)
        if not any(p.is_meta for p in original.parameters()):
            check_form(layer)
        self.cell, self.fold, self.proj_size = layer.cell, fold, 0
        self.input_size, self.hidden_size, self.bias = layer.inputs, layer.units, True
        self.num_layers, self.bidirectional, self.batch_first, self.dropout = 1, False, form.batch_first, 0.0
        self.layers = nn.ModuleList([layer])
        self.kept = [None]
        self._results: dict[tuple, Any] = {}
        self.units_name = form.units

    def __getattr__(self, name: str) -> Any:
        """Return attributes of the user's cell, which the forward of a module may read; the units are all H."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            held = self.__dict__
            if name == held.get("units_name"):
                return held["hidden_size"]
            layers = held.get("_modules", {}).get("layers", ())
            layer = getattr(next(iter(layers), None), "layer", next(iter(layers), None))
            if not isinstance(layer, OwnLayer):
                raise
            return getattr(layer.own, name)

    def roles(self) -> list[list[_Role]]:
        """Return what the tensors of a result are, for each form of call that was made."""
        return [[leaf for leaf in leaves(result) if isinstance(leaf, _Role)] for result in self._results.values()]

    @property
    def own_layer(self) -> OwnLayer:
        """The layer with the user's cell."""
        layer = self.layers[0]
        own = layer.layer if isinstance(layer, PrunedRecurrentLayer) else layer
        assert isinstance(own, OwnLayer)
        return own

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the user's class does."""
        given, rest = _arguments(args, kwargs)
        x, states = self._sequence(given), self._states(rest, given)
        outputs, last = self._run(x, None, tuple(s.unsqueeze(0) for s in states))
        last = tuple(s.squeeze(0) for s in last)
        result = self._result(args, kwargs, x, states)

        def build(leaf: Any) -> Any:
            if not isinstance(leaf, _Role):
                return leaf
            return _VIEWS[leaf.view](outputs if leaf.place < 0 else last[leaf.place])

        return map_tree(build, result)

    def _sequence(self, x: Any) -> Tensor:
        """Convert the first argument to (N, T, D)."""
        if not isinstance(x, Tensor) or x.dim() not in (1, 2, 3):
            raise DataError(
                f"{self.cell.name} got {tuple(getattr(x, 'shape', ()))}, expected (N, D) or a sequence (N, T, D)."
            )
        if x.dim() == 3:
            return x if self.batch_first else x.transpose(0, 1)
        return x.view(1, 1, -1) if x.dim() == 1 else x.unsqueeze(1)

    def _states(self, rest: list[Tensor], given: Tensor) -> State:
        rows, count = self._sequence(given).shape[0], self.cell.states
        if not rest:
            return ()
        if len(rest) != count or any(s.numel() != rows * self.hidden_size for s in rest):
            shapes = [tuple(s.shape) for s in rest]
            raise DataError(
                f"{self.cell.name} got tensors of shapes {shapes} beside its inputs, expected none or "
                f"{count} states of shape {(rows, self.hidden_size)}."
            )
        return tuple(s.reshape(rows, self.hidden_size) for s in rest)

    def _result(self, args: tuple, kwargs: dict[str, Any], x: Tensor, states: State) -> Any:
        """Return the result of the user's forward with a role in place of each tensor."""
        given, rest = _arguments(args, kwargs)
        steps, several = x.shape[1], (bool(x.shape[0] > 1), bool(x.shape[1] > 1))  # a traced size gives no bool
        key = (given.dim(), *several, len(rest), tuple(kwargs))
        if key in self._results:
            return self._results[key]
        layer, kept = self.own_layer, self.kept[0]
        few = x[:, :2] if given.dim() == 3 else x
        first = tuple(s if kept is None else s[:, kept] for s in states)
        shorter = given if given.dim() < 3 or steps <= 2 else (given[:, :2] if self.batch_first else given[:2])
        cut = {id(old): new.reshape(*old.shape[:-1], new.shape[-1]) for old, new in zip(rest, first, strict=True)} | {
            id(given): shorter
        }
        with torch.no_grad():
            changed = map_tree(lambda leaf: cut.get(id(leaf), leaf), (args, kwargs))
            result = layer.own(*changed[0], **changed[1])
            initial = first or zero_state(layer.cell, few.shape[0], layer.units, few)
            outputs, last = layer.scan(few.unsqueeze(0), tuple(s.unsqueeze(0) for s in initial))
        self._results[key] = map_tree(
            lambda leaf: (
                self._role(leaf, outputs[0], [s[0] for s in last], given.dim()) if isinstance(leaf, Tensor) else leaf
            ),
            result,
        )
        return self._results[key]

    def _role(self, leaf: Tensor, outputs: Tensor, last: list[Tensor], axes: int) -> _Role:
        for place, values in enumerate([outputs, *last] if axes == 3 else last, -1 if axes == 3 else 0):
            for view, change in _VIEWS.items():
                if (view in _SEQUENCES) != (place < 0):
                    continue
                made = change(values)
                if made.shape == leaf.shape and torch.allclose(made, leaf, rtol=1e-3, atol=1e-5):
                    return _Role(place, view)
        raise UnsupportedLayer(
            f"the result of {self.cell.name} has a tensor {tuple(leaf.shape)} that is neither its outputs nor one of "
            "its states, computed step by step from zeros: correct step= or states= of register_cell, or return only "
            "outputs and states."
        )


_SEQUENCES = ("NTH", "TNH")
_VIEWS: dict[str, Any] = {
    "NTH": lambda x: x,
    "TNH": lambda x: x.transpose(0, 1),
    "NH": lambda s: s,
    "1NH": lambda s: s.unsqueeze(0),
    "N1H": lambda s: s.unsqueeze(1),
    "H": lambda s: s.squeeze(0),
}


def _arguments(args: tuple, kwargs: dict[str, Any]) -> tuple[Any, list[Tensor]]:
    """Return the first argument, and all tensors of the others."""
    first, *others = [*args, *kwargs.values()] or [None]
    return first, [leaf for leaf in leaves(others) if isinstance(leaf, Tensor)]
