"""Check that a saved folder loads again with the same weights, before it replaces an older folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unbraid.errors import FormatError
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage.layout import only_words
from unbraid.storage.loading import compositions_of, load_modules
from unbraid.storage.own_modules import OwnModule


def check_precision(modules: Sequence[ConcernModule]) -> None:
    """Raise FormatError for weights of a precision that a folder cannot hold, after ``.half()`` or ``.double()``.

    A module has the precision of its parent. A parent has float32 weights, unless it is a user's PyTorch module.
    """
    for module in modules:
        parent = module.parent
        expected = parent.head.weight.dtype if isinstance(parent.spec, TorchSpec) else torch.float32
        types = {weight.dtype for weight in parent.parameters()} if isinstance(parent.spec, TorchSpec) else {expected}
        for part, what in ((module, f"module {module.label!r}"), (parent, f"the parent of module {module.label!r}")):
            for name, weight in part.named_parameters():
                own = part is parent and isinstance(parent.spec, TorchSpec)  # its layers may differ
                if weight.is_floating_point() and weight.dtype not in types and not own:
                    raise FormatError(
                        f"{what} has weights of {weight.dtype} ({name}), a folder holds {expected}: convert it with "
                        f".to({expected}) before saving."
                    )


def verify(place: Path, modules: Sequence[ConcernModule], parents: Sequence[Network]) -> None:
    """Load a folder and compare it with the saved modules; raise FormatError if they differ.

    Args:
        place: folder of the files.
        modules: the saved modules, in the order of the manifest.
        parents: their parents, in the order of the manifest.
    """
    bodies = {number: parent.body for number, parent in enumerate(parents)}
    own: dict[int, OwnModule] = {number: body.module for number, body in bodies.items() if isinstance(body, TorchBody)}
    try:
        manifest, _, loaded = load_modules(place, None, own)
        compositions_of(place, manifest, loaded)
        for saved, found in zip(modules, loaded, strict=True):
            _compare(saved, found)
    except FormatError as error:
        reason = str(error).removeprefix(f"{place}: ").replace(str(place), ".")
        raise FormatError(
            f"not saved, because the files would not load again: {reason} Were weights changed after decomposing? "
            "Decompose the changed network again."
        ) from None


def _compare(saved: ConcernModule, found: ConcernModule) -> None:
    """Raise FormatError unless all weights that a module runs with are equal, bit for bit."""
    expected, weights = _running(saved), _running(found)
    if set(expected) != set(weights):
        raise FormatError(f"module {saved.label!r}: weights {sorted(set(expected) ^ set(weights))} differ.")
    for name, weight in expected.items():
        if not torch.equal(weight.cpu(), weights[name]):
            raise FormatError(f"module {saved.label!r}: weight {name!r} differs from the weight in memory.")
    if saved.original is not None and found.original is not None:
        _compare(saved.original, found.original)


def _running(module: ConcernModule) -> dict[str, Tensor]:
    """Return the weights that a module runs with.

    A folder of one module holds no other weights: no columns of the output layer for removed features, and no rows of a
    target embedding for words that the module does not have.
    """
    weights = {name: weight for name, weight in module.state_dict().items() if not name.startswith("whole_head.")}
    return only_words(weights, module.head.words)
