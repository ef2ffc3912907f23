"""Find the hidden linear layers of a user's module whose units can be removed, by running the module on its example.

Shapes: N examples, T positions, D inputs, H units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unbraid.networks.inputs import Inputs
from unbraid.networks.layers import decomposable_layers, pruned, sliced
from unbraid.networks.pytorch.arranging import tensors_of
from unbraid.networks.pytorch.body import TorchBody, with_sites
from unbraid.networks.pytorch.calling import Caller
from unbraid.networks.pytorch.checking import recurrent_sites
from unbraid.networks.pytorch.linear_site import Rows
from unbraid.networks.pytorch.replacing import prepared
from unbraid.networks.pytorch.running import Swapping
from unbraid.networks.pytorch.tracing import Followed
from unbraid.networks.removal import NodesGone
from unbraid.networks.torch_spec import TorchDenseSpec, TorchSpec


def with_dense(module: nn.Module, spec: TorchSpec, test: Swapping, features: Tensor) -> TorchSpec:
    """Add the hidden linear layers to the description of a module.

    They are checked on the example: a body without half of their units computes the same as one with zeros there. If
    it does not, the layers are not chained; if it still does not, they stay whole.

    Args:
        module: the module.
        spec: its description without hidden linear layers.
        test: runs of the module on the example, in two orders.
        features: inputs of the output layer on the example, (N, F) or (N, T, F).
    """
    inputs = test.inputs
    found = _used(module, spec, inputs, features, _dense(module, spec, test))
    for dense in (found, [one.model_copy(update={"chained": None}) for one in found]):
        tried = spec.model_copy(update={"dense": dense})
        if dense and _removes(module, tried, inputs, features):
            return tried
    return spec


def _dense(module: nn.Module, spec: TorchSpec, test: Swapping) -> list[TorchDenseSpec]:
    recurrent = recurrent_sites(module, required=False)
    own = [f"{site}." for site in recurrent]
    linears = {
        path: part
        for path, part in module.named_modules()
        if isinstance(part, nn.Linear) and not any(path.startswith(site) for site in own)
    }
    hidden = [path for path in linears if path != spec.head and _plain(module, path)]
    if not hidden:
        return []
    followed = Followed(linears, recurrent)
    caller = Caller(module, spec.run)
    parts = list(caller.parts(test.inputs))
    followed.run(lambda: [tensor for part, _ in parts for tensor in tensors_of(caller.call(part)[0])])
    rows = _rows(test, hidden)
    left_out = followed.misused | followed.moved
    if not recurrent:  # a layer that runs several times may be a cell that is not registered
        left_out |= {path for path, calls in followed.sources.items() if len(calls) > 1}
    usable = [path for path in followed.first_calls if path in rows and path not in left_out]
    found = []
    for path in usable:
        layer, reader = linears[path], followed.chained_to(path)
        head = reader == spec.head and isinstance(linears[spec.head], nn.Linear) and _plain(module, spec.head)
        found.append(
            TorchDenseSpec(
                name=path,
                inputs=layer.in_features,
                units=layer.out_features,
                rows=rows[path],
                chained=reader if reader in usable or head else None,
                rectified=path in followed.rectified,
                after=followed.first_calls[path],
            )
        )
    return found


def _used(
    module: nn.Module, spec: TorchSpec, inputs: Inputs, whole: Tensor, found: list[TorchDenseSpec]
) -> list[TorchDenseSpec]:
    """Leave out layers that the output layer does not depend on, such as other output layers."""
    if not found:
        return []
    try:
        tried = spec.model_copy(update={"dense": found})
        body = _body(module, tried)
        layers = decomposable_layers(body)
        everything = {name: torch.ones(1, 1, layer.units) for name, layer in layers.items()}
        with torch.no_grad():
            without = {
                one.name: _masked(body, everything | {one.name: torch.zeros(1, 1, one.units)}, inputs) for one in found
            }
    except Exception:  # a user's forward may raise any error for zeros
        return []
    return [one for one in found if without[one.name].shape != whole.shape or not _close(without[one.name], whole)]


def _body(module: nn.Module, spec: TorchSpec) -> TorchBody:
    return TorchBody(with_sites(prepared(module, spec.head, spec.run.folds), spec), spec, whole=False)


def _masked(body: TorchBody, masks: Mapping[str, Tensor], inputs: Inputs) -> Tensor:
    """Compute the features with masks (1, 1, H) of the units of each layer."""
    layers = decomposable_layers(body)
    removals = {name: mask if layers[name].cell is None else NodesGone(mask) for name, mask in masks.items()}
    found: Tensor = pruned(body, removals, 1)(inputs.tree)
    return found


def _plain(module: nn.Module, path: str) -> bool:
    """Return whether an nn.Linear can be replaced: no own forward, no hooks, no shared or computed weights."""
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    if type(layer).forward is not nn.Linear.forward or hooks or layer._parameters.get("weight") is None:
        return False
    own = {id(p) for p in layer.parameters(recurse=False)}
    uses = [id(p) for _, p in module.named_parameters(remove_duplicate=False) if id(p) in own]
    return len(uses) == len(own) and layer.out_features > 1


def _rows(test: Swapping, paths: Sequence[str]) -> dict[str, Rows]:
    """Find the arrangement of the examples in the inputs of layers, from runs in two orders."""
    before, after = test.before, test.after
    if len(before) != 1 or len(after) != 1 or before[0].order is not None:
        return {}  # one example in each call, or examples that the module sorts: there is nothing to compare
    found: dict[str, Rows] = {}
    for path in paths:
        calls, moved = before[0].heads.get(path, []), after[0].heads.get(path, [])
        kinds = {_kind(x, y, test.turned) for (x, _), (y, _) in zip(calls, moved, strict=False)}
        kind = next(iter(kinds), None)
        if len(kinds) == 1 and len(calls) == len(moved) and kind is not None:
            found[path] = kind
    return found


def _kind(x: Tensor, moved: Tensor, turned: Tensor) -> Rows | None:
    n = len(turned)
    if x.shape != moved.shape or x.dim() < 2 or not x.is_floating_point():
        return None
    if x.shape[0] == n and _close(x[turned], moved):
        return "first"
    if x.dim() > 2 and x.shape[1] == n and _close(x[:, turned], moved):
        return "second"
    if x.shape[0] % n:
        return None
    if _close(x.unflatten(0, (n, -1))[turned], moved.unflatten(0, (n, -1))):
        return "outer"
    return "inner" if _close(x.unflatten(0, (-1, n))[:, turned], moved.unflatten(0, (-1, n))) else None


def _removes(module: nn.Module, spec: TorchSpec, inputs: Inputs, plain: Tensor) -> bool:
    """Return whether a body computes the same without half of the units of each linear layer as with zeros there."""
    try:
        body = _body(module, spec)
        layers = decomposable_layers(body)
        kept = {name: torch.arange(0, layer.units, 2 if layer.cell is None else 1) for name, layer in layers.items()}
        masks = {name: torch.zeros(1, 1, layers[name].units).index_fill(2, own, 1) for name, own in kept.items()}
        with torch.no_grad():
            small, features = sliced(body, kept)
            found, wanted = small(inputs.tree), _masked(body, masks, inputs)
            same = _close(body(inputs.tree), plain)
    except Exception:  # a user's forward may raise any error for a smaller layer
        return False
    return same and _close(found, wanted if features is None else wanted[..., features])


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-5)
