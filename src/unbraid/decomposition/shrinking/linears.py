"""Make the linear layers of a user's module smaller, and fit them.

Shapes: M rows, F inputs, F' remaining inputs, C outputs, H' kept units, Z entries of z.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.decomposition.reconstruction.folding import fold, rest
from unbraid.decomposition.reconstruction.moments import with_one
from unbraid.decomposition.reconstruction.regression import JUDGING, Regression
from unbraid.decomposition.shrinking.narrowing import Plan
from unbraid.decomposition.shrinking.running import Call, runs
from unbraid.networks.stack import RecurrentStack


def refittable(module: nn.Module, cells: Collection[str]) -> list[str]:
    """Paths of the plain nn.Linear layers whose weights can be replaced, and are not shared with other parts.

    Args:
        module: the user's.
        cells: paths of own cells, whose layers belong to them.
    """
    owners = Counter(id(p) for part in module.modules() for p in part._parameters.values() if p is not None)
    inside = tuple(f"{path}." for path in cells)
    return [
        path
        for path, part in module.named_modules()
        if _plain(part) and owners[id(part.weight)] == 1 and not path.startswith(inside)
    ]


def _plain(part: nn.Module) -> bool:
    plain = isinstance(part, nn.Linear) and type(part).forward is nn.Linear.forward
    return plain and "weight" in part._parameters and not part._forward_pre_hooks


def linear_view(part: nn.Module, made: Call) -> tuple[Tensor, Tensor]:
    """Copy the inputs and outputs of a call of a linear layer, which a later part may change in place."""
    return (made.args[0] if made.args else made.kwargs["input"]).clone(), made.result.clone()


def linear_paths(stacks: Mapping[str, RecurrentStack], plan: Plan) -> list[str]:
    """Paths of the linear layers that a plan makes smaller: of their units, of their inputs, or of both."""
    return [path for path in dict.fromkeys([*plan.kept, *plan.columns]) if path not in stacks]


def fit_linear(
    small: nn.Module, path: str, batches: Sequence[Any], wanted: Tensor, parents: Tensor | None = None
) -> None:
    """Fit an nn.Linear of ``small`` in place, so that it gives ``wanted`` (M, C) on the inputs that it reads there.

    Args:
        small: the smaller module.
        path: of the layer.
        batches: inputs of the module.
        wanted: outputs of the layer in the parent, all of them or those of its kept units.
        parents: its inputs in the parent (M, F'), which are used as well. A layer that reads its own earlier outputs
            needs them, because the fit changes these.
    """
    with torch.no_grad():
        read = [v for seen, _ in runs(small, batches, [path], linear_view) for v in seen.get(path, [])]
    layer = small.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    start = torch.cat([layer.weight, _bias(layer).unsqueeze(1)], 1).detach()
    inputs = torch.cat([values.flatten(0, -2) for values, _ in read])
    finite = torch.isfinite(inputs).all(1)
    regression = Regression(start)
    for values in [inputs] if parents is None else [inputs, parents]:
        regression.add(with_one(values[finite]), wanted[finite], torch.arange(int(finite.sum())) % JUDGING == 0)
    _store(layer, regression.solved())


def fold_linear(layer: nn.Linear, columns: Tensor, inputs: Tensor) -> None:
    """Fold the removed inputs of a linear layer into the remaining ``columns``, in place, by ``inputs`` (M, F)."""
    width = layer.in_features
    joint = torch.cat([columns, torch.tensor([width])])
    whole = torch.cat([layer.weight, _bias(layer).unsqueeze(1)], 1).detach()
    _store(layer, fold(whole, moment(with_one(inputs)), joint, rest(width + 1, joint)))


def cut_linear(layer: nn.Linear, kept: Tensor) -> None:
    """Keep some of the units of a linear layer, in place."""
    layer.weight = nn.Parameter(layer.weight.detach()[kept], requires_grad=False)
    own: Tensor | None = layer.bias
    if own is not None:
        layer.bias = nn.Parameter(own.detach()[kept], requires_grad=False)
    layer.out_features = len(kept)


def _bias(layer: nn.Linear) -> Tensor:
    own: Tensor | None = layer.bias  # None with bias=False, although the stubs of torch exclude it
    return layer.weight.new_zeros(layer.out_features) if own is None else own


def _store(layer: nn.Linear, new: Tensor) -> None:
    """Set the weights of a linear layer from rows (C, F + 1); a layer without a bias gets one."""
    layer.weight = nn.Parameter(new[:, :-1].clone(), requires_grad=False)
    layer.bias = nn.Parameter(new[:, -1].clone(), requires_grad=False)
    layer.in_features = new.shape[1] - 1


def moment(z: Tensor) -> Tensor:
    """Mean of z z^T over M rows, (Z, Z) float64."""
    return (z.t() @ z).double() / max(len(z), 1)
