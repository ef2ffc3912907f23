"""A hidden nn.Linear of a user's module whose units can be removed.

The layer reads its inputs in the arrangement of the user. Its hooks see inputs and outputs as (N, T, D) and (N, T, H),
with all positions of an example on the axis T. Shapes: N examples, T positions, D inputs, H units, K modules.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle

from unbraid.errors import DataError
from unbraid.networks.passes import current
from unbraid.networks.removal import NodesGone
from unbraid.networks.stages import Dense

Rows = Literal["first", "second", "outer", "inner"]


def by_examples(x: Tensor, rows: Rows, examples: int) -> Tensor:
    """Arrange values (..., D) of a layer as (N, T, D).

    Args:
        x: the values.
        rows: ``first`` (N, ..., D), ``second`` (T, N, ..., D), ``outer`` (N*S, ..., D) with the rows of an example
            together, ``inner`` (S*N, ..., D) with N rows between them.
        examples: N.
    """
    if rows == "second":
        x = x.transpose(0, 1)
    elif rows == "inner":
        x = x.unflatten(0, (-1, examples)).transpose(0, 1)
    return x.reshape(examples, -1, x.shape[-1])


def as_before(values: Tensor, rows: Rows, shape: torch.Size) -> Tensor:
    """Invert :func:`by_examples` for values (N, T, H); ``shape`` is that of its argument."""
    n, width = values.shape[0], values.shape[-1]
    if rows == "second":
        return values.reshape(n, shape[0], *shape[2:-1], width).transpose(0, 1)
    if rows == "inner":
        values = values.reshape(n, shape[0] // n, *shape[1:-1], width).transpose(0, 1)
    return values.reshape(*shape[:-1], width)


class LinearSite(Dense):
    """Replacement of an nn.Linear, with its weights under the same names.

    Args:
        weight: (H', D'); units and inputs may have been removed.
        bias: (H',).
        rows: arrangement of the inputs, see :func:`by_examples`.
        rectified: whether a ReLU follows.
        kept: positions (H',) of the units among the ``units`` outputs of the layer, with zeros between them; None
            where the layer that reads the outputs is smaller as well, or all units are there.
        units: number of outputs if ``kept`` is given.
    """

    kept: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        rows: Rows,
        rectified: bool,
        kept: Tensor | None = None,
        units: int | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.activation, self.rows, self._rectified = "linear", rows, rectified
        self.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
        bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
        self.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias, requires_grad=False)
        self.register_buffer("kept", kept, persistent=False)
        self.in_features, self.out_features = weight.shape[1], units or weight.shape[0]
        self._seen_by: OrderedDict[int, Callable[..., Any]] = OrderedDict()

    @property
    def rectified(self) -> bool:
        """Whether a ReLU follows."""
        return self._rectified

    def register_forward_hook(self, hook: Callable[..., Any], **settings: Any) -> RemovableHandle:
        """Call a hook with arranged inputs and outputs, as a :class:`Dense` of a chain of stages calls it."""
        handle = RemovableHandle(self._seen_by)
        self._seen_by[handle.id] = hook
        return handle

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no mask
        if self._seen_by:
            arranged = self.arranged(x)
            values = self._watched(arranged, linear(arranged, self.weight, self.bias))
            values = as_before(values, self.rows, x.shape)
        else:
            values = linear(x, self.weight, self.bias)
        return values if self.kept is None else self._spread(values)

    def arranged(self, x: Tensor) -> Tensor:
        """Arrange inputs as (N, T, D); raise DataError if they do not have the rows of the examples of this pass."""
        here = current()
        examples = x.shape[0] if here is None else here.rows
        axis = 1 if self.rows == "second" else 0
        if x.dim() < axis + 2 or x.shape[axis] % examples or (self.rows == "first" and x.shape[0] != examples):
            raise DataError(f"a layer reads values of shape {tuple(x.shape)} for {examples} examples, see its example.")
        return by_examples(x, self.rows, examples)

    def _watched(self, arranged: Tensor, values: Tensor) -> Tensor:
        for hook in list(self._seen_by.values()):
            changed = hook(self, (arranged,), (values, None))
            values = values if changed is None else changed[0]
        return values

    def _spread(self, values: Tensor) -> Tensor:
        """Put zeros at the positions of removed units: (..., H') to (..., H)."""
        assert self.kept is not None
        places = torch.full((self.out_features,), values.shape[-1], device=values.device)
        places[self.kept] = torch.arange(values.shape[-1], device=values.device)
        return torch.cat([values, torch.zeros_like(self.bias[:1]).expand(*values.shape[:-1], 1)], -1)[..., places]


class PrunedLinear(nn.Module):
    """A LinearSite whose removed nodes are zero, for K modules in one batch; rows are ordered by example.

    Args:
        site: layer of the parent; its parameters are shared.
        kept: masks of the K modules, (K, T or 1, H).
    """

    def __init__(self, site: LinearSite, kept: Tensor) -> None:
        super().__init__()
        self.site, self.removal = site, NodesGone(kept)
        self.in_features, self.out_features = site.in_features, site.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer and set removed nodes to zero."""
        here = current()
        assert here is not None  # modules run in a pass
        arranged = self.site.arranged(x)
        removal = self.removal if here.turn is None else self.removal.only(here.turn)
        steps = arranged.shape[1]
        kept = removal.later(here.advance(self, steps), steps).kept  # (K, T or 1, H)
        values = linear(arranged, self.site.weight, self.site.bias).unflatten(0, (-1, kept.shape[0]))
        return as_before((values * kept).flatten(0, 1), self.site.rows, x.shape)
