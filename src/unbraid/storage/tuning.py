"""Convert modules that were trained after they were made to modules that a folder can hold.

A folder holds whole networks and, for each module, its masks and its own weights. Weights that a module inherits from
its parent unchanged (an embedding) are not stored with it. If they were trained, the module is stored with another
parent: the same network with these weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from unbraid.config import Mode
from unbraid.limits import expands
from unbraid.modules.module import ConcernModule
from unbraid.modules.origin import BodyWeights
from unbraid.networks.network import Network
from unbraid.networks.precision import check_values
from unbraid.networks.spec import weight_count
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage.layout import body_weights, only_words


def stored_modules(modules: Sequence[ConcernModule], alone: bool) -> list[ConcernModule]:
    """Return the modules, with those that were trained replaced by equal ones that a folder can hold.

    Args:
        modules: the modules to save.
        alone: whether each is saved with only the weights that it needs.

    Raises:
        DataError: weights on the meta device.
    """
    for module in modules:
        check_values(module, f"module {module.label!r}")
    made: dict[int, ConcernModule] = {}  # by body, so that modules still share a body
    parents: dict[str, Network] = {}
    return [_stored(module, alone, made, parents) for module in modules]


def can_be_sliced(module: ConcernModule) -> bool:
    """Return whether a module is stored as slices, which are expanded to the whole network on loading.

    A module with a user's forward method needs all other weights of that method. Very small slices of a very large
    network would not load, because the file would declare far more weights than it holds.
    """
    spec = module.parent.spec
    if module.concern.mode is not Mode.ROLLED or isinstance(spec, TorchSpec):
        return False
    slices = only_words(body_weights(module.body), module.head.words)
    return not expands(4 * weight_count(spec), sum(weight.nbytes for weight in slices.values()))


def _stored(
    module: ConcernModule, alone: bool, made: dict[int, ConcernModule], parents: dict[str, Network]
) -> ConcernModule:
    if module.is_remnant or (alone and can_be_sliced(module)):
        return module  # the weights of its body are stored
    changed = module.changed_inherited()
    sliced = module.weights is None and module.concern.mode is Mode.ROLLED and module.changed_own()
    if not changed and not sliced:
        return module
    parent = module.origin.changed(changed) if changed else module.origin.network()
    parent = parents.setdefault(parent.sha256(), parent)
    weights = BodyWeights(module.body, module.concern.kept) if sliced or module.weights is not None else None
    found = ConcernModule(
        parent, module.index, module.concern, module.whole_head, module.config, module.label,
        weights=weights, original=module.original, bridges=module.bridges, like=made.get(id(module.body)),
    )  # fmt: skip
    found.domain = module.domain
    made.setdefault(id(module.body), found)
    return found
